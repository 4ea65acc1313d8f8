//! What nodes say to one another between domains: the body of an overlay frame.

use alloc::vec::Vec;

use super::{record, sealed};
use crate::base::Reject;
use crate::crypto::tag::TAG;
use crate::wire::cbor;

/// Records in one [`Msg::Put`].
pub const PUT: usize = 16;
/// The most links a request may travel.
pub const TTL: u8 = 32;

/// 128 random bits that name a request.
pub type RequestId = [u8; 16];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Status {
    /// A member answered.
    #[n(0)]
    Ok,
    /// Nobody is known under the tag.
    #[n(1)]
    NoRoute,
    /// A bound is reached; later may do.
    #[n(2)]
    Busy,
    /// It came back to where it had been, or its hops are used up.
    #[n(3)]
    Refused,
    /// It was handed on and no answer came.
    #[n(4)]
    Lost,
}

/// A sealed request that is to reach one member of the domain whose place tag it carries.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct DomainRequest {
    /// Names it; no hop takes the same one twice.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: RequestId,
    /// Where to.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub tag: [u8; TAG],
    /// Counts the seeker's tries, from 0.
    #[n(2)]
    pub attempt: u8,
    /// How many more links it may travel, at most [`TTL`].
    #[n(3)]
    pub ttl: u8,
    /// The X25519 key, used once, to which the answer is sealed.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub reply_key: [u8; 32],
    /// HPKE's encapsulated key.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub enc: [u8; 32],
    /// Kind and body, padded, sealed to the domain's rendezvous key.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

/// What comes back, along the links the request took.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct DomainResponse {
    /// The request's.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: RequestId,
    /// How it ended.
    #[n(1)]
    pub status: Status,
    /// HPKE's encapsulated key; zeros unless the status is [`Status::Ok`].
    #[cbor(n(2), with = "minicbor::bytes")]
    pub enc: [u8; 32],
    /// The answer, padded, sealed to the reply key; empty unless the status is [`Status::Ok`].
    #[cbor(n(3), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

impl DomainResponse {
    /// A response without an answer.
    #[must_use]
    pub fn without(id: RequestId, status: Status) -> DomainResponse {
        DomainResponse { id, status, enc: [0; 32], body: Vec::new() }
    }
}

/// A message between neighbours.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Msg {
    /// Signed [`Record`](super::Record)s to keep, at most [`PUT`].
    #[n(0)]
    Put(#[n(0)] Vec<minicbor::bytes::ByteVec>),
    /// A request on its way.
    #[n(1)]
    Request(#[n(0)] DomainRequest),
    /// An answer on its way back.
    #[n(2)]
    Response(#[n(0)] DomainResponse),
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
    /// [`Reject::Malformed`] also for trailing bytes and for bodies of other lengths than the padded ones;
    /// [`Reject::TooLarge`] if something is over its bound.
    pub fn decode(bytes: &[u8]) -> Result<Msg, Reject> {
        let msg: Msg = cbor::decode(bytes)?;
        match &msg {
            Msg::Put(list) if list.len() > PUT || list.iter().any(|r| r.len() > record::CONTACTS + 256) => Err(Reject::TooLarge),
            Msg::Request(r) if r.ttl > TTL => Err(Reject::TooLarge),
            Msg::Request(r) if !sealed::is_padded(r.body.len()) => Err(Reject::Malformed),
            Msg::Response(r) if (r.status == Status::Ok) != sealed::is_padded(r.body.len()) => Err(Reject::Malformed),
            Msg::Response(r) if r.status != Status::Ok && !r.body.is_empty() => Err(Reject::Malformed),
            _ => Ok(msg),
        }
    }
}
