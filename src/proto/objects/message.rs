//! The data protocol, `/peerage/data/1`: what a participant asks the store of a domain, each message behind its length as an unsigned
//! varint. The first is [`Request::Open`]. Answers come in the order of the requests; chunks of a put are not answered one by one.
//!
//! ```text
//! tag u8 | fields, big-endian; what is of variable length is last, or behind its length
//! ```

use alloc::{string::String, vec::Vec};

use super::enrolment::Enrolment;
use super::lockbox::{ENTRIES, PREVIOUS};
use super::stored::{Ahead, Changes, Cursor, ObjectId, Progress, Put, PutId, Quota, Underway, Used};
use crate::base::{Code, DomainId, NodeId, Reject};
use crate::crypto::object::CHUNK;
use crate::wire::bytes::{Reader, Writer};

/// The protocol's name.
pub const PROTOCOL: &str = "/peerage/data/1";
/// The longest message, bytes: a lockbox.
pub const MESSAGE: usize = 1_024 + PREVIOUS * (36 + 32) + ENTRIES * 144;
/// Headers in one answer take about this many bytes.
pub const HEADERS: usize = 64 * 1024;
/// Hashes in one answer.
pub const LEAVES: usize = 2_048;
/// Puts that are told of at once to a manager that follows, and that it tells of.
pub const UNDERWAY: usize = 1_024;

/// What is asked of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Of which domain the rest is. Answered by [`Answer::Done`].
    Open(DomainId),
    /// Begin a put or go on with it; its chunks follow. Answered by [`Answer::Progress`], and again whenever more is durable.
    Begin(Put),
    /// The next chunk of the put begun last. Not answered, unless it fails.
    Chunk {
        /// Which.
        index: u64,
        /// Itself, sealed.
        bytes: Vec<u8>,
    },
    /// Make the put a version, or store a tombstone: its signed header. Answered by [`Answer::Committed`].
    Commit(Vec<u8>),
    /// End a put. Answered by [`Answer::Done`].
    Abandon(PutId),
    /// The headers of an object up to a version, the newest first. Answered by [`Answer::Headers`].
    History {
        /// Of which object.
        object: ObjectId,
        /// The highest version.
        up_to: u64,
        /// How many at most.
        most: u32,
    },
    /// Subtree hashes. Answered by [`Answer::Leaves`].
    Leaves {
        /// Of which object.
        object: ObjectId,
        /// Of which version.
        version: u64,
        /// From which chunk on.
        from: u64,
    },
    /// Chunks. Answered by as many [`Answer::Chunk`], or by fewer and an error.
    Chunks {
        /// Of which object.
        object: ObjectId,
        /// Of which version.
        version: u64,
        /// From which chunk on.
        from: u64,
        /// How many.
        count: u32,
    },
    /// What changed. Answered by [`Answer::Changes`].
    Changes {
        /// Since when.
        since: Cursor,
        /// If nothing did, answer when something does, or after a while.
        wait: bool,
    },
    /// How much is and may be stored. Answered by [`Answer::Used`].
    Used,
    /// All lockboxes, the newest first. Answered by one [`Answer::Lockbox`] each and [`Answer::Done`].
    Lockboxes,
    /// Keep a lockbox. Answered by [`Answer::Done`].
    Lockbox(Vec<u8>),
    /// Keep the asker's own enrolment. Answered by [`Answer::Done`].
    Enrol(Vec<u8>),
    /// The enrolments of all members. Answered by [`Answer::Enrolments`].
    Enrolments,
    /// The versions of an object that did not prevail over others of the same past; of all objects without one. Answered by one
    /// [`Answer::Headers`] each and [`Answer::Done`].
    Conflicts(Option<ObjectId>),
    /// Subtree hashes of a version in conflict. Answered by [`Answer::Leaves`].
    PartLeaves {
        /// Its header's hash.
        put: [u8; 32],
        /// From which chunk on.
        from: u64,
    },
    /// Chunks of a version in conflict; for a manager also of a put under way. Answered as [`Request::Chunks`] is.
    Parts {
        /// The header's hash, or which put.
        put: [u8; 32],
        /// From which chunk on.
        from: u64,
        /// How many.
        count: u32,
    },
    /// From a manager that follows this one: what does it not have? Its asking says that it has the rest, on disk. Answered by
    /// [`Answer::Ahead`], as soon as there is something, or after a while.
    Follow {
        /// Up to where it has the versions.
        since: Cursor,
        /// The digest that it was told last, and came up to.
        digest: [u8; 32],
        /// Puts under way here, as far as it has their chunks.
        puts: Vec<(PutId, u64)>,
    },
    /// From a manager of higher rank: lead no more. Answered by [`Answer::Committed`] with the last that was stored.
    Yield,
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did not work; after an error in a put's chunks the put has to be begun again.
    Error {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// It is done.
    Done,
    /// How far a put is.
    Progress(Progress),
    /// The version is there, and on disk.
    Committed(Cursor),
    /// Signed headers.
    Headers(Vec<Vec<u8>>),
    /// Subtree hashes.
    Leaves(Vec<[u8; 32]>),
    /// A sealed chunk.
    Chunk(Vec<u8>),
    /// What changed.
    Changes(Changes),
    /// How much is stored, and may be.
    Used(Used, Quota),
    /// A lockbox.
    Lockbox(Vec<u8>),
    /// Signed enrolments.
    Enrolments(Vec<Vec<u8>>),
    /// What a manager that follows does not have.
    Ahead(Ahead),
}

fn write_changes(w: &mut Writer, Changes { headers, next, more, anew }: &Changes) {
    write_cursor(w, next);
    w.u8(u8::from(*more)).u8(u8::from(*anew));
    headers.iter().for_each(|h| _ = w.var(h));
}

fn changes(r: &mut Reader<'_>) -> Result<Changes, Reject> {
    let (next, more, anew) = (cursor(r)?, flag(r)?, flag(r)?);
    Ok(Changes { headers: list(r)?, next, more, anew })
}

fn write_put(w: &mut Writer, put: &Put) {
    w.raw(&put.id).raw(put.author.as_bytes()).raw(&put.object).u64(put.version);
}

fn read_put(r: &mut Reader<'_>) -> Result<Put, Reject> {
    Ok(Put { id: r.array()?, author: NodeId::from_public_key(r.array()?), object: r.array()?, version: r.u64()? })
}

/// So many of something, each read by itself.
fn counted<T>(r: &mut Reader<'_>, most: usize, mut one: impl FnMut(&mut Reader<'_>) -> Result<T, Reject>) -> Result<Vec<T>, Reject> {
    let count = usize::from(r.u16()?);
    if count > most {
        return Err(Reject::TooLarge);
    }
    (0..count).map(|_| one(r)).collect()
}

fn cursor(r: &mut Reader<'_>) -> Result<Cursor, Reject> {
    Ok(Cursor { epoch: r.u64()?, at: r.u64()?, floor: r.u64()? })
}

fn write_cursor(w: &mut Writer, c: &Cursor) {
    w.u64(c.epoch).u64(c.at).u64(c.floor);
}

fn flag(r: &mut Reader<'_>) -> Result<bool, Reject> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Reject::Malformed),
    }
}

fn list(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Reject> {
    let mut all = Vec::new();
    while r.remaining() > 0 {
        all.push(r.var(usize::from(u16::MAX))?.to_vec());
    }
    Ok(all)
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Request::Open(domain) => w.u8(1).raw(domain.as_bytes()),
            Request::Begin(put) => {
                write_put(w.u8(2), put);
                &mut w
            }
            Request::Chunk { index, bytes } => w.u8(3).u64(*index).raw(bytes),
            Request::Commit(header) => w.u8(4).raw(header),
            Request::Abandon(put) => w.u8(5).raw(put),
            Request::History { object, up_to, most } => w.u8(6).raw(object).u64(*up_to).u32(*most),
            Request::Leaves { object, version, from } => w.u8(7).raw(object).u64(*version).u64(*from),
            Request::Chunks { object, version, from, count } => w.u8(8).raw(object).u64(*version).u64(*from).u32(*count),
            Request::Changes { since, wait } => {
                w.u8(9);
                write_cursor(&mut w, since);
                w.u8(u8::from(*wait))
            }
            Request::Used => w.u8(10),
            Request::Lockboxes => w.u8(11),
            Request::Lockbox(bytes) => w.u8(12).raw(bytes),
            Request::Enrol(bytes) => w.u8(13).raw(bytes),
            Request::Enrolments => w.u8(14),
            Request::Conflicts(object) => w.u8(15).raw(object.as_ref().map_or(&[], |o| &o[..])),
            Request::PartLeaves { put, from } => w.u8(16).raw(put).u64(*from),
            Request::Parts { put, from, count } => w.u8(17).raw(put).u64(*from).u32(*count),
            Request::Follow { since, digest, puts } => {
                write_cursor(w.u8(18), since);
                w.raw(digest).u16(puts.len().min(UNDERWAY) as u16);
                puts.iter().take(UNDERWAY).for_each(|(put, chunks)| _ = w.raw(put).u64(*chunks));
                &mut w
            }
            Request::Yield => w.u8(19),
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
            1 => Request::Open(DomainId::from_bytes(r.array()?)),
            2 => Request::Begin(read_put(&mut r)?),
            3 => Request::Chunk { index: r.u64()?, bytes: r.rest_within(CHUNK)? },
            4 => Request::Commit(r.rest_within(HEADERS)?),
            5 => Request::Abandon(r.array()?),
            6 => Request::History { object: r.array()?, up_to: r.u64()?, most: r.u32()? },
            7 => Request::Leaves { object: r.array()?, version: r.u64()?, from: r.u64()? },
            8 => Request::Chunks { object: r.array()?, version: r.u64()?, from: r.u64()?, count: r.u32()? },
            9 => Request::Changes { since: cursor(&mut r)?, wait: flag(&mut r)? },
            10 => Request::Used,
            11 => Request::Lockboxes,
            12 => Request::Lockbox(r.rest_within(MESSAGE)?),
            13 => Request::Enrol(r.rest_within(Enrolment::LENGTH)?),
            14 => Request::Enrolments,
            15 if r.remaining() == 0 => Request::Conflicts(None),
            15 => Request::Conflicts(Some(r.array()?)),
            16 => Request::PartLeaves { put: r.array()?, from: r.u64()? },
            17 => Request::Parts { put: r.array()?, from: r.u64()?, count: r.u32()? },
            18 => {
                let (since, digest) = (cursor(&mut r)?, r.array()?);
                Request::Follow { since, digest, puts: counted(&mut r, UNDERWAY, |r| Ok((r.array()?, r.u64()?)))? }
            }
            19 => Request::Yield,
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(request)
    }
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Answer::Error { code, message } => _ = w.u8(1).error(*code, message),
            Answer::Done => _ = w.u8(2),
            Answer::Progress(p) => _ = w.u8(3).u64(p.written).u64(p.durable),
            Answer::Committed(at) => {
                w.u8(4);
                write_cursor(&mut w, at);
            }
            Answer::Headers(headers) => {
                w.u8(5);
                headers.iter().for_each(|h| _ = w.var(h));
            }
            Answer::Leaves(leaves) => {
                w.u8(6);
                leaves.iter().for_each(|leaf| _ = w.raw(leaf));
            }
            Answer::Chunk(bytes) => _ = w.u8(7).raw(bytes),
            Answer::Changes(changes) => write_changes(w.u8(8), changes),
            Answer::Used(used, quota) => {
                w.u8(9).u64(used.total).u64(used.member).u64(quota.total).u64(quota.member);
                for n in [quota.puts, quota.versions, quota.history, quota.objects] {
                    w.u64(n as u64);
                }
            }
            Answer::Lockbox(bytes) => _ = w.u8(10).raw(bytes),
            Answer::Enrolments(all) => {
                w.u8(11);
                all.iter().for_each(|e| _ = w.var(e));
            }
            Answer::Ahead(Ahead { leads, digest, puts, changes }) => {
                w.u8(12).u8(u8::from(*leads)).raw(digest).u16(puts.len().min(UNDERWAY) as u16);
                for underway in puts.iter().take(UNDERWAY) {
                    write_put(&mut w, &underway.put);
                    w.u64(underway.durable);
                }
                write_changes(&mut w, changes);
            }
        }
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
            2 => Answer::Done,
            3 => Answer::Progress(Progress { written: r.u64()?, durable: r.u64()? }),
            4 => Answer::Committed(cursor(&mut r)?),
            5 => Answer::Headers(list(&mut r)?),
            6 => {
                let (leaves, []) = r.rest().as_chunks::<32>() else { return Err(Reject::Malformed) };
                Answer::Leaves(leaves.to_vec())
            }
            7 => Answer::Chunk(r.rest_within(CHUNK)?),
            8 => Answer::Changes(changes(&mut r)?),
            9 => {
                let used = Used { total: r.u64()?, member: r.u64()? };
                let (total, member) = (r.u64()?, r.u64()?);
                let mut count = || Ok::<_, Reject>(usize::try_from(r.u64()?).unwrap_or(usize::MAX));
                let (puts, versions, history, objects) = (count()?, count()?, count()?, count()?);
                Answer::Used(used, Quota { total, member, puts, versions, history, objects })
            }
            10 => Answer::Lockbox(r.rest_within(MESSAGE)?),
            11 => Answer::Enrolments(list(&mut r)?),
            12 => {
                let (leads, digest) = (flag(&mut r)?, r.array()?);
                let puts = counted(&mut r, UNDERWAY, |r| Ok(Underway { put: read_put(r)?, durable: r.u64()? }))?;
                Answer::Ahead(Ahead { leads, digest, puts, changes: changes(&mut r)? })
            }
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
        let at = Cursor { epoch: 1, at: 2, floor: 3 };
        let put = Put { id: [1; 32], author: NodeId::from_public_key([2; 32]), object: [3; 16], version: 4 };
        let requests = [
            Request::Open(DomainId::from_bytes([1; 32])),
            Request::Begin(put),
            Request::Chunk { index: 5, bytes: vec![6; CHUNK] },
            Request::Commit(vec![7; 300]),
            Request::Abandon([8; 32]),
            Request::History { object: [3; 16], up_to: u64::MAX, most: 1 },
            Request::Leaves { object: [3; 16], version: 1, from: 9 },
            Request::Chunks { object: [3; 16], version: 1, from: 9, count: 10 },
            Request::Changes { since: at, wait: true },
            Request::Used,
            Request::Lockboxes,
            Request::Lockbox(vec![1; MESSAGE - 1]),
            Request::Enrol(vec![1; Enrolment::LENGTH]),
            Request::Enrolments,
            Request::Conflicts(None),
            Request::Conflicts(Some([3; 16])),
            Request::PartLeaves { put: [8; 32], from: 1 },
            Request::Parts { put: [8; 32], from: 1, count: 2 },
            Request::Follow { since: at, digest: [9; 32], puts: vec![([8; 32], 128); UNDERWAY] },
            Request::Yield,
        ];
        for request in requests {
            assert!(request.encode().len() <= MESSAGE);
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        let quota = Quota::default();
        let answers = [
            Answer::Error { code: Code::Conflict, message: "no".to_string() },
            Answer::Done,
            Answer::Progress(Progress { written: 1, durable: 0 }),
            Answer::Committed(at),
            Answer::Headers(vec![vec![1; 300], vec![2; 400]]),
            Answer::Leaves(vec![[1; 32]; LEAVES]),
            Answer::Chunk(vec![6; CHUNK]),
            Answer::Changes(Changes { headers: vec![vec![1; 300]], next: at, more: true, anew: false }),
            Answer::Used(Used { total: 1, member: 2 }, quota),
            Answer::Lockbox(vec![3; 500]),
            Answer::Enrolments(vec![vec![1; Enrolment::LENGTH]; 3]),
            Answer::Ahead(Ahead {
                leads: true,
                digest: [9; 32],
                puts: vec![Underway { put, durable: 128 }; UNDERWAY],
                changes: Changes { headers: vec![vec![1; 300]; HEADERS / 300], next: at, more: true, anew: false },
            }),
        ];
        for answer in answers {
            assert!(answer.encode().len() <= MESSAGE);
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        assert_eq!(Request::decode(&Request::Chunk { index: 0, bytes: vec![0; CHUNK + 1] }.encode()), Err(Reject::TooLarge));
        assert_eq!(Request::decode(&[]), Err(Reject::Malformed));
        assert_eq!(Request::decode(&[99]), Err(Reject::UnknownKind));
        assert_eq!(Request::decode(&[10, 0]), Err(Reject::Malformed));
        let long = Answer::Error { code: Code::Quota, message: "é".repeat(600) };
        assert!(matches!(Answer::decode(&long.encode()), Ok(Answer::Error { message, .. }) if message.len() == 512));
        let ringing = Answer::Error { code: Code::Quota, message: "\u{7}".to_string() };
        assert!(matches!(Answer::decode(&ringing.encode()), Ok(Answer::Error { message, .. }) if message == "\\u{7}"));
    }
}
