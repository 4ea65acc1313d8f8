//! Jobs: tasks of which some begin with the results of others. Results go from supplier to supplier; only those that no other task of
//! the job begins with come here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{AbortHandle, BoxFuture, Either, abortable, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_timer::Delay;

use super::SILENT;
use super::demander::{Event, Input, KeptResult, Order, Part, Task, Tasks};
use crate::base::{Code, Error, NodeId};
use crate::proto::task;
use crate::proto::task::message::Kept;

/// Tasks of one job.
const TASKS: usize = 256;
/// Bytes of a task's name in it.
const NAME: usize = 64;
/// How often a task of a job is begun anew, because what it made, or was to begin with, was lost.
const AGAIN: u32 = task::ATTEMPTS as u32;
/// If what a task was to begin with could not be fetched, and its holder has not been found to be gone after this time, it is tried again.
const PAUSE: Duration = Duration::from_secs(SILENT.as_secs() + 2);
/// Events told ahead.
const AHEAD: usize = 8;

/// One task of a job.
pub struct TaskSpec {
    /// What is asked for.
    pub order: Order,
    /// The tasks whose results it begins with, in this order, behind its own input.
    pub needs: Vec<String>,
    /// Its own input.
    pub input: Option<Input>,
}

impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec").field("order", &self.order).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// What is to be heard of a job.
#[derive(Debug)]
pub struct JobEvent {
    /// The task it is about.
    pub task: String,
    /// What happened.
    pub step: JobStep,
}

/// What happens to a task of a job.
#[derive(Debug)]
pub enum JobStep {
    /// What happens to any task. There is output only of tasks that no other one needs.
    Event(Event),
    /// It is done, and its supplier keeps the result for those that need it.
    Kept {
        /// Who.
        supplier: NodeId,
        /// How long it is, bytes.
        size: u64,
    },
    /// Its result is gone with its supplier, or what it was to begin with is: it is done anew.
    Again,
    /// It is done, and all of its output was told.
    Done,
}

/// How far a task of a job is.
enum State {
    Waiting,
    /// What it was to begin with could not be fetched: until that was made anew, or some time has passed.
    Stuck,
    Running,
    /// Its result is kept until the handle is used.
    Kept(Kept, AbortHandle),
    /// Its result is where it is to be.
    Done,
}

struct Member {
    order: Order,
    needs: Vec<String>,
    input: Option<Input>,
    state: State,
    /// Somebody needs its result.
    needed: bool,
    again: u32,
}

/// What became of something that ran.
enum Outcome {
    Finished(String, Option<Input>, Result<Option<Box<KeptResult>>, Error>),
    Gone(String),
    /// It is not waited any longer for what it lost.
    Retry(String),
}

/// A job under way; dropped, it is cancelled.
pub struct JobHandle {
    tasks: Tasks,
    members: BTreeMap<String, Member>,
    running: FuturesUnordered<BoxFuture<'static, Option<Outcome>>>,
    voice: mpsc::Sender<JobEvent>,
    events: mpsc::Receiver<JobEvent>,
    told: VecDeque<JobEvent>,
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("tasks", &self.members.keys()).finish_non_exhaustive()
    }
}

fn wrong(what: String) -> Error {
    Error::new(Code::BadArgument, what)
}

impl Tasks {
    /// Asks for several things to be done, some with the results of others. Nothing happens until [`JobHandle::next`] is called.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there are no tasks or over 256, one needs what there is not or in a circle, or as [`Tasks::request`].
    pub fn submit(&self, tasks: BTreeMap<String, TaskSpec>) -> Result<JobHandle, Error> {
        if !(1..=TASKS).contains(&tasks.len()) {
            return Err(wrong(format!("a job has 1 to {TASKS} tasks")));
        }
        let needed: BTreeSet<String> = tasks.values().flat_map(|t| t.needs.iter().cloned()).collect();
        for (name, spec) in &tasks {
            if !(1..=NAME).contains(&name.len()) {
                return Err(wrong(format!("the name of a task has 1 to {NAME} bytes")));
            }
            if let Some(missing) = spec.needs.iter().find(|n| !tasks.contains_key(*n)) {
                return Err(wrong(format!("{name} needs {missing}, which is no task of this job")));
            }
            if spec.needs.iter().collect::<BTreeSet<_>>().len() != spec.needs.len() {
                return Err(wrong(format!("{name} needs one task twice")));
            }
            self.check(&spec.order)?;
        }
        if let Some(name) = circle(&tasks) {
            return Err(wrong(format!("{name} needs its own result")));
        }
        let member = |(name, TaskSpec { order, needs, input }): (String, TaskSpec)| {
            let needed = needed.contains(&name);
            (name, Member { order, needs, input, state: State::Waiting, needed, again: 0 })
        };
        let (voice, events) = mpsc::channel(AHEAD);
        let members = tasks.into_iter().map(member).collect();
        let mut job = JobHandle { tasks: self.clone(), members, running: FuturesUnordered::new(), voice, events, told: VecDeque::new() };
        job.begin()?;
        Ok(job)
    }
}

/// A task that, by way of others, needs itself.
fn circle(tasks: &BTreeMap<String, TaskSpec>) -> Option<&String> {
    let mut open: BTreeMap<&String, BTreeSet<&String>> = tasks.iter().map(|(name, t)| (name, t.needs.iter().collect())).collect();
    while let Some(name) = open.iter().find(|(_, needs)| needs.is_empty()).map(|(name, _)| *name) {
        open.remove(name);
        open.values_mut().for_each(|needs| _ = needs.remove(name));
    }
    open.into_keys().next()
}

impl JobHandle {
    /// What happens next; none once all is done. Nothing is lost if it is not polled to its end.
    ///
    /// # Errors
    /// As [`Task::next`], of the first task that fails, which the message names; [`Code::InputLost`] if results were lost too often.
    pub async fn next(&mut self) -> Result<Option<JobEvent>, Error> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Some(event));
            }
            if self.members.values().all(|m| matches!(m.state, State::Done)) {
                return Ok(None);
            }
            match select(self.events.next(), self.running.next()).await {
                Either::Left((event, _)) => self.told.extend(event),
                Either::Right((Some(outcome), _)) => {
                    // What a task told before its end.
                    while let Ok(event) = self.events.try_recv() {
                        self.told.push_back(event);
                    }
                    let event = outcome.map(|outcome| self.take(outcome)).transpose()?.flatten();
                    self.told.extend(event);
                }
                // What waits, waits for something that runs.
                Either::Right((None, _)) => return Err(Error::new(Code::SupplierFailed, "nothing of the job goes on")),
            }
        }
    }

    fn take(&mut self, outcome: Outcome) -> Result<Option<JobEvent>, Error> {
        let event = match outcome {
            Outcome::Finished(name, input, result) => {
                let Some(member) = self.members.get_mut(&name) else { return Ok(None) };
                member.input = input;
                let step = match result {
                    Ok(None) => {
                        member.state = State::Done;
                        JobStep::Done
                    }
                    Ok(Some(result)) => self.keep(&name, *result),
                    Err(error) if error.code() == Code::InputLost => {
                        let stuck = name.clone();
                        self.running.push(Delay::new(PAUSE).map(|()| Some(Outcome::Retry(stuck))).boxed());
                        self.again(&name, State::Stuck, error)?
                    }
                    Err(error) => {
                        let message = format!("{name}: {}", error.message());
                        return Err(Error::new(error.code(), message).caused_by(error));
                    }
                };
                Some(JobEvent { task: name, step })
            }
            Outcome::Gone(name) => {
                let why = Error::new(Code::InputLost, "whoever kept its result is gone");
                Some(JobEvent { step: self.again(&name, State::Waiting, why)?, task: name })
            }
            Outcome::Retry(name) => {
                self.retry(&name)?;
                None
            }
        };
        self.release();
        self.begin()?;
        Ok(event)
    }

    /// Begins all that can begin.
    fn begin(&mut self) -> Result<(), Error> {
        let names: Vec<String> = self.members.keys().cloned().collect();
        names.iter().try_for_each(|name| self.start(name))
    }

    /// A task's result is there for others.
    fn keep(&mut self, name: &str, result: KeptResult) -> JobStep {
        let kept = result.kept;
        let (lasting, handle) = abortable(result.lost());
        let gone = name.to_owned();
        // Ended by the handle, it is of no more interest.
        self.running.push(async move { lasting.await.is_ok().then_some(Outcome::Gone(gone)) }.boxed());
        if let Some(member) = self.members.get_mut(name) {
            member.state = State::Kept(kept, handle);
        }
        self.free(|_, member| member.needs.iter().any(|n| n == name));
        JobStep::Kept { supplier: kept.holder, size: kept.size }
    }

    /// A task has been stuck for a while: it is tried once more with the same results, then with new ones, whatever their holders say.
    fn retry(&mut self, name: &str) -> Result<(), Error> {
        let Some(member) = self.members.get(name).filter(|m| matches!(m.state, State::Stuck)) else { return Ok(()) };
        let doubted = if member.again > 1 { member.needs.clone() } else { Vec::new() };
        for need in doubted {
            let why = Error::new(Code::InputLost, "whoever kept its result does not give it");
            let step = self.again(&need, State::Waiting, why)?;
            self.told.push_back(JobEvent { task: need, step });
        }
        self.free(|other, _| other == name);
        Ok(())
    }

    /// Those of which this holds are stuck no more.
    fn free(&mut self, which: impl Fn(&String, &Member) -> bool) {
        for (name, member) in &mut self.members {
            if matches!(member.state, State::Stuck) && which(name, member) {
                member.state = State::Waiting;
            }
        }
    }

    /// A task has to be done anew.
    fn again(&mut self, name: &str, state: State, why: Error) -> Result<JobStep, Error> {
        if let Some(member) = self.members.get_mut(name) {
            member.again += 1;
            if member.again >= AGAIN {
                let hint = "Suppliers that come and go too fast keep no results";
                return Err(Error::new(why.code(), format!("{name}: {}", why.message())).hint(hint));
            }
            if let State::Kept(_, handle) = std::mem::replace(&mut member.state, state) {
                handle.abort();
            }
        }
        Ok(JobStep::Again)
    }

    /// Begins a task, if it waits and what it needs is there.
    fn start(&mut self, name: &str) -> Result<(), Error> {
        let kept = |need: &String| match self.members.get(need).map(|m| &m.state) {
            Some(State::Kept(kept, _)) => Some(Part::Kept(*kept)),
            _ => None,
        };
        let Some(member) = self.members.get(name).filter(|m| matches!(m.state, State::Waiting)) else { return Ok(()) };
        let Some(results) = member.needs.iter().map(kept).collect::<Option<Vec<_>>>() else { return Ok(()) };
        let (order, keep) = (member.order.clone(), member.needed);
        let Some(member) = self.members.get_mut(name) else { return Ok(()) };
        let input = member.input.take().map(Part::Own).into_iter().chain(results).collect();
        member.state = State::Running;
        let task = self.tasks.ask_for(order, input, keep)?;
        self.running.push(run(name.to_owned(), task, self.voice.clone()).map(Some).boxed());
        Ok(())
    }

    /// Lets go of results that nothing can need any more: all that begins with them is done for good.
    fn release(&mut self) {
        loop {
            let done = |m: &Member| matches!(m.state, State::Done);
            let free = |name: &String| self.members.values().filter(|m| m.needs.contains(name)).all(done);
            let Some(name) = self.members.iter().find(|(name, m)| matches!(m.state, State::Kept(..)) && free(name)).map(|(n, _)| n.clone())
            else {
                return;
            };
            if let Some(member) = self.members.get_mut(&name)
                && let State::Kept(_, handle) = std::mem::replace(&mut member.state, State::Done)
            {
                handle.abort();
            }
        }
    }
}

/// Carries a task out, and tells what happens.
async fn run(name: String, mut task: Task, mut voice: mpsc::Sender<JobEvent>) -> Outcome {
    let result = loop {
        match task.next().await {
            Ok(Some(event)) => {
                // Nobody hears it where the job is being dropped.
                let _ = voice.send(JobEvent { task: name.clone(), step: JobStep::Event(event) }).await;
            }
            Ok(None) => break Ok(task.take_kept().map(Box::new)),
            Err(error) => break Err(error),
        }
    };
    let own = |part| if let Part::Own(input) = part { Some(input) } else { None };
    let input = task.into_input().into_iter().find_map(own);
    Outcome::Finished(name, input, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(tasks: &[(&str, &[&str])]) -> BTreeMap<String, TaskSpec> {
        let spec =
            |needs: &[&str]| TaskSpec { order: Order::new("x"), needs: needs.iter().map(ToString::to_string).collect(), input: None };
        tasks.iter().map(|(name, needs)| ((*name).to_owned(), spec(needs))).collect()
    }

    #[test]
    fn a_circle_is_found() {
        assert_eq!(circle(&job(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])])), None);
        assert_eq!(circle(&job(&[("a", &["a"])])), Some(&"a".to_owned()));
        assert_eq!(circle(&job(&[("a", &[]), ("b", &["a", "d"]), ("c", &["b"]), ("d", &["c"])])), Some(&"b".to_owned()));
    }
}
