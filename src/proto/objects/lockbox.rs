//! The lockbox: the storage key of one generation, sealed to everybody who may read what is stored under it, and signed by who made it.
//!
//! ```text
//! format u8 | generation u32 | issuer 32 | created u64 | commitment 32
//! u8 count of the lockboxes before this one, each: BLAKE3 of its signed bytes 32
//! history var: their storage keys, 32 each, in the same order, sealed as a record at rest; empty if there are none
//! u16 count of entries, rising by id, each: id 32 | HPKE enc 32 | sealed storage key 48
//! Ed25519 of the issuer
//! ```
//!
//! Whose generation follows which, who may issue one, and who is to be in it is the caller's to say.

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
/// Lockboxes that one may follow at once: more than one where issuers changed the key at the same time.
pub const PREVIOUS: usize = 8;
const SEALED: usize = 32 + TAG;

/// A lockbox whose form and signature hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockbox {
    domain: DomainId,
    /// Counted from 1.
    pub generation: u32,
    /// The public key of who made it.
    pub issuer: [u8; 32],
    /// When, by the issuer's clock.
    pub created: Wall,
    /// The hashes of those it follows.
    pub previous: Vec<[u8; 32]>,
    commitment: [u8; 32],
    history: Vec<u8>,
    entries: BTreeMap<[u8; 32], ([u8; ENC], [u8; SEALED])>,
}

/// What goes into a lockbox.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Counted from 1.
    pub generation: u32,
    /// Now.
    pub created: Wall,
    /// The storage key.
    pub key: &'a StorageKey,
    /// The lockboxes that it follows: the hash of each, and its storage key.
    pub previous: &'a [([u8; 32], &'a StorageKey)],
    /// Who is to open it: a participant's node id, an invitation's signing key or the root key, and the key to seal to.
    pub recipients: &'a BTreeMap<[u8; 32], [u8; 32]>,
}

/// Makes a lockbox.
///
/// # Errors
/// [`Reject::TooLarge`] for more than [`ENTRIES`] recipients or [`PREVIOUS`] lockboxes before, [`Reject::Malformed`] for generation 0,
/// [`Reject::Forged`] for a low-order recipient key.
pub fn seal(domain: &DomainId, contents: &Contents<'_>, issuer: &SigningKey, rng: &mut Rng) -> Result<Vec<u8>, Reject> {
    let Contents { generation, created, key, previous, recipients } = contents;
    if recipients.len() > ENTRIES || previous.len() > PREVIOUS {
        return Err(Reject::TooLarge);
    }
    if *generation == 0 {
        return Err(Reject::Malformed);
    }
    let mut w = Writer::new();
    w.u8(FORMAT).u32(*generation).raw(&issuer.public()).u64(created.0).raw(&*commitment(domain, *generation, key));
    w.u8(previous.len() as u8);
    for (hash, _) in *previous {
        w.raw(hash);
    }
    let keys = Zeroizing::new(previous.iter().flat_map(|(_, key)| *key.as_bytes()).collect::<Vec<u8>>());
    let history = if keys.is_empty() { Vec::new() } else { rest::seal(&key.lockbox(domain, *generation, HISTORY), HISTORY, &keys, rng) };
    w.var(&history).u16(recipients.len() as u16);
    for (id, public) in *recipients {
        let (enc, sealed) = seal::seal(public, &info(domain, *generation), id, key.as_bytes(), rng)?;
        w.raw(id).raw(&enc).raw(&sealed);
    }
    let signature = issuer.sign(LABEL, domain, w.as_slice());
    w.raw(&signature);
    Ok(w.finish())
}

impl Lockbox {
    /// Reads a lockbox and checks its issuer's signature.
    ///
    /// # Errors
    /// [`Reject::Malformed`] also for trailing bytes and entries that do not rise, [`Reject::Version`], [`Reject::TooLarge`],
    /// [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Lockbox, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (generation, issuer, created, commitment) = (r.u32()?, r.array()?, Wall(r.u64()?), r.array()?);
        let count = usize::from(r.u8()?);
        if count > PREVIOUS {
            return Err(Reject::TooLarge);
        }
        let previous = (0..count).map(|_| r.array()).collect::<Result<Vec<[u8; 32]>, _>>()?;
        let history = r.var(rest::sealed(32 * PREVIOUS))?.to_vec();
        let count = usize::from(r.u16()?);
        if count > ENTRIES {
            return Err(Reject::TooLarge);
        }
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (id, entry) = (r.array()?, (r.array()?, r.array()?));
            if entries.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(Reject::Malformed);
            }
            entries.insert(id, entry);
        }
        r.end()?;
        if generation == 0 || history.is_empty() != previous.is_empty() {
            return Err(Reject::Malformed);
        }
        sign::verify(&issuer, LABEL, domain, message, signature)?;
        Ok(Lockbox { domain: *domain, generation, issuer, created, previous, commitment, history, entries })
    }

    /// Who can open it.
    pub fn recipients(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.entries.keys()
    }

    /// Takes the storage key out, as this recipient.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if there is no entry for it, [`Reject::Forged`] if the entry does not open, or holds another key than the
    /// issuer committed to: all recipients have the same.
    pub fn open(&self, id: &[u8; 32], kem: &KemKey) -> Result<StorageKey, Reject> {
        let (enc, sealed) = self.entries.get(id).ok_or(Reject::Forbidden)?;
        let opened = kem.open(&info(&self.domain, self.generation), id, enc, sealed)?;
        let key = StorageKey::from_bytes(opened.first_chunk().ok_or(Reject::Forged)?);
        let commitment = commitment(&self.domain, self.generation, &key);
        if bool::from(commitment.ct_eq(&self.commitment)) { Ok(key) } else { Err(Reject::Forged) }
    }

    /// The storage keys of the lockboxes before this one, by their hashes: with them a newcomer reads what is older.
    ///
    /// # Errors
    /// [`Reject::Forged`] if it is not this lockbox's key.
    pub fn history(&self, key: &StorageKey) -> Result<Vec<([u8; 32], StorageKey)>, Reject> {
        if self.previous.is_empty() {
            return Ok(Vec::new());
        }
        let opened = rest::open(&key.lockbox(&self.domain, self.generation, HISTORY), HISTORY, &self.history)?;
        match opened.as_chunks::<32>() {
            (keys, []) if keys.len() == self.previous.len() => {
                Ok(self.previous.iter().zip(keys).map(|(hash, key)| (*hash, StorageKey::from_bytes(key))).collect())
            }
            _ => Err(Reject::Forged),
        }
    }
}

fn info(domain: &DomainId, generation: u32) -> Vec<u8> {
    labelled("peerage/1/lockbox-entry", domain, &generation.to_be_bytes())
}

fn commitment(domain: &DomainId, generation: u32, key: &StorageKey) -> Zeroizing<[u8; 32]> {
    key.lockbox(domain, generation, "commitment")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::objects::hash;
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

    fn made(generation: u32, key: &StorageKey, previous: &[([u8; 32], &StorageKey)], of: &[u8]) -> Vec<u8> {
        let recipients = recipients(of);
        let contents = Contents { generation, created: Wall(5), key, previous, recipients: &recipients };
        seal(&DOMAIN, &contents, &issuer(), &mut Rng::from_seed([generation as u8; 32])).unwrap()
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
        assert!(lockbox.recipients().eq(&[[1; 32], [2; 32], [7; 32]]));
        assert!(lockbox.history(&key).unwrap().is_empty());
    }

    #[test]
    fn attack_31_who_was_evicted_opens_the_old_lockbox_and_not_the_new_one() {
        let (old, new) = (storage(1), storage(2));
        let first = made(1, &old, &[], &[1, 2]);
        let second = made(2, &new, &[(hash(&first), &old)], &[1]);
        let second = Lockbox::verify(&DOMAIN, &second).unwrap();
        let evicted = Lockbox::verify(&DOMAIN, &first).unwrap().open(&[2; 32], &kem(2)).unwrap();
        assert_eq!(second.open(&[2; 32], &kem(2)).unwrap_err(), Reject::Forbidden);
        assert_eq!(second.open(&[1; 32], &kem(2)).unwrap_err(), Reject::Forged);
        assert_eq!(second.history(&evicted).unwrap_err(), Reject::Forged, "nor does the old key open the new history");
    }

    #[test]
    fn a_newcomer_reads_back_through_the_generations_also_where_two_came_at_once() {
        let (a, b, c) = (storage(1), storage(2), storage(3));
        let (one, other) = (made(1, &a, &[], &[1]), made(1, &b, &[], &[1]));
        let both = Lockbox::verify(&DOMAIN, &made(2, &c, &[(hash(&one), &a), (hash(&other), &b)], &[5])).unwrap();
        let key = both.open(&[5; 32], &kem(5)).unwrap();
        let history = both.history(&key).unwrap();
        let found: Vec<_> = history.iter().map(|(hash, key)| (*hash, *key.as_bytes())).collect();
        assert_eq!(found, [(hash(&one), *a.as_bytes()), (hash(&other), *b.as_bytes())]);
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
        let entry = |n: usize| start + n * 112..start + (n + 1) * 112;
        let mut swapped = good.clone();
        swapped[start + 32..start + 112].copy_from_slice(&good[start + 112 + 32..start + 224]);
        let swapped = resign(swapped).unwrap();
        assert_eq!(swapped.open(&[1; 32], &kem(1)).unwrap_err(), Reject::Forged, "another one's entry under this name");
        assert_eq!(swapped.open(&[1; 32], &kem(2)).unwrap_err(), Reject::Forged);
        let mut two_faced = good.clone();
        two_faced[entry(1)].copy_from_slice(&bad[entry(1)]);
        let two_faced = resign(two_faced).unwrap();
        assert_eq!(two_faced.open(&[1; 32], &kem(1)).unwrap().as_bytes(), key.as_bytes());
        assert_eq!(two_faced.open(&[2; 32], &kem(2)).unwrap_err(), Reject::Forged, "not the key that was committed to");
        let mut order = good.clone();
        order[start..start + 112].copy_from_slice(&good[entry(1)]);
        assert_eq!(resign(order).unwrap_err(), Reject::Malformed, "twice the same");
    }

    #[test]
    fn no_bit_of_it_can_change_and_bounds_hold() {
        let (key, before) = (storage(1), storage(2));
        let bytes = made(3, &key, &[([4; 32], &before)], &[1, 2]);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(Lockbox::verify(&DOMAIN, &bad).is_err(), "byte {i}");
            assert!(Lockbox::verify(&DOMAIN, &bytes[..i]).is_err());
        }
        assert_eq!(Lockbox::verify(&DomainId::from_bytes([1; 32]), &bytes).unwrap_err(), Reject::Forged);
        let recipients = recipients(&[1]);
        let contents = Contents { generation: 0, created: Wall(5), key: &key, previous: &[], recipients: &recipients };
        let mut rng = Rng::from_seed([1; 32]);
        assert_eq!(seal(&DOMAIN, &contents, &issuer(), &mut rng), Err(Reject::Malformed));
        let many = vec![([1; 32], &before); PREVIOUS + 1];
        assert_eq!(seal(&DOMAIN, &Contents { generation: 1, previous: &many, ..contents }, &issuer(), &mut rng), Err(Reject::TooLarge));
        let weak = BTreeMap::from([([1; 32], [0; 32])]);
        let contents = Contents { generation: 1, created: Wall(5), key: &key, previous: &[], recipients: &weak };
        assert_eq!(seal(&DOMAIN, &contents, &issuer(), &mut rng), Err(Reject::Forged));
    }
}
