//! Pairing by the domain manager: it pairs, in turns; it dies, lies or says nothing, and tasks are done all the same; and tickets that
//! are not what they seem are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{AsyncReadExt as _, FutureExt as _, SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use peerage::base::{Code, DomainId, Error, NodeId, Wall};
use peerage::crypto::Role;
use peerage::crypto::sign::SigningKey;
use peerage::node::data::DataDir;
use peerage::node::domain::DomainFiles;
use peerage::node::pairing::Service;
use peerage::peer::{Config, Path, Profile, SavedDomain};
use peerage::platform::links::streams::LinkStreams;
use peerage::platform::native::{self, NativeConfig, NativePlatform, entropy};
use peerage::proto::directory::{Capability, Predicate, Query, Test, Value};
use peerage::proto::task::message::{MESSAGE, Reply, Request};
use peerage::proto::task::pairing::{self, Answer, Call};
use peerage::proto::task::{End, Policy, Seat, Ticket};
use peerage::runtime::handle::Node;
use peerage::runtime::streams::{Streams as _, framed, reach};
use peerage::runtime::task::{Event, FOR, Input, Job, Order, Shelf, Supplier, Task, Tasks, Work};
use tokio::sync::watch;

use crate::cli::Scratch;
use crate::data::{holds, text};
use crate::participant::{Home, LISTEN, Participant, manage};

/// For anything: a machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(150);

pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

/// A node of a domain, in this process, on loopback.
pub struct Member {
    pub key: SigningKey,
    pub node: Node,
    pub domain: DomainId,
    pub streams: LinkStreams,
}

fn made() -> SigningKey {
    SigningKey::generate(&mut entropy().unwrap())
}

impl Member {
    fn start(key: &SigningKey) -> (Node, LinkStreams) {
        let config = NativeConfig { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..NativeConfig::default() };
        let platform = NativePlatform::new(key, &config).unwrap();
        let streams = platform.streams();
        let own = SigningKey::from_seed(&key.seed());
        let (node, driver) = native::start_on(platform, own, Config::native(), entropy().unwrap().bytes());
        tokio::spawn(driver);
        (node, streams)
    }

    async fn of(saved: &SavedDomain, role: Role, name: &str) -> Member {
        let key = made();
        let (node, streams) = Member::start(&key);
        let domain = node.open_domain(saved, role, profile(name)).unwrap();
        while node.addresses().is_empty() {
            node.next_event().await.unwrap();
        }
        Member { key, node, domain, streams }
    }

    pub async fn joined(link: &str, name: &str) -> Member {
        let key = made();
        let (node, streams) = Member::start(&key);
        let domain = in_time("join", node.join(link, profile(name))).await.unwrap();
        Member { key, node, domain, streams }
    }

    pub fn id(&self) -> NodeId {
        self.key.node_id()
    }

    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.node.clone(), self.domain, Arc::new(self.streams.tasks()), Arc::new(self.streams.pairing()))
    }

    pub fn supplier(&self) -> Arc<Supplier> {
        let supplier = Supplier::new(self.node.clone(), Arc::new(self.streams.tasks()), Shelf::in_memory(1 << 20));
        tokio::spawn(Arc::clone(&supplier).serve(self.streams.tasks().incoming().unwrap()));
        supplier
    }

    /// Waits until it is linked with others and sees that they are online.
    pub async fn sees(&self, others: &[NodeId]) {
        let online = Query { online: Some(true), ..Query::default() };
        until("they see each other", || {
            let here: BTreeSet<NodeId> = self.node.participants(self.domain, &online).unwrap().iter().map(|p| p.node).collect();
            let links = self.node.links(Some(self.domain));
            let linked: BTreeSet<NodeId> = links.iter().filter(|l| l.path == Some(Path::Direct)).map(|l| l.node).collect();
            others.iter().all(|o| here.contains(o) && linked.contains(o))
        })
        .await;
    }

    /// Waits until what another offers is known.
    pub async fn knows(&self, other: NodeId, capability: &str) {
        until("the offer is known", || {
            let known = self.node.participant(self.domain, other).unwrap();
            known.is_some_and(|p| p.capabilities.iter().any(|c| c.name == capability))
        })
        .await;
    }
}

/// A domain with a manager, of which this process holds all keys.
pub struct Town {
    pub manager: Member,
    /// What others open: with it the root key, and where the manager is.
    saved: SavedDomain,
}

impl Town {
    pub async fn found(scratch: &Scratch) -> Town {
        let files = DomainFiles::open(&DataDir::open(&scratch.0).unwrap()).unwrap();
        let saved = files.create("town").unwrap();
        let manager = Member::of(&saved, Role::Manager, "manager").await;
        let saved = SavedDomain { contacts: vec![(manager.id(), manager.node.addresses())], ..saved };
        Town { manager, saved }
    }

    pub fn serve(&self) -> Arc<Service> {
        let service = Service::new(self.manager.node.clone(), self.manager.domain).unwrap();
        tokio::spawn(Arc::clone(&service).serve(self.manager.streams.pairing().incoming().unwrap()));
        service
    }

    pub async fn participant(&self, name: &str) -> Member {
        let member = Member::of(&self.saved, Role::Participant, name).await;
        member.sees(&[self.manager.id()]).await;
        member
    }
}

/// What a supplier was asked for: by whom, and paired by whom.
#[derive(Clone)]
pub struct Jobs {
    began: Arc<Mutex<Vec<(NodeId, NodeId)>>>,
    /// Nothing is done while it is shut.
    pub open: watch::Sender<bool>,
    fails: bool,
}

impl Jobs {
    pub fn new(open: bool) -> Jobs {
        Jobs { began: Arc::default(), open: watch::Sender::new(open), fails: false }
    }

    pub fn demanders(&self) -> Vec<NodeId> {
        self.began.lock().unwrap().iter().map(|(demander, _)| *demander).collect()
    }

    fn issuers(&self) -> BTreeSet<NodeId> {
        self.began.lock().unwrap().iter().map(|(_, issuer)| *issuer).collect()
    }
}

impl Work for Jobs {
    fn run(&self, mut job: Job) -> BoxFuture<'static, Result<(), Error>> {
        let (jobs, mut open) = (self.clone(), self.open.subscribe());
        async move {
            jobs.began.lock().unwrap().push((job.ticket.demander, job.ticket.issuer));
            if jobs.fails {
                return Err(Error::new(Code::SupplierFailed, "it cannot"));
            }
            open.wait_for(|open| *open).await.unwrap();
            let mut input = Vec::new();
            job.input.read_to_end(&mut input).await.map_err(|e| Error::new(Code::Aborted, "the input broke").caused_by(e))?;
            job.write(&input).await
        }
        .boxed()
    }
}

pub fn input(bytes: &'static [u8]) -> Input {
    Box::new(move || async move { Ok(Box::new(futures::io::Cursor::new(bytes)) as Box<_>) }.boxed())
}

/// What came of a task: its output, how often it began, and how often that was lost.
async fn finish(mut task: Task) -> (Vec<u8>, u32, u32) {
    let (mut output, mut begun, mut lost) = (Vec::new(), 0, 0);
    while let Some(event) = in_time("the task is done", task.next()).await.unwrap() {
        match event {
            Event::Begun { .. } => (output, begun) = (Vec::new(), begun + 1),
            Event::Output(bytes) => output.extend(bytes),
            Event::Lost { .. } => lost += 1,
            Event::Progress(_) => {}
        }
    }
    (output, begun, lost)
}

#[tokio::test]
async fn demanders_take_turns_at_what_the_manager_pairs() {
    let scratch = Scratch::new("turns");
    let town = Town::found(&scratch).await;
    let service = town.serve();
    let bob = town.participant("bob").await;
    let jobs = Jobs::new(false);
    bob.supplier().offer(bob.domain, Capability::new("echo", 1), Arc::new(jobs.clone())).unwrap();
    let mut members = Vec::new();
    for name in ["ann", "bea", "cid"] {
        let member = town.participant(name).await;
        member.knows(bob.id(), "echo").await;
        members.push(member);
    }
    town.manager.knows(bob.id(), "echo").await;

    // One that holds the only seat, and ends without a word; then each asks for six, one after the other.
    let mut first = members[0].tasks().request(Order::new("echo"), input(b"never done")).unwrap();
    assert!(matches!(in_time("it begins", first.next()).await.unwrap(), Some(Event::Begun { .. })));
    let mut running = Vec::new();
    for (n, member) in members.iter().enumerate() {
        for _ in 0..6 {
            running.push(tokio::spawn(finish(member.tasks().request(Order::new("echo"), input(b"echo")).unwrap())));
        }
        until("they wait", || service.waiting() == 6 * (n + 1)).await;
    }
    drop(first);
    jobs.open.send_replace(true);
    for task in running {
        let (output, begun, _) = task.await.unwrap();
        assert_eq!((output.as_slice(), begun), (&b"echo"[..], 1));
    }
    assert_eq!(jobs.issuers(), BTreeSet::from([town.manager.id()]), "the manager paired all of them");
    let order = jobs.demanders();
    assert_eq!(order.len(), 19);
    let names: BTreeMap<NodeId, char> = members.iter().map(Member::id).zip("abc".chars()).collect();
    let order: String = order[1..].iter().map(|demander| names[demander]).collect();
    for round in order.as_bytes().chunks(3) {
        assert_eq!(BTreeSet::from_iter(round).len(), 3, "each comes once in each round: {order}");
    }
}

#[tokio::test]
async fn tasks_one_after_the_other_share_a_stream_to_the_manager() {
    let scratch = Scratch::new("shared");
    let town = Town::found(&scratch).await;
    let came = Arc::new(AtomicUsize::new(0));
    let counting = came.clone();
    let incoming = town.manager.streams.pairing().incoming().unwrap();
    let service = Service::new(town.manager.node.clone(), town.manager.domain).unwrap();
    tokio::spawn(service.serve(incoming.inspect(move |_| _ = counting.fetch_add(1, Ordering::SeqCst))));
    let (bob, ann) = (town.participant("bob").await, town.participant("ann").await);
    let jobs = Jobs::new(true);
    bob.supplier().offer(bob.domain, Capability { capacity: 4, ..Capability::new("echo", 1) }, Arc::new(jobs.clone())).unwrap();
    ann.knows(bob.id(), "echo").await;
    town.manager.knows(bob.id(), "echo").await;

    let tasks = ann.tasks();
    let again = |text: &'static [u8]| finish(tasks.request(Order::new("echo"), input(text)).unwrap());
    for _ in 0..20 {
        assert_eq!(again(b"in turn").await, (b"in turn".to_vec(), 1, 0));
    }
    assert_eq!(came.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        let all = futures::future::join_all([again(b"a"), again(b"b"), again(b"c")]).await;
        assert_eq!(all.iter().map(|(output, ..)| output.as_slice()).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }
    assert_eq!(came.load(Ordering::SeqCst), 3, "as many as tasks at once");
    // One that is given up takes its stream with it, and what rests is not disturbed.
    jobs.open.send_replace(false);
    let mut given_up = tasks.request(Order::new("echo"), input(b"never done")).unwrap();
    assert!(matches!(in_time("it begins", given_up.next()).await.unwrap(), Some(Event::Begun { .. })));
    drop(given_up);
    jobs.open.send_replace(true);
    assert_eq!(again(b"after").await, (b"after".to_vec(), 1, 0));
    assert_eq!(came.load(Ordering::SeqCst), 3);
    assert_eq!(jobs.issuers(), BTreeSet::from([town.manager.id()]), "the manager paired all of them");
}

#[tokio::test]
async fn who_fails_is_replaced_by_the_manager_and_a_query_is_heeded() {
    let scratch = Scratch::new("replaced");
    let town = Town::found(&scratch).await;
    town.serve();
    let (bob, cid, ann) = (town.participant("bob").await, town.participant("cid").await, town.participant("ann").await);
    let (failing, able) = (Jobs { fails: true, ..Jobs::new(true) }, Jobs::new(true));
    bob.supplier().offer(bob.domain, Capability::new("echo", 1), Arc::new(failing.clone())).unwrap();
    let mut big = Capability { load: 50, capacity: 4, ..Capability::new("echo", 1) };
    big.attributes.insert("memory".into(), Value::Int(64));
    cid.supplier().offer(cid.domain, big, Arc::new(able.clone())).unwrap();
    for other in [&bob, &cid] {
        ann.knows(other.id(), "echo").await;
        town.manager.knows(other.id(), "echo").await;
    }
    let task = ann.tasks().request(Order::new("echo"), input(b"again")).unwrap();
    assert_eq!(finish(task).await, (b"again".to_vec(), 2, 1), "the idle one failed");
    let wants = Predicate { key: "memory".into(), test: Test::Ge(Value::Int(64)) };
    let order = Order { predicates: vec![wants], ..Order::new("echo") };
    assert_eq!(finish(ann.tasks().request(order, input(b"big")).unwrap()).await, (b"big".to_vec(), 1, 0));
    let manager = BTreeSet::from([town.manager.id()]);
    assert_eq!((failing.issuers(), able.issuers()), (manager.clone(), manager));
    assert_eq!((failing.demanders().len(), able.demanders().len()), (1, 2));
    // A no is a no.
    let order = Order { policy: Policy::Fail, ..Order::new("unheard-of") };
    let mut task = ann.tasks().request(order, input(b"")).unwrap();
    assert_eq!(in_time("it ends", task.next()).await.unwrap_err().code(), Code::NoParticipant);
}

#[tokio::test]
async fn the_manager_is_killed_while_fifty_tasks_run_and_all_of_them_finish() {
    const RUNNING: usize = 50;
    const WAITING: usize = 5;
    let scratch = Scratch::new("fifty");
    let mut home = Home::start(&scratch).await;
    home.manager.kill().await.unwrap();
    let record = scratch.0.join("heard.bin");
    home.manager = manage(&home.owner, &home.ready.addresses[0], &["--record", text(&record)]).await;
    let arguments = ["--name", "bob", "--serve", "echo=cat", "--capacity", &RUNNING.to_string()];
    let mut bob = Participant::start(&scratch.0.join("bob"), &[&[home.link.as_str()], &LISTEN[..], &arguments].concat()).await;
    let ann = Member::joined(&home.link, "ann").await;
    let (bob_id, online) = (bob.node.parse::<NodeId>().unwrap(), Query { online: Some(true), ..Query::default() });
    until("a manager", || ann.node.participants(ann.domain, &online).unwrap().iter().any(|p| p.role == Role::Manager)).await;
    ann.knows(bob_id, "echo").await;
    ann.sees(&[bob_id]).await;

    // What `cat` puts out ends when its input does, and that is after the manager.
    let (gate, shut) = watch::channel(false);
    let (tasks, mut running, mut ids) = (ann.tasks(), Vec::new(), Vec::new());
    let (begun, killed) = (watch::Sender::new(0), watch::Sender::new(false));
    for _ in 0..RUNNING + WAITING {
        let shut = shut.clone();
        let gated: Input = Box::new(move || {
            let mut shut = shut.clone();
            let rest = async move {
                shut.wait_for(|open| *open).await.unwrap();
                Ok(b"and rest".to_vec())
            };
            let all = stream::iter([Ok::<_, io::Error>(b"beginning ".to_vec())]).chain(stream::once(rest)).boxed();
            async move { Ok(Box::new(all.into_async_read()) as Box<_>) }.boxed()
        });
        let mut task = tasks.request(Order::new("echo"), gated).unwrap();
        ids.push(task.id());
        let (begun, killed) = (begun.clone(), killed.clone());
        running.push(tokio::spawn(async move {
            let (mut output, mut runs, mut late) = (Vec::new(), false, false);
            while let Some(event) = in_time("the task is done", task.next()).await.unwrap() {
                match event {
                    Event::Begun { .. } => {
                        (output, runs, late) = (Vec::new(), true, *killed.borrow());
                        begun.send_modify(|n| *n += 1);
                    }
                    Event::Output(bytes) => output.extend(bytes),
                    // Of two connections between the same two one is closed, and what went over it begins anew; not later.
                    Event::Lost { error, .. } => {
                        assert!(!runs || !*killed.borrow(), "what ran went on: {error:?}");
                        if std::mem::take(&mut runs) {
                            begun.send_modify(|n| *n -= 1);
                        }
                    }
                    Event::Progress(_) => {}
                }
            }
            (output, late)
        }));
    }
    in_time("they run", begun.subscribe().wait_for(|n| *n == RUNNING)).await.unwrap();
    // It paired them: it heard of each, and of nothing that they are about.
    let heard = std::fs::read(&record).unwrap();
    killed.send_replace(true);
    home.manager.kill().await.unwrap();
    assert!(ids.iter().all(|id| holds(&heard, id)), "the manager was asked");
    assert!(!holds(&heard, b"beginning "), "and heard no input");
    // Until it must have been noticed.
    tokio::time::sleep(pairing::BEAT * 5).await;
    gate.send_replace(true);
    let mut afterwards = 0;
    for task in running {
        let (output, late) = task.await.unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "beginning and rest");
        afterwards += usize::from(late);
    }
    assert_eq!(afterwards, WAITING, "they began when the manager was gone; the others had begun before");
    bob.child.kill().await.unwrap();
}

#[tokio::test]
async fn a_supplier_tells_that_it_is_full_while_that_lasts() {
    let scratch = Scratch::new("full");
    let town = Town::found(&scratch).await;
    let (bob, ann) = (town.participant("bob").await, town.participant("ann").await);
    let jobs = Jobs::new(false);
    bob.supplier().offer(bob.domain, Capability { capacity: 2, ..Capability::new("echo", 1) }, Arc::new(jobs.clone())).unwrap();
    ann.knows(bob.id(), "echo").await;
    let load = || ann.node.participant(ann.domain, bob.id()).unwrap().unwrap().capabilities[0].load;
    assert_eq!(load(), 0);
    let task = tokio::spawn(finish(ann.tasks().request(Order::new("echo"), input(b"")).unwrap()));
    until("it is half full", || load() == 50).await;
    jobs.open.send_replace(true);
    task.await.unwrap();
    until("it is free", || load() == 0).await;
}

/// What a manager does with a demand, by the capability that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Pairs with a participant that does not do this.
    Incapable,
    /// Pairs with one that does not satisfy the query.
    Unfit,
    /// Pairs with somebody who is not there.
    Nobody,
    /// Pairs as if it were somebody else.
    Impersonated,
    /// Gives a ticket for another task.
    Swapped,
    /// Gives the last attempt that there can be.
    Exhausted,
    /// Says that nobody is there.
    Denied,
    /// Says that it is over.
    Over,
    Garbage,
    Closed,
    /// Hears, and never pairs.
    Withheld,
    Silent,
}

const LIES: [Lie; 12] = [
    Lie::Incapable,
    Lie::Unfit,
    Lie::Nobody,
    Lie::Impersonated,
    Lie::Swapped,
    Lie::Exhausted,
    Lie::Denied,
    Lie::Over,
    Lie::Garbage,
    Lie::Closed,
    Lie::Withheld,
    Lie::Silent,
];

/// A manager that lies on every stream of the pairing protocol.
async fn lie(key: SigningKey, streams: LinkStreams, fit: NodeId, incapable: NodeId, unfit: NodeId) {
    let mut incoming = streams.pairing().incoming().unwrap();
    while let Some((demander, stream)) = incoming.next().await {
        let key = SigningKey::from_seed(&key.seed());
        tokio::spawn(async move {
            let mut frames = framed(stream, pairing::MESSAGE);
            let first = frames.next().await.unwrap().unwrap();
            let Ok(Call::Demand { domain, task, capability, .. }) = Call::decode(&first) else { panic!("no demand") };
            let lie = LIES.into_iter().find(|lie| format!("{lie:?}") == capability).unwrap();
            let honest = Ticket {
                issuer: key.node_id(),
                term: 1,
                task,
                seat: Seat { place: 0, attempt: 1 },
                demander,
                supplier: fit,
                until: native::clock().wall.after(Duration::from_secs(30)),
                capability,
            };
            let paired = |ticket: Ticket, key: &SigningKey| Answer::Paired(ticket.sign(&domain, key).unwrap()).encode();
            let other = SigningKey::from_seed(&[7; 32]);
            let said = match lie {
                Lie::Incapable => paired(Ticket { supplier: incapable, ..honest }, &key),
                Lie::Unfit => paired(Ticket { supplier: unfit, ..honest }, &key),
                Lie::Nobody => paired(Ticket { supplier: other.node_id(), ..honest }, &key),
                Lie::Impersonated => paired(Ticket { issuer: other.node_id(), ..honest }, &other),
                Lie::Swapped => paired(Ticket { task: [9; 16], ..honest }, &key),
                Lie::Exhausted => paired(Ticket { seat: Seat { place: 0, attempt: u32::MAX }, ..honest }, &key),
                Lie::Denied => Answer::Ended(End::NoSupplier).encode(),
                Lie::Over => Answer::Ended(End::Done).encode(),
                Lie::Garbage => b"garbage".to_vec(),
                Lie::Closed => return,
                Lie::Withheld => Answer::Noted.encode(),
                Lie::Silent => {
                    while frames.next().await.is_some() {}
                    return;
                }
            };
            frames.send(said.clone().into()).await.unwrap();
            // Whoever was lied to lets go of the stream.
            while let Some(Ok(_)) = frames.next().await {
                if lie == Lie::Withheld && frames.send(said.clone().into()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn a_manager_that_lies_withholds_or_is_silent_is_done_without() {
    let scratch = Scratch::new("liars");
    let town = Town::found(&scratch).await;
    let (bob, eve, max) = (town.participant("bob").await, town.participant("eve").await, town.participant("max").await);
    let ann = town.participant("ann").await;
    let (jobs, wrong) = (Jobs::new(true), Jobs::new(true));
    let (fit, unfit) = (bob.supplier(), max.supplier());
    eve.supplier().offer(eve.domain, Capability::new("something else", 1), Arc::new(wrong.clone())).unwrap();
    for lie in LIES {
        let mut capability = Capability::new(format!("{lie:?}"), 1);
        capability.attributes.insert("memory".into(), Value::Int(8));
        unfit.offer(max.domain, capability.clone(), Arc::new(wrong.clone())).unwrap();
        capability.attributes.insert("memory".into(), Value::Int(64));
        fit.offer(bob.domain, capability, Arc::new(jobs.clone())).unwrap();
    }
    for (other, capability) in [(&bob, "Silent"), (&max, "Silent"), (&eve, "something else")] {
        ann.knows(other.id(), capability).await;
    }
    let key = SigningKey::from_seed(&town.manager.key.seed());
    tokio::spawn(lie(key, town.manager.streams.clone(), bob.id(), eve.id(), max.id()));
    let mut running = Vec::new();
    for lie in LIES {
        let wants = Predicate { key: "memory".into(), test: Test::Ge(Value::Int(64)) };
        let order = Order { predicates: vec![wants], ..Order::new(format!("{lie:?}")) };
        // Of its own: another's experience with the manager is not to matter.
        let task = ann.tasks().request(order, input(b"done")).unwrap();
        running.push((lie, Instant::now(), tokio::spawn(finish(task))));
    }
    for (lie, begun, task) in running {
        let (output, attempts, _) = task.await.unwrap();
        assert_eq!((output.as_slice(), attempts), (&b"done"[..], 1), "{lie:?} after {:?}", begun.elapsed());
    }
    assert_eq!(jobs.issuers(), BTreeSet::from([ann.id()]), "the demander paired for itself");
    assert!(wrong.demanders().is_empty(), "nobody was asked for what it does not do");

    // Who lied is not asked again: its lie would be seen by the supplier as another attempt.
    let tasks = ann.tasks();
    for _ in 0..2 {
        let order = Order { policy: Policy::Any, ..Order::new("Nobody") };
        let begun = Instant::now();
        finish(tasks.request(order, input(b"done")).unwrap()).await;
        if jobs.demanders().len() == LIES.len() + 2 {
            assert!(begun.elapsed() < Duration::from_secs(2), "it is not listened to: {:?}", begun.elapsed());
        }
    }
}

/// What a supplier answers who shows it this ticket.
async fn shown(by: &Member, supplier: NodeId, ticket: Vec<u8>) -> Result<(), Code> {
    reach(&by.node, by.domain, supplier).await.unwrap();
    let mut frames = framed(by.streams.tasks().open(supplier).await.unwrap(), MESSAGE);
    let begin = Request::Begin { domain: by.domain, time: Duration::from_secs(10), keep: None, ticket };
    frames.send(begin.encode().into()).await.unwrap();
    frames.send(Request::End.encode().into()).await.unwrap();
    match Reply::decode(&in_time("an answer", frames.next()).await.unwrap().unwrap()).unwrap() {
        Reply::Begun => Ok(()),
        Reply::Error { code, .. } => Err(code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tickets_forged_replayed_swapped_or_by_who_may_not_pair_are_refused() {
    let scratch = Scratch::new("tickets");
    let town = Town::found(&scratch).await;
    let second = Member::of(&town.saved, Role::Manager, "second").await;
    let (bob, ann, eve) = (town.participant("bob").await, town.participant("ann").await, town.participant("eve").await);
    let jobs = Jobs::new(true);
    let supplier = bob.supplier();
    for name in ["echo", "other"] {
        supplier.offer(bob.domain, Capability { capacity: 9, ..Capability::new(name, 1) }, Arc::new(jobs.clone())).unwrap();
    }
    bob.sees(&[ann.id(), eve.id(), second.id()]).await;

    let mut last = 0;
    let mut ticket = |issuer: &Member| {
        last += 1;
        Ticket {
            issuer: issuer.id(),
            term: 1,
            task: [3; 16],
            seat: Seat { place: 0, attempt: last },
            demander: ann.id(),
            supplier: bob.id(),
            until: native::clock().wall.after(Duration::from_secs(30)),
            capability: "echo".into(),
        }
    };
    let sign = |ticket: &Ticket, by: &Member| ticket.sign(&ann.domain, &by.key).unwrap();
    for issuer in [&town.manager, &second, &ann] {
        assert_eq!(shown(&ann, bob.id(), sign(&ticket(issuer), issuer)).await, Ok(()));
    }
    // Whom it is for, it says and looks itself, whoever pairs.
    let mut barred = Capability::new("barred", 1);
    barred.attributes.insert(FOR.into(), Value::Text(format!("evict {}", eve.id())));
    supplier.offer(bob.domain, barred, Arc::new(jobs.clone())).unwrap();
    for (member, answer) in [(&ann, Err(Code::Forbidden)), (&eve, Ok(()))] {
        let ticket = Ticket { demander: member.id(), capability: "barred".into(), ..ticket(&town.manager) };
        assert_eq!(shown(member, bob.id(), sign(&ticket, &town.manager)).await, answer);
    }
    let good = ticket(&town.manager);
    let signed = sign(&good, &town.manager);
    assert_eq!(shown(&eve, bob.id(), signed.clone()).await, Err(Code::WrongDomain), "by another");
    let elsewhere = Ticket { supplier: eve.id(), ..good.clone() };
    assert_eq!(shown(&ann, bob.id(), sign(&elsewhere, &town.manager)).await, Err(Code::WrongDomain), "to another");
    for at in 0..signed.len() {
        // Its version, and what may be of any length, are no text that can be read.
        let mut forged = signed.clone();
        forged[at] ^= 1;
        if at % 29 == 0 || at > signed.len() - 70 && at % 7 == 0 {
            assert!(shown(&ann, bob.id(), forged).await.is_err(), "byte {at}");
        }
    }
    let capability = signed.windows(4).position(|w| w == b"echo").unwrap();
    let swapped = [&signed[..capability], b"ocho", &signed[capability + 4..]].concat();
    assert_eq!(shown(&ann, bob.id(), swapped).await, Err(Code::Forged), "for something else");
    let late = Ticket { until: Wall(1), ..good.clone() };
    assert_eq!(shown(&ann, bob.id(), sign(&late, &town.manager)).await, Err(Code::Forged), "too late");
    assert_eq!(shown(&ann, bob.id(), sign(&Ticket { issuer: eve.id(), ..good.clone() }, &eve)).await, Err(Code::Forbidden), "by a friend");
    // All that did not use it up.
    assert_eq!(shown(&ann, bob.id(), signed.clone()).await, Ok(()));
    assert_eq!(shown(&ann, bob.id(), signed).await, Err(Code::Forged), "twice");
    let earlier = Ticket { issuer: ann.id(), seat: Seat { place: 0, attempt: 1 }, ..good };
    assert_eq!(shown(&ann, bob.id(), sign(&earlier, &ann)).await, Err(Code::Forged), "an attempt that is over, by another issuer");

    // Who was a manager pairs no more.
    ann.node.evict(ann.domain, second.id()).unwrap();
    until("the eviction is known", || !bob.node.is_member(bob.domain, second.id())).await;
    assert_eq!(shown(&ann, bob.id(), sign(&ticket(&second), &second)).await, Err(Code::Forbidden));
    assert_eq!(shown(&ann, bob.id(), sign(&ticket(&town.manager), &town.manager)).await, Ok(()));
    assert_eq!(jobs.issuers(), BTreeSet::from([town.manager.id(), second.id(), ann.id()]));
}
