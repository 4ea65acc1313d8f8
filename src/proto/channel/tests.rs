//! The machine against a wire that loses, repeats and reorders, and against hostile bytes.

use alloc::{collections::BTreeMap, vec::Vec};
use proptest::prelude::*;

use super::*;
use crate::base::{Code, Mono, Now, Reject, Rng, Wall};

fn node(i: usize) -> NodeId {
    NodeId::from_public_key([i as u8 + 1; 32])
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(1_000_000 + ms) }
}

fn machine(i: usize, seed: u8) -> Channels {
    Channels::new(Config::default(), node(i), Rng::from_seed([seed; 32]))
}

/// A payload on the way, on one lane of one pair.
struct Wire {
    from: usize,
    to: usize,
    payload: Vec<u8>,
}

struct Faults {
    lose: u64,
    repeat: u64,
    reorder: u64,
}

const NONE: Faults = Faults { lose: 0, repeat: 0, reorder: 0 };

struct World {
    now: u64,
    peers: Vec<Channels>,
    wires: Vec<Wire>,
    up: BTreeMap<(usize, usize), bool>,
    rng: Rng,
    done: BTreeMap<(usize, SendId), bool>,
    carried: usize,
}

impl World {
    fn new(n: usize, seed: u8) -> World {
        World {
            now: 0,
            peers: (0..n).map(|i| machine(i, seed.wrapping_add(i as u8))).collect(),
            wires: Vec::new(),
            up: BTreeMap::new(),
            rng: Rng::from_seed([seed; 32]),
            done: BTreeMap::new(),
            carried: 0,
        }
    }

    fn now(&self) -> Now {
        at(self.now)
    }

    fn others(&self, i: usize) -> Vec<NodeId> {
        (0..self.peers.len()).filter(|j| *j != i).map(node).collect()
    }

    fn is_up(&self, a: usize, b: usize) -> bool {
        self.up.get(&(a.min(b), a.max(b))).copied().unwrap_or(true)
    }

    fn set_link(&mut self, a: usize, b: usize, up: bool) {
        let now = self.now();
        let was = self.is_up(a, b);
        self.up.insert((a.min(b), a.max(b)), up);
        if was {
            self.wires.retain(|w| (w.from, w.to) != (a, b) && (w.from, w.to) != (b, a)); // a broken link loses what it carries
        }
        if up {
            self.peers[a].link_up(now, node(b));
            self.peers[b].link_up(now, node(a));
        }
    }

    /// One round: timers, sending, delivery.
    fn step(&mut self, faults: &Faults) {
        self.now += 5;
        let now = self.now();
        for i in 0..self.peers.len() {
            if self.peers[i].next_timeout().is_some_and(|t| t <= now.mono) {
                self.peers[i].on_timeout(now);
            }
            for _ in 0..16 {
                let up: Vec<bool> = (0..self.peers.len()).map(|j| self.is_up(i, j)).collect();
                let ready = |n: &NodeId, _: Lane| (0..up.len()).any(|j| node(j) == *n && up[j]);
                let Some(t) = self.peers[i].poll_transmit(now, &ready) else { break };
                assert!(t.payload.len() <= MAX_PAYLOAD);
                for to in (0..self.peers.len()).filter(|j| t.to.contains(&node(*j))) {
                    self.carried += t.payload.len();
                    for _ in 0..1 + u64::from(self.rng.below(100) < faults.repeat) {
                        if self.rng.below(100) >= faults.lose {
                            self.wires.push(Wire { from: i, to, payload: t.payload.clone() });
                        }
                    }
                }
            }
        }
        let mut under_way = core::mem::take(&mut self.wires);
        for i in 1..under_way.len() {
            if self.rng.below(100) < faults.reorder {
                let j = self.rng.below(under_way.len() as u64) as usize;
                under_way.swap(i, j);
            }
        }
        for w in under_way {
            self.peers[w.to].handle(now, node(w.from), &w.payload).unwrap();
        }
        for i in 0..self.peers.len() {
            while let Some(effect) = self.peers[i].poll_effect() {
                if let Effect::SendDone { id, missed, taken } = effect {
                    assert_eq!(self.done.insert((i, id), taken && missed.is_empty()), None, "one end per send");
                }
            }
        }
    }

    fn open_all(&mut self, name: &str, mode: Mode) -> ChannelId {
        let now = self.now();
        let mut ids: Vec<ChannelId> = self.peers.iter_mut().map(|p| p.open(now, name, mode).unwrap()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1);
        ids[0]
    }
}

fn body(from: usize, n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + n * 7 + from) as u8).collect()
}

#[test]
fn a_channel_has_one_mode_and_a_closed_one_says_so() {
    let mut m = machine(0, 1);
    let id = m.open(at(0), "chat", Mode::Reliable).unwrap();
    assert_eq!(m.open(at(0), "chat", Mode::Reliable).unwrap(), id);
    assert_eq!(m.open(at(0), "chat", Mode::Latest).unwrap_err().code(), Code::BadArgument);
    assert_eq!(m.open(at(0), "", Mode::Latest).unwrap_err().code(), Code::BadArgument);
    assert_eq!(m.send(at(0), id, &[], Vec::new(), None).unwrap_err().code(), Code::NoParticipant);
    assert_eq!(m.send(at(0), id, &[node(0)], Vec::new(), None).unwrap_err().code(), Code::NoParticipant);
    assert!(!m.post(at(0), id, &[], Vec::new(), None).unwrap());
    let long = alloc::vec![0; limit::RELIABLE_MESSAGE + 1];
    assert_eq!(m.send(at(0), id, &[node(1)], long, None).unwrap_err().code(), Code::TooLarge);
    m.close(id);
    m.close(id);
    assert_eq!(m.send(at(0), id, &[node(1)], Vec::new(), None).unwrap_err().code(), Code::Closed);
    assert_ne!(m.open(at(0), "chat", Mode::Latest).unwrap(), id);
}

#[test]
fn a_message_of_the_greatest_length_arrives_with_little_overhead() {
    let mut w = World::new(2, 1);
    let id = w.open_all("scan", Mode::Reliable);
    let big = body(0, 1, limit::RELIABLE_MESSAGE);
    let now = w.now();
    let send = w.peers[0].send(now, id, &[node(1)], big.clone(), Some("scan-1".into())).unwrap();
    let mut steps = 0;
    let got = loop {
        w.step(&NONE);
        steps += 1;
        assert!(steps < 10_000, "it arrives");
        if let Some(message) = w.peers[1].receive(id) {
            break message;
        }
    };
    assert!(got.payload == big && got.key.as_deref() == Some("scan-1") && got.from == node(0));
    assert_eq!(w.done.get(&(0, send)), Some(&true));
    assert!(w.carried < big.len() + big.len() / 100, "sent once: {} bytes", w.carried);
    for _ in 0..200 {
        w.step(&NONE);
    }
    assert_eq!((w.peers[0].usage().sending, w.peers[1].usage().received), (0, 0));
    assert!(w.peers.iter().all(|p| p.next_timeout().is_none()), "quiet when there is nothing to do");
}

#[test]
fn a_reader_that_stalls_stops_the_sender_and_frees_it_by_reading() {
    let mut w = World::new(2, 2);
    let id = w.open_all("chat", Mode::Reliable);
    let mut sent = 0;
    while sent < 10_000 {
        let now = w.now();
        if !w.peers[0].post(now, id, &[node(1)], body(0, sent, 1_000), None).unwrap() {
            if w.now > 20_000 {
                break;
            }
            w.step(&NONE);
            continue;
        }
        sent += 1;
    }
    assert!((900..3_000).contains(&sent), "about two windows: {sent}");
    assert!(w.peers[1].usage().received <= limit::STREAM_WINDOW);
    assert!(w.peers[0].usage().sending <= limit::STREAM_WINDOW + 64 * 1024);
    for n in 0..sent {
        let message = loop {
            match w.peers[1].receive(id) {
                Some(message) => break message,
                None => w.step(&NONE),
            }
            assert!(w.now < 200_000, "message {n} of {sent}");
        };
        assert!(message.payload == body(0, n, 1_000));
    }
}

#[test]
fn of_two_long_messages_of_one_sender_the_second_waits_until_the_first_is_read() {
    let mut w = World::new(2, 10);
    let ids = [w.open_all("a", Mode::Reliable), w.open_all("b", Mode::Reliable)];
    let len = 40 * 1024 * 1024;
    for id in ids {
        let now = w.now();
        w.peers[0].send(now, id, &[node(1)], body(0, id.0 as usize, len), None).unwrap();
    }
    for _ in 0..3_000 {
        w.step(&NONE);
    }
    let held = w.peers[1].usage().received;
    assert!((len..len + 2 * limit::STREAM_WINDOW).contains(&held), "one of them is held: {held}");
    let first = ids.into_iter().position(|id| w.peers[1].receive(id).is_some_and(|m| m.payload == body(0, id.0 as usize, len))).unwrap();
    for _ in 0..3_000 {
        w.step(&NONE);
    }
    let second = ids[1 - first];
    assert!(w.peers[1].receive(second).is_some_and(|m| m.payload == body(0, second.0 as usize, len)));
    assert_eq!(w.peers[1].usage().received, 0);
}

#[test]
fn a_sender_that_vanishes_in_a_long_message_gives_its_reserve_back() {
    let mut w = World::new(3, 11);
    let id = w.open_all("a", Mode::Reliable);
    let len = 8 * 1024 * 1024;
    let now = w.now();
    w.peers[0].send(now, id, &[node(2)], body(0, 0, len), None).unwrap();
    for _ in 0..20 {
        w.step(&NONE);
    }
    let held = w.peers[2].usage().received;
    assert!(held > limit::STREAM_WINDOW && held < len, "in the middle: {held}");
    w.peers[2].peer_gone(at(w.now), node(0));
    assert_eq!(w.peers[2].usage(), Usage::default());
}

#[test]
fn a_channel_nobody_opened_keeps_little_and_gives_it_when_opened() {
    let mut w = World::new(2, 3);
    let now = w.now();
    let id = w.peers[0].open(now, "later", Mode::Reliable).unwrap();
    let send = w.peers[0].send(now, id, &[node(1)], body(0, 0, 200_000), None).unwrap();
    for _ in 0..400 {
        w.step(&NONE);
    }
    assert_eq!(w.done.get(&(0, send)), None, "it waits");
    assert!(w.peers[1].usage().received <= limit::INITIAL_CREDIT);
    let now = w.now();
    let there = w.peers[1].open(now, "later", Mode::Reliable).unwrap();
    for _ in 0..100 {
        w.step(&NONE);
    }
    assert!(w.peers[1].receive(there).unwrap().payload == body(0, 0, 200_000));
    // Sixteen more are kept for one sender, then data is refused.
    let now = w.now();
    let mut refused = 0;
    for n in 0..limit::UNOPENED + 4 {
        let id = w.peers[0].open(now, &alloc::format!("other {n}"), Mode::Reliable).unwrap();
        w.peers[0].send(now, id, &[node(1)], b"x".to_vec(), None).unwrap();
    }
    while let Some(t) = w.peers[0].poll_transmit(now, &|_, _| true) {
        refused += usize::from(w.peers[1].handle(now, node(0), &t.payload) == Err(Reject::Limit));
    }
    assert_eq!(refused, 4);
}

#[test]
fn a_sender_that_restarts_and_a_receiver_that_restarts_are_understood() {
    let mut w = World::new(2, 4);
    let id = w.open_all("chat", Mode::Reliable);
    let send = |w: &mut World, n: usize| {
        let now = w.now();
        w.peers[0].send(now, id, &[node(1)], body(0, n, 40_000), None).unwrap();
    };
    let receive = |w: &mut World, n: usize| {
        for _ in 0..2_000 {
            w.step(&NONE);
            if let Some(m) = w.peers[1].receive(id) {
                assert!(m.payload == body(0, n, 40_000), "message {n}");
                (0..20).for_each(|_| w.step(&NONE)); // until the acknowledgement went back
                return;
            }
        }
        panic!("message {n} did not arrive");
    };
    send(&mut w, 1);
    receive(&mut w, 1);
    w.peers[0] = machine(0, 99); // and its clock is back at the start
    w.done.clear();
    w.peers[0].open(at(0), "chat", Mode::Reliable).unwrap();
    w.peers[0].send(at(0), id, &[node(1)], body(0, 2, 40_000), None).unwrap();
    receive(&mut w, 2);
    w.peers[1] = machine(1, 98);
    w.peers[1].open(at(0), "chat", Mode::Reliable).unwrap();
    send(&mut w, 3);
    receive(&mut w, 3);
}

#[test]
fn who_is_gone_fails_its_sends_and_frees_its_memory() {
    let mut m = machine(0, 5);
    let id = m.open(at(0), "chat", Mode::Reliable).unwrap();
    let alone = m.send(at(0), id, &[node(1)], body(0, 0, 100_000), None).unwrap();
    let both = m.send(at(0), id, &[node(1), node(2)], body(0, 0, 10), None).unwrap();
    assert_eq!(m.poll_effect(), None);
    m.peer_gone(at(1), node(1));
    let mut ends = alloc::vec![m.poll_effect().unwrap(), m.poll_effect().unwrap()];
    ends.sort_by_key(|e| if let Effect::SendDone { id, .. } = e { *id } else { SendId(0) });
    assert_eq!(ends[0], Effect::SendDone { id: alone, missed: vec![node(1)], taken: false });
    assert_eq!(ends[1], Effect::SendDone { id: both, missed: vec![node(1)], taken: true });
    m.peer_gone(at(1), node(2));
    assert_eq!(m.usage(), Usage::default());
    assert_eq!(m.next_timeout(), None);
}

#[test]
fn what_counts_as_sent_survives_a_time_of_being_lost() {
    let mut w = World::new(2, 13);
    let id = w.open_all("chat", Mode::Reliable);
    let sizes = [10, 40_000, 700_000, 900_000, 300];
    let mut ids = Vec::new();
    for (n, len) in sizes.into_iter().enumerate() {
        let now = w.now();
        ids.push(w.peers[0].send(now, id, &[node(1)], body(0, n, len), None).unwrap());
    }
    while w.peers[1].usage().received < 900_000 {
        w.step(&NONE);
    }
    assert!(w.peers[0].owes(&node(1)));
    w.set_link(0, 1, false);
    let lost = w.now();
    for i in [0, 1] {
        w.peers[i].peer_lost(lost, node(1 - i));
    }
    w.step(&NONE);
    // The fourth had begun, the fifth had not: both are given up, and the fourth comes all the same.
    assert_eq!((w.done.get(&(0, ids[3])), w.done.get(&(0, ids[4]))), (Some(&false), Some(&false)));
    assert!(w.peers[0].next_timeout() == Some(lost.mono.after(Config::default().keep)), "nobody is asked who is not there");
    for _ in 0..1_000 {
        w.step(&NONE);
    }
    let now = w.now();
    let last = w.peers[0].send(now, id, &[node(1)], body(0, 5, 20), None).unwrap();
    w.set_link(0, 1, true);
    let mut came = Vec::new();
    for _ in 0..2_000 {
        w.step(&NONE);
        came.extend(w.peers[1].receive(id).map(|m| m.payload));
    }
    assert_eq!((came.len(), w.done.get(&(0, last))), (5, Some(&true)));
    for (payload, (n, len)) in came.iter().zip([(0, 10), (1, 40_000), (2, 700_000), (3, 900_000), (5, 20)]) {
        assert!(*payload == body(0, n, len), "message {n}");
    }
    assert!(!w.peers[0].owes(&node(1)));
}

#[test]
fn who_stays_lost_is_forgotten_and_those_there_come_first() {
    let mut m = machine(0, 14);
    let id = m.open(at(0), "chat", Mode::Reliable).unwrap();
    m.send(at(0), id, &[node(1)], body(0, 0, 20_000), None).unwrap();
    m.send(at(0), id, &[node(2)], body(0, 0, 20_000), None).unwrap();
    m.peer_lost(at(1), node(1));
    m.peer_lost(at(2), node(2));
    assert_eq!(m.next_timeout(), Some(at(1).mono.after(Config::default().keep)));
    // The queue has room again once the one that was lost first is forgotten, and only that one.
    for n in 0..4 {
        m.send(at(3), id, &[node(3)], alloc::vec![0; limit::RELIABLE_MESSAGE - 5_000 - 2_000 * usize::from(n == 0)], None).unwrap();
    }
    assert_eq!((m.owes(&node(1)), m.owes(&node(2))), (false, true));
    m.on_timeout(at(2 + 15 * 60 * 1_000));
    assert!(!m.owes(&node(2)));
    // Likewise for the streams that come in.
    let mut r = machine(1, 15);
    r.open(at(0), "chat", Mode::Reliable).unwrap();
    let tag = msg::Tag::of(Mode::Reliable, "chat");
    let ask = |r: &mut Channels, n: usize| {
        let from = NodeId::from_public_key(core::array::from_fn(|i| if i < 2 { (n >> (8 * i)) as u8 } else { 0 }));
        let mut w = crate::wire::bytes::Writer::new();
        msg::Item::Ask { tag, epoch: 1, nonce: 1 }.write(&mut w);
        (from, r.handle(at(0), from, &w.finish()))
    };
    for n in 0..limit::RECEIVE_STREAMS {
        ask(&mut r, n).1.unwrap();
    }
    let (one, refused) = ask(&mut r, limit::RECEIVE_STREAMS);
    assert_eq!(refused, Err(Reject::Limit));
    r.peer_lost(at(1), NodeId::from_public_key([0; 32]));
    assert_eq!(ask(&mut r, limit::RECEIVE_STREAMS), (one, Ok(())));
    assert_eq!(r.usage().streams, limit::RECEIVE_STREAMS);
}

#[test]
fn one_latest_value_for_several_is_one_transmit_and_replaces_the_older() {
    let mut m = machine(0, 6);
    let id = m.open(at(0), "pose", Mode::Latest).unwrap();
    let to = [node(1), node(2), node(3), node(1)];
    for n in 0..100u8 {
        assert!(m.post(at(1), id, &to, alloc::vec![n], Some("head".into())).unwrap());
    }
    let slow = |n: &NodeId, lane: Lane| lane == Lane::Control && *n != node(2);
    let first = m.poll_transmit(at(2), &slow).unwrap();
    assert_eq!((first.to, first.lane), (alloc::vec![node(1), node(3)], Lane::Control));
    assert_eq!(m.poll_transmit(at(2), &slow), None);
    assert!(m.post(at(3), id, &to, alloc::vec![200], Some("head".into())).unwrap());
    let second = m.poll_transmit(at(3), &|_, _| true).unwrap();
    assert_eq!(second.to, alloc::vec![node(1), node(2), node(3)]);
    assert_eq!(m.poll_transmit(at(3), &|_, _| true), None);
    let mut r = machine(1, 7);
    let there = r.open(at(0), "pose", Mode::Latest).unwrap();
    r.handle(at(4), node(0), &second.payload).unwrap();
    r.handle(at(4), node(0), &first.payload).unwrap();
    r.handle(at(4), node(0), &second.payload).unwrap();
    assert_eq!(r.receive(there).unwrap().payload, [200]);
    assert_eq!(r.receive(there), None, "older and repeated values are dropped");
}

#[test]
fn a_latest_value_lost_with_its_link_goes_again_and_is_read_once() {
    let mut w = World::new(3, 12);
    let id = w.open_all("pose", Mode::Latest);
    let now = w.now();
    let to = w.others(0);
    w.peers[0].post(now, id, &to, b"here".to_vec(), None).unwrap();
    let first = w.peers[0].poll_transmit(now, &|_, _| true).unwrap();
    assert_eq!(first.to, to);
    w.peers[2].handle(now, node(0), &first.payload).unwrap(); // and the one to 1 is lost
    for (a, b) in [(0, 1), (0, 2)] {
        w.set_link(a, b, true);
    }
    w.step(&NONE);
    w.step(&NONE);
    for i in [1, 2] {
        assert_eq!(w.peers[i].receive(id).unwrap().payload, b"here");
        assert_eq!(w.peers[i].receive(id), None);
    }
    // What is kept for this is bounded, and gone with the recipients.
    for n in 0..1_000 {
        let now = w.now();
        assert!(w.peers[0].post(now, id, &to, alloc::vec![0; limit::LATEST_VALUE], Some(alloc::format!("{n}"))).unwrap());
        while w.peers[0].poll_transmit(now, &|_, _| true).is_some() {}
    }
    let now = w.now();
    w.peers[0].link_up(now, node(1));
    assert!((limit::LATEST_KEPT / 2..=limit::LATEST_KEPT).contains(&w.peers[0].usage().sending));
    w.peers[0].peer_gone(now, node(1));
    w.peers[0].peer_gone(now, node(2));
    assert_eq!(w.peers[0].usage(), Usage::default());
}

#[test]
fn latest_keys_of_one_sender_are_bounded() {
    let (mut m, mut r) = (machine(0, 8), machine(1, 9));
    let id = m.open(at(0), "pose", Mode::Latest).unwrap();
    r.open(at(0), "pose", Mode::Latest).unwrap();
    for n in 0..3 * limit::LATEST_KEYS {
        assert!(m.post(at(1), id, &[node(1)], alloc::vec![0; 100], Some(alloc::format!("{n}"))).unwrap());
    }
    while let Some(t) = m.poll_transmit(at(1), &|_, _| true) {
        r.handle(at(1), node(0), &t.payload).unwrap();
    }
    assert_eq!(r.usage().received, limit::LATEST_KEYS * 100);
    r.peer_gone(at(2), node(0));
    assert_eq!(r.usage().received, 0);
}

/// Five machines or two, everything random: each accepted message arrives once, in order, intact.
fn talk(n: usize, seed: u8, faults: &Faults, sizes: &[usize]) {
    let mut w = World::new(n, seed);
    let chat = w.open_all("chat", Mode::Reliable);
    let pose = w.open_all("pose", Mode::Latest);
    let mut sent = alloc::vec![0usize; n];
    let mut got: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut seen: BTreeMap<(usize, NodeId), u64> = BTreeMap::new();
    let mut expected = 0;
    for round in 0..4_000u64 {
        let noisy = round < 600;
        let now = w.now();
        if noisy && w.rng.below(8) == 0 {
            let i = w.rng.below(n as u64) as usize;
            let to = w.others(i);
            let len = sizes[w.rng.below(sizes.len() as u64) as usize];
            w.peers[i].send(now, chat, &to, body(i, sent[i], len), Some(alloc::format!("{}", sent[i]))).unwrap();
            sent[i] += 1;
            expected += n - 1;
        }
        if noisy {
            let i = w.rng.below(n as u64) as usize;
            let to = w.others(i);
            w.peers[i].post(now, pose, &to, round.to_be_bytes().to_vec(), None).unwrap();
        }
        if (noisy && w.rng.below(60) == 0) || round == 600 {
            for (a, b) in (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))) {
                let up = !noisy || w.rng.below(3) > 0;
                w.set_link(a, b, up);
            }
        }
        w.step(if noisy { faults } else { &NONE });
        for i in 0..n {
            while !noisy || w.rng.below(3) == 0 {
                let Some(m) = w.peers[i].receive(chat) else { break };
                let from = (0..n).find(|j| node(*j) == m.from).unwrap();
                let next = got.entry((from, i)).or_default();
                assert_eq!(m.key, Some(alloc::format!("{next}")), "in order, once");
                assert!(m.payload == body(from, *next, m.payload.len()), "intact");
                *next += 1;
            }
            while let Some(m) = w.peers[i].receive(pose) {
                let value = u64::from_be_bytes(m.payload.try_into().unwrap());
                let last = seen.insert((i, m.from), value);
                assert!(last.is_none_or(|last| last < value), "latest never goes back");
            }
            let usage = w.peers[i].usage();
            assert!(usage.received <= (n - 1) * (2 * limit::STREAM_WINDOW + 4 * 1024 * 1024));
        }
        if !noisy && got.values().sum::<usize>() == expected && w.peers.iter().all(|p| p.usage().sending == 0) {
            assert_eq!(w.done.values().filter(|r| **r).count(), sent.iter().sum::<usize>());
            return;
        }
    }
    panic!("{} of {expected} arrived", got.values().sum::<usize>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_talk_over_a_bad_wire(seed: u8, lose in 0u64..30, repeat in 0u64..30, reorder in 0u64..50) {
        talk(2, seed, &Faults { lose, repeat, reorder }, &[0, 1, 100, limit::CHUNK, limit::CHUNK + 1, 100_000, 3_000_000]);
    }

    #[test]
    fn five_talk_over_a_bad_wire(seed: u8, lose in 0u64..20, repeat in 0u64..20, reorder in 0u64..50) {
        talk(5, seed, &Faults { lose, repeat, reorder }, &[0, 10, 1_000, 40_000]);
    }

    /// Well-formed items with senseless numbers, and plain noise: refused or ignored, never a panic, never much memory.
    #[test]
    fn hostile_items_cost_nothing(seed: u8, kinds in prop::collection::vec((0u8..6, 0u8..5, any::<u64>(), any::<u64>(), any::<u32>()), 1..200)) {
        let mut m = machine(0, seed);
        let chat = m.open(at(0), "chat", Mode::Reliable).unwrap();
        m.send(at(0), chat, &[node(1)], body(0, 0, 100_000), None).unwrap();
        let first = m.poll_transmit(at(0), &|_, _| true).unwrap();
        let msg::Item::Piece { epoch, .. } = msg::decode(&first.payload).unwrap()[0] else { panic!("a piece") };
        let tags = [msg::Tag::of(Mode::Reliable, "chat"), msg::Tag::of(Mode::Latest, "chat"), msg::Tag([9; 8])];
        for (i, (kind, narrow, a, b, c)) in kinds.into_iter().enumerate() {
            let tag = tags[i % 3];
            // Small numbers now and then, so that the deeper checks are reached too.
            let (a, b) = match narrow { 0 => (a % 4, b % 4), 1 => (epoch, b % 40_000), 2 => (epoch, 0), _ => (a, b) };
            let bytes = &[7u8; 4_000][..(c % 4_000) as usize];
            let item = match kind {
                0 => msg::Item::Piece { tag, epoch: a, pos: b, head: Some(msg::Head { total: c % (limit::RELIABLE_MESSAGE as u32 + 1), sent_at: Wall(a), key: "" }), bytes },
                1 => msg::Item::Piece { tag, epoch: a, pos: b, head: None, bytes },
                2 => msg::Item::Ask { tag, epoch: a, nonce: c },
                3 => msg::Item::Ack(msg::Ack { tag, epoch: a, receiver: c % 3, next: b, credit: u64::from(c) << 32, echo: c % 4, gap: c % 2 == 0 }),
                _ => msg::Item::Latest { tag, seq: a, sent_at: Wall(b), key: "k", bytes },
            };
            let mut w = crate::wire::bytes::Writer::new();
            item.write(&mut w);
            let mut payload = w.finish();
            if kind == 5 {
                payload.truncate(c as usize % payload.len());
            }
            let _ = m.handle(at(i as u64), node(1), &payload);
            m.on_timeout(at(i as u64 * 100));
            for _ in 0..40 {
                if m.poll_transmit(at(i as u64), &|_, _| i % 2 == 0).is_none() { break }
            }
            let usage = m.usage();
            prop_assert!(usage.received <= 3 * limit::STREAM_WINDOW && usage.sending <= 101_000 && usage.streams <= 4);
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut m = machine(0, 1);
        let _ = m.handle(at(0), node(1), &bytes);
        prop_assert!(m.usage().received <= 300);
    }
}

// ---- to everybody -----------------------------------------------------------------------------------------------------

/// What a sender casts, taken from it whole.
fn casts(sender: &mut Channels) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| sender.poll_cast()).collect()
}

fn read_all(who: &mut Channels, id: ChannelId) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| who.receive(id)).map(|m| m.payload).collect()
}

proptest! {
    #[test]
    fn casts_come_once_and_in_order_whatever_the_broadcast_does_with_theirs(seed: u8, lens in prop::collection::vec(0usize..40_000, 1..12)) {
        let (mut a, mut b, mut rng) = (machine(0, 1), machine(1, 2), Rng::from_seed([seed; 32]));
        let (out, inn) = (a.open(at(0), "all", Mode::Reliable).unwrap(), b.open(at(0), "all", Mode::Reliable).unwrap());
        let sent: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, len)| body(0, n, *len)).collect();
        let ids: Vec<SendId> = sent.iter().map(|p| a.send_all(at(0), out, p, None).unwrap()).collect();
        let mut pieces = casts(&mut a);
        let ends: Vec<Effect> = core::iter::from_fn(|| a.poll_effect()).collect();
        prop_assert_eq!(ends, ids.iter().map(|id| Effect::SendDone { id: *id, missed: vec![], taken: true }).collect::<Vec<_>>());
        prop_assert_eq!(a.usage().sending, 0);
        // Any order, and any of them twice.
        for i in 1..pieces.len() {
            let j = rng.below(i as u64 + 1) as usize;
            pieces.swap(i, j);
        }
        let again: Vec<Vec<u8>> = pieces.iter().filter(|_| rng.below(3) == 0).cloned().collect();
        for piece in pieces.iter().chain(&again) {
            b.handle(at(0), node(0), piece).unwrap();
        }
        prop_assert_eq!(read_all(&mut b, inn), sent);
        prop_assert_eq!(b.usage(), Usage::default());
    }
}

#[test]
fn a_gap_among_casts_is_passed_over_in_time_and_who_comes_late_begins_with_a_whole_message() {
    let (mut a, mut b) = (machine(0, 1), machine(1, 2));
    let (out, inn) = (a.open(at(0), "all", Mode::Reliable).unwrap(), b.open(at(0), "all", Mode::Reliable).unwrap());
    for n in 0..4 {
        a.send_all(at(0), out, &body(0, n, 20_000), None).unwrap();
    }
    // Two pieces each; b joins in the middle of the first message and never gets the second half of the second.
    let pieces = casts(&mut a);
    assert_eq!(pieces.len(), 8);
    for i in [1, 2, 4, 5, 6, 7] {
        b.handle(at(0), node(0), &pieces[i]).unwrap();
    }
    assert!(read_all(&mut b, inn).is_empty());
    // What was before the first that came may just be late …
    assert_eq!(b.next_timeout(), Some(Mono(2_000)));
    b.on_timeout(at(2_000));
    assert!(read_all(&mut b, inn).is_empty());
    // … and what is missing in the midst is waited for longer.
    assert_eq!(b.next_timeout(), Some(Mono(12_000)));
    b.on_timeout(at(12_000));
    assert_eq!(read_all(&mut b, inn), [body(0, 2, 20_000), body(0, 3, 20_000)]);
    assert_eq!((b.usage(), b.next_timeout()), (Usage::default(), None));
}

#[test]
fn who_comes_when_much_was_said_waits_for_nothing() {
    let (mut a, mut b) = (machine(0, 1), machine(1, 2));
    let (out, inn) = (a.open(at(0), "all", Mode::Reliable).unwrap(), b.open(at(0), "all", Mode::Reliable).unwrap());
    let mut last = Vec::new();
    for n in 0..70 {
        a.send_all(at(0), out, &body(0, n, 20), None).unwrap();
        last = casts(&mut a);
    }
    b.handle(at(0), node(0), &last[0]).unwrap();
    assert_eq!(read_all(&mut b, inn), [body(0, 69, 20)]);
    assert_eq!(b.next_timeout(), None);
}

#[test]
fn values_for_everybody_replace_one_another_and_posts_tell_no_end() {
    let (mut a, mut b) = (machine(0, 1), machine(1, 2));
    let (out, inn) = (a.open(at(0), "pose", Mode::Latest).unwrap(), b.open(at(0), "pose", Mode::Latest).unwrap());
    for (key, value) in [("head", b"1"), ("hand", b"2"), ("head", b"3")] {
        assert!(a.post_all(at(0), out, value, Some(key.into())).unwrap());
    }
    let pieces = casts(&mut a);
    assert_eq!(pieces.len(), 2);
    // The newest wins in any order.
    a.post_all(at(1), out, b"4", Some("head".into())).unwrap();
    for piece in casts(&mut a).iter().chain(&pieces) {
        b.handle(at(1), node(0), piece).unwrap();
    }
    let mut read = read_all(&mut b, inn);
    read.sort();
    assert_eq!(read, [b"2", b"4"]);
    let chat = a.open(at(0), "chat", Mode::Reliable).unwrap();
    assert!(a.post_all(at(0), chat, b"x", None).unwrap());
    casts(&mut a);
    assert_eq!(a.poll_effect(), None);
    let large = alloc::vec![0; crate::base::limit::CAST_MESSAGE + 1];
    assert_eq!(a.send_all(at(0), chat, &large, None).unwrap_err().code(), Code::TooLarge);
    while a.post_all(at(0), chat, &large[1..], None).unwrap() {}
    assert!(a.usage().sending <= crate::base::limit::CAST_QUEUE + 64 * 1024);
}

#[test]
fn a_flood_of_casts_is_bounded() {
    let mut b = machine(1, 2);
    let inn = b.open(at(0), "all", Mode::Reliable).unwrap();
    let tag = msg::Tag::of(Mode::Reliable, "all");
    let item = |epoch, pos, head: Option<usize>, bytes: &[u8]| {
        let head = head.map(|total| msg::Head { total: total as u32, sent_at: Wall(0), key: "" });
        let mut w = crate::wire::bytes::Writer::new();
        msg::Item::Cast { tag, epoch, pos, head, bytes }.write(&mut w);
        w.finish()
    };
    let kib = [7; 1_024];
    b.handle(at(0), node(0), &item(1, 0, Some(2_000), &kib)).unwrap();
    // Ever more pieces beyond a gap.
    for pos in 2..3_000 {
        let _ = b.handle(at(0), node(0), &item(1, pos, Some(1_024), &kib));
    }
    assert!(b.usage().received <= 2 * crate::base::limit::CAST_MESSAGE);
    // Ever more whole messages that nobody reads.
    for pos in 0..10_000 {
        let _ = b.handle(at(0), node(2), &item(1, pos, Some(1_024), &kib));
    }
    assert!(b.usage().received <= 5 * crate::base::limit::CAST_MESSAGE);
    for hostile in [item(1, u64::MAX, Some(1_024), &kib), item(1, 9, Some(10), &kib), item(0, 9, Some(1_024), &kib)] {
        assert!(b.handle(at(0), node(2), &hostile).is_err());
    }
    b.peer_gone(at(1), node(0));
    read_all(&mut b, inn);
    b.peer_gone(at(1), node(2));
    assert_eq!(b.usage().received, 0);
}

#[test]
fn a_datagram_goes_at_once_or_never_and_none_comes_after_a_later_one() {
    let (mut m, mut r) = (machine(0, 20), machine(1, 21));
    let id = m.open(at(0), "pose", Mode::Datagram).unwrap();
    let there = r.open(at(0), "pose", Mode::Datagram).unwrap();
    assert_eq!(m.post(at(1), id, &[node(1)], alloc::vec![0; limit::DATAGRAM + 1], None).unwrap_err().code(), Code::TooLarge);
    let mut wires = Vec::new();
    for n in 0..4u8 {
        assert!(m.post(at(1), id, &[node(1), node(2)], alloc::vec![n], (n == 3).then(|| "head".into())).unwrap());
        // Who is not ready misses it.
        let t = m.poll_transmit(at(1), &|n, lane| lane == Lane::Datagram && *n == node(1)).unwrap();
        assert_eq!((t.to, t.lane), (alloc::vec![node(1)], Lane::Datagram));
        wires.push(t.payload);
    }
    assert_eq!(m.poll_transmit(at(1), &|_, _| true), None);
    for n in [1, 0, 1, 3, 2] {
        r.handle(at(2), node(0), &wires[n]).unwrap();
    }
    let came: Vec<_> = core::iter::from_fn(|| r.receive(there)).map(|m| (m.from, m.payload, m.key)).collect();
    assert_eq!(came, [(node(0), alloc::vec![1], None), (node(0), alloc::vec![3], Some("head".into()))]);
    // What waited for too long is not sent.
    assert!(m.post(at(10), id, &[node(1)], alloc::vec![9], None).unwrap());
    assert_eq!(m.poll_transmit(at(300), &|_, _| true), None);
    assert_eq!((m.usage(), r.usage()), (Usage::default(), Usage::default()));
}

#[test]
fn a_flood_of_datagrams_takes_its_senders_share_and_nothing_of_channels_that_are_closed() {
    let mut r = machine(0, 22);
    let id = r.open(at(0), "pose", Mode::Datagram).unwrap();
    let item = |name: &str, seq: u64, byte: u8| {
        let tag = msg::Tag::of(Mode::Datagram, name);
        let mut w = crate::wire::bytes::Writer::new();
        msg::Item::Datagram { tag, seq, sent_at: Wall(0), key: "", bytes: &[byte; 100] }.write(&mut w);
        w.finish()
    };
    r.handle(at(1), node(1), &item("pose", 1, 1)).unwrap();
    for seq in 1..10_000 {
        r.handle(at(1), node(2), &item("pose", seq, 2)).unwrap();
        r.handle(at(1), node(2), &item("other", seq, 2)).unwrap();
    }
    assert_eq!(r.usage().received, 100 * (1 + limit::DATAGRAMS_OF_ONE));
    assert_eq!(r.receive(id).unwrap().from, node(1));
    // Of many senders the newest are kept.
    for i in 0..100 {
        for seq in 1..30 {
            r.handle(at(1), node(3 + i), &item("pose", seq, 3)).unwrap();
        }
    }
    assert_eq!(r.usage().received, 100 * limit::DATAGRAMS);
    for i in 1..103 {
        r.peer_gone(at(2), node(i));
    }
    r.close(id);
    assert_eq!(r.usage(), Usage::default());
    // And what waits for a link that does not come.
    let mut m = machine(1, 23);
    let id = m.open(at(0), "pose", Mode::Datagram).unwrap();
    for n in 0..5_000u64 {
        m.post(at(n / 100), id, &[node(0)], alloc::vec![0; 100], None).unwrap();
    }
    assert!(m.usage().sending <= limit::DATAGRAMS * (100 + msg::HEADER));
}
