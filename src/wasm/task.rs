//! Tasks: `domain.serve` and `domain.request`.

use core::time::Duration;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, LocalBoxFuture, Shared, select};
use futures::lock::Mutex;
use futures::{AsyncRead, AsyncReadExt as _, FutureExt as _};
use js_sys::{Array, Function, Promise, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::error;
use super::participant::JsQuery;
use super::source::{JsSource, Source};
use crate::base::{Code, DomainId, Error, Map};
use crate::platform::links::streams::LinkStreams;
use crate::proto::directory::{Capability, Query};
use crate::proto::task::message::PART;
use crate::proto::task::{Policy, Preference};
use crate::runtime::handle::Node;
use crate::runtime::task::{Event, Input, Job, JobEvent, JobHandle, JobStep, Order, Shelf, Supplier, Task, TaskSpec, Tasks, Work};

/// Bytes of results that a tab keeps in memory for other suppliers.
const KEPT: u64 = 256 * 1024 * 1024;

/// What the domains of a node need to ask and to serve.
pub(super) struct Exchange {
    node: Node,
    streams: LinkStreams,
    supplier: Arc<Supplier>,
    /// One for each domain: it remembers which managers are not worth asking.
    tasks: RefCell<Map<DomainId, Tasks>>,
    serving: Cell<bool>,
}

impl Exchange {
    pub fn new(node: Node, streams: &LinkStreams) -> Exchange {
        let streams = streams.tasks();
        let supplier = Supplier::new(node.clone(), Arc::new(streams.clone()), Shelf::in_memory(KEPT));
        Exchange { node, streams, supplier, tasks: RefCell::default(), serving: Cell::new(false) }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn supplier(&self) -> &Supplier {
        &self.supplier
    }

    pub fn serve(&self, domain: DomainId, capability: Capability, handler: Function) -> Result<(), Error> {
        self.supplier.offer(domain, capability, Arc::new(Handler(SendWrapper::new(handler))))?;
        if !self.serving.replace(true) {
            spawn_local(self.supplier.clone().serve(self.streams.incoming()?));
        }
        Ok(())
    }

    pub fn request(&self, domain: DomainId, order: Order, open: Function) -> Result<TaskCore, Error> {
        Ok(TaskCore { task: Some(self.tasks(domain).request(order, input(open))?), cancelled: None })
    }

    pub fn tasks(&self, domain: DomainId) -> Tasks {
        let make = || Tasks::new(self.node.clone(), domain, Arc::new(self.streams.clone()), Arc::new(self.streams.pairing()));
        self.tasks.borrow_mut().entry(domain).or_insert_with(make).clone()
    }
}

/// What is asked for, as the page says it.
pub(super) fn order(query: JsValue, policy: &str, prefer: &str, milliseconds: f64) -> Result<Order, JsValue> {
    let query = Query::from(super::from_js::<JsQuery>(query)?);
    let wrong = |what: &'static str| error::to_js(&Error::new(Code::BadArgument, what));
    let policy = match policy {
        "wait" => Policy::Wait,
        "fail" => Policy::Fail,
        "any" => Policy::Any,
        _ => return Err(wrong("what to do when nobody is free is wait, fail or any")),
    };
    let preference = match prefer {
        "idle" => Preference::Idle,
        "near" => Preference::Near,
        _ => return Err(wrong("whom to prefer is idle or near")),
    };
    let deadline = Duration::from_millis(milliseconds.max(0.0) as u64);
    Ok(Order { predicates: query.predicates, preference, policy, deadline, ..Order::new(query.capability.unwrap_or_default()) })
}

/// What `open` gives, once for each attempt.
fn input(open: Function) -> Input {
    let open = SendWrapper::new(open);
    Box::new(move || {
        let source = open.call0(&JsValue::NULL).map_err(|e| io::Error::other(error::thrown(&e, Code::Storage)));
        let source = source.map(|s| Box::new(Source::from(s.unchecked_into::<JsSource>())) as Box<dyn AsyncRead + Send + Unpin>);
        std::future::ready(source).boxed()
    })
}

/// A function of the page that does the work.
struct Handler(SendWrapper<Function>);

impl Work for Handler {
    fn run(&self, job: Job) -> BoxFuture<'static, Result<(), Error>> {
        let handler = self.0.clone();
        let work = async move {
            // Both end with this future: the page hears that nobody waits any more, and what it keeps of the job says nothing more.
            let (_waited, gone) = oneshot::channel::<()>();
            let voice = Rc::new(job.another());
            let core = JobCore {
                id: super::hex(&job.ticket.task),
                demander: job.ticket.demander.to_string(),
                input: Mutex::new(job.input),
                output: Rc::downgrade(&voice),
                gone: gone.shared(),
            };
            let failed = |e: JsValue| error::thrown(&e, Code::TaskFailed);
            let promise = handler.call1(&JsValue::NULL, &core.into()).map_err(failed)?;
            JsFuture::from(Promise::resolve(&promise)).await.map(drop).map_err(failed)
        };
        SendWrapper::new(work).boxed()
    }
}

/// A task that somebody else asked for.
#[wasm_bindgen]
pub struct JobCore {
    id: String,
    demander: String,
    input: Mutex<Pin<Box<dyn AsyncRead + Send>>>,
    output: Weak<Job>,
    gone: Shared<oneshot::Receiver<()>>,
}

#[wasm_bindgen]
impl JobCore {
    /// The task's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Who asks.
    #[wasm_bindgen(getter)]
    pub fn demander(&self) -> String {
        self.demander.clone()
    }

    /// More of the input; `undefined` at its end.
    ///
    /// # Errors
    /// `aborted` if the demander is gone.
    pub async fn next(&self) -> Result<Option<Uint8Array>, JsValue> {
        let mut part = vec![0; PART];
        let n = self.input.lock().await.read(&mut part).await;
        let n = n.map_err(|_| gone())?;
        Ok((n > 0).then(|| Uint8Array::from(&part[..n])))
    }

    /// Puts out more; settles when there is room for that.
    ///
    /// # Errors
    /// `aborted` if the demander is gone.
    pub async fn write(&self, bytes: Vec<u8>) -> Result<(), JsValue> {
        self.voice()?.write(&bytes).await.map_err(|e| error::to_js(&e))
    }

    /// Says how far it is.
    ///
    /// # Errors
    /// As [`JobCore::write`].
    pub async fn progress(&self, bytes: Vec<u8>) -> Result<(), JsValue> {
        self.voice()?.progress(&bytes).await.map_err(|e| error::to_js(&e))
    }

    /// Settles once nobody waits for it any more, be it done or not.
    pub async fn gone(&self) {
        let _ = self.gone.clone().await;
    }
}

impl JobCore {
    fn voice(&self) -> Result<Job, JsValue> {
        self.output.upgrade().map(|voice| voice.another()).ok_or_else(gone)
    }
}

fn gone() -> JsValue {
    error::to_js(&Error::new(Code::Aborted, "the demander is gone, or the task is done"))
}

/// A task that this node asked for.
#[wasm_bindgen]
pub struct TaskCore {
    task: Option<Task>,
    cancelled: Option<Cancelled>,
}

#[wasm_bindgen]
impl TaskCore {
    /// The task's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.task.as_ref().map(|task| super::hex(&task.id())).unwrap_or_default()
    }

    /// What happens next: `[kind, …]`; `undefined` once it is done. `cancel` settling ends the task; it is that of the first call. One call at
    /// a time.
    ///
    /// # Errors
    /// As [`Task::next`]; `aborted`.
    pub async fn next(&mut self, cancel: Promise) -> Result<Option<Array>, JsValue> {
        let mut task = self.task.take().ok_or_else(|| error::to_js(&Error::new(Code::Closed, "the task is over")))?;
        let next = unless(&mut self.cancelled, cancel, pin!(task.next())).await?;
        self.task = Some(task);
        Ok(next.map(told))
    }
}

/// A job that this node asks for.
#[wasm_bindgen]
pub struct JobHandleCore {
    tasks: Tasks,
    specs: Vec<TaskSpec>,
    job: Option<JobHandle>,
    cancelled: Option<Cancelled>,
}

impl JobHandleCore {
    pub(super) fn new(tasks: Tasks) -> JobHandleCore {
        JobHandleCore { tasks, specs: Vec::new(), job: None, cancelled: None }
    }
}

#[wasm_bindgen]
impl JobHandleCore {
    /// Adds a task, as [`super::domain::DomainCore::request`] takes it, and the names of those whose results it begins with.
    ///
    /// # Errors
    /// `bad-argument`.
    pub fn add(
        &mut self,
        name: String,
        needs: Vec<String>,
        query: JsValue,
        policy: &str,
        prefer: &str,
        milliseconds: f64,
    ) -> Result<(), JsValue> {
        self.specs.push(TaskSpec { name, order: order(query, policy, prefer, milliseconds)?, needs, input: None });
        Ok(())
    }

    /// Gives the task that was added last an input of its own.
    pub fn give(&mut self, open: Function) {
        if let Some(spec) = self.specs.last_mut() {
            spec.input = Some(input(open));
        }
    }

    /// Begins with what was added.
    ///
    /// # Errors
    /// As [`Tasks::submit`].
    pub fn begin(&mut self) -> Result<(), JsValue> {
        let job = self.tasks.submit(std::mem::take(&mut self.specs)).map_err(|e| error::to_js(&e))?;
        self.job = Some(job);
        Ok(())
    }

    /// What happens next: `[task, kind, …]`; `undefined` once it is done. `cancel` settling ends the job; it is that of the first call. One
    /// call at a time.
    ///
    /// # Errors
    /// As [`JobHandle::next`]; `aborted`.
    pub async fn next(&mut self, cancel: Promise) -> Result<Option<Array>, JsValue> {
        let mut job = self.job.take().ok_or_else(|| error::to_js(&Error::new(Code::Closed, "the job is over")))?;
        let next = unless(&mut self.cancelled, cancel, pin!(job.next())).await?;
        self.job = Some(job);
        Ok(next.map(|JobEvent { task, step }| {
            let step = match step {
                JobStep::Event(event) => told(event),
                JobStep::Kept { supplier, size } => Array::of3(&"kept".into(), &supplier.to_string().into(), &(size as f64).into()),
                JobStep::Again => Array::of1(&"again".into()),
                JobStep::Done => Array::of1(&"done".into()),
            };
            step.unshift(&task.into());
            step
        }))
    }
}

/// Set off once the page does not want any more.
type Cancelled = Shared<LocalBoxFuture<'static, ()>>;

/// What happens next, unless `cancel` settles before. A promise keeps whoever waits for it until it settles, so it is waited for once only.
async fn unless<T>(
    cancelled: &mut Option<Cancelled>,
    cancel: Promise,
    next: impl Future<Output = Result<T, Error>> + Unpin,
) -> Result<T, JsValue> {
    let cancelled = cancelled.get_or_insert_with(|| JsFuture::from(cancel).map(drop).boxed_local().shared()).clone();
    let next = match select(next, cancelled).await {
        Either::Left((next, _)) => next,
        Either::Right(_) => Err(Error::new(Code::Aborted, "it was cancelled")),
    };
    next.map_err(|e| error::to_js(&e))
}

fn told(event: Event) -> Array {
    let bytes = |b: Vec<u8>| JsValue::from(Uint8Array::from(&b[..]));
    match event {
        Event::Begun { supplier, attempt } => Array::of3(&"begun".into(), &supplier.to_string().into(), &attempt.into()),
        Event::Progress(b) => Array::of2(&"progress".into(), &bytes(b)),
        Event::Output(b) => Array::of2(&"output".into(), &bytes(b)),
        Event::Lost { supplier, error } => Array::of3(&"lost".into(), &supplier.to_string().into(), &error::to_js(&error)),
    }
}
