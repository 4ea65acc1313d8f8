//! What a domain of a given size does on a given network, in figures: `peerage sim` prints them, the tests hold them to bars at small sizes.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::{Conditions, Town};
use crate::base::{Code, NodeId};
use crate::peer::{Change, Event, Output, To};

/// The text that one participant sends to all.
const SPEECH: usize = 1_000;
/// Milliseconds between two looks at who was told what.
const STEP: u64 = 50;
/// For all to see all.
const PATIENCE: Duration = Duration::from_secs(120);

/// An experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Participants.
    pub nodes: usize,
    /// Frames lost, in percent, on both lanes. Only once everybody is in.
    pub loss: u8,
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

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Links of a participant: in the mean, in tenths, and at most.
    pub links: (u64, u64),
    /// Bytes a second that a participant receives while nobody does anything.
    pub idle: u64,
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
    /// Milliseconds from the end of a partition, half and half, until every participant saw all again; `None`: not within two minutes.
    pub healed: Option<u64>,
    /// How often somebody who was there was taken for down, partitions apart.
    pub false_downs: usize,
}

struct Run {
    town: Town,
    gone: BTreeSet<NodeId>,
    figures: Figures,
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
    let good = Conditions { keep_alive: Duration::from_secs(60), ..Conditions::default() };
    told("they join");
    let mut town = Town::new(plan.seed, good);
    let link = town.link.clone();
    while town.participants.len() < plan.nodes {
        // As many at once as a small relay lets in.
        let batch = (plan.nodes - town.participants.len()).min(50);
        town.crowd(batch)?;
    }
    let mut run = Run { town, gone: BTreeSet::new(), figures: Figures::default() };
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
    let before = run.bytes();
    run.pass(60_000);
    run.figures.idle = (run.bytes() - before) / 60 / plan.nodes as u64;

    told("some join");
    let (mut times, mut never, mut cost) = (Vec::new(), 0, 0);
    for _ in 0..plan.repeats {
        let (before, start) = (run.bytes(), run.town.world.now());
        let others = run.town.participants.clone();
        let node = run.town.join(&link, 0)?;
        let joined = run.town.world.now();
        let heard = run.hear(&others, node, Change::Joined, joined, 30_000);
        never += others.len() - heard.len();
        times.extend(heard);
        run.pass(5_000);
        let idle = run.figures.idle * plan.nodes as u64 * (run.town.world.now() - start) / 1_000;
        cost += (run.bytes() - before).saturating_sub(idle);
    }
    run.figures.join = spread(times, never);
    run.figures.join_bytes = cost / plan.repeats.max(1) as u64;

    told("one speaks to all");
    run.figures.message = run.speak();

    told("some leave");
    let domain = run.town.domain;
    run.figures.leave = run.lose(plan.repeats, Change::Left, |town, node| {
        // Whoever is in may leave.
        let _ = town.world.act(node, |p, now| p.leave(now, domain));
    });
    told("some crash");
    run.figures.crash = run.lose(plan.repeats, Change::Down, |town, node| town.world.vanish(node));

    told("the network is divided");
    let half = run.town.participants.len() / 2;
    let away = run.town.participants[half..].iter().map(|n| (*n, 1)).collect();
    run.town.world.net().partition(away);
    run.town.world.run(plan.apart);
    run.town.world.net().heal();
    let start = run.town.world.now();
    run.figures.healed = run.town.agree(PATIENCE).then(|| run.town.world.now() - start);
    Ok(run.figures)
}

impl Run {
    fn bytes(&mut self) -> u64 {
        let nodes = self.town.participants.clone();
        nodes.iter().map(|n| self.town.world.net().bytes(n)).sum()
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
        let never = if self.never == 0 { String::new() } else { alloc::format!(" ({} never)", self.never) };
        f.pad(&alloc::format!("{} / {}{never}", seconds(self.median), seconds(self.p99)))
    }
}

/// Milliseconds as seconds with two digits.
#[must_use]
pub fn seconds(ms: u64) -> String {
    let (whole, part) = (ms / 1_000, ms % 1_000 / 10);
    [whole.to_string(), alloc::format!("{part:02}")].join(".")
}
