//! The ledger: who waits for a supplier, who has one, and until when.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::time::Duration;

use super::TaskId;
use super::choice::{self, Offer, Preference, Use};
use crate::base::{Code, Error, Map, Mono, NodeId, Now};

/// A capability's name, bytes.
pub const CAPABILITY: usize = 64;
/// Suppliers that one demand may ask for.
pub const COUNT: u16 = 64;
/// Suppliers that may fail at one place before the task is given up.
pub const ATTEMPTS: usize = 8;
/// A supplier that says that it has no room, or failed, is not asked again for so long …
const SHUT: Duration = Duration::from_secs(1);
/// … and one whose lease ran out for so long: it is free, and would be given one task after the other.
const SILENT: Duration = Duration::from_secs(30);

/// What may be held, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a supplier may be silent before it counts as gone.
    pub lease: Duration,
    /// How long the end of a task is remembered, for a demander that asks again.
    pub kept: Duration,
    /// Tasks, those remembered included.
    pub tasks: usize,
    /// The same of one demander.
    pub each: usize,
    /// Seats that one demander may hold: what it waits for beyond them is for others.
    pub seats: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { lease: Duration::from_secs(10), kept: Duration::from_secs(600), tasks: 65_536, each: 8_192, seats: 256 }
    }
}

/// What becomes of a place for which nobody is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// It waits until somebody is, up to the deadline.
    #[default]
    Wait,
    /// The task ends.
    Fail,
    /// Whoever has the capability will do, whatever else was asked for; else it waits.
    Any,
}

/// Asks for suppliers. `Q`: what they have to satisfy, which only the caller understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<Q> {
    /// The task.
    pub task: TaskId,
    /// Who asks.
    pub demander: NodeId,
    /// For what, 1 to [`CAPABILITY`] bytes.
    pub capability: String,
    /// What else a supplier has to satisfy.
    pub query: Q,
    /// How many suppliers, all different, each with the whole task: 1 to [`COUNT`].
    pub count: u16,
    /// The task ends after this time, however far it is.
    pub deadline: Duration,
    /// What to do when nobody is free.
    pub policy: Policy,
    /// Whom to take when several are.
    pub preference: Preference,
}

/// One pairing of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// Which of the suppliers asked for, from 0.
    pub place: u16,
    /// Which attempt at it, from 1. An earlier attempt's word counts no more.
    pub attempt: u32,
}

/// What became of a place at the ledger that had its task before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The last attempt at it, 0 for none.
    pub attempt: u32,
    /// Who works on it, if somebody does.
    pub supplier: Option<NodeId>,
    /// Who failed at it.
    pub tried: Vec<NodeId>,
}

/// Somebody speaks of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Who.
    pub from: NodeId,
    /// Of which task.
    pub task: TaskId,
    /// Of which seat of it.
    pub seat: Seat,
}

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The supplier has no room. No fault of its, if itself says so.
    Busy,
    /// It died, stalled, or cannot do it.
    Lost,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its demander has all results.
    Done,
    /// Its demander wants it no more, or is gone.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// Nobody was free, and it was not to wait.
    NoSupplier,
    /// [`ATTEMPTS`] suppliers failed at one place.
    Attempts,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They are a pair: both get a ticket.
    Paired {
        /// The task.
        task: TaskId,
        /// Which seat of it.
        seat: Seat,
        /// Who asks.
        demander: NodeId,
        /// Who does it.
        supplier: NodeId,
    },
    /// They are a pair no more: the supplier need not go on.
    Released {
        /// The task.
        task: TaskId,
        /// Which seat of it.
        seat: Seat,
        /// Who need not go on.
        supplier: NodeId,
    },
    /// The demander is to hear how its task ended.
    Ended {
        /// The task.
        task: TaskId,
        /// Who asked.
        demander: NodeId,
        /// How.
        end: End,
    },
}

/// Those who could supply a demand now; without its further conditions if the flag is set.
pub type Offers<'a, Q> = &'a dyn Fn(&Demand<Q>, bool) -> Vec<Offer>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its number in the queue.
    Waiting(u64),
    Leased(NodeId, Mono),
    /// By whom.
    Done(NodeId),
}

#[derive(Debug)]
pub(super) struct Place {
    pub attempt: u32,
    pub tried: Vec<NodeId>,
    pub state: State,
}

#[derive(Debug)]
pub(super) struct Task<Q> {
    pub demand: Demand<Q>,
    pub places: Vec<Place>,
    /// When it ends, or, once it has, when it is forgotten.
    pub due: Mono,
    pub end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Lease(TaskId, u16),
    Task(TaskId),
    /// It may be asked again.
    Open(NodeId),
    /// It may be asked again for this demander.
    Allowed(NodeId, NodeId),
}

/// Pairs tasks with suppliers. Give it demands and what becomes of them; after every call carry out the effects.
#[derive(Debug)]
pub struct Ledger<Q> {
    config: Config,
    pub(super) tasks: BTreeMap<TaskId, Task<Q>>,
    /// Of each demander, ended ones included.
    pub(super) each: Map<NodeId, usize>,
    /// Places without a supplier: of each demander, the oldest first.
    pub(super) waiting: Map<NodeId, BTreeSet<(u64, TaskId, u16)>>,
    pub(super) leases: BTreeSet<(NodeId, TaskId, u16)>,
    pub(super) used: Map<NodeId, Use>,
    /// Seats that each demander holds.
    pub(super) served: Map<NodeId, u32>,
    /// The number of the last pairing for each demander that has tasks.
    pub(super) turns: Map<NodeId, u64>,
    /// Who is not asked for a demander, by that demander's word.
    pub(super) barred: Map<(NodeId, NodeId), Mono>,
    pub(super) due: BTreeSet<(Mono, Due)>,
    count: u64,
}

impl<Q: Clone> Ledger<Q> {
    /// Without tasks.
    #[must_use]
    pub fn new(config: Config) -> Ledger<Q> {
        Ledger {
            config,
            tasks: BTreeMap::new(),
            each: Map::new(),
            waiting: Map::new(),
            leases: BTreeSet::new(),
            used: Map::new(),
            served: Map::new(),
            turns: Map::new(),
            barred: Map::new(),
            due: BTreeSet::new(),
            count: 0,
        }
    }

    /// Takes a demand. Asked again under the same name nothing new begins: what became of it is told once more.
    ///
    /// # Errors
    /// [`Code::BadArgument`]: a number or name is outside its range. [`Code::Conflict`]: the name is another demander's task.
    /// [`Code::Busy`]: there are as many tasks as may be, of all or of this demander.
    pub fn demand(&mut self, now: Now, demand: Demand<Q>, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let held = alloc::vec![Held::default(); demand.count.into()];
        self.adopt(now, demand, held, offers, effects)
    }

    /// Takes over a demand that another ledger had, with one entry for each place: whoever works on one goes on, and attempts are
    /// counted on from there.
    ///
    /// # Errors
    /// As [`Ledger::demand`].
    pub fn adopt(
        &mut self,
        now: Now,
        demand: Demand<Q>,
        held: Vec<Held>,
        offers: Offers<'_, Q>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let (id, demander) = (demand.task, demand.demander);
        let wrong = !(1..=COUNT).contains(&demand.count) || !(1..=CAPABILITY).contains(&demand.capability.len());
        if wrong || demand.deadline.is_zero() || held.len() != usize::from(demand.count) {
            return Err(Error::new(Code::BadArgument, "a demand names a capability, a deadline, and how many suppliers"));
        }
        if let Some(task) = self.tasks.get(&id) {
            if task.demand.demander != demander {
                return Err(Error::new(Code::Conflict, "somebody else's task has this name"));
            }
            effects.extend(task.told());
            return Ok(());
        }
        if self.tasks.len() >= self.config.tasks || self.each.get(&demander).is_some_and(|n| *n >= self.config.each) {
            return Err(Error::new(Code::Busy, "there are as many tasks as may be").hint("Wait until earlier ones are done"));
        }
        let due = now.mono.after(demand.deadline);
        let working: Vec<Option<NodeId>> = held.iter().map(|h| h.supplier).collect();
        let place = |(place, h): (u16, Held)| Place { attempt: h.attempt, tried: h.tried, state: self.queue(demander, id, place) };
        let places = (0..).zip(held).map(place).collect();
        self.tasks.insert(id, Task { demand, places, due, end: None });
        self.due.insert((due, Due::Task(id)));
        *self.each.entry(demander).or_default() += 1;
        for (place, supplier) in (0..).zip(&working) {
            if let Some(supplier) = supplier {
                self.lease(now, id, place, *supplier);
            }
        }
        for (place, _) in (0..).zip(working).filter(|(_, supplier)| supplier.is_none()) {
            self.seat_or_end(now, id, place, offers, effects);
        }
        Ok(())
    }

    /// The demander holds on to a task: the leases of all its seats begin anew. For who hears of suppliers through their demanders only.
    pub fn hold(&mut self, now: Now, from: NodeId, task: TaskId) {
        let Some(entry) = self.tasks.get(&task).filter(|t| t.demand.demander == from) else { return };
        let seats = (0..).zip(&entry.places).map(|(place, p)| (Seat { place, attempt: p.attempt }, p.state));
        let leased = seats.filter_map(|(seat, state)| if let State::Leased(supplier, _) = state { Some((seat, supplier)) } else { None });
        for (seat, supplier) in leased.collect::<Vec<_>>() {
            let renewed = self.renew(now, Word { from: supplier, task, seat });
            debug_assert!(renewed.is_ok(), "its own lease");
        }
    }

    /// The supplier works on it still.
    ///
    /// # Errors
    /// [`Code::Closed`]: it is its seat no more, and it need not go on.
    pub fn renew(&mut self, now: Now, word: Word) -> Result<(), Error> {
        let Word { from, task, seat } = word;
        let until = now.mono.after(self.config.lease);
        let place = self.leased(&task, seat).filter(|(supplier, _)| *supplier == from);
        let (supplier, old) = place.ok_or_else(|| Error::new(Code::Closed, "this seat is taken by somebody else, or by nobody"))?;
        self.due.remove(&(old, Due::Lease(task, seat.place)));
        self.due.insert((until, Due::Lease(task, seat.place)));
        self.set(&task, seat.place, State::Leased(supplier, until));
        Ok(())
    }

    /// An attempt came to nothing, as its supplier or the demander says. Another supplier is sought. Word of an earlier attempt, or of
    /// somebody else, changes nothing.
    pub fn failed(&mut self, now: Now, word: Word, why: Failure, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let Word { from, task, seat } = word;
        let Some((supplier, _)) = self.leased(&task, seat) else { return };
        if from != supplier && self.tasks.get(&task).is_none_or(|t| t.demand.demander != from) {
            return;
        }
        // A demander's word is heeded for itself only: it cannot keep a supplier from others.
        if from == supplier {
            self.shut(supplier, now.mono.after(SHUT));
        } else {
            self.bar(from, supplier, now.mono.after(SHUT));
        }
        self.lose(now, task, seat.place, why == Failure::Lost, offers, effects);
        self.serve(now, 1, offers, effects);
    }

    /// The demander has the result of a seat.
    pub fn done(&mut self, now: Now, word: Word, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let Word { from, task, seat } = word;
        let Some((supplier, _)) = self.leased(&task, seat) else { return };
        let Some(entry) = self.tasks.get(&task).filter(|t| t.demand.demander == from) else { return };
        let rest = entry.places.iter().filter(|p| !matches!(p.state, State::Done(_))).count();
        self.free(&task, seat.place);
        self.set(&task, seat.place, State::Done(supplier));
        if rest == 1 {
            self.end(now, task, End::Done, effects);
        }
        self.serve(now, 1, offers, effects);
    }

    /// The demander wants it no more.
    pub fn cancel(&mut self, now: Now, from: NodeId, task: TaskId, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        if self.tasks.get(&task).is_some_and(|t| t.demand.demander == from) {
            let freed = self.end(now, task, End::Cancelled, effects);
            self.serve(now, freed, offers, effects);
        }
    }

    /// Somebody is gone: its seats go to others, and what it asked for is cancelled.
    pub fn gone(&mut self, now: Now, node: NodeId, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let own: Vec<TaskId> = if self.each.contains_key(&node) {
            self.tasks.iter().filter(|(_, t)| t.demand.demander == node && t.end.is_none()).map(|(id, _)| *id).collect()
        } else {
            Vec::new()
        };
        let mut freed = 0;
        for task in own {
            freed += self.end(now, task, End::Cancelled, effects);
        }
        let from = (node, TaskId::default(), 0);
        let seats: Vec<_> = self.leases.range(from..).take_while(|(n, ..)| *n == node).map(|(_, task, place)| (*task, *place)).collect();
        for (task, place) in seats {
            self.lose(now, task, place, true, offers, effects);
        }
        if self.used.get(&node).is_some_and(|u| u.running == 0)
            && let Some(at) = self.used.remove(&node).and_then(|u| u.shut)
        {
            self.due.remove(&(at, Due::Open(node)));
        }
        self.serve(now, freed, offers, effects);
    }

    /// Somebody offers more than before: those who wait are looked at.
    pub fn offered(&mut self, now: Now, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        self.serve(now, usize::MAX, offers, effects);
    }

    /// Time passed. Early and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let mut freed = 0_usize;
        while let Some((at, due)) = self.due.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.due.remove(&(at, due));
            match due {
                Due::Lease(task, place) => {
                    let silent = self.tasks.get(&task).and_then(|t| t.places.get(usize::from(place))).and_then(Place::supplier);
                    if let Some(supplier) = silent {
                        self.shut(supplier, now.mono.after(SILENT));
                    }
                    self.lose(now, task, place, true, offers, effects);
                    freed = freed.saturating_add(1);
                }
                Due::Open(node) => {
                    if let Some(used) = self.used.get_mut(&node) {
                        used.shut = None;
                    }
                    freed = usize::MAX;
                }
                Due::Allowed(demander, supplier) => {
                    self.barred.remove(&(demander, supplier));
                    freed = usize::MAX;
                }
                Due::Task(id) => match self.tasks.get(&id).and_then(|t| t.end) {
                    Some(_) => self.forget(id),
                    None => freed = freed.saturating_add(self.end(now, id, End::Deadline, effects)),
                },
            }
        }
        self.serve(now, freed, offers, effects);
    }

    /// When [`Ledger::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How a task ended, if it has; none also for one that is not known.
    #[must_use]
    pub fn ended(&self, task: &TaskId) -> Option<End> {
        self.tasks.get(task).and_then(|t| t.end)
    }

    /// How many places wait for a supplier.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }

    /// The supplier of a seat, and until when, if that attempt is the present one.
    fn leased(&self, task: &TaskId, seat: Seat) -> Option<(NodeId, Mono)> {
        let place = self.tasks.get(task)?.places.get(usize::from(seat.place)).filter(|p| p.attempt == seat.attempt)?;
        if let State::Leased(supplier, until) = place.state { Some((supplier, until)) } else { None }
    }

    fn set(&mut self, task: &TaskId, place: u16, state: State) {
        if let Some(place) = self.tasks.get_mut(task).and_then(|t| t.places.get_mut(usize::from(place))) {
            place.state = state;
        }
    }

    /// A place waits from now on, behind all others of its demander.
    fn queue(&mut self, demander: NodeId, task: TaskId, place: u16) -> State {
        self.count += 1;
        self.waiting.entry(demander).or_default().insert((self.count, task, place));
        State::Waiting(self.count)
    }

    fn unqueue(&mut self, demander: NodeId, task: TaskId, place: u16, number: u64) {
        if let Some(queue) = self.waiting.get_mut(&demander) {
            queue.remove(&(number, task, place));
            if queue.is_empty() {
                self.waiting.remove(&demander);
            }
        }
    }

    /// Takes a lease away, with all that goes with it; who had it.
    fn free(&mut self, task: &TaskId, place: u16) -> Option<NodeId> {
        let entry = self.tasks.get(task)?;
        let State::Leased(supplier, until) = entry.places.get(usize::from(place))?.state else { return None };
        let demander = entry.demand.demander;
        self.leases.remove(&(supplier, *task, place));
        self.due.remove(&(until, Due::Lease(*task, place)));
        if let Some(used) = self.used.get_mut(&supplier) {
            used.running -= 1;
        }
        if let Some(n) = self.served.get_mut(&demander) {
            *n -= 1;
            if *n == 0 {
                self.served.remove(&demander);
            }
        }
        Some(supplier)
    }

    /// A supplier is not asked before then.
    fn shut(&mut self, supplier: NodeId, until: Mono) {
        let Some(used) = self.used.get_mut(&supplier) else { return };
        let until = used.shut.map_or(until, |at| at.max(until));
        if let Some(old) = used.shut.replace(until) {
            self.due.remove(&(old, Due::Open(supplier)));
        }
        self.due.insert((until, Due::Open(supplier)));
    }

    /// A supplier is not asked before then for this demander.
    fn bar(&mut self, demander: NodeId, supplier: NodeId, until: Mono) {
        if let Some(old) = self.barred.insert((demander, supplier), until) {
            self.due.remove(&(old, Due::Allowed(demander, supplier)));
        }
        self.due.insert((until, Due::Allowed(demander, supplier)));
    }

    /// A supplier lost its seat, by its `fault` or not: another is sought, or the task ends.
    fn lose(&mut self, now: Now, task: TaskId, place: u16, fault: bool, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let Some(supplier) = self.free(&task, place) else { return };
        let Some(demander) = self.tasks.get(&task).map(|t| t.demand.demander) else { return };
        let state = self.queue(demander, task, place);
        let Some(entry) = self.tasks.get_mut(&task).and_then(|t| t.places.get_mut(usize::from(place))) else { return };
        entry.state = state;
        if fault {
            entry.tried.push(supplier);
        }
        let (attempt, failures) = (entry.attempt, entry.tried.len());
        effects.push(Effect::Released { task, seat: Seat { place, attempt }, supplier });
        if failures >= ATTEMPTS {
            self.end(now, task, End::Attempts, effects);
        } else {
            self.seat_or_end(now, task, place, offers, effects);
        }
    }

    fn seat_or_end(&mut self, now: Now, task: TaskId, place: u16, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        if !self.seat(now, task, place, offers, effects) && self.tasks.get(&task).is_some_and(|t| t.demand.policy == Policy::Fail) {
            self.end(now, task, End::NoSupplier, effects);
        }
    }

    /// Finds a supplier for a place that waits; false if nobody is free.
    fn seat(&mut self, now: Now, id: TaskId, place: u16, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        let Some(Place { state: State::Waiting(_), tried, .. }) = task.places.get(usize::from(place)) else { return false };
        let demander = task.demand.demander;
        if self.full(&demander) {
            return false;
        }
        let others: Vec<NodeId> = task.places.iter().filter_map(Place::supplier).collect();
        let used = |node: &NodeId| {
            let used = self.used.get(node).copied().unwrap_or_default();
            Use { shut: used.shut.max(self.barred.get(&(demander, *node)).copied()), ..used }
        };
        let choose = |relaxed| {
            let all = offers(&task.demand, relaxed);
            let free = all.iter().filter(|o| !others.contains(&o.node) && o.node != task.demand.demander);
            choice::choose(now.mono, free, used, tried, task.demand.preference).map(|o| o.node)
        };
        let found = choose(false).or_else(|| if task.demand.policy == Policy::Any { choose(true) } else { None });
        let Some(supplier) = found else { return false };
        if let Some(entry) = self.tasks.get_mut(&id).and_then(|t| t.places.get_mut(usize::from(place))) {
            entry.attempt += 1;
            effects.push(Effect::Paired { task: id, seat: Seat { place, attempt: entry.attempt }, demander, supplier });
        }
        self.lease(now, id, place, supplier);
        true
    }

    /// A place that waits has a supplier from now on.
    fn lease(&mut self, now: Now, id: TaskId, place: u16, supplier: NodeId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(&Place { state: State::Waiting(number), .. }) = task.places.get(usize::from(place)) else { return };
        let (demander, until) = (task.demand.demander, now.mono.after(self.config.lease));
        self.unqueue(demander, id, place, number);
        self.count += 1;
        let used = self.used.entry(supplier).or_default();
        (used.running, used.last) = (used.running + 1, self.count);
        *self.served.entry(demander).or_default() += 1;
        self.turns.insert(demander, self.count);
        self.leases.insert((supplier, id, place));
        self.due.insert((until, Due::Lease(id, place)));
        self.set(&id, place, State::Leased(supplier, until));
    }

    /// Whether a demander holds as many seats as it may.
    fn full(&self, demander: &NodeId) -> bool {
        self.served.get(demander).is_some_and(|n| *n >= self.config.seats)
    }

    /// Gives up to `seats` free seats to those who wait: to the demander that holds fewest, of several to the one that was given none
    /// for longest, and of its places to the oldest. What finds nobody does not stand in the way of the rest.
    fn serve(&mut self, now: Now, mut seats: usize, offers: Offers<'_, Q>, effects: &mut Vec<Effect>) {
        let mut passed: Map<NodeId, u64> = Map::new();
        while seats > 0 {
            let next = self.waiting.iter().filter(|(demander, _)| !self.full(demander)).filter_map(|(demander, queue)| {
                let from = passed.get(demander).map_or(0, |n| n + 1);
                let first = queue.range((from, TaskId::default(), 0)..).next()?;
                let (held, turn) = (self.served.get(demander).copied(), self.turns.get(demander).copied());
                Some((held.unwrap_or_default(), turn, first.0, *demander, first.1, first.2))
            });
            let Some((_, _, number, demander, task, place)) = next.min() else { break };
            if self.seat(now, task, place, offers, effects) {
                seats -= 1;
            } else {
                passed.insert(demander, number);
            }
        }
    }

    /// Ends a task, unless it has; how many seats are free for it.
    fn end(&mut self, now: Now, id: TaskId, end: End, effects: &mut Vec<Effect>) -> usize {
        let Some(task) = self.tasks.get_mut(&id).filter(|t| t.end.is_none()) else { return 0 };
        task.end = Some(end);
        let forget = now.mono.after(self.config.kept);
        let (demander, old) = (task.demand.demander, core::mem::replace(&mut task.due, forget));
        let states: Vec<(u32, State)> = task.places.iter().map(|p| (p.attempt, p.state)).collect();
        self.due.remove(&(old, Due::Task(id)));
        self.due.insert((forget, Due::Task(id)));
        let mut freed = 0;
        for (place, (attempt, state)) in (0..).zip(states) {
            match state {
                State::Waiting(number) => self.unqueue(demander, id, place, number),
                State::Leased(supplier, _) => {
                    self.free(&id, place);
                    freed += 1;
                    effects.push(Effect::Released { task: id, seat: Seat { place, attempt }, supplier });
                }
                State::Done(_) => {}
            }
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.places = Vec::new();
        }
        effects.push(Effect::Ended { task: id, demander, end });
        freed
    }

    fn forget(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.due.remove(&(task.due, Due::Task(id)));
        let demander = task.demand.demander;
        if let Some(n) = self.each.get_mut(&demander) {
            *n -= 1;
            if *n == 0 {
                self.each.remove(&demander);
                self.turns.remove(&demander);
            }
        }
    }
}

impl Place {
    fn supplier(&self) -> Option<NodeId> {
        match self.state {
            State::Waiting(_) => None,
            State::Leased(supplier, _) | State::Done(supplier) => Some(supplier),
        }
    }
}

impl<Q> Task<Q> {
    /// What its demander was told of it.
    fn told(&self) -> Vec<Effect> {
        let (task, demander) = (self.demand.task, self.demand.demander);
        if let Some(end) = self.end {
            return Vec::from([Effect::Ended { task, demander, end }]);
        }
        let paired = |(place, p): (u16, &Place)| match p.state {
            State::Leased(supplier, _) => Some(Effect::Paired { task, seat: Seat { place, attempt: p.attempt }, demander, supplier }),
            State::Waiting(_) | State::Done(_) => None,
        };
        (0..).zip(&self.places).filter_map(paired).collect()
    }
}
