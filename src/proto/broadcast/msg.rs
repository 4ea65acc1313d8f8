//! What neighbours say to one another.

use alloc::vec::Vec;

use super::cast::BODY;
use crate::base::Reject;
use crate::wire::bytes::{Reader, Writer};

/// A cast's name: the first 16 bytes of the BLAKE3 hash of its signed bytes.
pub type CastId = [u8; 16];
/// Ids in one message.
pub const IDS: usize = 256;
/// A signed cast at most, bytes.
pub const CAST: usize = BODY + 32 + 8 + 8 + 32 + 8 + 64;
/// An encoded message at most, bytes.
pub const MAX_MESSAGE: usize = CAST + 10;

/// The id of a cast's signed bytes.
pub fn cast_id(bytes: &[u8]) -> CastId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    id
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Msg {
    /// A cast, eagerly pushed or grafted.
    Gossip {
        /// Links it has crossed before this one.
        hops: u8,
        /// What the neighbour that hands it on knows: [`Broadcast::know`](super::Broadcast::know).
        known: [u8; 8],
        /// Its signed bytes.
        cast: Vec<u8>,
    },
    /// Casts that can be had here ("IHave").
    Have(Vec<CastId>),
    /// These are missing, and the link is wanted in the tree.
    Graft(Vec<CastId>),
    /// What came was known already: the link is not needed in the tree.
    Prune,
}

impl Msg {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Msg::Gossip { hops, known, cast } => w.u8(1).u8(*hops).raw(known).raw(cast),
            Msg::Have(ids) => w.u8(2).raw(&ids.concat()),
            Msg::Graft(ids) => w.u8(3).raw(&ids.concat()),
            Msg::Prune => w.u8(4),
        };
        w.finish()
    }

    /// Takes a message apart.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`], [`Reject::UnknownKind`].
    pub fn decode(bytes: &[u8]) -> Result<Msg, Reject> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Reject::TooLarge);
        }
        let mut r = Reader::new(bytes);
        let msg = match r.u8()? {
            1 => Msg::Gossip { hops: r.u8()?, known: r.array()?, cast: r.rest().to_vec() },
            2 => Msg::Have(ids(r.rest())?),
            3 => Msg::Graft(ids(r.rest())?),
            4 => Msg::Prune,
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(msg)
    }
}

fn ids(bytes: &[u8]) -> Result<Vec<CastId>, Reject> {
    let (ids, rest) = bytes.as_chunks::<16>();
    match (ids.len(), rest) {
        (1..=IDS, []) => Ok(ids.to_vec()),
        (0, _) | (_, [_, ..]) => Err(Reject::Malformed),
        _ => Err(Reject::TooLarge),
    }
}
