//! What directories say to one another. `docs/protocol.md` section 7.

use alloc::vec::Vec;

use super::record::Version;
use crate::base::{NodeId, Reject, limit};
use crate::wire::cbor;

/// How many buckets the records are divided into for comparison: a bucket is the low six bits of a node id's first byte.
pub const BUCKETS: usize = 64;
/// Bytes of records or summaries put into one message (the last record may pass it).
pub const BATCH: usize = 6 * 1024;
/// Summaries or wanted nodes in one message.
pub const LISTED: usize = 128;

/// One record on its way.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Item {
    /// Milliseconds since the sender, or whoever the sender had it from, first received it: the part of its lease that is used up.
    #[n(0)]
    pub age: u64,
    /// The signed bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub record: Vec<u8>,
}

/// Which record of a node somebody has.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Summary {
    /// The node's public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: [u8; 32],
    /// As in [`Version`].
    #[n(1)]
    pub incarnation: u64,
    /// As in [`Version`].
    #[n(2)]
    pub sequence: u64,
    /// As in [`Version`].
    #[n(3)]
    pub hash: u64,
}

impl Summary {
    /// The summary of a node's record.
    #[must_use]
    pub fn new(node: &NodeId, v: Version) -> Summary {
        Summary { node: *node.as_bytes(), incarnation: v.incarnation, sequence: v.sequence, hash: v.hash }
    }
    /// The version it names.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { incarnation: self.incarnation, sequence: self.sequence, hash: self.hash }
    }
}

/// A message from one directory to another.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Msg {
    /// Records: news, or what was asked for.
    #[n(0)]
    Records(#[n(0)] Vec<Item>),
    /// One digest over all records. Answered with [`Msg::Buckets`] if it differs.
    #[n(1)]
    Digest(#[n(0)] u64),
    /// A digest per bucket, [`BUCKETS`] of them. Answered with [`Msg::Summaries`] of those that differ.
    #[n(2)]
    Buckets(#[n(0)] Vec<u64>),
    /// What the sender has. Answered with the records of which the sender has an older version or, in a bucket of the set, none,
    /// and with [`Msg::Want`] for those it has newer.
    #[n(3)]
    Summaries {
        /// Bit i set: the entries of bucket i are all the sender has there.
        #[n(0)]
        buckets: u64,
        /// The entries.
        #[n(1)]
        entries: Vec<Summary>,
    },
    /// Public keys of the nodes whose records the sender asks for, 32 bytes each, one after the other.
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
            Msg::Want(keys) if keys.len() % 32 != 0 => Err(Reject::Malformed),
            Msg::Want(keys) if keys.len() > 32 * LISTED => Err(Reject::TooLarge),
            Msg::Summaries { entries, .. } if entries.len() > LISTED => Err(Reject::TooLarge),
            Msg::Records(items) if items.iter().any(|i| i.record.len() > limit::RECORD) => Err(Reject::TooLarge),
            _ => Ok(msg),
        }
    }
}
