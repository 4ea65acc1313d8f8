//! Reading an object: its chunks one after the other, each checked and opened before it is handed out.

use std::ops::Range;

use super::session::{Session, Trouble, astray};
use super::{DomainData, Entry, Known, forged};
#[cfg(doc)]
use crate::base::Code;
use crate::base::Error;
use crate::crypto::object::{CONTENT, chunks, tree};
use crate::proto::objects::message::{Answer, Request};
use crate::runtime::store::Store;

/// Chunks asked for at once, and of how many the answers may be on their way.
const BATCH: u64 = 32;
const AHEAD: u64 = 128;

/// An object's content on its way. Nothing is in memory but what is on its way.
pub struct Body<S> {
    data: DomainData<S>,
    known: Known,
    leaves: Vec<[u8; 32]>,
    /// What is wanted, bytes.
    range: Range<u64>,
    /// The next chunk to be handed out, and to be asked for.
    next: u64,
    asked: u64,
    session: Option<Session>,
    /// Whether it is a version in conflict.
    conflicting: bool,
}

impl<S> std::fmt::Debug for Body<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("range", &self.range).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<S: Store> Body<S> {
    pub(super) fn new(data: DomainData<S>, known: Known, conflicting: bool) -> Result<Body<S>, Error> {
        let length = known.description.length;
        if chunks(length) != Ok(known.header.chunks()) {
            return Err(forged("an object's author says two lengths"));
        }
        Ok(Body { data, known, leaves: Vec::new(), range: 0..length, next: 0, asked: 0, session: None, conflicting })
    }

    /// What is read.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.known.entry()
    }

    /// Only these bytes of it; what is behind its end is none.
    #[must_use]
    pub fn range(mut self, range: Range<u64>) -> Body<S> {
        let length = self.known.description.length;
        self.range = range.start.min(length)..range.end.min(length);
        self.next = self.range.start / CONTENT as u64;
        self
    }

    /// The next bytes, or none at the end.
    ///
    /// # Errors
    /// As [`DomainData::entry`]; [`Code::NoObject`] if this version is kept no more.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let start = self.next * CONTENT as u64;
        if start >= self.range.end || self.range.is_empty() {
            return Ok(None);
        }
        let sealed = self.fetch().await?;
        let (index, count) = (self.next, self.known.header.chunks());
        let sound = tree::leaf(index, count == 1, &sealed).is_ok_and(|leaf| self.leaves.get(index as usize) == Some(&leaf));
        let opened = if sound { self.known.key.open(index, index + 1 == count, &sealed).ok() } else { None };
        let mut content = opened.ok_or_else(|| forged("a chunk is not what the author stored"))?;
        self.next += 1;
        content.truncate(usize::try_from(self.range.end - start).unwrap_or(usize::MAX));
        content.drain(..usize::try_from(self.range.start.saturating_sub(start)).unwrap_or(usize::MAX).min(content.len()));
        Ok(Some(content))
    }

    /// All of it. For objects that fit in memory.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            all.extend(part);
        }
        Ok(all)
    }

    /// The next chunk as it is stored.
    async fn fetch(&mut self) -> Result<Vec<u8>, Error> {
        let data = self.data.clone();
        let mut losses = 0;
        loop {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => {
                    // All that was asked for on another stream is lost.
                    self.asked = self.next;
                    data.connect().await?
                }
            };
            match self.fetch_on(&mut session).await {
                Ok(chunk) => {
                    self.session = Some(session);
                    return Ok(chunk);
                }
                Err(trouble) => data.endure(trouble, &mut losses).await?,
            }
        }
    }

    async fn fetch_on(&mut self, session: &mut Session) -> Result<Vec<u8>, Trouble> {
        let identity = &self.known.header.identity;
        let (object, version) = (identity.object, identity.version);
        if self.leaves.is_empty() {
            self.leaves = self.fetch_leaves(session).await?;
        }
        let end = self.range.end.div_ceil(CONTENT as u64).min(self.known.header.chunks());
        while self.asked < end && self.asked < self.next + AHEAD {
            let (from, count) = (self.asked, BATCH.min(end - self.asked) as u32);
            let request = if self.conflicting {
                Request::Parts { put: self.known.hash, from, count }
            } else {
                Request::Chunks { object, version, from, count }
            };
            session.send(&request).await?;
            self.asked += u64::from(count);
        }
        match session.answer().await? {
            Answer::Chunk(bytes) => Ok(bytes),
            _ => Err(astray()),
        }
    }

    /// The hashes by which single chunks are checked, themselves checked against the root.
    async fn fetch_leaves(&self, session: &mut Session) -> Result<Vec<[u8; 32]>, Trouble> {
        let header = &self.known.header;
        let (object, version, count) = (header.identity.object, header.identity.version, header.chunks() as usize);
        let mut leaves: Vec<[u8; 32]> = Vec::new();
        while leaves.len() < count {
            let from = leaves.len() as u64;
            let request = if self.conflicting {
                Request::PartLeaves { put: self.known.hash, from }
            } else {
                Request::Leaves { object, version, from }
            };
            match session.ask(&request).await? {
                Answer::Leaves(more) if !more.is_empty() => leaves.extend(more.into_iter().take(count - leaves.len())),
                _ => return Err(astray()),
            }
        }
        if tree::root(&leaves) == Ok(header.root) {
            Ok(leaves)
        } else {
            Err(forged("an object's hashes are not those that its author signed").into())
        }
    }
}
