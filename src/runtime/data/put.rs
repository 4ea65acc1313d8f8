//! Writing an object: read, sealed, sent and hashed as it comes, with what is not on the manager's disk yet kept at hand.

use std::collections::VecDeque;

use futures::{AsyncRead, AsyncReadExt};

use super::keys::Draft;
use super::session::{Session, Trouble, astray};
use super::{DomainData, Entry, Known, expect};
use crate::base::{Code, Error, Reject};
use crate::crypto::object::{CONTENT, LARGEST, padded, tree};
use crate::proto::objects::message::{Answer, Request};
use crate::proto::objects::{Description, Progress, Put, check_path, hash};
use crate::runtime::store::Store;

/// Chunks that are not on disk yet, at most: 16 MiB, twice what a manager syncs at once.
const WINDOW: usize = 256;
/// So often a put is begun again without anything new on disk.
const TRIES: u32 = 8;

/// How an object is put.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Its media type (RFC 2046), empty for none.
    pub media: String,
    /// What else is to be said of it: JSON text, empty for nothing.
    pub meta: String,
    /// The version that is to be replaced, 0 for none; else whichever is there.
    pub expected: Option<u64>,
    /// Names the content, as a file's length and time of change do: a put that a restart of this process cut off goes on where
    /// the manager's disk left it.
    pub resume: Option<Vec<u8>>,
}

/// The sealed chunks of a source, in order.
struct Sealer<'a, R> {
    source: R,
    draft: &'a Draft,
    /// What was read ahead: whether a chunk is the last one shows when the next is looked for.
    ahead: Vec<u8>,
    /// Bytes read.
    length: u64,
    leaves: Vec<[u8; 32]>,
    /// Bytes of padding left, once the source has ended.
    padding: Option<u64>,
    ended: bool,
    size: u64,
}

impl<'a, R: AsyncRead + Unpin> Sealer<'a, R> {
    fn new(source: R, draft: &'a Draft) -> Sealer<'a, R> {
        Sealer { source, draft, ahead: Vec::new(), length: 0, leaves: Vec::new(), padding: None, ended: false, size: 0 }
    }

    /// Fills the buffer up to one byte more than a chunk, with content and then with padding.
    async fn fill(&mut self) -> Result<(), Error> {
        while self.ahead.len() <= CONTENT && self.padding.is_none() {
            let start = self.ahead.len();
            self.ahead.resize(CONTENT + 1, 0);
            let read = self.source.read(&mut self.ahead[start..]).await;
            let read = read.map_err(|e| Error::new(Code::Storage, "what is to be stored cannot be read").caused_by(e))?;
            self.ahead.truncate(start + read);
            self.length += read as u64;
            if self.length > LARGEST {
                return Err(Error::new(Code::TooLarge, "an object has at most 2^48 bytes"));
            }
            if read == 0 {
                self.padding = Some(padded(self.length).map_err(|r| Error::new(r.code(), "too long"))? - self.length);
            }
        }
        if let Some(padding) = &mut self.padding {
            let zeros = (*padding).min((CONTENT + 1 - self.ahead.len()) as u64);
            self.ahead.resize(self.ahead.len() + zeros as usize, 0);
            *padding -= zeros;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.fill().await?;
        let (index, last) = (self.leaves.len() as u64, self.ahead.len() <= CONTENT);
        let rest = if last { Vec::new() } else { self.ahead.split_off(CONTENT) };
        let content = std::mem::replace(&mut self.ahead, rest);
        let failed = |r: Reject| Error::new(r.code(), "a chunk cannot be sealed");
        let sealed = self.draft.key.seal(index, last, &content).map_err(failed)?;
        self.leaves.push(tree::leaf(index, last && index == 0, &sealed).map_err(failed)?);
        self.ended = last;
        self.size += sealed.len() as u64;
        Ok(Some((index, sealed)))
    }
}

impl<S: Store> DomainData<S> {
    /// Stores an object: a new version of what is there. It is on the manager's disk when this returns. `told` hears how many
    /// bytes are, again and again.
    ///
    /// # Errors
    /// As [`DomainData::entry`]; [`Code::Conflict`] if its newest version is not the expected one, or somebody else stored one
    /// meanwhile; [`Code::Quota`]; [`Code::Storage`] if the source cannot be read; [`Code::Busy`] after an eviction until the storage key is renewed.
    pub async fn put(
        &self,
        path: &str,
        source: impl AsyncRead + Unpin,
        options: PutOptions,
        mut told: impl FnMut(u64),
    ) -> Result<Entry, Error> {
        check_path(path)?;
        let mut description = Description { path: path.to_owned(), media: options.media, meta: options.meta, ..Description::default() };
        description.encode()?;
        self.with_keys().await?;
        self.with_writable_keys().await?;
        let head = self.newest(path).await?;
        expect(options.expected, head.as_ref())?;
        let draft = self.draft(path, head.as_ref(), options.resume.as_deref())?;
        let identity = *draft.identity();
        let put = Put { id: *draft.key.commitment(), author: identity.author, object: identity.object, version: identity.version };
        let mut upload = Upload { sealer: Sealer::new(source, &draft), waiting: VecDeque::new(), durable: 0, tries: 0, kept: 0 };
        let sent = self.patiently(async |session| upload.run(session, &put, &mut told).await).await;
        if let Err(error) = sent.and_then(|()| self.is_fresh(&draft)) {
            // Where waiting does not help it would only take up room for a day.
            if matches!(error.code(), Code::Quota | Code::Conflict | Code::Busy | Code::TooLarge) {
                let _ = self.ask(&Request::Abandon(put.id)).await;
            }
            return Err(error);
        }
        (description.length, description.written) = (upload.sealer.length, self.0.node.now().wall);
        let root = tree::root(&upload.sealer.leaves).map_err(|r| Error::new(r.code(), "nothing was sealed"))?;
        let header = draft.header(&description, upload.sealer.size, root)?;
        let signed = self.sign(&header)?;
        let committed = self.patiently(async |session| upload.commit(session, &put, &signed, &mut told).await).await;
        if let Err(error) = &committed
            && upload.kept > 0
            && error.code() == Code::Forged
        {
            return Err(
                Error::new(Code::Conflict, "what was stored of this before is of another content").hint("It was removed. Store it again")
            );
        }
        committed?;
        told(description.length);
        let hash = hash(&signed);
        self.note(&header, hash)?;
        self.keep().await?;
        Ok(Known { header, hash, key: draft.key, description }.entry())
    }
}

/// A put under way, over several sessions if need be.
struct Upload<'a, R> {
    sealer: Sealer<'a, R>,
    /// Sealed chunks that are not known to be on disk.
    waiting: VecDeque<(u64, Vec<u8>)>,
    /// Chunks on disk.
    durable: u64,
    /// Begun so often since more came to be on disk.
    tries: u32,
    /// Chunks that were on disk before this began.
    kept: u64,
}

impl<R: AsyncRead + Unpin> Upload<'_, R> {
    /// Sends all chunks. What was refused for the manager's having lost the put is begun again.
    async fn run(&mut self, session: &mut Session, put: &Put, told: &mut impl FnMut(u64)) -> Result<(), Trouble> {
        loop {
            match self.send(session, put, told).await {
                Err(Trouble::Refused(error)) if error.code() == Code::NoObject && self.tries < TRIES => {}
                result => return result,
            }
        }
    }

    async fn send(&mut self, session: &mut Session, put: &Put, told: &mut impl FnMut(u64)) -> Result<(), Trouble> {
        let mut next = self.begin(session, put, told).await?;
        for (index, chunk) in self.waiting.iter().filter(|(index, _)| *index >= next) {
            session.feed(&Request::Chunk { index: *index, bytes: chunk.clone() }).await?;
        }
        next = next.max(self.waiting.back().map_or(0, |(index, _)| index + 1));
        loop {
            while let Some(answer) = if self.waiting.len() < WINDOW { session.ready_answer()? } else { Some(flushed(session).await?) } {
                self.progress(&answer, told)?;
            }
            let Some((index, chunk)) = self.sealer.next().await? else { break };
            // What the manager has already is sealed all the same: its hash counts. Kept first: the stream may break.
            if index >= self.durable {
                self.waiting.push_back((index, chunk.clone()));
            }
            if index >= next {
                session.feed(&Request::Chunk { index, bytes: chunk }).await?;
            }
        }
        Ok(())
    }

    /// Begins the put, or goes on with it: the chunk from which on the manager wants them.
    async fn begin(&mut self, session: &mut Session, put: &Put, told: &mut impl FnMut(u64)) -> Result<u64, Trouble> {
        self.tries += 1;
        let answer = session.ask(&Request::Begin(*put)).await?;
        let Answer::Progress(Progress { written, .. }) = answer else { return Err(astray()) };
        if self.durable == 0 && self.sealer.leaves.is_empty() {
            self.kept = written;
        }
        self.progress(&answer, told)?;
        // Behind what is at hand there is nothing to send again.
        let first = self.waiting.front().map_or(self.sealer.leaves.len() as u64, |(index, _)| *index);
        if written < first {
            return Err(Trouble::Refused(Error::new(Code::Storage, "the domain manager lost what it had on disk of this")));
        }
        Ok(written)
    }

    fn progress(&mut self, answer: &Answer, told: &mut impl FnMut(u64)) -> Result<(), Trouble> {
        let Answer::Progress(Progress { durable, .. }) = answer else { return Err(astray()) };
        if *durable > self.durable {
            (self.durable, self.tries) = (*durable, 0);
            while self.waiting.front().is_some_and(|(index, _)| index < durable) {
                self.waiting.pop_front();
            }
            told((durable * CONTENT as u64).min(self.sealer.length));
        }
        Ok(())
    }

    /// Commits, with the chunks that are not on disk once more where the stream is another.
    async fn commit(&mut self, session: &mut Session, put: &Put, signed: &[u8], told: &mut impl FnMut(u64)) -> Result<(), Trouble> {
        loop {
            let sent = async {
                session.send(&Request::Commit(signed.to_vec())).await?;
                loop {
                    match session.answer().await? {
                        Answer::Committed(_) => return Ok(()),
                        answer => self.progress(&answer, told)?,
                    }
                }
            };
            match sent.await {
                Err(Trouble::Refused(error)) if error.code() == Code::NoObject && self.tries < TRIES => {
                    self.send(session, put, told).await?;
                }
                result => return result,
            }
        }
    }
}

/// The next answer, which comes once all that was fed has left.
async fn flushed(session: &mut Session) -> Result<Answer, Trouble> {
    session.flush().await?;
    session.answer().await
}
