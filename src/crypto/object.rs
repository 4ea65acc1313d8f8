//! Stored objects: sealed by their author under the domain's storage key, in chunks that can be written, checked and read one by one.
//!
//! ```text
//! from the storage key, HKDF-SHA256 salted, labelled peerage/1/obj and bound to domain, object, version, generation and author:
//!     key 32 | IV key 32 | commitment 32
//! chunk       IV 24 | XChaCha20-Poly1305(key, IV, plaintext), place in the authenticated data
//! IV          the first 24 bytes of keyed BLAKE3(IV key, place | plaintext)
//! place       index u64 | 0 chunk, 1 last chunk, 2 description (of index 0)
//! description length u16, itself, then zeros up to a multiple of 256; sealed as a chunk is
//! plaintext   of all chunks: the object's bytes, then zeros up to Padmé's length
//! ```
//!
//! An IV that follows from what is sealed (SIV, RFC 5297's idea) lets a put go on after a crash: the same chunk is sealed to the same
//! bytes, and if the source changed meanwhile, no IV serves twice. A sealed chunk is 64 KiB with all that belongs to it, so that
//! chunks are subtrees of the BLAKE3 tree whose root the header signs ([`tree`]).

#[cfg(test)]
mod tests;
pub mod tree;

use alloc::vec::Vec;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::seal::KemKey;
use super::sign::{SigningKey, labelled};
use crate::base::{DomainId, NodeId, Reject, Rng};

/// A sealed chunk, bytes: all but the last one of an object have this length.
pub const CHUNK: usize = 64 * 1024;
const IV: usize = 24;
const TAG: usize = 16;
/// What one chunk holds, bytes.
pub const CONTENT: usize = CHUNK - IV - TAG;
/// No object looks smaller than this, bytes.
pub const SMALLEST: u64 = 1_024;
/// The largest object, bytes: 2^48.
pub const LARGEST: u64 = 1 << 48;

/// The longest description, bytes.
pub const DESCRIPTION: usize = 4_096;
/// Descriptions are filled up to a multiple of this, bytes.
const STEP: usize = 256;
/// The longest sealed description, bytes: IV, its length, itself, padding, tag.
pub const SEALED_DESCRIPTION: usize = IV + (DESCRIPTION + 2).next_multiple_of(STEP) + TAG;

/// The secret of one generation of a domain's stored objects.
pub struct StorageKey(Zeroizing<[u8; 32]>);

/// What an object's keys are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain.
    pub domain: DomainId,
    /// The object.
    pub object: [u8; 16],
    /// Its version, counted from 1.
    pub version: u64,
    /// Which of the domain's storage keys it is sealed under.
    pub generation: u32,
    /// Who wrote it.
    pub author: NodeId,
    /// Random, for each put.
    pub salt: [u8; 32],
}

/// The keys of one version of one object.
pub struct ObjectKey {
    cipher: XChaCha20Poly1305,
    iv: Zeroizing<[u8; 32]>,
    commitment: [u8; 32],
}

/// Where in an object something sealed belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Chunk(u64),
    Last(u64),
    Description,
}

impl Place {
    fn of(index: u64, last: bool) -> Place {
        if last { Place::Last(index) } else { Place::Chunk(index) }
    }

    fn bytes(self) -> [u8; 9] {
        let (index, kind) = match self {
            Place::Chunk(index) => (index, 0),
            Place::Last(index) => (index, 1),
            Place::Description => (0, 2),
        };
        let mut bytes = [kind; 9];
        bytes[..8].copy_from_slice(&index.to_be_bytes());
        bytes
    }
}

/// The KEM key to which storage keys of a domain are sealed for the holder of an identity or root key: HKDF-SHA256 of the seed.
#[must_use]
pub fn recipient(key: &SigningKey, domain: &DomainId) -> KemKey {
    let mut out = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::new(Some(b"peerage/1/storage-recipient"), &key.seed()[..]);
    hkdf.expand(domain.as_bytes(), &mut out[..]).expect("32 bytes are a legal length"); // invariant: RFC 5869's bound
    KemKey::derive(&out)
}

impl StorageKey {
    /// A new random one.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> StorageKey {
        StorageKey(Zeroizing::new(rng.bytes()))
    }

    /// One that was sealed, or kept.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> StorageKey {
        StorageKey(Zeroizing::new(*bytes))
    }

    /// Itself, for sealing and keeping.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keys for writing an object.
    #[must_use]
    pub fn object(&self, identity: &Identity) -> ObjectKey {
        let Identity { domain, object, version, generation, author, salt } = identity;
        let bound = [&object[..], &version.to_be_bytes(), &generation.to_be_bytes(), author.as_bytes()].concat();
        let mut out = Zeroizing::new([0; 96]);
        let hkdf = Hkdf::<Sha256>::new(Some(salt), &self.0[..]);
        hkdf.expand(&labelled("peerage/1/obj", domain, &bound), &mut out[..]).expect("96 bytes are a legal length"); // invariant: RFC 5869's bound
        let (mut key, mut iv, mut commitment) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]), [0; 32]);
        key.copy_from_slice(&out[..32]);
        iv.copy_from_slice(&out[32..64]);
        commitment.copy_from_slice(&out[64..]);
        ObjectKey { cipher: XChaCha20Poly1305::new((&*key).into()), iv, commitment }
    }

    /// The keys for reading an object.
    ///
    /// # Errors
    /// [`Reject::Forged`] if its header commits to another storage key: what opens under two keys says two things.
    pub fn read(&self, identity: &Identity, commitment: &[u8; 32]) -> Result<ObjectKey, Reject> {
        let key = self.object(identity);
        if bool::from(key.commitment.ct_eq(commitment)) { Ok(key) } else { Err(Reject::Forged) }
    }

    /// A name of something that tells nothing of it to whoever has not the key, and is the same for all who have it.
    #[must_use]
    pub fn token(&self, domain: &DomainId, of: &str, value: &[u8]) -> [u8; 16] {
        let key = self.lockbox(domain, 1, "tokens");
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&(of.len() as u64).to_be_bytes()).update(of.as_bytes()).update(value);
        let (mut token, hash) = ([0; 16], hasher.finalize());
        token.copy_from_slice(&hash.as_bytes()[..16]);
        token
    }

    /// What follows from it for one use in the lockbox of its generation.
    #[must_use]
    pub fn lockbox(&self, domain: &DomainId, generation: u32, what: &str) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let info = labelled("peerage/1/lockbox-key", domain, &generation.to_be_bytes());
        Hkdf::<Sha256>::new(Some(what.as_bytes()), &self.0[..]).expand(&info, &mut out[..]).expect("32 bytes are a legal length"); // invariant: RFC 5869's bound
        out
    }
}

impl ObjectKey {
    /// What a header says of these keys without telling them.
    #[must_use]
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Seals one chunk. The same one always becomes the same bytes.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] for more than [`CONTENT`] bytes, [`Reject::Malformed`] for fewer, unless it is the last one.
    pub fn seal(&self, index: u64, last: bool, content: &[u8]) -> Result<Vec<u8>, Reject> {
        if content.len() > CONTENT {
            return Err(Reject::TooLarge);
        }
        if content.len() < CONTENT && !last {
            return Err(Reject::Malformed);
        }
        self.seal_at(Place::of(index, last), content)
    }

    /// Opens a chunk.
    ///
    /// # Errors
    /// [`Reject::Forged`] if it is not what the author sealed at this place of this version.
    pub fn open(&self, index: u64, last: bool, sealed: &[u8]) -> Result<Vec<u8>, Reject> {
        self.open_at(Place::of(index, last), sealed)
    }

    /// Seals an object's description.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] over [`DESCRIPTION`].
    pub fn seal_description(&self, description: &[u8]) -> Result<Vec<u8>, Reject> {
        if description.len() > DESCRIPTION {
            return Err(Reject::TooLarge);
        }
        let mut plaintext = [&(description.len() as u16).to_be_bytes(), description].concat();
        plaintext.resize(plaintext.len().next_multiple_of(STEP), 0);
        self.seal_at(Place::Description, &plaintext)
    }

    /// Opens an object's description.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn open_description(&self, sealed: &[u8]) -> Result<Vec<u8>, Reject> {
        let opened = self.open_at(Place::Description, sealed)?;
        let (length, rest) = opened.split_first_chunk().ok_or(Reject::Forged)?;
        Ok(rest.get(..usize::from(u16::from_be_bytes(*length))).ok_or(Reject::Forged)?.to_vec())
    }

    fn seal_at(&self, place: Place, content: &[u8]) -> Result<Vec<u8>, Reject> {
        let mut hasher = blake3::Hasher::new_keyed(&self.iv);
        hasher.update(&place.bytes()).update(content);
        let (mut iv, hash) = ([0; IV], hasher.finalize());
        iv.copy_from_slice(&hash.as_bytes()[..IV]);
        let sealed = self.cipher.encrypt(&iv.into(), Payload { msg: content, aad: &place.bytes() }).map_err(|_| Reject::TooLarge)?;
        Ok([&iv[..], &sealed].concat())
    }

    fn open_at(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, Reject> {
        let (iv, sealed) = sealed.split_first_chunk::<IV>().ok_or(Reject::Forged)?;
        self.cipher.decrypt(iv.into(), Payload { msg: sealed, aad: &place.bytes() }).map_err(|_| Reject::Forged)
    }
}

impl core::fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StorageKey")
    }
}

impl core::fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ObjectKey")
    }
}

/// How many bytes an object of so many is filled up to: Padmé (Nikitin et al., PETS 2019) lets at most log log of the length show, for
/// at most 12 % more.
///
/// # Errors
/// [`Reject::TooLarge`] over [`LARGEST`].
pub fn padded(length: u64) -> Result<u64, Reject> {
    if length > LARGEST {
        return Err(Reject::TooLarge);
    }
    let length = length.max(SMALLEST);
    let exponent = length.ilog2();
    let mask = (1 << (exponent - exponent.ilog2() - 1)) - 1;
    Ok((length + mask) & !mask)
}

/// How many chunks an object of so many bytes takes.
///
/// # Errors
/// As [`padded`].
pub fn chunks(length: u64) -> Result<u64, Reject> {
    Ok(padded(length)?.div_ceil(CONTENT as u64))
}

/// Whether all sealed chunks of some object together can have this many bytes.
#[must_use]
pub fn is_sealed_size(size: u64) -> bool {
    let sealed = size.checked_sub(size.div_ceil(CHUNK as u64) * (IV + TAG) as u64);
    sealed.is_some_and(|content| padded(content) == Ok(content))
}
