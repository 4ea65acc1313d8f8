//! Who asks: is paired with a supplier, sends the input, and takes what comes back; when the supplier fails, another begins again.
//!
//! The domain manager pairs, where one is online. It is not trusted to: what it says is held against this node's own directory, and a
//! demander that is told nothing, or nonsense, goes on by itself with what it has.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::future::{Either, select};
use futures_timer::Delay;

use super::attempt::{Attempt, Input, KeptResult, Part, Shown, Step, senseless, unreadable};
use super::audience::admits;
use super::pairer::{ANSWER, Heard, Pairer};
use super::supplier::lock;
use super::{HOLD, within};
use crate::base::{Code, DomainId, Error, Map, Mono, NodeId, Reject};
use crate::crypto::Role;
use crate::peer::Manager;
use crate::proto::directory::{self, Capability, Predicate, Query, Status};
use crate::proto::task::message::{Kept, Reply};
use crate::proto::task::pairing::Call;
use crate::proto::task::{self, Config, Demand, Effect, End, Failure, Held, Ledger, Offer, Policy, Preference, Seat, TaskId, Ticket, Word};
use crate::runtime::handle::Node;
use crate::runtime::streams::{Streams, reach};

/// While nobody is free the directory is looked at so often.
const LOOK: Duration = Duration::from_millis(250);
/// While a supplier is silent it is looked so often whether it said goodbye: its stream may not have ended with it.
const WATCH: Duration = Duration::from_secs(1);
/// A manager may know of a supplier a little earlier than this node does.
const NEWS: Duration = Duration::from_secs(2);
/// For so long it is waited for a seat while this node knows of somebody who has one free.
const WITHHELD: Duration = Duration::from_secs(30);
/// A manager that ends the stream at once is asked so often.
const ASKED: u32 = 3;
/// A manager that did not answer is not asked for so long …
const MUTE: Duration = Duration::from_secs(30);
/// … and one that paired with somebody who does not do what was asked for.
const LIED: Duration = Duration::from_secs(600);
/// Streams to managers that are kept for the next task.
const RESTING: usize = 8;

/// A demand that asks what a directory knows.
pub(super) type Wanted = Demand<Vec<Predicate>>;

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
pub struct Tasks(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub node: Node,
    pub domain: DomainId,
    pub streams: Arc<dyn Streams>,
    managers: Arc<dyn Streams>,
    /// Managers that are not asked before then.
    avoided: Mutex<Map<NodeId, Mono>>,
    /// Streams to managers that had a task before: the next one need not open another.
    resting: Mutex<Vec<Pairer>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("domain", &self.0.domain).finish_non_exhaustive()
    }
}

impl Tasks {
    /// For a domain that `node` is in; `streams` are those of the task protocol, `managers` those of the pairing protocol.
    #[must_use]
    pub fn new(node: Node, domain: DomainId, streams: Arc<dyn Streams>, managers: Arc<dyn Streams>) -> Tasks {
        Tasks(Arc::new(Inner { node, domain, streams, managers, avoided: Mutex::default(), resting: Mutex::default() }))
    }

    /// Asks for something to be done. Nothing happens until [`Task::next`] is called; dropped, the task is cancelled.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if the capability's name or the deadline is none, [`Code::Closed`] if the domain was left.
    pub fn request(&self, order: Order, input: Input) -> Result<Task, Error> {
        self.ask_for(order, vec![Part::Own(input)], false)
    }

    /// Whether something can be asked for.
    pub(super) fn check(&self, order: &Order) -> Result<(), Error> {
        // Checked by whoever will pair; told here, where it can be mended.
        let named = (1..=task::CAPABILITY).contains(&order.capability.len());
        if !named || order.deadline.is_zero() {
            return Err(Error::new(Code::BadArgument, "a task names a capability and a deadline"));
        }
        self.0.node.role(self.0.domain).map(|_| ())
    }

    /// Asks for something whose input comes in pieces, and whose output the supplier may have to keep.
    pub(super) fn ask_for(&self, order: Order, input: Vec<Part>, keep: bool) -> Result<Task, Error> {
        self.check(&order)?;
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
        Ok(Task {
            tasks: self.clone(),
            id: demand.task,
            end: self.0.node.now().mono.after(demand.deadline),
            demand,
            pairing: Pairing::Unasked,
            next: VecDeque::new(),
            input,
            keep,
            kept: None,
            held: None,
            attempts: 0,
            tried: Vec::new(),
            attempt: None,
            told: VecDeque::new(),
            last: None,
            over: false,
        })
    }

    /// A manager that is online and worth asking.
    fn manager(&self) -> Result<Option<NodeId>, Error> {
        let Inner { node, domain, avoided, .. } = &*self.0;
        let now = node.now().mono;
        let mut avoided = lock(avoided);
        avoided.retain(|_, until| *until > now);
        // By rank: the same for everybody who sees the same.
        let mut online = node.managers(*domain)?.into_iter().filter(Manager::is_another_online);
        Ok(online.find(|m| !avoided.contains_key(&m.node)).map(|m| m.node))
    }

    fn avoid(&self, manager: NodeId, time: Duration) {
        let until = self.0.node.now().mono.after(time);
        lock(&self.0.avoided).insert(manager, until);
    }

    fn rest(&self, pairer: Pairer) {
        let (mut resting, now) = (lock(&self.0.resting), self.0.node.now().mono);
        resting.retain(|pairer| pairer.serves(now));
        if resting.len() >= RESTING {
            resting.remove(0);
        }
        resting.push(pairer);
    }

    /// The one that rests least, if there is one to this manager.
    fn rested(&self, manager: NodeId) -> Option<Pairer> {
        let (mut resting, now) = (lock(&self.0.resting), self.0.node.now().mono);
        resting.retain(|pairer| pairer.serves(now));
        let at = resting.iter().rposition(|pairer| pairer.manager == manager)?;
        Some(resting.remove(at).again())
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
            let able = |c: &&Capability| c.name == demand.capability && admits(&node, domain, c, &demand.demander);
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
    pairing: Pairing,
    next: VecDeque<Next>,
    input: Vec<Part>,
    /// The supplier is to keep the output.
    keep: bool,
    kept: Option<KeptResult>,
    /// Who has its seat, begun or not.
    held: Option<(NodeId, Seat)>,
    /// The number of the last attempt.
    attempts: u32,
    /// Who failed while a manager paired.
    tried: Vec<NodeId>,
    attempt: Option<Attempt>,
    told: VecDeque<Event>,
    /// Why the last attempt failed.
    last: Option<Error>,
    over: bool,
}

/// Who finds suppliers for it.
enum Pairing {
    /// Nobody was asked yet.
    Unasked,
    /// A domain manager, for all demanders.
    Manager(Box<Pairer>),
    /// The task itself, over this node's directory.
    Own(Box<Ledger<Vec<Predicate>>>),
}

/// What is to be done next.
enum Next {
    Begin {
        supplier: NodeId,
        seat: Seat,
        /// The manager's; none if this node pairs.
        ticket: Option<Vec<u8>>,
    },
    Released(Seat),
    Ended(End),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("capability", &self.demand.capability).finish_non_exhaustive()
    }
}

impl Task {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// What its supplier keeps, once it is done.
    pub(super) fn take_kept(&mut self) -> Option<KeptResult> {
        self.kept.take()
    }

    /// Its input, for another task.
    pub(super) fn into_input(self) -> Vec<Part> {
        self.input
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
            match self.next.pop_front() {
                Some(Next::Begin { supplier, seat, ticket }) => match self.begin(supplier, seat, ticket).await {
                    Ok(Some(attempt)) => self.attempt = Some(attempt),
                    Ok(None) => {}
                    Err(error) => self.lost(supplier, seat, error)?,
                },
                // Dropping its stream is all there is to say.
                Some(Next::Released(seat)) => _ = self.attempt.take_if(|a| a.seat == seat),
                Some(Next::Ended(End::Done)) => return Ok(None),
                Some(Next::Ended(end)) => return Err(self.ended(end)),
                None if self.attempt.is_some() => self.work().await?,
                None if self.over => return Ok(None),
                None => self.wait().await?,
            }
        }
    }

    /// Waits for a supplier.
    async fn wait(&mut self) -> Result<(), Error> {
        // Whoever called before did not wait until it had begun.
        if let Some((supplier, seat)) = self.held.take() {
            return self.lost(supplier, seat, Error::new(Code::Aborted, "it was not waited for"));
        }
        let node = self.tasks.0.node.clone();
        match &mut self.pairing {
            Pairing::Unasked => self.ask().await,
            Pairing::Manager(pairer) => {
                let over = self.end.since(node.now().mono);
                let heard = within(over.min(WITHHELD), pin!(pairer.news(&node))).await;
                match heard {
                    Some(heard) => self.hear(heard),
                    None if node.now().mono >= self.end => Err(self.ended(End::Deadline)),
                    None => {
                        // A manager that only says that it heard may have nobody, or keep it to itself.
                        let free = |o: &Offer| o.capacity > 0 && o.load < 100;
                        let somebody = self.tasks.offers()?(&self.demand, false).iter().any(free);
                        if somebody { self.alone() } else { Ok(()) }
                    }
                }
            }
            Pairing::Own(_) => {
                Delay::new(LOOK).await;
                self.pass()
            }
        }
    }

    /// Asks a manager to pair; where there is none that answers, this node pairs for itself.
    async fn ask(&mut self) -> Result<(), Error> {
        let Some(manager) = self.tasks.manager()? else {
            // Who knows nobody yet may have come just now, and hear of a manager with the rest.
            if self.demand.policy != Policy::Fail && self.tasks.offers()?(&self.demand, true).is_empty() {
                if self.tasks.0.node.now().mono >= self.end {
                    return Err(self.ended(End::Deadline));
                }
                Delay::new(LOOK).await;
                return Ok(());
            }
            return self.alone();
        };
        let Ok(query) = directory::encode_predicates(&self.demand.query) else { return self.alone() };
        let tasks = self.tasks.clone();
        let Inner { node, domain, managers, resting, .. } = &*tasks.0;
        let call = Call::Demand {
            domain: *domain,
            task: self.id,
            time: self.end.since(node.now().mono),
            count: self.demand.count,
            policy: self.demand.policy,
            preference: self.demand.preference,
            capability: self.demand.capability.clone(),
            query,
        };
        let asking = async {
            reach(node, *domain, manager).await?;
            let mut again = (1..ASKED).rev();
            loop {
                let mut pairer = match tasks.rested(manager) {
                    Some(pairer) => pairer,
                    None => Pairer::new(manager, managers.open(manager).await?),
                };
                pairer.say(node.now().mono, &call)?;
                match poll_fn(|cx| pairer.poll(cx, node.now().mono)).await {
                    // Where many come at once streams are dropped unseen; and with a connection all that rest on it are gone.
                    Err(error) if error.code() == Code::Unreachable && again.next().is_some() => {
                        lock(resting).retain(|pairer| pairer.manager != manager);
                        Delay::new(LOOK).await;
                    }
                    heard => return Ok::<_, Error>((pairer, heard)),
                }
            }
        };
        let asked = within(ANSWER, pin!(asking)).await;
        match asked {
            Some(Ok((pairer, heard))) => {
                self.pairing = Pairing::Manager(Box::new(pairer));
                self.hear(heard)
            }
            Some(Err(_)) | None => {
                self.tasks.avoid(manager, MUTE);
                self.alone()
            }
        }
    }

    /// Takes what the manager says. Whatever it is, the task does not fail of it: its no is looked into.
    fn hear(&mut self, heard: Result<Heard, Error>) -> Result<(), Error> {
        let Pairing::Manager(pairer) = &self.pairing else { return Ok(()) };
        let manager = pairer.manager;
        match heard {
            Ok(Heard::Noted) => Ok(()),
            Ok(Heard::Paired(bytes)) => match self.expected(manager, &bytes) {
                Some((supplier, seat)) => {
                    (self.held, self.attempts) = (Some((supplier, seat)), seat.attempt);
                    self.next.push_back(Next::Begin { supplier, seat, ticket: Some(bytes) });
                    Ok(())
                }
                None => self.deceived(manager),
            },
            Ok(Heard::Ended(End::Attempts)) if self.tried.len() >= task::ATTEMPTS => {
                self.next.push_back(Next::Ended(End::Attempts));
                Ok(())
            }
            Ok(Heard::Ended(_)) => self.alone(),
            Err(error) => {
                tracing::debug!(%manager, "the manager does not pair: {}", error.one_line());
                self.tasks.avoid(manager, MUTE);
                self.alone()
            }
        }
    }

    /// Whom a ticket of the manager's names, if it is one that may come now.
    fn expected(&self, manager: NodeId, bytes: &[u8]) -> Option<(NodeId, Seat)> {
        let Inner { node, domain, .. } = &*self.tasks.0;
        let ticket = Ticket::verify(domain, bytes).ok()?;
        ticket.admits(node.now().wall, &node.id(), &ticket.supplier, &self.demand.capability).ok()?;
        let next = Seat { place: 0, attempt: self.attempts.checked_add(1)? };
        let due = ticket.issuer == manager && ticket.task == self.id && ticket.seat == next && self.held.is_none();
        due.then_some((ticket.supplier, ticket.seat))
    }

    /// Whether a supplier does what was asked for, as this node's own directory has it.
    async fn fits(&mut self, supplier: NodeId) -> Result<bool, Error> {
        let begun = self.tasks.0.node.now().mono;
        loop {
            let offers = self.tasks.offers()?(&self.demand, self.demand.policy == Policy::Any);
            if offers.iter().any(|o| o.node == supplier) {
                return Ok(true);
            }
            if self.tasks.0.node.now().mono.since(begun) >= NEWS {
                return Ok(false);
            }
            Delay::new(LOOK).await;
        }
    }

    /// The manager's word is worth nothing.
    fn deceived(&mut self, manager: NodeId) -> Result<(), Error> {
        tracing::warn!(%manager, "the manager's pairing is refused: it does not fit what was asked for");
        self.tasks.avoid(manager, LIED);
        self.alone()
    }

    /// From now on this node pairs for itself. Who works on the task goes on.
    fn alone(&mut self) -> Result<(), Error> {
        let (offers, now, mut effects) = (self.tasks.offers()?, self.tasks.0.node.now(), Vec::new());
        let deadline = self.end.since(now.mono);
        if deadline.is_zero() {
            self.next.push_back(Next::Ended(End::Deadline));
            return Ok(());
        }
        let demand = Demand { deadline, ..self.demand.clone() };
        let held = Held { attempt: self.attempts, supplier: self.held.map(|(supplier, _)| supplier), tried: self.tried.clone() };
        let mut ledger = Ledger::new(Config::default());
        ledger.adopt(now, demand, vec![held], &offers, &mut effects)?;
        self.pairing = Pairing::Own(Box::new(ledger));
        self.take(effects);
        Ok(())
    }

    /// What the own ledger wants done.
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.next.push_back(match effect {
                Effect::Paired { seat, supplier, .. } => {
                    (self.held, self.attempts) = (Some((supplier, seat)), seat.attempt);
                    Next::Begin { supplier, seat, ticket: None }
                }
                Effect::Released { seat, .. } => {
                    self.held.take_if(|(_, held)| *held == seat);
                    Next::Released(seat)
                }
                Effect::Ended { end, .. } => Next::Ended(end),
            });
        }
    }

    /// Lets time pass at the own ledger, and lets it look at who is there.
    fn pass(&mut self) -> Result<(), Error> {
        let Pairing::Own(ledger) = &mut self.pairing else { return Ok(()) };
        let (offers, now, mut effects) = (self.tasks.offers()?, self.tasks.0.node.now(), Vec::new());
        ledger.on_timeout(now, &offers, &mut effects);
        ledger.offered(now, &offers, &mut effects);
        self.take(effects);
        Ok(())
    }

    /// Begins at a supplier; none if it is not to.
    async fn begin(&mut self, supplier: NodeId, seat: Seat, ticket: Option<Vec<u8>>) -> Result<Option<Attempt>, Error> {
        if let (Some(_), Pairing::Manager(pairer)) = (&ticket, &self.pairing) {
            let manager = pairer.manager;
            if !self.fits(supplier).await? {
                self.held = None;
                return self.deceived(manager).map(|()| None);
            }
        }
        let node = self.tasks.0.node.clone();
        let (mut heard, shown) =
            (None, Shown { tasks: &self.tasks, demand: &self.demand, end: self.end, keep: self.keep, supplier, seat, ticket });
        let begun = match &mut self.pairing {
            Pairing::Manager(pairer) => match select(pin!(shown.begin(&mut self.input)), pin!(pairer.news(&node))).await {
                Either::Left((begun, _)) => begun,
                Either::Right((said, beginning)) => {
                    heard = Some(said);
                    beginning.await
                }
            },
            Pairing::Own(_) | Pairing::Unasked => shown.begin(&mut self.input).await,
        };
        if let Some(heard) = heard {
            self.hear(heard)?;
        }
        begun.map(Some)
    }

    /// Goes on with the attempt until there is something to tell, or it is over.
    async fn work(&mut self) -> Result<(), Error> {
        let tasks = self.tasks.clone();
        let Inner { node, domain, .. } = &*tasks.0;
        let due = if let Pairing::Own(ledger) = &self.pairing { ledger.next_timeout() } else { Some(self.end) };
        let due = due.map_or(LOOK, |due| due.since(node.now().mono)).min(WATCH);
        let (Some(attempt), pairing) = (&mut self.attempt, &mut self.pairing) else { return Ok(()) };
        let (supplier, seat) = (attempt.supplier, attempt.seat);
        let both = poll_fn(|cx| {
            // First, for a supplier that says much would leave no time for it.
            if let Pairing::Manager(pairer) = pairing
                && let Poll::Ready(heard) = pairer.poll(cx, node.now().mono)
            {
                return Poll::Ready(Step::Manager(heard));
            }
            attempt.poll(cx)
        });
        let step = match select(both, Delay::new(due)).await {
            Either::Left((step, _)) => step,
            Either::Right(_) => Step::Time,
        };
        let now = node.now();
        let word = Word { from: supplier, task: self.id, seat };
        match step {
            Step::Manager(heard) => self.hear(heard)?,
            Step::Said(Reply::Done) if attempt.keep.is_none() => self.done(now.mono, seat),
            Step::Said(Reply::Kept { size, hash }) if attempt.keep.is_some() => {
                let kept = |key| Kept { holder: supplier, key, size, hash };
                let frames = self.attempt.take().and_then(|a| Some((kept(a.keep?), a.frames)));
                self.kept = frames.map(|(kept, frames)| KeptResult { kept, node: node.clone(), domain: *domain, frames });
                self.done(now.mono, seat);
            }
            // One that does not keep what it is to keep, or only that.
            Step::Said(Reply::Done | Reply::Kept { .. }) => self.lost(supplier, seat, senseless(Reject::Malformed))?,
            Step::Said(Reply::Output(_)) if attempt.keep.is_some() => self.lost(supplier, seat, senseless(Reject::Malformed))?,
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
                attempt.heard = now.mono;
                if let Pairing::Own(ledger) = &mut self.pairing {
                    ledger.renew(now, word)?;
                }
                match reply {
                    Reply::Begun => self.told.push_back(Event::Begun { supplier, attempt: seat.attempt }),
                    Reply::Progress(bytes) => self.told.push_back(Event::Progress(bytes)),
                    Reply::Output(bytes) => self.told.push_back(Event::Output(bytes)),
                    Reply::Alive | Reply::Credit(_) | Reply::Done | Reply::Kept { .. } | Reply::Error { .. } => {}
                }
            }
            Step::Failed(error) => self.lost(supplier, seat, error)?,
            Step::Input(error) => return Err(unreadable(error)),
            Step::Time if node.participant(*domain, supplier)?.is_some_and(|p| p.presence == Status::Left) => {
                self.lost(supplier, seat, Error::new(Code::SupplierFailed, "the supplier left"))?;
            }
            // The manager hears of it from here; the own ledger has a clock itself.
            Step::Time if matches!(self.pairing, Pairing::Manager(_)) => {
                if now.mono >= self.end {
                    return Err(self.ended(End::Deadline));
                }
                if now.mono.since(attempt.heard) >= Config::default().lease {
                    self.lost(supplier, seat, silent())?;
                }
            }
            Step::Time => {
                self.pass()?;
                if self.next.iter().any(|e| matches!(e, Next::Released(s) if *s == seat)) {
                    (self.attempt, self.last) = (None, Some(silent()));
                    self.told.push_back(Event::Lost { supplier, error: silent() });
                }
            }
        }
        Ok(())
    }

    /// An attempt succeeded.
    fn done(&mut self, now: Mono, seat: Seat) {
        (self.attempt, self.held, self.over) = (None, None, true);
        // If the manager does not hear of it, it does of the stream's end.
        if let Pairing::Manager(pairer) = std::mem::replace(&mut self.pairing, Pairing::Unasked)
            && let Some(pairer) = pairer.rest(now, &Call::Done(seat))
        {
            self.tasks.rest(pairer);
        }
        self.next.push_back(Next::Ended(End::Done));
    }

    /// An attempt failed.
    fn lost(&mut self, supplier: NodeId, seat: Seat, error: Error) -> Result<(), Error> {
        (self.attempt, self.held) = (None, None);
        let (offers, now, mut effects) = (self.tasks.offers()?, self.tasks.0.node.now(), Vec::new());
        let why = if error.code() == Code::Busy { Failure::Busy } else { Failure::Lost };
        match &mut self.pairing {
            Pairing::Own(ledger) => {
                // Of the supplier's own mouth, or of its silence: this ledger serves no others that it could be kept from.
                ledger.failed(now, Word { from: supplier, task: self.id, seat }, why, &offers, &mut effects);
                self.take(effects);
            }
            Pairing::Manager(pairer) => {
                if why == Failure::Lost {
                    self.tried.push(supplier);
                }
                if let Err(error) = pairer.say(now.mono, &Call::Failed { seat, why }) {
                    self.hear(Err(error))?;
                }
            }
            Pairing::Unasked => {}
        }
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

fn silent() -> Error {
    Error::new(Code::Timeout, "the supplier fell silent")
}
