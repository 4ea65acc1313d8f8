//! Attacks by insiders and with leaked keys: the attacker has the real chain key or the real signing key, never stand-ins.

use alloc::{collections::BTreeSet, vec::Vec};

use super::testing::{A, B, C, DOMAIN, P, TOPIC, at, id, key};
use super::{
    keymsg::{Header, KeyMessage},
    prekey::Prekey,
    *,
};
use crate::base::{Mono, NodeId, Now, Reject, Rng};
use crate::crypto::{
    Class, Role,
    chain::{ChainKey, Owner},
    frame,
    seal::KemKey,
    sign::{self, SigningKey},
};

/// A process of member `n`: the same seed gives the same keys.
fn process(n: u8, seed: u8) -> Session {
    let mut session = Session::new(DOMAIN, key(n), P, Rng::from_seed([seed; 32]), at(0));
    for other in [A, B, C] {
        session.set_role(at(0), id(other), Some(P));
    }
    session
}

fn learn(who: &mut Session, other: &Session) {
    who.learn_prekey(at(0), other.prekey_record()).unwrap();
}

fn keys_for(from: &mut Session, to: u8, now: Now) -> Vec<u8> {
    let mut messages = from.take_key_messages(now);
    messages.retain(|(node, _)| *node == id(to));
    assert_eq!(messages.len(), 1);
    messages.remove(0).1
}

/// A gives its keys to B and to C, who looks into its own: A, B, and the header and chain keys C has.
fn with_insider() -> (Session, Session, Header, Vec<ChainKey>) {
    let (mut a, mut b) = (process(A, 1), process(B, 2));
    let kem = KemKey::generate(&mut Rng::from_seed([9; 32]));
    let (created, expires) = (at(0).wall, at(3_600).wall);
    let record = Prekey { member: id(C), id: [3; 8], spk: *kem.public(), role: P, seq: 1, created, expires };
    a.learn_prekey(at(0), &record.sign(&DOMAIN, &key(C))).unwrap();
    learn(&mut a, &b);
    let messages = a.take_key_messages(at(0));
    let to = |n: u8| &messages.iter().find(|(node, _)| *node == id(n)).unwrap().1;
    b.accept_key_message(at(0), id(A), to(B)).unwrap();
    let leaked = KeyMessage::verify(to(C)).unwrap();
    let keys = leaked.open(&kem).unwrap();
    (a, b, leaked.header, keys)
}

/// The private half of A's first epoch: the first thing a process draws.
fn leaked_signer(header: &Header) -> SigningKey {
    let signer = SigningKey::generate(&mut Rng::from_seed([1; 32]));
    assert_eq!(signer.public(), header.msg_vk);
    signer
}

/// A frame in A's name in the data class.
fn forge(header: &Header, key: &ChainKey, signer: &SigningKey, index: u32) -> Vec<u8> {
    let owner = Owner { domain: DOMAIN, sender: id(A), class: Class::Data };
    let place = frame::Place { kid: header.entries[1].kid, index, salt: [0; 8] };
    frame::seal(&owner, &key.step().0, signer, place, TOPIC, b"forged")
}

fn data(a: &mut Session, text: &[u8]) -> Vec<u8> {
    a.seal(at(1), Class::Data, TOPIC, text).unwrap()
}

#[test]
fn attack_04_a_replaced_chain_ends_at_its_cut() {
    // Two clones of A's state: what the second still seals under the old chain lies past the first one's cut.
    let (mut a, mut b, ..) = with_insider();
    let (mut clone, ..) = with_insider();
    let sealed: Vec<Vec<u8>> = (0..4u8).map(|i| data(&mut clone, &[i])).collect();
    for i in 0..3u8 {
        data(&mut a, &[i]);
    }
    b.open(at(1), TOPIC, &sealed[0]).unwrap();
    a.set_role(at(1), id(C), None);
    data(&mut a, b"new");
    b.accept_key_message(at(1), id(A), &keys_for(&mut a, B, at(1))).unwrap();
    assert_eq!(b.open(at(2), TOPIC, &sealed[3]).unwrap_err(), Reject::Stale, "index 3, the first past the cut");
    assert!(b.open(at(2), TOPIC, &sealed[2]).is_ok(), "index 2, the last before it");
    assert_eq!(b.open(at(61), TOPIC, &sealed[1]).unwrap_err(), Reject::Stale, "a minute later");
}

#[test]
fn attack_04_a_chain_whose_replacement_was_missed_ends_too() {
    let (mut a, mut b, ..) = with_insider();
    let (first, second) = (data(&mut a, b"1"), data(&mut a, b"2"));
    b.open(at(1), TOPIC, &first).unwrap();
    assert!(b.open(at(6 * 3_600 + 60), TOPIC, &second).is_err(), "no honest sender's chain is that old");
}

#[test]
fn attack_07_a_member_that_leaves_and_returns_is_not_read_twice() {
    // Keys made and held back, frames recorded; B drops A and takes it again: neither the frames nor the keys are news.
    let (mut a, mut b, ..) = with_insider();
    a.resend_keys(at(0), id(B)).unwrap();
    let held_back = keys_for(&mut a, B, at(0));
    let sealed: Vec<Vec<u8>> = (0..3u8).map(|i| data(&mut a, &[i])).collect();
    for frame in &sealed {
        b.open(at(1), TOPIC, frame).unwrap();
    }
    b.set_role(at(2), id(A), None);
    b.set_role(at(3), id(A), Some(P));
    assert_eq!(b.accept_key_message(at(3), id(A), &held_back).unwrap_err(), Reject::Stale);
    for frame in &sealed {
        assert_eq!(b.open(at(3), TOPIC, frame).unwrap_err(), Reject::UnknownKey);
    }
    a.resend_keys(at(3), id(B)).unwrap();
    b.accept_key_message(at(3), id(A), &keys_for(&mut a, B, at(3))).unwrap();
    assert_eq!(b.open(at(3), TOPIC, &sealed[2]).unwrap_err(), Reject::Stale);
    let next = data(&mut a, b"next");
    assert_eq!(b.open(at(3), TOPIC, &next).unwrap().plaintext, b"next", "and its current keys are");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]
    /// Against a model: each once, none that comes more than 1,024 behind the furthest, whatever is lost on the way.
    #[test]
    fn attack_06_gaps_replays_and_the_window(order in proptest::collection::vec(0usize..2_500, 1..150)) {
        let (mut a, mut b, ..) = with_insider();
        let sealed: Vec<Vec<u8>> = (0..2_500u32).map(|i| data(&mut a, &i.to_be_bytes())).collect();
        let (mut seen, mut next) = (BTreeSet::new(), 0);
        for i in order {
            let fresh = i + WINDOW as usize >= next && seen.insert(i);
            let opened = b.open(at(1), TOPIC, &sealed[i]);
            if fresh {
                proptest::prop_assert_eq!(opened.unwrap().plaintext, (i as u32).to_be_bytes());
                next = next.max(i + 1);
            } else {
                proptest::prop_assert_eq!(opened.unwrap_err(), Reject::Stale);
            }
        }
    }
}

#[test]
fn attack_08_an_insider_reseals_the_real_chain() {
    let (mut a, _, header, keys) = with_insider();
    let sealed = data(&mut a, b"before the restart");
    let mut b = process(B, 22);
    let prekey = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap();
    let mut rng = Rng::from_seed([44; 32]);
    // In A's name: C cannot sign for A.
    let old = Header { recipient: id(B), prekey: prekey.id, ..header };
    let forged = old.seal(&key(C), &prekey.spk, &keys, &mut rng).unwrap();
    assert_eq!(b.accept_key_message(at(1), id(A), &forged).unwrap_err(), Reject::Forged);
    // In its own name, with A's signing key named: taken as C's chain, under which A's frames do not open.
    let own = Header { sender: id(C), ..old };
    let message = own.seal(&key(C), &prekey.spk, &keys, &mut rng).unwrap();
    b.accept_key_message(at(1), id(C), &message).unwrap();
    assert_eq!(b.open(at(1), TOPIC, &sealed).unwrap_err(), Reject::Forged);
    // Nor does it keep A's own keys out: whoever comes first with a kid has no claim to it.
    learn(&mut a, &b);
    let true_keys = keys_for(&mut a, B, at(1));
    b.accept_key_message(at(1), id(A), &true_keys).unwrap();
    let opened = b.open(at(1), TOPIC, &data(&mut a, b"after")).unwrap();
    assert_eq!((opened.sender, &opened.plaintext[..]), (id(A), &b"after"[..]));
}

#[test]
fn attack_09_an_insider_seals_at_the_next_index() {
    let (mut a, mut b, header, keys) = with_insider();
    let forged = forge(&header, &keys[1], &key(C), 0);
    assert_eq!(b.open(at(1), TOPIC, &forged).unwrap_err(), Reject::Forged);
    let sealed = data(&mut a, b"true");
    assert_eq!(b.open(at(1), TOPIC, &sealed).unwrap().plaintext, b"true", "index 0 is still free");
    // The same with A's signing key would be taken: it is the signature that keeps C out.
    let (_, mut b, ..) = with_insider();
    assert!(b.open(at(1), TOPIC, &forge(&header, &keys[1], &leaked_signer(&header), 0)).is_ok());
}

#[test]
fn attack_10_a_leaked_signing_key() {
    let (mut a, mut b, header, keys) = with_insider();
    let signer = leaked_signer(&header);
    let sealed: Vec<Vec<u8>> = (0..3u8).map(|i| data(&mut a, &[i])).collect();
    b.open(at(1), TOPIC, &sealed[2]).unwrap();
    // Before an old index: the chain moved on, and its later keys do not give the earlier ones.
    let later = keys[1].step().1.step().1;
    assert_eq!(b.open(at(1), TOPIC, &forge(&header, &later, &signer, 0)).unwrap_err(), Reject::Forged);
    assert!(b.open(at(1), TOPIC, &sealed[0]).is_ok(), "the true message of that index still opens");
    // After a rotation: signing key and chain key together are useless past the cut.
    a.set_role(at(2), id(C), None);
    let fresh = a.seal(at(2), Class::Data, TOPIC, b"fresh").unwrap();
    b.accept_key_message(at(2), id(A), &keys_for(&mut a, B, at(2))).unwrap();
    assert_eq!(b.open(at(2), TOPIC, &forge(&header, &later.step().1, &signer, 3)).unwrap_err(), Reject::Stale);
    assert!(b.open(at(2), TOPIC, &fresh).is_ok());
}

#[test]
fn attack_13_weak_keys_and_malleable_signatures() {
    // For the neutral element as a key, R = neutral and S = 0 satisfy the plain equation for every message.
    let (mut neutral, mut b) = ([0; 32], process(B, 2));
    neutral[0] = 1;
    let weak = NodeId::from_public_key(neutral);
    b.set_role(at(0), weak, Some(P));
    let signature = [neutral, [0; 32]].concat();
    let (created, expires) = (at(0).wall, at(3_600).wall);
    let record = Prekey { member: weak, id: [1; 8], spk: [9; 32], role: P, seq: 1, created, expires };
    let mut bytes = record.sign(&DOMAIN, &key(C));
    let end = bytes.len() - 64;
    bytes[end..].copy_from_slice(&signature);
    assert_eq!(b.learn_prekey(at(0), &bytes).unwrap_err(), Reject::Forged);
    let (mut a, mut b, header, keys) = with_insider();
    let prekey = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap();
    let header = Header { sender: weak, recipient: id(B), prekey: prekey.id, ..header };
    let mut message = header.seal(&key(C), &prekey.spk, &keys, &mut Rng::from_seed([4; 32])).unwrap();
    let end = message.len() - 64;
    message[end..].copy_from_slice(&signature);
    b.set_role(at(0), weak, Some(P));
    assert_eq!(b.accept_key_message(at(0), weak, &message).unwrap_err(), Reject::Forged);
    // S and S + L satisfy the same equation: only the canonical one is taken, so no frame has two forms.
    let sealed = data(&mut a, b"one form");
    let mut other = sealed.clone();
    let s = other.len() - 32;
    add_group_order(&mut other[s..]);
    assert_ne!(other, sealed);
    assert_eq!(b.open(at(1), TOPIC, &other).unwrap_err(), Reject::Forged);
    assert!(b.open(at(1), TOPIC, &sealed).is_ok());
}

/// Key compromise impersonation (RFC 9180, section 9.1.1): whoever has B's keys reads what is sealed to B, but is nobody else to B.
#[test]
fn attack_14_leaked_keys_of_the_receiver_impersonate_nobody_to_it() {
    let (mut a, mut b) = (process(A, 1), process(B, 2));
    learn(&mut a, &b);
    let message = keys_for(&mut a, B, at(0));
    let genuine = KeyMessage::verify(&message).unwrap();
    let keys = genuine.open(b.leaked_prekeys()[0]).unwrap();
    let spk = *b.leaked_prekeys()[0].public();
    let mut rng = Rng::from_seed([44; 32]);
    let mine: Vec<ChainKey> = (0..keys.len()).map(|i| ChainKey::from_bytes([i as u8 + 50; 32])).collect();
    let signature = &message[message.len() - sign::SIGNATURE..];
    for chains in [&keys, &mine] {
        for signer in [key(B), key(C)] {
            let forged = genuine.header.seal(&signer, &spk, chains, &mut rng).unwrap();
            assert_eq!(b.accept_key_message(at(1), id(A), &forged).unwrap_err(), Reject::Forged, "sealed again, without A's signature");
            let grafted = [&forged[..forged.len() - sign::SIGNATURE], signature].concat();
            assert_eq!(b.accept_key_message(at(1), id(A), &grafted).unwrap_err(), Reject::Forged, "and with that of another message");
        }
    }
    b.accept_key_message(at(1), id(A), &message).unwrap();
    // The control: what A signs is taken.
    assert_eq!(b.open(at(1), TOPIC, &data(&mut a, b"true")).unwrap().plaintext, b"true");
}

/// There are no one-time prekeys to use up, and whoever asks for keys again and again is given them at a bounded pace.
#[test]
fn attack_17_no_prekey_is_exhausted() {
    let (mut a, mut b) = (process(A, 1), process(B, 2));
    learn(&mut a, &b);
    let first = b.prekey_record().to_vec();
    let message = keys_for(&mut a, B, at(0));
    b.accept_key_message(at(0), id(A), &message).unwrap();
    let mut made = 0;
    for fetch in 0..100_000_u64 {
        assert_eq!(b.prekey_record(), first, "fetch {fetch}");
        // Ten thousand a second.
        let now = Now { mono: Mono(1_000 + fetch / 10), wall: at(1).wall };
        let _ = a.resend_keys(now, id(B));
        made += a.take_key_messages(now).len() as u64;
    }
    let pace = 10_000 / u64::try_from(machine::RESEND.as_millis()).unwrap();
    assert!((1..=pace).contains(&made), "{made} key messages in ten seconds");
    assert_eq!((b.leaked_prekeys().len(), a.epochs()), (1, 1), "and nobody began anything new for it");
    assert_eq!(b.open(at(11), TOPIC, &data(&mut a, b"still")).unwrap().plaintext, b"still");
}

/// Adds L = 2^252 + 27742317777372353535851937790883648493 (RFC 8032 section 5.1) to a little-endian number.
fn add_group_order(s: &mut [u8]) {
    let low: u128 = 27_742_317_777_372_353_535_851_937_790_883_648_493;
    let mut order = [0; 32];
    order[..16].copy_from_slice(&low.to_le_bytes());
    order[31] = 0x10;
    let mut carry = 0;
    for (byte, add) in s.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
}

#[test]
fn attack_23_a_signed_leap_is_capped() {
    let (mut a, mut b, header, keys) = with_insider();
    let signer = leaked_signer(&header);
    for far in [u32::MAX, 1 << 31, AHEAD + 1] {
        assert_eq!(b.open(at(1), TOPIC, &forge(&header, &keys[1], &signer, far)).unwrap_err(), Reject::Limit);
    }
    // At the cap, signed, under a wrong key: the most work one frame can ask for, and nothing is kept of it.
    assert_eq!(b.open(at(1), TOPIC, &forge(&header, &keys[1], &signer, AHEAD)).unwrap_err(), Reject::Forged);
    let sealed = data(&mut a, b"next");
    assert!(b.open(at(1), TOPIC, &sealed).is_ok());
}

#[test]
fn a_gap_left_by_unicast_is_ordinary() {
    let (mut a, mut b, ..) = with_insider();
    for _ in 0..9_000 {
        data(&mut a, b"to somebody else");
    }
    let sealed = data(&mut a, b"to all");
    assert_eq!(b.open(at(1), TOPIC, &sealed).unwrap().plaintext, b"to all");
}

#[test]
fn a_new_role_of_its_own_is_told_at_once() {
    let (mut a, ..) = with_insider();
    a.set_role(at(5), id(A), Some(Role::Manager));
    assert_eq!(a.next_timeout(), Some(at(5).mono));
    assert!(a.on_timeout(at(5)));
    assert_eq!(Prekey::verify(&DOMAIN, a.prekey_record()).unwrap().role, Role::Manager);
    assert_eq!(a.seal(at(5), Class::Data, TOPIC, b"x").unwrap_err(), Reject::Forbidden);
    a.seal(at(5), Class::Control, TOPIC, b"x").unwrap();
    let message = keys_for(&mut a, B, at(5));
    assert_eq!(KeyMessage::verify(&message).unwrap().header.entries.len(), 1, "a manager gives no data key");
}
