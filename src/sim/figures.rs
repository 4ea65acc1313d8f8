//! What a domain of a given size does on a given network, in figures: `peerage sim` prints them, the tests hold them to bars at small sizes.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::halves::Halves;
use super::{Conditions, Town, Traffic};
use crate::base::{Code, NodeId};
use crate::peer::{Change, Event, Output, To};
use crate::proto::directory::{Capability, Signed};

/// The text that one participant sends to all.
const SPEECH: usize = 1_000;
/// Milliseconds between two looks at who was told what.
const STEP: u64 = 50;
/// How long is watched who hears what while somebody is evicted, in milliseconds; for how long of it is spoken, and when it happens.
const DEBATE: u64 = 30_000;
const SPOKEN: u64 = 15_000;
const EVICTED: u64 = 5_000;
/// Who sees everybody for so many milliseconds after a partition goes on doing so: a suspicion takes less.
const SETTLED: u64 = 15_000;
/// For all to see all.
const PATIENCE: Duration = Duration::from_secs(120);

/// An experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Participants.
    pub nodes: usize,
    /// Frames lost, in percent, on both lanes. Only once everybody is in.
    pub loss: u8,
    /// One way between two nodes, from and to.
    pub latency: (Duration, Duration),
    /// Participants of a hundred whose timers run once a minute, as a hidden tab's do.
    pub throttled: usize,
    /// How often each event is repeated: joins, leaves, crashes.
    pub repeats: usize,
    /// How long the halves of a partition are apart.
    pub apart: Duration,
    /// Everything follows from it.
    pub seed: u64,
}

/// A time until all knew something: half of them, ninety-nine of a hundred, the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Milliseconds of simulated time.
    pub median: u64,
    /// The same.
    pub p99: u64,
    /// The same.
    pub last: u64,
    /// How many never knew, within the time that was waited.
    pub never: usize,
}

/// What it took to evict somebody while one of ten spoke to all each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Bytes that it cost everybody together, above what idling and speaking cost.
    pub bytes: u64,
    /// The longest that anybody waited for something that was said, in milliseconds.
    pub pause: u64,
    /// What was said and did not arrive, over all listeners.
    pub missed: usize,
}

/// How two halves became one again that had both gone on: written shared state, changed records, closed an invitation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healing {
    /// Milliseconds from the end of the partition until every participant saw all and all copies were equal, of the directory, of the shared
    /// state and of the membership; `None`: not within two minutes.
    pub took: Option<u64>,
    /// How much of what was done meanwhile was not there afterwards, or was overwritten by what had been written before it, over all copies.
    pub lost: usize,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Links of a participant: in the mean, in tenths, and at most.
    pub links: (u64, u64),
    /// Bytes a second that a participant receives while nobody does anything. In a large domain no record may fall due in the minute that
    /// is watched.
    pub idle: u64,
    /// Bytes that one record signed anew costs everybody together. All together sign about one a second.
    pub renewal: u64,
    /// From the end of a join until the others knew; 0 for those who knew before.
    pub join: Spread,
    /// Bytes that one join cost everybody together, above what idling costs.
    pub join_bytes: u64,
    /// From a goodbye until the others knew.
    pub leave: Spread,
    /// From a crash that leaves links dangling until the others knew.
    pub crash: Spread,
    /// A message of 1,000 bytes to all.
    pub message: Spread,
    /// Somebody is evicted.
    pub eviction: Eviction,
    /// The network was divided, half and half.
    pub healing: Healing,
    /// How often somebody who was there was taken for down, partitions apart.
    pub false_downs: usize,
}

struct Run {
    town: Town,
    gone: BTreeSet<NodeId>,
    figures: Figures,
    /// Bytes a second while nobody does anything, news apart.
    rest: u64,
}

/// What crossed the network, and which records were signed, incarnation and sequence, up to a moment.
struct Mark {
    at: u64,
    traffic: Traffic,
    signed: BTreeMap<NodeId, (u64, u64)>,
}

/// Carries out an experiment. `told` hears what is being done.
///
/// # Errors
/// The code if a participant could not join.
///
/// # Panics
/// As [`Town`] does.
pub fn run(plan: Plan, told: &mut dyn FnMut(&str)) -> Result<Figures, Code> {
    // The links of the dead stay up: only silence tells.
    let good = Conditions { latency: plan.latency, keep_alive: Duration::from_secs(60), ..Conditions::default() };
    let mut town = Town::new(plan.seed, good);
    let link = town.link.clone();
    while town.participants.len() < plan.nodes {
        told(&format!("{} have joined, {} s simulated", town.participants.len(), town.world.now() / 1_000));
        // As many at once as a small relay lets in.
        let batch = (plan.nodes - town.participants.len()).min(50);
        town.crowd(batch)?;
    }
    let mut run = Run { town, gone: BTreeSet::new(), figures: Figures::default(), rest: 0 };
    run.town.agree(PATIENCE);
    run.town.world.run(Duration::from_secs(120));
    run.town.world.net().set_conditions(Conditions { loss: (plan.loss, plan.loss), ..good });
    let throttled = plan.nodes * plan.throttled / 100;
    for node in run.town.participants.clone().into_iter().rev().take(throttled) {
        run.town.world.throttle(node, Duration::from_secs(60));
    }
    run.watch();
    run.figures.false_downs = 0;
    run.links();

    told("nobody does anything");
    let (before, mark) = (run.bytes(), run.mark());
    run.pass(60_000);
    run.figures.idle = (run.bytes() - before) / 60 / plan.nodes as u64;
    run.rest = run.since(&mark).0.rest / 60;

    told(&format!("idle at {} B/s; some sign their records anew", run.figures.idle));
    let (mark, domain) = (run.mark(), run.town.domain);
    for node in run.town.participants.clone().into_iter().take(plan.repeats.max(3)) {
        // Nothing is signed where nothing changed.
        let _ = run.town.world.act(node, |p, now| p.advertise(now, domain, Vec::from([Capability::new("sim/idle", 1)])));
        run.pass(2_000);
    }
    let (traffic, signed) = run.since(&mark);
    run.figures.renewal = traffic.news / signed.max(1);

    told(&format!("one that is signed anew costs {} KB; some join", run.figures.renewal / 1_000));
    let (mut times, mut never, mut cost) = (Vec::new(), 0, 0);
    for _ in 0..plan.repeats {
        let before = run.mark();
        let others = run.town.participants.clone();
        let node = run.town.join(&link, 0)?;
        let joined = run.town.world.now();
        let heard = run.hear(&others, node, Change::Joined, joined, 30_000);
        never += others.len() - heard.len();
        times.extend(heard);
        run.pass(5_000);
        cost += run.cost(&before);
    }
    run.figures.join = spread(times, never);
    run.figures.join_bytes = cost / plan.repeats.max(1) as u64;

    told(&format!("a join is known in {} s, for {} KB; one speaks to all", run.figures.join, run.figures.join_bytes / 1_000));
    run.figures.message = run.speak();

    told(&format!("that is heard in {} s; some leave", run.figures.message));
    run.figures.leave = run.lose(plan.repeats, Change::Left, |town, node| {
        // Whoever is in may leave.
        let _ = town.world.act(node, |p, now| p.leave(now, domain));
    });
    told(&format!("a leave is known in {} s; some crash", run.figures.leave));
    run.figures.crash = run.lose(plan.repeats, Change::Down, |town, node| town.world.vanish(node));

    told(&format!("a crash is known in {} s; one is evicted", run.figures.crash));
    run.figures.eviction = run.evict();

    let Eviction { bytes, pause, .. } = run.figures.eviction;
    told(&format!("for {} KB and a pause of {} s; the network is divided", bytes / 1_000, seconds(pause)));
    let mut halves = Halves::new(&mut run.town);
    run.pass(5_000);
    halves.part(&mut run.town, plan.apart);
    run.figures.healing = Healing { took: run.heal(), lost: halves.lost(&run.town) };
    Ok(run.figures)
}

impl Run {
    fn bytes(&mut self) -> u64 {
        let nodes = self.town.participants.clone();
        nodes.iter().map(|n| self.town.world.net().bytes(n)).sum()
    }

    fn mark(&mut self) -> Mark {
        let (domain, manager) = (self.town.domain, self.town.manager);
        let records = self.town.world.look(manager, |p, _| p.records(domain));
        let records = records.iter().filter_map(|bytes| Signed::parse(bytes).ok());
        let signed = records.map(|s| (s.record().node, (s.record().incarnation, s.record().sequence))).collect();
        Mark { at: self.town.world.now(), traffic: self.town.world.net().traffic(), signed }
    }

    /// What crossed the network since then, and how many records those who were there signed anew.
    fn since(&mut self, mark: &Mark) -> (Traffic, u64) {
        let now = self.mark();
        let anew = mark.signed.iter().map(|(node, before)| match now.signed.get(node) {
            Some(after) if after.0 == before.0 => after.1.saturating_sub(before.1),
            // It refuted a suspicion, which is told as a renewal is.
            Some(after) => after.1,
            None => 0,
        });
        (now.traffic - mark.traffic, anew.sum())
    }

    /// Bytes since then, without what is said and what idling costs: what an event cost everybody together.
    fn cost(&mut self, mark: &Mark) -> u64 {
        let (traffic, renewals) = self.since(mark);
        let rest = self.rest * (self.town.world.now() - mark.at) / 1_000;
        traffic.news.saturating_sub(self.figures.renewal * renewals) + traffic.rest.saturating_sub(rest)
    }

    /// What participants were told of one another since the last look.
    fn watch(&mut self) -> Vec<(NodeId, NodeId, Change)> {
        let mut told = Vec::new();
        for by in self.town.participants.clone() {
            for output in self.town.world.outputs(by) {
                if let Output::Event(Event::Participant { node, change, .. }) = output {
                    self.figures.false_downs += usize::from(change == Change::Down && !self.gone.contains(&node));
                    told.push((by, node, change));
                }
            }
        }
        told
    }

    fn pass(&mut self, ms: u64) {
        self.town.world.run(Duration::from_millis(ms));
        self.watch();
    }

    /// When each of these heard that of a node, after `start`.
    fn hear(&mut self, by: &[NodeId], of: NodeId, what: Change, start: u64, within: u64) -> Vec<u64> {
        let mut times = BTreeMap::new();
        loop {
            let now = self.town.world.now();
            for (observer, node, change) in self.watch() {
                if node == of && change == what && by.contains(&observer) {
                    times.entry(observer).or_insert(now - start);
                }
            }
            if times.len() >= by.len() || now - start > within {
                return times.into_values().collect();
            }
            self.town.world.run(Duration::from_millis(STEP));
        }
    }

    fn lose(&mut self, repeats: usize, how: Change, act: impl Fn(&mut Town, NodeId)) -> Spread {
        let (mut times, mut never) = (Vec::new(), 0);
        for _ in 0..repeats {
            // One of those in the middle: no newcomer, and none whose timers are held back.
            let node = self.town.participants.remove(self.town.participants.len() / 2);
            self.gone.insert(node);
            let (others, start) = (self.town.participants.clone(), self.town.world.now());
            act(&mut self.town, node);
            let heard = self.hear(&others, node, how, start, 120_000);
            never += others.len() - heard.len();
            times.extend(heard);
        }
        spread(times, never)
    }

    fn speak(&mut self) -> Spread {
        let (from, others) = (self.town.participants[0], self.town.participants[1..].to_vec());
        let (text, start) = ("x".repeat(SPEECH), self.town.world.now());
        self.town.say(from, To::All, &text);
        let mut times = BTreeMap::new();
        while times.len() < others.len() && self.town.world.now() < start + 60_000 {
            self.town.world.run(Duration::from_millis(10));
            let now = self.town.world.now();
            for node in &others {
                if !self.town.heard(*node).is_empty() {
                    times.entry(*node).or_insert(now - start);
                }
            }
        }
        let never = others.len() - times.len();
        spread(times.into_values().collect(), never)
    }

    /// One of ten speaks to all each second; in the midst of it somebody is evicted.
    fn evict(&mut self) -> Eviction {
        let (domain, manager) = (self.town.domain, self.town.manager);
        let victim = self.town.participants.remove(self.town.participants.len() / 2);
        self.gone.insert(victim);
        let nodes = self.town.participants.clone();
        let (mut before, mut due, mut pause) = (self.mark(), 0, 0);
        for step in 0..DEBATE / STEP {
            let now = self.town.world.now();
            if step * STEP == EVICTED {
                before = self.mark();
                // The manager holds the root key.
                let evicted = self.town.world.act(manager, |p, now| p.evict(now, domain, victim));
                assert!(evicted.is_ok(), "an owner evicts: {evicted:?}");
            }
            if step * STEP < SPOKEN && (step * STEP).is_multiple_of(1_000) {
                for node in nodes.iter().step_by(10) {
                    self.town.say(*node, To::All, &now.to_string());
                    due += nodes.len() - 1;
                }
            }
            self.pass(STEP);
            let now = self.town.world.now();
            for (_, text) in nodes.iter().flat_map(|n| self.town.heard(*n)) {
                pause = pause.max(text.parse().map_or(0, |said: u64| now.saturating_sub(said)));
                due -= 1;
            }
        }
        Eviction { bytes: self.cost(&before), pause, missed: due }
    }

    /// How long it takes until all copies are equal and everybody sees everybody for good: what was begun while the halves were apart ends
    /// later.
    fn heal(&mut self) -> Option<u64> {
        let (start, before) = (self.town.world.now(), self.figures.false_downs);
        let (mut agreed, mut since, mut equal) = (false, start, None);
        while self.town.world.now() < start + PATIENCE.as_millis() as u64 {
            let (agree, now) = (self.town.agree(Duration::ZERO), self.town.world.now());
            if agree != agreed {
                (agreed, since) = (agree, now);
            }
            if agreed && equal.is_none() && Halves::agree(&self.town) {
                equal = Some(now);
            }
            if agreed && equal.is_some() && now >= since + SETTLED {
                break;
            }
            self.pass(STEP);
        }
        // A partition is no mistake.
        self.figures.false_downs = before;
        equal.filter(|_| agreed).map(|at| at.max(since) - start)
    }

    fn links(&mut self) {
        let domain = self.town.domain;
        let each = self.town.participants.iter().map(|n| self.town.world.look(*n, |p, now| p.stats(now, domain)).map_or(0, |s| s.linked));
        let each: Vec<u64> = each.collect();
        self.figures.links = (each.iter().sum::<u64>() * 10 / each.len().max(1) as u64, each.into_iter().max().unwrap_or(0));
    }
}

fn spread(mut times: Vec<u64>, never: usize) -> Spread {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    Spread { median: at(50), p99: at(99), last: at(100), never }
}

impl core::fmt::Display for Spread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let never = if self.never == 0 { String::new() } else { format!(" ({} never)", self.never) };
        f.pad(&format!("{} / {}{never}", seconds(self.median), seconds(self.p99)))
    }
}

/// Milliseconds as seconds with two digits.
#[must_use]
pub fn seconds(ms: u64) -> String {
    let (whole, part) = (ms / 1_000, ms % 1_000 / 10);
    [whole.to_string(), format!("{part:02}")].join(".")
}
