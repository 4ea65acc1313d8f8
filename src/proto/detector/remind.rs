//! Reminders: neighbours compare whom they hold for down.
//!
//! Words go from neighbour to neighbour once, and a frame may be lost, or come before the record that it is about: whoever missed the one
//! that makes enough would take a member that is gone for online until its record expires. This is SWIM's push-pull between two
//! members (as in Serf's memberlist), of names only: what is behind them is asked for.

use alloc::vec::Vec;
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
        let mut all: Vec<NodeId> = self.fallen.iter().filter(|n| self.is_down(n)).copied().collect();
        all.extend(self.down());
        let mut names: Vec<Name> = Vec::new();
        for name in all.iter().map(name) {
            if names.len() < NAMED && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A neighbour holds members for down: it is asked why, of those that are not down here.
    ///
    /// Also of those that answer this node: its words then go to whom they are about, who refutes them.
    pub(super) fn reminded(&mut self, from: NodeId, answer: bool, names: &[Name], out: &mut Vec<Effect>) {
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
        let mut called = Vec::new();
        for bytes in list {
            let Ok(word) = Accusation::parse(bytes) else { continue };
            let Some(member) = self.members.get(&word.suspect) else { continue };
            let lives = member.state == State::Trusted && member.incarnation == word.incarnation && self.links.contains_key(&word.suspect);
            let known = member.words.get(&word.accuser).is_some_and(|w| w.bytes == *bytes);
            // One is enough to refute.
            if lives && known && !called.contains(&word.suspect) {
                called.push(word.suspect);
                self.pay(at, out, word.suspect, Msg::Accuse(Vec::from([*bytes])));
            }
        }
    }

    /// A neighbour asks why members are held for down here.
    pub(super) fn explain(&mut self, at: Mono, to: NodeId, names: &[Name], out: &mut Vec<Effect>) {
        let mut asked = self.down();
        asked.retain(|n| names.contains(&name(n)));
        asked.truncate(NAMED);
        self.tell(at, to, &asked, Msg::Down, out);
    }

    /// Whom this node holds for down, from one of them by lot on.
    pub(super) fn down(&mut self) -> Vec<NodeId> {
        let mut down: Vec<NodeId> = self.members.iter().filter(|(_, m)| m.state == State::Down).map(|(n, _)| *n).collect();
        let first = usize::try_from(self.rng.below(down.len() as u64)).unwrap_or(0);
        down.rotate_left(first);
        down
    }
}
