//! When a member that does not answer is dialled again.

use alloc::{vec, vec::Vec};

use super::*;
use crate::base::{Code, Wall};
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, LinkEvent, Output, Profile};

const RELAY: &str = "/ip4/127.0.0.1/tcp/9611/ws/p2p/";
/// What looks at dials comes every so often, milliseconds.
const TICK: u64 = 500;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(1_800_000_000_000 + ms) }
}

fn id(n: u8) -> NodeId {
    SigningKey::from_seed(&[n; 32]).node_id()
}

fn relay() -> String {
    alloc::format!("{RELAY}{}", id(3))
}

/// A participant that knows where a member was, and a relay.
fn seeking(seed: u8) -> Peer {
    let mut peer = Peer::new(Config::browser(), SigningKey::from_seed(&[1; 32]), [seed; 32]);
    peer.use_relay(at(0), &relay()).unwrap();
    let profile = Profile { name: "one".into(), capabilities: Vec::new() };
    let domain = peer.create_domain(at(0), "place", &[], profile).unwrap();
    peer.domains.get_mut(&domain).unwrap().contacts.insert(id(2), vec!["/ip4/127.0.0.1/tcp/1".into()]);
    peer
}

/// Lets time pass; when the member was dialled. Each dial fails as soon as it is made, if it does.
fn dials(peer: &mut Peer, from: u64, to: u64, fails: bool) -> Vec<u64> {
    let (mut now, mut when) = (from, Vec::new());
    loop {
        while let Some(output) = peer.poll_output() {
            if matches!(&output, Output::Link(LinkCommand::Dial { node, .. }) if *node == id(2)) {
                when.push(now);
                if fails {
                    peer.handle(at(now), LinkEvent::DialFailed { node: id(2), code: Code::Unreachable, reason: "nobody".into() });
                }
            }
        }
        let next = peer.next_timeout().map_or(to, |next| next.0.max(now + 1));
        if next > to {
            return when;
        }
        now = next;
        peer.on_timeout(at(now));
    }
}

#[test]
fn a_way_through_a_relay_is_told_however_many_direct_ones_there_are() {
    let direct: Vec<String> = (0..10).map(|n| alloc::format!("/ip4/192.0.2.{n}/tcp/1")).collect();
    let circuits: Vec<String> = (0..3).map(|n| alloc::format!("{RELAY}{n}/p2p-circuit")).collect();
    let all = [&direct[..], &circuits[..]].concat();
    let chosen = told(&all, (8, 4_096));
    assert_eq!(chosen, [&circuits[..2], &direct[..6]].concat());
    assert_eq!(told(&all[8..], (8, 4_096)), [&circuits[..2], &direct[8..], &circuits[2..]].concat());
    assert_eq!(told(&all, (8, circuits[0].len() * 2)), circuits[..2]);
    assert_eq!(told(&["x".repeat(limit::ADDRESS + 1)], (8, 4_096)), Vec::<String>::new());
}

/// One that was not answered often, two seconds after it dialled last: it means to wait for half a minute at least.
fn waiting(seed: u8) -> (Peer, u64) {
    let now = dials(&mut seeking(seed), 0, 400_000, true).last().unwrap() + 2_000;
    let mut peer = seeking(seed);
    dials(&mut peer, 0, now, true);
    (peer, now)
}

fn waits(when: &[u64]) -> Vec<u64> {
    when.windows(2).map(|w| w[1] - w[0]).collect()
}

#[test]
fn who_does_not_answer_is_dialled_after_three_seconds_then_twice_as_long_up_to_a_minute_half_at_random() {
    let full = [3_000, 6_000, 12_000, 24_000, 48_000, 60_000, 60_000, 60_000];
    let mut all: Vec<Vec<u64>> = vec![Vec::new(); full.len()];
    for seed in 1..=40 {
        let when = dials(&mut seeking(seed), 0, 600_000, true);
        assert!(when[0] <= TICK, "at once, first: {when:?}");
        let waits = waits(&when);
        for (list, wait) in all.iter_mut().zip(&waits) {
            list.push(*wait);
        }
        assert!(waits.iter().skip(full.len()).all(|w| (30_000..=60_000 + TICK).contains(w)), "and so on: {waits:?}");
    }
    for (waits, full) in all.iter().zip(full) {
        assert_eq!(waits.len(), 40);
        assert!(waits.iter().all(|w| (full / 2..=full + TICK).contains(w)), "{full}: {waits:?}");
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least < full * 5 / 8 + TICK && *most > full * 7 / 8, "half of it is at random: {full}: {waits:?}");
    }
}

#[test]
fn it_is_dialled_at_once_when_a_relay_is_back_or_the_tab_wakes() {
    type Good = fn(&mut Peer, u64);
    let good: [(&str, Good); 4] = [
        ("a relay is back", |p, now| p.handle(at(now), LinkEvent::Relay { address: relay(), up: true })),
        ("the tab is seen again", |p, now| {
            p.suspend(at(now), true);
            p.suspend(at(now), false);
        }),
        ("the network is another", |p, now| p.wake(at(now))),
        ("an address is gone", |p, now| {
            p.handle(at(now), LinkEvent::Addresses(vec!["/ip4/10.0.0.1/tcp/1".into()]));
            p.handle(at(now), LinkEvent::Addresses(vec!["/ip4/10.0.0.2/tcp/1".into()]));
        }),
    ];
    for (what, good) in good {
        let (mut peer, now) = waiting(9);
        good(&mut peer, now);
        let after = dials(&mut peer, now, now + 20_000, true);
        assert!(after.first().is_some_and(|t| *t <= now + 1_000 + TICK), "{what}: {after:?} from {now}");
        let waits = waits(&after);
        assert!(
            (1_500..=3_000 + TICK).contains(&waits[0]) && (3_000..=6_000 + TICK).contains(&waits[1]),
            "{what}: from the start: {waits:?}"
        );
    }
    // What is no good news hurries nothing.
    let bad: [(&str, Good); 2] = [
        ("a relay is down", |p, now| p.handle(at(now), LinkEvent::Relay { address: relay(), up: false })),
        ("another's relay is up", |p, now| {
            p.handle(at(now), LinkEvent::Relay { address: alloc::format!("{RELAY}{}", id(4)), up: true });
        }),
    ];
    for (what, bad) in bad {
        let (mut peer, now) = waiting(9);
        bad(&mut peer, now);
        assert_eq!(dials(&mut peer, now, now + 25_000, true), Vec::<u64>::new(), "{what}");
    }
}

#[test]
fn a_dial_under_way_is_not_begun_again() {
    let mut peer = seeking(1);
    assert_eq!(dials(&mut peer, 0, 100_000, false).len(), 1);
    peer.wake(at(100_000));
    assert_eq!(dials(&mut peer, 100_000, 200_000, false), Vec::<u64>::new());
    peer.handle(at(200_000), LinkEvent::DialFailed { node: id(2), code: Code::Unreachable, reason: "nobody".into() });
    assert_eq!(dials(&mut peer, 200_000, 300_000, false).len(), 1);
}
