use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use core::time::Duration;

use super::machine::{ACCUSERS, ENOUGH, INBOUND_BURST, RATE, SUSPECT_MAX, Seen};
use super::msg::{Accusation, LISTED, Msg, NAMED, name};
use super::word::EARLY;
use super::{Detector, Effect};
use crate::base::{DomainId, Mono, NodeId, Now, Reject, Rng, Wall};
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([4; 32]);
const START: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(START + ms) }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn id(n: u8) -> NodeId {
    key(n).node_id()
}

/// Detectors with lossy links between them; records and their incarnations go to everybody that anybody alive is linked with.
struct Net {
    now: u64,
    rng: Rng,
    loss: u64,
    nodes: BTreeMap<NodeId, Detector>,
    incarnations: BTreeMap<NodeId, u64>,
    links: BTreeSet<(NodeId, NodeId)>,
    /// Neither hear nor speak, with their links still up.
    silent: BTreeSet<NodeId>,
    /// Whose timers run only once in so many milliseconds.
    throttled: BTreeMap<NodeId, u64>,
    queue: BTreeMap<(u64, u64), (NodeId, NodeId, Vec<u8>)>,
    seq: u64,
    /// Who said when that somebody is down; lifted by the opposite verdict.
    down: BTreeMap<(NodeId, NodeId), u64>,
    ever_down: BTreeSet<(NodeId, NodeId)>,
    bytes: BTreeMap<NodeId, u64>,
    /// Whom no words reach.
    missed: Option<NodeId>,
}

impl Net {
    fn new(n: u8, loss: u64, linked: impl Fn(u8, u8) -> bool) -> Net {
        let detector = |i: u8| Detector::new(at(0), DOMAIN, key(i), Rng::from_seed([i; 32]));
        let mut net = Net {
            now: 0,
            rng: Rng::from_seed([n; 32]),
            loss,
            nodes: (0..n).map(|i| (id(i), detector(i))).collect(),
            incarnations: (0..n).map(|i| (id(i), 1)).collect(),
            links: BTreeSet::new(),
            silent: BTreeSet::new(),
            throttled: BTreeMap::new(),
            queue: BTreeMap::new(),
            seq: 0,
            down: BTreeMap::new(),
            ever_down: BTreeSet::new(),
            bytes: BTreeMap::new(),
            missed: None,
        };
        for a in 0..n {
            for b in 0..n {
                net.nodes.get_mut(&id(a)).unwrap().learn(at(0), id(b), 1, true);
            }
        }
        for a in 0..n {
            for b in (a + 1..n).filter(|b| linked(a, *b)) {
                net.link(id(a), id(b));
            }
        }
        net
    }
    fn full(n: u8, loss: u64) -> Net {
        Net::new(n, loss, |_, _| true)
    }
    fn link(&mut self, a: NodeId, b: NodeId) {
        self.links.insert((a.min(b), a.max(b)));
        for (me, other) in [(a, b), (b, a)] {
            self.with(me, |d, now, out| d.link_up(now, other, out));
        }
    }
    fn cut(&mut self, a: NodeId, b: NodeId) {
        self.links.remove(&(a.min(b), a.max(b)));
        for (me, other) in [(a, b), (b, a)] {
            self.with(me, |d, now, _| d.link_down(now, other, true));
        }
    }
    fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Detector, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        let now = at(self.now);
        if let Some(d) = self.nodes.get_mut(&node) {
            act(d, now, &mut out);
        }
        self.take(node, out);
    }
    fn take(&mut self, node: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, msg } => {
                    let bytes = msg.encode();
                    *self.bytes.entry(node).or_default() += bytes.len() as u64 + 40;
                    let missed = self.missed == Some(to) && matches!(msg, Msg::Accuse(_) | Msg::Down(_));
                    let lost = missed || self.rng.below(100) < self.loss || self.silent.contains(&node) || self.silent.contains(&to);
                    if !lost && self.links.contains(&(node.min(to), node.max(to))) {
                        self.seq += 1;
                        let delay = 20 + self.rng.below(60);
                        self.queue.insert((self.now + delay, self.seq), (node, to, bytes));
                    }
                }
                // Nobody here has a record.
                Effect::Confirm { .. } => {}
                Effect::Verdict { node: about, down, .. } => {
                    if down {
                        self.down.insert((node, about), self.now);
                        self.ever_down.insert((node, about));
                    } else {
                        self.down.remove(&(node, about));
                    }
                }
                Effect::Refute { incarnation } => {
                    if incarnation >= self.incarnations[&node] && !self.silent.contains(&node) {
                        self.incarnations.insert(node, incarnation + 1);
                        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
                        for other in nodes {
                            self.with(other, |d, now, _| d.learn(now, node, incarnation + 1, true));
                            self.down.remove(&(other, node));
                        }
                    }
                }
            }
        }
    }
    fn run(&mut self, time: Duration) {
        let end = self.now + time.as_millis() as u64;
        while self.now < end {
            self.now += 10;
            while let Some((&(when, seq), _)) = self.queue.first_key_value()
                && when <= self.now
            {
                let (from, to, bytes) = self.queue.remove(&(when, seq)).unwrap();
                self.with(to, |d, now, out| {
                    let _ = d.handle(now, from, Msg::decode(&bytes).unwrap(), out);
                });
            }
            let due: Vec<NodeId> = self
                .nodes
                .iter()
                .filter(|(n, d)| {
                    let open = self.throttled.get(n).is_none_or(|every| self.now.is_multiple_of(*every));
                    open && d.next_timeout().is_some_and(|t| t.0 <= self.now)
                })
                .map(|(n, _)| *n)
                .collect();
            for node in due {
                self.with(node, |d, now, out| d.on_timeout(now, out));
            }
        }
    }
    /// When the last of the living learnt that a node is down, in milliseconds; none if somebody has not.
    fn known_down(&self, gone: NodeId) -> Option<u64> {
        let living = self.nodes.keys().filter(|n| **n != gone && !self.silent.contains(n));
        living.map(|n| self.down.get(&(*n, gone)).copied()).collect::<Option<Vec<u64>>>()?.into_iter().max()
    }
}

fn ring(n: u8) -> impl Fn(u8, u8) -> bool {
    move |a, b| [1, 2, 5].iter().any(|d| (a + d) % n == b || (b + d) % n == a)
}

#[test]
fn who_falls_silent_is_down_for_all_within_fifteen_seconds() {
    for (mut net, n) in [(Net::full(8, 0), 8), (Net::new(40, 5, ring(40)), 40), (Net::full(2, 0), 2), (Net::full(3, 0), 3)] {
        net.run(Duration::from_secs(30));
        assert!(net.ever_down.is_empty());
        let start = net.now;
        net.silent.insert(id(1));
        net.run(Duration::from_secs(if n == 2 { 20 } else { 15 }));
        let took = net.known_down(id(1)).unwrap_or_else(|| panic!("{n} nodes: not all know")) - start;
        println!("{n} nodes: {took} ms");
        assert!(net.ever_down.iter().all(|(by, of)| *of == id(1) || *by == id(1)), "nobody else");
    }
}

#[test]
fn of_many_crashes_each_is_known_to_all_though_words_are_lost() {
    let mut net = Net::new(60, 10, |a, b| [1, 2, 9, 23].iter().any(|d| (a + d) % 60 == b || (b + d) % 60 == a));
    net.run(Duration::from_secs(5));
    let mut worst = 0;
    for i in 0..12 {
        let start = net.now;
        net.silent.insert(id(5 * i));
        net.run(Duration::from_secs(30));
        let took = net.known_down(id(5 * i)).unwrap_or_else(|| panic!("not all know of the {i}th")) - start;
        worst = worst.max(took);
    }
    println!("the slowest {worst} ms, {} bytes/s each", net.bytes.values().sum::<u64>() * 1_000 / net.now / 60);
    assert!(worst <= 25_000);
    assert!(net.ever_down.iter().all(|(by, of)| net.silent.contains(of) || net.silent.contains(by)), "nobody else");
}

#[test]
fn who_missed_what_was_said_is_reminded() {
    let mut net = Net::new(24, 5, |a, b| [1, 2, 9].iter().any(|d| (a + d) % 24 == b || (b + d) % 24 == a));
    net.run(Duration::from_secs(5));
    // Neither is linked with the one that hears nothing said.
    net.missed = Some(id(0));
    net.silent.extend([id(5), id(12)]);
    net.run(Duration::from_secs(60));
    assert!(net.down.contains_key(&(id(3), id(5))) && !net.down.contains_key(&(id(0), id(5))));
    net.missed = None;
    net.run(Duration::from_secs(30));
    assert!(net.known_down(id(5)).is_some() && net.known_down(id(12)).is_some());
}

/// Some hold a member for down that lives, and that never heard of it: whoever is linked with it and with them sees to that.
#[test]
fn who_is_held_for_down_and_lives_hears_of_it_from_a_neighbour() {
    let mut net = Net::new(6, 0, |a, b| (a, b) != (0, 1));
    net.run(Duration::from_secs(5));
    net.silent.insert(id(1));
    net.run(Duration::from_secs(30));
    assert!(net.known_down(id(1)).is_some());
    // It is there again, and does not hear what its neighbours tell it that was said.
    net.silent.remove(&id(1));
    net.missed = Some(id(1));
    while (2..6).any(|i| net.nodes[&id(i)].is_down(&id(1))) {
        net.run(Duration::from_millis(100));
        assert!(net.now < 120_000, "its neighbours do not see it");
    }
    net.missed = None;
    assert!(net.nodes[&id(0)].is_down(&id(1)) && net.incarnations[&id(1)] == 1);
    net.run(Duration::from_secs(30));
    assert!(net.incarnations[&id(1)] > 1 && !net.nodes[&id(0)].is_down(&id(1)));
}

#[test]
fn attack_reminders_of_the_living_move_nobody_and_are_bounded() {
    let mut net = Net::full(8, 0);
    net.run(Duration::from_secs(5));
    let (mut answers, mut refused) = (0, 0);
    for _ in 0..600 {
        let now = at(net.now);
        let names: Vec<_> = (1..8).map(|i| name(&id(i))).cycle().take(NAMED).collect();
        for msg in [Msg::Held { answer: true, names: names.clone() }, Msg::Why(names)] {
            let mut out = Vec::new();
            match net.nodes.get_mut(&id(0)).unwrap().handle(now, id(7), msg, &mut out) {
                Ok(()) => answers += out.iter().filter(|e| matches!(e, Effect::Send { .. })).count(),
                Err(reject) => refused += usize::from(reject == Reject::Limit),
            }
        }
        net.run(Duration::from_millis(100));
    }
    assert!(answers > 0 && answers <= 100, "{answers} answers");
    assert!(refused > 1_000, "{refused} refused");
    assert!(net.ever_down.is_empty());
}

#[test]
fn a_link_that_is_let_go_while_it_is_probed_says_nothing() {
    let mut net = Net::full(3, 0);
    net.run(Duration::from_secs(5));
    // Asked, and the answer does not come before the link ends.
    net.silent.insert(id(1));
    for i in [0, 2] {
        net.with(id(i), |d, now, _| d.wake(now));
    }
    net.run(Duration::from_secs(1));
    for i in [0, 2] {
        net.links.remove(&(id(1).min(id(i)), id(1).max(id(i))));
        net.with(id(i), |d, now, _| d.link_down(now, id(1), false));
    }
    net.run(Duration::from_secs(30));
    assert!(net.ever_down.iter().all(|(by, _)| *by == id(1)), "{:?}", net.ever_down);
}

#[test]
fn a_broken_link_alone_takes_nobody_down() {
    let mut net = Net::full(6, 0);
    net.run(Duration::from_secs(5));
    net.cut(id(0), id(1));
    net.run(Duration::from_secs(120));
    assert!(net.ever_down.is_empty(), "the others reach it");
    for i in 2..6 {
        net.cut(id(i), id(1));
    }
    net.run(Duration::from_secs(17));
    assert!(net.known_down(id(1)).is_some());
    net.link(id(3), id(1));
    net.run(Duration::from_secs(2));
    assert!(net.down.is_empty(), "one link is enough to refute what all say: {:?}", net.down.len());
}

#[test]
fn nobody_alive_goes_down_in_an_hour_of_loss_with_throttled_timers() {
    let mut net = Net::full(10, 20);
    net.throttled.insert(id(3), 60_000);
    net.run(Duration::from_secs(3_600));
    assert!(net.ever_down.is_empty(), "{} verdicts", net.ever_down.len());
    let mean = net.bytes.values().max().unwrap() / 3_600;
    println!("at most {mean} bytes/s");
    assert!(mean < RATE);
}

#[test]
fn a_process_that_slept_blames_nobody() {
    let mut net = Net::full(5, 0);
    net.run(Duration::from_secs(5));
    // Its questions go out, the answers are lost, and it wakes an hour later.
    net.silent.insert(id(0));
    net.run(Duration::from_secs(2));
    net.throttled.insert(id(0), u64::MAX);
    net.run(Duration::from_secs(3_600));
    net.silent.clear();
    net.throttled.clear();
    net.run(Duration::from_secs(60));
    assert!(!net.ever_down.iter().any(|(by, _)| *by == id(0)));
    assert!(net.ever_down.iter().any(|(_, of)| *of == id(0)), "the others had reason to");
    assert!(net.down.is_empty(), "and see it again");
}

#[test]
fn who_says_that_it_sleeps_is_not_suspected() {
    let mut net = Net::full(5, 0);
    for i in 1..5 {
        net.with(id(i), |d, now, _| d.learn(now, id(0), 1, false));
    }
    net.silent.insert(id(0));
    net.run(Duration::from_secs(60));
    assert!(!net.ever_down.iter().any(|(_, of)| *of == id(0)));
}

#[test]
fn attack_liars_take_nobody_down() {
    // Three of twenty, in a mesh where most must believe others, say once a second that node 10 is silent, and do not answer for it.
    let mut net = Net::new(20, 5, ring(20));
    net.run(Duration::from_secs(5));
    for second in 0..300u64 {
        for liar in [0, 7, 15] {
            let word =
                Accusation { accuser: id(liar), suspect: id(10), incarnation: net.incarnations[&id(10)], created: Wall(START + net.now) };
            let msg = Msg::Accuse(vec![word.sign(&DOMAIN, &key(liar))]);
            let victims: Vec<NodeId> = net.nodes[&id(liar)].links.keys().filter(|n| **n != id(10)).copied().collect();
            for to in victims {
                net.take(id(liar), vec![Effect::Send { to, msg: msg.clone() }]);
            }
        }
        net.run(Duration::from_secs(1));
        assert!(net.ever_down.is_empty(), "after {second} s");
    }
    let raised = net.incarnations[&id(10)];
    println!("{raised} refutations");
    assert!(raised < 80, "heeded all the time, they would have made it raise 150 times: {raised}");
}

/// Those who accuse everybody would otherwise shield whoever falls silent while they are at it.
#[test]
fn attack_liars_do_not_keep_honest_words_out() {
    let mut d = Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32]));
    let mut none = Vec::new();
    for i in 1..=30 {
        d.learn(at(0), id(i), 1, true);
    }
    for i in 20..=22 {
        d.link_up(at(0), id(i), &mut none);
    }
    for liar in 1..=10 {
        for n in 0..5 {
            d.strike(Mono(n * 10_000), id(liar));
        }
    }
    let now = at(41_000);
    let mut say = |d: &mut Detector, accuser: u8| {
        let word = Accusation { accuser: id(accuser), suspect: id(30), incarnation: 1, created: now.wall };
        d.handle(now, id(20), Msg::Accuse(vec![word.sign(&DOMAIN, &key(accuser))]), &mut none)
    };
    let taken = (1..=10).filter(|liar| say(&mut d, *liar).is_ok()).count();
    assert_eq!(taken, ACCUSERS);
    for accuser in [20, 21, 22] {
        assert_eq!(say(&mut d, accuser), Ok(()), "{accuser}");
    }
    assert_eq!(d.voices(&id(30)), ENOUGH);
    assert_eq!(d.usage().words, ACCUSERS);
}

#[test]
fn attack_helpers_cannot_invent_a_proof_of_life() {
    let mut d = Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32]));
    let mut out = Vec::new();
    for i in 1..4 {
        d.learn(at(0), id(i), 1, true);
        if i != 1 {
            d.link_up(at(0), id(i), &mut out);
        }
    }
    d.links.insert(id(1), super::machine::Bucket::full(Mono(0), 1));
    d.link_down(at(10), id(1), true);
    let mut nonces = Vec::new();
    for ms in (100..60_000).step_by(100) {
        let mut out = Vec::new();
        d.on_timeout(at(ms), &mut out);
        for effect in out {
            if let Effect::Send { to, msg: Msg::Ask { nonce, target } } = effect {
                assert_eq!(target, id(1));
                nonces.push(nonce);
                let mut none = Vec::new();
                d.handle(at(ms), to, Msg::Help { nonce, linked: true }, &mut none).unwrap();
                let forged = Msg::Proof { nonce, asker: id(0), target, signature: [7; 64] };
                assert_eq!(d.handle(at(ms), to, forged, &mut none), Err(Reject::Forged));
                let other = Msg::prove(&key(1), &DOMAIN, id(2), nonce);
                let Msg::Proof { signature, .. } = other else { unreachable!() };
                let moved = Msg::Proof { nonce, asker: id(0), target, signature };
                assert_eq!(d.handle(at(ms), to, moved, &mut none), Err(Reject::Forged), "made for somebody else");
            }
        }
        if d.is_down(&id(1)) {
            assert!(ms < 20_000);
            let old = Msg::prove(&key(1), &DOMAIN, id(0), nonces[0]);
            assert_eq!(d.handle(at(ms), id(2), old, &mut Vec::new()), Err(Reject::Stale), "an old one proves nothing");
            return;
        }
    }
    panic!("it is down");
}

#[test]
fn who_said_that_a_member_is_silent_counts_its_own_word_when_it_cannot_look_any_more() {
    // Linked with most, not with the one that falls silent: it looks through others, whose links to it break meanwhile.
    let (gone, mut d, mut said) = (id(5), Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32])), false);
    (0..6).for_each(|i| d.learn(at(0), id(i), 1, true));
    (1..5).for_each(|i| d.link_up(at(0), id(i), &mut Vec::new()));
    let mut words = vec![1, 2];
    for ms in (100..30_000).step_by(100) {
        let (mut out, mut none) = (Vec::new(), Vec::new());
        d.on_timeout(at(ms), &mut out);
        (1..5).for_each(|i| d.heard(at(ms), id(i), &mut none));
        for effect in out {
            match effect {
                Effect::Send { to, msg: Msg::Ask { nonce, .. } } => {
                    d.handle(at(ms), to, Msg::Help { nonce, linked: !said }, &mut none).unwrap();
                }
                Effect::Send { msg: Msg::Accuse(_), .. } => said = true,
                _ => {}
            }
        }
        // Two more say so. With this node's word that is enough for the others, who say no more.
        let blind = d.members.get(&gone).is_some_and(|m| m.seen == Seen::Blind);
        if (said && words.len() == 2 || blind)
            && let Some(i) = words.pop()
        {
            let word = Accusation { accuser: id(i), suspect: gone, incarnation: 1, created: at(ms).wall };
            d.handle(at(ms), id(i), Msg::Accuse(vec![word.sign(&DOMAIN, &key(i))]), &mut none).unwrap();
        }
    }
    assert!(words.is_empty() && d.is_down(&gone));
}

#[test]
fn words_are_taken_once_from_members_about_the_present_incarnation() {
    let mut d = Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32]));
    let mut out = Vec::new();
    for i in 0..6 {
        d.learn(at(0), id(i), 5, true);
    }
    d.link_up(at(0), id(1), &mut out);
    let mut say = |accuser: u8, suspect: u8, incarnation: u64, created: u64, signer: u8| {
        let word = Accusation { accuser: id(accuser), suspect: id(suspect), incarnation, created: Wall(created) };
        let mut out = Vec::new();
        (d.handle(at(1_000), id(1), Msg::Accuse(vec![word.sign(&DOMAIN, &key(signer))]), &mut out), out)
    };
    let now = START + 1_000;
    assert_eq!(say(2, 3, 5, now, 2).0, Ok(()));
    assert_eq!(say(2, 3, 5, now, 2).0, Err(Reject::Stale), "once");
    assert_eq!(say(2, 3, 5, now + 1, 2).0, Err(Reject::Stale), "and not again at once");
    assert_eq!(say(4, 3, 4, now, 4).0, Err(Reject::Stale), "of a record refuted");
    assert_eq!(say(4, 3, 5, now, 5).0, Err(Reject::Forged));
    assert_eq!(say(4, 3, 5, now + 400_000, 4).0, Err(Reject::Expired), "from the future");
    assert_eq!(say(4, 3, 5, now - 4_000_000, 4).0, Err(Reject::Expired));
    assert_eq!(say(4, 0, 6, now, 4).0, Err(Reject::Stale), "an incarnation this node never had");
    let (result, out) = say(4, 0, 5, now, 4);
    assert_eq!((result, out.contains(&Effect::Refute { incarnation: 5 })), (Ok(()), true));
    let (result, out) = say(5, 0, 5, now, 5);
    assert_eq!((result, out.contains(&Effect::Refute { incarnation: 5 })), (Ok(()), false), "not twice in a row");
}

#[test]
fn words_that_come_before_the_records_they_need_are_taken_with_those_and_no_more_than_may_wait() {
    let mut d = Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32]));
    let mut out = Vec::new();
    d.learn(at(0), id(1), 5, true);
    d.link_up(at(0), id(1), &mut out);
    let word = |accuser: u8, suspect: u8, incarnation: u64| {
        Accusation { accuser: id(accuser), suspect: id(suspect), incarnation, created: at(0).wall }.sign(&DOMAIN, &key(accuser))
    };
    // By one who is not known yet, of one who is not, and of a record that is newer than the one known.
    for (accuser, suspect, incarnation) in [(2, 1, 5), (1, 3, 5), (2, 3, 5), (1, 4, 6)] {
        assert_eq!(d.handle(at(10), id(1), Msg::Accuse(vec![word(accuser, suspect, incarnation)]), &mut out), Ok(()));
    }
    let words = |d: &Detector, of: u8| d.members.get(&id(of)).map_or(0, |m| m.words.len());
    d.learn(at(100), id(4), 5, true);
    d.on_timeout(at(1_000), &mut out);
    assert_eq!((words(&d, 1), words(&d, 3), words(&d, 4), d.usage().early), (0, 0, 0, 4));
    for (node, incarnation) in [(3, 5), (4, 6)] {
        d.learn(at(1_100), id(node), incarnation, true);
    }
    d.on_timeout(at(2_000), &mut out);
    assert_eq!((words(&d, 1), words(&d, 3), words(&d, 4), d.usage().early), (0, 1, 1, 2));
    d.learn(at(2_100), id(2), 1, true);
    d.on_timeout(at(3_000), &mut out);
    assert_eq!((words(&d, 1), words(&d, 3), d.usage().early), (1, 2, 0));

    // Words that nothing comes for are forgotten, and there is an end to them.
    let flood: Vec<_> = (0..EARLY + 20).map(|i| word(9, 10, i as u64)).collect();
    let mut late = at(10_000);
    for part in flood.chunks(LISTED) {
        let _ = d.handle(late, id(1), Msg::Accuse(part.to_vec()), &mut out);
        late = Now { mono: late.mono.after(Duration::from_millis(1_000)), ..late };
        d.on_timeout(late, &mut out);
    }
    assert_eq!(d.usage().early, EARLY);
    for _ in 0..40 {
        late = Now { mono: late.mono.after(Duration::from_secs(1)), ..late };
        d.on_timeout(late, &mut out);
    }
    assert_eq!(d.usage().early, 0);
}

#[test]
fn a_neighbour_that_asks_too_much_is_refused() {
    let mut d = Detector::new(at(0), DOMAIN, key(0), Rng::from_seed([0; 32]));
    let mut out = Vec::new();
    assert_eq!(d.handle(at(0), id(1), Msg::Ping { nonce: 1 }, &mut out), Err(Reject::Limit), "no link");
    d.link_up(at(0), id(1), &mut out);
    out.clear();
    let taken = (0..5_000).filter(|nonce| d.handle(at(0), id(1), Msg::Ping { nonce: *nonce }, &mut out).is_ok()).count();
    assert_eq!((taken as u64, out.len() as u64), (INBOUND_BURST, INBOUND_BURST));
}

#[test]
fn a_newcomer_hears_who_is_down() {
    let mut net = Net::full(6, 0);
    net.silent.insert(id(5));
    net.run(Duration::from_secs(20));
    assert!(net.known_down(id(5)).is_some());
    let late = id(50);
    net.nodes.insert(late, Detector::new(at(net.now), DOMAIN, key(50), Rng::from_seed([50; 32])));
    for i in 0..6 {
        net.with(late, |d, now, _| d.learn(now, id(i), 1, true));
        net.with(id(i), |d, now, _| d.learn(now, late, 1, true));
    }
    net.incarnations.insert(late, 1);
    for i in 0..5 {
        net.link(id(i), late);
    }
    let start = net.now;
    net.run(SUSPECT_MAX);
    let took = net.down.get(&(late, id(5))).copied().expect("believed") - start;
    assert!(took < 9_000, "{took}");
}

#[test]
fn a_newcomer_hears_of_many_who_are_down_as_soon() {
    let mut net = Net::new(100, 5, ring(100));
    net.run(Duration::from_secs(5));
    let dead: Vec<NodeId> = (0..100).filter(|i| i % 5 < 3).map(id).collect();
    net.silent.extend(dead.iter().copied());
    let alive: Vec<NodeId> = (0..100).filter(|i| i % 5 >= 3).map(id).collect();
    // Those that are left find each other.
    for (i, a) in alive.iter().enumerate() {
        for d in [1, 2, 7] {
            net.link(*a, alive[(i + d) % alive.len()]);
        }
    }
    net.run(Duration::from_secs(90));
    let told = net.down.keys().filter(|(by, of)| alive.contains(by) && dead.contains(of)).count();
    assert_eq!(told, alive.len() * dead.len());
    let late = id(200);
    net.nodes.insert(late, Detector::new(at(net.now), DOMAIN, key(200), Rng::from_seed([50; 32])));
    net.incarnations.insert(late, 1);
    for i in 0..100 {
        net.with(late, |d, now, _| d.learn(now, id(i), 1, true));
        net.with(id(i), |d, now, _| d.learn(now, late, 1, true));
    }
    for other in alive.iter().step_by(4).take(9) {
        net.link(*other, late);
    }
    let start = net.now;
    net.run(Duration::from_secs(120));
    let mut took: Vec<u64> = dead.iter().map(|of| net.down.get(&(late, *of)).map_or(999_999, |at| at - start)).collect();
    took.sort_unstable();
    println!("half after {} ms, all after {} ms, for {} bytes", took[took.len() / 2], took.last().unwrap(), net.bytes[&late]);
    assert!(*took.last().unwrap() <= 15_000);
    assert!(alive.iter().all(|of| !net.down.contains_key(&(late, *of))));
}

#[test]
fn the_half_that_is_cut_off_is_down_and_back_with_the_first_links() {
    let mut net = Net::new(20, 0, ring(20));
    net.run(Duration::from_secs(5));
    let half = |n: &NodeId| (0..10).any(|i| id(i) == *n);
    let across: Vec<(NodeId, NodeId)> = net.links.iter().filter(|(a, b)| half(a) != half(b)).copied().collect();
    for (a, b) in &across {
        net.cut(*a, *b);
    }
    net.run(Duration::from_secs(60));
    // Those nobody had a link to are dialled when their neighbours are gone.
    for a in 0..20 {
        for b in (0..20).filter(|b| half(&id(a)) != half(&id(*b))) {
            net.with(id(a), |d, now, _| d.dial_failed(now, id(b)));
        }
    }
    net.run(Duration::from_secs(540));
    for a in 0..20 {
        for b in 0..20 {
            assert_eq!(net.down.contains_key(&(id(a), id(b))), half(&id(a)) != half(&id(b)), "{a} of {b}");
        }
    }
    for (a, b) in &across[..3] {
        net.link(*a, *b);
    }
    net.run(Duration::from_secs(5));
    assert!(net.down.is_empty(), "{} verdicts left", net.down.len());
}

/// A node that judged itself by each member it finds silent would judge slowly after half of them were.
#[test]
fn who_falls_silent_right_after_a_partition_is_down_as_soon_as_ever() {
    let mut net = Net::full(24, 5);
    net.run(Duration::from_secs(5));
    let half = |n: &NodeId| (0..12).any(|i| id(i) == *n);
    let across: Vec<(NodeId, NodeId)> = net.links.iter().filter(|(a, b)| half(a) != half(b)).copied().collect();
    // The links stand, and carry nothing.
    net.links.retain(|(a, b)| half(a) == half(b));
    net.run(Duration::from_secs(30));
    assert_eq!(net.down.len(), 2 * 12 * 12);
    net.links.extend(across);
    net.run(Duration::from_secs(1));
    let start = net.now;
    net.silent.insert(id(1));
    net.run(Duration::from_secs(15));
    let took = net.known_down(id(1)).expect("not all know") - start;
    let worst = net.nodes.values().map(Detector::health).max();
    println!("{took} ms, health {worst:?}");
}

#[test]
fn more_suspects_than_probes_do_not_keep_it_awake() {
    // Known from others alone, and all of them accused at once: there is room for 64 probes.
    let mut net = Net::new(120, 0, |a, b| a < 3 && b < 3);
    for i in 3..120 {
        net.silent.insert(id(i));
        for accuser in [1, 2] {
            let word = Accusation { accuser: id(accuser), suspect: id(i), incarnation: 1, created: at(net.now).wall };
            let msg = Msg::Accuse(vec![word.sign(&DOMAIN, &key(accuser))]);
            net.with(id(0), |d, now, out| d.handle(now, id(accuser), msg, out).unwrap());
        }
        net.now += 50;
    }
    let mut woken = 0;
    let end = net.now + 30_000;
    while let Some(due) = net.nodes[&id(0)].next_timeout().filter(|due| due.0 <= end) {
        net.now = (net.now + 1).max(due.0);
        net.with(id(0), |d, now, out| d.on_timeout(now, out));
        woken += 1;
    }
    assert!(woken < 2_000, "woken {woken} times in half a minute");
}

#[test]
fn messages_round_trip_and_noise_is_refused() {
    let word = Accusation { accuser: id(1), suspect: id(2), incarnation: 3, created: Wall(4) };
    let bytes = word.sign(&DOMAIN, &key(1));
    assert_eq!(Accusation::parse(&bytes), Ok(word));
    word.verify(&DOMAIN, &bytes).unwrap();
    let all = [
        Msg::Ping { nonce: 1 },
        Msg::Pong { nonce: 2 },
        Msg::Ask { nonce: 3, target: id(3) },
        Msg::Help { nonce: 4, linked: true },
        Msg::Prove { nonce: 5, asker: id(5) },
        Msg::prove(&key(6), &DOMAIN, id(7), 8),
        Msg::Accuse(vec![bytes; ENOUGH]),
        Msg::Down(vec![bytes; 2]),
        Msg::Held { answer: true, names: vec![[7; 8], [8; 8]] },
        Msg::Why(vec![[9; 8]; NAMED]),
    ];
    let mut rng = Rng::from_seed([1; 32]);
    for msg in all {
        let bytes = msg.encode();
        assert_eq!(Msg::decode(&bytes), Ok(msg));
        for cut in 0..bytes.len() {
            let lists = [(7, 1, 144), (8, 1, 144), (9, 2, 8), (10, 1, 8)].into_iter().find(|(kind, _, _)| *kind == bytes[0]);
            let whole = lists.is_some_and(|(kind, head, each)| cut >= head && (cut - head) % each == 0 && (kind > 8 || cut > head));
            assert_eq!(Msg::decode(&bytes[..cut]).is_ok(), whole);
        }
        assert!(Msg::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
    for _ in 0..2_000 {
        let n = usize::try_from(rng.below(200)).unwrap();
        let noise: Vec<u8> = rng.bytes::<200>()[..n].to_vec();
        let _ = Msg::decode(&noise);
    }
}
