//! Attacks on the seal itself: in all of them header and signature hold, so that nothing but the seal can refuse them.

use alloc::{boxed::Box, vec, vec::Vec};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;

use super::testing::{A, B, C, DOMAIN, P, TOPIC, at, id, key};
use super::{
    keymsg::{Entry, Header, KeyMessage},
    prekey::{Prekey, PrekeyId},
    *,
};
use crate::base::{DomainId, Reject, Rng};
use crate::crypto::{
    Class,
    chain::{ChainKey, Kid, Owner},
    frame,
    seal::{ENC, KemKey, TAG},
    sign::{SIGNATURE, labelled},
};

const ELSEWHERE: DomainId = DomainId::from_bytes([8; 32]);

/// A process of member `n` in a domain: the same seed gives the same prekey, whoever the member is.
fn process(domain: DomainId, n: u8, seed: u8) -> Session {
    let mut session = Session::new(domain, key(n), P, Rng::from_seed([seed; 32]), at(0));
    for other in [A, B, C] {
        session.set_role(at(0), id(other), Some(P));
    }
    session
}

fn entry(class: Class) -> Entry {
    Entry { class, kid: [class.wire(); 16], index: 0, prev_kid: [0; 16], prev_final: 0 }
}

/// What A would say to B, sealed to this prekey.
fn header(prekey: PrekeyId, classes: &[Class]) -> Header {
    Header {
        domain: DOMAIN,
        sender: id(A),
        recipient: id(B),
        prekey,
        seq: 1,
        msg_vk: key(50).public(),
        view: [0; 32],
        created: at(0).wall,
        expires: at(3_600).wall,
        entries: classes.iter().map(|c| entry(*c)).collect(),
    }
}

fn chain_keys(n: usize) -> Vec<ChainKey> {
    (0..n).map(|i| ChainKey::from_bytes([i as u8 + 60; 32])).collect()
}

/// The bytes that stand before the seal, and the sealed part.
fn taken_apart(message: &[u8], entries: usize) -> (Vec<u8>, Vec<u8>) {
    let body = &message[..message.len() - SIGNATURE];
    let (front, sealed) = body.split_at(body.len() - (ENC + entries * 32 + TAG));
    (front.to_vec(), sealed.to_vec())
}

/// This header before this sealed part, signed by who the header says.
fn assembled(header: &Header, sealed: &[u8]) -> Vec<u8> {
    let signer = key([A, B, C].into_iter().find(|n| id(*n) == header.sender).unwrap());
    let any = KemKey::derive(&[40; 32]);
    let own = header.seal(&signer, any.public(), &chain_keys(header.entries.len()), &mut Rng::from_seed([41; 32])).unwrap();
    let mut message = taken_apart(&own, header.entries.len()).0;
    message.extend_from_slice(sealed);
    let signature = signer.sign("peerage/1/keymsg", &header.domain, &message);
    message.extend_from_slice(&signature);
    assert!(KeyMessage::verify(&message).is_ok(), "header and signature hold");
    message
}

/// HPKE in mode base (RFC 9180, sections 4.1, 5.1 and 5.2) from a shared point that somebody claims: `enc` and the ciphertext.
fn sealed_from(shared: &[u8; 32], enc: &[u8; 32], public: &[u8; 32], info: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let (kem, hpke) = (&b"KEM\x00\x20"[..], &b"HPKE\x00\x20\x00\x01\x00\x03"[..]);
    let extract = |salt: &[u8], suite: &[u8], label: &[u8], ikm: &[u8]| {
        Hkdf::<Sha256>::extract(Some(salt), &[b"HPKE-v1", suite, label, ikm].concat()).0.to_vec()
    };
    let expand = |prk: &[u8], suite: &[u8], label: &[u8], info: &[u8], out: &mut [u8]| {
        let info = [&(out.len() as u16).to_be_bytes()[..], b"HPKE-v1", suite, label, info].concat();
        Hkdf::<Sha256>::from_prk(prk).unwrap().expand(&info, out).unwrap();
    };
    let (mut secret, mut aead_key, mut nonce) = ([0; 32], [0; 32], [0; 12]);
    expand(&extract(b"", kem, b"eae_prk", shared), kem, b"shared_secret", &[&enc[..], public].concat(), &mut secret);
    let context = [&[0][..], &extract(b"", hpke, b"psk_id_hash", b""), &extract(b"", hpke, b"info_hash", info)].concat();
    let schedule = extract(&secret, hpke, b"secret", b"");
    expand(&schedule, hpke, b"key", &context, &mut aead_key);
    expand(&schedule, hpke, b"base_nonce", &context, &mut nonce);
    let ciphertext = ChaCha20Poly1305::new((&aead_key).into()).encrypt(&nonce.into(), Payload { msg: plain, aad }).unwrap();
    [&enc[..], &ciphertext].concat()
}

/// The points of small order on the curve and its twist, in every form that is read as one of them (RFC 7748 section 6.1).
fn low_order() -> Vec<[u8; 32]> {
    let known = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let points = known.map(|text| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap());
    for point in points {
        assert_eq!(x25519_dalek::x25519([77; 32], point), [0; 32], "whatever the key, nothing comes of it");
    }
    points.to_vec()
}

#[test]
fn attack_12_no_shared_point_that_everybody_knows() {
    let mut b = process(DOMAIN, B, 2);
    let own = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap();
    let header = header(own.id, &Class::BOTH);
    let info = labelled("peerage/1/keydist", &DOMAIN, &[&id(A).as_bytes()[..], id(B).as_bytes(), &own.id].concat());
    let (aad, _) = taken_apart(&assembled(&header, &[0; ENC + 64 + TAG]), 2);
    let plain: Vec<u8> = chain_keys(2).iter().flat_map(|k| *k.as_bytes()).collect();
    // A has this sealed part made of a point of small order: the shared one is zero, for every prekey and everybody who looks on.
    for enc in low_order() {
        let message = assembled(&header, &sealed_from(&[0; 32], &enc, &own.spk, &info, &aad, &plain));
        assert_eq!(b.accept_key_message(at(1), id(A), &message).unwrap_err(), Reject::Forged, "{enc:?}");
    }
    // The control: made in the same way of an ordinary point it is taken.
    let enc = x25519_dalek::x25519([77; 32], x25519_dalek::X25519_BASEPOINT_BYTES);
    let shared = x25519_dalek::x25519([77; 32], own.spk);
    let message = assembled(&header, &sealed_from(&shared, &enc, &own.spk, &info, &aad, &plain));
    b.accept_key_message(at(1), id(A), &message).unwrap();
    // At the other end: a member whose prekey is such a point is given no key.
    let mut a = process(DOMAIN, A, 1);
    for (i, spk) in low_order().into_iter().enumerate() {
        let prekey = Prekey { member: id(C), id: [i as u8; 8], spk, role: P, seq: i as u64, created: at(0).wall, expires: at(3_600).wall };
        a.learn_prekey(at(0), &prekey.sign(&DOMAIN, &key(C))).unwrap();
        assert!(a.take_key_messages(at(0)).is_empty(), "nothing is sealed to it");
    }
    a.learn_prekey(at(0), b.prekey_record()).unwrap();
    assert_eq!(a.take_key_messages(at(0)).len(), 1, "and the others are given theirs");
}

type Change = (&'static str, Box<dyn Fn(&mut Header)>);

#[test]
fn attack_15_a_sealed_part_opens_under_its_own_header_only() {
    let kem = KemKey::derive(&[30; 32]);
    let kid: Kid = [99; 16];
    let changes: Vec<Change> = vec![
        ("domain", Box::new(|h| h.domain = ELSEWHERE)),
        ("sender", Box::new(|h| h.sender = id(C))),
        ("recipient", Box::new(|h| h.recipient = id(C))),
        ("prekey", Box::new(|h| h.prekey = [9; 8])),
        ("number", Box::new(|h| h.seq += 1)),
        ("signing key", Box::new(|h| h.msg_vk = key(51).public())),
        ("view", Box::new(|h| h.view[0] ^= 1)),
        ("created", Box::new(|h| h.created.0 += 1)),
        ("expires", Box::new(|h| h.expires.0 += 1)),
        ("chain", Box::new(move |h| h.entries[0].kid = kid)),
        ("index", Box::new(|h| h.entries[0].index += 1)),
        ("chain before", Box::new(move |h| h.entries[0].prev_kid = kid)),
        ("its end", Box::new(|h| h.entries[0].prev_final += 1)),
        ("class", Box::new(|h| h.entries[0].class = Class::Data)),
    ];
    for classes in [&[Class::Control][..], &Class::BOTH] {
        let true_header = header([6; 8], classes);
        let keys = chain_keys(classes.len());
        let message = true_header.seal(&key(A), kem.public(), &keys, &mut Rng::from_seed([42; 32])).unwrap();
        let (_, sealed) = taken_apart(&message, classes.len());
        let whole = assembled(&true_header, &sealed);
        assert_eq!(whole, message);
        assert!(KeyMessage::verify(&whole).unwrap().open(&kem).unwrap() == keys);
        assert_eq!(KeyMessage::verify(&whole).unwrap().open(&KemKey::derive(&[31; 32])).err(), Some(Reject::Forged), "another prekey");
        // The classes of two entries stand in one order.
        for (what, change) in changes.iter().filter(|(what, _)| *what != "class" || classes.len() == 1) {
            let mut other = true_header.clone();
            change(&mut other);
            let moved = assembled(&other, &sealed);
            let moved = KeyMessage::verify(&moved).unwrap();
            assert_eq!(moved.open(&kem).err(), Some(Reject::Forged), "under another {what}");
        }
    }
}

#[test]
fn attack_15_nobody_takes_anothers_sealed_part_for_its_own() {
    // A gives its keys to B. C sees the message, and knows whom it is for; C and B's namesakes elsewhere have B's very prekey.
    let (mut a, mut b) = (process(DOMAIN, A, 1), process(DOMAIN, B, 2));
    a.learn_prekey(at(0), b.prekey_record()).unwrap();
    let message = a.take_key_messages(at(0)).remove(0).1;
    let real = KeyMessage::verify(&message).unwrap().header;
    let (_, sealed) = taken_apart(&message, 2);
    let spk = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap().spk;
    let own_keys = chain_keys(2);
    let sealed_anew = |header: &Header, signer: u8| header.seal(&key(signer), &spk, &own_keys, &mut Rng::from_seed([43; 32])).unwrap();

    // As C's own keys, of which B would think that C speaks under them.
    let as_c = Header { sender: id(C), ..real.clone() };
    assert_eq!(b.accept_key_message(at(1), id(C), &assembled(&as_c, &sealed)).unwrap_err(), Reject::Forged);
    // To somebody else, and in another domain: every check before the seal passes there.
    let mut c = process(DOMAIN, C, 2);
    let to_c = Header { recipient: id(C), ..real.clone() };
    assert_eq!(c.accept_key_message(at(1), id(A), &assembled(&to_c, &sealed)).unwrap_err(), Reject::Forged);
    let mut namesake = process(ELSEWHERE, B, 2);
    let elsewhere = Header { domain: ELSEWHERE, ..real.clone() };
    assert_eq!(namesake.accept_key_message(at(1), id(A), &assembled(&elsewhere, &sealed)).unwrap_err(), Reject::Forged);
    // To B's next prekey, beside the first one, which is still live.
    assert!(b.on_timeout(at(3_600)));
    let next = Prekey::verify(&DOMAIN, b.prekey_record()).unwrap();
    let later = Header { prekey: next.id, created: at(3_600).wall, expires: at(7_200).wall, ..real.clone() };
    assert_eq!(b.accept_key_message(at(3_600), id(A), &assembled(&later, &sealed)).unwrap_err(), Reject::Forged);

    // The controls: the same headers over parts that were sealed for them.
    b.accept_key_message(at(3_600), id(C), &sealed_anew(&as_c, C)).unwrap();
    c.accept_key_message(at(1), id(A), &sealed_anew(&to_c, A)).unwrap();
    namesake.accept_key_message(at(1), id(A), &sealed_anew(&elsewhere, A)).unwrap();
    b.accept_key_message(at(3_600), id(A), &message).unwrap();
}

#[test]
fn attack_15_a_frame_opens_at_its_own_place_only() {
    let owner = |domain, sender, class| Owner { domain, sender: id(sender), class };
    let own = owner(DOMAIN, A, Class::Control);
    let (message_key, _) = ChainKey::from_bytes([60; 32]).step();
    let signer = key(50);
    let place = frame::Place { kid: [5; 16], index: 3, salt: [1; 8] };
    let sealed = frame::seal(&own, &message_key, &signer, place, TOPIC, b"words");
    // Put elsewhere, and signed there again with the key that signed it here.
    let opened = |owner: Owner, change: fn(&mut [u8]), topic| {
        let mut moved = sealed[..sealed.len() - SIGNATURE].to_vec();
        moved[2] = owner.class.wire();
        change(&mut moved);
        let signed = [owner.sender.as_bytes(), &[owner.class.wire()][..], &moved].concat();
        moved.extend_from_slice(&signer.sign("peerage/1/msg", &owner.domain, &signed));
        let parsed = frame::parse(&moved).unwrap();
        parsed.verify(&owner, &signer.public()).expect("the signature holds");
        parsed.open(&owner, &message_key, topic)
    };
    assert_eq!(opened(own, |_| {}, TOPIC).unwrap(), b"words");
    assert_eq!(opened(own, |_| {}, TOPIC + 1), Err(Reject::Forged), "another topic");
    assert_eq!(opened(owner(ELSEWHERE, A, Class::Control), |_| {}, TOPIC), Err(Reject::Forged), "another domain");
    assert_eq!(opened(owner(DOMAIN, C, Class::Control), |_| {}, TOPIC), Err(Reject::Forged), "another sender");
    assert_eq!(opened(owner(DOMAIN, A, Class::Data), |_| {}, TOPIC), Err(Reject::Forged), "another class");
    assert_eq!(opened(own, |f| f[4] ^= 1, TOPIC), Err(Reject::Forged), "another chain");
    assert_eq!(opened(own, |f| f[23] ^= 1, TOPIC), Err(Reject::Forged), "another index");
    assert_eq!(opened(own, |f| f[24] ^= 1, TOPIC), Err(Reject::Forged), "another salt");
}
