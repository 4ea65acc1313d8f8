//! The storage keys that a participant has, and which one it writes under.
//!
//! Lockboxes come from whoever keeps them, the manager as a rule, which is trusted with nothing. One is taken if its signer may give storage
//! keys now, or if a later one that was taken names its key; so whoever lost the right cannot add any. Old keys are for reading. One is
//! for writing only while its signer still may give it and everybody in its lockboxes is still entitled; so an eviction makes it
//! stale, and somebody with the right makes the next. Lockboxes are to be given the newest first.

use alloc::{collections::BTreeMap, vec::Vec};

use super::lockbox::{Contents, ENTRIES, Generation, Lockbox, PREVIOUS, seal};
use crate::base::{DomainId, Reject, Rng, Wall};
use crate::crypto::object::StorageKey;
use crate::crypto::seal::KemKey;
use crate::crypto::sign::SigningKey;
use crate::wire::bytes::{Reader, Writer};

/// Generations kept at most. One follows each eviction.
pub const GENERATIONS: usize = 4_096;
/// Lockboxes of one generation at most: the first, and those for who came later.
const LOCKBOXES: usize = 64;
const FORMAT: u8 = 1;

/// What the membership says of keys.
#[expect(missing_debug_implementations, reason = "made of functions")]
pub struct Policy<'a> {
    /// The root key: it alone makes generation 1.
    pub root: [u8; 32],
    /// Whether a key may give storage keys now: the root, and whoever it delegated that right to.
    pub may: &'a dyn Fn(&[u8; 32]) -> bool,
    /// Whether somebody may read: the root, an open invitation, a participant who is in.
    pub entitled: &'a dyn Fn(&[u8; 32]) -> bool,
}

/// Who issued a lockbox, and to whom.
#[derive(PartialEq, Eq)]
struct Issue {
    issuer: [u8; 32],
    recipients: BTreeMap<[u8; 32], [u8; 32]>,
}

/// A generation.
#[derive(Default)]
struct Known {
    key: Option<StorageKey>,
    /// What it follows, once one of its lockboxes came.
    previous: Vec<Generation>,
    issues: Vec<Issue>,
    /// Whether a later key leads to this one.
    followed: bool,
}

/// What became of a lockbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its key is there, and those that it follows.
    Opened,
    /// It holds nothing for this participant, nor does any other of its generation so far.
    Closed,
    /// It is here already.
    Known,
}

/// The storage keys of one domain.
pub struct Keyring {
    domain: DomainId,
    generations: BTreeMap<Generation, Known>,
    /// There was a generation of this number: the invitation said so, or it was here before a restart.
    floor: u32,
}

impl core::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Keyring({} generations)", self.generations.len())
    }
}

impl Keyring {
    /// Without any key.
    #[must_use]
    pub fn new(domain: DomainId) -> Keyring {
        Keyring { domain, generations: BTreeMap::new(), floor: 0 }
    }

    /// Takes a lockbox in. `as_whom` are the ids and keys under which this participant may find an entry: its own, its invitation's, the root's.
    ///
    /// # Errors
    /// What [`Lockbox::verify`] and [`Lockbox::open`] say; [`Reject::Forbidden`] if its issuer may not give keys and no later one names this one,
    /// [`Reject::Malformed`] for a number that leaves some out, [`Reject::Limit`] for too many.
    pub fn take(&mut self, bytes: &[u8], as_whom: &[([u8; 32], &KemKey)], policy: &Policy<'_>) -> Result<Taken, Reject> {
        let lockbox = Lockbox::verify(&self.domain, bytes)?;
        let known = self.generations.get(&lockbox.generation);
        let named = known.is_some_and(|k| k.followed);
        let may = if lockbox.previous.is_empty() { lockbox.issuer == policy.root } else { (policy.may)(&lockbox.issuer) };
        if !may && !named {
            return Err(Reject::Forbidden);
        }
        // Numbers go up by one, so that nobody can use them up.
        if lockbox.generation.number != lockbox.previous.iter().map(|g| g.number).max().unwrap_or(0) + 1 {
            return Err(Reject::Malformed);
        }
        let issue = Issue { issuer: lockbox.issuer, recipients: lockbox.recipients().map(|(id, kem)| (*id, *kem)).collect() };
        let mut held = None;
        match known {
            None if self.generations.len() >= GENERATIONS => return Err(Reject::Limit),
            None => {}
            Some(known) => {
                if known.issues.contains(&issue) {
                    return Ok(Taken::Known);
                }
                if known.issues.len() >= LOCKBOXES {
                    return Err(Reject::Limit);
                }
                if !known.issues.is_empty() && known.previous != lockbox.previous {
                    return Err(Reject::Forged);
                }
                held = known.key.as_ref().map(|k| StorageKey::from_bytes(k.as_bytes()));
            }
        }
        let entry = as_whom.iter().find(|(id, _)| issue.recipients.contains_key(id));
        let key = match (held, entry) {
            (None, Some((id, kem))) => Some(lockbox.open(id, kem)?),
            (held, _) => held,
        };
        let history = key.as_ref().map(|key| lockbox.history(key)).transpose()?.unwrap_or_default();
        let taken = if key.is_some() { Taken::Opened } else { Taken::Closed };
        let known = self.generations.entry(lockbox.generation).or_default();
        known.previous = lockbox.previous;
        known.issues.push(issue);
        known.key = key;
        for (generation, key) in history {
            self.learn(generation, key, true);
        }
        Ok(taken)
    }

    /// A key from the history of a later one, or from before a restart. What it follows itself its own lockbox tells, if that comes.
    fn learn(&mut self, generation: Generation, key: StorageKey, followed: bool) {
        if self.generations.len() < GENERATIONS || self.generations.contains_key(&generation) {
            let known = self.generations.entry(generation).or_default();
            known.key.get_or_insert(key);
            known.followed |= followed;
        }
    }

    /// The keys here that no later one leads to: more than one if several were made at once.
    pub fn heads(&self) -> impl Iterator<Item = (Generation, &StorageKey)> {
        self.generations.iter().filter(|(_, known)| !known.followed).filter_map(|(g, known)| Some((*g, known.key.as_ref()?)))
    }

    /// The newest generation's number; 0 if there is none.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.generations.keys().next_back().map_or(0, |g| g.number)
    }

    /// There is a generation of this number, as an invitation says. No member's mere word: it can give the lockbox.
    pub fn at_least(&mut self, number: u32) {
        self.floor = self.floor.max(number);
    }

    /// Whether all is here that is known to exist. If not, whoever gave the lockboxes held newer ones back, or has lost them.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.newest() >= self.floor
    }

    /// What a new version is sealed under: the highest generation whose key is here, whose issuer may still give one, and all of whose
    /// recipients are still entitled. None if newer ones are known to exist.
    #[must_use]
    pub fn writable(&self, policy: &Policy<'_>) -> Option<(Generation, &StorageKey)> {
        let fit = |known: &Known| {
            let issued = known.issues.iter().any(|i| (policy.may)(&i.issuer));
            issued && known.issues.iter().flat_map(|i| i.recipients.keys()).all(|id| (policy.entitled)(id))
        };
        let held = self.generations.iter().rev().filter_map(|(g, known)| Some((*g, known, known.key.as_ref()?)));
        held.filter(|_| self.is_current()).find(|(_, known, _)| fit(known)).map(|(generation, _, key)| (generation, key))
    }

    /// The keys that an object of a generation may be sealed under. There are two if two issuers made that generation at once; the
    /// object's commitment tells which.
    pub fn keys(&self, number: u32) -> impl Iterator<Item = &StorageKey> {
        let range = Generation { number, commitment: [0; 32] }..=Generation { number, commitment: [255; 32] };
        self.generations.range(range).filter_map(|(_, known)| known.key.as_ref())
    }

    /// To what to seal for somebody: as the newest lockbox of somebody who may still issue says.
    #[must_use]
    pub fn kem(&self, id: &[u8; 32], policy: &Policy<'_>) -> Option<[u8; 32]> {
        let issues = self.generations.values().rev().flat_map(|known| &known.issues);
        issues.filter(|i| (policy.may)(&i.issuer)).find_map(|i| i.recipients.get(id)).copied()
    }

    /// Makes the next generation, which follows all newest ones whose keys are here.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if `issuer` may not; [`Reject::UnknownKey`] if there are generations and no newest one's key is here;
    /// what [`seal`] says.
    pub fn rotate(
        &self,
        now: Wall,
        recipients: &BTreeMap<[u8; 32], [u8; 32]>,
        issuer: &SigningKey,
        policy: &Policy<'_>,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, Reject> {
        let mut previous: Vec<_> = self.heads().collect();
        if previous.is_empty() && issuer.public() != policy.root || !(policy.may)(&issuer.public()) {
            return Err(Reject::Forbidden);
        }
        if previous.is_empty() && self.newest().max(self.floor) > 0 {
            return Err(Reject::UnknownKey);
        }
        // What is left out is a head still, for the next time.
        previous.drain(..previous.len().saturating_sub(PREVIOUS));
        let number = previous.iter().map(|(g, _)| g.number).max().unwrap_or(0).checked_add(1).ok_or(Reject::Limit)?;
        let key = StorageKey::generate(rng);
        seal(&self.domain, &Contents { number, created: now, key: &key, previous: &previous, recipients }, issuer, rng)
    }

    /// Which of these have no entry in any lockbox of the generation that is written under; None if there is none.
    #[must_use]
    pub fn lacking(&self, all: &BTreeMap<[u8; 32], [u8; 32]>, policy: &Policy<'_>) -> Option<BTreeMap<[u8; 32], [u8; 32]>> {
        let (generation, _) = self.writable(policy)?;
        let issues = &self.generations.get(&generation)?.issues;
        let has = |id: &[u8; 32]| issues.iter().any(|i| i.recipients.contains_key(id));
        Some(all.iter().filter(|(id, _)| !has(id)).map(|(id, kem)| (*id, *kem)).collect())
    }

    /// Under what the names of objects are made ([`StorageKey::token`]): generation 1's key, which no later one replaces. Of two the first.
    #[must_use]
    pub fn first(&self) -> Option<&StorageKey> {
        self.keys(1).next()
    }

    /// Gives a key to more recipients, such as a new invitation: one more lockbox of the generation that is written under.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if `issuer` may not, [`Reject::UnknownKey`] if there is no such generation; what [`seal`] says.
    pub fn extend(
        &self,
        now: Wall,
        recipients: &BTreeMap<[u8; 32], [u8; 32]>,
        issuer: &SigningKey,
        policy: &Policy<'_>,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, Reject> {
        let (generation, key) = self.writable(policy).ok_or(Reject::UnknownKey)?;
        let known = self.generations.get(&generation).ok_or(Reject::UnknownKey)?;
        if !(policy.may)(&issuer.public()) {
            return Err(Reject::Forbidden);
        }
        let there: usize = known.issues.iter().map(|c| c.recipients.len()).sum();
        if known.issues.len() >= LOCKBOXES || there + recipients.len() > ENTRIES {
            return Err(Reject::Limit);
        }
        let previous: Vec<_> = known.previous.iter().filter_map(|g| Some((*g, self.generations.get(g)?.key.as_ref()?))).collect();
        if previous.len() != known.previous.len() {
            return Err(Reject::UnknownKey);
        }
        let contents = Contents { number: generation.number, created: now, key, previous: &previous, recipients };
        seal(&self.domain, &contents, issuer, rng)
    }

    /// What is kept over a restart: the keys. Secret. Lockboxes are asked for again.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let held = self.generations.iter().filter_map(|(g, known)| Some((g, known, known.key.as_ref()?)));
        let mut w = Writer::new();
        w.u8(FORMAT).u32(self.newest().max(self.floor));
        for (generation, known, key) in held {
            w.u32(generation.number).u8(u8::from(known.followed)).raw(key.as_bytes());
        }
        w.finish()
    }

    /// Takes keys back that were kept.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::Version`], [`Reject::Limit`]; nothing was taken then.
    pub fn import(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (floor, rest) = (r.u32()?, r.rest());
        let (keys, []) = rest.as_chunks::<37>() else { return Err(Reject::Malformed) };
        if keys.len() > GENERATIONS {
            return Err(Reject::Limit);
        }
        for entry in keys {
            let mut r = Reader::new(entry);
            let (number, followed, key) = (r.u32()?, r.u8()? > 0, StorageKey::from_bytes(&r.array()?));
            self.learn(Generation::of(&self.domain, number, &key), key, followed);
        }
        self.at_least(floor);
        Ok(())
    }
}
