//! What is said of a stored object, signed by its author: all that a store needs for checking and counting, and nothing to read.

use alloc::vec::Vec;

use super::{IV, Identity, LARGEST, ObjectKey, Place, TAG};
use crate::base::{DomainId, NodeId, Reject};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

/// The label under a header's signature.
const LABEL: &str = "peerage/1/object";
const FORMAT: u8 = 1;
/// The longest description, bytes.
pub const DESCRIPTION: usize = 4_096;
/// Descriptions are filled up to a multiple of this, bytes.
const STEP: usize = 256;

/// One version of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What its keys are bound to.
    pub identity: Identity,
    /// To which keys ([`ObjectKey::commitment`]).
    pub commitment: [u8; 32],
    /// The hash of the header of the version before; zeros for the first.
    pub previous: [u8; 32],
    /// Bytes of all sealed chunks.
    pub size: u64,
    /// The root of the BLAKE3 tree over them.
    pub root: [u8; 32],
    /// Name, type, true length and what else the author says, sealed.
    pub description: Vec<u8>,
}

impl Header {
    /// The signed bytes.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if `key` is not the author's, [`Reject::TooLarge`] for too long a description or too many bytes.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Reject> {
        let Identity { domain, object, version, generation, author, salt } = &self.identity;
        if key.node_id() != *author {
            return Err(Reject::Forbidden);
        }
        if self.description.len() > SEALED || self.size > LARGEST * 2 {
            return Err(Reject::TooLarge);
        }
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
        let description = r.var(SEALED)?.to_vec();
        r.end()?;
        if size > LARGEST * 2 {
            return Err(Reject::TooLarge);
        }
        sign::verify(author.as_bytes(), LABEL, domain, message, signature)?;
        Ok(Header { identity, commitment, previous, size, root, description })
    }

    /// The hash by which the next version names this one, over the signed bytes.
    #[must_use]
    pub fn hash(signed: &[u8]) -> [u8; 32] {
        *blake3::hash(signed).as_bytes()
    }
}

/// A sealed description at most: IV, its length, itself, padding, tag.
const SEALED: usize = IV + (DESCRIPTION + 2).next_multiple_of(STEP) + TAG;

impl ObjectKey {
    /// Seals an object's description.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] over [`DESCRIPTION`].
    pub fn seal_description(&self, description: &[u8]) -> Result<Vec<u8>, Reject> {
        if description.len() > DESCRIPTION {
            return Err(Reject::TooLarge);
        }
        let mut w = Writer::new();
        w.var(description);
        let mut plaintext = w.finish();
        plaintext.resize(plaintext.len().next_multiple_of(STEP), 0);
        self.seal_at(Place::Description, &plaintext)
    }

    /// Opens a header's description.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn open_description(&self, header: &Header) -> Result<Vec<u8>, Reject> {
        let opened = self.open_at(Place::Description, &header.description)?;
        let mut r = Reader::new(&opened);
        Ok(r.var(DESCRIPTION).map_err(|_| Reject::Forged)?.to_vec())
    }
}
