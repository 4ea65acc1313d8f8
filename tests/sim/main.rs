//! The machines that ship, in the simulator: finding a member, agreeing on the directory, loss, partition, crash, replay.

mod bare;
mod figures;
mod large;
mod liveness;
mod members;
mod peers;
mod relays;
mod rotation;
mod tapped;
mod trial;
mod village;

use std::collections::BTreeMap;
use std::time::Duration;

use bare::{Bare, SECRET, Told};
use peerage::base::NodeId;
use peerage::proto::directory::{Event, Status};
use peerage::sim::{Conditions, World};

struct Cluster {
    world: World<Bare>,
    relay: NodeId,
    address: String,
    members: Vec<NodeId>,
}

impl Cluster {
    /// A relay and the first member.
    fn new(seed: u64, conditions: Conditions) -> Cluster {
        let mut world = World::new(seed, conditions);
        let (relay, address) = world.add(true, 0, Bare::relay);
        let mut cluster = Cluster { world, relay, address, members: Vec::new() };
        let first = cluster.stranger(0);
        cluster.world.act(first, |node, now| node.enter(now, &SECRET));
        cluster.members.push(first);
        cluster.world.run(Duration::from_secs(1));
        cluster
    }
    /// A node that knows the relay.
    fn stranger(&mut self, skew: i64) -> NodeId {
        let (node, _) = self.world.add(false, skew, Bare::new);
        let (relay, address) = (self.relay, self.address.clone());
        self.world.act(node, |n, _| n.use_relay(relay, &address));
        node
    }
    /// `n` more that look for the domain, one every 20 ms, clocks up to four minutes apart.
    fn join(&mut self, n: usize) {
        for i in 0..n {
            let node = self.stranger((i as i64 * 37 % 9 - 4) * 30_000);
            self.world.act(node, Bare::seek);
            self.members.push(node);
            self.world.run(Duration::from_millis(20));
        }
    }
    /// Lets time pass until every member sees every other one online. The milliseconds it took.
    fn agree(&mut self, within: Duration) -> Option<u64> {
        let (start, members) = (self.world.now(), self.members.clone());
        let all = |w: &mut World<Bare>| members.iter().all(|m| w.look(*m, Bare::online).len() == members.len() - 1);
        self.world.run_until(within, all).then(|| self.world.now() - start)
    }
    fn sees(&self, watcher: NodeId, node: NodeId) -> Option<Status> {
        self.world.look(watcher, |n, now| n.directory.as_ref()?.get(now, &node, &bare::everybody).map(|p| p.presence))
    }
    fn told(&mut self, node: NodeId, what: &Told) -> bool {
        self.world.outputs(node).iter().any(|t| t == what)
    }
}

fn joins(n: usize, loss: u8, within: u64) {
    let conditions = Conditions { loss: (loss, loss), reorder: loss / 2, ..Conditions::default() };
    let mut c = Cluster::new(n as u64, conditions);
    c.join(n - 1);
    let took = c.agree(Duration::from_secs(within));
    println!("{n} nodes, {loss} % loss: agreed after {took:?} ms");
    assert!(took.is_some());
    let digests: Vec<u64> = c.members.iter().map(|m| c.world.look(*m, |n, _| n.directory.as_ref().map_or(0, |d| d.digest()))).collect();
    assert!(digests.iter().all(|d| *d != 0));
}

#[test]
fn three_find_each_other() {
    joins(3, 0, 4);
}

#[test]
fn ten_find_each_other() {
    joins(10, 0, 5);
}

#[test]
fn thirty_find_each_other() {
    joins(30, 0, 6);
}

#[test]
fn a_hundred_find_each_other() {
    joins(100, 0, 10);
}

#[test]
fn ten_find_each_other_with_one_frame_in_twenty_lost() {
    joins(10, 5, 60);
}

#[test]
fn ten_find_each_other_with_one_frame_in_five_lost() {
    joins(10, 20, 120);
}

/// How often somebody who is there was taken for down by somebody else, in five minutes of ten nodes.
fn false_alarms(loss: u8) -> usize {
    let mut c = Cluster::new(5, Conditions { loss: (loss, loss), ..Conditions::default() });
    c.join(9);
    assert!(c.agree(Duration::from_secs(120)).is_some());
    c.world.run(Duration::from_secs(5));
    let members = c.members.clone();
    for m in &members {
        c.world.outputs(*m);
    }
    c.world.run(Duration::from_secs(300));
    let downs = |t: &Told| matches!(t, Told::Directory(Event::Down { .. }));
    members.iter().map(|m| c.world.outputs(*m).iter().filter(|t| downs(t)).count()).sum()
}

#[test]
fn nobody_flickers_while_frames_are_lost() {
    assert_eq!((false_alarms(0), false_alarms(5)), (0, 0));
    // Of 900 leases, with a fifth of all frames lost without any link repeating them: real links do.
    let alarms = false_alarms(20);
    println!("{alarms} false alarms at 20 %");
    assert!(alarms <= 5, "{alarms}");
}

#[test]
fn who_leaves_is_gone_at_once_and_who_crashes_with_its_lease() {
    let mut c = Cluster::new(6, Conditions::default());
    c.join(5);
    assert!(c.agree(Duration::from_secs(10)).is_some());
    c.world.run(Duration::from_secs(5));
    let (leaver, crasher, watcher) = (c.members[1], c.members[2], c.members[3]);
    c.world.act(leaver, |n, now| n.with_directory(|d, out| d.leave(now, out)));
    c.world.run(Duration::from_millis(300));
    assert_eq!(c.sees(watcher, leaver), Some(Status::Left));
    c.world.crash(crasher);
    c.world.run(Duration::from_secs(61));
    assert_eq!(c.sees(watcher, crasher), Some(Status::Down));
    assert!(c.told(watcher, &Told::Directory(Event::Down { node: crasher })));
}

#[test]
fn a_partition_parts_and_heals() {
    let mut c = Cluster::new(7, Conditions::default());
    c.join(9);
    assert!(c.agree(Duration::from_secs(10)).is_some());
    c.world.run(Duration::from_secs(5));
    let away: BTreeMap<NodeId, u32> = c.members[6..].iter().map(|m| (*m, 1)).collect();
    c.world.net().partition(away);
    c.world.run(Duration::from_secs(75));
    for (i, m) in c.members.iter().enumerate() {
        assert_eq!(c.world.look(*m, Bare::online).len(), if i < 6 { 5 } else { 3 }, "each side sees itself");
    }
    c.world.net().heal();
    let took = c.agree(Duration::from_secs(60));
    println!("healed after {took:?} ms");
    assert!(took.is_some());
}

#[test]
fn without_the_relay_those_connected_go_on_and_nobody_new_comes() {
    let mut c = Cluster::new(8, Conditions::default());
    c.join(4);
    assert!(c.agree(Duration::from_secs(10)).is_some());
    let relay = c.relay;
    c.world.crash(relay);
    c.world.run(Duration::from_secs(60));
    assert!(c.agree(Duration::ZERO).is_some(), "direct links live on");
    let late = c.stranger(0);
    c.world.act(late, Bare::seek);
    c.world.run(Duration::from_secs(50));
    assert!(c.told(late, &Told::Failed));
}

#[test]
fn a_stranger_finds_another_domain_not_at_all() {
    let mut world: World<Bare> = World::new(9, Conditions::default());
    let (relay, address) = world.add(true, 0, Bare::relay);
    let (lone, _) = world.add(false, 0, Bare::new);
    world.act(lone, |n, now| {
        n.use_relay(relay, &address);
        n.seek(now);
    });
    world.run(Duration::from_secs(50));
    assert!(world.outputs(lone).contains(&Told::Failed));
    assert!(world.look(relay, |n, _| n.registry.as_ref().is_some_and(|r| r.is_empty())));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut c = Cluster::new(seed, Conditions { loss: (5, 5), reorder: 5, ..Conditions::default() });
        c.join(11);
        c.world.run(Duration::from_secs(30));
        c.world.trace()
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
}
