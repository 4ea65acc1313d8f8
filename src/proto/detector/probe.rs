//! Looking for oneself: over one's own link, then through others that have one.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::machine::{BURST, Detector, Effect, FRESH, RATE, Seen, State};
use super::msg::{Msg, check_proof};
use crate::base::{Mono, NodeId, Reject};
use crate::crypto::sign::SIGNATURE;

/// How long the first try's answer is waited for, stretched by this node's health; half as long from then on.
const WAIT: Duration = Duration::from_millis(800);
/// Tries of one probe. Where each member has few links, hardly a helper has one to whom is sought: then only the link's own
/// losses stand between a member and a false accusation, and three tries in a row are lost too often.
const TRIES: u32 = 5;
/// Helpers asked in each try but the first.
const HELPERS: usize = 2;
/// A node to which no more than one helper in so many answers hears badly itself: fewer are missing where half the network is cut
/// off, or where a fifth of all frames is lost.
const ANSWERED: usize = 3;
/// How often a probe begins anew when not even a helper answers: then it may be this node that is cut off.
const ROUNDS: u32 = 3;
/// A link that broke so long ago gives standing to say that its member is silent.
const STANDING: Duration = Duration::from_secs(60);
/// Probes under way at most.
pub const PROBES: usize = 64;
/// What a message costs beside its own bytes: seal, frame, pair tag, stream and link.
const OVERHEAD: u64 = 160;

/// A probe of one member.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    nonce: u64,
    tries: u32,
    rounds: u32,
    /// When the next try is due, in waking time.
    pub next: Mono,
    /// It was asked on a link of this node's that is up, or broke.
    pub pinged: bool,
    asked: BTreeSet<NodeId>,
    /// Helpers that answered, whatever.
    answered: BTreeSet<NodeId>,
    /// A helper has a link to the member.
    linked: bool,
}

impl Probe {
    /// Whether anything was sent.
    pub fn began(&self) -> bool {
        self.tries > 0
    }
}

impl Detector {
    /// Probes the next member of the round, and begins a new round when all were visited.
    pub(super) fn next_of_round(&mut self, at: Mono) {
        if self.round.is_empty() {
            // Where links are few, a member without one is its neighbours' business.
            let watched = self.members.values().filter(|m| m.watched).count();
            let meshed = self.links.len() * 2 >= watched;
            let wanted = |n: &NodeId| meshed || self.links.contains_key(n);
            let eligible = self.members.iter().filter(|(n, m)| m.watched && m.state != State::Down && wanted(n));
            self.round = eligible.map(|(n, _)| *n).collect();
            for i in (1..self.round.len()).rev() {
                let j = usize::try_from(self.rng.below(i as u64 + 1)).unwrap_or(0);
                self.round.swap(i, j);
            }
        }
        while let Some(node) = self.round.pop() {
            let Some(member) = self.members.get(&node).filter(|m| m.watched && m.state != State::Down) else { continue };
            if member.heard.is_none_or(|heard| at.since(heard) > FRESH) {
                self.start_probe(at, node);
                return;
            }
        }
    }

    /// Begins a probe at a moment, unless one is under way.
    pub(super) fn start_probe(&mut self, when: Mono, node: NodeId) {
        if self.probes.len() >= PROBES || !self.members.contains_key(&node) {
            return;
        }
        let nonce = u64::from_be_bytes(self.rng.bytes());
        self.probes.entry(node).or_insert_with(|| Probe {
            nonce,
            tries: 0,
            rounds: 0,
            next: when,
            pinged: false,
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
            linked: false,
        });
    }

    /// The next step of a probe: another try, or its end.
    pub(super) fn advance(&mut self, at: Mono, node: NodeId, out: &mut Vec<Effect>) {
        let wait = WAIT * (1 + self.health);
        let direct = self.links.contains_key(&node);
        let affordable = self.budget.take(at, OVERHEAD, RATE, BURST);
        let Some(probe) = self.probes.get_mut(&node) else { return };
        if probe.tries == 0 && !affordable {
            probe.next = at.after(WAIT / 2);
            return;
        }
        if probe.tries >= TRIES {
            return self.conclude(at, node, out);
        }
        probe.tries += 1;
        probe.next = at.after(if probe.tries == 1 { wait } else { wait / 2 });
        probe.pinged |= direct;
        let (nonce, first) = (probe.nonce, probe.tries == 1);
        if direct {
            self.pay(at, out, node, Msg::Ping { nonce });
        }
        if !first || !direct {
            for helper in self.helpers(&node) {
                if let Some(probe) = self.probes.get_mut(&node) {
                    probe.asked.insert(helper);
                }
                self.pay(at, out, helper, Msg::Ask { nonce, target: node });
            }
        }
    }

    /// Linked members that were not asked yet, by lot.
    fn helpers(&mut self, node: &NodeId) -> Vec<NodeId> {
        let Some(probe) = self.probes.get(node) else { return Vec::new() };
        let trusted = |n: &NodeId| self.members.get(n).is_some_and(|m| m.watched && m.state == State::Trusted);
        let mut all: Vec<NodeId> = self.links.keys().filter(|n| *n != node && trusted(n) && !probe.asked.contains(*n)).copied().collect();
        let mut chosen = Vec::new();
        while chosen.len() < HELPERS && !all.is_empty() {
            let i = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
            chosen.push(all.swap_remove(i));
        }
        chosen
    }

    /// A probe ended without an answer of the member's.
    fn conclude(&mut self, at: Mono, node: NodeId, out: &mut Vec<Effect>) {
        let Some(mut probe) = self.probes.remove(&node) else { return };
        let Some(member) = self.members.get_mut(&node) else { return };
        if !member.watched || member.state == State::Down {
            return;
        }
        // It had a link, to this node or to a helper, and said nothing.
        let lost = member.lost.is_some_and(|lost| at.since(lost) <= STANDING);
        let silent = probe.pinged || probe.linked || lost;
        let alone = !probe.asked.is_empty() && probe.answered.is_empty();
        // Lifeguard's missed nacks: where helpers answer it is the member that is silent, and not this node that hears badly.
        let deaf = probe.answered.len() * ANSWERED <= probe.asked.len();
        if alone {
            self.sicker();
            probe.rounds += 1;
            if probe.rounds < ROUNDS {
                (probe.tries, probe.next, probe.asked) = (0, at, BTreeSet::new());
                self.probes.insert(node, probe);
                return;
            }
        } else if silent && deaf {
            self.sicker();
        }
        if silent {
            self.suspect(at, node);
        }
        if let Some(member) = self.members.get_mut(&node).filter(|m| m.state != State::Trusted) {
            member.seen = if silent { Seen::Silent } else { Seen::Blind };
        }
        if silent {
            self.accuse(at, node, out);
            // It is looked for until it is judged.
            self.start_probe(at.after(WAIT), node);
        }
    }

    /// Somebody seeks a member: it is told whether this node has a link there, and the member is asked for a proof.
    pub(super) fn help(&self, from: NodeId, nonce: u64, target: NodeId, out: &mut Vec<Effect>) {
        let linked = target != from && self.links.contains_key(&target);
        out.push(Effect::Send { to: from, msg: Msg::Help { nonce, linked } });
        if linked {
            out.push(Effect::Send { to: target, msg: Msg::Prove { nonce, asker: from } });
        }
    }

    /// A helper answered.
    pub(super) fn helped(&mut self, from: NodeId, nonce: u64, linked: bool) {
        if let Some(probe) = self.probes.iter_mut().map(|(_, v)| v).find(|p| p.nonce == nonce && p.asked.contains(&from)) {
            probe.answered.insert(from);
            probe.linked |= linked;
        }
    }

    /// A proof of life: for this node, or to be handed to whoever asked.
    #[expect(clippy::too_many_arguments, reason = "one per field of the message")]
    pub(super) fn proof(
        &mut self,
        at: Mono,
        from: NodeId,
        nonce: u64,
        asker: NodeId,
        target: NodeId,
        signature: [u8; SIGNATURE],
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        if asker != self.me {
            // Only from the member itself, so that a proof goes over two links at most.
            if from == target && self.links.contains_key(&asker) {
                out.push(Effect::Send { to: asker, msg: Msg::Proof { nonce, asker, target, signature } });
            }
            return Ok(());
        }
        if self.probes.get(&target).is_none_or(|p| p.nonce != nonce) {
            return Err(Reject::Stale);
        }
        check_proof(&self.domain, &asker, &target, nonce, &signature)?;
        self.reached(at, &target, out);
        Ok(())
    }

    /// Sends what this node does of its own accord, on its budget.
    pub(super) fn pay(&mut self, at: Mono, out: &mut Vec<Effect>, to: NodeId, msg: Msg) {
        let cost = msg.encode().len() as u64 + OVERHEAD;
        // A probe that began goes on; the next one waits until the budget is there again.
        self.budget.drain(at, cost, RATE, BURST);
        out.push(Effect::Send { to, msg });
    }
}
