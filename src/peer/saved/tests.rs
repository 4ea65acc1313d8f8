//! The records, and what a process that opens a domain from them does: two real peers with nothing but a wire in between.

use alloc::{collections::BTreeSet, string::ToString, vec};
use core::time::Duration;

use super::*;
use crate::base::{LinkId, Mono, Now, Rng, Wall};
use crate::crypto::{Role, frame as sealed};
use crate::peer::{Config, InviteOptions, Lane, LinkCommand, LinkEvent, Output, Path, Peer, Profile, Side, To, found_domain};
use crate::proto::channel::{ChannelId, Mode};
use crate::proto::membership::{self, Membership};
use crate::wire::frame::{self, Kind};

const START: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(START + ms) }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([n; 32]))
}

/// A domain with two participants, as its owner stores it.
fn founded(a: &SigningKey, b: &SigningKey) -> SavedDomain {
    let mut saved = found_domain(&mut Rng::from_seed([9; 32]), at(0), "town", &[]).unwrap();
    let (id, root) = (saved.id(), SigningKey::from_seed(saved.root.as_ref().unwrap()));
    let mut membership = Membership::new(id, &saved.genesis).unwrap();
    for node in [a, b] {
        let until = at(0).wall.after(Duration::from_secs(90 * 86_400));
        let credential = membership::root_credential(&id, &root, &node.node_id(), Role::Participant, at(0).wall, until);
        membership.learn(at(0), None, &credential, &mut Vec::new()).unwrap();
    }
    saved.statements = membership.export();
    saved
}

fn full() -> SavedDomain {
    let (a, b) = (key(1), key(2));
    SavedDomain {
        invitation: Some(Zeroizing::new([7; 32])),
        relays: vec!["/ip4/127.0.0.1/tcp/1/ws/p2p/R".to_string()],
        contacts: vec![(a.node_id(), vec!["/ip4/127.0.0.1/tcp/2".to_string(); 3]), (b.node_id(), Vec::new())],
        ..founded(&a, &b)
    }
}

fn records(saved: &SavedDomain) -> Map<Part, Zeroizing<Vec<u8>>> {
    Part::ALL.into_iter().map(|part| (part, saved.encode(part))).collect()
}

#[test]
fn a_domain_comes_back_from_its_records_as_it_was() {
    for saved in [full(), founded(&key(1), &key(2)), SavedDomain { root: None, ..full() }] {
        assert!(SavedDomain::decode(saved.id(), &records(&saved)).unwrap() == Some(saved));
    }
    assert!(SavedDomain::decode(full().id(), &Map::new()).unwrap().is_none());
    let key = key(5);
    assert_eq!(decode_identity(&encode_identity(&key)).unwrap().public(), key.public());
}

#[test]
fn damaged_foreign_and_newer_records_are_told_apart_and_never_taken() {
    let saved = full();
    let good = records(&saved);
    for part in Part::ALL {
        let with = |bytes: Vec<u8>| {
            let mut records = good.clone();
            records.insert(part, Zeroizing::new(bytes));
            SavedDomain::decode(saved.id(), &records).unwrap_err()
        };
        let bytes = good[&part].to_vec();
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            assert_eq!(with(changed).code(), Code::Storage);
            assert_eq!(with(bytes[..i].to_vec()).code(), Code::Storage, "cut at {i}");
        }
        let error = with(b"{\"made\":\"by another program\"}".to_vec());
        assert!(error.message().contains(part.name()) && error.message().contains(&saved.id().to_string()), "{}", error.message());
        let mut newer = bytes.clone();
        newer[MAGIC.len()] = FORMAT + 1;
        assert!(with(newer).message().contains("newer version"));
        // A good record in the wrong place.
        let other = Part::ALL.into_iter().find(|p| *p != part).unwrap();
        assert_eq!(with(good[&other].to_vec()).code(), Code::Storage);
    }
    assert_eq!(SavedDomain::decode(DomainId::from_bytes([1; 32]), &good).unwrap_err().code(), Code::Storage);
}

/// Two peers, the frames that went from the first to the second, and what the second's application read.
struct Pair {
    now: u64,
    a: (Peer, ChannelId),
    b: (Peer, ChannelId),
    domain: DomainId,
    sent: Vec<(Lane, Vec<u8>)>,
    read: Vec<Vec<u8>>,
}

fn open(saved: &SavedDomain, key: &SigningKey, seed: u8, now: u64) -> (Peer, ChannelId) {
    let mut peer = Peer::new(Config::native(), key.clone(), [seed; 32]);
    let domain = peer.open_domain(at(now), saved, Role::Participant, Profile::default()).unwrap();
    let channel = peer.channel(at(now), domain, "chat", Mode::Reliable).unwrap();
    (peer, channel)
}

fn up(node: NodeId, side: Side) -> LinkEvent {
    LinkEvent::Up { link: LinkId(1), node, path: Path::Direct, side, address: String::new(), datagrams: false }
}

impl Pair {
    fn new(saved: &SavedDomain, seeds: (u8, u8), now: u64) -> Pair {
        let (a, b) = (open(saved, &key(1), seeds.0, now), open(saved, &key(2), seeds.1, now));
        let mut pair = Pair { now, a, b, domain: saved.id(), sent: Vec::new(), read: Vec::new() };
        let (at_a, at_b) = (up(pair.b.0.id(), Side::Dialler), up(pair.a.0.id(), Side::Listener));
        pair.a.0.handle(at(now), at_a);
        pair.b.0.handle(at(now), at_b);
        pair.run(3_000);
        pair
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            for from_a in [true, false] {
                let (from, to) = if from_a { (&mut self.a.0, &mut self.b.0) } else { (&mut self.b.0, &mut self.a.0) };
                while let Some(output) = from.poll_output() {
                    let Output::Link(LinkCommand::Send { lane, frame, .. }) = output else { continue };
                    if from_a {
                        self.sent.push((lane, frame.clone()));
                    }
                    to.handle(at(self.now), LinkEvent::Frame { link: LinkId(1), lane, frame });
                }
            }
            let (domain, now) = (self.domain, at(self.now));
            while let Some(message) = self.b.0.receive(now, domain, self.b.1) {
                self.read.push(message.payload);
            }
            self.a.0.on_timeout(now);
            self.b.0.on_timeout(now);
            self.now += 10;
        }
    }

    fn say(&mut self, text: &[u8]) {
        let to = To::Some(vec![self.b.0.id()]);
        self.a.0.send(at(self.now), self.domain, self.a.1, to, text.to_vec(), None).unwrap();
        self.run(500);
    }

    /// Chain and index of every sealed frame: what a message key, and with it a nonce, follows from.
    fn places(&self) -> Vec<([u8; 16], u32)> {
        let sealed = self.sent.iter().filter_map(|(_, bytes)| frame::decode(bytes).ok()).filter(|f| f.kind == Kind::Sealed);
        // Behind the pair tag and the topic.
        sealed.map(|f| sealed::parse(&f.body[10..]).unwrap()).map(|p| (p.kid, p.index)).collect()
    }
}

#[test]
fn attack_11_two_runs_from_one_snapshot_share_no_key() {
    let saved = founded(&key(1), &key(2));
    let mut seen = BTreeSet::new();
    // Each run starts from the very same stored records, at the very same time; only the system's entropy differs.
    for run in 0..4 {
        let stored = SavedDomain::decode(saved.id(), &records(&saved)).unwrap().unwrap();
        let mut pair = Pair::new(&stored, (10 + run, 100), 0);
        pair.say(b"the same words");
        assert_eq!(pair.read, [b"the same words"]);
        let places = pair.places();
        assert!(places.len() > 2, "records and a message were sealed");
        for place in places {
            assert!(seen.insert(place), "run {run} sealed again at {place:?}");
        }
    }
}

#[test]
fn attack_07_a_receiver_restarted_from_its_store_opens_no_old_frame() {
    let saved = founded(&key(1), &key(2));
    let mut pair = Pair::new(&saved, (1, 2), 0);
    pair.say(b"once");
    assert_eq!(pair.read, [b"once"]);
    // B's store as it is now: all that its next process has of this one.
    let stored = SavedDomain::decode(saved.id(), &records(&pair.b.0.save_domain(at(pair.now), saved.id()).unwrap())).unwrap().unwrap();
    let (mut again, channel) = open(&stored, &key(2), 3, pair.now);
    let now = at(pair.now + 1_000);
    again.handle(now, up(pair.a.0.id(), Side::Listener));
    for (lane, frame) in &pair.sent {
        again.handle(now, LinkEvent::Frame { link: LinkId(1), lane: *lane, frame: frame.clone() });
    }
    assert!(pair.sent.len() > 5);
    assert!(again.receive(now, saved.id(), channel).is_none(), "an old message was delivered again");
    assert_eq!(again.stats(now, saved.id()).unwrap().opened, 0);
}

#[test]
fn who_restarts_is_back_at_once_as_the_same_participant_and_nothing_comes_twice() {
    let saved = founded(&key(1), &key(2));
    let mut pair = Pair::new(&saved, (1, 2), 0);
    pair.say(b"before");
    let stored = pair.b.0.save_domain(at(pair.now), saved.id()).unwrap();
    pair.a.0.handle(at(pair.now), LinkEvent::Down { link: LinkId(1) });
    pair.b = open(&stored, &key(2), 3, pair.now);
    let (at_a, at_b) = (up(pair.b.0.id(), Side::Listener), up(pair.a.0.id(), Side::Dialler));
    pair.a.0.handle(at(pair.now), at_a);
    pair.b.0.handle(at(pair.now), at_b);
    pair.run(2_000);
    let here = pair.a.0.participants(at(pair.now), saved.id(), &crate::proto::directory::Query::default()).unwrap();
    assert_eq!(here.len(), 2, "no ghost beside it");
    pair.say(b"after");
    assert_eq!(pair.read, [&b"before"[..], b"after"]);
}

#[test]
fn a_kept_invitation_renews_a_credential_that_ran_out() {
    let (owner, guest) = (key(1), key(3));
    let mut peer = open(&founded(&owner, &key(2)), &owner, 1, 0).0;
    let domain = founded(&owner, &key(2)).id();
    let link = peer.invite(at(0), domain, InviteOptions::default()).unwrap();
    let stored = SavedDomain { root: None, invitation: Some(link.secret.clone()), ..peer.save_domain(at(0), domain).unwrap() };
    let two_days = 2 * 86_400_000;
    let (mut guest_peer, _) = open(&stored, &guest, 2, two_days);
    let until = guest_peer.save_domain(at(two_days), domain).unwrap();
    assert!(until.statements.len() > stored.statements.len(), "one credential more");
    // Without it, or with another one, there is no way back in but a new invitation.
    for invitation in [None, Some(Zeroizing::new([5; 32]))] {
        let stored = SavedDomain { invitation, ..stored.clone() };
        let mut peer = Peer::new(Config::native(), guest.clone(), [4; 32]);
        let error = peer.open_domain(at(two_days), &stored, Role::Participant, Profile::default()).unwrap_err();
        assert_eq!(error.code(), Code::Forbidden);
    }
    assert!(guest_peer.take_unsaved().contains(&(domain, Part::Statements)));
}

#[test]
fn what_changes_is_marked_to_be_stored() {
    let saved = founded(&key(1), &key(2));
    let mut pair = Pair::new(&saved, (1, 2), 0);
    pair.a.0.take_unsaved();
    pair.run(40_000);
    assert!(!pair.a.0.has_unsaved(), "renewed leases are no reason to write: {:?}", pair.a.0.take_unsaved());
    pair.a.0.invite(at(pair.now), saved.id(), InviteOptions::default()).unwrap();
    assert_eq!(pair.a.0.take_unsaved(), [(saved.id(), Part::Statements)]);
    pair.a.0.mark_unsaved(saved.id(), Part::Keys);
    assert_eq!(pair.a.0.take_unsaved(), [(saved.id(), Part::Keys)]);
}
