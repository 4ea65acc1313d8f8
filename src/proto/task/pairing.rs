//! The pairing protocol, `/peerage/pairing/1`: what the demander of one task after the other and a domain manager say on a stream between
//! them, each message behind its length as an unsigned varint. The demander begins with [`Call::Demand`]; every call is answered, and the
//! stream's end is the demand's, if that has not ended. What the task is done with, and what comes of it, the manager is not told.
//!
//! ```text
//! tag u8 | fields, big-endian; what is of variable length is last, or behind its length
//! ```

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::TaskId;
use super::choice::Preference;
use super::machine::{CAPABILITY, End, Failure, Policy, Seat};
use super::message::TICKET;
use crate::base::{Code, DomainId, Reject};
use crate::wire::bytes::{Reader, Writer};

/// The protocol's name.
pub const PROTOCOL: &str = "/peerage/pairing/1";
/// Bytes of what a supplier has to satisfy.
pub const QUERY: usize = 4 * 1024;
/// The longest message, bytes.
pub const MESSAGE: usize = 1 + 32 + 16 + 8 + 2 + 1 + 1 + 2 + CAPABILITY + QUERY;
/// How often a demander says that it is there still.
pub const BEAT: Duration = Duration::from_secs(2);
/// What a demander says nothing of for so long is given to others.
pub const SILENCE: Duration = Duration::from_secs(20);
/// How long a manager waits for another demand on a stream that had one before.
pub const REST: Duration = Duration::from_secs(60);

/// What a demander says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Pair this task. First, and again behind [`Call::Done`].
    Demand {
        /// The domain.
        domain: DomainId,
        /// The task.
        task: TaskId,
        /// How long it may take, in whole milliseconds.
        time: Duration,
        /// How many suppliers.
        count: u16,
        /// What to do when nobody is free.
        policy: Policy,
        /// Whom to take when several are.
        preference: Preference,
        /// For what, 1 to [`CAPABILITY`] bytes.
        capability: String,
        /// What a supplier has to satisfy besides, in the directory's form; at most [`QUERY`] bytes.
        query: Vec<u8>,
    },
    /// The demander is there, and holds on to the seats that it has.
    Alive,
    /// An attempt came to nothing; another is wanted.
    Failed {
        /// Which.
        seat: Seat,
        /// How.
        why: Failure,
    },
    /// The result of a seat is here.
    Done(Seat),
}

/// What a manager answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does not pair this.
    Error {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// It was heard, and there is nothing new: whoever waits does so still.
    Noted,
    /// A seat is given: its signed ticket.
    Paired(Vec<u8>),
    /// The task ended.
    Ended(End),
}

fn seat(r: &mut Reader<'_>) -> Result<Seat, Reject> {
    Ok(Seat { place: r.u16()?, attempt: r.u32()? })
}

/// The entry of a table with this number.
fn pick<T: Copy, const N: usize>(table: [T; N], number: u8) -> Result<T, Reject> {
    table.get(usize::from(number)).copied().ok_or(Reject::Malformed)
}

fn number<T: PartialEq, const N: usize>(table: [T; N], of: &T) -> u8 {
    table.iter().position(|entry| entry == of).unwrap_or_default() as u8
}

const POLICIES: [Policy; 3] = [Policy::Wait, Policy::Fail, Policy::Any];
const PREFERENCES: [Preference; 2] = [Preference::Idle, Preference::Near];
const FAILURES: [Failure; 2] = [Failure::Busy, Failure::Lost];
const ENDS: [End; 5] = [End::Done, End::Cancelled, End::Deadline, End::NoSupplier, End::Attempts];

impl Call {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Call::Demand { domain, task, time, count, policy, preference, capability, query } => {
                w.u8(1).raw(domain.as_bytes()).raw(task).u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).u16(*count);
                w.u8(number(POLICIES, policy)).u8(number(PREFERENCES, preference)).var(capability.as_bytes()).raw(query)
            }
            Call::Alive => w.u8(2),
            Call::Failed { seat, why } => w.u8(3).u16(seat.place).u32(seat.attempt).u8(number(FAILURES, why)),
            Call::Done(seat) => w.u8(4).u16(seat.place).u32(seat.attempt),
        };
        w.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::UnknownKind`], [`Reject::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Call, Reject> {
        let mut r = Reader::new(bytes);
        let call = match r.u8()? {
            1 => Call::Demand {
                domain: DomainId::from_bytes(r.array()?),
                task: r.array()?,
                time: Duration::from_millis(r.u64()?),
                count: r.u16()?,
                policy: pick(POLICIES, r.u8()?)?,
                preference: pick(PREFERENCES, r.u8()?)?,
                capability: r.text(CAPABILITY)?,
                query: r.rest_within(QUERY)?,
            },
            2 => Call::Alive,
            3 => Call::Failed { seat: seat(&mut r)?, why: pick(FAILURES, r.u8()?)? },
            4 => Call::Done(seat(&mut r)?),
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(call)
    }
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Answer::Error { code, message } => w.u8(1).error(*code, message),
            Answer::Noted => w.u8(2),
            Answer::Paired(ticket) => w.u8(3).raw(ticket),
            Answer::Ended(end) => w.u8(4).u8(number(ENDS, end)),
        };
        w.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::UnknownKind`], [`Reject::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Answer, Reject> {
        let mut r = Reader::new(bytes);
        let answer = match r.u8()? {
            1 => {
                let (code, message) = r.error()?;
                Answer::Error { code, message }
            }
            2 => Answer::Noted,
            3 => Answer::Paired(r.rest_within(TICKET)?),
            4 => Answer::Ended(pick(ENDS, r.u8()?)?),
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn messages_come_back_and_what_is_cut_or_too_long_does_not() {
        let demand = |policy, preference| Call::Demand {
            domain: DomainId::from_bytes([1; 32]),
            task: [2; 16],
            time: Duration::from_millis(u64::MAX),
            count: 3,
            policy,
            preference,
            capability: "c".repeat(CAPABILITY),
            query: vec![4; QUERY],
        };
        let seat = Seat { place: 5, attempt: 6 };
        let mut calls = vec![Call::Alive, Call::Done(seat)];
        calls.extend(FAILURES.map(|why| Call::Failed { seat, why }));
        calls.extend(POLICIES.into_iter().flat_map(|policy| PREFERENCES.map(|preference| demand(policy, preference))));
        for call in calls {
            let bytes = call.encode();
            assert!(bytes.len() <= MESSAGE);
            assert_eq!(Call::decode(&bytes), Ok(call));
            if bytes[0] != 1 {
                assert_eq!(Call::decode(&[&bytes[..], &[0]].concat()), Err(Reject::Malformed));
            }
        }
        let mut answers =
            vec![Answer::Error { code: Code::Busy, message: "no room".to_string() }, Answer::Noted, Answer::Paired(vec![7; TICKET])];
        answers.extend(ENDS.map(Answer::Ended));
        for answer in answers {
            assert!(answer.encode().len() <= MESSAGE);
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        let bytes = demand(Policy::Wait, Preference::Idle).encode();
        for length in 0..bytes.len() - QUERY {
            assert_eq!(Call::decode(&bytes[..length]), Err(Reject::Malformed), "cut at {length}");
        }
        assert_eq!(Call::decode(&[&bytes[..], &[0]].concat()), Err(Reject::TooLarge));
        assert_eq!(Answer::decode(&Answer::Paired(vec![0; TICKET + 1]).encode()), Err(Reject::TooLarge));
        let at = |n: usize, to: u8| {
            let mut changed = bytes.clone();
            changed[n] = to;
            Call::decode(&changed)
        };
        assert_eq!((at(59, 3), at(60, 2), at(62, 65)), (Err(Reject::Malformed), Err(Reject::Malformed), Err(Reject::TooLarge)));
        for wrong in [&[][..], &[2, 0], &[3, 0, 0, 0, 0, 0, 1, 2], &[4, 0, 0]] {
            assert_eq!(Call::decode(wrong), Err(Reject::Malformed));
        }
        for wrong in [&[][..], &[2, 0], &[4, 5], &[4]] {
            assert_eq!(Answer::decode(wrong), Err(Reject::Malformed));
        }
        assert_eq!((Call::decode(&[9]), Answer::decode(&[9])), (Err(Reject::UnknownKind), Err(Reject::UnknownKind)));
    }
}
