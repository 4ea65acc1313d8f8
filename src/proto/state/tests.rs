use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use proptest::prelude::*;

use super::machine::{REMEMBERED, ROUND};
use super::*;
use crate::base::{Code, DomainId, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);
const START: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(START + ms) }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n + 1; 32])
}

fn id(n: u8) -> NodeId {
    key(n).node_id()
}

fn state(n: u8) -> State {
    State::new(at(0), DOMAIN, key(n), Rng::from_seed([n; 32]))
}

fn value(s: &State, key: &str) -> Option<String> {
    s.get(key).and_then(|e| e.value.clone()).map(|v| String::from_utf8(v).unwrap())
}

fn whole(s: &State) -> Vec<(String, Stamp, Vec<u8>)> {
    s.entries("").into_iter().map(|e| (e.key.clone(), e.stamp, e.value.clone().unwrap())).collect()
}

/// Copies with links; messages arrive in order per link, and some are lost.
struct Net {
    copies: Vec<State>,
    /// How far each one's wall clock is off, ms.
    skews: Vec<i64>,
    links: BTreeSet<(usize, usize)>,
    wire: VecDeque<(usize, usize, Vec<u8>)>,
    now: u64,
    sent: usize,
    loss: u64,
    rng: Rng,
}

impl Net {
    fn new(n: u8) -> Net {
        let copies: Vec<State> = (0..n).map(state).collect();
        let (skews, links) = (vec![0; copies.len()], BTreeSet::new());
        Net { copies, skews, links, wire: VecDeque::new(), now: 0, sent: 0, loss: 0, rng: Rng::from_seed([99; 32]) }
    }

    fn clock(&self, i: usize) -> Now {
        Now { mono: Mono(self.now), wall: Wall((START + self.now).saturating_add_signed(self.skews[i])) }
    }

    fn put(&mut self, i: usize, out: Vec<Effect>) {
        for effect in out {
            let Effect::Send { to, msg } = effect else { continue };
            let bytes = msg.encode();
            assert!(bytes.len() <= limit::FRAME, "{} bytes", bytes.len());
            for node in to {
                let j = (0..self.copies.len()).find(|j| id(*j as u8) == node).unwrap();
                self.sent += bytes.len();
                if self.rng.below(100) >= self.loss {
                    self.wire.push_back((i, j, bytes.clone()));
                }
            }
        }
    }

    fn write(&mut self, i: usize, key: &str, value: Option<&str>) {
        let (now, mut out) = (self.clock(i), Vec::new());
        self.copies[i].write(now, key, value.map(|v| v.as_bytes().to_vec()), &mut out).unwrap();
        self.put(i, out);
    }

    fn link(&mut self, i: usize, j: usize) {
        self.links.insert((i.min(j), i.max(j)));
        for (a, b) in [(i, j), (j, i)] {
            let mut out = Vec::new();
            self.copies[a].link_up(id(b as u8), &mut out);
            self.put(a, out);
        }
    }

    fn cut(&mut self, i: usize, j: usize) {
        self.links.remove(&(i.min(j), i.max(j)));
        for (a, b) in [(i, j), (j, i)] {
            self.copies[a].link_down(&id(b as u8));
        }
        self.wire.retain(|(a, b, _)| (*a.min(b), *a.max(b)) != (i.min(j), i.max(j)));
    }

    /// Lets everything under way arrive.
    fn settle(&mut self) {
        while let Some((i, j, bytes)) = self.wire.pop_front() {
            let mut out = Vec::new();
            let now = self.clock(j);
            let result = self.copies[j].handle(now, id(i as u8), Msg::decode(&bytes).unwrap(), &mut out);
            assert!(matches!(result, Ok(()) | Err(Reject::Limit)), "{result:?}");
            self.put(j, out);
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 500 {
            self.now += 500;
            for i in 0..self.copies.len() {
                let (now, mut out) = (self.clock(i), Vec::new());
                self.copies[i].on_timeout(now, &mut out);
                self.put(i, out);
            }
            self.settle();
        }
    }

    fn agree(&self) -> bool {
        self.copies.iter().all(|c| c.digest() == self.copies[0].digest())
    }
}

#[test]
fn a_write_reaches_all_and_the_later_one_wins_whatever_the_clocks_say() {
    let mut net = Net::new(3);
    net.skews = vec![120_000, 0, -120_000];
    for (a, b) in [(0, 1), (1, 2)] {
        net.link(a, b);
    }
    net.settle();
    net.write(0, "anchor", Some("first"));
    net.settle();
    assert_eq!(value(&net.copies[2], "anchor").as_deref(), Some("first"));
    // Four minutes behind by its clock, and yet later: it saw the first.
    net.write(2, "anchor", Some("second"));
    net.settle();
    assert!(net.copies.iter().all(|c| value(c, "anchor").as_deref() == Some("second")));
    assert_eq!(net.copies[0].get("anchor").unwrap().writer, id(2));
    net.write(1, "anchor", None);
    net.settle();
    assert!(net.copies.iter().all(|c| c.get("anchor").is_none() && c.entries("").is_empty()));
    assert!(net.agree());
}

#[test]
fn what_changes_is_told_once_and_what_does_not_is_not_sent() {
    let mut s = state(0);
    let mut out = Vec::new();
    s.link_up(id(1), &mut out);
    out.clear();
    s.write(at(0), "a", Some(b"1".to_vec()), &mut out).unwrap();
    assert!(matches!(&out[..], [Effect::Changed { key }, Effect::Send { to, .. }] if key == "a" && to.len() == 1));
    out.clear();
    s.write(at(1), "a", Some(b"1".to_vec()), &mut out).unwrap();
    s.write(at(1), "none", None, &mut out).unwrap();
    assert_eq!(out, []);
}

#[test]
fn the_later_write_survives_a_partition_and_a_late_joiner_gets_all() {
    let mut net = Net::new(5);
    for (a, b) in [(0, 1), (0, 2), (1, 2), (2, 3)] {
        net.link(a, b);
    }
    for i in 0..300 {
        net.write(i % 4, &format!("key {i}"), Some(&"x".repeat(i)));
    }
    net.settle();
    net.cut(2, 3);
    net.now += 60_000;
    net.write(0, "key 1", Some("early"));
    net.write(3, "key 2", None);
    net.now += 1_000;
    net.write(3, "key 1", Some("late"));
    net.write(1, "key 2", Some("back again"));
    net.settle();
    assert_eq!((value(&net.copies[1], "key 1").as_deref(), value(&net.copies[3], "key 1").as_deref()), (Some("early"), Some("late")));
    net.link(2, 3);
    net.settle();
    net.link(3, 4);
    net.settle();
    assert!(net.agree());
    for copy in &net.copies {
        assert_eq!((value(copy, "key 1").as_deref(), value(copy, "key 2").as_deref()), (Some("late"), Some("back again")));
        assert_eq!(copy.entries("").len(), 300);
        assert_eq!(copy.entries("key 29").len(), 11);
    }
}

#[test]
fn comparing_costs_what_differs() {
    let mut net = Net::new(2);
    for i in 0..4_000 {
        net.write(0, &format!("{i}"), Some(&"v".repeat(500)));
    }
    net.link(0, 1);
    net.settle();
    assert!(net.agree(), "a full map goes over");
    let whole = net.copies[0].export().len();
    assert!(net.sent < whole + whole / 5, "{} bytes for {whole}", net.sent);
    net.cut(0, 1);
    for i in 0..10 {
        net.write(usize::from(i % 2 == 0), &format!("{}", i * 7), Some("changed"));
    }
    net.sent = 0;
    net.link(0, 1);
    net.settle();
    assert!(net.agree());
    println!("10 of 4,000 differ: {} bytes", net.sent);
    assert!(net.sent < 25_000, "{} bytes", net.sent);
    net.sent = 0;
    net.run(ROUND * 4);
    assert!(net.sent < 200, "{} bytes while nothing differs", net.sent);
}

#[test]
fn what_was_lost_is_found_again() {
    let mut net = Net::new(4);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
        net.link(a, b);
    }
    net.loss = 40;
    for i in 0..100 {
        net.write(i % 4, &format!("{}", i % 30), Some(&format!("{i}")));
        net.settle();
    }
    assert!(!net.agree(), "something was lost");
    net.loss = 0;
    net.run(ROUND * 8);
    assert!(net.agree());
}

#[test]
fn forged_damaged_and_future_entries_are_refused_and_the_rest_of_the_list_is_taken() {
    let entry = |n: u8, stamp: u64, text: &str| Entry {
        key: text.into(),
        stamp: Stamp::at(Wall(START + stamp)),
        writer: id(n),
        value: Some(b"v".to_vec()),
    };
    let good = entry(1, 0, "good").sign(&DOMAIN, &key(1));
    let other = entry(1, 0, "other").sign(&DomainId::from_bytes([8; 32]), &key(1));
    let stolen = entry(1, 0, "stolen").sign(&DOMAIN, &key(2));
    let future = entry(1, u64::try_from(limit::CLOCK_SKEW.as_millis()).unwrap() + 1, "future").sign(&DOMAIN, &key(1));
    let empty = entry(1, 0, "").sign(&DOMAIN, &key(1));
    let large = Entry { value: Some(vec![0; VALUE + 1]), ..entry(1, 0, "large") }.sign(&DOMAIN, &key(1));
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    for (bad, reject) in [
        (other, Reject::Forged),
        (stolen, Reject::Forged),
        (flipped, Reject::Forged),
        (future, Reject::Expired),
        (empty, Reject::Malformed),
        (large, Reject::TooLarge),
        (good[..50].to_vec(), Reject::Malformed),
    ] {
        let mut s = state(0);
        let list = vec![bad.into(), good.clone().into()];
        assert_eq!(s.handle(at(0), id(2), Msg::Entries { list, more: true }, &mut Vec::new()), Err(reject));
        assert_eq!(s.entries("").len(), 1, "{reject}");
    }
}

#[test]
fn a_full_map_says_so_and_old_deletions_make_room() {
    let mut s = state(0);
    let mut out = Vec::new();
    for i in 0..KEYS {
        s.write(at(0), &format!("{i}"), Some(vec![1]), &mut out).unwrap();
    }
    assert_eq!(s.write(at(1), "one more", Some(vec![1]), &mut out).unwrap_err().code(), Code::TooLarge);
    s.write(at(1), "7", Some(vec![2]), &mut out).unwrap();
    s.write(at(1), "8", None, &mut out).unwrap();
    assert!(s.write(at(2), "one more", Some(vec![1]), &mut out).is_err(), "a deletion is remembered");
    let late = at(u64::try_from(REMEMBERED.as_millis()).unwrap() + 10);
    s.write(late, "one more", Some(vec![1]), &mut out).unwrap();
    // What another wrote takes the place of the oldest, unless it is older still.
    let mut theirs = |wall: Wall, out: &mut Vec<Effect>| {
        let entry = Entry { key: "theirs".into(), stamp: Stamp::at(wall), writer: id(1), value: Some(vec![1]) }.sign(&DOMAIN, &key(1));
        s.handle(late, id(1), Msg::Entries { list: vec![entry.into()], more: false }, out)
    };
    assert_eq!(theirs(Wall(START - 1), &mut out), Err(Reject::Limit));
    out.clear();
    assert_eq!(theirs(late.wall, &mut out), Ok(()));
    let changed = |key: &str| Effect::Changed { key: key.into() };
    assert_eq!(out, [changed("0"), changed("theirs")]);
    assert_eq!((s.get("0"), s.usage().0), (None, KEYS));
    // Of two deletions that need not be remembered the older goes, whichever comes first: two copies would exchange them for ever.
    s.write(late, "9", None, &mut out).unwrap();
    let later = Now { wall: late.wall.after(REMEMBERED).after(Duration::from_millis(100)), ..late };
    for (wall, result) in [(Wall(START), Err(Reject::Limit)), (late.wall.after(Duration::from_millis(10)), Ok(()))] {
        let entry = Entry { key: "gone".into(), stamp: Stamp::at(wall), writer: id(1), value: None }.sign(&DOMAIN, &key(1));
        assert_eq!(s.handle(later, id(1), Msg::Entries { list: vec![entry.into()], more: false }, &mut out), result);
    }
    assert_eq!((s.stamp("9"), s.usage().0), (None, KEYS));
    assert_eq!(s.write(at(0), "", Some(vec![]), &mut out).unwrap_err().code(), Code::BadArgument);
    assert_eq!(s.write(at(0), "k", Some(vec![0; VALUE + 1]), &mut out).unwrap_err().code(), Code::TooLarge);
    let mut s = state(0);
    for i in 0..BYTES / VALUE {
        let _ = s.write(at(0), &format!("{i}"), Some(vec![1; VALUE]), &mut out);
    }
    assert!(s.write(at(0), "over", Some(vec![1; VALUE]), &mut out).is_err());
    assert!(s.export().len() <= BYTES + 2 * KEYS);
}

#[test]
fn what_is_stored_comes_back_and_damage_costs_what_it_hit() {
    let mut s = state(0);
    for i in 0..20 {
        s.write(at(0), &format!("{i}"), Some(format!("value {i}").into_bytes()), &mut Vec::new()).unwrap();
    }
    s.write(at(1), "3", None, &mut Vec::new()).unwrap();
    let bytes = s.export();
    let mut again = state(1);
    again.import(at(2), &bytes);
    assert_eq!((whole(&again), again.digest()), (whole(&s), s.digest()));
    let mut bad = bytes.clone();
    bad[30] ^= 1;
    let mut damaged = state(1);
    damaged.import(at(2), &bad);
    assert!(damaged.entries("").len() >= 18);
    damaged.import(at(2), &bytes[..bytes.len() / 2]);
    // A later write of the copy that came back is later than all it holds.
    again.write(Now { wall: Wall(START - 100_000), ..at(0) }, "4", Some(b"new".to_vec()), &mut Vec::new()).unwrap();
    assert!(again.get("4").unwrap().stamp > s.get("4").unwrap().stamp);
}

type Written = Option<Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8, Option<u8>),
    Link(usize, usize),
    Cut(usize, usize),
    Settle,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5usize, 0..6u8, prop::option::weighted(0.8, any::<u8>())).prop_map(|(i, k, v)| Step::Write(i, k, v)),
        2 => (0..5usize, 0..5usize).prop_map(|(i, j)| Step::Link(i, j)),
        1 => (0..5usize, 0..5usize).prop_map(|(i, j)| Step::Cut(i, j)),
        2 => Just(Step::Settle),
        1 => (0..5_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model of a key is what was written with the greatest stamp.
    #[test]
    fn five_copies_agree_on_the_last_write_of_every_key(steps in prop::collection::vec(step(), 1..80), skews in prop::array::uniform5(-120_000i64..120_000)) {
        let mut net = Net::new(5);
        net.skews = skews.to_vec();
        let mut model: BTreeMap<String, (Stamp, Vec<Written>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write(i, k, v) => {
                    let (name, v) = (k.to_string(), v.map(|v| v.to_string()));
                    let before = net.copies[i].digest();
                    net.write(i, &name, v.as_deref());
                    if net.copies[i].digest() != before {
                        let stamp = net.copies[i].stamp(&name).unwrap();
                        let (held, last) = model.entry(name).or_default();
                        // Two of one moment: either may be the last.
                        if stamp > *held {
                            last.clear();
                        }
                        if stamp >= *held {
                            *held = stamp;
                            last.push(v.map(String::into_bytes));
                        }
                    }
                }
                Step::Link(i, j) if i != j => net.link(i, j),
                Step::Cut(i, j) if i != j => net.cut(i, j),
                Step::Settle => net.settle(),
                Step::Pass(ms) => net.now += ms,
                Step::Link(..) | Step::Cut(..) => {}
            }
        }
        for i in 1..5 {
            net.link(0, i);
        }
        net.settle();
        net.run(ROUND * 3);
        prop_assert!(net.agree());
        for copy in &net.copies {
            prop_assert_eq!(whole(copy), whole(&net.copies[0]));
            for (name, (_, last)) in &model {
                prop_assert!(last.contains(&copy.get(name).and_then(|e| e.value.clone())));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    /// Each fills up its own map alone; where they meet, the newest entries stay, at all of them the same.
    #[test]
    fn copies_that_were_filled_apart_agree_on_what_stays(
        seed: [u8; 32], n in 2..4u8, longest in prop::sample::select(vec![1, 400, VALUE as u64]), deleted in 0..5u64
    ) {
        let (mut net, mut rng, mut all) = (Net::new(n), Rng::from_seed(seed), BTreeSet::new());
        for i in 0..usize::from(n) {
            let mut now = net.clock(i);
            for k in 0.. {
                now.wall = now.wall.after(Duration::from_millis(rng.below(1_000)));
                // Some keys are written by several.
                let name = if k % 10 == 0 { format!("{k}") } else { format!("{i} {k}") };
                let value = vec![1; rng.below(longest) as usize + 1];
                let full = net.copies[i].write(now, &name, Some(value), &mut Vec::new()).is_err();
                if rng.below(10) < deleted {
                    net.copies[i].write(now, &name, None, &mut Vec::new()).unwrap();
                }
                all.extend(net.copies[i].stamp(&name).map(|stamp| (stamp, name)));
                if full {
                    break;
                }
            }
        }
        net.now += 24 * 3_600_000;
        for i in 0..usize::from(n) {
            (0..i).for_each(|j| net.link(j, i));
        }
        net.settle();
        net.run(ROUND * 30);
        prop_assert!(net.agree());
        for copy in &net.copies {
            prop_assert_eq!(whole(copy), whole(&net.copies[0]));
            prop_assert!(copy.usage().0 <= KEYS && copy.usage().1 <= BYTES);
        }
        if longest == 1 {
            let mut last = BTreeMap::new();
            for (stamp, name) in all {
                last.insert(name, stamp);
            }
            let mut stamps: Vec<Stamp> = last.into_values().collect();
            stamps.sort_unstable();
            let mut held: Vec<Stamp> = net.copies[0].entries("").iter().map(|e| e.stamp).collect();
            held.sort_unstable();
            prop_assert!(held.iter().all(|stamp| *stamp >= stamps[stamps.len() - KEYS]), "the newest of all");
        }
        let before = net.sent;
        net.run(ROUND * 10);
        prop_assert!(net.sent - before < 40 * 20 * usize::from(n), "and have no more to say");
    }
}
