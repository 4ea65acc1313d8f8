//! What copies of the state say to one another. `docs/protocol.md` section 12.

use alloc::vec::Vec;
use minicbor::bytes::ByteVec;

use super::entry::{SIGNED, Stamp};
use crate::base::Reject;
use crate::wire::cbor;

/// How many buckets the keys are divided into for comparison: a bucket is the first byte of a key's id.
pub const BUCKETS: usize = 256;
/// Summaries in one message.
pub const LISTED: usize = 256;
/// Bytes of entries put into one message (the last entry may pass it).
pub const BATCH: usize = 32 * 1024;

/// A key's name in comparisons: the first 16 bytes of its BLAKE3 hash.
pub type KeyId = [u8; 16];

/// Which entry of a key somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Summary {
    /// The key's.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: KeyId,
    /// When it was written.
    #[n(1)]
    pub stamp: Stamp,
    /// The first 8 bytes of the BLAKE3 hash of the signed bytes: it decides between two of one moment.
    #[n(2)]
    pub tie: u64,
}

/// A message from one copy to another.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Msg {
    /// Signed entries: news, or an answer.
    #[n(0)]
    Entries {
        /// Their bytes.
        #[n(0)]
        list: Vec<ByteVec>,
        /// The sender has more of an answer: ask again.
        #[n(1)]
        more: bool,
    },
    /// One digest over all. Answered with [`Msg::Buckets`] if it differs.
    #[n(1)]
    Digest(#[n(0)] u64),
    /// A digest per bucket, [`BUCKETS`] of them; 0 for an empty one. Answered with the entries of empty ones, and with
    /// [`Msg::Summaries`] of the others that differ.
    #[n(2)]
    Buckets(#[n(0)] Vec<u64>),
    /// What the sender has in some buckets. Answered with what it lacks there, and with [`Msg::Want`].
    #[n(3)]
    Summaries {
        /// Which buckets: all the sender has there is listed.
        #[cbor(n(0), with = "minicbor::bytes")]
        buckets: Vec<u8>,
        /// The entries.
        #[n(1)]
        list: Vec<Summary>,
        /// Other buckets differ, too: ask again.
        #[n(2)]
        more: bool,
    },
    /// The ids of keys whose entries the sender asks for, 16 bytes each, one after the other.
    #[n(4)]
    Want(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
}

impl Msg {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Reject::Malformed`] also for trailing bytes; [`Reject::TooLarge`] if a list is over its bound.
    pub fn decode(bytes: &[u8]) -> Result<Msg, Reject> {
        let msg: Msg = cbor::decode(bytes)?;
        match &msg {
            Msg::Buckets(list) if list.len() != BUCKETS => Err(Reject::Malformed),
            Msg::Want(ids) if ids.len() % 16 != 0 => Err(Reject::Malformed),
            Msg::Want(ids) if ids.len() > 16 * LISTED => Err(Reject::TooLarge),
            Msg::Summaries { list, buckets, .. } if list.len() > LISTED || buckets.len() > BUCKETS => Err(Reject::TooLarge),
            Msg::Entries { list, .. } if list.iter().any(|e| e.len() > SIGNED) => Err(Reject::TooLarge),
            _ => Ok(msg),
        }
    }
}
