//! What is said of a stored object, signed by its author: all that a store needs for checking and counting, and nothing to read.
//! A version without chunks is a tombstone: it says that the object is deleted.

use alloc::vec::Vec;

use crate::base::{DomainId, NodeId, Reject};
use crate::crypto::object::{CHUNK, Identity, ObjectKey, SEALED_DESCRIPTION, StorageKey, is_sealed_size};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

/// The label under a header's signature.
const LABEL: &str = "peerage/1/object";
const FORMAT: u8 = 1;

/// One version of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What its keys are bound to.
    pub identity: Identity,
    /// To which keys ([`ObjectKey::commitment`]).
    pub commitment: [u8; 32],
    /// The hash ([`super::hash`]) of the header of the version before; zeros for the first.
    pub previous: [u8; 32],
    /// Bytes of all sealed chunks; 0 for a tombstone.
    pub size: u64,
    /// The root of the BLAKE3 tree over them; zeros for a tombstone.
    pub root: [u8; 32],
    /// Name, type, true length and what else the author says, sealed ([`ObjectKey::seal_description`]).
    pub description: Vec<u8>,
}

impl Header {
    /// The signed bytes.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if `key` is not the author's, [`Reject::TooLarge`] for too long a description, [`Reject::Malformed`] for
    /// version 0 and a size that no padded object has.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Reject> {
        let Identity { domain, object, version, generation, author, salt } = &self.identity;
        if key.node_id() != *author {
            return Err(Reject::Forbidden);
        }
        if self.description.len() > SEALED_DESCRIPTION {
            return Err(Reject::TooLarge);
        }
        self.check()?;
        let mut w = Writer::new();
        w.u8(FORMAT).raw(author.as_bytes()).raw(object).u64(*version).u32(*generation).raw(salt);
        w.raw(&self.commitment).raw(&self.previous).u64(self.size).raw(&self.root).var(&self.description);
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        Ok(w.finish())
    }

    /// Reads a header and checks its author's signature. Whether the author may write is for the caller to say.
    ///
    /// # Errors
    /// [`Reject::Malformed`] also for trailing bytes, [`Reject::Version`], [`Reject::TooLarge`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Header, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let author = NodeId::from_public_key(r.array()?);
        let (object, version, generation, salt) = (r.array()?, r.u64()?, r.u32()?, r.array()?);
        let identity = Identity { domain: *domain, object, version, generation, author, salt };
        let (commitment, previous, size, root) = (r.array()?, r.array()?, r.u64()?, r.array()?);
        let description = r.var(SEALED_DESCRIPTION)?.to_vec();
        r.end()?;
        let header = Header { identity, commitment, previous, size, root, description };
        header.check()?;
        sign::verify(author.as_bytes(), LABEL, domain, message, signature)?;
        Ok(header)
    }

    /// What holds of every header, whoever signs it.
    fn check(&self) -> Result<(), Reject> {
        let sound = if self.is_tombstone() { self.root == [0; 32] } else { is_sealed_size(self.size) };
        let first = self.identity.version == 1;
        if sound && self.identity.version > 0 && first == (self.previous == [0; 32]) { Ok(()) } else { Err(Reject::Malformed) }
    }

    /// Whether this version says that the object is deleted.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.size == 0
    }

    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(CHUNK as u64)
    }

    /// The keys for reading what it heads.
    ///
    /// # Errors
    /// [`Reject::Forged`] if it commits to another storage key.
    pub fn key(&self, storage: &StorageKey) -> Result<ObjectKey, Reject> {
        storage.read(&self.identity, &self.commitment)
    }
}
