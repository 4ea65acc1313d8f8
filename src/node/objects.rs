//! Serves a domain's stored objects, which the manager cannot read, and the lockboxes with their keys, which it cannot open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::data::Inbox;
use super::domain::DomainFiles;
use super::domain::storage::{LOCKBOXES, newest_first};
use crate::base::{Code, DomainId, Error, NodeId, Wall};
use crate::platform::native;
use crate::proto::membership::Rights;
use crate::proto::objects::message::{Answer, HEADERS, LEAVES, MESSAGE, Request};
use crate::proto::objects::{Changes, Cursor, Enrolment, Header, Lockbox, PutId, Quota};
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
/// Headers of one object in one answer.
const HISTORY: u32 = 64;

/// A signed text as a manager keeps it.
#[derive(Default)]
struct Kept {
    /// The newest first.
    lockboxes: Vec<Vec<u8>>,
    enrolments: BTreeMap<NodeId, Vec<u8>>,
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
    changed: watch::Sender<()>,
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
    opened: bool,
    put: Option<Open>,
}

/// A put begun on a stream.
struct Open {
    id: PutId,
    durable: u64,
}

impl Conversation {
    async fn next(&mut self) -> Result<Option<Request>, Fault> {
        match timeout(IDLE, self.frames.next()).await {
            Ok(Some(Ok(bytes))) => Request::decode(&bytes).map(Some).map_err(|_| Fault::Gone),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) | Err(_) => Err(Fault::Gone),
        }
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
            changed: watch::Sender::new(()),
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
        Ok(())
    }

    /// Serves streams as they come, each on a task of its own.
    pub async fn serve(self: Arc<Self>, mut incoming: impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Unpin) {
        while let Some((asker, stream)) = incoming.next().await {
            let Some(place) = self.places.take(asker) else { continue };
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                // A stream that broke needs no answer.
                let _ = service.converse(Conversation { asker, frames: framed(stream, MESSAGE), opened: false, put: None }).await;
                drop(place);
            });
        }
    }

    /// Answers on one stream until it ends.
    async fn converse(&self, mut with: Conversation) -> Result<(), Fault> {
        while let Some(request) = with.next().await? {
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

    /// Carries out a request; the answer, or the last one.
    async fn answer(&self, with: &mut Conversation, request: Request) -> Result<Option<Answer>, Fault> {
        let (asker, store) = (with.asker, Arc::clone(&self.store));
        if !with.opened && !matches!(request, Request::Open(_)) {
            return Err(Error::new(Code::Malformed, "no domain was opened on this stream").into());
        }
        let answer = match request {
            Request::Open(domain) if domain == self.domain => {
                with.opened = true;
                Answer::Done
            }
            Request::Open(_) => return Err(Error::new(Code::WrongDomain, "another domain is served here").into()),
            Request::Begin(put) => {
                with.put = None;
                own(asker, put.author)?;
                let progress = blocking(move || store.begin(now(), &put)).await?;
                with.put = Some(Open { id: put.id, durable: progress.durable });
                Answer::Progress(progress)
            }
            Request::Chunk { index, bytes } => {
                // After a failure chunks are passed over until a put is begun.
                let Some(Open { id, durable }) = with.put.take() else { return Ok(None) };
                let progress = blocking(move || store.append(now(), &id, index, &bytes)).await?;
                with.put = Some(Open { id, durable: progress.durable });
                if progress.durable == durable {
                    return Ok(None);
                }
                Answer::Progress(progress)
            }
            Request::Commit(signed) => {
                let header = Header::verify(&self.domain, &signed);
                own(asker, header.map_err(|r| Error::new(r.code(), "the header is not what its author signed"))?.identity.author)?;
                let cursor = blocking(move || store.commit(now(), &signed)).await?;
                self.changed.send_replace(());
                Answer::Committed(cursor)
            }
            Request::Abandon(put) => blocking(move || store.abandon(&asker, &put)).await.map(|()| Answer::Done)?,
            Request::History { object, up_to, most } => {
                let most = most.min(HISTORY) as usize;
                Answer::Headers(blocking(move || store.history(&object, up_to, most)).await?)
            }
            Request::Leaves { object, version, from } => {
                Answer::Leaves(blocking(move || store.leaves(&object, version, from, LEAVES)).await?)
            }
            Request::Chunks { object, version, from, count } => {
                for index in from..from.saturating_add(count.into()) {
                    let store = Arc::clone(&store);
                    let bytes = blocking(move || store.chunk(&object, version, index)).await?;
                    with.feed(&Answer::Chunk(bytes)).await?;
                }
                return Ok(None);
            }
            Request::Changes { since, wait } => Answer::Changes(self.changes(since, wait).await?),
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

fn now() -> Wall {
    native::clock().wall
}

/// Carries out what waits for a disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(what).await.unwrap_or_else(|e| Err(Error::new(Code::Storage, "the store failed").caused_by(e)))
}
