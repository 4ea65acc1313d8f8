//! Attack 3 of the design's list, over all that is signed: nothing signed as one type is taken as another, neither as it stands nor
//! over the very same bytes, because every signature begins with the label of its type. What is signed outside this library with the
//! same identity begins otherwise.

use alloc::{boxed::Box, collections::BTreeMap, string::ToString as _, vec, vec::Vec};
use core::time::Duration;

use super::hello::{Find, Hello};
use super::signal::Signal;
use crate::base::{DomainId, Mono, Now, Rng, Wall};
use crate::crypto::chain::{self, ChainKey, Owner};
use crate::crypto::object::{Identity, StorageKey};
use crate::crypto::{Class, Role, frame, seal, seal::KemKey, sign, sign::SIGNATURE, sign::SigningKey};
use crate::proto::membership::{self, Body, Dates, InvitationSpec, Keep, Membership, Rights, Statement, Target};
use crate::proto::session::keymsg::{Entry, Header, KeyMessage};
use crate::proto::session::prekey::Prekey;
use crate::proto::{broadcast, detector, directory, objects, overlay, state, task};
use crate::wire::cbor;

/// What identities, the root key, issuers, invitations and epochs sign. `tests/house` says if one of the tree is in neither list.
const SIGNED: &[&str] = &[
    "peerage/1/genesis",
    "peerage/1/delegation",
    "peerage/1/invitation",
    "peerage/1/credential",
    "peerage/1/revocation",
    "peerage/1/revocation-short",
    "peerage/1/approval",
    "peerage/1/prekey",
    "peerage/1/keymsg",
    "peerage/1/msg",
    "peerage/1/hello",
    "peerage/1/find",
    "peerage/1/signal",
    "peerage/1/record",
    "peerage/1/state",
    "peerage/1/cast",
    "peerage/1/suspect",
    "peerage/1/alive",
    "peerage/1/advert",
    "peerage/1/place-record",
    "peerage/1/answer",
    "peerage/1/ticket",
    "peerage/1/lockbox",
    "peerage/1/enrolment",
    "peerage/1/object",
];

/// What names a derivation, a hash or a seal, and is never under a signature.
const DERIVED: &[&str] = &[
    "peerage/1/aad",
    "peerage/1/channel",
    "peerage/1/ck",
    "peerage/1/com",
    "peerage/1/contacts",
    "peerage/1/domain",
    "peerage/1/invite",
    "peerage/1/keydist",
    "peerage/1/kid",
    "peerage/1/link",
    "peerage/1/lockbox-entry",
    "peerage/1/lockbox-key",
    "peerage/1/mesh/place",
    "peerage/1/mesh/shortcut",
    "peerage/1/msg-key",
    "peerage/1/node-tag",
    "peerage/1/obj",
    "peerage/1/pair-tag",
    "peerage/1/place",
    "peerage/1/rendezvous",
    "peerage/1/request",
    "peerage/1/response",
    "peerage/1/responsible",
    "peerage/1/rest",
    "peerage/1/slot-sign",
    "peerage/1/statement",
    "peerage/1/storage-recipient",
    "peerage/1/view",
    "peerage/1/webtransport",
];

/// What libp2p has an identity sign: the static key of Noise (noise spec, "libp2p data in handshake messages"), the certificate of
/// TLS (tls spec, "libp2p public key extension"), and sealed envelopes, which begin with the length of their domain (RFC 0002): peer
/// records (RFC 0003) and vouchers of relays (circuit v2). Then what else a key of this kind signs elsewhere: messages of gossipsub,
/// TLS 1.3 (RFC 8446 section 4.4.3).
const ELSEWHERE: &[&[u8]] = &[
    b"noise-libp2p-static-key:",
    b"libp2p-tls-handshake:",
    b"\x12libp2p-peer-record",
    b"\x11libp2p-relay-rsvp",
    b"libp2p-pubsub:",
    b"                                                                TLS 1.3, server CertificateVerify",
    b"                                                                TLS 1.3, client CertificateVerify",
];

const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);
const NOWHERE: DomainId = DomainId::from_bytes([0; 32]);
const NOW: Now = Now { mono: Mono(0), wall: Wall(1_800_000_000_000) };

/// Whether somebody who expects one type takes these bytes as one.
type Takes = Box<dyn Fn(&[u8]) -> bool>;

/// One signed thing, as it is sent.
struct Example {
    label: &'static str,
    domain: DomainId,
    signer: SigningKey,
    /// What is under the signature, behind label and domain.
    signed: Vec<u8>,
    whole: Vec<u8>,
    takes: Takes,
}

impl Example {
    fn signature(&self, label: &str, domain: &DomainId) -> [u8; SIGNATURE] {
        self.signer.sign(label, domain, &self.signed)
    }

    /// The same with another signature.
    fn with(&self, signature: &[u8; SIGNATURE]) -> Vec<u8> {
        let own = self.signature(self.label, &self.domain);
        let at = self.whole.windows(SIGNATURE).position(|w| *w == own);
        let at = at.unwrap_or_else(|| panic!("{}: the signature is over this, under this label", self.label));
        let mut whole = self.whole.clone();
        whole[at..at + SIGNATURE].copy_from_slice(signature);
        whole
    }
}

/// Where the signature ends the bytes and covers all before it.
fn plain(label: &'static str, domain: DomainId, signer: &SigningKey, whole: Vec<u8>, takes: impl Fn(&[u8]) -> bool + 'static) -> Example {
    let signed = whole[..whole.len() - SIGNATURE].to_vec();
    Example { label, domain, signer: signer.clone(), signed, whole, takes: Box::new(takes) }
}

/// A member, another one, and a third key.
fn keys() -> [SigningKey; 3] {
    [2, 3, 4].map(|n| SigningKey::from_seed(&[n; 32]))
}

fn statements() -> Vec<Example> {
    let [key, other, _] = keys();
    let (id, until) = (other.node_id(), NOW.wall.after(Duration::from_secs(3_600)));
    let dates = Dates { not_before: NOW.wall, expires: until };
    let spec =
        InvitationSpec { sign_pk: other.public(), kem_pk: [6; 32], max_uses: 1, approve: false, not_before: NOW.wall, expires: until };
    let target = Target::Key(other.public());
    let whole = Body::Revocation { target, keep: Keep::Whole(vec![membership::StatementId([9; 32])]) };
    let founding = membership::found(&mut Rng::from_seed([1; 32]), NOW, "lab", &["a/b".into()], [5; 32]).unwrap();
    // Whichever domain it would be the genesis of.
    let genesis = |b: &[u8]| Membership::new(membership::domain_id(b), b).is_ok();
    // As what it says itself that it is: all statements have one reader.
    let takes = |is: fn(&Body) -> bool| move |b: &[u8]| Statement::verify(&DOMAIN, b).is_ok_and(|s| is(&s.body));
    let is_whole = |b: &Body| matches!(b, Body::Revocation { keep: Keep::Whole(_), .. });
    let is_short = |b: &Body| matches!(b, Body::Revocation { keep: Keep::Short(_), .. });
    vec![
        plain("peerage/1/genesis", NOWHERE, &founding.root, founding.genesis, genesis),
        plain(
            "peerage/1/delegation",
            DOMAIN,
            &key,
            membership::delegate(&DOMAIN, &key, other.public(), Rights::INVITE, dates),
            takes(|b| matches!(b, Body::Delegation { .. })),
        ),
        plain(
            "peerage/1/invitation",
            DOMAIN,
            &key,
            membership::issue_invitation(&DOMAIN, &key, &spec),
            takes(|b| matches!(b, Body::Invitation(_))),
        ),
        plain(
            "peerage/1/credential",
            DOMAIN,
            &key,
            membership::root_credential(&DOMAIN, &key, &id, Role::Participant, NOW.wall, until),
            takes(|b| matches!(b, Body::Credential { .. })),
        ),
        plain("peerage/1/revocation", DOMAIN, &key, whole.sign(&DOMAIN, &key), takes(is_whole)),
        plain("peerage/1/revocation-short", DOMAIN, &key, membership::revoke(&DOMAIN, &key, target, &[]), takes(is_short)),
        plain(
            "peerage/1/approval",
            DOMAIN,
            &key,
            membership::decide(&DOMAIN, &key, &id, true),
            takes(|b| matches!(b, Body::Approval { .. })),
        ),
    ]
}

fn of_keys_and_frames() -> Vec<Example> {
    let [key, other, epoch] = keys();
    let until = NOW.wall.after(Duration::from_secs(3_600));
    let owner = Owner { domain: DOMAIN, sender: key.node_id(), class: Class::Data };
    let kid = chain::kid(&owner, &epoch.public(), &[4; 32]);
    let first = ChainKey::first(&owner, &kid, &[4; 32]);
    let prekey =
        Prekey { member: key.node_id(), id: [6; 8], spk: [9; 32], role: Role::Participant, seq: 8, created: NOW.wall, expires: until };
    let header = Header {
        domain: DOMAIN,
        sender: key.node_id(),
        recipient: other.node_id(),
        prekey: [6; 8],
        seq: 15,
        msg_vk: epoch.public(),
        view: [16; 32],
        created: NOW.wall,
        expires: until,
        entries: vec![Entry { class: Class::Data, kid, index: 12, prev_kid: [13; 16], prev_final: 14 }],
    };
    let mut rng = Rng::from_seed([19; 32]);
    let message = header.seal(&key, KemKey::derive(&[11; 32]).public(), core::slice::from_ref(&first), &mut rng).unwrap();
    let sealed = frame::seal(&owner, &first.step().0, &epoch, frame::Place { kid, index: 0, salt: [5; 8] }, 2, b"text");
    let signed = [owner.sender.as_bytes(), &[owner.class.wire()][..], &sealed[..sealed.len() - SIGNATURE]].concat();
    let msg_vk = epoch.public();
    let takes = Box::new(move |b: &[u8]| frame::parse(b).is_ok_and(|f| f.verify(&owner, &msg_vk).is_ok()));
    vec![
        plain("peerage/1/prekey", DOMAIN, &key, prekey.sign(&DOMAIN, &key), |b| Prekey::verify(&DOMAIN, b).is_ok()),
        plain("peerage/1/keymsg", DOMAIN, &key, message, |b| KeyMessage::verify(b).is_ok()),
        Example { label: "peerage/1/msg", domain: DOMAIN, signer: epoch, signed, whole: sealed, takes },
    ]
}

fn between_members() -> Vec<Example> {
    let [key, other, _] = keys();
    let (me, you) = (key.node_id(), other.node_id());
    let (nonce, epoch, record) = ([8; 16], 9_u64, vec![1; 40]);
    let hello = Hello { chain: vec![], prekey: record.clone().into(), nonce, proof: [0; SIGNATURE], answer: false, epoch };
    let hello = cbor::encode(&hello.sign(&key, &DOMAIN, &you));
    let hello_signed = [&me.as_bytes()[..], you.as_bytes(), &nonce, &epoch.to_be_bytes(), &record].concat();
    let find = Find::sign(&key, &DOMAIN, NOW.wall, vec![], &["/ip4/127.0.0.1/tcp/1".to_string()]);
    let find_signed = [&find.at.to_be_bytes()[..], &cbor::encode(&find.addresses)].concat();
    let signal = cbor::encode(&Signal::new(&key, &DOMAIN, &you, NOW.wall, b"offer".to_vec()));
    let signal_signed = [&me.as_bytes()[..], you.as_bytes(), &NOW.wall.0.to_be_bytes(), b"offer"].concat();
    let number = 77_u64;
    let alive_signed = [&you.as_bytes()[..], &number.to_be_bytes()].concat();
    let signature = key.sign("peerage/1/alive", &DOMAIN, &alive_signed);
    let alive = detector::Msg::Proof { nonce: number, asker: you, target: me, signature }.encode();
    let accusation = detector::Accusation { accuser: me, suspect: you, incarnation: 1, created: NOW.wall }.sign(&DOMAIN, &key);
    let profile = directory::Profile { name: "me".into(), ..directory::Profile::default() };
    let (lease, presence) = (Duration::from_secs(60), directory::Presence::Online);
    let record = directory::Record { node: me, incarnation: 1, sequence: 2, created: NOW.wall, lease, presence, profile };
    let record = directory::Signed::sign(record, &key, &DOMAIN).unwrap().bytes().to_vec();
    let entry = state::Entry { key: "k".into(), stamp: state::Stamp::at(NOW.wall), writer: me, value: Some(vec![1, 2, 3]) };
    let cast = broadcast::Cast { origin: me, epoch: 1, seq: 2, view: [3; 32], created: NOW.wall, body: vec![4; 50] };
    let other_than_plain =
        |label, signed, whole, takes: Takes| Example { label, domain: DOMAIN, signer: key.clone(), signed, whole, takes };
    vec![
        other_than_plain(
            "peerage/1/hello",
            hello_signed,
            hello,
            Box::new(move |b| cbor::decode::<Hello>(b).is_ok_and(|h| h.verify(&DOMAIN, &me, &you).is_ok())),
        ),
        other_than_plain(
            "peerage/1/find",
            find_signed,
            cbor::encode(&find),
            Box::new(|b| cbor::decode::<Find>(b).is_ok_and(|f| f.verify(&DOMAIN, NOW.wall).is_ok())),
        ),
        other_than_plain(
            "peerage/1/signal",
            signal_signed,
            signal,
            Box::new(|b| cbor::decode::<Signal>(b).is_ok_and(|s| s.verify(&DOMAIN).is_ok())),
        ),
        other_than_plain(
            "peerage/1/alive",
            alive_signed,
            alive,
            Box::new(|b| match detector::Msg::decode(b) {
                Ok(detector::Msg::Proof { nonce, asker, target, signature }) => {
                    detector::check_proof(&DOMAIN, &asker, &target, nonce, &signature).is_ok()
                }
                _ => false,
            }),
        ),
        plain("peerage/1/suspect", DOMAIN, &key, accusation.to_vec(), |b| {
            b.try_into().is_ok_and(|b| detector::Accusation::parse(b).is_ok_and(|a| a.verify(&DOMAIN, b).is_ok()))
        }),
        plain("peerage/1/record", DOMAIN, &key, record, |b| directory::Signed::parse(b).is_ok_and(|r| r.verify(&DOMAIN).is_ok())),
        plain("peerage/1/state", DOMAIN, &key, entry.sign(&DOMAIN, &key), |b| state::Entry::verify(&DOMAIN, b).is_ok()),
        plain("peerage/1/cast", DOMAIN, &key, cast.sign(&DOMAIN, &key), |b| {
            broadcast::Cast::parse(b).is_ok_and(|c| c.verify(&DOMAIN, b).is_ok())
        }),
    ]
}

/// What the one who asked has of an answer, once it is open: key, signature, body, zeros.
fn answer() -> Example {
    let [key, ..] = keys();
    let (id, reply, label) = ([1; 16], KemKey::derive(&[12; 32]), "peerage/1/answer");
    let info = sign::labelled("peerage/1/response", &DOMAIN, &[]);
    let mut rng = Rng::from_seed([20; 32]);
    let made = overlay::sealed::answer(&DOMAIN, &id, reply.public(), &key, b"here", &mut rng).unwrap();
    let whole = reply.open(&info, &id, &made.enc, &made.body).unwrap().to_vec();
    let signed = [&id[..], reply.public(), b"here"].concat();
    let takes = move |b: &[u8]| {
        let (enc, body) = seal::seal(reply.public(), &info, &id, b, &mut Rng::from_seed([21; 32])).unwrap();
        let response = overlay::DomainResponse { id, status: overlay::Status::Ok, enc, body };
        overlay::sealed::open_answer(&DOMAIN, &reply, &response).is_ok()
    };
    Example { label, domain: DOMAIN, signer: key, signed, whole, takes: Box::new(takes) }
}

fn all() -> Vec<Example> {
    let [key, other, third] = keys();
    let (me, until) = (key.node_id(), NOW.wall.after(Duration::from_secs(600)));
    let advert = overlay::NodeAdvert {
        node: me,
        addresses: vec![("/ip4/1.2.3.4/tcp/1".into(), 9)],
        tags: vec![],
        capabilities: vec!["relay".into()],
        sequence: 5,
        created: NOW.wall,
        expires: until,
    };
    let ticket = task::Ticket {
        issuer: me,
        term: 1,
        task: [2; 16],
        seat: task::Seat { place: 3, attempt: 4 },
        demander: other.node_id(),
        supplier: third.node_id(),
        until,
        capability: "scan".into(),
    };
    let storage = StorageKey::generate(&mut Rng::from_seed([22; 32]));
    let recipients = BTreeMap::from([([1; 32], *KemKey::derive(&[13; 32]).public())]);
    let contents = objects::Contents { number: 1, created: NOW.wall, key: &storage, previous: &[], recipients: &recipients };
    let lockbox = objects::seal(&DOMAIN, &contents, &key, &mut Rng::from_seed([23; 32])).unwrap();
    let identity = Identity { domain: DOMAIN, object: [1; 16], version: 1, generation: 1, author: me, salt: [2; 32] };
    let tombstone = objects::Header { identity, commitment: [3; 32], previous: [0; 32], size: 0, root: [0; 32], description: vec![4; 60] };
    let place = overlay::Record::sign([1; 16], until, b"contacts", &key).unwrap();
    let mut all = statements();
    all.extend(of_keys_and_frames());
    all.extend(between_members());
    all.push(answer());
    all.extend([
        plain("peerage/1/advert", NOWHERE, &key, advert.sign(&key).unwrap(), |b| overlay::NodeAdvert::verify(b, NOW.wall).is_ok()),
        plain("peerage/1/place-record", NOWHERE, &key, place, |b| overlay::Record::verify(b, NOW.wall).is_ok()),
        plain("peerage/1/ticket", DOMAIN, &key, ticket.sign(&DOMAIN, &key).unwrap(), |b| task::Ticket::verify(&DOMAIN, b).is_ok()),
        plain("peerage/1/lockbox", DOMAIN, &key, lockbox, |b| objects::Lockbox::verify(&DOMAIN, b).is_ok()),
        plain("peerage/1/enrolment", DOMAIN, &key, objects::Enrolment::sign(&DOMAIN, &key, &[5; 32]), |b| {
            objects::Enrolment::verify(&DOMAIN, b).is_ok()
        }),
        plain("peerage/1/object", DOMAIN, &key, tombstone.sign(&key).unwrap(), |b| objects::Header::verify(&DOMAIN, b).is_ok()),
    ]);
    all
}

#[test]
fn attack_03_nothing_signed_is_taken_for_another_type() {
    let all = all();
    let mut labels: Vec<&str> = all.iter().map(|e| e.label).collect();
    labels.sort_unstable();
    let mut listed = SIGNED.to_vec();
    listed.sort_unstable();
    assert_eq!(labels, listed, "an example of each");
    for one in &all {
        assert!((one.takes)(&one.whole), "{} is taken as what it is", one.label);
        assert!((one.takes)(&one.with(&one.signature(one.label, &one.domain))));
        for other in all.iter().filter(|o| o.label != one.label) {
            assert!(!(one.takes)(&other.whole), "{} as {}", other.label, one.label);
            // The attacker has its victim sign the very same bytes as something else, in this domain or in none.
            for domain in [DOMAIN, NOWHERE] {
                let lent = one.with(&one.signature(other.label, &domain));
                assert!(!(one.takes)(&lent), "{} with a signature as {}", one.label, other.label);
            }
        }
        let elsewhere = if one.domain == DOMAIN { NOWHERE } else { DOMAIN };
        assert!(!(one.takes)(&one.with(&one.signature(one.label, &elsewhere))), "{} of another domain", one.label);
    }
}

#[test]
fn no_label_is_the_beginning_of_another_or_of_what_libp2p_signs() {
    let mut all: Vec<&str> = SIGNED.iter().chain(DERIVED).copied().collect();
    all.sort_unstable();
    assert!(all.is_sorted_by(|a, b| a < b), "each has one use");
    let input = |label: &str| sign::labelled(label, &DOMAIN, b"")[..=label.len()].to_vec();
    let ours: Vec<Vec<u8>> = all.iter().map(|label| input(label)).collect();
    let foreign = ELSEWHERE.iter().map(|f| f.to_vec());
    let both: Vec<Vec<u8>> = ours.iter().cloned().chain(foreign).collect();
    for (i, one) in ours.iter().enumerate() {
        for (j, other) in both.iter().enumerate().filter(|(j, _)| *j != i) {
            assert!(!other.starts_with(one) && !one.starts_with(other), "{i} and {j}: {:?}", all[i]);
        }
        assert!(one.starts_with(b"peerage/1/") && one.ends_with(&[0]) && !one[..one.len() - 1].contains(&0));
    }
}
