use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use core::time::Duration;

use super::machine::{GRACE, KEEP, LEASE_ONLINE, SPARED};
use super::msg::{Item, Msg};
use super::*;
use crate::base::{DomainId, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::{class::Role, sign::SigningKey};

pub(super) const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);
const START: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(1_000 + ms), wall: Wall(START + ms) }
}

fn everybody(_: &NodeId) -> Option<Role> {
    Some(Role::Participant)
}

pub(super) fn key(n: u16) -> SigningKey {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    SigningKey::from_seed(&seed)
}

fn directory(n: u16) -> Directory {
    let config = Config { domain: DOMAIN, essential: vec!["data/store".into()] };
    Directory::new(at(0), key(n), config, Rng::from_seed([n as u8; 32]))
}

fn named(name: &str) -> Profile {
    Profile { name: name.into(), ..Profile::default() }
}

pub(super) fn record(n: u16, sequence: u64) -> Record {
    Record {
        node: key(n).node_id(),
        incarnation: START,
        sequence,
        created: Wall(START),
        lease: LEASE_ONLINE,
        presence: Presence::Online,
        profile: named("someone"),
    }
}

pub(super) fn signed(r: Record, n: u16) -> Item {
    Item { age: 0, record: Signed::sign(r, &key(n), &DOMAIN).unwrap().bytes().to_vec() }
}

fn give(d: &mut Directory, ms: u64, item: Item) -> (Result<(), Reject>, Vec<Effect>) {
    let mut out = Vec::new();
    let result = d.handle(at(ms), key(99).node_id(), Msg::Records(vec![item]), &everybody, &mut out);
    (result, out)
}

fn events(out: &[Effect]) -> Vec<Event> {
    out.iter().filter_map(|e| if let Effect::Event(e) = e { Some(e.clone()) } else { None }).collect()
}

/// How often something is said to all.
fn said(out: &[Effect]) -> usize {
    out.iter().filter(|e| matches!(e, Effect::Broadcast { .. })).count()
}

fn status(d: &Directory, ms: u64, n: u16) -> Option<Status> {
    d.get(at(ms), &key(n).node_id(), &everybody).map(|p| p.presence)
}

/// Directories joined by links that lose nothing. Counts the bytes sent.
struct Net {
    nodes: BTreeMap<NodeId, Directory>,
    links: Vec<(NodeId, NodeId)>,
    /// Of comparisons, without what is broadcast.
    bytes: usize,
}

impl Net {
    fn new(ids: core::ops::Range<u16>) -> Net {
        Net { nodes: ids.map(|n| (key(n).node_id(), directory(n))).collect(), links: Vec::new(), bytes: 0 }
    }
    fn run(&mut self, ms: u64, start: NodeId, out: Vec<Effect>) {
        self.run_all(ms, out.into_iter().map(|e| (start, e)).collect());
    }
    fn run_all(&mut self, ms: u64, mut queue: VecDeque<(NodeId, Effect)>) {
        while let Some((from, effect)) = queue.pop_front() {
            let neighbours = self.links.iter().filter_map(|(a, b)| if *a == from { Some(*b) } else { (*b == from).then_some(*a) });
            let compares = matches!(effect, Effect::Send { .. });
            let (to, msg): (Vec<NodeId>, Msg) = match effect {
                Effect::Broadcast { msg, except } => (neighbours.filter(|n| Some(*n) != except).collect(), msg),
                Effect::Send { to, msg } => (vec![to], msg),
                Effect::Event(_) | Effect::Learned { .. } | Effect::Dropped { .. } => continue,
            };
            let bytes = msg.encode();
            assert!(bytes.len() <= limit::CHUNK, "{} bytes", bytes.len());
            for to in to {
                self.bytes += if compares { bytes.len() } else { 0 };
                let mut out = Vec::new();
                let msg = Msg::decode(&bytes).unwrap();
                self.nodes.get_mut(&to).unwrap().handle(at(ms), from, msg, &everybody, &mut out).unwrap();
                queue.extend(out.into_iter().map(|e| (to, e)));
            }
        }
    }
    fn link(&mut self, ms: u64, a: NodeId, b: NodeId) {
        self.links.push((a, b));
        for (me, other) in [(a, b), (b, a)] {
            let mut out = Vec::new();
            self.nodes.get_mut(&me).unwrap().link_up(at(ms), other, &mut out);
            self.run(ms, me, out);
        }
    }
    fn tick(&mut self, ms: u64) {
        let due: Vec<NodeId> =
            self.nodes.iter().filter(|(_, d)| d.next_timeout().is_some_and(|t| t <= at(ms).mono)).map(|(n, _)| *n).collect();
        for id in due {
            let mut out = Vec::new();
            self.nodes.get_mut(&id).unwrap().on_timeout(at(ms), &mut out);
            self.run(ms, id, out);
        }
    }
    fn agree(&self) -> bool {
        let first = self.nodes.values().next().unwrap().digest();
        self.nodes.values().all(|d| d.digest() == first)
    }
}

#[test]
fn the_newest_record_wins_whatever_the_order() {
    let mut d = directory(0);
    let older = {
        let mut r = record(1, 9);
        r.incarnation -= 1;
        signed(r, 1)
    };
    assert_eq!(events(&give(&mut d, 0, signed(record(1, 2), 1)).1), [Event::Joined { node: key(1).node_id() }]);
    let digest = d.digest();
    assert_eq!(give(&mut d, 0, signed(record(1, 1), 1)), (Ok(()), vec![]));
    assert_eq!(give(&mut d, 0, older), (Ok(()), vec![]));
    assert_eq!(d.digest(), digest);
    let mut renamed = record(1, 3);
    renamed.profile.name = "other".into();
    let (result, out) = give(&mut d, 0, signed(renamed, 1));
    assert_eq!((result, events(&out)), (Ok(()), vec![Event::Updated { node: key(1).node_id() }]));
    let (_, out) = give(&mut d, 0, {
        let mut r = record(1, 4);
        r.profile.name = "other".into();
        signed(r, 1)
    });
    assert!(events(&out).is_empty(), "a renewal is no change");
}

#[test]
fn two_records_signed_with_the_same_numbers_end_up_the_same_everywhere() {
    let (mut a, mut b) = (directory(0), directory(2));
    let one = signed(record(1, 1), 1);
    let two = {
        let mut r = record(1, 1);
        r.profile.name = "two".into();
        signed(r, 1)
    };
    for (d, order) in [(&mut a, [&one, &two]), (&mut b, [&two, &one])] {
        for item in order {
            give(d, 0, item.clone()).0.unwrap();
        }
    }
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn forged_foreign_late_and_future_records_are_refused_and_change_nothing() {
    let mut d = directory(0);
    let good = signed(record(1, 1), 1);
    let digest = d.digest();
    for i in 0..good.record.len() {
        let mut bad = good.clone();
        bad.record[i] ^= 1;
        assert!(give(&mut d, 0, bad).0.is_err(), "byte {i}");
    }
    let mut future = record(1, 1);
    future.created = Wall(START).after(limit::CLOCK_SKEW + Duration::from_secs(1));
    assert_eq!(give(&mut d, 0, signed(future, 1)).0, Err(Reject::Expired));
    let late = (LEASE_ONLINE + KEEP + limit::CLOCK_SKEW).as_millis() as u64 + 1;
    assert_eq!(give(&mut d, late, good.clone()).0, Err(Reject::Expired));
    assert_eq!(give(&mut d, 0, Item { age: u64::MAX, ..good.clone() }).0, Err(Reject::Expired));
    let other = Signed::sign(record(1, 1), &key(1), &DomainId::from_bytes([9; 32])).unwrap();
    assert_eq!(give(&mut d, 0, Item { age: 0, record: other.bytes().to_vec() }).0, Err(Reject::Forged));
    let stranger = |n: &NodeId| (*n != key(1).node_id()).then_some(Role::Participant);
    let msg = Msg::Records(vec![good.clone()]);
    assert_eq!(d.handle(at(0), key(2).node_id(), msg.clone(), &stranger, &mut Vec::new()), Err(Reject::Forbidden));
    assert_eq!(d.handle(at(0), key(1).node_id(), msg, &stranger, &mut Vec::new()), Err(Reject::Forbidden));
    assert_eq!(d.digest(), digest);
    give(&mut d, 0, good).0.unwrap();
}

#[test]
fn a_bad_record_in_a_list_does_not_take_the_others_with_it() {
    let mut d = directory(0);
    let mut bad = signed(record(1, 1), 1);
    bad.record[40] ^= 1;
    let msg = Msg::Records(vec![bad, signed(record(2, 1), 2)]);
    assert!(d.handle(at(0), key(3).node_id(), msg, &everybody, &mut Vec::new()).is_err());
    assert_eq!(d.len(), 1);
}

#[test]
fn the_lease_runs_out_the_record_is_kept_and_then_dropped() {
    let mut d = directory(0);
    give(&mut d, 0, signed(record(1, 1), 1)).0.unwrap();
    let lease = LEASE_ONLINE.as_millis() as u64;
    assert_eq!(status(&d, lease - 1, 1), Some(Status::Online));
    assert_eq!(status(&d, lease, 1), Some(Status::Down));
    let mut out = Vec::new();
    d.on_timeout(at(lease), &mut out);
    d.on_timeout(at(lease), &mut out);
    assert_eq!(events(&out).iter().filter(|e| **e == Event::Down { node: key(1).node_id() }).count(), 1);
    d.on_timeout(at(lease + KEEP.as_millis() as u64), &mut out);
    assert!(d.is_empty() && d.digest() == 0);
}

#[test]
fn age_on_the_way_counts_against_the_lease() {
    let mut d = directory(0);
    let (_, out) = give(&mut d, 0, Item { age: 70_000, ..signed(record(1, 1), 1) });
    assert_eq!((status(&d, 0, 1), events(&out)), (Some(Status::Down), vec![]));
    give(&mut d, 0, Item { age: 59_000, ..signed(record(2, 1), 2) }).0.unwrap();
    assert_eq!((status(&d, 999, 2), status(&d, 1_000, 2)), (Some(Status::Online), Some(Status::Down)));
}

#[test]
fn attack_a_record_from_before_its_node_left_does_not_bring_it_back() {
    let mut d = directory(0);
    let before = signed(record(1, 1), 1);
    give(&mut d, 0, before.clone()).0.unwrap();
    let left = Record { presence: Presence::Left, created: Wall(START + 10_000), ..record(1, 2) };
    give(&mut d, 10_000, signed(left, 1)).0.unwrap();
    let forgotten = 10_000 + (LEASE_ONLINE + KEEP).as_millis() as u64;
    d.on_timeout(at(forgotten), &mut Vec::new());
    assert!(d.is_empty());
    let (_, out) = give(&mut d, forgotten, before);
    assert_ne!(status(&d, forgotten, 1), Some(Status::Online));
    assert_eq!(events(&out), vec![]);
}

#[test]
fn who_does_not_answer_is_down_until_it_does_or_signs_a_higher_incarnation() {
    let mut d = directory(0);
    let (one, incarnation) = (key(1).node_id(), record(1, 1).incarnation);
    let mut out = Vec::new();
    let learnt = Effect::Learned { node: one, incarnation, presence: Presence::Online };
    assert!(give(&mut d, 0, signed(record(1, 1), 1)).1.contains(&learnt));
    d.condemn(at(0), one, incarnation - 1, &mut out);
    assert_eq!((status(&d, 0, 1), events(&out)), (Some(Status::Online), vec![]), "an earlier incarnation");
    d.condemn(at(0), one, incarnation, &mut out);
    assert_eq!((status(&d, 0, 1), events(&out)), (Some(Status::Down), vec![Event::Down { node: one }]));
    let (result, out) = give(&mut d, 10, signed(record(1, 2), 1));
    assert_eq!((result, events(&out), status(&d, 10, 1)), (Ok(()), vec![], Some(Status::Down)), "may have been signed before");
    let mut higher = record(1, 1);
    higher.incarnation += 1;
    assert_eq!(events(&give(&mut d, 20, signed(higher.clone(), 1)).1), [Event::Joined { node: one }]);
    let mut out = Vec::new();
    d.condemn(at(30), one, higher.incarnation, &mut out);
    d.absolve(at(40), one, &mut out);
    assert_eq!((status(&d, 40, 1), events(&out)), (Some(Status::Online), vec![Event::Down { node: one }, Event::Joined { node: one }]));
}

#[test]
fn the_own_incarnation_rises_above_the_one_accused_and_not_without_need() {
    let mut d = directory(1);
    let mut out = Vec::new();
    d.publish(at(0), named("one"), &mut out).unwrap();
    let own = d.get(at(0), &key(1).node_id(), &everybody).unwrap().incarnation;
    d.refute(at(1_000), own - 1, &mut out);
    assert_eq!(d.get(at(0), &key(1).node_id(), &everybody).unwrap().incarnation, own);
    d.refute(at(2_000), own, &mut out);
    assert_eq!(d.get(at(0), &key(1).node_id(), &everybody).unwrap().incarnation, own + 1);
    d.leave(at(3_000), &mut out);
    out.clear();
    d.refute(at(4_000), own + 1, &mut out);
    assert_eq!(out, [], "who left has nothing to refute");
}

#[test]
fn after_a_sleep_the_others_have_time_to_be_heard() {
    let mut d = directory(0);
    let mut out = Vec::new();
    d.publish(at(0), named("me"), &mut out).unwrap();
    give(&mut d, 0, signed(record(1, 1), 1)).0.unwrap();
    give(&mut d, 0, signed(record(2, 1), 2)).0.unwrap();
    out.clear();
    d.woke(at(120_000), &mut out);
    assert!(matches!(out[..], [Effect::Broadcast { .. }]), "this node says that it is here");
    d.on_timeout(at(120_000), &mut out);
    let down = |out: &[Effect]| events(out).into_iter().filter(|e| matches!(e, Event::Down { .. })).collect::<Vec<_>>();
    assert_eq!((status(&d, 120_000, 1), down(&out)), (Some(Status::Online), vec![]));
    give(&mut d, 121_000, signed(Record { created: Wall(START + 121_000), ..record(1, 2) }, 1)).0.unwrap();
    out.clear();
    d.on_timeout(at(120_000 + SPARED.as_millis() as u64), &mut out);
    assert_eq!(down(&out), [Event::Down { node: key(2).node_id() }], "it was gone while this process slept");
}

#[test]
fn who_is_heard_outlives_a_lease_that_was_not_renewed() {
    let mut d = directory(0);
    let lease = LEASE_ONLINE.as_millis() as u64;
    give(&mut d, 0, signed(record(1, 1), 1)).0.unwrap();
    give(&mut d, 0, signed(record(2, 1), 2)).0.unwrap();
    let (one, two) = (key(1).node_id(), key(2).node_id());
    assert!(d.expiring(at(lease - 1)).is_empty());
    assert_eq!(d.expiring(at(lease)).len(), 2);
    d.spare(at(lease), one);
    let mut out = Vec::new();
    let down = |out: &[Effect]| events(out).into_iter().filter(|e| matches!(e, Event::Down { .. })).collect::<Vec<_>>();
    d.on_timeout(at(lease), &mut out);
    assert_eq!(down(&out), [Event::Down { node: two }]);
    assert_eq!(status(&d, lease, 1), Some(Status::Online));
    d.spare(at(lease), two);
    assert_eq!(status(&d, lease, 2), Some(Status::Down), "who was told to be down comes back by a record");
    // A record that was long on its way takes nothing back.
    let late = Item { age: lease + 1, ..signed(Record { created: Wall(START + 1), ..record(1, 2) }, 1) };
    let (result, told) = give(&mut d, lease + 1, late);
    assert_eq!((result, events(&told).len(), status(&d, lease + 1, 1)), (Ok(()), 0, Some(Status::Online)));
    out.clear();
    d.on_timeout(at(lease + SPARED.as_millis() as u64), &mut out);
    assert_eq!(down(&out), [Event::Down { node: one }], "not for ever");
}

#[test]
fn own_record_is_renewed_suspended_and_ended() {
    let mut d = directory(0);
    let mut out = Vec::new();
    d.publish(at(0), named("Ann"), &mut out).unwrap();
    assert_eq!(said(&out), 1);
    d.publish(at(50), named("Ann"), &mut out).unwrap();
    assert_eq!(said(&out), 1, "nothing changed");
    d.publish(at(50), named("Bea"), &mut out).unwrap();
    assert_eq!((said(&out), d.next_timeout()), (1, Some(at(100).mono)), "not more often than the pace");
    d.on_timeout(at(100), &mut out);
    assert_eq!(said(&out), 2);
    assert_eq!(d.publish(at(500), named(&"x".repeat(65)), &mut out), Err(Reject::TooLarge));
    assert_eq!(d.get(at(500), &key(0).node_id(), &everybody).unwrap().name, "Bea");
    out.clear();
    d.on_timeout(at(20_100), &mut out);
    assert!(matches!(out[0], Effect::Broadcast { .. }), "renewed after a third of the lease");
    d.suspend(at(21_000), true, &mut out);
    assert_eq!(status(&d, 21_000, 0), Some(Status::Suspended));
    d.leave(at(22_000), &mut out);
    assert_eq!(status(&d, 22_000, 0), Some(Status::Left));
    out.clear();
    d.on_timeout(at(120_000), &mut out);
    assert!(!out.iter().any(|e| matches!(e, Effect::Broadcast { .. })), "nothing is signed after leaving");
    let mut other = directory(1);
    give(&mut other, 0, signed(record(5, 1), 5)).0.unwrap();
    let gone = {
        let mut r = record(5, 2);
        r.presence = Presence::Left;
        signed(r, 5)
    };
    assert_eq!(events(&give(&mut other, 0, gone).1), [Event::Left { node: key(5).node_id() }]);
}

#[test]
fn a_process_outbids_the_records_of_the_one_before_it() {
    let mut d = directory(1);
    let mut out = Vec::new();
    d.publish(at(0), named("new"), &mut out).unwrap();
    let old = {
        let mut r = record(1, 70);
        r.incarnation = START + 100_000;
        signed(r, 1)
    };
    let (result, out) = give(&mut d, 1_000, old.clone());
    assert!(result.is_ok() && matches!(&out[..], [Effect::Broadcast { .. }, Effect::Learned { .. }]));
    assert_eq!(give(&mut d, 1_100, old), (Ok(()), vec![]), "won already");
    assert_eq!(d.get(at(1_000), &key(1).node_id(), &everybody).unwrap().name, "new");
}

#[test]
fn essential_capabilities_are_reported_missing_and_back() {
    let mut d = directory(0);
    let mut out = Vec::new();
    d.on_timeout(at(0), &mut out);
    assert!(out.is_empty(), "not before the grace is over");
    assert_eq!(d.next_timeout(), Some(at(GRACE.as_millis() as u64).mono));
    d.on_timeout(at(5_000), &mut out);
    assert_eq!(events(&out), [Event::Degraded { capability: "data/store".into() }]);
    let with = |n, sequence, presence| {
        let mut r = record(n, sequence);
        (r.presence, r.profile.capabilities) = (presence, vec![Capability::new("data/store", 1)]);
        signed(r, n)
    };
    assert!(events(&give(&mut d, 5_000, with(1, 1, Presence::Online)).1).contains(&Event::Restored { capability: "data/store".into() }));
    assert_eq!(events(&give(&mut d, 5_000, with(2, 1, Presence::Online)).1), [Event::Joined { node: key(2).node_id() }]);
    assert_eq!(events(&give(&mut d, 5_000, with(1, 2, Presence::Left)).1), [Event::Left { node: key(1).node_id() }], "one is left");
    out.clear();
    d.forget(at(6_000), key(2).node_id(), &mut out);
    assert_eq!(events(&out), [Event::Left { node: key(2).node_id() }, Event::Degraded { capability: "data/store".into() }]);
}

#[test]
fn news_reaches_everybody_along_a_line_and_is_told_once() {
    let mut net = Net::new(0..5);
    let ids: Vec<NodeId> = net.nodes.keys().copied().collect();
    for id in &ids {
        let mut out = Vec::new();
        net.nodes.get_mut(id).unwrap().publish(at(0), named("here"), &mut out).unwrap();
    }
    for pair in ids.windows(2).chain(ids.windows(2)) {
        net.link(0, pair[0], pair[1]);
    }
    assert!(net.agree());
    let mut out = Vec::new();
    net.nodes.get_mut(&ids[0]).unwrap().publish(at(110), named("first"), &mut out).unwrap();
    net.run(110, ids[0], out);
    assert!(net.nodes.values().all(|d| d.get(at(110), &ids[0], &everybody).is_some_and(|p| p.name == "first")));
    let items = vec![signed(record(77, 1), 77)];
    let mut out = Vec::new();
    let d = net.nodes.get_mut(&ids[2]).unwrap();
    d.handle(at(10), ids[1], Msg::Records(items.clone()), &everybody, &mut out).unwrap();
    assert!(matches!(&out[..], [Effect::Learned { .. }, Effect::Event(_), Effect::Broadcast { except, .. }] if *except == Some(ids[1])));
    out.clear();
    d.handle(at(10), ids[3], Msg::Records(items), &everybody, &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn a_partition_heals_and_the_cost_is_proportional_to_the_difference() {
    let cost = |missing: u16| {
        let mut net = Net::new(0..2);
        let ids: Vec<NodeId> = net.nodes.keys().copied().collect();
        for n in 10..210 {
            let item = signed(record(n, 1), n);
            for (i, id) in ids.iter().enumerate() {
                if i == 0 || n >= 10 + missing {
                    give(net.nodes.get_mut(id).unwrap(), 0, item.clone()).0.unwrap();
                }
            }
        }
        net.link(0, ids[0], ids[1]);
        assert!(net.agree());
        net.bytes
    };
    let (none, one, ten, all) = (cost(0), cost(1), cost(10), cost(200));
    assert!(none < 700, "{none}");
    assert!(one < none + 1_200 && ten < none + 8 * 1_200, "{none} {one} {ten}");
    assert!(all < 200 * 250, "{all}: each record travels once, beside its summary");
}

/// Directories, the first among them a newcomer, of which the others hold the same 300 records; bytes that cross the links that come
/// up to the newcomer at once, until it has everything.
fn catching_up(neighbours: u16, newcomer: usize) -> usize {
    let mut net = Net::new(0..neighbours + 1);
    let ids: Vec<NodeId> = net.nodes.keys().copied().collect();
    for n in 100..400 {
        let item = signed(record(n, 1), n);
        for id in ids.iter().filter(|id| **id != ids[newcomer]) {
            give(net.nodes.get_mut(id).unwrap(), 0, item.clone()).0.unwrap();
        }
    }
    let mut out = VecDeque::new();
    for other in ids.iter().filter(|id| **id != ids[newcomer]) {
        net.links.push((ids[newcomer], *other));
        for (me, other) in [(ids[newcomer], *other), (*other, ids[newcomer])] {
            let mut effects = Vec::new();
            net.nodes.get_mut(&me).unwrap().link_up(at(0), other, &mut effects);
            out.extend(effects.into_iter().map(|e| (me, e)));
        }
    }
    net.run_all(0, out);
    for ms in (0..9_000).step_by(100) {
        net.tick(ms);
    }
    assert!(net.agree());
    net.bytes
}

#[test]
fn a_newcomer_with_many_neighbours_gets_everything_about_once() {
    for newcomer in [0, 6, 12] {
        let (one, many) = (catching_up(1, newcomer.min(1)), catching_up(12, newcomer));
        assert!(many < one * 3 / 2, "{many} bytes with twelve neighbours, {one} with one");
    }
}

#[test]
fn a_periodic_round_repairs_what_a_lost_broadcast_left() {
    let mut net = Net::new(0..4);
    let ids: Vec<NodeId> = net.nodes.keys().copied().collect();
    for a in 0..4 {
        for b in 0..a {
            net.link(0, ids[a], ids[b]);
        }
    }
    let mut lost = Vec::new();
    net.nodes.get_mut(&ids[1]).unwrap().publish(at(10), named("unheard"), &mut lost).unwrap();
    assert!(!net.agree());
    for ms in (0..15_000).step_by(100) {
        net.tick(ms);
    }
    assert!(net.agree());
}

#[test]
fn the_number_of_records_is_bounded_and_the_gone_make_room() {
    let mut d = directory(0);
    let total = u16::try_from(limit::RECORDS).unwrap();
    for n in 0..total {
        let mut r = record(n + 100, 1);
        if n == 5 {
            r.presence = Presence::Left;
        }
        give(&mut d, 0, signed(r, n + 100)).0.unwrap();
    }
    give(&mut d, 0, signed(record(50, 1), 50)).0.unwrap();
    assert_eq!(status(&d, 0, 105), None, "the one that left made room");
    assert_eq!(give(&mut d, 0, signed(record(51, 1), 51)).0, Err(Reject::Limit));
    assert_eq!(d.len(), limit::RECORDS);
}

#[test]
fn queries_are_ordered_and_leave_out_those_without_a_credential() {
    let mut d = directory(0);
    for n in 1..20 {
        let mut r = record(n, 1);
        r.profile.capabilities = vec![Capability::new(if n % 2 == 0 { "even" } else { "odd" }, 1)];
        give(&mut d, 0, signed(r, n)).0.unwrap();
    }
    let query = Query { capability: Some("even".into()), online: Some(true), ..Query::default() };
    let found = d.participants(at(0), &query, &everybody);
    assert!(found.len() == 9 && found.is_sorted_by_key(|p| p.node));
    let managers = |n: &NodeId| (*n == key(2).node_id()).then_some(Role::Manager);
    let found = d.participants(at(0), &query, &managers);
    assert!(found.len() == 1 && found[0].role == Role::Manager);
}

#[test]
fn attack_33_directory_decoders() {
    let mut rng = Rng::from_seed([5; 32]);
    let good = [
        Msg::Records(vec![signed(record(1, 1), 1)]),
        Msg::Digest(5),
        Msg::Buckets(vec![u64::MAX; 64]),
        Msg::Summaries { buckets: 7, entries: vec![msg::Summary { node: [1; 32], incarnation: 1, sequence: 2, hash: 3 }] },
        Msg::Want(vec![1; 64]),
    ];
    for msg in good {
        let bytes = msg.encode();
        assert_eq!(Msg::decode(&bytes), Ok(msg));
        assert_eq!(Msg::decode(&[&bytes[..], &[0]].concat()), Err(Reject::Malformed));
        for cut in 0..bytes.len() {
            assert!(Msg::decode(&bytes[..cut]).is_err());
        }
        for _ in 0..5_000 {
            let mut bad = bytes.clone();
            let i = rng.below(bad.len() as u64) as usize;
            bad[i] = rng.bytes::<1>()[0];
            if let Ok(msg) = Msg::decode(&bad) {
                let mut d = directory(0);
                let _ = d.handle(at(0), key(9).node_id(), msg, &everybody, &mut Vec::new());
            }
        }
    }
    assert_eq!(Msg::decode(&Msg::Buckets(vec![0; 63]).encode()), Err(Reject::Malformed));
    assert_eq!(Msg::decode(&Msg::Want(vec![0; 31]).encode()), Err(Reject::Malformed));
    assert_eq!(Msg::decode(&Msg::Want(vec![0; 32 * 129]).encode()), Err(Reject::TooLarge));
    // A list that claims 2^60 entries is refused without the memory for them.
    assert_eq!(Msg::decode(&[0x82, 0x00, 0x81, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0]), Err(Reject::Malformed));
    let bytes = signed(record(1, 1), 1).record;
    for cut in 0..bytes.len() {
        if let Ok(signed) = Signed::parse(&bytes[..cut]) {
            assert!(signed.verify(&DOMAIN).is_err());
        }
    }
}
