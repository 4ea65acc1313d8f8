//! One manager among several of a domain: who of them leads, and how what the others store comes to be here.
//!
//! Each follows each other one that is online: it asks for what it does not have, and its asking for more says that it has the rest on disk. The
//! highest-ranked one leads: participants store with it, and it acknowledges what those who keep up have too. Before it leads it has
//! those below it yield, and catches up with what they stored. So of two that see each other only one takes anything; two that do not
//! may both, and what each took is there in both once they see each other again, in conflict where it has to be.
//!
//! Decision 0030.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::domain::storage::LOCKBOXES;
use super::objects::{Service, blocking, now};
use crate::base::{Code, DomainId, Error, NodeId};
use crate::crypto::object::CHUNK;
use crate::peer::Manager;
use crate::proto::objects::message::{Answer, Request, UNDERWAY};
use crate::proto::objects::{Ahead, Cursor, Header, Progress, Put, PutId, Quota, hash};
use crate::runtime::data::session::{Session, Trouble, astray};
use crate::runtime::handle::Node;
use crate::runtime::objects::ObjectStore;
use crate::runtime::streams::{Streams, reach};

/// How often it is looked who is there.
const LOOK: Duration = Duration::from_millis(250);
/// How long a manager that has just started waits to hear of another one, and one that ends for those who follow.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the first in rank tries to catch up with the others before it leads without.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries to follow.
const PAUSE: Duration = Duration::from_secs(1);
/// Chunks asked for at once: 4 MiB.
const BATCH: u64 = 64;
/// Versions of an object looked at.
const PAGE: u32 = 64;
/// Versions in conflict taken from another manager at once.
const CONFLICTS: usize = 4_096;

/// What happens among managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This one leads.
    Leads,
    /// It stands by.
    StandsBy,
    /// Another one follows and has everything.
    Followed(NodeId),
}

/// What is known of another manager.
#[derive(Clone, Copy, Default)]
struct Other {
    /// Up to where its versions are here.
    since: Cursor,
    /// The digest of its texts that are here.
    digest: [u8; 32],
    /// Whether all is here, and it leads no more if this one is to.
    caught_up: bool,
}

/// How two managers stand to each other.
#[derive(Clone, Copy)]
struct Standing {
    /// The other one is online.
    online: bool,
    /// It comes after this one.
    junior: bool,
    /// Of those online it is the first, or this one is.
    first: bool,
    self_first: bool,
}

/// One manager among several.
pub struct Replica {
    node: Node,
    domain: DomainId,
    service: Arc<Service>,
    store: Arc<dyn ObjectStore>,
    streams: Arc<dyn Streams>,
    quota: Quota,
    others: Mutex<BTreeMap<NodeId, Other>>,
}

/// Whether trouble with one version is no reason to stop: it makes no sense, or there is a newer one by now.
fn is_passing(error: &Error) -> bool {
    matches!(error.code(), Code::Malformed | Code::NoObject | Code::Conflict)
}

impl Replica {
    /// A manager with this data service, which opens streams of its protocol to others.
    pub fn new(node: Node, service: Arc<Service>, streams: Arc<dyn Streams>, quota: Quota) -> Arc<Replica> {
        let store = service.store();
        Arc::new(Replica { node, domain: store.domain(), service, store, streams, quota, others: Mutex::default() })
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<NodeId, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the others, and leads when it is this one's turn; `told` hears of it. Ends with the node.
    pub async fn run(self: Arc<Self>, mut told: impl FnMut(Turn)) {
        let (start, mut following) = (Instant::now(), JoinSet::new());
        let mut followed: BTreeSet<NodeId> = BTreeSet::new();
        let (mut keeping_up, mut led, mut met): (Vec<NodeId>, _, _) = (Vec::new(), false, false);
        // Since when nobody before this one has been there.
        let mut first_since: Option<Instant> = None;
        while let Ok(managers) = self.node.managers(self.domain) {
            let online = |m: &&Manager| m.is_another_online();
            for manager in managers.iter().filter(online) {
                if followed.insert(manager.node) {
                    let (replica, to) = (Arc::clone(&self), manager.node);
                    following.spawn(async move { replica.follow(to).await });
                }
            }
            while let Some(ended) = following.try_join_next() {
                // One that panicked is not followed any more; it cannot be told which one that was.
                if let Ok(node) = ended {
                    followed.remove(&node);
                }
            }
            let alone = managers.iter().all(|m| m.is_self);
            met |= managers.iter().any(|m| online(&m));
            let senior = managers.iter().take_while(|m| !m.is_self).any(|m| online(&m));
            let since = *first_since.get_or_insert_with(Instant::now);
            first_since = first_since.filter(|_| !senior);
            let leads = self.service.leads().await;
            if !leads && !senior && (alone || met || start.elapsed() >= SETTLE) {
                let caught_up = |m: &Manager| self.others().get(&m.node).is_some_and(|o| o.caught_up);
                if managers.iter().filter(online).all(caught_up) || since.elapsed() >= PATIENCE {
                    self.service.lead(true).await;
                }
            }
            let leads = self.service.leads().await;
            if leads != led {
                told(if leads { Turn::Leads } else { Turn::StandsBy });
                led = leads;
            }
            let now = self.service.followers().keeping_up();
            now.iter().filter(|n| !keeping_up.contains(n)).for_each(|n| told(Turn::Followed(*n)));
            keeping_up = now;
            sleep(LOOK).await;
        }
    }

    /// Ends the lead: what is acknowledged is on those who keep up, and another one takes over.
    pub async fn hand_over(&self) {
        self.service.lead(false).await;
        let settled = timeout(SETTLE, self.service.settle()).await;
        if !matches!(settled, Ok(Ok(()))) {
            tracing::warn!("the managers that follow may not have everything");
        }
    }

    /// How this one and another manager stand to each other now.
    fn standing(&self, node: NodeId) -> Result<Standing, Error> {
        let managers = self.node.managers(self.domain)?;
        let first = managers.iter().find(|m| m.is_self || m.is_another_online());
        Ok(Standing {
            online: managers.iter().any(|m| m.node == node && m.is_another_online()),
            junior: managers.iter().skip_while(|m| !m.is_self).any(|m| m.node == node),
            self_first: first.is_some_and(|m| m.is_self),
            first: first.is_some_and(|m| m.node == node),
        })
    }

    /// Follows another manager for as long as it is online: its id in the end.
    async fn follow(&self, to: NodeId) -> NodeId {
        let mut last = None;
        loop {
            let Err(trouble) = self.follow_once(to).await;
            self.others().entry(to).or_default().caught_up = false;
            let error = Error::from(trouble);
            if last.replace(error.code()) != Some(error.code()) {
                tracing::warn!(manager = %to, "another manager is not followed at the moment: {}", error.one_line());
            }
            sleep(PAUSE).await;
            if !self.standing(to).is_ok_and(|s| s.online) {
                return to;
            }
        }
    }

    async fn follow_once(&self, to: NodeId) -> Result<std::convert::Infallible, Trouble> {
        reach(&self.node, self.domain, to).await?;
        let mut session = Session::open(self.streams.open(to).await?, self.domain).await?;
        let mut goal = None;
        let Other { mut since, mut digest, .. } = self.others().get(&to).copied().unwrap_or_default();
        loop {
            let standing = self.standing(to)?;
            if standing.junior && goal.is_none() {
                let Answer::Committed(last) = session.ask(&Request::Yield).await? else { return Err(astray()) };
                goal = Some(last);
            }
            let mut puts: Vec<(PutId, u64)> = self.store.puts().iter().map(|u| (u.put.id, u.durable)).collect();
            puts.truncate(UNDERWAY);
            let Answer::Ahead(ahead) = session.ask(&Request::Follow { since, digest, puts }).await? else { return Err(astray()) };
            let leads = self.service.leads().await;
            if !leads && standing.first && ahead.leads {
                self.drop_ended(&ahead).await?;
            }
            for signed in &ahead.changes.headers {
                let taken = self.take(&mut session, signed).await;
                self.passing(taken)?;
            }
            since = ahead.changes.next;
            // A manager that leads has its puts from their authors; one that is about to takes those of whoever led; the others those of the first.
            let wanted = !leads && (standing.self_first || standing.first && ahead.leads);
            let mirrored = !wanted || self.mirror(&mut session, &ahead).await?;
            if ahead.digest != digest {
                self.take_texts(&mut session).await?;
                self.take_conflicts(&mut session).await?;
                digest = ahead.digest;
            }
            // One below this one that leads, again or still, did not hear that it is to yield, or forgot.
            if standing.junior && ahead.leads {
                goal = None;
            }
            let reached = !standing.junior || goal.is_some_and(|goal| goal.epoch == since.epoch && since.at >= goal.at);
            let caught_up = ahead.changes.headers.is_empty() && mirrored && reached;
            self.others().insert(to, Other { since, digest, caught_up });
            if !mirrored && ahead.changes.headers.is_empty() {
                // There is no room for it, or it just ended: it is told of again at once.
                sleep(PAUSE).await;
            }
        }
    }

    /// What is no reason to stop following is only told.
    fn passing(&self, taken: Result<(), Trouble>) -> Result<(), Trouble> {
        match taken {
            Err(Trouble::Refused(error)) if is_passing(&error) => {
                tracing::debug!("a version of another manager was passed over: {}", error.one_line());
                Ok(())
            }
            taken => taken,
        }
    }

    /// Takes a version that another manager has, with those before it.
    async fn take(&self, session: &mut Session, signed: &[u8]) -> Result<(), Trouble> {
        let Some((header, here)) = self.missing(signed).await? else { return Ok(()) };
        let object = header.identity.object;
        let request = Request::History { object, up_to: header.identity.version, most: PAGE };
        let Answer::Headers(mut chain) = session.ask(&request).await? else { return Err(astray()) };
        if chain.first().is_none_or(|newest| newest != signed) {
            // Another one took its place meanwhile, and is told of next.
            return Ok(());
        }
        let known = chain.iter().position(|signed| here.contains(signed));
        for (age, signed) in chain.iter().take(known.unwrap_or(usize::MAX)).take(self.quota.versions).enumerate() {
            let header = self.verify(signed)?;
            let identity = header.identity;
            let chunks = |from, count| Request::Chunks { object, version: identity.version, from, count };
            match self.fetch(session, &Put::of(&header), header.chunks(), chunks).await {
                // The content of an older one may be kept no more, or its author gave two versions one name.
                Err(Trouble::Refused(error)) if age > 0 && matches!(error.code(), Code::NoObject | Code::Forbidden) => {}
                fetched => drop(fetched?),
            }
        }
        chain.truncate(known.map_or(usize::MAX, |at| at + 1));
        match self.import(chain.clone()).await {
            // What another manager called the same put were other chunks. They are dropped: these are this one's.
            Err(Trouble::Refused(error)) if error.code() == Code::Forged => {
                let chunks = |from, count| Request::Chunks { object, version: header.identity.version, from, count };
                self.fetch(session, &Put::of(&header), header.chunks(), chunks).await?;
                self.import(chain).await
            }
            imported => imported,
        }
    }

    async fn import(&self, chain: Vec<Vec<u8>>) -> Result<(), Trouble> {
        let store = Arc::clone(&self.store);
        blocking(move || store.import(now(), &chain)).await?;
        self.service.stored();
        Ok(())
    }

    fn verify(&self, signed: &[u8]) -> Result<Header, Error> {
        Header::verify(&self.domain, signed).map_err(|r| Error::new(r.code(), "a header is not what its author signed"))
    }

    /// A header of a version that is not here, not even in conflict; and those of the object that are, the newest first.
    async fn missing(&self, signed: &[u8]) -> Result<Option<(Header, Vec<Vec<u8>>)>, Error> {
        let Ok(header) = self.verify(signed) else {
            tracing::debug!("what another manager has is no header");
            return Ok(None);
        };
        let (object, version) = (header.identity.object, header.identity.version);
        let store = Arc::clone(&self.store);
        let known = blocking(move || {
            let newest = store.history(&object, u64::MAX, PAGE as usize)?;
            Ok((newest, store.conflicts(Some(&object))?))
        });
        let (newest, conflicts) = known.await?;
        // Older than all that is known of it here: whoever has that was away, and finds out itself what it is worth.
        let oldest = newest.last().and_then(|signed| self.verify(signed).ok()).map_or(0, |h| h.identity.version);
        let known = oldest > version || newest.iter().chain(&conflicts).any(|known| known == signed);
        Ok((!known).then_some((header, newest)))
    }

    /// Has the chunks of a put here, as far as there are `chunks`: those that are missing are asked for.
    async fn fetch(
        &self,
        session: &mut Session,
        put: &Put,
        chunks: u64,
        request: impl Fn(u64, u32) -> Request,
    ) -> Result<Progress, Trouble> {
        if chunks == 0 {
            return Ok(Progress::default());
        }
        let (store, put) = (Arc::clone(&self.store), *put);
        let mut progress = blocking(move || store.mirror(now(), &put)).await?;
        while progress.written < chunks {
            let (start, count) = (progress.written, BATCH.min(chunks - progress.written));
            session.send(&request(start, count as u32)).await?;
            for index in start..start + count {
                let Answer::Chunk(bytes) = session.answer().await? else { return Err(astray()) };
                let store = Arc::clone(&self.store);
                match blocking(move || store.append(now(), &put.id, index, &bytes)).await {
                    Ok(more) => progress = more,
                    Err(error) => {
                        // The answers that are still to come belong to nothing.
                        for _ in index + 1..start + count {
                            session.answer().await?;
                        }
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(progress)
    }

    /// Has what is under way elsewhere here too: whether all of it is here.
    async fn mirror(&self, session: &mut Session, ahead: &Ahead) -> Result<bool, Trouble> {
        let (mut all, mut here) = (true, self.store.puts().iter().map(|u| u.put.id).collect::<BTreeSet<PutId>>());
        for underway in ahead.puts.iter().filter(|u| u.durable > 0) {
            let id = underway.put.id;
            let member = self.node.is_member(self.domain, underway.put.author);
            if !member || (here.len() >= UNDERWAY && !here.contains(&id)) {
                continue;
            }
            here.insert(id);
            let parts = |from, count| Request::Parts { put: id, from, count };
            match self.fetch(session, &underway.put, underway.durable, parts).await {
                Ok(progress) => all &= progress.durable >= underway.durable,
                // It ended there meanwhile, or there is no room for it here: its author begins anew if this manager has to go on with it.
                Err(Trouble::Refused(error)) if matches!(error.code(), Code::NoObject | Code::Quota | Code::Forbidden) => all = false,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(all)
    }

    /// Drops what is under way here and ended where it came from, and is no version that is told of with this.
    async fn drop_ended(&self, ahead: &Ahead) -> Result<(), Trouble> {
        if ahead.puts.len() >= UNDERWAY || ahead.changes.more {
            return Ok(());
        }
        let versions = ahead.changes.headers.iter().filter_map(|signed| Some(self.verify(signed).ok()?.commitment));
        let there: BTreeSet<PutId> = ahead.puts.iter().map(|u| u.put.id).chain(versions).collect();
        for underway in self.store.puts().into_iter().filter(|u| !there.contains(&u.put.id)) {
            let store = Arc::clone(&self.store);
            blocking(move || store.abandon(&underway.put.author, &underway.put.id)).await?;
        }
        Ok(())
    }

    /// Takes lockboxes and enrolments.
    async fn take_texts(&self, session: &mut Session) -> Result<(), Trouble> {
        let lockboxes = session.lockboxes(LOCKBOXES).await?;
        let Answer::Enrolments(enrolments) = session.ask(&Request::Enrolments).await? else { return Err(astray()) };
        Ok(self.service.adopt(&lockboxes, &enrolments)?)
    }

    /// Takes versions in conflict.
    async fn take_conflicts(&self, session: &mut Session) -> Result<(), Trouble> {
        for signed in session.conflicts(None, CONFLICTS).await? {
            let taken = self.take_conflict(session, signed).await;
            self.passing(taken)?;
        }
        Ok(())
    }

    async fn take_conflict(&self, session: &mut Session, signed: Vec<u8>) -> Result<(), Trouble> {
        let Some((header, _)) = self.missing(&signed).await? else { return Ok(()) };
        let name = hash(&signed);
        self.fetch(session, &Put::of(&header), header.chunks(), |from, count| Request::Parts { put: name, from, count }).await?;
        self.import(vec![signed]).await
    }
}

/// A batch of chunks is a bounded part of memory on the way.
const _: () = assert!(BATCH as usize * CHUNK <= 8 << 20);
