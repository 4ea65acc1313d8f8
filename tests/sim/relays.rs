//! Relays die, one after the other, with the real peer.

use peerage::peer::{Config, Output};
use peerage::sim::{Conditions, Member};

use crate::village::{Village, profile, seconds};

#[test]
fn while_one_of_three_relays_lives_everybody_is_reached_and_newcomers_join() {
    // Nobody is reached directly: every link needs a relay.
    let mut v = Village::with_relays(21, 6, Conditions { direct: false, ..Conditions::default() }, 3);
    for round in 0..3 {
        let (from, to) = (v.nodes[round], v.nodes[5 - round]);
        let took = v.tell(from, to);
        assert!(took.is_some_and(|ms| ms <= 1_000), "{took:?}");
        let (dead, _) = v.relays.remove(0);
        v.world.crash(dead);
        if v.relays.is_empty() {
            break;
        }
        let took = v.tell(from, to);
        println!("heard {took:?} ms after a relay died");
        assert!(took.is_some_and(|ms| ms <= 15_000), "{took:?}");

        // The link names the dead ones first.
        let node = v.world.add(false, 0, |_, key, seed| Member::new(Config::browser(), key, seed)).0;
        v.world.act(node, |p, now| p.join(now, v.link.clone(), profile("late"))).unwrap();
        v.nodes.push(node);
        let took = v.agree(60);
        println!("a newcomer is there after {took:?} ms");
        assert!(took.is_some_and(|ms| ms <= 15_000), "{took:?}");
        assert!(v.world.outputs(node).iter().any(|o| matches!(o, Output::Joined { result: Ok(()), .. })));
    }
    // Without any they are alone.
    let all = v.nodes.clone();
    let alone = v.world.run_until(seconds(60), |w| all.iter().all(|n| w.look(*n, |p, now| p.online(now, v.domain)).ok() == Some(1)));
    assert!(alone);
}

/// Of twenty not everybody is linked with everybody. Whoever is linked to two carries what they need for a link of their own.
#[test]
fn without_a_relay_links_still_grow() {
    let mut v = Village::new(22, 20, Conditions::default());
    v.world.run(seconds(90));
    for (relay, _) in v.relays.drain(..) {
        v.world.crash(relay);
    }
    v.world.run(seconds(10));
    let linked = |v: &Village, a, b| v.world.look(a, |p, now| p.links(now, Some(v.domain))).iter().any(|l| l.node == b && l.path.is_some());
    let from = v.nodes[0];
    for to in v.nodes.iter().copied().filter(|to| *to != from && !linked(&v, from, *to)).take(4).collect::<Vec<_>>() {
        let took = v.tell(from, to);
        println!("linked and heard {took:?} ms after it was said");
        assert!(took.is_some_and(|ms| ms <= 10_000), "{took:?}");
        assert!(linked(&v, from, to));
    }
    assert_eq!(v.downs(), Default::default());
    assert!(v.agree(1).is_some());
}
