//! The machine: what is known of each member, and how time passes.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::msg::{ACCUSATION, Msg};
use super::probe::{PROBES, Probe};
use super::word::{COUNTS, Strikes};
use crate::base::{DomainId, Map, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::sign::SigningKey;

/// The time between two probes of this node's, stretched by its health. Each goes to the next member of a shuffled round.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Who was heard of within this time needs no probe.
pub const FRESH: Duration = Duration::from_secs(3);
/// How long a suspicion lasts that at most one member has …
pub const SUSPECT_MAX: Duration = Duration::from_secs(10);
/// … that two have …
pub const SUSPECT_TWO: Duration = Duration::from_secs(6);
/// … and that [`ENOUGH`] have, or all there are.
pub const SUSPECT_MIN: Duration = Duration::from_secs(4);
/// How long neighbours have to give a record that refutes a suspicion, before the suspect is held for down.
pub const CONFIRM: Duration = Duration::from_millis(800);
/// So many members' word is enough for those who cannot see for themselves.
pub const ENOUGH: usize = 3;
/// A deadline met later than this shows that the process slept: that time does not count.
pub const LATE: Duration = Duration::from_secs(2);
/// Who cannot be dialled is sought through others at most this often.
pub const MISSED: Duration = Duration::from_secs(600);
/// Worst value of the local health, which stretches periods and waits: Lifeguard's saturation.
pub const HEALTH: u32 = 8;
/// Accusations kept per suspect.
pub const ACCUSERS: usize = 8;
/// Bytes per second that probing and accusing may cost, in the mean …
pub const RATE: u64 = 2_048;
/// … and at once.
pub const BURST: u64 = 32 * 1024;
/// What a newcomer has at first, beyond the burst: after a partition it hears of half a domain at once that it is down, looks for each through
/// ten helpers, and would take what is left of them for online meanwhile.
pub const CREDIT: u64 = 128 * 1024;
/// Messages a second taken from one neighbour, in the mean …
pub const INBOUND: u64 = 32;
/// … and at once.
pub const INBOUND_BURST: u64 = 1_024;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To a linked member.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        msg: Msg,
    },
    /// A member is about to be held for down: neighbours are to be asked for its record, which it may have made anew to refute that.
    Confirm {
        /// Who.
        node: NodeId,
    },
    /// A member's state changed. The word is about this incarnation of its record and lower ones.
    Verdict {
        /// Who.
        node: NodeId,
        /// Of its record.
        incarnation: u64,
        /// Down, or reached again.
        down: bool,
    },
    /// Somebody suspects this node: its next record needs an incarnation above this one.
    Refute {
        /// The one accused.
        incarnation: u64,
    },
}

/// What this node makes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Trusted,
    /// Since when, counted in waking time.
    Suspect(Mono),
    Down,
}

/// Somebody's word against a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub bytes: [u8; ACCUSATION],
    pub created: Wall,
    /// Which suspicion it counts for.
    pub at: Mono,
}

#[derive(Debug)]
pub(super) struct Member {
    pub incarnation: u64,
    /// Says that it is online; those asleep are not expected to answer.
    pub watched: bool,
    pub heard: Option<Mono>,
    /// When its last link broke.
    pub lost: Option<Mono>,
    /// When it was last sought because it could not be dialled.
    pub missed: Option<Mono>,
    pub state: State,
    pub words: Map<NodeId, Word>,
    /// What this node's own probes say since the suspicion began.
    pub seen: Seen,
    /// When neighbours were asked for its record, since the suspicion began.
    pub asked: Option<Mono>,
}

/// A word that waits for a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    pub since: Mono,
    pub bytes: [u8; ACCUSATION],
    pub news: bool,
}

/// What a finished probe showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// It did not answer over a link of ours or of a helper's.
    Silent,
    /// Neither this node nor any helper has a link to it.
    Blind,
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: u64,
    at: Mono,
}

impl Bucket {
    pub fn full(at: Mono, burst: u64) -> Bucket {
        Bucket { left: burst, at }
    }
    fn refill(&mut self, at: Mono, rate: u64, burst: u64) {
        let gained = u64::try_from(at.since(self.at).as_millis()).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000;
        if gained > 0 {
            // What there was beyond a burst stays until it is used.
            (self.left, self.at) = (self.left.saturating_add(gained).min(burst.max(self.left)), at);
        }
    }
    /// Takes so many, or tells that there are not that many.
    pub fn take(&mut self, at: Mono, n: u64, rate: u64, burst: u64) -> bool {
        self.refill(at, rate, burst);
        let enough = self.left >= n;
        if enough {
            self.left -= n;
        }
        enough
    }
    /// Takes so many, or all that are left.
    pub fn drain(&mut self, at: Mono, n: u64, rate: u64, burst: u64) {
        self.refill(at, rate, burst);
        self.left = self.left.saturating_sub(n);
    }
}

/// What the machine holds, for tests of its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Members watched, linked, or found wrong: the most of these.
    pub members: usize,
    /// Words against one of them, at most.
    pub words: usize,
    /// Words of one neighbour's that wait for records, at most.
    pub early: usize,
    /// Probes under way.
    pub probes: usize,
}

/// The failure detector of one domain at one node.
pub struct Detector {
    pub(super) domain: DomainId,
    pub(super) key: SigningKey,
    pub(super) me: NodeId,
    pub(super) rng: Rng,
    /// The incarnation of this node's own record, once there is one.
    pub(super) own: Option<u64>,
    pub(super) members: Map<NodeId, Member>,
    /// Members with an authenticated link, and what they may still ask.
    pub(super) links: Map<NodeId, Bucket>,
    pub(super) suspects: BTreeSet<NodeId>,
    pub(super) probes: Map<NodeId, Probe>,
    /// Whom this round of probes has still to visit.
    pub(super) round: Vec<NodeId>,
    pub(super) period: Mono,
    pub(super) health: u32,
    pub(super) born: Mono,
    /// Time this process slept through, which no deadline counts.
    skipped: Duration,
    pub(super) budget: Bucket,
    /// Whose accusations were found wrong here.
    pub(super) strikes: Map<NodeId, Strikes>,
    /// When this node last refuted, and what it still has to.
    pub(super) refuted: Option<Mono>,
    pub(super) refute: Option<u64>,
    /// The wall clock when something was heard or due last.
    pub(super) wall: Wall,
    /// Words about, or of, members whose records have not come yet, by whom they came from: who has just joined hears those first.
    pub(super) early: Map<NodeId, Vec<Early>>,
    /// Who was held for down last, and when neighbours are reminded next.
    pub(super) fallen: VecDeque<NodeId>,
    pub(super) remind: Mono,
}

impl Detector {
    /// A detector that knows nobody. `key` is this node's identity.
    #[must_use]
    pub fn new(now: Now, domain: DomainId, key: SigningKey, rng: Rng) -> Detector {
        Detector {
            domain,
            me: key.node_id(),
            key,
            rng,
            own: None,
            members: Map::new(),
            links: Map::new(),
            suspects: BTreeSet::new(),
            probes: Map::new(),
            round: Vec::new(),
            period: now.mono.after(PERIOD),
            health: 0,
            born: now.mono,
            skipped: Duration::ZERO,
            budget: Bucket::full(now.mono, CREDIT),
            strikes: Map::new(),
            refuted: None,
            refute: None,
            wall: now.wall,
            early: Map::new(),
            fallen: VecDeque::new(),
            remind: now.mono,
        }
    }

    /// What is made of a member and why, for whoever looks into a trial.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn describe(&self, node: &NodeId) -> alloc::string::String {
        let Some(m) = self.members.get(node) else { return "unknown".into() };
        let heeded = m.words.keys().filter(|accuser| self.heeds(accuser)).count();
        let state = match m.state {
            State::Trusted => "trusted",
            State::Suspect(_) => "suspected",
            State::Down => "down",
        };
        let (words, enough, probed) = (m.words.len(), self.enough(node), self.probes.contains_key(node));
        let early: usize = self.early.values().map(Vec::len).sum();
        alloc::format!(
            "{state} by {heeded} of {words} words ({enough} are enough), {:?}, linked {}, probed {probed} among {}, health {}, {early} early",
            m.seen,
            self.links.contains_key(node),
            self.probes.len(),
            self.health
        )
    }

    /// What is held.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let words = self.members.values().map(|m| m.words.len()).max().unwrap_or(0);
        let early = self.early.values().map(Vec::len).max().unwrap_or(0);
        Usage { members: self.members.len().max(self.links.len()).max(self.strikes.len()), words, early, probes: self.probes.len() }
    }

    /// A record of a member, or of this node, is the newest now. `watched`: it says that it is online, not asleep or gone.
    pub fn learn(&mut self, now: Now, node: NodeId, incarnation: u64, watched: bool) {
        if node == self.me {
            self.own = Some(incarnation);
            if self.refute.is_some_and(|accused| accused < incarnation) {
                self.refute = None;
            }
            return;
        }
        let at = self.catch_up(now);
        if self.members.len() >= limit::RECORDS && !self.members.contains_key(&node) {
            return;
        }
        let fresh = || Member {
            incarnation,
            watched,
            heard: None,
            lost: None,
            missed: None,
            state: State::Trusted,
            words: Map::new(),
            seen: Seen::Nothing,
            asked: None,
        };
        let member = self.members.entry(node).or_insert_with(fresh);
        let refuted = incarnation > member.incarnation;
        (member.incarnation, member.watched) = (incarnation.max(member.incarnation), watched);
        if refuted {
            let wrong = if member.state != State::Down { core::mem::take(&mut member.words) } else { Map::new() };
            member.words.clear();
            for (accuser, _) in wrong {
                self.strike(at, accuser);
            }
        }
        if refuted || !watched {
            self.trust(&node);
        }
    }

    /// Forgets a node that is no member any more, or whose record is gone.
    pub fn forget(&mut self, node: &NodeId) {
        self.unlearn(node);
        self.links.remove(node);
        self.early.remove(node);
        self.strikes.remove(node);
    }

    /// The record of a node is gone.
    pub fn unlearn(&mut self, node: &NodeId) {
        self.members.remove(node);
        self.suspects.remove(node);
        self.probes.remove(node);
    }

    /// A link to a member is up and both Hellos hold: it is alive, and hears whom this node holds for down.
    pub fn link_up(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        let at = self.catch_up(now);
        self.links.entry(node).or_insert_with(|| Bucket::full(at, INBOUND_BURST));
        if !self.is_down(&node) {
            self.tell_words(at, node, Msg::Down, out);
        }
        self.reached(at, &node, out);
    }

    /// The last link to a member broke. Where that is a reason to `doubt` that it is there, it is soon sought through others.
    pub fn link_down(&mut self, now: Now, node: NodeId, doubt: bool) {
        let at = self.catch_up(now);
        self.early.remove(&node);
        if self.links.remove(&node).is_none() {
            return;
        }
        if !doubt {
            // What was asked on a link that was let go is not answered any more.
            if let Some(probe) = self.probes.get_mut(&node) {
                probe.pinged = false;
            }
            return;
        }
        let jitter = self.rng.below(1_000);
        let Some(member) = self.members.get_mut(&node) else { return };
        member.lost = Some(at);
        if member.watched && member.state != State::Down {
            self.start_probe(at.after(Duration::from_millis(jitter)), node);
        }
    }

    /// A member that this node should be linked with cannot be dialled, time and again: it is sought through others. At most
    /// once in [`MISSED`], for there are ways to be alive that no dial leads to.
    pub fn dial_failed(&mut self, now: Now, node: NodeId) {
        let at = self.catch_up(now);
        let jitter = self.rng.below(2_000);
        let Some(member) = self.members.get_mut(&node) else { return };
        let again = member.missed.is_none_or(|missed| at.since(missed) >= MISSED);
        if again && member.watched && member.state != State::Down && !self.links.contains_key(&node) {
            (member.missed, member.lost) = (Some(at), Some(at));
            self.start_probe(at.after(Duration::from_millis(jitter)), node);
        }
    }

    /// Something came from a member over its link.
    pub fn heard(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        let at = self.catch_up(now);
        if self.links.contains_key(&node) {
            self.reached(at, &node, out);
        }
    }

    /// Whether something came from a member over its link lately: whatever else is said of it, it lives.
    pub fn hears(&mut self, now: Now, node: &NodeId) -> bool {
        let at = self.catch_up(now);
        let heard = self.members.get(node).filter(|m| m.state != State::Down).and_then(|m| m.heard);
        self.links.contains_key(node) && heard.is_some_and(|heard| at.since(heard) < SUSPECT_MAX)
    }

    /// A message from a member, over a link on which both Hellos hold.
    ///
    /// # Errors
    /// [`Reject::Limit`] if it asks too much; [`Reject::Forged`]; [`Reject::Forbidden`] for words of somebody who is no
    /// member; [`Reject::Stale`] for what is known or refuted; [`Reject::Expired`]; [`Reject::Malformed`].
    pub fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let at = self.catch_up(now);
        let cost = match &msg {
            Msg::Accuse(list) | Msg::Down(list) => list.len() as u64,
            Msg::Held { names, .. } => names.len().max(1) as u64,
            // So many words may be the answer.
            Msg::Why(names) => (names.len() * ENOUGH).max(1) as u64,
            _ => 1,
        };
        if !self.links.get_mut(&from).is_some_and(|b| b.take(at, cost, INBOUND, INBOUND_BURST)) {
            return Err(Reject::Limit);
        }
        self.reached(at, &from, out);
        match msg {
            Msg::Ping { nonce } => out.push(Effect::Send { to: from, msg: Msg::Pong { nonce } }),
            // That it came is all it says.
            Msg::Pong { .. } => {}
            Msg::Ask { nonce, target } => self.help(from, nonce, target, out),
            Msg::Help { nonce, linked } => self.helped(from, nonce, linked),
            Msg::Prove { nonce, asker } => {
                out.push(Effect::Send { to: from, msg: Msg::prove(&self.key, &self.domain, asker, nonce) });
            }
            Msg::Proof { nonce, asker, target, signature } => return self.proof(at, from, nonce, asker, target, signature, out),
            Msg::Accuse(list) => return self.take_words(now, at, from, &list, true, out),
            Msg::Down(list) => {
                self.call_the_living(at, &list, out);
                return self.take_words(now, at, from, &list, false, out);
            }
            Msg::Held { answer, names } => self.reminded(from, answer, &names, out),
            Msg::Why(names) => self.explain(at, from, &names, out),
        }
        Ok(())
    }

    /// This process woke up, or its network changed: every link is probed now.
    pub fn wake(&mut self, now: Now) {
        let at = self.catch_up(now);
        let linked: Vec<NodeId> = self.links.keys().copied().collect();
        for node in linked {
            let jitter = self.rng.below(300);
            self.start_probe(at.after(Duration::from_millis(jitter)), node);
        }
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        let at = self.catch_up(now);
        self.forgive(at);
        if at >= self.period {
            self.period = at.after(PERIOD * (1 + self.health));
            self.next_of_round(at);
            self.take_early_words(now, at, out);
            self.remind_if_due(at, out);
        }
        let due: Vec<NodeId> = self.probes.iter().filter(|(_, p)| at >= p.next).map(|(n, _)| *n).collect();
        for node in due {
            self.advance(at, node, out);
        }
        let over: Vec<NodeId> = self.suspects.iter().filter(|n| self.judged_at(n).is_some_and(|t| at >= t)).copied().collect();
        for node in over {
            self.judge(at, node, out);
        }
        self.refute_if_due(at, out);
    }

    /// When [`Detector::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let period = (!self.members.is_empty()).then_some(self.period);
        let probes = self.probes.values().map(|p| p.next).min();
        let next = [period, probes, self.first_judged(), self.refute_at()].into_iter().flatten().min()?;
        Some(next.after(self.skipped))
    }

    /// Whether a member is held for down here.
    #[must_use]
    pub fn is_down(&self, node: &NodeId) -> bool {
        self.members.get(node).is_some_and(|m| m.state == State::Down)
    }

    /// How badly this node serves as a judge just now: 0 is good, [`HEALTH`] the worst.
    #[must_use]
    pub fn health(&self) -> u32 {
        self.health
    }

    /// The waking time. A deadline met much too late shows that the process slept, and how long.
    fn catch_up(&mut self, now: Now) -> Mono {
        self.wall = now.wall;
        if let Some(late) = self.next_timeout().map(|due| now.mono.since(due)).filter(|late| *late > LATE) {
            self.skipped += late;
            self.sicker();
        }
        Mono(now.mono.0.saturating_sub(u64::try_from(self.skipped.as_millis()).unwrap_or(0)))
    }

    pub(super) fn sicker(&mut self) {
        self.health = (self.health + 1).min(HEALTH);
    }

    /// This node knows by itself that a member lives.
    pub(super) fn reached(&mut self, at: Mono, node: &NodeId, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get_mut(node) else { return };
        (member.heard, member.lost) = (Some(at), None);
        if self.probes.get(node).is_some_and(|p| p.began()) {
            self.health = self.health.saturating_sub(1);
        }
        self.probes.remove(node);
        let Some(member) = self.members.get(node) else { return };
        let (state, incarnation) = (member.state, member.incarnation);
        let linked = state != State::Trusted && self.links.contains_key(node);
        if matches!(state, State::Suspect(_)) && linked && !member.words.is_empty() {
            let said = member.words.values().take(ENOUGH).map(|w| w.bytes).collect();
            // It could not hear that while it was silent, and others may not see for themselves that it lives: it is to refute it.
            out.push(Effect::Send { to: *node, msg: Msg::Accuse(said) });
        }
        if state == State::Down {
            out.push(Effect::Verdict { node: *node, incarnation, down: false });
            // Where links outlived a partition nobody new is linked: those across hear now of whom this side holds for down.
            if linked {
                self.tell_words(at, *node, Msg::Accuse, out);
            }
        }
        if state != State::Trusted {
            self.trust(node);
        }
    }

    /// Ends a suspicion. What was said stays said: the same words do not raise it again.
    fn trust(&mut self, node: &NodeId) {
        self.suspects.remove(node);
        self.probes.remove(node);
        if let Some(member) = self.members.get_mut(node) {
            (member.state, member.seen, member.asked) = (State::Trusted, Seen::Nothing, None);
            member.words.remove(&self.me);
        }
    }

    pub(super) fn suspect(&mut self, at: Mono, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node)
            && member.state == State::Trusted
        {
            (member.state, member.seen) = (State::Suspect(at), Seen::Nothing);
            self.suspects.insert(node);
        }
    }

    /// How many members' word is enough: fewer than [`ENOUGH`] where there are not that many.
    pub(super) fn enough(&self, suspect: &NodeId) -> usize {
        let others = self.members.iter().filter(|(n, m)| *n != suspect && m.watched && m.state == State::Trusted);
        1 + others.take(ENOUGH - 1).count()
    }

    /// Whose word counts against a suspect: each accuser once, and this node for what it sees or said: the others count its word too,
    /// and may all have judged by it when its helpers' links are gone and it sees nothing any more.
    pub(super) fn voices(&self, node: &NodeId) -> usize {
        let Some(member) = self.members.get(node) else { return 0 };
        let State::Suspect(since) = member.state else { return 0 };
        let counts = |(a, w): &(&NodeId, &Word)| w.at.after(COUNTS) >= since && self.heeds(a);
        let unsaid = member.seen == Seen::Silent && !member.words.contains_key(&self.me);
        member.words.iter().filter(counts).count() + usize::from(unsaid)
    }

    /// When the first suspicion is to be judged. This is asked for at every message, and in a partition half of a domain may be suspected.
    fn first_judged(&self) -> Option<Mono> {
        let mut first: Option<Mono> = None;
        for node in &self.suspects {
            let soonest = self.members.get(node).and_then(|m| match m.state {
                State::Suspect(since) => Some(m.asked.map_or(since.after(SUSPECT_MIN), |asked| asked.after(CONFIRM))),
                _ => None,
            });
            // Whatever is said against it, it is not before the one found.
            if soonest.is_some_and(|soonest| first.is_none_or(|first| soonest < first)) {
                first = first.into_iter().chain(self.judged_at(node)).min();
            }
        }
        first
    }

    /// When a suspicion is to be judged; none while this node is still looking for itself.
    fn judged_at(&self, node: &NodeId) -> Option<Mono> {
        let member = self.members.get(node)?;
        let State::Suspect(since) = member.state else { return None };
        // Its probe says when it is over, or the end of another one makes room for it.
        if member.seen == Seen::Nothing && (self.probes.contains_key(node) || self.probes.len() >= PROBES) {
            return None;
        }
        let voices = self.voices(node);
        let lasts = match voices {
            // Alone: rather this node is cut off than all the others gone.
            _ if self.links.is_empty() => SUSPECT_MAX,
            0 | 1 => SUSPECT_MAX,
            n if n >= self.enough(node) => SUSPECT_MIN,
            _ => SUSPECT_TWO,
        };
        Some(member.asked.map_or(since.after(lasts), |asked| asked.after(CONFIRM)))
    }

    fn judge(&mut self, at: Mono, node: NodeId, out: &mut Vec<Effect>) {
        let enough = self.voices(&node) >= self.enough(&node);
        let Some(member) = self.members.get_mut(&node) else { return };
        match member.seen {
            Seen::Silent => {}
            Seen::Blind if enough => {}
            // Never looked: now.
            Seen::Nothing => return self.start_probe(at, node),
            Seen::Blind => return self.trust(&node),
        }
        if member.asked.is_none() {
            member.asked = Some(at);
            return out.push(Effect::Confirm { node });
        }
        (member.state, member.asked) = (State::Down, None);
        out.push(Effect::Verdict { node, incarnation: member.incarnation, down: true });
        self.suspects.remove(&node);
        self.probes.remove(&node);
        self.fell(node);
    }
}

impl core::fmt::Debug for Detector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Detector({} members, {} links, {} suspects, health {})",
            self.members.len(),
            self.links.len(),
            self.suspects.len(),
            self.health
        )
    }
}
