//! The lockbox: the storage key of one generation, sealed to everybody who may read what is stored under it, and signed by who made it.
//!
//! ```text
//! format u8 | generation u32 | issuer 32 | created u64 | commitment 32
//! u8 count of the storage keys that it follows, each: generation u32 | commitment 32
//! history var: those keys, 32 each, in the same order, sealed as a record at rest; empty if there are none
//! u16 count of entries, rising by id, each: id 32 | KEM key 32 | HPKE enc 32 | sealed storage key 48
//! Ed25519 of the issuer
//! ```
//!
//! A generation is named by its commitment, which follows from the key: several lockboxes may hold the same one, each for other
//! recipients, and nobody can give two recipients two keys. The KEM keys are in it so that whoever makes the next one knows to
//! what to seal for those who are away. Who may issue one, and who is to be in it, is for [`Keyring`](super::Keyring) and its caller.

use alloc::{collections::BTreeMap, vec::Vec};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::base::{DomainId, Reject, Rng, Wall, limit};
use crate::crypto::object::StorageKey;
use crate::crypto::rest;
use crate::crypto::seal::{self, ENC, KemKey, TAG};
use crate::crypto::sign::{self, SIGNATURE, SigningKey, labelled};
use crate::wire::bytes::{Reader, Writer};

const FORMAT: u8 = 1;
/// The name under which the history is sealed.
const HISTORY: &str = "history";
/// The label under a lockbox's signature.
const LABEL: &str = "peerage/1/lockbox";
/// Entries at most: all participants, and open invitations.
pub const ENTRIES: usize = limit::RECORDS + 256;
/// Storage keys that one may follow at once: more than one where issuers changed it at the same time.
pub const PREVIOUS: usize = 8;
const SEALED: usize = 32 + TAG;

/// What names a storage key without telling it. The higher generation comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// Follows from the key, the domain and the number.
    pub commitment: [u8; 32],
}

impl Generation {
    /// The name of a storage key.
    #[must_use]
    pub fn of(domain: &DomainId, number: u32, key: &StorageKey) -> Generation {
        Generation { number, commitment: *key.lockbox(domain, number, "commitment") }
    }

    /// Whether this is the name of that key.
    fn is_of(&self, domain: &DomainId, key: &StorageKey) -> bool {
        Generation::of(domain, self.number, key).commitment.ct_eq(&self.commitment).into()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kem: [u8; 32],
    enc: [u8; ENC],
    sealed: [u8; SEALED],
}

/// A lockbox whose form and signature hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockbox {
    domain: DomainId,
    /// Whose key is in it.
    pub generation: Generation,
    /// The public key of who made it.
    pub issuer: [u8; 32],
    /// When, by the issuer's clock.
    pub created: Wall,
    /// The storage keys that this one follows, all of lower generations.
    pub previous: Vec<Generation>,
    history: Vec<u8>,
    entries: BTreeMap<[u8; 32], Entry>,
}

/// What goes into a lockbox.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Counted from 1.
    pub number: u32,
    /// Now.
    pub created: Wall,
    /// The storage key.
    pub key: &'a StorageKey,
    /// Those that it follows.
    pub previous: &'a [(Generation, &'a StorageKey)],
    /// Who is to open it: a participant's node id, an invitation's signing key or the root key, and the KEM key to seal to.
    pub recipients: &'a BTreeMap<[u8; 32], [u8; 32]>,
}

/// Makes a lockbox.
///
/// # Errors
/// [`Reject::TooLarge`] for more than [`ENTRIES`] recipients or [`PREVIOUS`] keys before, [`Reject::Malformed`] for a generation that is not
/// above theirs, [`Reject::Forged`] for a low-order recipient key.
pub fn seal(domain: &DomainId, contents: &Contents<'_>, issuer: &SigningKey, rng: &mut Rng) -> Result<Vec<u8>, Reject> {
    let Contents { number, created, key, previous, recipients } = contents;
    if recipients.len() > ENTRIES || previous.len() > PREVIOUS {
        return Err(Reject::TooLarge);
    }
    if previous.iter().map(|(g, _)| g.number).max().unwrap_or(0) >= *number {
        return Err(Reject::Malformed);
    }
    let mut w = Writer::new();
    w.u8(FORMAT).u32(*number).raw(&issuer.public()).u64(created.0).raw(&Generation::of(domain, *number, key).commitment);
    w.u8(previous.len() as u8);
    for (generation, _) in *previous {
        w.u32(generation.number).raw(&generation.commitment);
    }
    let keys = Zeroizing::new(previous.iter().flat_map(|(_, key)| *key.as_bytes()).collect::<Vec<u8>>());
    let history = if keys.is_empty() { Vec::new() } else { rest::seal(&key.lockbox(domain, *number, HISTORY), HISTORY, &keys, rng) };
    w.var(&history).u16(recipients.len() as u16);
    for (id, public) in *recipients {
        let (enc, sealed) = seal::seal(public, &info(domain, *number), id, key.as_bytes(), rng)?;
        w.raw(id).raw(public).raw(&enc).raw(&sealed);
    }
    let signature = issuer.sign(LABEL, domain, w.as_slice());
    w.raw(&signature);
    Ok(w.finish())
}

impl Lockbox {
    /// Reads a lockbox and checks its issuer's signature.
    ///
    /// # Errors
    /// [`Reject::Malformed`] also for trailing bytes, entries that do not rise, and generations that do not, [`Reject::Version`],
    /// [`Reject::TooLarge`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Lockbox, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (number, issuer, created, commitment) = (r.u32()?, r.array()?, Wall(r.u64()?), r.array()?);
        let count = usize::from(r.u8()?);
        if count > PREVIOUS {
            return Err(Reject::TooLarge);
        }
        let generation = |r: &mut Reader<'_>| Ok(Generation { number: r.u32()?, commitment: r.array()? });
        let previous = (0..count).map(|_| generation(&mut r)).collect::<Result<Vec<Generation>, Reject>>()?;
        let history = r.var(rest::sealed(32 * PREVIOUS))?.to_vec();
        let count = usize::from(r.u16()?);
        if count > ENTRIES {
            return Err(Reject::TooLarge);
        }
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (id, entry) = (r.array()?, Entry { kem: r.array()?, enc: r.array()?, sealed: r.array()? });
            if entries.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(Reject::Malformed);
            }
            entries.insert(id, entry);
        }
        r.end()?;
        let before = previous.iter().map(|g| g.number).max().unwrap_or(0);
        if before >= number || history.is_empty() != previous.is_empty() {
            return Err(Reject::Malformed);
        }
        sign::verify(&issuer, LABEL, domain, message, signature)?;
        let generation = Generation { number, commitment };
        Ok(Lockbox { domain: *domain, generation, issuer, created, previous, history, entries })
    }

    /// Who can open it, and the KEM key of each.
    pub fn recipients(&self) -> impl Iterator<Item = (&[u8; 32], &[u8; 32])> {
        self.entries.iter().map(|(id, entry)| (id, &entry.kem))
    }

    /// Takes the storage key out, as this recipient.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if there is no entry for it, [`Reject::Forged`] if the entry does not open, or holds another key than the
    /// issuer committed to: all recipients have the same.
    pub fn open(&self, id: &[u8; 32], kem: &KemKey) -> Result<StorageKey, Reject> {
        let Entry { enc, sealed, .. } = self.entries.get(id).ok_or(Reject::Forbidden)?;
        let opened = kem.open(&info(&self.domain, self.generation.number), id, enc, sealed)?;
        self.own(StorageKey::from_bytes(opened.first_chunk().ok_or(Reject::Forged)?))
    }

    fn own(&self, key: StorageKey) -> Result<StorageKey, Reject> {
        if self.generation.is_of(&self.domain, &key) { Ok(key) } else { Err(Reject::Forged) }
    }

    /// The storage keys that this one follows: with them a newcomer reads what is older.
    ///
    /// # Errors
    /// [`Reject::Forged`] if it is not this lockbox's key, or they are not what the lockbox names.
    pub fn history(&self, key: &StorageKey) -> Result<Vec<(Generation, StorageKey)>, Reject> {
        if self.previous.is_empty() {
            return Ok(Vec::new());
        }
        let opened = rest::open(&key.lockbox(&self.domain, self.generation.number, HISTORY), HISTORY, &self.history)?;
        let (keys, []) = opened.as_chunks::<32>() else { return Err(Reject::Forged) };
        let named = self.previous.iter().zip(keys).map(|(generation, key)| (*generation, StorageKey::from_bytes(key)));
        let named: Vec<_> = named.filter(|(generation, key)| generation.is_of(&self.domain, key)).collect();
        if keys.len() == self.previous.len() && named.len() == keys.len() { Ok(named) } else { Err(Reject::Forged) }
    }
}

fn info(domain: &DomainId, generation: u32) -> Vec<u8> {
    labelled("peerage/1/lockbox-entry", domain, &generation.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);

    fn kem(n: u8) -> KemKey {
        KemKey::derive(&[n; 32])
    }

    fn issuer() -> SigningKey {
        SigningKey::from_seed(&[9; 32])
    }

    fn recipients(of: &[u8]) -> BTreeMap<[u8; 32], [u8; 32]> {
        of.iter().map(|n| ([*n; 32], *kem(*n).public())).collect()
    }

    fn made(number: u32, key: &StorageKey, previous: &[(Generation, &StorageKey)], of: &[u8]) -> Vec<u8> {
        let recipients = recipients(of);
        let contents = Contents { number, created: Wall(5), key, previous, recipients: &recipients };
        seal(&DOMAIN, &contents, &issuer(), &mut Rng::from_seed([number as u8; 32])).unwrap()
    }

    fn name(number: u32, key: &StorageKey) -> Generation {
        Generation::of(&DOMAIN, number, key)
    }

    fn storage(n: u8) -> StorageKey {
        StorageKey::generate(&mut Rng::from_seed([n; 32]))
    }

    #[test]
    fn each_recipient_opens_its_entry_and_nobody_else() {
        let key = storage(1);
        let lockbox = Lockbox::verify(&DOMAIN, &made(1, &key, &[], &[1, 2, 7])).unwrap();
        for n in [1, 2, 7] {
            assert_eq!(lockbox.open(&[n; 32], &kem(n)).unwrap().as_bytes(), key.as_bytes());
        }
        assert_eq!(lockbox.open(&[3; 32], &kem(3)).unwrap_err(), Reject::Forbidden);
        assert_eq!(lockbox.open(&[1; 32], &kem(2)).unwrap_err(), Reject::Forged);
        assert!(lockbox.recipients().map(|(id, kem)| (*id, *kem)).eq(recipients(&[1, 2, 7])));
        assert!(lockbox.history(&key).unwrap().is_empty());
    }

    #[test]
    fn attack_31_who_was_evicted_opens_the_old_lockbox_and_not_the_new_one() {
        let (old, new) = (storage(1), storage(2));
        let first = made(1, &old, &[], &[1, 2]);
        let second = made(2, &new, &[(name(1, &old), &old)], &[1]);
        let second = Lockbox::verify(&DOMAIN, &second).unwrap();
        let evicted = Lockbox::verify(&DOMAIN, &first).unwrap().open(&[2; 32], &kem(2)).unwrap();
        assert_eq!(second.open(&[2; 32], &kem(2)).unwrap_err(), Reject::Forbidden);
        assert_eq!(second.open(&[1; 32], &kem(2)).unwrap_err(), Reject::Forged);
        assert_eq!(second.history(&evicted).unwrap_err(), Reject::Forged, "nor does the old key open the new history");
    }

    #[test]
    fn a_newcomer_reads_back_through_the_generations_also_where_two_came_at_once() {
        let (a, b, c) = (storage(1), storage(2), storage(3));
        let both = Lockbox::verify(&DOMAIN, &made(3, &c, &[(name(1, &a), &a), (name(2, &b), &b)], &[5])).unwrap();
        let key = both.open(&[5; 32], &kem(5)).unwrap();
        let history = both.history(&key).unwrap();
        let found: Vec<_> = history.iter().map(|(name, key)| (*name, *key.as_bytes())).collect();
        assert_eq!(found, [(name(1, &a), *a.as_bytes()), (name(2, &b), *b.as_bytes())]);
        let lie = Lockbox::verify(&DOMAIN, &made(3, &c, &[(name(1, &b), &a)], &[5])).unwrap();
        assert_eq!(lie.history(&c).unwrap_err(), Reject::Forged, "another key than it names");
    }

    #[test]
    fn entries_cannot_be_swapped_and_an_issuer_cannot_give_two_keys() {
        let (key, other) = (storage(1), storage(2));
        let (good, bad) = (made(1, &key, &[], &[1, 2]), made(1, &other, &[], &[1, 2]));
        // Where the entries begin: behind the fixed fields, no history, and their count.
        let start = 1 + 4 + 32 + 8 + 32 + 1 + 2 + 2;
        let resign = |mut bytes: Vec<u8>| {
            bytes.truncate(bytes.len() - SIGNATURE);
            let signature = issuer().sign(LABEL, &DOMAIN, &bytes);
            Lockbox::verify(&DOMAIN, &[&bytes[..], &signature].concat())
        };
        let entry = |n: usize| start + n * 144..start + (n + 1) * 144;
        let mut swapped = good.clone();
        swapped[start + 32..start + 144].copy_from_slice(&good[start + 144 + 32..start + 288]);
        let swapped = resign(swapped).unwrap();
        assert_eq!(swapped.open(&[1; 32], &kem(1)).unwrap_err(), Reject::Forged, "another one's entry under this name");
        assert_eq!(swapped.open(&[1; 32], &kem(2)).unwrap_err(), Reject::Forged);
        let mut two_faced = good.clone();
        two_faced[entry(1)].copy_from_slice(&bad[entry(1)]);
        let two_faced = resign(two_faced).unwrap();
        assert_eq!(two_faced.open(&[1; 32], &kem(1)).unwrap().as_bytes(), key.as_bytes());
        assert_eq!(two_faced.open(&[2; 32], &kem(2)).unwrap_err(), Reject::Forged, "not the key that was committed to");
        let mut order = good.clone();
        order[start..start + 144].copy_from_slice(&good[entry(1)]);
        assert_eq!(resign(order).unwrap_err(), Reject::Malformed, "twice the same");
    }

    #[test]
    fn no_bit_of_it_can_change_and_bounds_hold() {
        let (key, before) = (storage(1), storage(2));
        let bytes = made(3, &key, &[(name(2, &before), &before)], &[1, 2]);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(Lockbox::verify(&DOMAIN, &bad).is_err(), "byte {i}");
            assert!(Lockbox::verify(&DOMAIN, &bytes[..i]).is_err());
        }
        assert_eq!(Lockbox::verify(&DomainId::from_bytes([1; 32]), &bytes).unwrap_err(), Reject::Forged);
        let recipients = recipients(&[1]);
        let contents = Contents { number: 0, created: Wall(5), key: &key, previous: &[], recipients: &recipients };
        let mut rng = Rng::from_seed([1; 32]);
        assert_eq!(seal(&DOMAIN, &contents, &issuer(), &mut rng), Err(Reject::Malformed));
        let many = vec![(name(1, &before), &before); PREVIOUS + 1];
        assert_eq!(seal(&DOMAIN, &Contents { number: 2, previous: &many, ..contents }, &issuer(), &mut rng), Err(Reject::TooLarge));
        let same = [(name(2, &before), &before)];
        assert_eq!(seal(&DOMAIN, &Contents { number: 2, previous: &same, ..contents }, &issuer(), &mut rng), Err(Reject::Malformed));
        let weak = BTreeMap::from([([1; 32], [0; 32])]);
        let contents = Contents { number: 1, created: Wall(5), key: &key, previous: &[], recipients: &weak };
        assert_eq!(seal(&DOMAIN, &contents, &issuer(), &mut rng), Err(Reject::Forged));
    }
}
