//! The attacks of the design's list that concern keys and frames, each named after its number.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::keymsg::KeyMessage;
use super::prekey::Prekey;
use super::testing::{DOMAIN, P, TOPIC, at, id, key};
use super::*;
use crate::base::{DomainId, Mono, Reject, Rng, Wall};
use crate::crypto::{Class, Role, frame};

fn session(n: u8, seed: u8, role: Role) -> Session {
    Session::new(DOMAIN, key(n), role, Rng::from_seed([seed; 32]), at(0))
}

/// Sessions that know each other's roles and prekeys, and have each other's keys.
fn cluster(roles: &[Role]) -> Vec<Session> {
    let mut all: Vec<Session> = roles.iter().enumerate().map(|(i, role)| session(i as u8 + 1, i as u8 + 1, *role)).collect();
    for i in 0..all.len() {
        for (j, role) in roles.iter().enumerate() {
            all[i].set_role(at(0), id(j as u8 + 1), Some(*role));
        }
        for j in (0..roles.len()).filter(|j| *j != i) {
            let record = all[j].prekey_record().to_vec();
            all[i].learn_prekey(at(0), &record).unwrap();
        }
    }
    deliver_keys(&mut all, 0);
    all
}

fn deliver_keys(all: &mut [Session], seconds: u64) {
    for i in 0..all.len() {
        for (to, message) in all[i].take_key_messages(at(seconds)) {
            if let Some(j) = (0..all.len()).find(|j| id(*j as u8 + 1) == to) {
                all[j].accept_key_message(at(seconds), id(i as u8 + 1), &message).unwrap();
            }
        }
    }
}

/// One key message of the first session for the second, not yet delivered.
fn key_message() -> (Session, Session, Vec<u8>) {
    let (mut a, mut b) = (session(1, 1, Role::Participant), session(2, 2, Role::Participant));
    for s in [&mut a, &mut b] {
        s.set_role(at(0), id(1), Some(Role::Participant));
        s.set_role(at(0), id(2), Some(Role::Participant));
        s.set_role(at(0), id(3), Some(Role::Participant));
    }
    a.learn_prekey(at(0), b.prekey_record()).unwrap();
    let message = a.take_key_messages(at(0)).remove(0).1;
    (a, b, message)
}

#[test]
fn members_read_one_another_in_both_classes() {
    let mut all = cluster(&[P, P, P]);
    for class in Class::BOTH {
        let sealed = all[0].seal(at(1), class, TOPIC, b"hello").unwrap();
        assert_eq!(sealed.len(), 5 + frame::OVERHEAD);
        for reader in [1, 2] {
            let opened = all[reader].open(at(1), TOPIC, &sealed).unwrap();
            assert_eq!((opened.sender, opened.class, opened.plaintext.as_slice()), (id(1), class, &b"hello"[..]));
        }
    }
}

#[test]
fn attack_02_keys_from_anyone() {
    let (_, mut b, message) = key_message();
    assert_eq!(b.accept_key_message(at(0), id(3), &message).unwrap_err(), Reject::Forbidden, "C brings A's message as its own");
    let mut typed = message.clone();
    typed[2] ^= 1;
    assert!(b.accept_key_message(at(0), id(1), &typed).is_err(), "another type");
    let mut all = cluster(&[P, P]);
    let sealed = all[0].seal(at(0), Class::Data, TOPIC, &[0; 400]).unwrap();
    assert!(b.accept_key_message(at(0), id(1), &sealed).is_err(), "a frame is no key message");
    assert!(b.accept_key_message(at(0), id(1), &message).is_ok());
}

#[test]
fn attack_04_old_sessions_end() {
    let mut all = cluster(&[P, P, P]);
    let early = all[0].seal(at(1), Class::Data, TOPIC, b"early").unwrap();
    let late = all[0].seal(at(1), Class::Data, TOPIC, b"late").unwrap();
    let stray = all[0].seal(at(1), Class::Data, TOPIC, b"stray").unwrap();
    all[1].open(at(1), TOPIC, &early).unwrap();
    all[0].set_role(at(2), id(3), None);
    let fresh = all[0].seal(at(2), Class::Data, TOPIC, b"fresh").unwrap();
    let (to, message) = all[0].take_key_messages(at(2)).remove(0);
    assert_eq!(to, id(2));
    all[1].accept_key_message(at(2), id(1), &message).unwrap();
    all[1].open(at(2), TOPIC, &fresh).unwrap();
    assert!(all[1].open(at(30), TOPIC, &late).is_ok(), "within a minute what was under way still arrives");
    assert_eq!(all[1].open(at(63), TOPIC, &stray).unwrap_err(), Reject::Stale);
    assert!(!all[1].on_timeout(at(64)));
    assert_eq!(all[1].open(at(64), TOPIC, &stray).unwrap_err(), Reject::UnknownKey, "and then the chain is gone");
}

#[test]
fn attack_05_every_header_bit_is_bound() {
    let mut all = cluster(&[P, P]);
    let sealed = all[0].seal(at(1), Class::Data, TOPIC, b"bits").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut bent = sealed.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(all[1].open(at(1), TOPIC, &bent).is_err(), "bit {bit}");
    }
    assert!(all[1].open(at(1), TOPIC + 1, &sealed).is_err(), "another topic");
    assert!(all[1].open(at(1), TOPIC, &sealed).is_ok(), "and nothing of that changed the state");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn attack_06_any_order_delivers_each_once(order in proptest::collection::vec(0usize..40, 1..120)) {
        let mut all = cluster(&[P, P]);
        let sealed: Vec<Vec<u8>> = (0..40u8).map(|i| all[0].seal(at(1), Class::Data, TOPIC, &[i]).unwrap()).collect();
        let mut seen = alloc::collections::BTreeSet::new();
        for i in order {
            let opened = all[1].open(at(1), TOPIC, &sealed[i]);
            if seen.insert(i) {
                proptest::prop_assert_eq!(opened.unwrap().plaintext, vec![i as u8]);
            } else {
                proptest::prop_assert_eq!(opened.unwrap_err(), Reject::Stale);
            }
        }
    }
}

#[test]
fn attack_06_out_of_window_is_not_delivered() {
    let mut all = cluster(&[P, P]);
    let first = all[0].seal(at(1), Class::Data, TOPIC, b"first").unwrap();
    for _ in 0..WINDOW {
        all[0].seal(at(1), Class::Data, TOPIC, b"").unwrap();
    }
    let last = all[0].seal(at(1), Class::Data, TOPIC, b"last").unwrap();
    all[1].open(at(1), TOPIC, &last).unwrap();
    assert_eq!(all[1].open(at(1), TOPIC, &first).unwrap_err(), Reject::Stale);
}

#[test]
fn attack_07_replay_into_a_restarted_receiver() {
    let (mut a, mut b, message) = key_message();
    let sealed = a.seal(at(1), Class::Data, TOPIC, b"once").unwrap();
    b.accept_key_message(at(1), id(1), &message).unwrap();
    b.open(at(1), TOPIC, &sealed).unwrap();
    let mut restarted = session(2, 99, P);
    restarted.set_role(at(2), id(1), Some(P));
    assert_eq!(restarted.accept_key_message(at(2), id(1), &message).unwrap_err(), Reject::UnknownKey);
    assert_eq!(restarted.open(at(2), TOPIC, &sealed).unwrap_err(), Reject::UnknownKey);
}

#[test]
fn attack_08_an_insider_reseals_a_chain() {
    // C knows A's chain key. It seals it to B's new prekey under A's old header: the signature is A's over other bytes.
    let (mut a, mut b, message) = key_message();
    let prekey = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap();
    let old = KeyMessage::verify(&message).unwrap();
    let mut rng = Rng::from_seed([44; 32]);
    let header = super::keymsg::Header { prekey: prekey.id, ..old.header.clone() };
    let keys = vec![crate::crypto::chain::ChainKey::from_bytes([1; 32]), crate::crypto::chain::ChainKey::from_bytes([2; 32])];
    let forged = header.seal(&key(3), &prekey.spk, &keys, &mut rng).unwrap();
    assert_eq!(b.accept_key_message(at(1), id(1), &forged).unwrap_err(), Reject::Forged);
    let mut grafted = forged[..forged.len() - 64].to_vec();
    grafted.extend_from_slice(&message[message.len() - 64..]);
    assert_eq!(b.accept_key_message(at(1), id(1), &grafted).unwrap_err(), Reject::Forged);
    assert!(a.seal(at(1), Class::Data, TOPIC, b"x").is_ok());
}

#[test]
fn attack_09_an_insider_forges_with_the_shared_chain() {
    // C holds A's chain, but not the key that signs A's messages: any other signature is refused and moves nothing.
    let mut all = cluster(&[P, P, P]);
    let sealed = all[0].seal(at(1), Class::Data, TOPIC, b"true").unwrap();
    let own = all[2].seal(at(1), Class::Data, TOPIC, b"fake").unwrap();
    let mut forged = sealed.clone();
    let end = forged.len();
    forged[end - 64..].copy_from_slice(&own[own.len() - 64..]);
    assert_eq!(all[1].open(at(1), TOPIC, &forged).unwrap_err(), Reject::Forged);
    assert!(all[1].open(at(1), TOPIC, &sealed).is_ok());
}

#[test]
fn attack_11_no_key_is_used_twice_by_a_restart() {
    // Nothing of a session is ever stored: another process has other chains, and even a cloned state another salt.
    let mut seen = alloc::collections::BTreeSet::new();
    for process in 0..8 {
        let mut s = session(1, process, P);
        for _ in 0..8 {
            let sealed = s.seal(at(1), Class::Data, TOPIC, b"same").unwrap();
            let parsed = frame::parse(&sealed).unwrap();
            assert!(seen.insert((parsed.kid, parsed.index)), "one place in one chain is used once");
        }
    }
}

#[test]
fn attack_15_what_is_meant_for_others_is_refused_by_its_header() {
    let (_, mut b, message) = key_message();
    let mut other = Session::new(DomainId::from_bytes([8; 32]), key(2), P, Rng::from_seed([2; 32]), at(0));
    other.set_role(at(0), id(1), Some(P));
    assert_eq!(other.accept_key_message(at(0), id(1), &message).unwrap_err(), Reject::Misdirected, "another domain");
    let mut third = session(3, 2, P);
    third.set_role(at(0), id(1), Some(P));
    assert_eq!(third.accept_key_message(at(0), id(1), &message).unwrap_err(), Reject::Misdirected, "another recipient");
    let mut all = cluster(&[P, P]);
    let mut sealed = all[0].seal(at(0), Class::Control, TOPIC, b"x").unwrap();
    sealed[2] = Class::Data.wire();
    assert!(all[1].open(at(0), TOPIC, &sealed).is_err(), "another class");
    assert!(b.accept_key_message(at(0), id(1), &message).is_ok());
    assert_eq!(b.accept_key_message(at(0), id(1), &message).unwrap_err(), Reject::Stale, "a second time");
}

#[test]
fn attack_16_prekey_substitution() {
    let mut a = session(1, 1, P);
    a.set_role(at(0), id(2), Some(P));
    let record = Prekey { member: id(2), id: [1; 8], spk: [9; 32], role: P, seq: 5, created: at(0).wall, expires: at(3_600).wall };
    assert_eq!(a.learn_prekey(at(0), &record.sign(&DOMAIN, &key(3))).unwrap_err(), Reject::Forged, "not signed by its member");
    let wrong = Prekey { role: Role::Manager, ..record.clone() };
    assert_eq!(a.learn_prekey(at(0), &wrong.sign(&DOMAIN, &key(2))).unwrap_err(), Reject::Forbidden, "a role it does not have");
    let old = Prekey { created: Wall(0), expires: Wall(10), ..record.clone() };
    assert_eq!(a.learn_prekey(at(0), &old.sign(&DOMAIN, &key(2))).unwrap_err(), Reject::Expired);
    let long = Prekey { expires: at(1_000_000).wall, ..record.clone() };
    assert_eq!(a.learn_prekey(at(0), &long.sign(&DOMAIN, &key(2))).unwrap_err(), Reject::Expired, "a life no honest one has");
    a.learn_prekey(at(0), &record.sign(&DOMAIN, &key(2))).unwrap();
    let lower = Prekey { seq: 4, spk: [8; 32], ..record.clone() };
    assert_eq!(a.learn_prekey(at(0), &lower.sign(&DOMAIN, &key(2))).unwrap_err(), Reject::Stale);
    let stranger = Prekey { member: id(9), ..record };
    assert_eq!(a.learn_prekey(at(0), &stranger.sign(&DOMAIN, &key(9))).unwrap_err(), Reject::Forbidden);
}

#[test]
fn attack_19_a_manager_gets_control_only() {
    let mut all = cluster(&[P, P, Role::Manager]);
    let control = all[0].seal(at(1), Class::Control, TOPIC, b"directory").unwrap();
    let data = all[0].seal(at(1), Class::Data, TOPIC, b"pose").unwrap();
    assert!(all[2].open(at(1), TOPIC, &control).is_ok());
    assert_eq!(all[2].open(at(1), TOPIC, &data).unwrap_err(), Reject::Forbidden);
    assert_eq!(all[2].seal(at(1), Class::Data, TOPIC, b"psst").unwrap_err(), Reject::Forbidden);
    // Given data keys all the same, by a participant that thinks it one, it refuses them; and whoever knows its role
    // takes no data key from it.
    let mut wrong = session(1, 50, P);
    wrong.set_role(at(2), id(3), Some(P));
    let record = Prekey::verify(&DOMAIN, all[2].prekey_record()).unwrap();
    let claimed = Prekey { role: P, ..record };
    wrong.learn_prekey(at(2), &claimed.sign(&DOMAIN, &key(3))).unwrap();
    let (_, message) = wrong.take_key_messages(at(2)).remove(0);
    assert_eq!(all[2].accept_key_message(at(2), id(1), &message).unwrap_err(), Reject::Forbidden);
    // A participant that turns out to be a manager loses the data class at once, and its sender's epoch ends.
    let before = frame::parse(&all[0].seal(at(3), Class::Data, TOPIC, b"a").unwrap()).unwrap().kid;
    all[0].set_role(at(3), id(2), Some(Role::Manager));
    let after = frame::parse(&all[0].seal(at(3), Class::Data, TOPIC, b"b").unwrap()).unwrap().kid;
    assert_ne!(before, after);
}

#[test]
fn attack_23_ratchet_forward_is_capped() {
    let mut all = cluster(&[P, P]);
    let sealed = all[0].seal(at(1), Class::Data, TOPIC, b"x").unwrap();
    for far in [u32::MAX, 1 << 31, AHEAD + 1] {
        let mut bent = sealed.clone();
        bent[20..24].copy_from_slice(&far.to_be_bytes());
        assert_eq!(all[1].open(at(1), TOPIC, &bent).unwrap_err(), Reject::Limit, "refused before anything is verified or derived");
    }
    let mut near = sealed.clone();
    near[20..24].copy_from_slice(&AHEAD.to_be_bytes());
    assert_eq!(all[1].open(at(1), TOPIC, &near).unwrap_err(), Reject::Forged, "refused before anything is derived");
    assert!(all[1].open(at(1), TOPIC, &sealed).is_ok());
}

#[test]
fn evicted_members_read_nothing_sent_after() {
    let mut all = cluster(&[P, P, P]);
    all[0].set_role(at(1), id(3), None);
    let sealed = all[0].seal(at(1), Class::Data, TOPIC, b"without C").unwrap();
    let messages = all[0].take_key_messages(at(1));
    assert!(messages.iter().all(|(to, _)| *to == id(2)), "the new keys go to B alone");
    assert_eq!(all[2].open(at(1), TOPIC, &sealed).unwrap_err(), Reject::UnknownKey);
    all[1].accept_key_message(at(1), id(1), &messages[0].1).unwrap();
    assert_eq!(all[1].open(at(1), TOPIC, &sealed).unwrap().plaintext, b"without C");
}

#[test]
fn a_joiner_reads_from_its_index_on() {
    let mut all = cluster(&[P, P, P]);
    let mut early = session(1, 77, P);
    early.set_role(at(0), id(2), Some(P));
    let before = early.seal(at(0), Class::Data, TOPIC, b"before").unwrap();
    let record = all[1].prekey_record().to_vec();
    early.learn_prekey(at(1), &record).unwrap();
    let message = early.take_key_messages(at(1)).remove(0).1;
    let after = early.seal(at(1), Class::Data, TOPIC, b"after").unwrap();
    all[1].accept_key_message(at(1), id(1), &message).unwrap();
    assert_eq!(all[1].open(at(1), TOPIC, &before).unwrap_err(), Reject::Stale);
    assert_eq!(all[1].open(at(1), TOPIC, &after).unwrap().plaintext, b"after");
}

#[test]
fn chains_are_replaced_after_their_share_and_prekeys_hourly() {
    let mut all = cluster(&[P, P]);
    let first = frame::parse(&all[0].seal(at(1), Class::Data, TOPIC, b"").unwrap()).unwrap().kid;
    for _ in 1..MESSAGES {
        all[0].seal(at(1), Class::Data, TOPIC, b"").unwrap();
    }
    let next = all[0].seal(at(1), Class::Data, TOPIC, b"next").unwrap();
    assert_ne!(frame::parse(&next).unwrap().kid, first);
    deliver_keys(&mut all, 1);
    assert_eq!(all[1].open(at(1), TOPIC, &next).unwrap().plaintext, b"next");
    let record = all[0].prekey_record().to_vec();
    assert!(all[0].on_timeout(at(3_600)));
    assert_ne!(all[0].prekey_record(), record);
    assert_eq!(all[0].next_timeout(), Some(Mono(0).after(Duration::from_secs(7_200))));
}

proptest::proptest! {
    #[test]
    fn attack_33_decoders_take_anything(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        let _ = Prekey::verify(&DOMAIN, &bytes);
        let _ = KeyMessage::verify(&bytes);
        let _ = frame::parse(&bytes);
    }

    #[test]
    fn attack_33_truncated_and_longer_ones_are_refused(cut in 0usize..400, more in 1usize..9) {
        let (_, mut b, message) = key_message();
        let cut = cut % message.len();
        proptest::prop_assert!(b.accept_key_message(at(0), id(1), &message[..cut]).is_err());
        let longer = [&message[..], &vec![0; more]].concat();
        proptest::prop_assert!(b.accept_key_message(at(0), id(1), &longer).is_err());
        let record = b.prekey_record().to_vec();
        proptest::prop_assert!(Prekey::verify(&DOMAIN, &record[..cut % record.len()]).is_err());
        proptest::prop_assert!(b.accept_key_message(at(0), id(1), &message).is_ok());
    }
}
