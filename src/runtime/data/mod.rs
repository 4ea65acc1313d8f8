//! Domain data as a participant uses it: objects by path, sealed and signed here, kept by a manager that cannot read them.
//!
//! What a manager serves is checked in full: headers by their authors' signatures and the storage key's commitment, chunks against the
//! root that the header signs, versions against those seen before. A stream that breaks is opened again, and what runs goes on.

mod get;
mod keys;
mod put;
pub(crate) mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_timer::Delay;

pub use get::Body;
pub use put::PutOptions;
use session::{Session, Trouble, astray, within};

use super::handle::Node;
use super::store::Store;
use super::streams::{Streams, reach_any};
use crate::base::{Code, DomainId, Error, NodeId, Wall};
use crate::crypto::object::ObjectKey;
use crate::peer::Manager;
use crate::proto::objects::message::{Answer, Request};
use crate::proto::objects::{Changes, Cursor, Description, Header, Keyring, ObjectId, Quota, Used, check_path, hash, prevails};

/// How long a manager is waited for, while none answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Streams that may break under one call.
const LOSSES: u32 = 100;
/// Headers asked for at once.
const PAGE: u32 = 64;
/// Versions of one object in conflict that are looked at.
const CONFLICTS: usize = 256;

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: String,
    /// Its version, counted from 1.
    pub version: u64,
    /// Whether this version says that the object is deleted.
    pub deleted: bool,
    /// Its media type, empty for none.
    pub media: String,
    /// Its length, bytes.
    pub length: u64,
    /// When it was written, by the author's clock.
    pub written: Wall,
    /// Who wrote it.
    pub author: NodeId,
    /// What else the author says: JSON text, empty for nothing.
    pub meta: String,
    /// For a version that did not prevail over another one of the same past: what it is read by ([`DomainData::conflicting`]). It was stored while two
    /// managers did not know of each other.
    pub conflict: Option<String>,
}

/// A header whose signature holds and whose description was opened.
struct Known {
    header: Header,
    hash: [u8; 32],
    key: ObjectKey,
    description: Description,
}

impl Known {
    /// What it is read by if it is in conflict.
    fn name(&self) -> String {
        bs58::encode(self.hash).into_string()
    }

    fn entry(&self) -> Entry {
        let Description { path, media, length, written, meta } = self.description.clone();
        let identity = &self.header.identity;
        Entry {
            path,
            version: identity.version,
            deleted: self.header.is_tombstone(),
            media,
            length,
            written,
            author: identity.author,
            meta,
            conflict: None,
        }
    }
}

/// What is kept of a domain's objects between uses.
struct Memory {
    keyring: Keyring,
    /// The newest version seen of each object, so that an older one is noticed.
    seen: BTreeMap<ObjectId, (u64, [u8; 32])>,
    /// The hash of all this as it is in the store.
    stored: Option<blake3::Hash>,
    enrolled: bool,
}

struct Inner<S> {
    node: Node,
    domain: DomainId,
    streams: Arc<dyn Streams>,
    store: S,
    memory: Mutex<Memory>,
    /// A stream that nobody uses at the moment.
    idle: Mutex<Option<Session>>,
}

/// The domain data of one domain. Clones are the same.
pub struct DomainData<S>(Arc<Inner<S>>);

impl<S> Clone for DomainData<S> {
    fn clone(&self) -> Self {
        DomainData(Arc::clone(&self.0))
    }
}

impl<S> std::fmt::Debug for DomainData<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DomainData({})", self.0.domain)
    }
}

impl<S: Store> DomainData<S> {
    /// The data of a domain that this node is in. `store` keeps its storage keys.
    ///
    /// # Errors
    /// [`Code::Storage`] if what is kept is damaged.
    pub async fn open(node: Node, domain: DomainId, streams: Arc<dyn Streams>, store: S) -> Result<DomainData<S>, Error> {
        let memory = Mutex::new(keys::load(&store, domain).await?);
        Ok(DomainData(Arc::new(Inner { node, domain, streams, store, memory, idle: Mutex::default() })))
    }

    /// What is stored under a path.
    ///
    /// # Errors
    /// [`Code::NoObject`] if nothing is, or it is deleted; and as every other call [`Code::NoParticipant`] if no manager answers, [`Code::Forbidden`]
    /// if there is no storage key for this participant, [`Code::Forged`] if the manager serves something else than was stored.
    pub async fn entry(&self, path: &str) -> Result<Entry, Error> {
        let known = self.newest(path).await?;
        known.filter(|k| !k.header.is_tombstone()).map(|k| k.entry()).ok_or_else(|| nothing(path))
    }

    /// Reads an object: the newest version, or another that is still kept.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn get(&self, path: &str, version: Option<u64>) -> Result<Body<S>, Error> {
        let known = match version {
            None => self.newest(path).await?,
            Some(version) => self.versions(path, version, 1).await?.into_iter().next().filter(|k| k.header.identity.version == version),
        };
        Body::new(self.clone(), known.filter(|k| !k.header.is_tombstone()).ok_or_else(|| nothing(path))?, false)
    }

    /// Reads a version that is in conflict, as [`DomainData::history`] names it.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn conflicting(&self, path: &str, name: &str) -> Result<Body<S>, Error> {
        let known = self.conflicts(path).await?.into_iter().find(|k| k.name() == name);
        Body::new(self.clone(), known.filter(|k| !k.header.is_tombstone()).ok_or_else(|| nothing(path))?, true)
    }

    /// All objects whose paths begin like this, by path.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let (mut all, mut cursor) = (Vec::new(), Cursor::default());
        loop {
            let (entries, next, more) = self.changes(cursor, false).await?;
            all.extend(entries.into_iter().filter(|e| e.path.starts_with(prefix)));
            cursor = next;
            if !more {
                break;
            }
        }
        // One that changed meanwhile came twice: its last version counts.
        all.sort_unstable_by(|a: &Entry, b| (&a.path, b.version).cmp(&(&b.path, a.version)));
        all.dedup_by(|a, b| a.path == b.path);
        all.retain(|e| !e.deleted);
        Ok(all)
    }

    /// What changed since a cursor, where to go on, and whether there is more already. The default cursor begins with all that is there; so
    /// does one that the store does not know. With `wait` the answer comes when there is something, or empty after a while.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn changes(&self, since: Cursor, wait: bool) -> Result<(Vec<Entry>, Cursor, bool), Error> {
        let request = Request::Changes { since, wait };
        self.with_keys().await?;
        let answer = self.ask(&request).await?;
        let Answer::Changes(Changes { headers, next, more, .. }) = answer else { return Err(self.nonsense()) };
        // One under a key that is not here yet, or of a later format, is none that this participant knows of; nor is one that its author
        // gave another's path.
        let known: Vec<Known> = headers.iter().filter_map(|signed| self.know(signed).ok()).collect();
        let known: Vec<Known> = known.into_iter().filter(|k| self.token(&k.description.path) == Some(k.header.identity.object)).collect();
        let mut entries = Vec::new();
        for k in &known {
            // The others are not to be missed for one that is in doubt: whoever reads that hears of it.
            if !self.differs(k) || self.reconcile(&k.description.path, k).await? {
                self.note(&k.header, k.hash)?;
                entries.push(k.entry());
            }
        }
        self.keep().await?;
        Ok((entries, next, more))
    }

    /// The versions of an object that are still known, the newest first; what was deleted included. Behind them come those in conflict.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn history(&self, path: &str) -> Result<Vec<Entry>, Error> {
        let (mut all, mut up_to) = (Vec::new(), u64::MAX);
        loop {
            let page = self.versions(path, up_to, PAGE).await?;
            all.extend(page.iter().map(Known::entry));
            match page.last().map(|k| k.header.identity.version) {
                Some(last) if last > 1 => up_to = last - 1,
                _ => break,
            }
        }
        let conflicts = self.conflicts(path).await?;
        all.extend(conflicts.iter().map(|k| Entry { conflict: Some(k.name()), ..k.entry() }));
        if all.is_empty() { Err(nothing(path)) } else { Ok(all) }
    }

    /// Deletes an object: a version that says so. With `expected` only if that is its newest version.
    ///
    /// # Errors
    /// As [`DomainData::entry`]; [`Code::Conflict`].
    pub async fn delete(&self, path: &str, expected: Option<u64>) -> Result<(), Error> {
        let head = self.newest(path).await?.filter(|k| !k.header.is_tombstone()).ok_or_else(|| nothing(path))?;
        expect(expected, Some(&head))?;
        let written = self.0.node.now().wall;
        let description = Description { path: path.to_owned(), written, ..Description::default() };
        let draft = self.draft(path, Some(&head), None)?;
        let header = draft.header(&description, 0, [0; 32])?;
        let signed = self.sign(&header)?;
        match self.ask(&Request::Commit(signed.clone())).await? {
            Answer::Committed(_) => self.note(&header, hash(&signed))?,
            _ => return Err(self.nonsense()),
        }
        self.keep().await
    }

    /// How much is stored, all together and by this participant, and how much may be.
    ///
    /// # Errors
    /// As [`DomainData::entry`].
    pub async fn quota(&self) -> Result<(Used, Quota), Error> {
        match self.ask(&Request::Used).await? {
            Answer::Used(used, quota) => Ok((used, quota)),
            _ => Err(self.nonsense()),
        }
    }

    // ---- versions -----------------------------------------------------------------------------------------------------

    async fn newest(&self, path: &str) -> Result<Option<Known>, Error> {
        let object = self.object(path).await?;
        let head = self.versions(path, u64::MAX, 1).await?.into_iter().next();
        let seen = self.memory().seen.get(&object).copied();
        match (&head, seen) {
            (None, Some((version, _))) => return Err(rolled_back(path, 0, version)),
            (Some(k), _) => {
                if self.differs(k) {
                    self.reconcile(path, k).await?;
                }
                self.note(&k.header, k.hash)?;
            }
            (None, None) => {}
        }
        self.keep().await?;
        Ok(head)
    }

    /// Versions of an object that are in conflict, the newest first.
    async fn conflicts(&self, path: &str) -> Result<Vec<Known>, Error> {
        let object = self.object(path).await?;
        let headers = self.patiently(async |session| session.conflicts(Some(object), CONFLICTS).await).await?;
        let mut known = headers.iter().map(|signed| self.know(signed)).collect::<Result<Vec<_>, _>>()?;
        if known.iter().any(|k| k.header.identity.object != object || k.description.path != path) {
            return Err(forged("the domain manager serves versions that do not belong here"));
        }
        known.sort_by_key(|k| std::cmp::Reverse(k.header.identity.version));
        Ok(known)
    }

    /// Whether another version was seen under the same number.
    fn differs(&self, k: &Known) -> bool {
        let seen = self.memory().seen.get(&k.header.identity.object).copied();
        seen.is_some_and(|(version, hash)| version == k.header.identity.version && hash != k.hash)
    }

    /// Takes another version than the one that was seen under the same number, if that one is kept in conflict: two managers did not know of each
    /// other, and one version prevailed. Whether it did.
    async fn reconcile(&self, path: &str, prevailed: &Known) -> Result<bool, Error> {
        let (object, version) = (prevailed.header.identity.object, prevailed.header.identity.version);
        let conflicts = self.conflicts(path).await?;
        let mut memory = self.memory();
        let seen = memory.seen.get(&object).copied();
        let shown = seen.is_some_and(|(number, hash)| {
            number == version && prevails((version, &prevailed.hash), (version, &hash)) && conflicts.iter().any(|k| k.hash == hash)
        });
        if shown {
            memory.see(object, version, prevailed.hash);
        }
        Ok(shown)
    }

    /// The headers of versions up to one, the newest first.
    async fn versions(&self, path: &str, up_to: u64, most: u32) -> Result<Vec<Known>, Error> {
        let object = self.object(path).await?;
        let Answer::Headers(headers) = self.ask(&Request::History { object, up_to, most }).await? else { return Err(self.nonsense()) };
        let mut known: Vec<Known> = Vec::new();
        for signed in headers.iter().take(most as usize) {
            let k = match self.know(signed) {
                // Its key may have come since.
                Err(error) if error.code() == Code::Forbidden => {
                    self.renew_keys().await?;
                    self.know(signed)?
                }
                k => k?,
            };
            let after = known.last().map(|last| (last.header.identity.version, last.header.previous));
            let fits = after.is_none_or(|(version, previous)| k.header.identity.version + 1 == version && previous == k.hash);
            if k.header.identity.object != object || k.header.identity.version > up_to || !fits || k.description.path != path {
                return Err(forged("the domain manager serves versions that do not belong here"));
            }
            known.push(k);
        }
        Ok(known)
    }

    /// Checks and opens a header.
    fn know(&self, signed: &[u8]) -> Result<Known, Error> {
        let header = Header::verify(&self.0.domain, signed).map_err(|r| forged("a header is not what its author signed").caused_by(r))?;
        let memory = self.memory();
        let key = memory.keyring.keys(header.identity.generation).find_map(|key| header.key(key).ok());
        let no_key = || Error::new(Code::Forbidden, "the storage key of this object was not given to this participant");
        let key = key.ok_or_else(|| no_key().hint("Somebody with the right to store has to give it: the domain's owner, for instance"))?;
        drop(memory);
        let opened = key.open_description(&header.description).and_then(|bytes| Description::decode(&bytes));
        let description = opened.map_err(|r| forged("what is said of an object does not open").caused_by(r))?;
        Ok(Known { hash: hash(signed), header, key, description })
    }

    /// Notes a version as seen.
    fn note(&self, header: &Header, hash: [u8; 32]) -> Result<(), Error> {
        let mut memory = self.memory();
        let (object, version) = (header.identity.object, header.identity.version);
        match memory.seen.get(&object) {
            Some((seen, _)) if *seen > version => return Err(rolled_back("an object", version, *seen)),
            Some((seen, known)) if *seen == version && *known != hash => {
                return Err(forged("the domain manager serves two objects as the same version"));
            }
            _ => {}
        }
        memory.see(object, version, hash);
        Ok(())
    }

    /// The object of a path.
    async fn object(&self, path: &str) -> Result<ObjectId, Error> {
        check_path(path)?;
        self.with_keys().await?;
        self.token(path).ok_or_else(keys::none)
    }

    /// The object of a path, if there is a storage key.
    fn token(&self, path: &str) -> Option<ObjectId> {
        Some(keys::token(self.memory().keyring.first()?, &self.0.domain, path))
    }

    // ---- the manager --------------------------------------------------------------------------------------------------

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Managers that are online and that there is a link to, by rank. One that there is none to may have been killed a moment ago: it is
    /// waited for only if there is no other, since the next in rank may lead any moment.
    async fn managers(&self) -> Result<Vec<NodeId>, Trouble> {
        let online = self.0.node.managers(self.0.domain)?.into_iter().filter(Manager::is_another_online);
        match online.map(|m| m.node).collect::<Vec<_>>() {
            none if none.is_empty() => Err(Trouble::Lost(absent())),
            online => reach_any(&self.0.node, self.0.domain, &online).await.map_err(Trouble::Lost),
        }
    }

    /// A stream to a manager that answers.
    async fn session(&self) -> Result<Session, Trouble> {
        let mut last = Trouble::Lost(absent());
        for manager in self.managers().await? {
            let opened = match within(self.0.streams.open(manager)).await {
                Ok(Ok(stream)) => Session::open(stream, self.0.domain).await,
                Ok(Err(error)) => Err(Trouble::Lost(error)),
                Err(trouble) => Err(trouble),
            };
            match opened {
                Ok(session) => return Ok(session),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// A stream to a manager that answers, waited for.
    async fn connect(&self) -> Result<Session, Error> {
        let start = self.0.node.now().mono;
        loop {
            match self.session().await {
                Ok(session) => return Ok(session),
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Lost(error)) if self.0.node.now().mono.since(start) >= PATIENCE => return Err(error),
                Err(Trouble::Lost(_)) => Delay::new(PAUSE).await,
            }
        }
    }

    /// Waits a moment after a stream broke; what was refused, or lost too often, is the end.
    async fn endure(&self, trouble: Trouble, losses: &mut u32) -> Result<(), Error> {
        match trouble {
            Trouble::Lost(_) if *losses < LOSSES => {
                *losses += 1;
                Delay::new(PAUSE).await;
                Ok(())
            }
            trouble => Err(trouble.into()),
        }
    }

    /// Does something on a stream, and again on another one while they break.
    async fn patiently<T>(&self, mut what: impl AsyncFnMut(&mut Session) -> Result<T, Trouble>) -> Result<T, Error> {
        // One that was idle may have broken long ago.
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut next, mut losses) = (idle, 0);
        loop {
            let fresh = next.is_none();
            let mut session = match next.take() {
                Some(session) => session,
                None => self.connect().await?,
            };
            match what(&mut session).await {
                Ok(done) => {
                    *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                    return Ok(done);
                }
                Err(Trouble::Lost(_)) if !fresh => {}
                Err(trouble) => self.endure(trouble, &mut losses).await?,
            }
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        self.patiently(async |session| session.ask(request).await).await
    }

    fn nonsense(&self) -> Error {
        astray().into()
    }
}

fn absent() -> Error {
    Error::new(Code::NoParticipant, "no domain manager is online").hint("Domain data needs it: start it, or wait")
}

fn nothing(path: &str) -> Error {
    Error::new(Code::NoObject, format!("nothing is stored as {path}"))
}

fn forged(what: &'static str) -> Error {
    Error::new(Code::Forged, what).hint("Whoever keeps the data changed it, or its disk is broken")
}

fn rolled_back(path: &str, served: u64, seen: u64) -> Error {
    let what = format!("the domain manager serves version {served} of {path}; version {seen} was seen already");
    Error::new(Code::Forged, what).hint("It lost data, was restored from an old copy, or hides what was stored")
}

/// Whether the newest version is the one that was expected: 0 for none.
fn expect(expected: Option<u64>, head: Option<&Known>) -> Result<(), Error> {
    let there = head.filter(|k| !k.header.is_tombstone()).map_or(0, |k| k.header.identity.version);
    match expected {
        Some(expected) if expected != there => {
            Err(Error::new(Code::Conflict, format!("its newest version is {there}, not {expected}")).hint("Look at that one first"))
        }
        _ => Ok(()),
    }
}
