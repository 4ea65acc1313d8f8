//! The real composite machine: found, invite, join through a relay, talk, leave; with a manager, loss and partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage::base::{Code, DomainId, NodeId, Rng};
use peerage::crypto::Role;
use peerage::peer::{Config, InviteOptions, Output, Peer, Profile, To, found_domain};
use peerage::proto::channel::{ChannelId, Mode};
use peerage::proto::directory::{Capability, Query};
use peerage::sim::{Conditions, World};
use peerage::wire::link::InviteLink;

const MANAGING: &str = "domain/manager";

pub struct Town {
    pub world: World<Peer>,
    pub domain: DomainId,
    pub link: InviteLink,
    pub manager: NodeId,
    pub participants: Vec<NodeId>,
    channels: BTreeMap<NodeId, (ChannelId, ChannelId)>,
}

fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

fn online() -> Query {
    Query { online: Some(true), ..Query::default() }
}

impl Town {
    /// A relay, a manager that holds the root key, and a first participant.
    pub fn new(seed: u64, conditions: Conditions) -> Town {
        let mut world = World::new(seed, conditions);
        let (_, relay) = world.add(true, 0, |_, key, seed| Peer::new(Config::relay(), key, seed));
        let (manager, _) = world.add(false, 0, |_, key, seed| Peer::new(Config::browser(), key, seed));
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

    fn settle_in(&mut self, node: NodeId) {
        let domain = self.domain;
        let reliable = self.world.act(node, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
        let latest = self.world.act(node, |p, now| p.channel(now, domain, "pose", Mode::Latest)).unwrap();
        self.channels.insert(node, (reliable, latest));
        self.participants.push(node);
    }

    fn stranger(&mut self, skew: i64) -> NodeId {
        self.world.add(false, skew, |_, key, seed| Peer::new(Config::browser(), key, seed)).0
    }

    /// Lets a new node join; the error's code if it could not.
    pub fn join(&mut self, link: &InviteLink, skew: i64) -> Result<NodeId, Code> {
        let node = self.stranger(skew);
        self.world.act(node, |p, now| p.join(now, link.clone(), profile("guest"))).map_err(|e| e.code())?;
        let mut end = None;
        self.world.run_until(Duration::from_secs(90), |w| {
            for output in w.outputs(node) {
                if let Output::Joined { result, .. } = output {
                    end = Some(result);
                }
            }
            end.is_some()
        });
        end.expect("a join ends").map_err(|e| e.code())?;
        self.settle_in(node);
        Ok(node)
    }

    fn everybody(&self) -> usize {
        self.participants.len() + 1
    }

    pub fn sees(&self, node: NodeId) -> usize {
        self.world.look(node, |p, now| p.participants(now, self.domain, &online())).map_or(0, |list| list.len())
    }

    pub fn agree(&mut self, within: Duration) -> bool {
        let (nodes, domain, all) = (self.participants.clone(), self.domain, self.everybody());
        self.world.run_until(within, |w| {
            nodes.iter().all(|n| w.look(*n, |p, now| p.participants(now, domain, &online())).is_ok_and(|l| l.len() == all))
        })
    }

    pub fn say(&mut self, from: NodeId, to: To, text: &str) {
        let (domain, (chat, _)) = (self.domain, self.channels[&from]);
        self.world.act(from, |p, now| p.send(now, domain, chat, to, text.into(), None)).unwrap();
    }

    pub fn heard(&mut self, node: NodeId) -> Vec<(NodeId, String)> {
        let (domain, (chat, _)) = (self.domain, self.channels[&node]);
        let mut all = Vec::new();
        while let Some(m) = self.world.act(node, |p, now| p.receive(now, domain, chat)) {
            all.push((m.from, String::from_utf8(m.payload).unwrap()));
        }
        all
    }

    /// Everybody says one thing to all; every other participant hears it once, within the time given.
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

fn scenario(n: usize, conditions: Conditions, seed: u64) -> [u8; 32] {
    let mut town = Town::new(seed, conditions);
    let link = town.link.clone();
    for i in 1..n {
        let skew = (i as i64 * 37 % 9 - 4) * 30_000;
        town.join(&link, skew).unwrap_or_else(|code| panic!("participant {i} of {n}: {code}"));
    }
    assert!(
        town.agree(Duration::from_secs(60)),
        "{n} agree on who is here: {:?}",
        town.participants.iter().map(|p| town.sees(*p)).collect::<Vec<_>>()
    );
    town.all_talk(1, Duration::from_secs(60));
    let stats = town.world.look(town.manager, |p, now| p.stats(now, town.domain)).unwrap();
    assert!(stats.opened > 0, "the manager reads the control class");
    let leaver = town.participants.pop().unwrap();
    let domain = town.domain;
    town.world.act(leaver, |p, now| p.leave(now, domain)).unwrap();
    assert!(town.agree(Duration::from_secs(20)), "the others see it leave");
    town.all_talk(2, Duration::from_secs(60));
    town.world.trace()
}

#[test]
fn three_join_talk_and_leave() {
    scenario(3, Conditions::default(), 1);
}

#[test]
fn ten_join_talk_and_leave_with_loss_and_reordering() {
    for loss in [0, 5, 20] {
        scenario(10, Conditions { loss: (loss, 0), reorder: 10, ..Conditions::default() }, u64::from(loss));
    }
}

#[test]
fn thirty_join_talk_and_leave() {
    scenario(30, Conditions::default(), 30);
}

#[test]
fn without_direct_paths_the_relay_carries_everything() {
    scenario(4, Conditions { direct: false, ..Conditions::default() }, 4);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| scenario(5, Conditions { loss: (5, 0), reorder: 5, ..Conditions::default() }, seed);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn wrong_invitations_are_refused_with_their_code() {
    let mut town = Town::new(3, Conditions::default());
    let domain = town.domain;
    let (owner, link) = (town.manager, town.link.clone());
    // Nobody issued this secret.
    let unknown = InviteLink { secret: zeroize::Zeroizing::new([7; 32]), ..link.clone() };
    assert_eq!(town.join(&unknown, 0), Err(Code::InviteUnknown));
    // Another domain's id: no member is found under its places.
    let foreign = InviteLink { domain: DomainId::from_bytes([9; 32]), ..link.clone() };
    assert_eq!(town.join(&foreign, 0), Err(Code::NoMember));
    // Expired a while ago, beyond the skew that is allowed.
    let short = InviteOptions { lifetime: Duration::from_secs(1), ..InviteOptions::default() };
    let short = town.world.act(owner, |p, now| p.invite(now, domain, short)).unwrap();
    town.world.run(Duration::from_secs(400));
    assert_eq!(town.join(&short, 0), Err(Code::InviteExpired));
    // Used as often as it allows.
    let once = InviteOptions { max_uses: 1, ..InviteOptions::default() };
    let once = town.world.act(owner, |p, now| p.invite(now, domain, once)).unwrap();
    town.world.run(Duration::from_secs(2));
    town.join(&once, 0).unwrap();
    town.world.run(Duration::from_secs(2));
    assert_eq!(town.join(&once, 0), Err(Code::InviteUsed));
    // A good one still works after all that.
    town.join(&link, 0).unwrap();
}

#[test]
fn a_partition_heals_and_nothing_acknowledged_is_lost() {
    let mut town = Town::new(11, Conditions::default());
    let link = town.link.clone();
    for _ in 0..5 {
        town.join(&link, 0).unwrap();
    }
    assert!(town.agree(Duration::from_secs(30)));
    town.all_talk(1, Duration::from_secs(30));
    let groups = town.participants.iter().enumerate().map(|(i, n)| (*n, (i % 2) as u32)).collect();
    town.world.net().partition(groups);
    town.world.run(Duration::from_secs(45));
    town.world.net().heal();
    assert!(town.agree(Duration::from_secs(120)), "all see all again");
    town.all_talk(2, Duration::from_secs(60));
}

#[test]
fn the_manager_neither_sends_nor_gets_messages() {
    let mut town = Town::new(5, Conditions::default());
    let link = town.link.clone();
    let guest = town.join(&link, 0).unwrap();
    assert!(town.agree(Duration::from_secs(20)));
    let (domain, manager) = (town.domain, town.manager);
    assert_eq!(town.world.act(manager, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap_err().code(), Code::Forbidden);
    let (chat, _) = town.channels[&guest];
    let to = To::Some(vec![manager]);
    assert_eq!(town.world.act(guest, |p, now| p.send(now, domain, chat, to, b"psst".to_vec(), None)).unwrap_err().code(), Code::Forbidden);
}
