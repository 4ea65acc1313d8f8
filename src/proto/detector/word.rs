//! What members say of one another: accusing, heeding, passing on, refuting.

use alloc::vec::Vec;
use core::time::Duration;

use super::machine::{ACCUSERS, Detector, ENOUGH, Early, Effect, FRESH, Member, State, Word};
use super::msg::{ACCUSATION, Accusation, LISTED, Msg};
use crate::base::{Mono, NodeId, Now, Reject, limit};

/// An accusation is taken so long after it was made, clocks aside: a member that lives has refuted it by then.
const LIFE: Duration = Duration::from_secs(3_600);
/// The same accuser is heard again about the same incarnation after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// A word counts for suspicions that begin within this time after it.
pub(super) const COUNTS: Duration = Duration::from_secs(60);
/// The least time between two refutations: below the shortest suspicion.
const REFUTE: Duration = Duration::from_secs(2);
/// Somebody found wrong this often is not heeded …
const STRIKES: u32 = 5;
/// … where what was said within this time counts once: after a partition both sides were wrong about many, in good faith …
const STRIKE: Duration = Duration::from_secs(10);
/// … and is forgiven one of them in this time.
const FORGIVE: Duration = Duration::from_secs(60);
/// With more neighbours than this, a word that is passed on goes to so many of them.
const FANOUT: usize = 4;
/// Known members of which a neighbour is told at once that they are down.
const TOLD: usize = 128;
/// Words of one neighbour's that wait for the records they need, at most: all that it tells at once.
pub(super) const EARLY: usize = TOLD * ENOUGH;
/// And for how long: the records come by comparison, with one neighbour after the other.
const WAITS: Duration = Duration::from_secs(30);

/// How often somebody was found wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strikes {
    count: u32,
    last: Option<Mono>,
    /// Since when they have been fading.
    fades: Mono,
}

impl Detector {
    /// Says to all neighbours that a member is silent, unless enough have said so.
    pub(super) fn accuse(&mut self, at: Mono, suspect: NodeId, out: &mut Vec<Effect>) {
        let said = self.members.get(&suspect).is_some_and(|m| m.words.contains_key(&self.me));
        if said || self.voices(&suspect) > ENOUGH {
            return;
        }
        let Some(bytes) = self.own_word(at, suspect) else { return };
        let linked: Vec<NodeId> = self.links.keys().copied().collect();
        for to in linked {
            self.pay(at, out, to, Msg::Accuse(Vec::from([bytes])));
        }
    }

    /// Words from a neighbour. What is refused of a list leaves the rest in force. To somebody who has just come all is news; to the others
    /// it is not, and its budget is for looking at those who are down.
    pub(super) fn take_words(
        &mut self,
        now: Now,
        at: Mono,
        from: NodeId,
        list: &[[u8; ACCUSATION]],
        news: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        let news = news || at.since(self.born) >= WAITS;
        let mut result = Ok(());
        for bytes in list {
            result = result.and(self.take_word(now, at, from, Early { since: at, bytes: *bytes, news }, out));
        }
        result
    }

    /// Takes those words that the records have come for.
    pub(super) fn take_early_words(&mut self, now: Now, at: Mono, out: &mut Vec<Effect>) {
        for (from, words) in core::mem::take(&mut self.early) {
            for early in words {
                if at.since(early.since) >= WAITS {
                    continue;
                }
                if Accusation::parse(&early.bytes).is_ok_and(|word| self.is_early(&word)) {
                    self.early.entry(from).or_default().push(early);
                } else {
                    // What it was worth was for whoever sent it to know; nobody is told now.
                    let _ = self.take_word(now, at, from, early, out);
                }
            }
        }
    }

    /// Whether the record of whom a word is by, or the one that it is about, has not come yet.
    fn is_early(&self, word: &Accusation) -> bool {
        let known = word.suspect == self.me || self.members.get(&word.suspect).is_some_and(|m| m.incarnation >= word.incarnation);
        !known || !self.members.contains_key(&word.accuser)
    }

    fn take_word(&mut self, now: Now, at: Mono, from: NodeId, said: Early, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let Early { bytes, news, .. } = &said;
        let word = Accusation::parse(bytes)?;
        if word.accuser == self.me || word.accuser == word.suspect {
            return Err(Reject::Malformed);
        }
        if word.created > now.wall.after(limit::CLOCK_SKEW) || word.created.after(LIFE).after(limit::CLOCK_SKEW) < now.wall {
            return Err(Reject::Expired);
        }
        if self.is_early(&word) {
            let waiting = self.early.entry(from).or_default();
            if waiting.len() >= EARLY {
                return Err(Reject::Limit);
            }
            waiting.push(said);
            return Ok(());
        }
        if word.suspect == self.me {
            return self.accused(at, from, &word, bytes, out);
        }
        let strikes = self.strikes.get(&word.accuser).map_or(0, |s| s.count);
        let member = self.members.get(&word.suspect).ok_or(Reject::Stale)?;
        // Of an older record than the newest known here: refuted.
        if word.incarnation != member.incarnation {
            return Err(Reject::Stale);
        }
        if member.words.get(&word.accuser).is_some_and(|w| word.created < w.created.after(AGAIN)) {
            return Err(Reject::Stale);
        }
        let others = || member.words.keys().filter(|a| **a != self.me);
        let (heeded, all) = (others().filter(|a| self.heeds(a)).count(), others().count());
        // Those often found wrong do not keep out whoever is heeded, nor their words its.
        let full = all >= ACCUSERS && !member.words.contains_key(&word.accuser);
        let displaced = others().find(|a| full && strikes < STRIKES && !self.heeds(a)).copied();
        let few = if strikes < STRIKES { heeded } else { all } < ENOUGH;
        // Handed on for longer than it is heeded: whoever still heeds it must see the suspect refute it.
        if strikes >= 2 * STRIKES || (full && displaced.is_none()) {
            return Err(Reject::Limit);
        }
        word.verify(&self.domain, bytes)?;
        let fresh = member.heard.is_some_and(|heard| at.since(heard) <= FRESH);
        let (watched, down) = (member.watched, member.state == State::Down);
        if let Some(member) = self.members.get_mut(&word.suspect) {
            displaced.map(|accuser| member.words.remove(&accuser));
            member.words.insert(word.accuser, Word { bytes: *bytes, created: word.created, at });
        }
        self.pass_on(at, from, &word, bytes, *news && few, out);
        // What is seen here outweighs it; who is asleep is not expected to answer.
        if watched && !down && !fresh && strikes < STRIKES {
            self.suspect(at, word.suspect);
            // Who has no link there looks through others, which costs all of them: not for one member's word, which a link that
            // broke is enough for and the suspect most likely refutes.
            if self.links.contains_key(&word.suspect) || self.voices(&word.suspect) >= self.enough(&word.suspect) {
                let jitter = self.rng.below(300);
                self.start_probe(at.after(Duration::from_millis(jitter)), word.suspect);
            }
        }
        Ok(())
    }

    /// Hands a word on: to the suspect, that it may refute, and while it is among the first to others who may not have it.
    fn pass_on(&mut self, at: Mono, from: NodeId, word: &Accusation, bytes: &[u8; ACCUSATION], wide: bool, out: &mut Vec<Effect>) {
        let msg = Msg::Accuse(Vec::from([*bytes]));
        if self.links.contains_key(&word.suspect) {
            self.pay(at, out, word.suspect, msg.clone());
        }
        let unlinked =
            |(n, m): (&NodeId, &Member)| m.watched && m.state == State::Trusted && *n != word.suspect && !self.links.contains_key(n);
        if !wide || !self.members.iter().any(unlinked) {
            return;
        }
        let skip = |n: &NodeId| *n == from || *n == word.accuser || *n == word.suspect;
        let mut all: Vec<NodeId> = self.links.keys().filter(|n| !skip(n)).copied().collect();
        if all.len() > limit::DEGREE {
            while all.len() > FANOUT {
                let i = usize::try_from(self.rng.below(all.len() as u64)).unwrap_or(0);
                all.swap_remove(i);
            }
        }
        for to in all {
            self.pay(at, out, to, msg.clone());
        }
    }

    /// Somebody accuses this node.
    fn accused(
        &mut self,
        at: Mono,
        from: NodeId,
        word: &Accusation,
        bytes: &[u8; ACCUSATION],
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        match self.own {
            Some(own) if word.incarnation == own => {}
            // Of an earlier record, or of one that this node never made.
            _ => return Err(Reject::Stale),
        }
        // Its own word alone, from somebody often wrong, moves nobody else either. If an honest member heeds it, it hands it on.
        if !self.heeds(&word.accuser) && (from == word.accuser || !self.heeds(&from)) {
            return Err(Reject::Limit);
        }
        if self.refute == Some(word.incarnation) {
            return Ok(());
        }
        word.verify(&self.domain, bytes)?;
        self.refute = Some(word.incarnation);
        self.strike(at, word.accuser);
        self.refute_if_due(at, out);
        Ok(())
    }

    pub(super) fn refute_at(&self) -> Option<Mono> {
        let at = self.refuted.map_or(Mono(0), |at| at.after(REFUTE));
        self.refute.map(|_| at)
    }

    pub(super) fn refute_if_due(&mut self, at: Mono, out: &mut Vec<Effect>) {
        if self.refute_at().is_some_and(|due| at >= due)
            && let Some(incarnation) = self.refute.take()
        {
            self.refuted = Some(at);
            out.push(Effect::Refute { incarnation });
        }
    }

    /// Tells a new neighbour whom this node holds for down, and why. It may be one of them.
    ///
    /// It says so in its own name too: of those who said it first many may be gone, or not be known to somebody who has just come.
    pub(super) fn tell_words(&mut self, at: Mono, to: NodeId, form: fn(Vec<[u8; ACCUSATION]>) -> Msg, out: &mut Vec<Effect>) {
        // Of too many some, by lot: other neighbours tell of the others.
        let mut down = self.down();
        down.truncate(TOLD);
        self.tell(at, to, &down, form, out);
    }

    /// Tells why members are held for down.
    pub(super) fn tell(&mut self, at: Mono, to: NodeId, down: &[NodeId], form: fn(Vec<[u8; ACCUSATION]>) -> Msg, out: &mut Vec<Effect>) {
        let mut words: Vec<[u8; ACCUSATION]> = Vec::new();
        for node in down {
            let Some(member) = self.members.get(node) else { continue };
            let there = |n: &NodeId| self.members.get(n).is_some_and(|m| m.watched && m.state == State::Trusted);
            words.extend(member.words.iter().filter(|(n, _)| there(n)).map(|(_, w)| w.bytes).take(ENOUGH - 1));
            words.extend(self.own_word(at, *node));
        }
        for part in words.chunks(LISTED) {
            out.push(Effect::Send { to, msg: form(part.to_vec()) });
        }
    }

    /// This node's word against a member, made when it is first needed.
    fn own_word(&mut self, at: Mono, suspect: NodeId) -> Option<[u8; ACCUSATION]> {
        let (me, created, domain, key) = (self.me, self.wall, &self.domain, &self.key);
        let member = self.members.get_mut(&suspect)?;
        if let Some(word) = member.words.get(&me) {
            return Some(word.bytes);
        }
        let bytes = Accusation { accuser: me, suspect, incarnation: member.incarnation, created }.sign(domain, key);
        member.words.insert(me, Word { bytes, created, at });
        Some(bytes)
    }

    /// Whether a member's word counts at present.
    pub(super) fn heeds(&self, accuser: &NodeId) -> bool {
        self.strikes.get(accuser).is_none_or(|s| s.count < STRIKES)
    }

    /// An accusation turned out wrong, by what was seen here.
    pub(super) fn strike(&mut self, at: Mono, accuser: NodeId) {
        self.forgive(at);
        if accuser != self.me && self.members.contains_key(&accuser) {
            let strikes = self.strikes.entry(accuser).or_insert(Strikes { count: 0, last: None, fades: at });
            if strikes.last.is_none_or(|last| at.since(last) >= STRIKE) {
                (strikes.count, strikes.last) = ((strikes.count + 1).min(3 * STRIKES), Some(at));
            }
        }
    }

    /// Old strikes fade.
    pub(super) fn forgive(&mut self, at: Mono) {
        for (_, s) in &mut self.strikes {
            while s.count > 0 && at.since(s.fades) >= FORGIVE {
                (s.count, s.fades) = (s.count - 1, s.fades.after(FORGIVE));
            }
        }
        self.strikes.retain(|_, s| s.count > 0);
    }
}
