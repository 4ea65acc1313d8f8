//! Reminders: neighbours compare whom they hold for down.
//!
//! Words go from neighbour to neighbour once, and a frame may be lost, or come before the record that it is about: whoever missed the one
//! that makes enough would take a member that is gone for online until its record expires. This is SWIM's push-pull between two
//! members (as in Serf's memberlist), of names only: what is behind them is asked for.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::machine::{Detector, Effect, State};
use super::msg::{Msg, NAMED, Name, name};
use crate::base::{Mono, NodeId};

/// The time between two reminders, each to a neighbour by lot.
const REMIND: Duration = Duration::from_secs(5);

impl Detector {
    /// Who was held for down last is named first.
    pub(super) fn fell(&mut self, node: NodeId) {
        self.fallen.push_back(node);
        while self.fallen.len() > NAMED / 2 {
            self.fallen.pop_front();
        }
    }

    /// Names to a neighbour whom this node holds for down: the latest, and of the others some by lot.
    pub(super) fn remind_if_due(&mut self, at: Mono, out: &mut Vec<Effect>) {
        if at < self.remind {
            return;
        }
        self.remind = at.after(REMIND);
        let down = self.down();
        let chosen = usize::try_from(self.rng.below(self.links.len() as u64)).unwrap_or(0);
        let Some(to) = self.links.keys().nth(chosen).copied().filter(|_| !down.is_empty()) else { return };
        let first = usize::try_from(self.rng.below(down.len() as u64)).unwrap_or(0);
        let latest = self.fallen.iter().filter(|n| self.is_down(n));
        let names: BTreeSet<Name> = latest.chain(down.iter().cycle().skip(first).take(down.len())).map(name).take(NAMED).collect();
        self.pay(at, out, to, Msg::Held(names.into_iter().collect()));
    }

    /// A neighbour holds members for down: it is asked why, of those that are not down here.
    ///
    /// Also of those that answer this node: its words then go to whom they are about, who refutes them.
    pub(super) fn reminded(&self, from: NodeId, names: &[Name], out: &mut Vec<Effect>) {
        let names: BTreeSet<&Name> = names.iter().collect();
        let settled = |n: &NodeId| self.is_down(n) || self.voices(n) >= self.enough(n);
        let doubted = self.members.iter().filter(|(n, m)| m.watched && names.contains(&name(n)) && !settled(n));
        let doubted: Vec<Name> = doubted.map(|(n, _)| name(n)).take(NAMED).collect();
        if !doubted.is_empty() {
            out.push(Effect::Send { to: from, msg: Msg::Why(doubted) });
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
