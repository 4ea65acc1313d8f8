//! The machine: the map, the clock, and the comparing of copies.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::time::Duration;
use minicbor::bytes::ByteVec;

use super::entry::{Entry, KEY, Stamp, VALUE};
use super::msg::{BATCH, BUCKETS, KeyId, LISTED, Msg, Summary};
use crate::base::{Code, DomainId, Error, Gather, Mono, NodeId, Now, Reject, Rng, limit, only};
use crate::crypto::sign::SigningKey;
use crate::wire::bytes::{Reader, Writer};

/// Keys in a map at most, deleted ones included.
pub const KEYS: usize = 4_096;
/// Signed bytes in a map at most.
pub const BYTES: usize = 4 * 1024 * 1024;
/// A deletion is remembered for so long at least: who was away for longer may bring the key back.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);
/// The time between two comparisons with a random neighbour; half of it is jitter.
pub const ROUND: Duration = Duration::from_secs(10);

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To linked participants.
    Send {
        /// Whom.
        to: BTreeSet<NodeId>,
        /// What.
        msg: Msg,
    },
    /// A key has another entry now.
    Changed {
        /// Which.
        key: String,
    },
}

struct Held {
    entry: Entry,
    bytes: Vec<u8>,
    tie: u64,
}

impl Held {
    fn version(&self) -> (Stamp, u64) {
        (self.entry.stamp, self.tie)
    }
    /// A deletion that need not be remembered any more.
    fn is_over(&self, now: Now) -> bool {
        self.entry.value.is_none() && self.entry.stamp.wall().after(REMEMBERED) < now.wall
    }
    /// Of entries that do not all fit those with the highest stay.
    fn rank(&self, now: Now) -> (bool, Stamp, u64) {
        (!self.is_over(now), self.entry.stamp, self.tie)
    }
    fn summary(&self, id: KeyId) -> Summary {
        Summary { id, stamp: self.entry.stamp, tie: self.tie }
    }
}

/// One participant's copy of a domain's shared state.
pub struct State {
    domain: DomainId,
    key: SigningKey,
    rng: Rng,
    entries: BTreeMap<KeyId, Held>,
    digests: [u64; BUCKETS],
    bytes: usize,
    last: Stamp,
    links: BTreeSet<NodeId>,
    round: Mono,
    /// The bucket with which the next answer to digests begins.
    next: u8,
}

impl State {
    /// An empty copy. `key` is this node's identity.
    #[must_use]
    pub fn new(now: Now, domain: DomainId, key: SigningKey, rng: Rng) -> State {
        State {
            domain,
            key,
            rng,
            entries: BTreeMap::new(),
            digests: [0; BUCKETS],
            bytes: 0,
            last: Stamp::default(),
            links: BTreeSet::new(),
            round: now.mono.after(ROUND),
            next: 0,
        }
    }

    /// The value under a key, and its entry's writer and time.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(&key_id(key)).map(|held| &held.entry).filter(|e| e.key == key && e.value.is_some())
    }

    /// Every entry that has a value and whose key begins so, by key.
    #[must_use]
    pub fn entries(&self, prefix: &str) -> Vec<&Entry> {
        let all = self.entries.values().map(|held| &held.entry);
        let mut list: Vec<&Entry> = all.filter(|e| e.value.is_some() && e.key.starts_with(prefix)).collect();
        list.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        list
    }

    /// Writes a value under a key, or with `None` deletes it, after everything this copy has seen.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a key of 0 or more than [`KEY`] bytes; [`Code::TooLarge`] for a value of more than [`VALUE`] bytes, or when the
    /// map is full.
    pub fn write(&mut self, now: Now, key: &str, value: Option<Vec<u8>>, out: &mut Vec<Effect>) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY {
            return Err(Error::new(Code::BadArgument, "a key of the shared state has 1 to 128 bytes"));
        }
        if value.as_ref().is_some_and(|v| v.len() > VALUE) {
            let hint = "Send large things on a channel, or store them as domain data.";
            return Err(Error::new(Code::TooLarge, "a value of the shared state has at most 8 KiB").hint(hint));
        }
        if self.get(key).and_then(|e| e.value.as_ref()) == value.as_ref() {
            return Ok(());
        }
        let stamp = self.last.next(now.wall);
        let entry = Entry { key: key.into(), stamp, writer: self.key.node_id(), value };
        let bytes = entry.sign(&self.domain, &self.key);
        if !self.has_room(now, &key_id(key), bytes.len()) {
            return Err(Error::new(Code::TooLarge, "the shared state is full").hint("Delete keys that nobody needs."));
        }
        let msg = Msg::Entries { list: Vec::from([bytes.clone().into()]), more: false };
        self.insert(Held { tie: tie(&bytes), entry, bytes }, out);
        send(self.links.clone(), msg, out);
        Ok(())
    }

    /// A message from a participant. What is refused of a list of entries leaves the rest in force.
    ///
    /// # Errors
    /// [`Reject::Forged`], [`Reject::TooLarge`], [`Reject::Malformed`], [`Reject::Expired`] (from the future),
    /// [`Reject::Limit`] (the map is full).
    pub fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let back = || only(from);
        match msg {
            Msg::Entries { list, more } => return self.take(now, from, &list, more, out),
            Msg::Digest(theirs) => {
                if theirs != self.digest() {
                    send(back(), Msg::Buckets(self.digests.to_vec()), out);
                }
            }
            Msg::Buckets(theirs) => self.answer(from, &theirs, out),
            Msg::Summaries { buckets, list, more } => self.compare(from, &buckets, &list, more, out),
            Msg::Want(ids) => {
                let ids = ids.as_chunks::<16>().0;
                let (list, cut) = self.batch(ids.iter());
                // The rest is found by another comparison.
                send(back(), Msg::Entries { list, more: cut }, out);
            }
        }
        Ok(())
    }

    /// A participant is linked and can open what is sent to it: compares with it.
    pub fn link_up(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.links.insert(node);
        if self.key.node_id() < node {
            send(only(node), Msg::Buckets(self.digests.to_vec()), out);
        }
    }

    /// The last link to a participant broke.
    pub fn link_down(&mut self, node: &NodeId) {
        self.links.remove(node);
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.mono < self.round {
            return;
        }
        let half = u64::try_from(ROUND.as_millis()).unwrap_or(0) / 2;
        self.round = now.mono.after(ROUND / 2 + Duration::from_millis(self.rng.below(half)));
        if self.links.is_empty() {
            return;
        }
        let pick = usize::try_from(self.rng.below(self.links.len() as u64)).unwrap_or(0);
        let node = self.links.iter().nth(pick).copied();
        send(node.into_iter().collect(), Msg::Digest(self.digest()), out);
    }

    /// When [`State::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        (!self.links.is_empty()).then_some(self.round)
    }

    /// One digest over all entries: two copies with equal digests hold the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let bytes: Vec<u8> = self.digests.iter().flat_map(|d| d.to_be_bytes()).collect();
        first_8(blake3::hash(&bytes))
    }

    /// Keys held, deleted ones included, and their signed bytes.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// When a key was written or deleted last, as far as this copy knows.
    #[must_use]
    pub fn stamp(&self, key: &str) -> Option<Stamp> {
        self.entries.get(&key_id(key)).map(|held| held.entry.stamp)
    }

    /// All entries, for a store: each a `var`.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let mut w = Writer::new();
        for held in self.entries.values() {
            w.var(&held.bytes);
        }
        w.finish()
    }

    /// Takes what [`State::export`] gave. Entries that do not hold are left out: a newer copy has them.
    pub fn import(&mut self, now: Now, bytes: &[u8]) {
        let mut r = Reader::new(bytes);
        while let Ok(entry) = r.var(super::SIGNED) {
            let _ = self.take_one(now, entry, &mut Vec::new());
        }
    }

    // ---- entries ----------------------------------------------------------------------------------------------------

    fn take(&mut self, now: Now, from: NodeId, list: &[ByteVec], more: bool, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let (mut result, mut news) = (Ok(()), Vec::new());
        for bytes in list {
            match self.take_one(now, bytes, out) {
                Ok(true) => news.push(bytes.clone()),
                Ok(false) => {}
                Err(reject) => result = result.and(Err(reject)),
            }
        }
        // Only what brings something is gone on with, so that what one of us refuses does not go round for ever.
        if more && !news.is_empty() {
            send(only(from), Msg::Buckets(self.digests.to_vec()), out);
        }
        if !news.is_empty() {
            let others = self.links.iter().copied().filter(|n| *n != from).collect();
            send(others, Msg::Entries { list: news, more: false }, out);
        }
        result
    }

    /// Whether it was news.
    fn take_one(&mut self, now: Now, bytes: &[u8], out: &mut Vec<Effect>) -> Result<bool, Reject> {
        let entry = Entry::parse(bytes)?;
        let id = key_id(&entry.key);
        if self.entries.get(&id).is_some_and(|held| held.version() >= (entry.stamp, tie(bytes))) {
            return Ok(false);
        }
        if entry.stamp.wall() > now.wall.after(limit::CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        let entry = Entry::verify(&self.domain, bytes)?;
        let held = Held { tie: tie(bytes), entry, bytes: bytes.to_vec() };
        if !self.make_room(now, &id, &held, out) {
            return Err(Reject::Limit);
        }
        self.insert(held, out);
        Ok(true)
    }

    fn insert(&mut self, held: Held, out: &mut Vec<Effect>) {
        let id = key_id(&held.entry.key);
        self.last = self.last.max(held.entry.stamp);
        out.push(Effect::Changed { key: held.entry.key.clone() });
        self.remove(&id);
        self.bytes += held.bytes.len();
        self.digests[bucket(&id)] ^= mark(&held.summary(id));
        self.entries.insert(id, held);
    }

    fn remove(&mut self, id: &KeyId) {
        if let Some(held) = self.entries.remove(id) {
            self.bytes -= held.bytes.len();
            self.digests[bucket(id)] ^= mark(&held.summary(*id));
        }
    }

    /// Whether an entry of this length fits under a key.
    fn fits(&self, id: &KeyId, length: usize) -> bool {
        let before = self.entries.get(id).map(|held| held.bytes.len());
        let keys = self.entries.len() + usize::from(before.is_none());
        keys <= KEYS && self.bytes - before.unwrap_or(0) + length <= BYTES
    }

    /// The same, once the oldest deletions that need not be remembered any more are gone.
    fn has_room(&mut self, now: Now, id: &KeyId, length: usize) -> bool {
        while !self.fits(id, length) {
            let oldest = self.entries.iter().filter(|(i, held)| *i != id && held.is_over(now)).min_by_key(|(_, held)| held.entry.stamp);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return false };
            self.remove(&oldest);
        }
        true
    }

    /// Makes room for another copy's entry where older ones have to go, unless it would have to go itself. So maps that were filled apart
    /// agree when they meet: the newest entry that one has and another lacks fits there too, for the newer ones are the same in both.
    fn make_room(&mut self, now: Now, id: &KeyId, new: &Held, out: &mut Vec<Effect>) -> bool {
        if self.fits(id, new.bytes.len()) {
            return true;
        }
        let newer = self.entries.iter().filter(|(i, held)| *i != id && held.rank(now) > new.rank(now));
        let (keys, bytes) = newer.fold((1, new.bytes.len()), |(keys, bytes), (_, held)| (keys + 1, bytes + held.bytes.len()));
        if keys > KEYS || bytes > BYTES {
            return false;
        }
        while !self.fits(id, new.bytes.len()) {
            let oldest = self.entries.iter().filter(|(i, _)| *i != id).min_by_key(|(_, held)| held.rank(now));
            let Some((oldest, entry)) = oldest.map(|(id, held)| (*id, &held.entry)) else { return false };
            if entry.value.is_some() {
                out.push(Effect::Changed { key: entry.key.clone() });
            }
            self.remove(&oldest);
        }
        true
    }

    // ---- comparing --------------------------------------------------------------------------------------------------

    /// To a digest per bucket: what is missing in empty ones, then summaries of the others that differ. It goes on behind the
    /// last one compared: where a full copy takes nothing in some buckets, it may lack something in the others.
    fn answer(&mut self, from: NodeId, theirs: &[u64], out: &mut Vec<Effect>) {
        let first = self.next;
        let all = (0..=u8::MAX).map(|b| b.wrapping_add(first));
        let differ: Vec<u8> = all.filter(|b| theirs.get(usize::from(*b)) != Some(&self.digests[usize::from(*b)])).collect();
        let (empty, other): (Vec<u8>, Vec<u8>) = differ.into_iter().partition(|b| theirs.get(usize::from(*b)) == Some(&0));
        let missing: Vec<KeyId> = empty.iter().flat_map(|b| self.in_bucket(*b)).map(|(id, _)| *id).collect();
        let (list, cut) = self.batch(missing.iter());
        let to = || only(from);
        if !list.is_empty() {
            let more = cut || !other.is_empty();
            self.next = missing.get(list.len() - 1).map_or(0, |id| id[0].wrapping_add(1));
            send(to(), Msg::Entries { list, more }, out);
            // What brings much first; the rest when it is asked for again.
            if more {
                return;
            }
        }
        let (mut buckets, mut list) = (Vec::new(), Vec::new());
        let mut left = other.len();
        for b in other {
            let all: Vec<Summary> = self.in_bucket(b).map(|(id, held)| held.summary(*id)).collect();
            if !buckets.is_empty() && list.len() + all.len() > LISTED {
                break;
            }
            // A bucket of more than that is full of somebody's malice: what does not fit is not compared.
            list.extend(all.into_iter().take(LISTED));
            buckets.push(b);
            left -= 1;
            self.next = b.wrapping_add(1);
        }
        if !buckets.is_empty() {
            send(to(), Msg::Summaries { buckets, list, more: left > 0 }, out);
        }
    }

    fn compare(&self, from: NodeId, buckets: &[u8], theirs: &[Summary], more: bool, out: &mut Vec<Effect>) {
        let known: BTreeMap<KeyId, (Stamp, u64)> = theirs.iter().map(|s| (s.id, (s.stamp, s.tie))).gather();
        let mine = |id: &KeyId| self.entries.get(id).map(Held::version);
        let wanted: Vec<u8> = known.iter().filter(|(id, version)| mine(id) < Some(**version)).flat_map(|(id, _)| *id).collect();
        let newer = buckets.iter().flat_map(|b| self.in_bucket(*b));
        let newer: Vec<KeyId> = newer.filter(|(id, held)| known.get(*id) < Some(&held.version())).map(|(id, _)| *id).collect();
        let (list, cut) = self.batch(newer.iter());
        let to = || only(from);
        if !list.is_empty() {
            send(to(), Msg::Entries { list, more: cut || more }, out);
        }
        if !wanted.is_empty() {
            send(to(), Msg::Want(wanted), out);
        }
    }

    /// The entries under these ids as far as a message takes them, and whether some were left.
    fn batch<'a>(&self, ids: impl Iterator<Item = &'a KeyId>) -> (Vec<ByteVec>, bool) {
        let (mut list, mut size) = (Vec::new(), 0);
        for held in ids.filter_map(|id| self.entries.get(id)) {
            if size >= BATCH {
                return (list, true);
            }
            size += held.bytes.len();
            list.push(held.bytes.clone().into());
        }
        (list, false)
    }

    fn in_bucket(&self, bucket: u8) -> impl Iterator<Item = (&KeyId, &Held)> {
        let (mut low, mut high) = ([0; 16], [0xff; 16]);
        (low[0], high[0]) = (bucket, bucket);
        self.entries.range(low..=high)
    }
}

fn send(to: BTreeSet<NodeId>, msg: Msg, out: &mut Vec<Effect>) {
    if !to.is_empty() {
        out.push(Effect::Send { to, msg });
    }
}

fn first_8(hash: blake3::Hash) -> u64 {
    hash.as_bytes().first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b))
}

fn tie(bytes: &[u8]) -> u64 {
    first_8(blake3::hash(bytes))
}

fn key_id(key: &str) -> KeyId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    id
}

fn bucket(id: &KeyId) -> usize {
    usize::from(id[0])
}

/// An entry's part of its bucket's digest.
fn mark(summary: &Summary) -> u64 {
    let mut w = Writer::new();
    w.raw(&summary.id).u64(summary.stamp.0).u64(summary.tie);
    first_8(blake3::hash(w.as_slice()))
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "State({:?}, {} keys, {} bytes, {} links)", self.domain, self.entries.len(), self.bytes, self.links.len())
    }
}
