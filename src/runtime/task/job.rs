//! Jobs: tasks of which some begin with the results of others. Results go from supplier to supplier; only those that no other task of
//! the job begins with come here.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{AbortHandle, BoxFuture, Either, abortable, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_timer::Delay;

use super::SILENT;
use super::attempt::{Input, KeptResult, Part};
use super::demander::{Event, Order, Task, Tasks};
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
    /// Its name, 1 to 64 bytes.
    pub name: String,
    /// What is asked for.
    pub order: Order,
    /// The tasks whose results it begins with, in this order, behind its own input.
    pub needs: Vec<String>,
    /// Its own input.
    pub input: Option<Input>,
}

impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec").field("name", &self.name).field("order", &self.order).field("needs", &self.needs).finish_non_exhaustive()
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
    name: String,
    order: Order,
    /// The numbers of the tasks whose results it begins with.
    needs: Vec<usize>,
    input: Option<Input>,
    state: State,
    /// Somebody needs its result.
    needed: bool,
    again: u32,
}

/// What became of something that ran, with the number of its task.
enum Outcome {
    Finished(usize, Option<Input>, Result<Option<Box<KeptResult>>, Error>),
    Gone(usize),
    /// It is not waited any longer for what it lost.
    Retry(usize),
}

/// A job under way; dropped, it is cancelled.
pub struct JobHandle {
    tasks: Tasks,
    members: Vec<Member>,
    running: FuturesUnordered<BoxFuture<'static, Option<Outcome>>>,
    voice: mpsc::Sender<JobEvent>,
    events: mpsc::Receiver<JobEvent>,
    told: VecDeque<JobEvent>,
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("tasks", &self.members.len()).finish_non_exhaustive()
    }
}

fn wrong(what: String) -> Error {
    Error::new(Code::BadArgument, what)
}

impl Tasks {
    /// Asks for several things to be done, some with the results of others. Nothing happens until [`JobHandle::next`] is called.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there are no tasks or over 256, two of one name, one needs what there is not or in a circle, or as
    /// [`Tasks::request`].
    pub fn submit(&self, tasks: Vec<TaskSpec>) -> Result<JobHandle, Error> {
        if !(1..=TASKS).contains(&tasks.len()) {
            return Err(wrong(format!("a job has 1 to {TASKS} tasks")));
        }
        let needs = numbered(&tasks)?;
        let mut members = Vec::new();
        for (TaskSpec { name, order, input, .. }, needs_of) in tasks.into_iter().zip(&needs) {
            self.check(&order)?;
            let needed = needs.iter().any(|n| n.contains(&members.len()));
            members.push(Member { name, order, needs: needs_of.clone(), input, state: State::Waiting, needed, again: 0 });
        }
        let (voice, events) = mpsc::channel(AHEAD);
        let mut job = JobHandle { tasks: self.clone(), members, running: FuturesUnordered::new(), voice, events, told: VecDeque::new() };
        job.begin()?;
        Ok(job)
    }
}

/// What each task needs, by numbers.
fn numbered(tasks: &[TaskSpec]) -> Result<Vec<Vec<usize>>, Error> {
    let mut all = Vec::new();
    for (number, TaskSpec { name, needs, .. }) in tasks.iter().enumerate() {
        if !(1..=NAME).contains(&name.len()) || tasks[..number].iter().any(|t| t.name == *name) {
            return Err(wrong(format!("each task has a name of its own, of 1 to {NAME} bytes")));
        }
        let mut numbers = Vec::new();
        for need in needs {
            match tasks.iter().position(|t| t.name == *need) {
                Some(n) if !numbers.contains(&n) => numbers.push(n),
                Some(_) => return Err(wrong(format!("{name} needs {need} twice"))),
                None => return Err(wrong(format!("{name} needs {need}, which is no task of this job"))),
            }
        }
        all.push(numbers);
    }
    // One after the other is done, if what it needs is; what is left over waits for itself.
    let mut done = vec![false; all.len()];
    while let Some(next) = (0..all.len()).find(|n| !done[*n] && all[*n].iter().all(|need| done[*need])) {
        done[next] = true;
    }
    match done.iter().position(|done| !done) {
        Some(stuck) => Err(wrong(format!("{} needs its own result", tasks[stuck].name))),
        None => Ok(all),
    }
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
            if self.members.iter().all(|m| matches!(m.state, State::Done)) {
                return Ok(None);
            }
            match select(self.events.next(), self.running.next()).await {
                Either::Left((event, _)) => self.told.extend(event),
                Either::Right((Some(outcome), _)) => {
                    // What a task told before its end.
                    while let Ok(event) = self.events.try_recv() {
                        self.told.push_back(event);
                    }
                    if let Some(outcome) = outcome {
                        self.take(outcome)?;
                    }
                }
                // What waits, waits for something that runs.
                Either::Right((None, _)) => return Err(Error::new(Code::SupplierFailed, "nothing of the job goes on")),
            }
        }
    }

    fn tell(&mut self, number: usize, step: JobStep) {
        let task = self.members[number].name.clone();
        self.told.push_back(JobEvent { task, step });
    }

    fn take(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Finished(number, input, result) => {
                let member = &mut self.members[number];
                member.input = input;
                match result {
                    Ok(None) => {
                        member.state = State::Done;
                        self.tell(number, JobStep::Done);
                    }
                    Ok(Some(result)) => self.keep(number, *result),
                    Err(error) if error.code() == Code::InputLost => {
                        self.running.push(Delay::new(PAUSE).map(move |()| Some(Outcome::Retry(number))).boxed());
                        self.again(number, State::Stuck, error.message())?;
                    }
                    Err(error) => {
                        let message = format!("{}: {}", member.name, error.message());
                        return Err(Error::new(error.code(), message).caused_by(error));
                    }
                }
            }
            Outcome::Gone(number) => self.again(number, State::Waiting, "whoever kept its result is gone")?,
            Outcome::Retry(number) => self.retry(number)?,
        }
        self.release();
        self.begin()
    }

    /// A task's result is there for others.
    fn keep(&mut self, number: usize, result: KeptResult) {
        let kept = result.kept;
        let (lasting, handle) = abortable(result.lost());
        // Ended by the handle, it is of no more interest.
        self.running.push(async move { lasting.await.is_ok().then_some(Outcome::Gone(number)) }.boxed());
        self.members[number].state = State::Kept(kept, handle);
        for member in self.members.iter_mut().filter(|m| m.needs.contains(&number)) {
            member.free();
        }
        self.tell(number, JobStep::Kept { supplier: kept.holder, size: kept.size });
    }

    /// A task has been stuck for a while: it is tried once more with the same results, then with new ones, whatever their holders say.
    fn retry(&mut self, number: usize) -> Result<(), Error> {
        let member = &mut self.members[number];
        if matches!(member.state, State::Stuck) {
            let doubted = if member.again > 1 { member.needs.clone() } else { Vec::new() };
            member.free();
            for need in doubted {
                // One that is being made anew already is left to that.
                if !matches!(self.members[need].state, State::Kept(..)) {
                    continue;
                }
                self.again(need, State::Waiting, "whoever kept its result does not give it")?;
            }
        }
        Ok(())
    }

    /// A task has to be done anew.
    fn again(&mut self, number: usize, state: State, why: &str) -> Result<(), Error> {
        let member = &mut self.members[number];
        member.again += 1;
        if member.again >= AGAIN {
            let hint = "Suppliers that come and go too fast keep no results";
            return Err(Error::new(Code::InputLost, format!("{}: {why}", member.name)).hint(hint));
        }
        if let State::Kept(_, handle) = std::mem::replace(&mut member.state, state) {
            handle.abort();
        }
        self.tell(number, JobStep::Again);
        Ok(())
    }

    /// Begins all that waits and can begin.
    fn begin(&mut self) -> Result<(), Error> {
        for number in 0..self.members.len() {
            let kept = |need: &usize| match &self.members[*need].state {
                State::Kept(kept, _) => Some(Part::Kept(*kept)),
                _ => None,
            };
            let member = &self.members[number];
            if matches!(member.state, State::Waiting)
                && let Some(results) = member.needs.iter().map(kept).collect::<Option<Vec<_>>>()
            {
                let member = &mut self.members[number];
                let input = member.input.take().map(Part::Own).into_iter().chain(results).collect();
                member.state = State::Running;
                let task = self.tasks.ask_for(member.order.clone(), input, member.needed)?;
                self.running.push(run(number, member.name.clone(), task, self.voice.clone()).map(Some).boxed());
            }
        }
        Ok(())
    }

    /// Lets go of results that nothing can need any more: all that begins with them is done for good.
    fn release(&mut self) {
        let needs_it = |number: usize| move |m: &Member| m.needs.contains(&number) && !matches!(m.state, State::Done);
        let over = |(number, m): (usize, &Member)| matches!(m.state, State::Kept(..)) && !self.members.iter().any(needs_it(number));
        // One that is let go of may have needed another.
        if let Some(number) = self.members.iter().enumerate().position(over) {
            if let State::Kept(_, handle) = std::mem::replace(&mut self.members[number].state, State::Done) {
                handle.abort();
            }
            self.release();
        }
    }
}

impl Member {
    /// It is stuck no more.
    fn free(&mut self) {
        if matches!(self.state, State::Stuck) {
            self.state = State::Waiting;
        }
    }
}

/// Carries a task out, and tells what happens.
async fn run(number: usize, name: String, mut task: Task, mut voice: mpsc::Sender<JobEvent>) -> Outcome {
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
    Outcome::Finished(number, input, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(tasks: &[(&str, &[&str])]) -> Result<Vec<Vec<usize>>, Code> {
        let spec = |(name, needs): &(&str, &[&str])| {
            let needs = needs.iter().map(ToString::to_string).collect();
            TaskSpec { name: (*name).to_owned(), order: Order::new("x"), needs, input: None }
        };
        numbered(&tasks.iter().map(spec).collect::<Vec<_>>()).map_err(|e| e.code())
    }

    #[test]
    fn what_a_task_needs_is_there_and_not_itself() {
        assert_eq!(job(&[("c", &["b", "a"]), ("a", &[]), ("b", &["a"])]), Ok(vec![vec![2, 1], vec![], vec![1]]));
        for wrong in [
            &[("a", &["a"][..])][..],
            &[("a", &[]), ("b", &["a", "d"]), ("c", &["b"]), ("d", &["c"])],
            &[("a", &["b"])],
            &[("a", &[]), ("b", &["a", "a"])],
            &[("a", &[]), ("a", &[])],
            &[("", &[])],
        ] {
            assert_eq!(job(wrong), Err(Code::BadArgument), "{wrong:?}");
        }
    }
}
