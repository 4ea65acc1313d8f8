//! How two members bring their sets of statements together.

use alloc::vec::Vec;
use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::base::Reject;
use crate::wire::cbor;

/// Bytes of statements, or of short ids, in one message.
pub const CHUNK: usize = 40 * 1024;

/// The first bytes of a statement's id, enough to tell those of one domain apart.
pub type ShortId = [u8; 8];

/// A message between two members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Msg {
    /// What the sender has, in short. Who has more answers with its own, so that whoever has less tells its ids.
    #[n(0)]
    Digest {
        /// The exclusive or of all statement ids.
        #[cbor(n(0), with = "minicbor::bytes")]
        digest: [u8; 32],
        /// How many there are.
        #[n(1)]
        count: u64,
    },
    /// The short ids held between two, both included, one after the other.
    #[n(1)]
    Have {
        /// From this one.
        #[cbor(n(0), with = "minicbor::bytes")]
        from: ShortId,
        /// To this one.
        #[cbor(n(1), with = "minicbor::bytes")]
        to: ShortId,
        /// Those held.
        #[n(2)]
        ids: ByteVec,
    },
    /// The statements with these short ids are wanted.
    #[n(2)]
    Want(#[n(0)] ByteVec),
    /// Statements.
    #[n(3)]
    Give(#[n(0)] Vec<ByteVec>),
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
    /// [`Reject::TooLarge`], [`Reject::Malformed`] also for trailing bytes.
    pub fn decode(bytes: &[u8]) -> Result<Msg, Reject> {
        let msg: Msg = cbor::decode(bytes)?;
        match &msg {
            Msg::Have { ids, .. } | Msg::Want(ids) if ids.len() % 8 != 0 || ids.len() > CHUNK => Err(Reject::Malformed),
            _ => Ok(msg),
        }
    }
}
