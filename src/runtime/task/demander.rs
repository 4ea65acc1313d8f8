//! Who asks: finds a supplier, sends the input, and takes what comes back; when the supplier fails, finds another and begins again.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::{AsyncRead, Sink, SinkExt, StreamExt};
use futures_timer::Delay;

use super::{HOLD, OPEN, framed, within};
use crate::base::{Code, DomainId, Error, Mono, NodeId};
use crate::crypto::Role;
use crate::proto::directory::{Capability, Predicate, Query, Status};
use crate::proto::task::message::{PART, Reply, Request};
use crate::proto::task::{self, Config, Demand, Effect, End, Failure, Ledger, Offer, Policy, Preference, Seat, TaskId, Ticket, Word};
use crate::runtime::handle::Node;
use crate::runtime::streams::{Frames, Streams, reach};

/// While nobody is free the directory is looked at so often.
const LOOK: Duration = Duration::from_millis(250);
/// While a supplier is silent it is looked so often whether it said goodbye: its stream may not have ended with it.
const WATCH: Duration = Duration::from_secs(1);

/// A demand that asks what a directory knows.
type Wanted = Demand<Vec<Predicate>>;

/// The input of a task, from its beginning: asked for once for each attempt.
pub type Input = Box<dyn FnMut() -> BoxFuture<'static, io::Result<Box<dyn AsyncRead + Send + Unpin>>> + Send>;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is to be done, such as `map/occupancy`.
    pub capability: String,
    /// What the supplier's capability has to satisfy besides.
    pub predicates: Vec<Predicate>,
    /// Whom to take when several are free.
    pub preference: Preference,
    /// What to do when nobody is.
    pub policy: Policy,
    /// How long it may take, all attempts together.
    pub deadline: Duration,
}

impl Order {
    /// Whoever is least busy, waited for up to an hour.
    #[must_use]
    pub fn new(capability: impl Into<String>) -> Order {
        Order {
            capability: capability.into(),
            predicates: Vec::new(),
            preference: Preference::default(),
            policy: Policy::default(),
            deadline: Duration::from_secs(3_600),
        }
    }
}

/// What is to be heard of a task while it is done.
#[derive(Debug)]
pub enum Event {
    /// A supplier has begun. What an earlier one put out counts no more.
    Begun {
        /// Who.
        supplier: NodeId,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// How far it is, in the capability's own form.
    Progress(Vec<u8>),
    /// More of the output.
    Output(Vec<u8>),
    /// An attempt failed; another follows if there may be one.
    Lost {
        /// Who failed.
        supplier: NodeId,
        /// How.
        error: Error,
    },
}

/// Asks the participants of a domain for what they can do. Clones are the same.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    node: Node,
    domain: DomainId,
    streams: Arc<dyn Streams>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("domain", &self.0.domain).finish_non_exhaustive()
    }
}

impl Tasks {
    /// For a domain that `node` is in; `streams` are those of the task protocol.
    #[must_use]
    pub fn new(node: Node, domain: DomainId, streams: Arc<dyn Streams>) -> Tasks {
        Tasks(Arc::new(Inner { node, domain, streams }))
    }

    /// Asks for something to be done. Nothing happens until [`Task::next`] is called; dropped, the task is cancelled.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if the capability's name or the deadline is none.
    pub fn request(&self, order: Order, input: Input) -> Result<Task, Error> {
        let demand = Demand {
            task: self.0.node.rng().bytes(),
            demander: self.0.node.id(),
            capability: order.capability,
            query: order.predicates,
            count: 1,
            deadline: order.deadline,
            policy: order.policy,
            preference: order.preference,
        };
        let now = self.0.node.now();
        let end = now.mono.after(demand.deadline);
        let (id, mut ledger, mut effects) = (demand.task, Ledger::new(Config::default()), Vec::new());
        let offers = self.offers()?;
        ledger.demand(now, demand.clone(), &offers, &mut effects)?;
        drop(offers);
        Ok(Task {
            tasks: self.clone(),
            id,
            demand,
            end,
            ledger,
            effects: effects.into(),
            input,
            attempt: None,
            told: VecDeque::new(),
            last: None,
        })
    }

    /// Who offers what, at this moment.
    fn offers(&self) -> Result<impl Fn(&Wanted, bool) -> Vec<Offer> + use<>, Error> {
        let (node, domain) = (self.0.node.clone(), self.0.domain);
        // Fails here if the domain was left, so that the closure need not.
        node.role(domain)?;
        Ok(move |demand: &Wanted, relaxed: bool| {
            let predicates = if relaxed { Vec::new() } else { demand.query.clone() };
            let query = Query { capability: Some(demand.capability.clone()), predicates, online: Some(true) };
            let links = node.links(Some(domain));
            let rtt = |of: &NodeId| links.iter().find(|l| l.node == *of).and_then(|l| l.rtt);
            let able = |c: &&Capability| c.name == demand.capability;
            let offer = |p: crate::proto::directory::Participant| {
                let c = p.capabilities.iter().filter(able).max_by_key(|c| c.capacity)?;
                Some(Offer { node: p.node, capacity: c.capacity, load: c.load, rtt: rtt(&p.node), fit: 0 })
            };
            let all = node.participants(domain, &query).unwrap_or_default();
            all.into_iter().filter(|p| !p.is_self && p.role == Role::Participant).filter_map(offer).collect()
        })
    }
}

/// A task under way.
pub struct Task {
    tasks: Tasks,
    id: TaskId,
    demand: Wanted,
    end: Mono,
    ledger: Ledger<Vec<Predicate>>,
    effects: VecDeque<Effect>,
    input: Input,
    attempt: Option<Attempt>,
    told: VecDeque<Event>,
    /// Why the last attempt failed.
    last: Option<Error>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("capability", &self.demand.capability).finish_non_exhaustive()
    }
}

/// One supplier at work.
struct Attempt {
    supplier: NodeId,
    seat: Seat,
    frames: Frames,
    /// What of the input was not sent yet; none once all was.
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    buffer: Vec<u8>,
    /// When its link was last wanted.
    held: Mono,
}

/// What happened next.
enum Step {
    Said(Reply),
    Failed(Error),
    /// The input cannot be read: no other supplier would help.
    Input(io::Error),
    Time,
}

impl Task {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// What happens next; none once the task is done and all its output was told. Dropped before it is ready, an attempt that was about
    /// to begin counts as failed.
    ///
    /// # Errors
    /// [`Code::Timeout`]: the deadline passed. [`Code::NoParticipant`]: nobody was free, and it was not to wait. [`Code::Closed`]: the
    /// domain was left. [`Code::Storage`]: the input cannot be read, unless whoever gives it has an [`Error`] of its own. Else what the
    /// supplier says, or the last of several that failed.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Some(event));
            }
            match self.effects.pop_front() {
                Some(Effect::Paired { seat, supplier, .. }) => match self.begin(supplier, seat).await {
                    Ok(attempt) => self.attempt = Some(attempt),
                    Err(error) => self.lost(supplier, seat, error)?,
                },
                // Dropping its stream is all there is to say.
                Some(Effect::Released { seat, .. }) => _ = self.attempt.take_if(|a| a.seat == seat),
                Some(Effect::Ended { end: End::Done, .. }) => return Ok(None),
                Some(Effect::Ended { end, .. }) => return Err(self.ended(end)),
                None if self.attempt.is_some() => self.work().await?,
                None if self.ledger.ended(&self.id) == Some(End::Done) => return Ok(None),
                None => {
                    Delay::new(LOOK).await;
                    self.pass()?;
                }
            }
        }
    }

    /// Lets time pass at the ledger, and lets it look at who is there.
    fn pass(&mut self) -> Result<(), Error> {
        let (offers, now, mut effects) = (self.tasks.offers()?, self.tasks.0.node.now(), Vec::new());
        self.ledger.on_timeout(now, &offers, &mut effects);
        self.ledger.offered(now, &offers, &mut effects);
        self.effects.extend(effects);
        Ok(())
    }

    /// Opens a stream to a supplier and shows it the ticket.
    async fn begin(&mut self, supplier: NodeId, seat: Seat) -> Result<Attempt, Error> {
        let Inner { node, domain, streams } = &*self.tasks.0;
        let now = node.now();
        let ticket = Ticket {
            issuer: node.id(),
            term: 0,
            task: self.id,
            seat,
            demander: node.id(),
            supplier,
            until: now.wall.after(OPEN),
            capability: self.demand.capability.clone(),
        };
        let signed = node.look_at_keys(*domain, |_, me, _, _| ticket.sign(domain, me))?;
        let ticket = signed.map_err(|r| Error::new(r.code(), "the ticket cannot be signed"))?;
        let slow = || Error::new(Code::Timeout, "the supplier does not answer");
        reach(node, *domain, supplier).await?;
        let mut frames = framed(within(OPEN, streams.open(supplier)).await.ok_or_else(slow)??);
        let request = Request::Begin { domain: *domain, time: self.end.since(now.mono), ticket };
        within(OPEN, frames.send(Bytes::from(request.encode()))).await.ok_or_else(slow)?.map_err(broken)?;
        let input = (self.input)().await.map_err(unreadable)?;
        Ok(Attempt { supplier, seat, frames, input: Some(input), buffer: vec![0; PART], held: now.mono })
    }

    /// Goes on with the attempt until there is something to tell, or it is over.
    async fn work(&mut self) -> Result<(), Error> {
        let Inner { node, domain, .. } = &*self.tasks.0;
        let due = self.ledger.next_timeout().map_or(LOOK, |due| due.since(node.now().mono)).min(WATCH);
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        let (supplier, seat) = (attempt.supplier, attempt.seat);
        let step = match select(poll_fn(|cx| attempt.poll(cx)), Delay::new(due)).await {
            Either::Left((step, _)) => step,
            Either::Right(_) => Step::Time,
        };
        let now = node.now();
        let word = Word { from: supplier, task: self.id, seat };
        match step {
            Step::Said(Reply::Done) => {
                let (offers, mut effects) = (self.tasks.offers()?, Vec::new());
                self.ledger.done(now, Word { from: node.id(), ..word }, &offers, &mut effects);
                self.effects.extend(effects);
                self.attempt = None;
            }
            Step::Said(Reply::Error { code, message }) if !code.retryable() => {
                self.attempt = None;
                return Err(Error::new(code, message));
            }
            Step::Said(Reply::Error { code, message }) => self.lost(supplier, seat, Error::new(code, message))?,
            Step::Said(_) if now.mono.since(attempt.held) >= HOLD && !node.is_member(*domain, supplier) => {
                self.lost(supplier, seat, Error::new(Code::SupplierFailed, "the supplier is no member any more"))?;
            }
            Step::Said(reply) => {
                if now.mono.since(attempt.held) >= HOLD {
                    attempt.held = now.mono;
                    node.want_link(*domain, supplier);
                }
                self.ledger.renew(now, word)?;
                match reply {
                    Reply::Begun => self.told.push_back(Event::Begun { supplier, attempt: seat.attempt }),
                    Reply::Progress(bytes) => self.told.push_back(Event::Progress(bytes)),
                    Reply::Output(bytes) => self.told.push_back(Event::Output(bytes)),
                    Reply::Alive | Reply::Done | Reply::Error { .. } => {}
                }
            }
            Step::Failed(error) => self.lost(supplier, seat, error)?,
            Step::Input(error) => return Err(unreadable(error)),
            Step::Time if node.participant(*domain, supplier)?.is_some_and(|p| p.presence == Status::Left) => {
                self.lost(supplier, seat, Error::new(Code::SupplierFailed, "the supplier left"))?;
            }
            Step::Time => {
                self.pass()?;
                if self.effects.iter().any(|e| matches!(e, Effect::Released { seat: s, .. } if *s == seat)) {
                    let error = || Error::new(Code::Timeout, "the supplier fell silent");
                    (self.attempt, self.last) = (None, Some(error()));
                    self.told.push_back(Event::Lost { supplier, error: error() });
                }
            }
        }
        Ok(())
    }

    /// An attempt failed.
    fn lost(&mut self, supplier: NodeId, seat: Seat, error: Error) -> Result<(), Error> {
        self.attempt = None;
        let (offers, now, mut effects) = (self.tasks.offers()?, self.tasks.0.node.now(), Vec::new());
        let why = if error.code() == Code::Busy { Failure::Busy } else { Failure::Lost };
        // Of the supplier's own mouth, or of its silence: this ledger serves no others that it could be kept from.
        self.ledger.failed(now, Word { from: supplier, task: self.id, seat }, why, &offers, &mut effects);
        self.effects.extend(effects);
        self.last = Some(Error::new(error.code(), error.message().to_owned()));
        self.told.push_back(Event::Lost { supplier, error });
        Ok(())
    }

    fn ended(&mut self, end: End) -> Error {
        match end {
            End::Deadline => Error::new(Code::Timeout, "the task was not done in time"),
            End::NoSupplier => Error::new(Code::NoParticipant, format!("nobody is free who offers {}", self.demand.capability))
                .hint("Wait for somebody who does, or ask for less"),
            End::Attempts | End::Cancelled | End::Done => {
                self.last.take().unwrap_or_else(|| Error::new(Code::Unreachable, format!("{} suppliers failed", task::ATTEMPTS)))
            }
        }
    }
}

fn broken(cause: io::Error) -> Error {
    Error::new(Code::Unreachable, "the stream to the supplier broke").caused_by(cause)
}

/// Whoever gives the input may have better words for it.
fn unreadable(cause: io::Error) -> Error {
    cause.downcast().unwrap_or_else(|cause| Error::new(Code::Storage, "the input cannot be read").caused_by(cause))
}

impl Attempt {
    /// Sends the input as far as it goes, and hears what the supplier says. Nothing is lost if it is not polled to its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(step) = self.poll_input(cx) {
            return Poll::Ready(step);
        }
        Poll::Ready(match ready!(self.frames.poll_next_unpin(cx)) {
            Some(Ok(bytes)) => match Reply::decode(&bytes) {
                Ok(reply) => Step::Said(reply),
                Err(reject) => Step::Failed(Error::new(reject.code(), "the supplier makes no sense")),
            },
            Some(Err(error)) => Step::Failed(broken(error)),
            None => Step::Failed(Error::new(Code::Unreachable, "the supplier ended the stream")),
        })
    }

    /// Ready only if it cannot go on.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        while let Some(input) = &mut self.input {
            match Pin::new(&mut self.frames).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                // What it said before is heard first, so that a refusal is told and not the broken stream behind it.
                Poll::Ready(Err(_)) => {
                    self.input = None;
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
            let request = match Pin::new(input).poll_read(cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => {
                    self.input = None;
                    Request::End
                }
                Poll::Ready(Ok(n)) => Request::Input(self.buffer[..n].to_vec()),
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Input(error)),
                Poll::Pending => break,
            };
            if Pin::new(&mut self.frames).start_send(Bytes::from(request.encode())).is_err() {
                self.input = None;
            }
        }
        // Whatever stands in the way of the rest is heard when the next is to be sent, or from the other side.
        let _ = self.frames.poll_flush_unpin(cx);
        Poll::Pending
    }
}
