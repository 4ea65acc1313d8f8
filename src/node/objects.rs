//! Serves a domain's stored objects, which the manager cannot read, and the lockboxes with their keys, which it cannot open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use tokio::sync::{RwLock, RwLockReadGuard, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::data::Inbox;
use super::domain::DomainFiles;
use super::domain::storage::{LOCKBOXES, newest_first};
use super::followers::{Followers, Following};
use crate::base::{Code, DomainId, Error, NodeId, Wall};
use crate::crypto::Role;
use crate::platform::native;
use crate::proto::membership::Rights;
use crate::proto::objects::message::{Answer, HEADERS, LEAVES, MESSAGE, Request, UNDERWAY};
use crate::proto::objects::{Ahead, Changes, Cursor, Enrolment, Header, Lockbox, Progress, PutId, Quota};
use crate::runtime::handle::Node;
use crate::runtime::objects::ObjectStore;
use crate::runtime::streams::{ByteStream, Frames, Places, framed};

/// Streams at once, and of one member.
const STREAMS: usize = 512;
const PER_MEMBER: usize = 16;
/// A stream on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// How long somebody may take to read an answer.
const WRITE: Duration = Duration::from_secs(60);
/// How long a question for changes waits for some.
const WAIT: Duration = Duration::from_secs(25);
/// How long one for what a follower has not does.
const FOLLOW: Duration = Duration::from_secs(10);
/// Whether followers have more of a put is looked for so often, besides when they say so.
const LOOK: Duration = Duration::from_secs(1);
/// Headers of one object in one answer.
const HISTORY: u32 = 64;
/// Chunks that are written, and read, at once: each time costs two changes of threads. What is read waits for who asked to take it.
const WRITTEN: usize = 16;
const READ: usize = 4;

/// A signed text as a manager keeps it.
#[derive(Default)]
struct Kept {
    /// The newest first.
    lockboxes: Vec<Vec<u8>>,
    enrolments: BTreeMap<NodeId, Vec<u8>>,
    /// Over the hashes of all these.
    digest: blake3::Hasher,
}

/// The data service of one domain.
pub struct Service {
    node: Node,
    domain: DomainId,
    store: Arc<dyn ObjectStore>,
    quota: Quota,
    /// Where lockboxes and enrolments lie, also those that the owner's commands make meanwhile.
    inboxes: Mutex<(Inbox, Inbox)>,
    kept: Mutex<Kept>,
    /// Whether this manager takes what participants store. What is being stored holds on to it.
    leads: RwLock<bool>,
    followers: Arc<Followers>,
    changed: watch::Sender<()>,
    /// There is something new for those who follow.
    stirred: watch::Sender<()>,
    places: Arc<Places>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody speaks of its own.
fn own(asker: NodeId, of: NodeId) -> Result<(), Error> {
    if asker == of { Ok(()) } else { Err(forbidden("a member puts and enrols for itself only")) }
}

fn forbidden(what: &'static str) -> Error {
    Error::new(Code::Forbidden, what)
}

/// Why a request is not answered as it would like.
enum Fault {
    /// The stream is of no use any more.
    Gone,
    Refused(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Refused(error)
    }
}

/// A stream, and what was begun on it.
struct Conversation {
    asker: NodeId,
    frames: Frames,
    /// A request that was looked at already, and is not answered yet.
    ahead: Option<Request>,
    /// What came last made no sense, and is past.
    gone: bool,
    /// When something was asked last.
    heard: Instant,
    opened: bool,
    /// If it is a manager that follows.
    follows: Option<Following>,
    put: Option<Open>,
}

/// A put begun on a stream.
#[derive(Clone, Copy)]
struct Open {
    id: PutId,
    /// How far it is here.
    here: Progress,
    /// Chunks that its author was told are certain: here, and on those who follow.
    told: u64,
}

impl Conversation {
    async fn next(&mut self) -> Result<Option<Request>, Fault> {
        if self.gone {
            return Err(Fault::Gone);
        }
        if let Some(request) = self.ahead.take() {
            return Ok(Some(request));
        }
        match timeout_at(self.heard + IDLE, self.frames.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.heard = Instant::now();
                Request::decode(&bytes).map(Some).map_err(|_| Fault::Gone)
            }
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) | Err(_) => Err(Fault::Gone),
        }
    }

    /// The chunk that is to follow, if it has come already.
    fn next_chunk(&mut self) -> Option<(u64, Vec<u8>)> {
        match self.next().now_or_never()? {
            Ok(Some(Request::Chunk { index, bytes })) => return Some((index, bytes)),
            Ok(other) => self.ahead = other,
            Err(_) => self.gone = true,
        }
        None
    }

    async fn feed(&mut self, answer: &Answer) -> Result<(), Fault> {
        match timeout(WRITE, self.frames.feed(Bytes::from(answer.encode()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::Gone),
        }
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        match timeout(WRITE, self.frames.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::Gone),
        }
    }
}

impl Service {
    /// A service for a domain that `node` is in.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn new(node: Node, store: Arc<dyn ObjectStore>, quota: Quota, files: &DomainFiles) -> Result<Arc<Service>, Error> {
        let service = Service {
            domain: store.domain(),
            node,
            store,
            quota,
            inboxes: Mutex::new((files.lockboxes()?, files.enrolments()?)),
            kept: Mutex::default(),
            leads: RwLock::new(false),
            followers: Arc::default(),
            changed: watch::Sender::new(()),
            stirred: watch::Sender::new(()),
            places: Places::new(STREAMS, PER_MEMBER),
        };
        service.refresh()?;
        Ok(Arc::new(service))
    }

    /// Takes in what lies in the folders since.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn refresh(&self) -> Result<(), Error> {
        let (lockboxes, enrolments) = {
            let mut inboxes = lock(&self.inboxes);
            (inboxes.0.fresh()?, inboxes.1.fresh()?)
        };
        if lockboxes.is_empty() && enrolments.is_empty() {
            return Ok(());
        }
        let mut kept = lock(&self.kept);
        if !lockboxes.is_empty() {
            let mut all = std::mem::take(&mut kept.lockboxes);
            all.extend(lockboxes);
            kept.lockboxes = newest_first(&self.domain, all);
        }
        for bytes in enrolments {
            if let Ok(enrolment) = Enrolment::verify(&self.domain, &bytes) {
                kept.enrolments.insert(enrolment.node, bytes);
            }
        }
        let mut digest = blake3::Hasher::new();
        kept.lockboxes.iter().chain(kept.enrolments.values()).for_each(|bytes| _ = digest.update(blake3::hash(bytes).as_bytes()));
        kept.digest = digest;
        drop(kept);
        self.stirred.send_replace(());
        Ok(())
    }

    /// Serves streams as they come, each on a task of its own.
    pub async fn serve(self: Arc<Self>, mut incoming: impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Unpin) {
        while let Some((asker, stream)) = incoming.next().await {
            let Some(place) = self.places.take(asker) else { continue };
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                // A stream that broke needs no answer.
                let _ = service
                    .converse(Conversation {
                        asker,
                        frames: framed(stream, MESSAGE),
                        ahead: None,
                        gone: false,
                        heard: Instant::now(),
                        opened: false,
                        follows: None,
                        put: None,
                    })
                    .await;
                drop(place);
            });
        }
    }

    /// Answers on one stream until it ends.
    async fn converse(&self, mut with: Conversation) -> Result<(), Fault> {
        let mut acknowledged = self.followers.acknowledged();
        loop {
            let under_way = with.put.is_some();
            let request = tokio::select! {
                next = with.next() => next?,
                // Whether one keeps up is also a matter of time.
                _ = timeout(LOOK, acknowledged.changed()), if under_way => {
                    self.tell_progress(&mut with).await?;
                    continue;
                }
            };
            let Some(request) = request else { break };
            // Looked at each time: somebody may be evicted meanwhile.
            let member = self.node.is_member(self.domain, with.asker);
            let answered = if member { self.answer(&mut with, request).await } else { Err(forbidden("only members are served").into()) };
            let answer = match answered {
                Ok(answer) => answer,
                Err(Fault::Gone) => break,
                Err(Fault::Refused(error)) => {
                    tracing::debug!(asker = %with.asker, "refused: {}", error.one_line());
                    Some(Answer::Error { code: error.code(), message: error.message().to_owned() })
                }
            };
            if let Some(answer) = answer {
                with.feed(&answer).await?;
            }
            with.flush().await?;
            if !member {
                break;
            }
        }
        Ok(())
    }

    /// Tells a put's author what is certain, if that is more than it was told.
    async fn tell_progress(&self, with: &mut Conversation) -> Result<(), Fault> {
        let Some(Open { id, here, told }) = with.put else { return Ok(()) };
        let durable = self.followers.certain(&id, here.durable);
        if durable > told {
            with.put = Some(Open { id, here, told: durable });
            with.feed(&Answer::Progress(Progress { durable, ..here })).await?;
            with.flush().await?;
        }
        Ok(())
    }

    /// Holds on to the lead for as long as something is being stored.
    async fn leading(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let leads = self.leads.read().await;
        if *leads { Ok(leads) } else { Err(not_leading()) }
    }

    /// Whether this manager leads.
    pub async fn leads(&self) -> bool {
        *self.leads.read().await
    }

    /// Takes what participants store from now on, or not any more; what is being stored is first.
    pub async fn lead(&self, leads: bool) {
        *self.leads.write().await = leads;
        self.stirred.send_replace(());
    }

    /// The managers that follow this one and are up to date.
    pub fn followers(&self) -> &Followers {
        &self.followers
    }

    /// What is stored.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Something was stored that another manager had.
    pub fn stored(&self) {
        self.changed.send_replace(());
        self.stirred.send_replace(());
    }

    /// Waits until those who follow have all that is stored here, or do not seem to get it.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub async fn settle(&self) -> Result<(), Error> {
        let last = self.store.last()?;
        self.followers.have(last.at).await;
        Ok(())
    }

    fn is_manager(&self, node: NodeId) -> bool {
        let role = self.node.look_at_keys(self.domain, |m, _, _, now| m.member(now, &node).map(|m| m.role));
        matches!(role, Ok(Some(Role::Manager)))
    }

    /// Carries out a request; the answer, or the last one.
    async fn answer(&self, with: &mut Conversation, request: Request) -> Result<Option<Answer>, Fault> {
        let (asker, store) = (with.asker, Arc::clone(&self.store));
        if !with.opened && !matches!(request, Request::Open(_)) {
            return Err(Error::new(Code::Malformed, "no domain was opened on this stream").into());
        }
        let answer = match request {
            Request::Open(domain) if domain == self.domain => {
                if !self.is_manager(asker) {
                    drop(self.leading().await?);
                }
                with.opened = true;
                Answer::Done
            }
            Request::Open(_) => return Err(Error::new(Code::WrongDomain, "another domain is served here").into()),
            Request::Begin(put) => {
                with.put = None;
                own(asker, put.author)?;
                let leads = self.leading().await?;
                let here = blocking(move || store.begin(now(), &put)).await?;
                drop(leads);
                let durable = self.followers.certain(&put.id, here.durable);
                with.put = Some(Open { id: put.id, here, told: durable });
                Answer::Progress(Progress { durable, ..here })
            }
            Request::Chunk { index, bytes } => {
                // After a failure chunks are passed over until a put is begun.
                let Some(Open { id, here: before, told }) = with.put.take() else { return Ok(None) };
                let mut chunks = vec![(index, bytes)];
                while chunks.len() < WRITTEN
                    && let Some(chunk) = with.next_chunk()
                {
                    chunks.push(chunk);
                }
                let leads = self.leading().await?;
                let append = move || {
                    let mut here = before;
                    for (index, bytes) in chunks {
                        match store.append(now(), &id, index, &bytes) {
                            Ok(progress) => here = progress,
                            Err(error) => return Ok((here, Err(error))),
                        }
                    }
                    Ok((here, Ok(())))
                };
                let (here, appended) = blocking(append).await?;
                drop(leads);
                if here.durable > before.durable {
                    self.stirred.send_replace(());
                }
                appended?;
                with.put = Some(Open { id, here, told });
                self.tell_progress(with).await?;
                return Ok(None);
            }
            Request::Commit(signed) => {
                let header = Header::verify(&self.domain, &signed);
                own(asker, header.map_err(|r| Error::new(r.code(), "the header is not what its author signed"))?.identity.author)?;
                let leads = self.leading().await?;
                let cursor = blocking(move || store.commit(now(), &signed)).await?;
                drop(leads);
                with.put = None;
                self.stored();
                self.followers.have(cursor.at).await;
                Answer::Committed(cursor)
            }
            Request::Abandon(put) => {
                let leads = self.leading().await?;
                blocking(move || store.abandon(&asker, &put)).await?;
                drop(leads);
                self.stirred.send_replace(());
                Answer::Done
            }
            Request::History { object, up_to, most } => {
                self.serves_newest(asker).await?;
                let most = most.min(HISTORY) as usize;
                Answer::Headers(blocking(move || store.history(&object, up_to, most)).await?)
            }
            Request::Leaves { object, version, from } => {
                Answer::Leaves(blocking(move || store.leaves(&object, version, from, LEAVES)).await?)
            }
            Request::Chunks { object, version, from, count } => {
                let end = from.saturating_add(count.into());
                for first in (from..end).step_by(READ) {
                    let (store, some) = (Arc::clone(&store), first..end.min(first.saturating_add(READ as u64)));
                    // What is read before one that cannot be is of use.
                    for chunk in blocking(move || Ok(some.map(|index| store.chunk(&object, version, index)).collect::<Vec<_>>())).await? {
                        with.feed(&Answer::Chunk(chunk?)).await?;
                    }
                }
                return Ok(None);
            }
            Request::Changes { since, wait } => {
                self.serves_newest(asker).await?;
                Answer::Changes(self.changes(since, wait).await?)
            }
            Request::Conflicts(object) => {
                self.serves_newest(asker).await?;
                for signed in blocking(move || store.conflicts(object.as_ref())).await? {
                    with.feed(&Answer::Headers(vec![signed])).await?;
                }
                Answer::Done
            }
            Request::PartLeaves { put, from } => Answer::Leaves(blocking(move || store.part_leaves(&put, from, LEAVES)).await?),
            Request::Parts { put, from, count } => {
                // Nobody but its author and those who keep it has to do with what is no version yet.
                if !self.is_manager(asker) && self.store.puts().iter().any(|u| u.put.id == put) {
                    return Err(forbidden("only managers are given what is under way").into());
                }
                for index in from..from.saturating_add(count.into()) {
                    let store = Arc::clone(&self.store);
                    let bytes = blocking(move || store.part(&put, index)).await?;
                    with.feed(&Answer::Chunk(bytes)).await?;
                }
                return Ok(None);
            }
            Request::Follow { since, digest, puts } if self.is_manager(asker) => {
                let following = with.follows.get_or_insert_with(|| self.followers.follow(asker));
                Answer::Ahead(self.ahead(following, since, digest, &puts).await?)
            }
            Request::Yield if self.outranked_by(asker)? => {
                self.lead(false).await;
                Answer::Committed(blocking(move || store.last()).await?)
            }
            Request::Follow { .. } | Request::Yield => return Err(forbidden("this is for managers of the domain").into()),
            Request::Used => Answer::Used(self.store.used(&asker), self.quota),
            Request::Lockboxes => {
                let all = lock(&self.kept).lockboxes.clone();
                for bytes in all {
                    with.feed(&Answer::Lockbox(bytes)).await?;
                }
                Answer::Done
            }
            Request::Lockbox(bytes) => self.keep_lockbox(&bytes).map(|()| Answer::Done)?,
            Request::Enrol(bytes) => self.keep_enrolment(asker, &bytes).map(|()| Answer::Done)?,
            Request::Enrolments => {
                let all = lock(&self.kept).enrolments.clone();
                Answer::Enrolments(all.into_iter().filter(|(node, _)| self.node.is_member(self.domain, *node)).map(|(_, e)| e).collect())
            }
        };
        Ok(Some(answer))
    }

    /// Whether this manager is one to ask what the newest version is.
    async fn serves_newest(&self, asker: NodeId) -> Result<(), Error> {
        if self.is_manager(asker) { Ok(()) } else { self.leading().await.map(drop) }
    }

    /// Whether another manager comes before this one.
    fn outranked_by(&self, node: NodeId) -> Result<bool, Error> {
        let managers = self.node.managers(self.domain)?;
        Ok(managers.iter().take_while(|m| !m.is_self).any(|m| m.node == node))
    }

    /// What one who follows does not have, which is waited for a while.
    async fn ahead(&self, asker: &Following, since: Cursor, digest: [u8; 32], puts: &[(PutId, u64)]) -> Result<Ahead, Error> {
        let mut stirred = self.stirred.subscribe();
        let held: BTreeMap<PutId, u64> = puts.iter().copied().collect();
        let news = |a: &Ahead| {
            let more = a.puts.iter().any(|u| u.durable > held.get(&u.put.id).copied().unwrap_or_default());
            more || a.digest != digest || !a.changes.headers.is_empty() || a.changes.anew
        };
        let first = self.look_ahead(since).await?;
        // Another store's order says nothing of this one's.
        asker.asks(if first.changes.anew { 0 } else { since.at }, held.clone(), !news(&first));
        let ahead = if news(&first) || timeout(FOLLOW, stirred.changed()).await.is_err() { first } else { self.look_ahead(since).await? };
        if news(&ahead) {
            asker.is_told();
        }
        Ok(ahead)
    }

    async fn look_ahead(&self, since: Cursor) -> Result<Ahead, Error> {
        let store = Arc::clone(&self.store);
        let mut hasher = lock(&self.kept).digest.clone();
        let (mut puts, changes, conflicts) =
            blocking(move || Ok((store.puts(), store.changes(since, HEADERS)?, store.conflicts(None)?))).await?;
        puts.truncate(UNDERWAY);
        conflicts.iter().for_each(|signed| _ = hasher.update(blake3::hash(signed).as_bytes()));
        Ok(Ahead { leads: self.leads().await, digest: *hasher.finalize().as_bytes(), puts, changes })
    }

    /// Takes in lockboxes and enrolments that another manager keeps. Those that do not count here are passed over.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn adopt(&self, lockboxes: &[Vec<u8>], enrolments: &[Vec<u8>]) -> Result<(), Error> {
        let passed_over = |result: Result<(), Error>| match result {
            Err(error) if error.code() == Code::Storage => Err(error),
            Err(error) => {
                tracing::debug!("another manager's text is passed over: {}", error.one_line());
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        for bytes in lockboxes {
            if !lock(&self.kept).lockboxes.contains(bytes) {
                passed_over(self.keep_lockbox(bytes))?;
            }
        }
        for bytes in enrolments {
            if let Ok(enrolment) = Enrolment::verify(&self.domain, bytes)
                && self.node.is_member(self.domain, enrolment.node)
            {
                passed_over(self.keep_enrolment(enrolment.node, bytes))?;
            }
        }
        Ok(())
    }

    async fn changes(&self, since: Cursor, wait: bool) -> Result<Changes, Error> {
        let mut changed = self.changed.subscribe();
        let look = || {
            let store = Arc::clone(&self.store);
            blocking(move || store.changes(since, HEADERS))
        };
        let first = look().await?;
        if !wait || !first.headers.is_empty() || timeout(WAIT, changed.changed()).await.is_err() {
            return Ok(first);
        }
        look().await
    }

    /// Keeps a lockbox of somebody who may give storage keys.
    fn keep_lockbox(&self, bytes: &[u8]) -> Result<(), Error> {
        let lockbox = Lockbox::verify(&self.domain, bytes).map_err(|r| Error::new(r.code(), "this is no lockbox of the domain"))?;
        let may = self.node.look_at_keys(self.domain, |membership, _, _, now| membership.may(now, &lockbox.issuer, Rights::STORE))?;
        if !may {
            return Err(forbidden("its issuer may not give storage keys"));
        }
        if lock(&self.kept).lockboxes.len() >= LOCKBOXES {
            return Err(Error::new(Code::Quota, "the domain has as many lockboxes as it may"));
        }
        lock(&self.inboxes).0.add(bytes)?;
        self.refresh()
    }

    fn keep_enrolment(&self, asker: NodeId, bytes: &[u8]) -> Result<(), Error> {
        let enrolment = Enrolment::verify(&self.domain, bytes).map_err(|r| Error::new(r.code(), "this is no enrolment"))?;
        own(asker, enrolment.node)?;
        // One to a member: the key follows from the identity, so that another one is nobody's.
        if lock(&self.kept).enrolments.contains_key(&asker) {
            return Ok(());
        }
        lock(&self.inboxes).1.add(bytes)?;
        self.refresh()
    }
}

fn not_leading() -> Error {
    Error::new(Code::NotLeading, "another manager leads, or this one has not caught up yet").hint("Ask the other, or again in a moment")
}

pub(super) fn now() -> Wall {
    native::clock().wall
}

/// Carries out what waits for a disk where nobody else waits for it.
pub(super) async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(what).await.unwrap_or_else(|e| Err(Error::new(Code::Storage, "the store failed").caused_by(e)))
}
