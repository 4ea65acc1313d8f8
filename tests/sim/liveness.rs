//! Who is alive, with the real peer: crashes, loss and throttled timers, partitions, sleep, quick returns, and members that lie.

use std::collections::{BTreeMap, BTreeSet};

use peerage::base::{NodeId, Rng};
use peerage::crypto::Role;
use peerage::peer::{Config, SavedDomain, To};
use peerage::proto::channel::Mode;
use peerage::proto::directory::{Query, Status};
use peerage::sim::{Conditions, Member};

use crate::village::{Village, profile, seconds};

#[test]
fn a_crash_is_known_to_all_within_fifteen_seconds() {
    // The links of the dead stay up: only its silence tells.
    let conditions = Conditions { loss: (5, 5), keep_alive: seconds(60), ..Conditions::default() };
    let mut all = Vec::new();
    for (seed, n) in [(1, 30), (2, 8)] {
        let mut v = Village::new(seed, n, conditions);
        for _ in 0..3 {
            let gone = v.nodes.remove(v.nodes.len() / 2);
            v.world.vanish(gone);
            let mut took = v.noticed(gone, 40);
            assert_eq!(took.len(), v.nodes.len(), "all notice");
            all.append(&mut took);
            assert!(v.downs().iter().all(|(_, of)| *of == gone), "and nobody else is suspected");
        }
    }
    all.sort_unstable();
    let (median, p99) = (all[all.len() / 2], all[(all.len() * 99).div_ceil(100) - 1]);
    println!("{} noticed a crash: median {median} ms, p99 {p99} ms, last {} ms", all.len(), all.last().unwrap());
    assert!(p99 <= 15_000, "{all:?}");
}

#[test]
fn nobody_alive_is_declared_down_in_an_hour_of_loss_with_throttled_timers() {
    let mut v = Village::new(3, 10, Conditions { loss: (20, 20), ..Conditions::default() });
    let throttled = v.nodes[4];
    v.world.throttle(throttled, seconds(60));
    let before = v.spent();
    v.world.run(seconds(3_600));
    assert_eq!(v.downs(), BTreeSet::new());
    assert!(v.agree(1).is_some());
    let rates: Vec<u64> = v.spent().iter().zip(before).map(|(a, b)| (a - b) / 3_600).collect();
    println!("the detectors sent {rates:?} bytes/s");
    assert!(rates.iter().all(|r| *r < 1_024), "{rates:?}");
}

#[test]
fn after_a_partition_each_side_sees_itself_and_then_all_again() {
    let mut v = Village::new(4, 20, Conditions::default());
    let away: BTreeMap<NodeId, u32> = v.nodes[10..].iter().map(|n| (*n, 1)).collect();
    v.world.net().partition(away);
    v.world.run(seconds(120));
    for node in &v.nodes {
        assert_eq!(v.online(*node), 10);
    }
    v.world.net().heal();
    let took = v.agree(60);
    println!("healed after {took:?} ms");
    assert!(took.is_some_and(|ms| ms <= 10_000), "{took:?}");
    v.downs();
    v.world.run(seconds(60));
    assert_eq!(v.downs(), BTreeSet::new(), "and stays healed");
}

#[test]
fn what_was_said_during_a_short_partition_is_refuted_after_it() {
    // Its links outlive it, so that nobody greets anybody anew: the suspicions that began meanwhile go on.
    let conditions = Conditions { loss: (5, 5), keep_alive: seconds(60), ..Conditions::default() };
    let mut v = Village::new(6, 40, conditions);
    let away: BTreeMap<NodeId, u32> = v.nodes[20..].iter().map(|n| (*n, 1)).collect();
    v.world.net().partition(away);
    v.world.run(seconds(6));
    v.world.net().heal();
    v.world.run(seconds(10));
    assert!(v.agree(5).is_some());
    v.downs();
    v.world.run(seconds(60));
    assert_eq!(v.downs(), BTreeSet::new(), "and stays healed");
}

#[test]
fn attack_false_suspicions_take_nobody_down() {
    // Two of twenty, in a partial mesh in which most must believe others.
    let mut v = Village::new(5, 20, Conditions { loss: (5, 5), ..Conditions::default() });
    let domain = v.domain;
    let liars = [v.nodes[3], v.nodes[12]];
    for liar in liars {
        v.world.act(liar, |m, now| m.corrupt(now, domain, Rng::from_seed([9; 32])));
    }
    let before = v.spent();
    v.world.run(seconds(180));
    // What the two think, and what becomes of them, is their affair.
    let of_the_honest: Vec<_> = v.downs().into_iter().filter(|(by, of)| ![by, of].iter().any(|n| liars.contains(n))).collect();
    assert_eq!(of_the_honest, []);
    let honest = |(i, rate): (usize, u64)| (i != 3 && i != 12).then_some(rate);
    let rates: Vec<u64> = v.spent().iter().zip(before).map(|(a, b)| (a - b) / 180).enumerate().filter_map(honest).collect();
    println!("honest detectors sent {rates:?} bytes/s under attack");
    assert!(rates.iter().all(|r| *r < 5_120), "{rates:?}");
    // A real crash is seen none the less.
    let gone = v.nodes.remove(7);
    v.world.vanish(gone);
    v.nodes.retain(|n| !liars.contains(n));
    let took = v.noticed(gone, 40);
    println!("a crash meanwhile was noticed after {took:?} ms");
    assert_eq!(took.len(), v.nodes.len());
}

#[test]
fn who_sleeps_is_suspended_and_who_wakes_blames_nobody() {
    let mut v = Village::new(6, 6, Conditions::default());
    let sleeper = v.nodes[2];
    v.world.act(sleeper, |p, now| p.suspend(now, true));
    v.world.run(seconds(1));
    let others: Vec<NodeId> = v.nodes.iter().copied().filter(|n| *n != sleeper).collect();
    for by in &others {
        assert_eq!(v.status(*by, sleeper), Some(Status::Suspended));
    }
    // Frozen whole, and its links die.
    v.world.freeze(sleeper);
    v.world.net().partition(BTreeMap::from([(sleeper, 1)]));
    v.world.run(seconds(60));
    for by in &others {
        assert_eq!(v.status(*by, sleeper), Some(Status::Suspended), "those asleep need not answer");
    }
    v.world.run(seconds(180));
    for by in &others {
        assert_eq!(v.status(*by, sleeper), Some(Status::Down), "its lease is over");
    }
    v.downs();
    v.world.net().heal();
    v.world.thaw(sleeper);
    v.world.act(sleeper, |p, now| p.suspend(now, false));
    let took = v.agree(30);
    println!("awake for all after {took:?} ms");
    assert!(took.is_some_and(|ms| ms <= 10_000), "{took:?}");
    v.world.run(seconds(60));
    assert_eq!(v.downs(), BTreeSet::new(), "the sleeper blames nobody, nor do the others it");
}

#[test]
fn who_was_frozen_without_a_word_comes_back_by_itself() {
    let mut v = Village::new(7, 6, Conditions { keep_alive: seconds(600), ..Conditions::default() });
    let frozen = v.nodes[1];
    v.world.freeze(frozen);
    let took = v.noticed(frozen, 30);
    assert!(took.len() >= v.nodes.len() - 1, "the others take it for down: {took:?}");
    v.world.run(seconds(120));
    v.downs();
    v.world.thaw(frozen);
    let took = v.agree(30);
    println!("back after {took:?} ms");
    assert!(took.is_some_and(|ms| ms <= 3_000), "{took:?}");
    v.world.run(seconds(60));
    assert_eq!(v.downs(), BTreeSet::new());
}

#[test]
fn a_clean_close_is_seen_at_once() {
    let mut v = Village::new(8, 8, Conditions::default());
    let gone = v.nodes.remove(3);
    v.world.act(gone, |p, now| p.close(now));
    v.world.run(seconds(1));
    for by in &v.nodes {
        assert_eq!(v.status(*by, gone), Some(Status::Left));
    }
    v.world.run(seconds(60));
    assert_eq!(v.downs(), BTreeSet::new());
}

#[test]
fn members_that_know_no_address_find_each_other_and_nobody_else_finds_them() {
    let mut v = Village::new(10, 5, Conditions::default());
    let domain = v.domain;
    let evicted = v.nodes.remove(3);
    let kept = |v: &Village, node| v.world.look(node, |p, now| (p.key.clone(), p.save_domain(now, domain).unwrap()));
    let before = kept(&v, evicted);
    v.world.act(v.nodes[0], |p, now| p.evict(now, domain, evicted)).unwrap();
    v.world.run(seconds(2));

    let all: Vec<_> = v.nodes.iter().map(|n| kept(&v, *n)).chain([before]).collect();
    for node in v.nodes.iter().chain([&evicted]) {
        v.world.vanish(*node);
    }
    v.world.run(seconds(60));
    for (i, (key, saved)) in all.into_iter().enumerate() {
        let node = key.node_id();
        v.world.bring(key, false, 0, |_, key, seed| Member::new(Config::browser(), key, seed));
        let (saved, relay) = (SavedDomain { contacts: Vec::new(), ..saved }, v.relay.clone());
        v.world.act(node, |p, now| {
            p.use_relay(now, &relay).unwrap();
            p.open_domain(now, &saved, Role::Participant, profile("back")).unwrap();
        });
        v.world.run(seconds(20 * (i as u64 % 2)));
    }
    let took = v.agree(30);
    println!("all found after {took:?} ms");
    assert!(took.is_some_and(|ms| ms <= 5_000), "{took:?}");

    // The one that does not know it was evicted asks and asks.
    v.world.run(seconds(120));
    assert_eq!(v.online(evicted), 1, "nobody answered it");
    assert!(v.agree(1).is_some(), "nor let it in");
}

#[test]
fn what_was_sent_to_somebody_who_is_back_soon_arrives() {
    let mut v = Village::new(11, 6, Conditions::default());
    let (domain, node, from) = (v.domain, v.nodes[4], v.nodes[1]);
    let open = |v: &mut Village, n| v.world.act(n, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
    let out = open(&mut v, from);
    let (key, saved) = v.world.look(node, |p, now| (p.key.clone(), p.save_domain(now, domain).unwrap()));
    v.world.vanish(node);
    // To one who is gone, and to another one: that this one gets it ends the send.
    let to = To::Some(vec![node, v.nodes[0]]);
    v.world.act(from, |p, now| p.send(now, domain, out, to, "for later".into(), None)).unwrap();
    let down = v.world.run_until(seconds(30), |w| {
        w.look(from, |p, now| p.participants(now, domain, &Query::default()))
            .unwrap()
            .iter()
            .any(|p| p.node == node && p.presence == Status::Down)
    });
    assert!(down, "it is taken for down");
    v.world.run(seconds(4));
    v.world.bring(key, false, 0, |_, key, seed| Member::new(Config::browser(), key, seed));
    let relay = v.relay.clone();
    v.world.act(node, |p, now| {
        p.use_relay(now, &relay).unwrap();
        p.open_domain(now, &saved, Role::Participant, profile("back")).unwrap();
    });
    let into = open(&mut v, node);
    let heard = v.world.run_until(seconds(20), |w| w.act(node, |p, now| p.receive(now, domain, into)).is_some());
    assert!(heard, "and it gets what was sent while it was away");
}

#[test]
fn who_returns_at_once_is_there_once() {
    // Its old links look alive to the others for a minute.
    let mut v = Village::new(9, 8, Conditions { keep_alive: seconds(60), ..Conditions::default() });
    let node = v.nodes[5];
    let (key, saved) = v.world.look(node, |p, now| (p.key.clone(), p.save_domain(now, v.domain).unwrap()));
    for pause in [1, 8, 25] {
        v.world.vanish(node);
        v.world.run(seconds(pause));
        v.world.bring(key.clone(), false, 0, |_, key, seed| Member::new(Config::browser(), key, seed));
        let relay = v.relay.clone();
        v.world.act(node, |p, now| {
            p.use_relay(now, &relay).unwrap();
            p.open_domain(now, &saved, Role::Participant, profile("back")).unwrap();
        });
        let took = v.agree(60);
        println!("back after {pause} s: seen by all after {took:?} ms");
        assert!(took.is_some_and(|ms| ms <= 3_000), "{took:?}");
        for (from, to) in [(v.nodes[0], node), (node, v.nodes[0])] {
            let took = v.tell(from, to);
            println!("and hears after {took:?} ms");
            assert!(took.is_some_and(|ms| ms <= 2_000), "what is sent does not go to where it was before: {took:?}");
        }
        v.downs();
        v.world.run(seconds(90));
        assert_eq!(v.downs(), BTreeSet::new(), "and no ghost of it goes down later");
        assert!(v.agree(1).is_some());
    }
}
