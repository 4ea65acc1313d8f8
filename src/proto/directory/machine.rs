//! The machine that keeps one domain's directory.

mod repair;

use alloc::{collections::BTreeSet, string::String, vec, vec::Vec};
use core::time::Duration;

use super::entry::Entry;
use super::msg::{BUCKETS, Item, LISTED, Msg};
use super::query::{Participant, Query, Status};
use super::record::{LEASE, Presence, Profile, Record, Signed, Version};
use crate::base::{DomainId, Map, Mono, NodeId, Now, Reject, Rng, limit};
use crate::crypto::{class::Role, sign::SigningKey};
use repair::CatchingUp;

/// The least lease of a record that says "online". It is signed anew when a quarter to a third of it is over, at random, so that those
/// who came together do not all speak together for ever.
pub const LEASE_ONLINE: Duration = Duration::from_secs(60);
/// The same of a record that says "suspended": a hidden tab's timers run about once a minute.
pub const LEASE_SUSPENDED: Duration = Duration::from_secs(180);
/// Leases grow with the directory, by this for each record held: one record a second is signed anew, however many there are.
pub const LEASE_EACH: Duration = Duration::from_secs(3);
/// How long a record is kept after its lease.
pub const KEEP: Duration = Duration::from_secs(600);
/// After this process slept, how long the others have to be heard of before their leases count again.
pub const SPARED: Duration = Duration::from_secs(15);
/// The time between two comparisons with a random neighbour; half of it is jitter.
pub const ROUND: Duration = Duration::from_secs(5);
/// After news that is more than a renewal the next comparison follows within this time, half of it jitter.
pub const NUDGE: Duration = Duration::from_millis(400);
/// Into how many parts the time is divided in which a record is signed anew.
const JITTER: u32 = 1_000;
/// The least time between two records of one's own.
pub const PACE: Duration = Duration::from_millis(100);
/// An own record that is younger is sent on a new link without being asked for.
pub const FRESH: Duration = Duration::from_secs(10);
/// On a new link the node with the lower id compares at once, the other one after this time unless it was asked before.
pub const TURN: Duration = Duration::from_millis(500);
/// So long after its start a directory lacks what the others have, and compares with one neighbour after the other.
pub const YOUNG: Duration = Duration::from_secs(10);
/// How long after its start a directory waits before it reports an essential capability that nobody supplies.
pub const GRACE: Duration = Duration::from_secs(5);

/// What a directory is told at birth.
#[derive(Clone, Debug)]
pub struct Config {
    /// The domain.
    pub domain: DomainId,
    /// The capabilities whose absence is reported, from the domain's policy.
    pub essential: Vec<String>,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To every neighbour, in the case of others' news except the one it came from. Others' news goes on only while somebody
    /// online is no neighbour.
    Broadcast {
        /// What.
        msg: Msg,
        /// Whom not.
        except: Option<NodeId>,
    },
    /// To one neighbour.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        msg: Msg,
    },
    /// For whoever looks for life: what the newest record of a node, or of this one, says.
    Learned {
        /// Whose.
        node: NodeId,
        /// Its incarnation.
        incarnation: u64,
        /// Online, asleep or gone, by its own word.
        presence: Presence,
    },
    /// Likewise: a node's record was dropped.
    Dropped {
        /// Whose.
        node: NodeId,
    },
    /// For the application.
    Event(Event),
}

impl Effect {
    /// Whether it shows that a record said something new: somebody came, changed, went, or began anew.
    #[must_use]
    pub fn is_more_than_a_renewal(&self) -> bool {
        matches!(self, Effect::Event(_) | Effect::Learned { .. })
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody is here who was unknown, down or gone.
    Joined {
        /// Who.
        node: NodeId,
    },
    /// Somebody's presence, name, addresses or capabilities changed.
    Updated {
        /// Who.
        node: NodeId,
    },
    /// Somebody left of its own will.
    Left {
        /// Who.
        node: NodeId,
    },
    /// Somebody fell silent.
    Down {
        /// Who.
        node: NodeId,
    },
    /// The last online supplier of an essential capability is gone.
    Degraded {
        /// Which.
        capability: String,
    },
    /// An essential capability is supplied again.
    Restored {
        /// Which.
        capability: String,
    },
}

/// The directory of one domain at one node.
pub struct Directory {
    domain: DomainId,
    key: SigningKey,
    me: NodeId,
    rng: Rng,
    profile: Profile,
    presence: Presence,
    /// Incarnation and sequence of the last record of our own.
    incarnation: u64,
    sequence: u64,
    /// When the own record was last signed; none before the first [`Directory::publish`] and after [`Directory::leave`].
    signed_at: Option<Mono>,
    /// The profile changed since then.
    dirty: bool,
    /// When it is signed anew, out of [`JITTER`].
    jitter: u32,
    entries: Map<NodeId, Entry>,
    due: BTreeSet<(Mono, NodeId)>,
    digests: [u64; BUCKETS],
    /// Neighbours; a time where a first comparison is still owed.
    links: Map<NodeId, Option<Mono>>,
    /// What this directory waits for while it is young.
    catching_up: CatchingUp,
    round: Mono,
    /// Essential capabilities; `true` while reported as missing.
    essential: Map<String, bool>,
    /// Whether the end of the grace may show that one of them is missing.
    waiting: bool,
    born: Mono,
}

impl Directory {
    /// An empty directory. `key` is this node's identity.
    #[must_use]
    pub fn new(now: Now, key: SigningKey, config: Config, rng: Rng) -> Directory {
        Directory {
            domain: config.domain,
            me: key.node_id(),
            key,
            rng,
            profile: Profile::default(),
            presence: Presence::Online,
            incarnation: now.wall.0,
            sequence: 0,
            signed_at: None,
            dirty: false,
            jitter: 0,
            entries: Map::new(),
            due: BTreeSet::new(),
            digests: [0; BUCKETS],
            links: Map::new(),
            catching_up: CatchingUp::default(),
            round: now.mono.after(ROUND),
            waiting: !config.essential.is_empty(),
            essential: config.essential.into_iter().map(|name| (name, false)).collect(),
            born: now.mono,
        }
    }

    /// Says what this node is and can do. Signed and broadcast now, or within [`PACE`] of the record before; no effect if nothing changed.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] or [`Reject::Malformed`] as [`Signed::sign`] says; the profile before stays.
    pub fn publish(&mut self, now: Now, profile: Profile, out: &mut Vec<Effect>) -> Result<(), Reject> {
        if self.signed_at.is_some() && profile == self.profile && self.presence != Presence::Left {
            return Ok(());
        }
        let before = core::mem::replace(&mut self.profile, profile);
        if self.presence == Presence::Left {
            self.presence = Presence::Online;
        }
        if self.signed_at.is_some_and(|at| now.mono.since(at) < PACE) {
            // Checked now, so that the caller hears of it; signed when its time comes.
            if let Err(reject) = Signed::sign(self.draft(now), &self.key, &self.domain) {
                self.profile = before;
                return Err(reject);
            }
            self.dirty = true;
            return Ok(());
        }
        let result = self.sign(now, out);
        if result.is_err() {
            self.profile = before;
        }
        result
    }

    /// Says that this node goes to sleep or is awake again.
    pub fn suspend(&mut self, now: Now, suspended: bool, out: &mut Vec<Effect>) {
        let presence = if suspended { Presence::Suspended } else { Presence::Online };
        if self.signed_at.is_some() && self.presence != presence {
            self.presence = presence;
            // invariant: the profile was signed before; another presence makes it no longer.
            let _ = self.sign(now, out);
        }
    }

    /// Says that this node leaves. Nothing more is signed until the next [`Directory::publish`].
    pub fn leave(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.signed_at.is_some() {
            self.presence = Presence::Left;
            // invariant: the profile was signed before; another presence makes it no longer.
            let _ = self.sign(now, out);
            self.signed_at = None;
        }
    }

    /// A message from a neighbour. `roles` tells who is a member. What is refused of a list of records leaves the rest in force.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] (from or about somebody who is no member), [`Reject::Forged`], [`Reject::TooLarge`],
    /// [`Reject::Malformed`], [`Reject::Expired`] (past its lease and [`KEEP`], or from the future), [`Reject::Limit`].
    pub fn handle(
        &mut self,
        now: Now,
        from: NodeId,
        msg: Msg,
        roles: &dyn Fn(&NodeId) -> Option<Role>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        if roles(&from).is_none() {
            return Err(Reject::Forbidden);
        }
        match msg {
            Msg::Records(items) => return self.take_records(now, from, items, roles, out),
            Msg::Digest(theirs) => {
                if theirs != self.digest() {
                    out.push(Effect::Send { to: from, msg: Msg::Buckets(self.digests.to_vec()) });
                }
            }
            Msg::Buckets(theirs) => self.take_buckets(now, from, &theirs, out),
            Msg::Summaries { buckets, entries } => self.compare(now, from, buckets, &entries, out),
            Msg::Want(keys) => {
                let wanted: Vec<NodeId> = keys.as_chunks::<32>().0.iter().map(|k| NodeId::from_public_key(*k)).take(LISTED).collect();
                self.send_records(now, from, wanted, out);
            }
        }
        Ok(())
    }

    /// A neighbour that takes part in this domain is linked and can open what is sent to it: compares with it.
    pub fn link_up(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        let first = self.me < node && !self.is_catching_up(now);
        self.links.insert(node, (!first).then(|| now.mono.after(TURN)));
        if self.signed_at.is_some_and(|at| now.mono.since(at) < FRESH) {
            // Most likely news to the other: a comparison takes four frames, any of which may be lost.
            self.send_records(now, node, Vec::from([self.me]), out);
            // That one too: a newcomer with one neighbour looks soon whether it came.
            self.nudge(now);
        }
        if first {
            self.begin(now, node, out);
        }
    }

    /// The last link to a neighbour broke.
    pub fn link_down(&mut self, node: NodeId) {
        self.links.remove(&node);
    }

    /// A node does not answer: this incarnation of its record, and lower ones, show as down until [`Directory::absolve`].
    pub fn condemn(&mut self, now: Now, node: NodeId, incarnation: u64, out: &mut Vec<Effect>) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.silent = entry.silent.max(Some(incarnation));
            self.refresh(now, node, out);
        }
    }

    /// A node that did not answer does so again.
    pub fn absolve(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.silent = None;
            self.refresh(now, node, out);
        }
    }

    /// Somebody says that this node does not answer, and means this incarnation of its record: signs one above it.
    pub fn refute(&mut self, now: Now, incarnation: u64, out: &mut Vec<Effect>) {
        if incarnation >= self.incarnation && self.presence != Presence::Left {
            // invariant: a member's word is about an incarnation that this node had, so that one above it there is.
            let _ = self.outbid(now, incarnation, out);
        }
    }

    /// This process slept, for longer than leases last or not: the others are not blamed for it, and hear of this node.
    pub fn woke(&mut self, now: Now, out: &mut Vec<Effect>) {
        let spared = now.mono.after(SPARED);
        let live: Vec<NodeId> =
            self.entries.iter().filter(|(_, e)| e.shown != Status::Left && e.shown != Status::Down).map(|(n, _)| *n).collect();
        for node in live {
            if let Some(entry) = self.entries.get_mut(&node) {
                entry.spared = Some(spared);
                self.schedule(now, node);
            }
        }
        if self.signed_at.is_some_and(|at| now.mono.since(at) >= PACE) {
            // invariant: the profile was signed before.
            let _ = self.sign(now, out);
        }
    }

    /// Whose state changes now, by the clock.
    pub fn expiring(&self, now: Now) -> Vec<NodeId> {
        self.due.iter().take_while(|(at, _)| *at <= now.mono).map(|(_, node)| *node).collect()
    }

    /// A node lives, though no record of it came in time: its lease goes on for a while.
    pub fn spare(&mut self, now: Now, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node).filter(|e| matches!(e.shown, Status::Online | Status::Suspended)) {
            entry.spared = Some(now.mono.after(SPARED));
            self.schedule(now, node);
        }
    }

    /// Drops a node and its record, because it is no member any more.
    pub fn forget(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        self.links.remove(&node);
        if node != self.me && self.remove(node).is_some_and(|e| e.shown != Status::Left) {
            out.push(Effect::Event(Event::Left { node }));
            self.check_essential(now, out);
        }
    }

    /// Whom the query fits, by rising node id. Nodes that `roles` does not know are left out.
    #[must_use]
    pub fn participants(&self, now: Now, query: &Query, roles: &dyn Fn(&NodeId) -> Option<Role>) -> Vec<Participant> {
        let fits = self.entries.values().filter(|e| query.matches(self.status(now, e), &e.signed.record().profile.capabilities));
        fits.filter_map(|e| self.row(now, e, roles)).collect()
    }

    /// What is known of one node.
    #[must_use]
    pub fn get(&self, now: Now, node: &NodeId, roles: &dyn Fn(&NodeId) -> Option<Role>) -> Option<Participant> {
        self.entries.get(node).and_then(|e| self.row(now, e, roles))
    }

    /// Whom to be linked with: the others that have not left, their state, and where they can be dialled, by rising node id.
    /// Those down are worth a rare attempt: after a partition each side sees the other one so.
    pub fn dialable(&self, now: Now) -> impl Iterator<Item = (&NodeId, Status, &[String])> {
        let others = self.entries.iter().filter(|(n, _)| **n != self.me);
        let states = others.map(move |(n, e)| (n, e.status(now.mono), e.signed.record().profile.addresses.as_slice()));
        states.filter(|(_, status, _)| *status != Status::Left)
    }

    /// The records held, signed as they came.
    #[cfg(feature = "sim")]
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.values().map(|e| e.signed.bytes())
    }

    /// How many records are held, the own one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether two directories hold the same records shows in this number.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digests.iter().fold(0u64, |sum, d| sum.rotate_left(5) ^ d)
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.renewal().is_some_and(|at| now.mono >= at) {
            // invariant: the profile was signed or checked before.
            let _ = self.sign(now, out);
        }
        while let Some(&(at, node)) = self.due.first()
            && at <= now.mono
        {
            if self.entries.get(&node).is_some_and(|e| now.mono >= e.drop_at()) {
                self.remove(node);
                out.push(Effect::Dropped { node });
            } else {
                self.refresh(now, node, out);
            }
        }
        let owed: Vec<NodeId> = self.links.iter().filter(|(_, at)| at.is_some_and(|at| now.mono >= at)).map(|(n, _)| *n).collect();
        for node in owed {
            if self.is_catching_up(now) {
                self.links.insert(node, Some(now.mono.after(TURN)));
            } else {
                self.links.insert(node, None);
                self.begin(now, node, out);
            }
        }
        if now.mono >= self.round {
            let half = u64::try_from(ROUND.as_millis() / 2).unwrap_or(0);
            self.round = now.mono.after(ROUND / 2 + Duration::from_millis(self.rng.below(half)));
            let pick = usize::try_from(self.rng.below(self.links.len() as u64)).unwrap_or(0);
            if let Some(node) = self.links.keys().nth(pick) {
                out.push(Effect::Send { to: *node, msg: Msg::Digest(self.digest()) });
            }
        }
        if self.waiting {
            self.check_essential(now, out);
        }
    }

    /// When [`Directory::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let grace = self.born.after(GRACE);
        let owed = self.links.values().flatten().min().copied();
        let round = (!self.links.is_empty()).then_some(self.round);
        [self.renewal(), self.due.first().map(|(at, _)| *at), owed, round, self.waiting.then_some(grace)].into_iter().flatten().min()
    }

    fn renewal(&self) -> Option<Mono> {
        let at = self.signed_at?;
        // What the others hold is the lease that was signed; it may be less than one signed now.
        let signed = self.entries.get(&self.me).map_or(LEASE_ONLINE, |e| e.signed.record().lease);
        Some(at.after(if self.dirty { PACE } else { signed / 4 + signed / 12 * self.jitter / JITTER }))
    }

    fn lease(&self) -> Duration {
        let least = if self.presence == Presence::Suspended { LEASE_SUSPENDED } else { LEASE_ONLINE };
        let all = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let last = match self.entries.get(&self.me) {
            // Its last record outlives those before it, which somebody could bring back.
            Some(own) if self.presence == Presence::Left => own.signed.record().lease.max(LEASE_SUSPENDED),
            _ => least,
        };
        last.max(LEASE_EACH.saturating_mul(all)).min(LEASE)
    }

    fn draft(&self, now: Now) -> Record {
        Record {
            node: self.me,
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
            created: now.wall,
            lease: self.lease(),
            presence: self.presence,
            profile: self.profile.clone(),
        }
    }

    fn sign(&mut self, now: Now, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let signed = Signed::sign(self.draft(now), &self.key, &self.domain)?;
        self.sequence += 1;
        self.signed_at = Some(now.mono);
        self.jitter = u32::try_from(self.rng.below(u64::from(JITTER))).unwrap_or(0);
        self.dirty = false;
        let msg = Msg::Records(vec![Item { age: 0, record: signed.bytes().to_vec() }]);
        out.push(Effect::Broadcast { msg, except: None });
        self.insert(now, signed, Duration::ZERO, out);
        Ok(())
    }

    fn take_records(
        &mut self,
        now: Now,
        from: NodeId,
        items: Vec<Item>,
        roles: &dyn Fn(&NodeId) -> Option<Role>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        let mut result = Ok(());
        let mut news = Vec::new();
        for item in items {
            match self.take_record(now, &item, roles, out) {
                Ok(true) => news.push(item),
                Ok(false) => {}
                Err(reject) => result = result.and(Err(reject)),
            }
        }
        if !news.is_empty() && !self.is_meshed(now) {
            out.push(Effect::Broadcast { msg: Msg::Records(news), except: Some(from) });
        }
        result
    }

    /// Whether everybody online is a neighbour: then their own broadcasts reach everybody.
    fn is_meshed(&self, now: Now) -> bool {
        self.dialable(now).all(|(node, status, _)| status != Status::Online || self.links.contains_key(node))
    }

    /// Brings the next comparison forward, because others may lack what this node has just learned.
    fn nudge(&mut self, now: Now) {
        let half = u64::try_from(NUDGE.as_millis() / 2).unwrap_or(0);
        self.round = self.round.min(now.mono.after(NUDGE / 2 + Duration::from_millis(self.rng.below(half))));
    }

    /// `Ok(true)` if it was news.
    fn take_record(
        &mut self,
        now: Now,
        item: &Item,
        roles: &dyn Fn(&NodeId) -> Option<Role>,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Reject> {
        let signed = Signed::parse(&item.record)?;
        let record = signed.record();
        let node = record.node;
        if roles(&node).is_none() {
            return Err(Reject::Forbidden);
        }
        if self.entries.get(&node).is_some_and(|held| held.signed.version() >= signed.version()) {
            return Ok(false);
        }
        // Whoever hands it on says how old it is. At the least it is as old as both clocks show: else a record from before its node left
        // could be brought back once the last one is forgotten.
        let least = Duration::from_millis(now.wall.0.saturating_sub(record.created.0)).saturating_sub(limit::CLOCK_SKEW);
        let age = Duration::from_millis(item.age).max(least);
        if record.created > now.wall.after(limit::CLOCK_SKEW) || age >= record.lease + KEEP {
            return Err(Reject::Expired);
        }
        signed.verify(&self.domain)?;
        if node == self.me {
            return self.outbid(now, signed.record().incarnation, out).map(|()| false);
        }
        if self.entries.len() >= limit::RECORDS && !self.entries.contains_key(&node) && !self.make_room(now, out) {
            return Err(Reject::Limit);
        }
        self.insert(now, signed, age, out);
        Ok(true)
    }

    /// A record of our own that is newer than ours: of a process before this one whose clock was ahead. Ours must win.
    fn outbid(&mut self, now: Now, theirs: u64, out: &mut Vec<Effect>) -> Result<(), Reject> {
        self.incarnation = theirs.checked_add(1).ok_or(Reject::Limit)?;
        self.sequence = 0;
        match self.signed_at {
            // Two processes with one identity outbid each other; the pace bounds what that costs.
            Some(at) if now.mono.since(at) < PACE => self.dirty = true,
            // invariant: the profile was signed before.
            Some(_) => self.sign(now, out)?,
            None => {}
        }
        Ok(())
    }

    fn make_room(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let gone = |e: &&Entry| matches!(e.status(now.mono), Status::Down | Status::Left);
        let oldest = self.entries.values().filter(gone).min_by_key(|e| e.drop_at()).map(|e| e.signed.record().node);
        out.extend(oldest.map(|node| Effect::Dropped { node }));
        oldest.is_some_and(|node| self.remove(node).is_some())
    }

    fn insert(&mut self, now: Now, signed: Signed, age: Duration, out: &mut Vec<Effect>) {
        let node = signed.record().node;
        self.catching_up.got(&node);
        let before = self.remove(node);
        self.toggle(&node, signed.version());
        let (incarnation, presence) = (signed.record().incarnation, signed.record().presence);
        if before.as_ref().map(|e| (e.signed.record().incarnation, e.signed.record().presence)) != Some((incarnation, presence)) {
            out.push(Effect::Learned { node, incarnation, presence });
        }
        let (silent, spared) = before.as_ref().map_or((None, None), |e| (e.silent, e.spared));
        let entry = Entry { signed, received: now.mono, age, silent, spared, shown: Status::Down, due: None };
        let status = entry.status(now.mono);
        let was = before.as_ref().map(|e| e.shown);
        let changed = before.is_none_or(|e| e.signed.record().profile != entry.signed.record().profile);
        self.entries.insert(node, Entry { shown: status, ..entry });
        if node != self.me {
            self.schedule(now, node);
            let here = |s: Status| matches!(s, Status::Online | Status::Suspended);
            match (was, status) {
                (Some(Status::Left) | None, Status::Left) | (Some(Status::Down | Status::Left) | None, Status::Down) => {}
                (_, Status::Left) => out.push(Effect::Event(Event::Left { node })),
                (_, Status::Down) => out.push(Effect::Event(Event::Down { node })),
                (Some(was), _) if here(was) => {
                    if changed || was != status {
                        out.push(Effect::Event(Event::Updated { node }));
                    }
                }
                _ => out.push(Effect::Event(Event::Joined { node })),
            }
        }
        if changed || was != Some(status) {
            // Elsewhere the tree finds by itself whom it did not reach.
            if self.is_meshed(now) {
                self.nudge(now);
            }
            self.check_essential(now, out);
        }
    }

    fn remove(&mut self, node: NodeId) -> Option<Entry> {
        let entry = self.entries.remove(&node)?;
        if let Some(at) = entry.due {
            self.due.remove(&(at, node));
        }
        self.toggle(&node, entry.signed.version());
        Some(entry)
    }

    /// Adds a record to its bucket's digest, or takes it out again.
    fn toggle(&mut self, node: &NodeId, v: Version) {
        let mut hash = blake3::Hasher::new();
        hash.update(node.as_bytes()).update(&v.incarnation.to_be_bytes()).update(&v.sequence.to_be_bytes()).update(&v.hash.to_be_bytes());
        let hash = hash.finalize();
        let digest = hash.as_bytes().first_chunk::<8>().map_or(0, |h| u64::from_be_bytes(*h));
        self.digests[bucket(node)] ^= digest;
    }

    fn schedule(&mut self, now: Now, node: NodeId) {
        let Some(entry) = self.entries.get_mut(&node) else { return };
        if let Some(at) = entry.due {
            self.due.remove(&(at, node));
        }
        let at = entry.next_change(now.mono).max(Mono(now.mono.0 + 1));
        entry.due = Some(at);
        self.due.insert((at, node));
    }

    /// Tells the application if a node's state changed by the clock or its link.
    fn refresh(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        if node == self.me {
            return;
        }
        let Some(entry) = self.entries.get_mut(&node) else { return };
        let (was, status) = (entry.shown, entry.status(now.mono));
        entry.shown = status;
        if was != status {
            out.push(Effect::Event(match status {
                Status::Down => Event::Down { node },
                Status::Left => Event::Left { node },
                Status::Online | Status::Suspended => Event::Joined { node },
            }));
        }
        self.schedule(now, node);
        if was != status {
            self.check_essential(now, out);
        }
    }

    fn supplied(&self, name: &str) -> bool {
        self.entries.values().any(|e| e.shown == Status::Online && e.signed.record().profile.capabilities.iter().any(|c| c.name == name))
    }

    fn check_essential(&mut self, now: Now, out: &mut Vec<Effect>) {
        let names: Vec<(String, bool)> = self.essential.iter().map(|(n, m)| (n.clone(), *m)).collect();
        let grace_over = now.mono >= self.born.after(GRACE);
        self.waiting = false;
        for (name, was_missing) in names {
            let supplied = self.supplied(&name);
            let missing = !supplied && (was_missing || grace_over);
            self.waiting |= !supplied && !missing;
            match (was_missing, missing) {
                (true, false) => out.push(Effect::Event(Event::Restored { capability: name.clone() })),
                (false, true) => out.push(Effect::Event(Event::Degraded { capability: name.clone() })),
                _ => {}
            }
            self.essential.insert(name, missing);
        }
    }

    /// The own lease never runs out from here.
    fn status(&self, now: Now, entry: &Entry) -> Status {
        let record = entry.signed.record();
        if record.node == self.me { record.presence.into() } else { entry.status(now.mono) }
    }

    fn row(&self, now: Now, entry: &Entry, roles: &dyn Fn(&NodeId) -> Option<Role>) -> Option<Participant> {
        let record = entry.signed.record();
        Some(Participant {
            node: record.node,
            name: record.profile.name.clone(),
            role: roles(&record.node)?,
            presence: self.status(now, entry),
            incarnation: record.incarnation,
            addresses: record.profile.addresses.clone(),
            capabilities: record.profile.capabilities.clone(),
            is_self: record.node == self.me,
        })
    }
}

fn bucket(node: &NodeId) -> usize {
    usize::from(node.as_bytes()[0]) % BUCKETS
}

impl core::fmt::Debug for Directory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Directory({:?}, {} records, {} links)", self.domain, self.entries.len(), self.links.len())
    }
}
