//! What is looked at every second.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};

use super::{PATIENCE, Resident, SETTLED, Spoken, Trial};
use crate::base::NodeId;
use crate::peer::{Change, Event, Output};
use crate::proto::directory::Query;

/// Those whose timers run once a minute act on what they held to be true so many milliseconds ago.
const SLOW: u64 = 60_000;
/// What has not been as it ought to be for so many milliseconds is told of.
const LONG: u64 = 30_000;

/// Since when something is not as it ought to be.
#[derive(Default)]
pub(super) struct Looks {
    /// Somebody sees somebody wrongly.
    wrong: BTreeMap<(NodeId, NodeId), u64>,
    /// Somebody's copies are not those of the others.
    unequal: BTreeMap<NodeId, u64>,
}

impl Trial {
    pub(super) fn look(&mut self) {
        let now = self.town.world.now();
        for node in core::mem::take(&mut self.joining) {
            let end = self
                .town
                .world
                .outputs(node)
                .into_iter()
                .find_map(|o| if let Output::Joined { result, .. } = o { Some(result) } else { None });
            match end {
                None => self.joining.push(node),
                Some(Err(_)) => self.outcome.refused += 1,
                Some(Ok(())) => {
                    self.outcome.joined += 1;
                    self.town.settle_in(node);
                    let until = if self.guests.is_guest(node) { None } else { Some(self.session(now)) };
                    self.residents.insert(node, Resident { since: now, until, throttled: false });
                }
            }
        }
        let here: Vec<NodeId> = self.residents.keys().copied().collect();
        for node in &here {
            self.hear_events(*node);
            self.hear_messages(*node);
            self.look_around(now, *node);
            self.weigh(*node);
        }
        self.compare_copies(now);
        self.watch_evicted();
        self.settle(now);
    }

    fn hear_events(&mut self, node: NodeId) {
        for output in self.town.world.outputs(node) {
            match output {
                Output::Event(Event::Participant { node: of, change: Change::Down, .. }) => {
                    // What was begun while they were apart ends later.
                    let slow = [node, of].iter().any(|n| self.residents.get(n).is_some_and(|r| r.throttled));
                    let parted = self.parted(&node, &of, SETTLED + if slow { SLOW } else { 0 });
                    if self.residents.contains_key(&of) && !parted {
                        self.outcome.false_downs += 1;
                        let (now, domain) = (self.town.world.now(), self.town.domain);
                        let [here, there] = [node, of].map(|n| self.residents.get(&n).map_or(0, |r| (now - r.since) / 1_000));
                        let why = self.town.world.look(node, |m, _| m.suspicion(domain, &of));
                        self.amiss
                            .push(format!("{node}, there for {here} s, takes {of} for down, who has been there for {there} s; {why}"));
                    }
                }
                Output::Sent { id, missed, .. } => {
                    // What was not taken need not arrive.
                    if let Some(number) = self.sends.remove(&(node, id)).filter(|_| !missed.is_empty()) {
                        self.spoken.remove(&number);
                    }
                }
                _ => {}
            }
        }
    }

    fn hear_messages(&mut self, node: NodeId) {
        for (from, text) in self.town.heard(node) {
            if self.byzantine.contains(&from) {
                continue;
            }
            let Ok(number) = text.parse::<u64>() else {
                self.outcome.misdirected += 1;
                continue;
            };
            // Forgotten: both ends did not stay, or it was not taken by all it was for.
            let Some(spoken) = self.spoken.get_mut(&number) else { continue };
            self.outcome.misdirected += usize::from(spoken.from != from || spoken.to.is_some_and(|to| to != node));
            let again = !spoken.heard.insert(node);
            let early = spoken.to.is_some() && self.last.insert((from, node), number).is_some_and(|last| last > number);
            self.outcome.repeated += usize::from(again || early);
        }
    }

    /// Whether a participant sees those who are there, and nobody else.
    fn look_around(&mut self, now: u64, by: NodeId) {
        let (domain, query) = (self.town.domain, Query { online: Some(true), ..Query::default() });
        let seen = self.town.world.look(by, |m, now| m.participants(now, domain, &query)).unwrap_or_default();
        let seen: BTreeSet<NodeId> = seen.into_iter().map(|p| p.node).collect();
        let unseen = self.residents.keys().filter(|n| !seen.contains(n));
        let harmful = |n: &NodeId| self.byzantine.contains(n) || *n == self.town.manager || self.joining.contains(n);
        let ghosts = seen.iter().filter(|n| !self.residents.contains_key(n) && !harmful(n));
        // Of those on the other side of a division nobody can tell.
        let wrong: BTreeSet<NodeId> = unseen.chain(ghosts).filter(|of| !self.parted(&by, of, 0)).copied().collect();
        let known = self.looks.wrong.range((by, NodeId::MIN)..).take_while(|((b, _), _)| *b == by);
        let known: Vec<NodeId> = known.map(|((_, of), _)| *of).collect();
        for of in known.iter().filter(|of| !wrong.contains(of)) {
            self.looks.wrong.remove(&(by, *of));
        }
        let throttled = self.residents.get(&by).is_some_and(|r| r.throttled);
        for of in wrong {
            let since = *self.looks.wrong.entry((by, of)).or_insert(now);
            if now - since == LONG {
                let presence = self.town.world.look(by, |m, now| m.participant(now, domain, &of).ok().flatten().map(|p| p.presence));
                let held = self.residents.keys().filter(|n| self.looks.wrong.get(&(**n, of)).is_some_and(|at| *at + LONG <= now)).count();
                let truth = match (self.residents.get(&of), self.gone.get(&of)) {
                    (Some(r), _) => format!("has been there for {} s", (now - r.since) / 1_000),
                    (None, Some((at, how))) => format!("{how} {} s ago", (now - at) / 1_000),
                    (None, None) => "was never let in".into(),
                };
                let here = self.residents.get(&by).map_or(0, |r| (now - r.since) / 1_000);
                let why = self.town.world.look(by, |m, _| m.suspicion(domain, &of));
                self.amiss.push(format!(
                    "{by}, there for {here} s, has seen {of} as {presence:?} for {} s, who {truth}; so do {held}; {why}",
                    LONG / 1_000
                ));
            }
            let worst = if throttled { &mut self.outcome.astray_throttled } else { &mut self.outcome.astray };
            *worst = (*worst).max(now - since);
        }
    }

    /// Whether all who are in for long enough hold the same, on each side of a division.
    fn compare_copies(&mut self, now: u64) {
        let domain = self.town.domain;
        let settled: Vec<(NodeId, bool)> =
            self.residents.iter().filter(|(_, r)| r.since + SETTLED <= now).map(|(n, r)| (*n, r.throttled)).collect();
        let copies = |n: &NodeId| self.town.world.look(*n, |p, _| (p.state_digest(domain).ok(), p.statements_digest(domain)));
        for (node, throttled) in &settled {
            // The first one on its side whose timers run.
            let model = settled.iter().find(|(n, t)| !t && !self.parted(n, node, 0));
            if model.is_none_or(|(model, _)| copies(model) == copies(node)) {
                self.looks.unequal.remove(node);
                continue;
            }
            let since = *self.looks.unequal.entry(*node).or_insert(now);
            if now - since == LONG {
                self.amiss.push(format!("the copies of {node} have not been the others' for {} s", LONG / 1_000));
            }
            let worst = if *throttled { &mut self.outcome.unequal.1 } else { &mut self.outcome.unequal.0 };
            *worst = (*worst).max(now - since);
        }
        self.looks.unequal.retain(|node, _| self.residents.contains_key(node));
    }

    /// Whether somebody holds more than it may.
    fn weigh(&mut self, node: NodeId) {
        let domain = self.town.domain;
        for (what, _, _) in self.town.world.look(node, |m, _| m.weights(domain)).into_iter().filter(|(_, is, most)| is > most) {
            self.outcome.unbounded += 1;
            self.amiss.push(format!("{node} holds too much: {what}"));
            self.outcome.heavy.get_or_insert(what);
        }
    }

    /// Draws the balance of messages that had their time.
    fn settle(&mut self, now: u64) {
        while let Some(first) = self.spoken.first_entry()
            && first.get().at + PATIENCE <= now
        {
            let (number, spoken) = first.remove_entry();
            if !self.residents.contains_key(&spoken.from) {
                continue;
            }
            let same_side = |node: &NodeId| self.away.contains(node) == self.away.contains(&spoken.from);
            let for_all = |node: &NodeId, r: &Resident| r.since + SETTLED <= spoken.at && (!spoken.apart || same_side(node));
            let due = self
                .residents
                .iter()
                .filter(|(node, r)| **node != spoken.from && spoken.to.map_or_else(|| for_all(node, r), |to| to == **node));
            for (node, _) in due {
                let arrived = spoken.heard.contains(node);
                self.outcome.arrived += usize::from(arrived);
                if !arrived {
                    self.outcome.lost += 1;
                    let Spoken { from, at, .. } = &spoken;
                    let what = if spoken.to.is_some() { "to it" } else { "to all" };
                    let waits = if self.sends.values().any(|n| *n == number) { "still waits" } else { "was taken for sent" };
                    self.amiss.push(format!("what {from} said {what} {} s ago did not come to {node}, and {waits}", (now - at) / 1_000));
                }
            }
        }
    }
}
