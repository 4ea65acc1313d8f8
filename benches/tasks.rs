//! What pairing costs: a small task through a native manager on loopback, with 25 ms added each way between the demander and everybody
//! else, against a bare request and its response over a stream to the same supplier; and the processor time that one manager needs for
//! a task, against that for a bare request and response.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, SinkExt as _, StreamExt as _};
use peerage::base::{DomainId, Error, NodeId};
use peerage::crypto::Role;
use peerage::crypto::sign::SigningKey;
use peerage::node::data::DataDir;
use peerage::node::domain::DomainFiles;
use peerage::node::pairing::Service;
use peerage::peer::{Config, Profile, SavedDomain};
use peerage::platform::links::streams::LinkStreams;
use peerage::platform::native::{self, NativeConfig, NativePlatform, entropy};
use peerage::proto::directory::{Capability, Query};
use peerage::proto::task::message::{MESSAGE, Reply, Request, ResultKey};
use peerage::runtime::handle::Node;
use peerage::runtime::streams::{ByteStream, Streams, framed};
use peerage::runtime::task::{Input, Job, Order, Shelf, Supplier, Tasks, Work};
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// Added each way.
const DELAY: Duration = Duration::from_millis(25);
const IN_TURN: usize = 40;
/// Tasks for the processor's time, and how many at once.
const MANY: usize = 4_000;
const AT_ONCE: usize = 32;

struct Member {
    node: Node,
    streams: LinkStreams,
    domain: DomainId,
}

async fn member(saved: &SavedDomain, role: Role) -> Member {
    let key = SigningKey::generate(&mut entropy().unwrap());
    let listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let platform = NativePlatform::new(&key, &NativeConfig { listen, ..NativeConfig::default() }).unwrap();
    let streams = platform.streams();
    let (node, driver) = native::start_on(platform, key, Config::native(), entropy().unwrap().bytes());
    let domain = node.open_domain(saved, role, Profile { name: "bench".into(), capabilities: Vec::new() }).unwrap();
    tokio::spawn(driver);
    while node.addresses().is_empty() {
        node.next_event().await.unwrap();
    }
    Member { node, streams, domain }
}

fn supplier(member: &Member) -> Arc<Supplier> {
    let supplier = Supplier::new(member.node.clone(), Arc::new(member.streams.tasks()), Shelf::in_memory(1 << 20));
    tokio::spawn(Arc::clone(&supplier).serve(member.streams.tasks().incoming().unwrap()));
    supplier
}

struct Nothing;

impl Work for Nothing {
    fn run(&self, _: Job) -> BoxFuture<'static, Result<(), Error>> {
        std::future::ready(Ok(())).boxed()
    }
}

fn empty() -> Input {
    Box::new(|| async { Ok(Box::new(futures::io::empty()) as Box<_>) }.boxed())
}

async fn task(tasks: &Tasks) {
    let mut task = tasks.request(Order::new("nothing"), empty()).unwrap();
    while task.next().await.unwrap().is_some() {}
}

/// A request that is answered at once, over a stream of its own: for a result that nobody keeps.
async fn bare(streams: &dyn Streams, to: NodeId, domain: DomainId) {
    let mut frames = framed(streams.open(to).await.unwrap(), MESSAGE);
    frames.send(Request::Take { domain, key: ResultKey([0; 32]) }.encode().into()).await.unwrap();
    let answer = frames.next().await.unwrap().unwrap();
    assert!(matches!(Reply::decode(&answer).unwrap(), Reply::Error { .. }));
}

/// Streams over a longer way.
struct Far(LinkStreams);

impl Streams for Far {
    fn open(&self, to: NodeId) -> BoxFuture<'static, Result<Box<dyn ByteStream>, Error>> {
        let opened = self.0.open(to);
        async move {
            let (read, write) = opened.await?.split();
            // The two sides agree on the protocol before anything else.
            tokio::time::sleep(2 * DELAY).await;
            let (near, far) = tokio::io::duplex(1 << 20);
            let (out, into) = far.compat().split();
            tokio::spawn(late(read, into));
            tokio::spawn(late(out, write));
            Ok(Box::new(near.compat()) as Box<dyn ByteStream>)
        }
        .boxed()
    }
}

/// Hands on what comes, each part as much later.
async fn late(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let (give, mut take) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut part = vec![0; 4_096];
        while let Ok(n @ 1..) = from.read(&mut part).await {
            let _ = give.send((Instant::now(), part[..n].to_vec()));
        }
    };
    let writing = async move {
        while let Some((came, part)) = take.recv().await {
            tokio::time::sleep_until((came + DELAY).into()).await;
            to.write_all(&part).await?;
            to.flush().await?;
        }
        to.close().await
    };
    tokio::join!(reading, writing).1
}

/// The processor time of the calling thread.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

async fn seen(member: &Member, others: &[NodeId]) {
    let online = Query { online: Some(true), ..Query::default() };
    let all = || {
        let linked = member.node.links(Some(member.domain));
        let here = member.node.participants(member.domain, &online).unwrap();
        others.iter().all(|o| linked.iter().any(|l| l.node == *o && l.path.is_some()) && here.iter().any(|p| p.node == *o))
    };
    while !all() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` wants to know only that it builds.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tasks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let saved = DomainFiles::open(&DataDir::open(&folder).unwrap()).unwrap().create("bench").unwrap();
    // The manager alone on a thread, whose time is looked at.
    let (told, hears) = std::sync::mpsc::channel();
    let (ask, mut asked) = mpsc::unbounded_channel::<std::sync::mpsc::Sender<Duration>>();
    let founded = saved.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let manager = member(&founded, Role::Manager).await;
            let service = Service::new(manager.node.clone(), manager.domain).unwrap();
            tokio::spawn(service.serve(manager.streams.pairing().incoming().unwrap()));
            let _supplier = supplier(&manager);
            told.send((manager.node.id(), manager.node.addresses())).unwrap();
            while let Some(reply) = asked.recv().await {
                reply.send(spent()).unwrap();
            }
        });
    });
    let time = || {
        let (reply, answer) = std::sync::mpsc::channel();
        ask.send(reply).unwrap();
        answer.recv().unwrap()
    };
    let (manager, addresses) = hears.recv().unwrap();
    let saved = SavedDomain { contacts: vec![(manager, addresses)], ..saved };
    let (supplying, demanding) = (member(&saved, Role::Participant).await, member(&saved, Role::Participant).await);
    let offering = supplier(&supplying);
    offering.offer(supplying.domain, Capability { capacity: 1_000, ..Capability::new("nothing", 1) }, Arc::new(Nothing)).unwrap();
    seen(&supplying, &[manager, demanding.node.id()]).await;
    seen(&demanding, &[manager, supplying.node.id()]).await;
    let (domain, to) = (demanding.domain, supplying.node.id());

    let (far, managers) = (Far(demanding.streams.tasks()), Far(demanding.streams.pairing()));
    let tasks = Tasks::new(demanding.node.clone(), domain, Arc::new(Far(demanding.streams.tasks())), Arc::new(managers));
    // Until the manager knows what is offered.
    task(&tasks).await;
    let (mut paired, mut unpaired) = (Vec::new(), Vec::new());
    for _ in 0..IN_TURN {
        let start = Instant::now();
        task(&tasks).await;
        paired.push(start.elapsed());
        let start = Instant::now();
        bare(&far, to, domain).await;
        unpaired.push(start.elapsed());
    }
    let (paired, unpaired) = (median(paired), median(unpaired));
    let more = (paired.as_secs_f64() - unpaired.as_secs_f64()) / (2 * DELAY).as_secs_f64();
    println!("one small task in {paired:.1?}, a bare request and response in {unpaired:.1?}: {more:.2} round trips more");

    let tasks = Tasks::new(demanding.node.clone(), domain, Arc::new(demanding.streams.tasks()), Arc::new(demanding.streams.pairing()));
    let near = demanding.streams.tasks();
    let mut figures = Vec::new();
    for pairs in [false, true, false, true] {
        let (before, start) = (time(), Instant::now());
        futures::stream::iter(0..MANY)
            .for_each_concurrent(AT_ONCE, |_| async {
                if pairs {
                    task(&tasks).await;
                } else {
                    bare(&near, manager, domain).await;
                }
            })
            .await;
        figures.push((time() - before, start.elapsed()));
    }
    for node in [supplying.node, demanding.node] {
        node.close();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    println!("{:<32}{:>16}{:>20}{:>12}", "", "manager's time", "per second of it", "wall");
    let each = |(time, wall): (Duration, Duration)| (time / MANY as u32, MANY as f64 / time.as_secs_f64(), wall);
    let best = |of: [usize; 2]| each(figures[of[0]].min(figures[of[1]]));
    let (bare, paired) = (best([0, 2]), best([1, 3]));
    for (name, (time, rate, wall)) in [("a bare request to the manager", bare), ("a task through the manager", paired)] {
        println!("{name:<32}{:>13} us{rate:>20.0}{:>9} ms", time.as_micros(), wall.as_millis());
    }
    println!("a task costs the manager {:.1} bare requests", paired.0.as_secs_f64() / bare.0.as_secs_f64());
}
