//! A member with a valid credential and every key of a member's that does what it can to disturb the others (Lamport, Shostak and Pease,
//! "The Byzantine Generals Problem", 1982). Each second it
//!
//! - says that others are silent, in its own name and, with words that cannot be signed, in theirs;
//! - sends frames it once received again, to whom they came from and to others;
//! - sends records of the directory as they were when it began, said to be new, and damaged ones;
//! - tells of revocations that nobody made, and of casts that nobody made and that it does not have;
//! - floods: noise sealed for every topic, noise in frames of every kind, and questions whose answers are long.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::{DomainId, LinkId, Mono, NodeId, Now, Rng, Wall};
use crate::crypto::sign::SigningKey;
use crate::peer::{Lane, LinkCommand, LinkEvent, Notice, Peer, Topic};
use crate::proto::broadcast;
use crate::proto::detector::{self, Accusation};
use crate::proto::directory::{self, Query, msg::Item};
use crate::wire::cbor;

/// How often it does its work.
const WORK: Duration = Duration::from_secs(1);
/// Frames it keeps, to send them again.
const KEPT: usize = 500;
/// All of them aim at the same member for so many milliseconds, so that their words add up.
const AIM: u64 = 20_000;
/// Of each kind of noise, each second.
const NOISE: usize = 20;
/// The longest piece of noise, in bytes.
const LONGEST: u64 = 2_048;
/// Kinds of frames, one unknown.
const KINDS: [u8; 9] = [0x01, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x30, 0x7f];
/// Records said to be new in one message.
const RECORDS: usize = 16;

/// Casts that it says it has, in each tree, each second, to each.
const CASTS: usize = 50;

/// What such a member keeps.
pub struct Byzantine {
    domain: DomainId,
    rng: Rng,
    links: BTreeSet<LinkId>,
    heard: VecDeque<(LinkId, Vec<u8>)>,
    records: Vec<Vec<u8>>,
    next: Mono,
    commands: VecDeque<LinkCommand>,
}

impl Byzantine {
    pub(super) fn new(now: Now, domain: DomainId, peer: &Peer, rng: Rng) -> Byzantine {
        let records = peer.records(domain);
        Byzantine { domain, rng, links: BTreeSet::new(), heard: VecDeque::new(), records, next: now.mono, commands: VecDeque::new() }
    }

    pub(super) fn next_timeout(&self) -> Mono {
        self.next
    }

    pub(super) fn poll_command(&mut self) -> Option<LinkCommand> {
        self.commands.pop_front()
    }

    pub(super) fn listen(&mut self, event: &LinkEvent) {
        match event {
            LinkEvent::Down { link } => {
                self.links.remove(link);
            }
            LinkEvent::Frame { link, frame, .. } => {
                self.links.insert(*link);
                self.heard.push_back((*link, frame.clone()));
                if self.heard.len() > KEPT {
                    self.heard.pop_front();
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_timeout(&mut self, now: Now, peer: &mut Peer, key: &SigningKey) {
        if now.mono < self.next {
            return;
        }
        self.next = now.mono.after(WORK);
        let members = peer.participants(now, self.domain, &Query::default()).unwrap_or_default();
        let members: Vec<(NodeId, u64)> = members.iter().map(|p| (p.node, p.incarnation)).collect();
        let others: Vec<NodeId> = members.iter().map(|(node, _)| *node).filter(|n| *n != peer.id()).collect();
        if let Some(target) = members.get((now.mono.0 / AIM) as usize % members.len().max(1)).filter(|(node, _)| *node != peer.id()) {
            self.accuse(now, peer, key, &others, *target);
        }
        for to in &others {
            self.lie(now, peer, *to);
        }
        for _ in 0..NOISE {
            self.make_noise(now, peer, &others);
        }
    }

    fn accuse(&mut self, now: Now, peer: &mut Peer, key: &SigningKey, others: &[NodeId], (suspect, incarnation): (NodeId, u64)) {
        let say = |accuser: NodeId, created: Wall| Accusation { accuser, suspect, incarnation, created }.sign(&self.domain, key);
        let own = say(peer.id(), Wall(now.wall.0 - self.rng.below(60_000)));
        let forged = others.get(self.rng.below(others.len().max(1) as u64) as usize).map(|other| say(*other, now.wall));
        for to in others.iter().filter(|n| **n != suspect) {
            for word in forged.into_iter().chain([own]) {
                peer.send_raw(now, self.domain, Topic::Probes, *to, &detector::Msg::Accuse(vec![word]).encode());
            }
        }
    }

    /// Old records, damaged ones, a view that is nobody's, and casts that there are not.
    fn lie(&mut self, now: Now, peer: &mut Peer, to: NodeId) {
        let at = self.below(self.records.len());
        let mut items: Vec<Item> = self.records.iter().cycle().skip(at).take(RECORDS).map(|r| Item { age: 0, record: r.clone() }).collect();
        if let Some(item) = items.last_mut() {
            damage(&mut self.rng, &mut item.record);
        }
        peer.send_raw(now, self.domain, Topic::Directory, to, &directory::Msg::Records(items).encode());
        peer.send_raw(now, self.domain, Topic::Notices, to, &cbor::encode(&Notice::View(self.rng.bytes())));
        for tree in [Topic::Casts, Topic::News] {
            let ids = (0..CASTS).filter_map(|_| self.rng.bytes::<32>().first_chunk().copied()).collect();
            peer.send_raw(now, self.domain, tree, to, &broadcast::Msg::Have(ids).encode());
        }
    }

    fn make_noise(&mut self, now: Now, peer: &mut Peer, others: &[NodeId]) {
        if let Some(to) = others.get(self.below(others.len())).copied() {
            let noise = self.noise();
            if let Ok(topic) = Topic::parse(1 + self.rng.below(8) as u16) {
                peer.send_raw(now, self.domain, topic, to, &noise);
            }
            let everything = others.iter().flat_map(|n| *n.as_bytes()).take(32 * directory::msg::LISTED).collect();
            for question in [directory::Msg::Digest(self.rng.below(u64::MAX)), directory::Msg::Want(everything)] {
                peer.send_raw(now, self.domain, Topic::Directory, to, &question.encode());
            }
        }
        let links: Vec<LinkId> = self.links.iter().copied().collect();
        let (to, which) = (self.below(links.len()), self.below(self.heard.len()));
        let (Some(link), Some((from, old))) = (links.get(to).copied(), self.heard.get(which).cloned()) else { return };
        let mut damaged = old.clone();
        damage(&mut self.rng, &mut damaged);
        let mut noise = [&old[..old.len().min(10)], &self.noise()].concat();
        if let Some(kind) = noise.get_mut(1) {
            *kind = KINDS[self.rng.below(KINDS.len() as u64) as usize];
        }
        for (link, frame) in [(from, old.clone()), (link, old), (link, damaged), (link, noise)] {
            self.commands.push_back(LinkCommand::Send { link, lane: Lane::Control, frame });
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        (0..self.rng.below(LONGEST)).map(|_| self.rng.below(256) as u8).collect()
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound.max(1) as u64) as usize
    }
}

fn damage(rng: &mut Rng, bytes: &mut [u8]) {
    let at = rng.below(bytes.len().max(1) as u64) as usize;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}
