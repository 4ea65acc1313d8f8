//! Pairs the tasks of a domain: one ledger for all demanders, over this manager's directory. It hears what is asked for, by whom, and
//! what became of it; what a task is done with goes from the demander to the supplier, and nothing of that comes here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::base::{Code, DomainId, Error, Mono, NodeId, Now};
use crate::crypto::Role;
use crate::proto::directory::{Capability, Predicate, Query, decode_predicates};
use crate::proto::task::pairing::{Answer, Call, MESSAGE, REST, SILENCE};
use crate::proto::task::{COUNT, Config, Demand, Effect, Ledger, Offer, Offers, Seat, TaskId, Ticket, Word};
use crate::runtime::handle::Node;
use crate::runtime::streams::{ByteStream, Frames, Places, framed};
use crate::runtime::task::admits;

/// Streams at once, each with one task at a time, and of one demander.
const STREAMS: usize = 8_192;
const PER_MEMBER: usize = 256;
/// How long a demander may take for its first words, or to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Those who wait are looked at so often: the directory may have changed.
const LOOK: Duration = Duration::from_millis(250);
/// What was read in the directory serves for so long.
const FRESH: Duration = Duration::from_millis(100);
/// How long a demander has to begin with a ticket.
const BEGIN: Duration = Duration::from_secs(30);
/// How long the end of a task is remembered: its demander hears of it on the stream, and many small ones are not to stand in the way of
/// the next.
const KEPT: Duration = Duration::from_secs(5);
/// The longest that anything may take.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Answers that wait to be read: a ticket for every place, and the end.
const ANSWERS: usize = COUNT as usize + 8;

type Wanted = Demand<Vec<Predicate>>;

/// The pairing service of one domain.
pub struct Service {
    node: Node,
    domain: DomainId,
    term: u64,
    desk: Mutex<Desk>,
    places: Arc<Places>,
}

struct Desk {
    ledger: Ledger<Vec<Predicate>>,
    told: BTreeMap<TaskId, Told>,
    count: u64,
    /// Who is there, and when that was looked up.
    seen: Option<(Mono, Arc<Vec<Seen>>)>,
}

/// Who hears of a task.
struct Told {
    /// The number of the stream: the same task may be demanded on another before this one is known to have ended.
    stream: u64,
    capability: String,
    answers: mpsc::Sender<Answer>,
}

struct Seen {
    node: NodeId,
    rtt: Option<Duration>,
    capabilities: Vec<Capability>,
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// A service for a domain that `node` manages.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn new(node: Node, domain: DomainId) -> Result<Arc<Service>, Error> {
        // Rises with every start of a manager, whichever it is.
        let term = node.participant(domain, node.id())?.map_or(0, |me| me.incarnation);
        // A demander that says nothing loses its stream, and with it its seats, long before a lease runs out: that would be taken for
        // the supplier's silence.
        let config = Config { lease: SILENCE * 3, kept: KEPT, ..Config::default() };
        let desk = Desk { ledger: Ledger::new(config), told: BTreeMap::new(), count: 0, seen: None };
        Ok(Arc::new(Service { node, domain, term, desk: Mutex::new(desk), places: Places::new(STREAMS, PER_MEMBER) }))
    }

    /// How many places wait for a supplier.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.desk).ledger.waiting()
    }

    /// Serves streams as they come, each on a task of its own.
    pub async fn serve(self: Arc<Self>, mut incoming: impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Unpin) {
        let mut clock = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                next = incoming.next() => {
                    let Some((demander, stream)) = next else { break };
                    let Some(place) = self.places.take(demander) else { continue };
                    let service = Arc::clone(&self);
                    tokio::spawn(async move {
                        service.converse(demander, framed(stream, MESSAGE)).await;
                        drop(place);
                    });
                }
                _ = clock.tick() => self.with(|ledger, now, offers, effects| {
                    ledger.on_timeout(now, offers, effects);
                    ledger.offered(now, offers, effects);
                }),
            }
        }
    }

    /// Pairs one task after the other, until the demander ends the stream.
    async fn converse(&self, demander: NodeId, mut frames: Frames) {
        let (mut until, mut rests) = (Instant::now() + PATIENCE, false);
        while let Ok(Some(Ok(first))) = timeout_at(until, frames.next()).await {
            match self.open(demander, &first) {
                Ok((task, stream, answers)) => {
                    let ended = self.pair(demander, task, answers, &mut frames).await;
                    self.close(demander, task, stream);
                    if !ended {
                        break;
                    }
                    (until, rests) = (Instant::now() + REST, true);
                }
                // What was said of the task before, when its end had not been heard.
                Err(_) if rests && matches!(Call::decode(&first), Ok(Call::Alive | Call::Failed { .. } | Call::Done(_))) => {}
                Err(error) => {
                    tracing::debug!(%demander, "refused: {}", error.one_line());
                    say(&mut frames, &Answer::Error { code: error.code(), message: error.message().to_owned() }).await;
                    break;
                }
            }
        }
        let _ = timeout(PATIENCE, frames.close()).await;
    }

    /// Pairs one task; whether its demander was told its end.
    async fn pair(&self, demander: NodeId, task: TaskId, mut answers: mpsc::Receiver<Answer>, frames: &mut Frames) -> bool {
        let mut called = true;
        loop {
            // What a call led to answers it.
            let next = match answers.try_recv() {
                Ok(answer) => Some(answer),
                Err(_) => std::mem::take(&mut called).then_some(Answer::Noted),
            };
            let answer = match next {
                Some(answer) => answer,
                None => tokio::select! {
                    answer = answers.recv() => {
                        let Some(answer) = answer else { return false };
                        answer
                    }
                    heard = timeout(SILENCE, frames.next()) => {
                        let Ok(Some(Ok(bytes))) = heard else { return false };
                        let Ok(call) = Call::decode(&bytes) else { return false };
                        // Looked at each time: somebody may be evicted meanwhile.
                        if !self.node.is_member(self.domain, demander) || !self.take(demander, task, call) {
                            return false;
                        }
                        called = true;
                        continue;
                    }
                },
            };
            called = false;
            let ended = matches!(answer, Answer::Ended(_));
            if !say(frames, &answer).await {
                return false;
            }
            if ended {
                return true;
            }
        }
    }

    /// Takes a demand: its task, the number of its stream, and what is to be said on it.
    fn open(&self, demander: NodeId, first: &[u8]) -> Result<(TaskId, u64, mpsc::Receiver<Answer>), Error> {
        let nonsense = |_| Error::new(Code::Malformed, "this is no demand");
        let call = Call::decode(first).map_err(nonsense)?;
        let Call::Demand { domain, task, time, count, policy, preference, capability, query } = call else {
            return Err(Error::new(Code::Malformed, "a stream begins with a demand"));
        };
        if domain != self.domain {
            return Err(Error::new(Code::WrongDomain, "another domain's tasks are paired here"));
        }
        if !self.node.is_member(domain, demander) {
            return Err(Error::new(Code::Forbidden, "only members of the domain are paired"));
        }
        let query = decode_predicates(&query).map_err(nonsense)?;
        let (answers, told) = mpsc::channel(ANSWERS);
        let demand =
            Demand { task, demander, capability: capability.clone(), query, count, deadline: time.min(LONGEST), policy, preference };
        let mut stream = 0;
        self.with_desk(|desk, now, offers, effects| {
            desk.ledger.demand(now, demand, offers, effects)?;
            desk.count += 1;
            stream = desk.count;
            desk.told.insert(task, Told { stream, capability, answers });
            Ok::<_, Error>(())
        })?;
        Ok((task, stream, told))
    }

    /// Takes what a demander says of its task; false if it makes no sense.
    fn take(&self, demander: NodeId, task: TaskId, call: Call) -> bool {
        let word = |seat: Seat| Word { from: demander, task, seat };
        match call {
            Call::Demand { .. } => return false,
            Call::Alive => self.with(|ledger, now, _, _| ledger.hold(now, demander, task)),
            Call::Failed { seat, why } => self.with(|ledger, now, offers, effects| ledger.failed(now, word(seat), why, offers, effects)),
            Call::Done(seat) => self.with(|ledger, now, offers, effects| ledger.done(now, word(seat), offers, effects)),
        }
        true
    }

    /// A stream ended, and with it the task, unless it was demanded again on another.
    fn close(&self, demander: NodeId, task: TaskId, stream: u64) {
        self.with_desk(|desk, now, offers, effects| {
            if desk.told.get(&task).is_some_and(|told| told.stream == stream) {
                desk.told.remove(&task);
                desk.ledger.cancel(now, demander, task, offers, effects);
            }
        });
    }

    fn with(&self, call: impl FnOnce(&mut Ledger<Vec<Predicate>>, Now, Offers<'_, Vec<Predicate>>, &mut Vec<Effect>)) {
        self.with_desk(|desk, now, offers, effects| call(&mut desk.ledger, now, offers, effects));
    }

    /// What of this somebody offers to a demand, `relaxed` without its further conditions.
    fn offer(&self, seen: &Seen, demand: &Wanted, relaxed: bool) -> Option<Offer> {
        let able = |c: &&Capability| c.name == demand.capability && (relaxed || demand.query.iter().all(|p| p.holds(c)));
        let open = |c: &&Capability| admits(&self.node, self.domain, c, &demand.demander);
        let c = seen.capabilities.iter().filter(able).filter(open).max_by_key(|c| c.capacity)?;
        Some(Offer { node: seen.node, capacity: c.capacity, load: c.load, rtt: seen.rtt, fit: 0 })
    }

    /// Does something at the ledger, and tells demanders what came of it.
    fn with_desk<T>(&self, call: impl FnOnce(&mut Desk, Now, Offers<'_, Vec<Predicate>>, &mut Vec<Effect>) -> T) -> T {
        let now = self.node.now();
        let (mut desk, mut effects) = (lock(&self.desk), Vec::new());
        let seen = self.look(&mut desk, now.mono);
        let offers = |demand: &Wanted, relaxed: bool| seen.iter().filter_map(|s| self.offer(s, demand, relaxed)).collect();
        let result = call(&mut desk, now, &offers, &mut effects);
        for effect in effects {
            let (task, answer) = match effect {
                Effect::Paired { task, seat, demander, supplier } => {
                    let Some(told) = desk.told.get(&task) else { continue };
                    match self.ticket(now, task, seat, demander, supplier, told.capability.clone()) {
                        Some(ticket) => (task, Answer::Paired(ticket)),
                        // This node is no member any more: whoever waits pairs without it.
                        None => continue,
                    }
                }
                Effect::Ended { task, end, .. } => (task, Answer::Ended(end)),
                // Its demander lets go of it, and said so or ended the stream.
                Effect::Released { .. } => continue,
            };
            // One that does not read what it is told is let go: its stream ends with this.
            if desk.told.get(&task).is_some_and(|told| told.answers.try_send(answer).is_err()) {
                desk.told.remove(&task);
            }
        }
        result
    }

    fn ticket(&self, now: Now, task: TaskId, seat: Seat, demander: NodeId, supplier: NodeId, capability: String) -> Option<Vec<u8>> {
        let until = now.wall.after(BEGIN);
        let ticket = Ticket { issuer: self.node.id(), term: self.term, task, seat, demander, supplier, until, capability };
        self.node.look_at_keys(self.domain, |_, me, _, _| ticket.sign(&self.domain, me)).ok()?.ok()
    }

    /// Who is there.
    fn look(&self, desk: &mut Desk, now: Mono) -> Arc<Vec<Seen>> {
        if let Some((at, seen)) = &desk.seen
            && now.since(*at) < FRESH
        {
            return Arc::clone(seen);
        }
        let links = self.node.links(Some(self.domain));
        let rtts: BTreeMap<NodeId, Duration> = links.iter().filter_map(|l| Some((l.node, l.rtt?))).collect();
        let online = Query { online: Some(true), ..Query::default() };
        let all = self.node.participants(self.domain, &online).unwrap_or_default();
        let supplying = all.into_iter().filter(|p| !p.is_self && p.role == Role::Participant && !p.capabilities.is_empty());
        let seen = supplying.map(|p| Seen { node: p.node, rtt: rtts.get(&p.node).copied(), capabilities: p.capabilities });
        let seen = Arc::new(seen.collect::<Vec<_>>());
        desk.seen = Some((now, Arc::clone(&seen)));
        seen
    }
}

/// Says something; whether it could be.
async fn say(frames: &mut Frames, answer: &Answer) -> bool {
    matches!(timeout(PATIENCE, frames.send(Bytes::from(answer.encode()))).await, Ok(Ok(())))
}
