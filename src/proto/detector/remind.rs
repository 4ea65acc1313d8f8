//! Reminders: neighbours compare whom they hold for down.
//!
//! Words go from neighbour to neighbour once, and a frame may be lost, or come before the record that it is about: whoever missed the one
//! that makes enough would take a member that is gone for online until its record expires. This is SWIM's push-pull between two
//! members (as in Serf's memberlist), of names only: what is behind them is asked for.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use super::machine::{Detector, Effect, State};
use super::msg::{ACCUSATION, Accusation, Msg, NAMED, Name, name};
use crate::base::{Mono, NodeId};

/// The time between two reminders, each to a neighbour by lot.
const REMIND: Duration = Duration::from_secs(5);
/// How long somebody has just come.
const NEW: Duration = Duration::from_secs(60);

impl Detector {
    /// Who was held for down last is named first.
    pub(super) fn fell(&mut self, node: NodeId) {
        self.fallen.push_back(node);
        while self.fallen.len() > NAMED / 2 {
            self.fallen.pop_front();
        }
    }

    /// Names to a neighbour whom this node holds for down, and asks it for the same. Who has just come asks though it knows of nobody.
    pub(super) fn remind_if_due(&mut self, at: Mono, out: &mut Vec<Effect>) {
        if at < self.remind {
            return;
        }
        self.remind = at.after(REMIND);
        let chosen = usize::try_from(self.rng.below(self.links.len() as u64)).unwrap_or(0);
        let Some(to) = self.links.keys().nth(chosen).copied() else { return };
        let names = self.held();
        if !names.is_empty() || at.since(self.born) < NEW {
            self.pay(at, out, to, Msg::Held { answer: true, names });
        }
    }

    /// The latest of those that are down here, and of the others some by lot.
    fn held(&mut self) -> Vec<Name> {
        let down = self.down();
        let first = usize::try_from(self.rng.below(down.len() as u64)).unwrap_or(0);
        let latest = self.fallen.iter().filter(|n| self.is_down(n)).take(NAMED / 2);
        latest
            .chain(down.iter().cycle().skip(first).take(down.len()))
            .map(name)
            .take(NAMED)
            .collect::<BTreeSet<Name>>()
            .into_iter()
            .collect()
    }

    /// A neighbour holds members for down: it is asked why, of those that are not down here.
    ///
    /// Also of those that answer this node: its words then go to whom they are about, who refutes them.
    pub(super) fn reminded(&mut self, from: NodeId, answer: bool, names: &[Name], out: &mut Vec<Effect>) {
        let names: BTreeSet<&Name> = names.iter().collect();
        let settled = |n: &NodeId| self.is_down(n) || self.voices(n) >= self.enough(n);
        let doubted = self.members.iter().filter(|(n, m)| m.watched && names.contains(&name(n)) && !settled(n));
        let doubted: Vec<Name> = doubted.map(|(n, _)| name(n)).take(NAMED).collect();
        if !doubted.is_empty() {
            out.push(Effect::Send { to: from, msg: Msg::Why(doubted) });
        }
        let own = if answer { self.held() } else { Vec::new() };
        if !own.is_empty() {
            out.push(Effect::Send { to: from, msg: Msg::Held { answer: false, names: own } });
        }
    }

    /// What a neighbour still holds against members that answer this node, though it was heard here before: they may have missed it, and refute it.
    pub(super) fn call_the_living(&mut self, at: Mono, list: &[[u8; ACCUSATION]], out: &mut Vec<Effect>) {
        let living = list.iter().filter_map(|bytes| {
            let word = Accusation::parse(bytes).ok()?;
            let member = self.members.get(&word.suspect).filter(|m| m.state == State::Trusted && m.incarnation == word.incarnation)?;
            let known = member.words.get(&word.accuser).is_some_and(|w| w.bytes == *bytes);
            (known && self.links.contains_key(&word.suspect)).then_some((word.suspect, *bytes))
        });
        // One is enough to refute.
        for (suspect, bytes) in living.collect::<BTreeMap<_, _>>() {
            self.pay(at, out, suspect, Msg::Accuse(Vec::from([bytes])));
        }
    }

    /// A neighbour asks why members are held for down here.
    pub(super) fn explain(&mut self, at: Mono, to: NodeId, names: &[Name], out: &mut Vec<Effect>) {
        let names: BTreeSet<&Name> = names.iter().collect();
        let asked: Vec<NodeId> = self.down().into_iter().filter(|n| names.contains(&name(n))).take(NAMED).collect();
        self.tell(at, to, asked.iter(), Msg::Down, out);
    }

    /// Whom this node holds for down.
    pub(super) fn down(&self) -> Vec<NodeId> {
        self.members.iter().filter(|(_, m)| m.state == State::Down).map(|(n, _)| *n).collect()
    }
}
