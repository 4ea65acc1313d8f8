//! A domain in the simulator: a relay, a manager and participants, all of them the composite machine that ships. For tests, benches and
//! `peerage sim`. Whatever ought to hold and does not is a panic: this is an experiment, not a service.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::{Conditions, Member, World};
use crate::base::{Code, DomainId, Error, NodeId, Rng};
use crate::crypto::Role;
use crate::peer::{Config, InviteOptions, Output, Profile, To, found_domain};
use crate::proto::channel::{ChannelId, Mode, SendId};
use crate::proto::directory::{Capability, Signed};
use crate::wire::link::InviteLink;

const MANAGING: &str = "domain/manager";

/// The domain and its nodes.
pub struct Town {
    /// Where they live.
    pub world: World<Member>,
    /// The domain.
    pub domain: DomainId,
    /// An invitation without limits.
    pub link: InviteLink,
    /// The manager, which holds the root key.
    pub manager: NodeId,
    /// The participants, in the order in which they came.
    pub participants: Vec<NodeId>,
    channels: BTreeMap<NodeId, ChannelId>,
}

fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

impl Town {
    /// A relay, a manager that holds the root key, and a first participant.
    ///
    /// # Panics
    /// If any of them cannot begin.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions) -> Town {
        let mut world = World::new(seed, conditions);
        let (_, relay) = world.add(true, 0, |_, key, seed| Member::new(Config::relay(), key, seed));
        let (manager, _) = world.add(false, 0, |_, key, seed| Member::new(Config::browser(), key, seed));
        world.act(manager, |p, now| p.use_relay(now, &relay)).unwrap();
        let offers = Profile { name: "manager".into(), capabilities: vec![Capability::new(MANAGING, 1)] };
        let domain = world.act(manager, |p, now| {
            let saved = found_domain(&mut Rng::from_seed([seed as u8; 32]), now, "town", &[MANAGING.into()]).unwrap();
            p.open_domain(now, &saved, Role::Manager, offers).unwrap()
        });
        world.run(Duration::from_secs(2));
        let link = world.act(manager, |p, now| p.invite(now, domain, InviteOptions::default())).unwrap();
        let mut town = Town { world, domain, link: link.clone(), manager, participants: Vec::new(), channels: BTreeMap::new() };
        town.join(&link, 0).unwrap_or_else(|code| panic!("the first participant: {code}"));
        town
    }

    pub(super) fn settle_in(&mut self, node: NodeId) {
        let domain = self.domain;
        let chat = self.world.act(node, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
        self.channels.insert(node, chat);
        self.participants.push(node);
    }

    /// A node outside the domain, its wall clock off by `skew` milliseconds.
    pub fn stranger(&mut self, skew: i64) -> NodeId {
        self.world.add(false, skew, |_, key, seed| Member::new(Config::browser(), key, seed)).0
    }

    /// Lets a new node join.
    ///
    /// # Errors
    /// The code if it could not.
    ///
    /// # Panics
    /// If the join does not end within 90 s.
    pub fn join(&mut self, link: &InviteLink, skew: i64) -> Result<NodeId, Code> {
        let node = self.set_out(link, skew)?;
        self.arrive(vec![node]).map(|()| node)
    }

    /// Lets `n` new nodes join at once, one every 20 ms, clocks up to four minutes apart.
    ///
    /// # Errors
    /// The code if one could not.
    ///
    /// # Panics
    /// As [`Town::join`].
    pub fn crowd(&mut self, n: usize) -> Result<(), Code> {
        let link = self.link.clone();
        let mut nodes = Vec::new();
        for i in 0..n {
            nodes.push(self.set_out(&link, (i as i64 * 37 % 9 - 4) * 30_000)?);
            self.world.run(Duration::from_millis(20));
        }
        self.arrive(nodes)
    }

    pub(super) fn set_out(&mut self, link: &InviteLink, skew: i64) -> Result<NodeId, Code> {
        let node = self.stranger(skew);
        self.world.act(node, |p, now| p.join(now, link.clone(), profile("guest"))).map_err(|e| e.code())?;
        Ok(node)
    }

    /// Waits until the joins of all these nodes ended.
    pub(super) fn arrive(&mut self, mut nodes: Vec<NodeId>) -> Result<(), Code> {
        let mut ends = Vec::new();
        self.world.run_until(Duration::from_secs(90), |w| {
            nodes.retain(|node| {
                let end =
                    w.outputs(*node).into_iter().find_map(|o| if let Output::Joined { result, .. } = o { Some(result) } else { None });
                end.is_none_or(|end| {
                    ends.push((*node, end));
                    false
                })
            });
            nodes.is_empty()
        });
        assert!(nodes.is_empty(), "a join ends");
        for (node, end) in ends {
            end.map_err(|e| e.code())?;
            self.settle_in(node);
        }
        Ok(())
    }

    /// How many there are, the manager included.
    #[must_use]
    pub fn everybody(&self) -> usize {
        self.participants.len() + 1
    }

    /// How many a node sees online, itself included.
    #[must_use]
    pub fn sees(&self, node: NodeId) -> usize {
        self.world.look(node, |p, now| p.online(now, self.domain)).unwrap_or(0)
    }

    /// The incarnation of everybody's record as the manager has it: who is suspected and refutes it takes a higher one.
    #[must_use]
    pub fn incarnations(&self) -> BTreeMap<NodeId, u64> {
        let records = self.world.look(self.manager, |p, _| p.records(self.domain));
        let signed = records.iter().filter_map(|bytes| Signed::parse(bytes).ok());
        signed.map(|s| (s.record().node, s.record().incarnation)).collect()
    }

    /// Waits until every participant sees everybody online; false if that takes longer.
    pub fn agree(&mut self, within: Duration) -> bool {
        let (nodes, domain, all) = (self.participants.clone(), self.domain, self.everybody());
        self.world.run_until(within, |w| nodes.iter().all(|n| w.look(*n, |p, now| p.online(now, domain)).ok() == Some(all)))
    }

    /// Sends a text on the channel that everybody has open.
    ///
    /// # Panics
    /// If it is not accepted.
    pub fn say(&mut self, from: NodeId, to: To, text: &str) {
        self.try_say(from, to, text).unwrap_or_else(|e| panic!("{from} says {text:?}: {e}"));
    }

    /// The same, if it can be sent.
    pub(super) fn try_say(&mut self, from: NodeId, to: To, text: &str) -> Result<SendId, Error> {
        let (domain, chat) = (self.domain, self.channels[&from]);
        self.world.act(from, |p, now| p.send(now, domain, chat, to, text.into(), None))
    }

    /// What a participant received since the last call.
    pub fn heard(&mut self, node: NodeId) -> Vec<(NodeId, String)> {
        let (domain, chat) = (self.domain, self.channels[&node]);
        let mut all = Vec::new();
        while let Some(m) = self.world.act(node, |p, now| p.receive(now, domain, chat)) {
            all.push((m.from, String::from_utf8_lossy(&m.payload).to_string()));
        }
        all
    }

    /// Everybody says one thing to all; every other participant hears it once, within the time given.
    ///
    /// # Panics
    /// If somebody does not.
    pub fn all_talk(&mut self, round: u32, within: Duration) {
        let nodes = self.participants.clone();
        for node in &nodes {
            self.say(*node, To::All, &format!("{round} of {node}"));
        }
        let mut heard: BTreeMap<NodeId, Vec<(NodeId, String)>> = nodes.iter().map(|n| (*n, Vec::new())).collect();
        let deadline = self.world.now() + within.as_millis() as u64;
        while heard.values().any(|h| h.len() < nodes.len() - 1) && self.world.now() < deadline {
            self.world.run(Duration::from_millis(50));
            for node in &nodes {
                let new = self.heard(*node);
                heard.get_mut(node).unwrap().extend(new);
            }
        }
        for (node, mut list) in heard {
            list.sort();
            let mut expected: Vec<_> = nodes.iter().filter(|n| **n != node).map(|n| (*n, format!("{round} of {n}"))).collect();
            expected.sort();
            assert_eq!(list, expected, "what {node} heard");
        }
    }
}
