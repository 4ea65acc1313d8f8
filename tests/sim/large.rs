//! Domains with more participants than anybody is linked with: the degree stays bounded, what one says to all reaches all, what
//! one says to one finds its way, and quiet is cheap.

use std::time::Duration;

use peerage::base::{NodeId, limit};
use peerage::peer::To;
use peerage::sim::{Conditions, Town};

fn town(n: usize, conditions: Conditions, seed: u64) -> Town {
    let mut town = Town::new(seed, conditions);
    town.crowd(n - 1).unwrap_or_else(|code| panic!("one of {n}: {code}"));
    assert!(town.agree(Duration::from_secs(60)), "{n} agree on who is here");
    // What was linked while the domain was small, and is not needed any more, is let go, and nobody is suspected for it.
    let before = town.incarnations();
    town.world.run(Duration::from_secs(90));
    let refuted = town.incarnations().iter().filter(|(node, at)| before[node] != **at).count();
    // Whose goodbye was overtaken by the end of its link may be doubted.
    assert!(refuted <= n * usize::from(conditions.reorder) / 100, "{refuted} of {n} had to say that they are there");
    town
}

fn degrees(town: &Town) -> Vec<usize> {
    town.participants.iter().map(|n| town.world.look(*n, |p, now| p.stats(now, town.domain)).unwrap().linked as usize).collect()
}

/// Bytes per second that reach a participant while nobody does anything.
fn idle(town: &mut Town) -> u64 {
    let nodes = town.participants.clone();
    let sum = |town: &mut Town| nodes.iter().map(|n| town.world.net().bytes(n)).sum::<u64>();
    let before = sum(town);
    town.world.run(Duration::from_secs(60));
    (sum(town) - before) / 60 / nodes.len() as u64
}

fn story(n: usize, conditions: Conditions) {
    let mut town = town(n, conditions, n as u64);
    let degrees = degrees(&town);
    let (most, sum) = (*degrees.iter().max().unwrap(), degrees.iter().sum::<usize>());
    assert!(most <= 2 * limit::DEGREE, "{degrees:?}");
    println!("{n} participants: linked with {:.1} on average, {most} at most; idle {} B/s each", sum as f64 / n as f64, idle(&mut town));

    town.all_talk(1, Duration::from_secs(60));

    // One to one without a link: one is sought, used, and let go.
    let linked = |town: &Town, a: NodeId, b: NodeId| {
        town.world.look(a, |p, now| p.links(now, Some(town.domain))).iter().any(|l| l.node == b && l.path.is_some())
    };
    let from = town.participants[0];
    let to = *town.participants.iter().rfind(|p| **p != from && !linked(&town, from, **p)).expect("not linked with all");
    town.say(from, To::Some(vec![to]), "between us");
    let domain = town.domain;
    assert!(town.world.run_until(Duration::from_secs(20), |w| {
        w.look(from, |p, now| p.links(now, Some(domain))).iter().any(|l| l.node == to && l.path.is_some())
    }));
    town.world.run(Duration::from_secs(5));
    assert_eq!(town.heard(to), [(from, "between us".into())]);
    town.world.run(Duration::from_secs(180));
    assert!(!linked(&town, from, to), "the link was for that message");
    assert!(town.agree(Duration::from_secs(1)), "letting a link go says nothing about who is there");

    // One leaves, and all know.
    let leaver = town.participants.pop().unwrap();
    town.world.act(leaver, |p, now| p.leave(now, domain)).unwrap();
    assert!(town.agree(Duration::from_secs(20)), "it is seen to leave");

    // A tenth of them vanish; what is said meanwhile reaches everybody else.
    for _ in 0..n / 10 {
        let gone = town.participants.remove(1);
        town.world.crash(gone);
    }
    town.all_talk(2, Duration::from_secs(60));
    // Most are within seconds; at the latest when their leases are over, three seconds for each of the records and more.
    assert!(town.agree(Duration::from_secs(60 + 6 * n as u64)), "they are missed");
}

#[test]
fn forty_over_a_mesh_with_one_frame_in_twenty_lost() {
    story(40, Conditions { loss: (5, 0), reorder: 5, ..Conditions::default() });
}

#[test]
fn a_hundred_over_a_mesh() {
    story(100, Conditions::default());
}
