//! A domain of equals with its relays, for tests of what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage::base::{DomainId, NodeId};
use peerage::peer::{Change, Config, Event, InviteOptions, Output, Profile, To};
use peerage::proto::channel::Mode;
use peerage::proto::directory::{Query, Status};
use peerage::sim::{Conditions, Member, World};
use peerage::wire::link::InviteLink;

/// Participants of one domain, the founder first, and their relays.
pub struct Village {
    pub world: World<Member>,
    pub relay: String,
    pub relays: Vec<(NodeId, String)>,
    pub link: InviteLink,
    pub domain: DomainId,
    pub nodes: Vec<NodeId>,
}

pub fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Village {
    /// `n` participants that all see one another, on a network that is good until then.
    pub fn new(seed: u64, n: usize, conditions: Conditions) -> Village {
        Village::with_relays(seed, n, conditions, 1)
    }

    /// The same with more relays, all of which the link names.
    pub fn with_relays(seed: u64, n: usize, conditions: Conditions, relays: usize) -> Village {
        let good = Conditions { loss: (0, 0), reorder: 0, ..conditions };
        let mut world = World::new(seed, good);
        let relays: Vec<_> = (0..relays).map(|_| world.add(true, 0, |_, key, seed| Member::new(Config::relay(), key, seed))).collect();
        let founder = participant(&mut world);
        for (_, relay) in &relays {
            world.act(founder, |p, now| p.use_relay(now, relay)).unwrap();
        }
        let domain = world.act(founder, |p, now| p.create_domain(now, "village", &[], profile("founder"))).unwrap();
        world.run(seconds(2));
        let link = world.act(founder, |p, now| p.invite(now, domain, InviteOptions::default())).unwrap();
        let mut nodes = vec![founder];
        for _ in 1..n {
            let node = participant(&mut world);
            world.act(node, |p, now| p.join(now, link.clone(), profile("guest"))).unwrap();
            world.run(Duration::from_millis(200));
            nodes.push(node);
        }
        let mut village = Village { world, relay: relays[0].1.clone(), relays, link, domain, nodes };
        assert!(village.agree(120).is_some(), "all see one another");
        village.world.run(seconds(10));
        village.world.net().set_conditions(conditions);
        village.downs();
        village
    }

    pub fn status(&self, by: NodeId, of: NodeId) -> Option<Status> {
        let list = self.world.look(by, |p, now| p.participants(now, self.domain, &Query::default())).unwrap();
        let rows: Vec<Status> = list.iter().filter(|p| p.node == of).map(|p| p.presence).collect();
        assert!(rows.len() <= 1, "one row each");
        rows.first().copied()
    }

    pub fn online(&self, by: NodeId) -> usize {
        let query = Query { online: Some(true), ..Query::default() };
        self.world.look(by, |p, now| p.participants(now, self.domain, &query)).map_or(0, |l| l.len())
    }

    /// Waits until all see all online; the milliseconds it took.
    pub fn agree(&mut self, within: u64) -> Option<u64> {
        let start = self.world.now();
        while self.nodes.iter().any(|n| self.online(*n) != self.nodes.len()) {
            if self.world.now() > start + within * 1_000 {
                return None;
            }
            self.world.run(Duration::from_millis(100));
        }
        Some(self.world.now() - start)
    }

    /// Who said since the last call that who is down.
    pub fn downs(&mut self) -> BTreeSet<(NodeId, NodeId)> {
        let mut downs = BTreeSet::new();
        for by in self.nodes.clone() {
            for output in self.world.outputs(by) {
                if let Output::Event(Event::Participant { node, change: Change::Down, .. }) = output {
                    downs.insert((by, node));
                }
            }
        }
        downs
    }

    /// Waits until all the others hold `gone` for down, or gone; for each the milliseconds it took.
    pub fn noticed(&mut self, gone: NodeId, within: u64) -> Vec<u64> {
        let start = self.world.now();
        let mut took = BTreeMap::new();
        while took.len() < self.nodes.len() && self.world.now() <= start + within * 1_000 {
            self.world.run(Duration::from_millis(100));
            for by in &self.nodes {
                if !took.contains_key(by) && matches!(self.status(*by, gone), Some(Status::Down | Status::Left) | None) {
                    took.insert(*by, self.world.now() - start);
                }
            }
        }
        took.into_values().collect()
    }

    /// Sends a message from one to the other; the milliseconds until it was received.
    pub fn tell(&mut self, from: NodeId, to: NodeId) -> Option<u64> {
        let (domain, start) = (self.domain, self.world.now());
        let open = |world: &mut World<Member>, n| world.act(n, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
        let (out, into) = (open(&mut self.world, from), open(&mut self.world, to));
        self.world.act(from, |p, now| p.send(now, domain, out, To::Some(vec![to]), "there?".into(), None)).unwrap();
        let heard = self.world.run_until(seconds(60), |w| w.act(to, |p, now| p.receive(now, domain, into)).is_some());
        heard.then_some(self.world.now() - start)
    }

    /// What the detectors sent since the start, in bytes, by node.
    pub fn spent(&self) -> Vec<u64> {
        self.nodes.iter().map(|n| self.world.look(*n, |a, _| a.probes.1)).collect()
    }
}

fn participant(world: &mut World<Member>) -> NodeId {
    world.add(false, 0, |_, key, seed| Member::new(Config::browser(), key, seed)).0
}
