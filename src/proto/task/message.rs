//! The task protocol, `/peerage/task/1`: what the demander and the supplier of one seat say on a stream between them, each message behind its
//! length as an unsigned varint. The demander begins; whoever has enough ends the stream.
//!
//! ```text
//! tag u8 | fields, big-endian; what is of variable length is last, or behind its length
//! ```

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::base::{Code, DomainId, NodeId, Reject};
use crate::wire::bytes::{Reader, Writer};

/// The protocol's name.
pub const PROTOCOL: &str = "/peerage/task/1";
/// Bytes of input, output or progress in one message, at most.
pub const PART: usize = 64 * 1024;
/// The longest message, bytes.
pub const MESSAGE: usize = 1 + PART;
/// Bytes of input, and of output, that may be under way: sent, and neither taken at the other side nor given credit for.
pub const WINDOW: u32 = 2 * 1024 * 1024;
/// The longest signed ticket, bytes.
pub(super) const TICKET: usize = 512;

/// The name of a result that a supplier keeps, random and known to its demander, who tells those that are to have it: whoever knows it
/// is given the result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResultKey(pub [u8; 32]);

impl core::fmt::Debug for ResultKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ResultKey")
    }
}

/// A result that its supplier keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Who has it.
    pub holder: NodeId,
    /// Its name there.
    pub key: ResultKey,
    /// Its length, bytes.
    pub size: u64,
    /// Its BLAKE3 hash.
    pub hash: [u8; 32],
}

/// What a demander says; and what a supplier asks of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Begin, in this domain, with this signed ticket. Answered by [`Reply::Begun`].
    Begin {
        /// The domain.
        domain: DomainId,
        /// How long it may take, in whole milliseconds.
        time: Duration,
        /// The output is not to be sent but kept under this name, and given to others until the stream ends.
        keep: Option<ResultKey>,
        /// The ticket.
        ticket: Vec<u8>,
    },
    /// More of the input.
    Input(Vec<u8>),
    /// That was all of it.
    End,
    /// More of the input: what another supplier keeps. It is fetched there.
    From(Kept),
    /// The first and only word of a supplier to one that keeps a result: it wants it. Answered by [`Reply::Output`] and [`Reply::Done`].
    Take {
        /// The domain.
        domain: DomainId,
        /// The result's name.
        key: ResultKey,
    },
    /// So many bytes of the output were taken: as many more may come.
    Credit(u32),
}

/// What a supplier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is not done, and will not be.
    Error {
        /// Why; a [retryable](Code::retryable) one says that another supplier may do better.
        code: Code,
        /// In words.
        message: String,
    },
    /// It is being done.
    Begun,
    /// It is still being done.
    Alive,
    /// How far it is, in whatever form the capability has for that.
    Progress(Vec<u8>),
    /// More of the output.
    Output(Vec<u8>),
    /// It is done, and that was all of the output.
    Done,
    /// It is done, and all of the output is kept, while this stream lasts. [`Reply::Alive`] says that it still is.
    Kept {
        /// Its length, bytes.
        size: u64,
        /// Its BLAKE3 hash.
        hash: [u8; 32],
    },
    /// So many bytes of the input were taken: as many more may come.
    Credit(u32),
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Request::Begin { domain, time, keep, ticket } => {
                w.u8(1).raw(domain.as_bytes()).u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                match keep {
                    Some(key) => w.u8(1).raw(&key.0),
                    None => w.u8(0),
                };
                w.raw(ticket)
            }
            Request::Input(bytes) => w.u8(2).raw(bytes),
            Request::End => w.u8(3),
            Request::From(Kept { holder, key, size, hash }) => w.u8(4).raw(holder.as_bytes()).raw(&key.0).u64(*size).raw(hash),
            Request::Take { domain, key } => w.u8(5).raw(domain.as_bytes()).raw(&key.0),
            Request::Credit(bytes) => w.u8(6).u32(*bytes),
        };
        w.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::UnknownKind`], [`Reject::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Request, Reject> {
        let mut r = Reader::new(bytes);
        let request = match r.u8()? {
            1 => {
                let (domain, time) = (DomainId::from_bytes(r.array()?), Duration::from_millis(r.u64()?));
                let keep = match r.u8()? {
                    0 => None,
                    1 => Some(ResultKey(r.array()?)),
                    _ => return Err(Reject::Malformed),
                };
                Request::Begin { domain, time, keep, ticket: r.rest_within(TICKET)? }
            }
            2 => Request::Input(r.rest_within(PART)?),
            3 => Request::End,
            4 => {
                let (holder, key) = (NodeId::from_public_key(r.array()?), ResultKey(r.array()?));
                Request::From(Kept { holder, key, size: r.u64()?, hash: r.array()? })
            }
            5 => Request::Take { domain: DomainId::from_bytes(r.array()?), key: ResultKey(r.array()?) },
            6 => Request::Credit(r.u32()?),
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(request)
    }
}

impl Reply {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Reply::Error { code, message } => w.u8(1).error(*code, message),
            Reply::Begun => w.u8(2),
            Reply::Alive => w.u8(3),
            Reply::Progress(bytes) => w.u8(4).raw(bytes),
            Reply::Output(bytes) => w.u8(5).raw(bytes),
            Reply::Done => w.u8(6),
            Reply::Kept { size, hash } => w.u8(7).u64(*size).raw(hash),
            Reply::Credit(bytes) => w.u8(8).u32(*bytes),
        };
        w.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::UnknownKind`], [`Reject::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Reply, Reject> {
        let mut r = Reader::new(bytes);
        let reply = match r.u8()? {
            1 => {
                let (code, message) = r.error()?;
                Reply::Error { code, message }
            }
            2 => Reply::Begun,
            3 => Reply::Alive,
            4 => Reply::Progress(r.rest_within(PART)?),
            5 => Reply::Output(r.rest_within(PART)?),
            6 => Reply::Done,
            7 => Reply::Kept { size: r.u64()?, hash: r.array()? },
            8 => Reply::Credit(r.u32()?),
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn messages_come_back_and_what_is_cut_or_too_long_does_not() {
        let (domain, time) = (DomainId::from_bytes([1; 32]), Duration::from_millis(u64::MAX));
        let key = ResultKey([5; 32]);
        let kept = Kept { holder: NodeId::from_public_key([6; 32]), key, size: u64::MAX, hash: [7; 32] };
        let begin = |keep| Request::Begin { domain, time, keep, ticket: vec![2; TICKET] };
        let take = Request::Take { domain, key };
        for request in
            [begin(None), begin(Some(key)), Request::Input(vec![3; PART]), Request::End, Request::From(kept), take, Request::Credit(1)]
        {
            assert!(request.encode().len() <= MESSAGE);
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        let error = Reply::Error { code: Code::Busy, message: "no room".to_string() };
        for reply in [
            error,
            Reply::Begun,
            Reply::Alive,
            Reply::Progress(vec![4; PART]),
            Reply::Output(Vec::new()),
            Reply::Done,
            Reply::Kept { size: 1, hash: [8; 32] },
            Reply::Credit(u32::MAX),
        ] {
            assert!(reply.encode().len() <= MESSAGE);
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        assert_eq!(Request::decode(&Request::Input(vec![0; PART + 1]).encode()), Err(Reject::TooLarge));
        let long = Request::Begin { domain, time, keep: None, ticket: vec![0; TICKET + 1] };
        assert_eq!(Request::decode(&long.encode()), Err(Reject::TooLarge));
        let mut unknown = begin(None).encode();
        unknown[41] = 2;
        assert_eq!(Request::decode(&unknown), Err(Reject::Malformed));
        for bytes in [&[][..], &[3, 0], &[1; 30]] {
            assert_eq!(Request::decode(bytes), Err(Reject::Malformed));
        }
        assert_eq!(Reply::decode(&[2, 0]), Err(Reject::Malformed));
        assert_eq!((Request::decode(&[9]), Reply::decode(&[9])), (Err(Reject::UnknownKind), Err(Reject::UnknownKind)));
    }
}
