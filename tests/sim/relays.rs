//! Relays die, one after the other, with the real peer.

use std::time::Duration;

use peerage::base::NodeId;
use peerage::peer::{Config, LinkEvent, Output, Path, To};
use peerage::proto::channel::Mode;
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

/// Whoever answers a newcomer may be where no way leads any more, or say so out of malice: others are asked.
#[test]
fn whoever_answers_a_newcomer_and_is_not_reached_does_not_keep_it_out() {
    let mut v = Village::new(24, 4, Conditions::default());
    let reached = v.nodes[3];
    for node in &v.nodes[..3] {
        v.world.act(*node, |p, now| p.handle(now, LinkEvent::Addresses(vec!["/ip4/192.0.2.1/tcp/1".into()])));
    }
    for i in 0..4 {
        let node = v.world.add(false, 0, |_, key, seed| Member::new(Config::browser(), key, seed)).0;
        v.world.act(node, |p, now| p.join(now, v.link.clone(), profile("late"))).unwrap();
        let joined = v.world.run_until(seconds(30), |w| w.look(node, |p, now| p.online(now, v.domain)).is_ok_and(|n| n > 1));
        assert!(joined, "newcomer {i}");
        let result =
            v.world.outputs(node).into_iter().find_map(|o| if let Output::Joined { result, .. } = o { Some(result) } else { None });
        assert_eq!(result.map(|r| r.map_err(|e| e.code())), Some(Ok(())), "newcomer {i}");
        // Not one that the next newcomer could find.
        v.world.crash(node);
        v.world.run(seconds(60));
        assert!(v.world.look(reached, |p, now| p.online(now, v.domain)).is_ok_and(|n| n == 4));
    }
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

/// A native node cannot be told how to reach a browser that no relay leads to. It asks it to dial.
#[test]
fn without_a_relay_who_cannot_dial_a_browser_is_dialled_by_it() {
    let mut v = Village::new(25, 18, Conditions::default());
    let natives: Vec<NodeId> = (0..2)
        .map(|_| {
            let node = v.world.add(false, 0, |_, key, seed| Member::new(Config::native(), key, seed)).0;
            v.world.net().listen(node);
            v.world.act(node, |p, now| p.join(now, v.link.clone(), profile("native"))).unwrap();
            node
        })
        .collect();
    v.nodes.extend(&natives);
    assert!(v.agree(120).is_some());
    v.world.run(seconds(90));
    for (relay, _) in v.relays.drain(..) {
        v.world.crash(relay);
    }
    v.world.run(seconds(10));
    let linked = |v: &Village, a, b| v.world.look(a, |p, now| p.links(now, Some(v.domain))).iter().any(|l| l.node == b && l.path.is_some());
    for from in natives {
        let strangers: Vec<NodeId> = v.nodes.iter().copied().filter(|to| *to != from && !linked(&v, from, *to)).take(3).collect();
        assert!(!strangers.is_empty());
        for to in strangers {
            let took = v.tell(from, to);
            println!("linked and heard {took:?} ms after it was said");
            assert!(took.is_some_and(|ms| ms <= 15_000), "{took:?}");
        }
    }
    assert_eq!(v.downs(), Default::default());
    assert!(v.agree(1).is_some());
}

/// A message that takes most of a minute, with others before and behind it, while the way between the two becomes direct and is relayed again.
#[test]
fn a_long_message_under_way_outlives_two_changes_of_the_path() {
    let relayed = Conditions { direct: false, rate: 20, ..Conditions::default() };
    let mut v = Village::new(23, 2, relayed);
    let (domain, from, to) = (v.domain, v.nodes[0], v.nodes[1]);
    let path = |v: &Village, a: NodeId, b: NodeId| {
        let links = v.world.look(a, |p, now| p.links(now, Some(v.domain)));
        links.iter().find(|l| l.node == b).and_then(|l| l.path)
    };
    let open = |v: &mut Village, n| v.world.act(n, |p, now| p.channel(now, domain, "files", Mode::Reliable)).unwrap();
    let (out, into) = (open(&mut v, from), open(&mut v, to));
    // No part of it is like another, so that none can stand for another.
    let long: Vec<u8> = (0..800_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let said = [b"before".to_vec(), long, b"behind".to_vec()];
    for message in &said {
        v.world.act(from, |p, now| p.send(now, domain, out, To::Some(vec![to]), message.clone(), None)).unwrap();
    }
    let mut heard = Vec::new();
    let mut hear = |v: &mut Village| {
        while let Some(message) = v.world.act(to, |p, now| p.receive(now, domain, into)) {
            heard.push(message.payload);
        }
        heard.len()
    };
    // Far enough that the message is under way, and not through.
    let under_way = |v: &mut Village, more: u64| {
        let start = v.world.net().bytes(&to);
        assert!(v.world.run_until(seconds(30), |w| w.net().bytes(&to) > start + more), "it goes on");
    };
    under_way(&mut v, 100_000);
    assert_eq!((path(&v, from, to), hear(&mut v)), (Some(Path::Relayed), 1));

    v.world.net().set_conditions(Conditions { direct: true, ..relayed });
    let both = |v: &Village, is| path(v, from, to) == Some(is) && path(v, to, from) == Some(is);
    for node in [from, to] {
        v.world.act(node, |p, now| p.wake(now));
    }
    let mut took = 0;
    while !both(&v, Path::Direct) {
        v.world.run(Duration::from_millis(50));
        took += 50;
        assert!(took <= 10_000, "there is a direct way");
    }
    // Past the moment at which the relayed link is closed; not for a second does it stand still. While both links are up, more comes
    // than one of them carries: what was queued on the old one arrives too.
    for second in 0..8 {
        let before = v.world.net().bytes(&to);
        v.world.run(seconds(1));
        let came = v.world.net().bytes(&to) - before;
        assert!(came >= if second < 3 { 22_000 } else { 10_000 }, "{came} bytes in second {second}");
    }
    assert_eq!((path(&v, from, to), hear(&mut v)), (Some(Path::Direct), 1), "and it is still under way");

    // Back to the relay: what was on its way directly is lost.
    v.world.net().set_conditions(relayed);
    v.world.net().cut(from, to);
    v.world.run(seconds(6));
    assert_eq!(hear(&mut v), 1, "and still");
    let start = v.world.now();
    let done = v.world.run_until(seconds(90), |w| {
        while let Some(message) = w.act(to, |p, now| p.receive(now, domain, into)) {
            heard.push(message.payload);
        }
        heard.len() >= 3
    });
    assert!(done, "all of it arrives");
    println!("{took} ms to a direct link; the rest {} ms after that one was gone", v.world.now() - start);
    assert_eq!(path(&v, from, to), Some(Path::Relayed));
    v.world.run(seconds(20));
    while let Some(message) = v.world.act(to, |p, now| p.receive(now, domain, into)) {
        heard.push(message.payload);
    }
    assert!(heard == said, "once, whole, in order: {:?}", heard.iter().map(Vec::len).collect::<Vec<_>>());
    let mut sent = v.world.outputs(from);
    sent.retain(|o| matches!(o, Output::Sent { .. }));
    assert!(sent.len() == 3 && sent.iter().all(|o| matches!(o, Output::Sent { missed, .. } if missed.is_empty())), "{sent:?}");
}
