//! Who does the work: takes what demanders send, as far as there is room.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::channel::mpsc;
use futures::future::{BoxFuture, Either, pending, select, try_join};
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncReadExt, FutureExt, SinkExt, Stream, StreamExt, TryStreamExt};
use futures_timer::Delay;

use super::audience::{Audience, admits};
use super::flow::{Flow, Piece, broken_off, hear, speak};
use super::shelf::{Keeping, Shelf};
use super::{BEAT, HOLD, OPEN, SILENT, framed, within};
use crate::base::{Code, DomainId, Error, Map, NodeId, Reject};
use crate::crypto::Role;
use crate::proto::directory::Capability;
use crate::proto::task::credit::{Receiving, Sending};
use crate::proto::task::message::{Kept, PART, Reply, Request, ResultKey};
use crate::proto::task::{TaskId, Ticket};
use crate::runtime::handle::Node;
use crate::runtime::streams::{ByteStream, Frames, Places, Streams, reach};

/// Streams at once, and of one demander.
const STREAMS: usize = 512;
const EACH: usize = 64;
/// Tickets that are remembered, so that none is taken twice.
const TICKETS: usize = 4_096;
/// How full a supplier is, it tells so often at most: what is over sooner is not worth a record that everybody gets.
const TELL: Duration = Duration::from_secs(5);
/// Messages between a stream and the work.
const QUEUE: usize = 4;
/// The longest that anything may take.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Something a participant does for others.
pub trait Work: Send + Sync {
    /// Does it once. Dropped before its end, it was cancelled.
    ///
    /// # Errors
    /// What its demander is told. A [retryable](Code::retryable) code sends the task to another supplier.
    fn run(&self, job: Job) -> BoxFuture<'static, Result<(), Error>>;
}

/// A task to be done.
pub struct Job {
    /// Who asks, for what, and under which name.
    pub ticket: Ticket,
    /// What is sent along. It ends as an error where its demander is gone in the middle of it.
    pub input: Pin<Box<dyn AsyncRead + Send>>,
    output: mpsc::Sender<Reply>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Job {
    /// Puts out more; returns when there is room for that.
    ///
    /// # Errors
    /// [`Code::Aborted`] if the demander is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for part in bytes.chunks(PART) {
            self.say(Reply::Output(part.to_vec())).await?;
        }
        Ok(())
    }

    /// Says how far it is, in the capability's own form. What is over 64 KiB is cut.
    ///
    /// # Errors
    /// As [`Job::write`].
    pub async fn progress(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.say(Reply::Progress(bytes[..bytes.len().min(PART)].to_vec())).await
    }

    /// Another hand on the output, for what is put out at the same time.
    #[must_use]
    pub fn another(&self) -> Job {
        Job { ticket: self.ticket.clone(), input: Box::pin(futures::io::empty()), output: self.output.clone() }
    }

    async fn say(&mut self, reply: Reply) -> Result<(), Error> {
        self.output.send(reply).await.map_err(|_| Error::new(Code::Aborted, "the demander is gone"))
    }
}

struct Offered {
    capability: Capability,
    work: Arc<dyn Work>,
    running: u32,
    /// The load that was told.
    told: u8,
}

impl Offered {
    /// How busy it is: by what it does for others, or more by its own word.
    fn load(&self) -> u8 {
        let percent = (u64::from(self.running) * 100).div_ceil(self.capability.capacity.max(1).into());
        self.capability.load.max(percent.min(100) as u8)
    }

    /// What is advertised of it.
    fn advertised(&mut self) -> Capability {
        self.told = self.load();
        Capability { load: self.told, ..self.capability.clone() }
    }
}

/// Of the tickets that were taken the newest attempt at each place.
#[derive(Default)]
struct Taken {
    attempts: Map<(NodeId, TaskId, u16), u32>,
    order: VecDeque<(NodeId, TaskId, u16)>,
}

impl Taken {
    /// Whether this one, or a later attempt at its place, was taken before.
    fn has(&self, ticket: &Ticket) -> bool {
        let key = (ticket.demander, ticket.task, ticket.seat.place);
        self.attempts.get(&key).is_some_and(|attempt| *attempt >= ticket.seat.attempt)
    }

    fn add(&mut self, ticket: &Ticket) {
        let key = (ticket.demander, ticket.task, ticket.seat.place);
        if self.attempts.insert(key, ticket.seat.attempt).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > TICKETS
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
    }
}

/// What a participant offers, in each domain that it is in.
pub struct Supplier {
    node: Node,
    offered: Mutex<Map<(DomainId, String), Offered>>,
    taken: Mutex<Taken>,
    places: Arc<Places>,
    /// To those that keep what a task here begins with.
    streams: Arc<dyn Streams>,
    shelf: Arc<Shelf>,
}

impl fmt::Debug for Supplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supplier").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supplier {
    /// Offers nothing yet. `streams` are those of the task protocol; on the shelf results are kept for other suppliers.
    #[must_use]
    pub fn new(node: Node, streams: Arc<dyn Streams>, shelf: Arc<Shelf>) -> Arc<Supplier> {
        let places = Places::new(STREAMS, EACH);
        Arc::new(Supplier { node, offered: Mutex::default(), taken: Mutex::default(), places, streams, shelf })
    }

    /// Offers to do something, as often at once as the capability's capacity says, and advertises it besides what is advertised already.
    /// Offered again it is replaced; what runs goes on. With the attribute [`FOR`](super::FOR) it is for an [`Audience`] only.
    ///
    /// # Errors
    /// As [`Node::advertise`] and [`Audience::of`].
    pub fn offer(&self, domain: DomainId, capability: Capability, work: Arc<dyn Work>) -> Result<(), Error> {
        Audience::of(&capability)?;
        let mut offered = lock(&self.offered);
        let mut all = self.node.capabilities(domain)?;
        all.retain(|c| c.name != capability.name);
        let key = (domain, capability.name.clone());
        let running = offered.get(&key).map_or(0, |o| o.running);
        let mut offer = Offered { capability, work, running, told: 0 };
        all.push(offer.advertised());
        self.node.advertise(domain, all)?;
        offered.insert(key, offer);
        Ok(())
    }

    /// Offers something no longer. What runs goes on.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain: it is not offered there any more all the same.
    pub fn withdraw(&self, domain: DomainId, name: &str) -> Result<(), Error> {
        let mut offered = lock(&self.offered);
        offered.remove(&(domain, name.to_owned()));
        let mut all = self.node.capabilities(domain)?;
        all.retain(|c| c.name != name);
        self.node.advertise(domain, all)
    }

    /// Advertises these, and what is offered besides, in place of all that was advertised before.
    ///
    /// # Errors
    /// As [`Node::advertise`].
    pub fn advertise(&self, domain: DomainId, mut capabilities: Vec<Capability>) -> Result<(), Error> {
        let mut offered = lock(&self.offered);
        for (_, offer) in offered.iter_mut().filter(|((d, _), _)| *d == domain) {
            capabilities.retain(|c| c.name != offer.capability.name);
            capabilities.push(offer.advertised());
        }
        self.node.advertise(domain, capabilities)
    }

    /// Tells how full it is: others may wait for it elsewhere than at who gave it its tasks. Who left a domain tells nothing there.
    fn tell(&self, offer: &mut Offered, domain: DomainId) {
        let Ok(mut all) = self.node.capabilities(domain) else { return };
        all.retain(|c| c.name != offer.capability.name);
        all.push(offer.advertised());
        let _ = self.node.advertise(domain, all);
    }

    async fn keep_telling(&self) {
        loop {
            Delay::new(TELL).await;
            for ((domain, _), offer) in lock(&self.offered).iter_mut() {
                let load = offer.load();
                // Not of every one of many.
                if load.abs_diff(offer.told) >= 10 || (load != offer.told && matches!(load, 0 | 100)) {
                    self.tell(offer, *domain);
                }
            }
        }
    }

    /// Serves those who open a stream of the task protocol, until there are no more.
    pub async fn serve(self: Arc<Self>, incoming: impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Unpin) {
        let telling = Arc::clone(&self);
        select(pin!(self.listen(incoming)), pin!(telling.keep_telling())).await;
    }

    async fn listen(self: Arc<Self>, mut incoming: impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Unpin) {
        let mut all = FuturesUnordered::new();
        loop {
            // Without any there is no end of one to wait for.
            let ended = async {
                if all.next().await.is_none() {
                    pending().await
                }
            };
            let Either::Left((next, _)) = select(incoming.next(), pin!(ended)).await else { continue };
            let Some((demander, stream)) = next else { break };
            let Some(place) = self.places.take(demander) else { continue };
            let supplier = Arc::clone(&self);
            all.push(async move {
                if let Err(error) = supplier.converse(demander, framed(stream)).await {
                    tracing::debug!(%demander, "a task was not done: {}", error.one_line());
                }
                drop(place);
            });
        }
        while all.next().await.is_some() {}
    }

    async fn converse(&self, demander: NodeId, mut frames: Frames) -> Result<(), Error> {
        let gone = || Error::new(Code::Timeout, "the demander says nothing");
        let first = within(OPEN, frames.next()).await.flatten().ok_or_else(gone)?.map_err(broken)?;
        let request = Request::decode(&first).map_err(|r| Error::new(r.code(), "the demander makes no sense"));
        if let Ok(Request::Take { domain, key }) = request {
            return self.give(demander, domain, key, frames).await;
        }
        let (begun, room) = match request.and_then(|request| self.begin(demander, request)) {
            Ok(begun) => begun,
            Err(error) => return refuse(frames, error).await,
        };
        say(&mut frames, &Reply::Begun).await?;
        let Begun { domain, time, ticket, work, mut keeping } = begun;
        let (sink, stream) = frames.split();
        let ((give, take), (out, said)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let flow = Flow::default();
        let whole = Arc::new(AtomicBool::new(false));
        let job = Job { ticket, input: Box::pin(take.chain(broken_off(Arc::clone(&whole))).into_async_read()), output: out };
        // Why the input cannot be gone on with.
        let lost = Mutex::new(None);
        let talking = async {
            // The work's end drops the job, and with it ends what it has to say. Who cannot be spoken to needs no work.
            let (result, (mut sink, unkept)) = try_join(work.run(job).map(Ok), speak(sink, said, keeping.as_mut(), &flow)).await?;
            // What the work says of an input or output that broke is of no account.
            let result = unkept.or_else(|| lock(&lost).take()).map_or(result, Err);
            // What is only kept takes no place of another's.
            drop(room);
            let last = match (&result, &mut keeping) {
                (Ok(()), None) => Reply::Done,
                (Ok(()), Some(keeping)) => keeping.list().map_or_else(|e| refusal(&e), |(size, hash)| Reply::Kept { size, hash }),
                (Err(error), _) => refusal(error),
            };
            sink.send(Bytes::from(last.encode())).await.map_err(broken)?;
            if matches!(last, Reply::Kept { .. }) {
                // Until the demander needs it no more, and ends the stream.
                loop {
                    Delay::new(BEAT).await;
                    sink.send(Bytes::from(Reply::Alive.encode())).await.map_err(broken)?;
                }
            }
            // Until the demander has all of it.
            sink.close().await.map_err(broken)?;
            result
        };
        let hearing = async {
            let feeding = self.feed(domain, give, &whole, &lost, &flow);
            select(pin!(hear(stream, &flow)), pin!(select(pin!(feeding), pin!(hold(&self.node, domain, demander))))).await;
        };
        match select(select(pin!(talking), pin!(hearing)), Delay::new(time.min(LONGEST))).await {
            Either::Left((Either::Left((result, _)), _)) => result,
            Either::Left((Either::Right(_), _)) => Err(Error::new(Code::Aborted, "the demander ended it")),
            Either::Right(_) => Err(Error::new(Code::Timeout, "its time is over")),
        }
    }

    /// Gives a result that is kept here to another supplier.
    async fn give(&self, to: NodeId, domain: DomainId, key: ResultKey, mut frames: Frames) -> Result<(), Error> {
        let found = if self.node.is_member(domain, to) { self.shelf.find(domain, key) } else { None };
        let Some(spool) = found else {
            return refuse(frames, Error::new(Code::NoObject, "no such result is kept here")).await;
        };
        let unread = |e| Error::new(Code::Storage, "a kept result cannot be read").caused_by(e);
        let giving = async {
            let (mut content, mut part) = (spool.read().await.map_err(unread)?, vec![0; PART]);
            let (gone, mut sending) = (|| Error::new(Code::Aborted, "who takes it is gone"), Sending::default());
            loop {
                while sending.credit() == 0 {
                    let said = frames.next().await.ok_or_else(gone)?.map_err(broken)?;
                    let more =
                        if let Ok(Request::Credit(more)) = Request::decode(&said) { sending.more(more) } else { Err(Reject::Malformed) };
                    more.map_err(|r| Error::new(r.code(), "who takes it makes no sense"))?;
                }
                let most = sending.credit().min(PART);
                match content.read(&mut part[..most]).await.map_err(unread)? {
                    0 => break,
                    n => {
                        sending.sent(n);
                        frames.send(Bytes::from(Reply::Output(part[..n].to_vec()).encode())).await.map_err(broken)?;
                    }
                }
            }
            frames.send(Bytes::from(Reply::Done.encode())).await.map_err(broken)?;
            frames.close().await.map_err(broken)
        };
        match select(pin!(giving), pin!(hold(&self.node, domain, to))).await {
            Either::Left((given, _)) => given,
            Either::Right(_) => Err(Error::new(Code::Forbidden, "only members of the domain are served")),
        }
    }

    /// Looks whether this may begin, and takes room for it.
    fn begin(&self, demander: NodeId, request: Request) -> Result<(Begun, Room<'_>), Error> {
        let Request::Begin { domain, time, keep, ticket } = request else {
            return Err(Error::new(Code::Malformed, "a task begins with a ticket"));
        };
        if !self.node.is_member(domain, demander) {
            return Err(Error::new(Code::Forbidden, "only members of the domain are served"));
        }
        let wrong = |r: Reject| Error::new(r.code(), "the ticket is not for this");
        let ticket = Ticket::verify(&domain, &ticket).map_err(wrong)?;
        let may_pair = |issuer: NodeId| {
            issuer == demander
                || self
                    .node
                    .look_at_keys(domain, |m, _, _, now| m.member(now, &issuer).is_some_and(|m| m.role == Role::Manager))
                    .unwrap_or(false)
        };
        if !may_pair(ticket.issuer) {
            return Err(Error::new(Code::Forbidden, "the ticket's issuer may not pair"));
        }
        ticket.admits(self.node.now().wall, &demander, &self.node.id(), &ticket.capability).map_err(wrong)?;
        let (key, mut offered) = ((domain, ticket.capability.clone()), lock(&self.offered));
        let Some(entry) = offered.get_mut(&key) else {
            return Err(Error::new(Code::NoParticipant, "this is not offered here"));
        };
        if !admits(&self.node, domain, &entry.capability, &demander) {
            return Err(Error::new(Code::Forbidden, "this is not for who asks for it"));
        }
        if entry.running >= entry.capability.capacity {
            return Err(Error::new(Code::Busy, "there is no room for another task"));
        }
        let mut taken = lock(&self.taken);
        // It pairs once: whoever wants more of its supplier is paired again.
        if taken.has(&ticket) {
            return Err(Error::new(Reject::Stale.code(), "the ticket was shown before"));
        }
        let keeping = keep.map(|key| self.shelf.begin(domain, demander, key)).transpose()?;
        taken.add(&ticket);
        entry.running += 1;
        let work = Arc::clone(&entry.work);
        drop((taken, offered));
        Ok((Begun { domain, time, ticket, work, keeping }, Room { supplier: self, key }))
    }

    /// Hands the input on to the work as it takes it. Does not return: that the demander is gone is heard elsewhere.
    async fn feed(
        &self,
        domain: DomainId,
        give: mpsc::Sender<io::Result<Vec<u8>>>,
        whole: &AtomicBool,
        lost: &Mutex<Option<Error>>,
        flow: &Flow,
    ) {
        let mut give = Some(give);
        loop {
            match flow.next().await {
                Piece::Own(bytes) => {
                    let length = bytes.len();
                    // Work that wants no more input is not bothered with it.
                    if let Some(sender) = &mut give {
                        let _ = sender.send(Ok(bytes)).await;
                    }
                    lock(&flow.receiving).taken(length);
                    flow.speaker.wake();
                }
                Piece::Kept(kept) => {
                    if let Some(sender) = &mut give
                        && let Err(error) = self.fetch(domain, &kept, sender).await
                    {
                        *lock(lost) = Some(error);
                        give = None;
                    }
                }
                Piece::End => {
                    whole.store(give.is_some(), Ordering::Release);
                    give = None;
                }
            }
        }
    }

    /// Hands on what another supplier keeps, or this one itself. That it is what it was said to be shows at its end.
    async fn fetch(&self, domain: DomainId, kept: &Kept, give: &mut mpsc::Sender<io::Result<Vec<u8>>>) -> Result<(), Error> {
        let lost = |why: &'static str| move || Error::new(Code::InputLost, why);
        let gone = lost("who kept a result that this begins with does not give it");
        let mut parts = if kept.holder == self.node.id() {
            let spool = self.shelf.find(domain, kept.key).ok_or_else(gone)?;
            Parts::Here(spool.read().await.map_err(|e| gone().caused_by(e))?)
        } else {
            reach(&self.node, domain, kept.holder).await.map_err(|e| gone().caused_by(e))?;
            let opened = within(OPEN, self.streams.open(kept.holder)).await.ok_or_else(gone)?;
            let mut frames = framed(opened.map_err(|e| gone().caused_by(e))?);
            let request = Request::Take { domain, key: kept.key };
            within(OPEN, frames.send(Bytes::from(request.encode()))).await.ok_or_else(gone)?.map_err(|e| gone().caused_by(e))?;
            Parts::There(Box::new(frames), Receiving::default(), 0)
        };
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0_u64);
        while let Some(part) = parts.next().await.ok_or_else(gone)? {
            size += part.len() as u64;
            if size > kept.size {
                break;
            }
            hasher.update(&part);
            if give.send(Ok(part)).await.is_err() {
                // The work wants no more of it.
                return Ok(());
            }
        }
        let same = size == kept.size && hasher.finalize() == blake3::Hash::from_bytes(kept.hash);
        if same { Ok(()) } else { Err(lost("a result that this begins with is not what it was said to be")()) }
    }
}

/// Where a kept result comes from.
enum Parts {
    Here(Box<dyn AsyncRead + Send + Unpin>),
    /// The stream, what may come on it, and how long the part was that came last.
    There(Box<Frames>, Receiving, usize),
}

impl Parts {
    /// The next part, none at the end; nothing if it fails.
    async fn next(&mut self) -> Option<Option<Vec<u8>>> {
        match self {
            Parts::Here(content) => {
                let mut part = vec![0; PART];
                let n = content.read(&mut part).await.ok()?;
                part.truncate(n);
                Some((n > 0).then_some(part))
            }
            Parts::There(frames, receiving, last) => {
                receiving.taken(std::mem::take(last));
                if let Some(credit) = receiving.due() {
                    within(SILENT, frames.send(Bytes::from(Request::Credit(credit).encode()))).await?.ok()?;
                }
                match Reply::decode(&within(SILENT, frames.next()).await??.ok()?).ok()? {
                    Reply::Output(part) => {
                        *last = part.len();
                        receiving.came(*last).ok()?;
                        Some(Some(part))
                    }
                    Reply::Done => Some(None),
                    _ => None,
                }
            }
        }
    }
}

/// What may begin.
struct Begun {
    domain: DomainId,
    time: Duration,
    ticket: Ticket,
    work: Arc<dyn Work>,
    keeping: Option<Keeping>,
}

pub(super) fn broken(cause: io::Error) -> Error {
    Error::new(Code::Unreachable, "the stream to the demander broke").caused_by(cause)
}

fn refusal(error: &Error) -> Reply {
    Reply::Error { code: error.code(), message: error.message().to_owned() }
}

/// Says why not.
async fn refuse(mut frames: Frames, error: Error) -> Result<(), Error> {
    say(&mut frames, &refusal(&error)).await?;
    // Or the stream could be torn down with the answer still in it.
    let _ = within(OPEN, frames.close()).await;
    Err(error)
}

async fn say(frames: &mut Frames, reply: &Reply) -> Result<(), Error> {
    let sent = within(OPEN, frames.send(Bytes::from(reply.encode()))).await;
    sent.ok_or_else(|| Error::new(Code::Timeout, "the demander does not listen"))?.map_err(broken)
}

/// Keeps the link while the demander is a member.
async fn hold(node: &Node, domain: DomainId, demander: NodeId) {
    while node.is_member(domain, demander) {
        node.want_link(domain, demander);
        Delay::new(HOLD).await;
    }
}

/// One of the tasks that a capability has room for.
struct Room<'a> {
    supplier: &'a Supplier,
    key: (DomainId, String),
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.supplier.offered).get_mut(&self.key) {
            // Withdrawn and offered again meanwhile it counts from nothing.
            entry.running = entry.running.saturating_sub(1);
            // At once: it is waited for.
            if entry.load() < entry.told {
                self.supplier.tell(entry, self.key.0);
            }
        }
    }
}
