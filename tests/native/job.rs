//! Jobs among members that lie about the results they keep, or ask for what is not theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use peerage::base::{Code, NodeId};
use peerage::platform::native;
use peerage::proto::directory::Capability;
use peerage::proto::task::message::{MESSAGE, Reply, Request, ResultKey};
use peerage::proto::task::{Seat, TaskId, Ticket};
use peerage::runtime::streams::{Frames, Streams as _, framed, reach};
use peerage::runtime::task::{Event, JobStep, Order, TaskSpec};

use crate::cli::Scratch;
use crate::pairing::{Jobs, Member, Town, in_time, input};

/// Begins at a supplier of `echo`, by a ticket of the demander's own.
pub async fn begin(by: &Member, supplier: NodeId, seat: Seat, task: TaskId, keep: Option<ResultKey>) -> Frames {
    let until = native::clock().wall.after(Duration::from_secs(30));
    let ticket = Ticket { issuer: by.id(), term: 0, task, seat, demander: by.id(), supplier, until, capability: "echo".into() };
    reach(&by.node, by.domain, supplier).await.unwrap();
    let mut frames = framed(by.streams.tasks().open(supplier).await.unwrap(), MESSAGE);
    let ticket = ticket.sign(&by.domain, &by.key).unwrap();
    let begin = Request::Begin { domain: by.domain, time: Duration::from_secs(60), keep, ticket };
    frames.send(begin.encode().into()).await.unwrap();
    frames
}

pub async fn said(frames: &mut Frames) -> Reply {
    Reply::decode(&in_time("a word", frames.next()).await.unwrap().unwrap()).unwrap()
}

async fn say(frames: &mut Frames, reply: &Reply) {
    frames.send(reply.encode().into()).await.unwrap();
}

/// What a holder gives who is asked for a result of this name.
async fn taken(by: &Member, holder: NodeId, key: ResultKey) -> Result<Vec<u8>, Code> {
    reach(&by.node, by.domain, holder).await.unwrap();
    let mut frames = framed(by.streams.tasks().open(holder).await.unwrap(), MESSAGE);
    frames.send(Request::Take { domain: by.domain, key }.encode().into()).await.unwrap();
    let mut all = Vec::new();
    loop {
        match said(&mut frames).await {
            Reply::Output(bytes) => all.extend(bytes),
            Reply::Done => return Ok(all),
            Reply::Error { code, .. } => return Err(code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_kept_result_is_for_those_who_know_its_name_and_as_long_as_its_demander_wants_it() {
    let scratch = Scratch::new("kept");
    let town = Town::found(&scratch).await;
    let (bob, ann, eve) = (town.participant("bob").await, town.participant("ann").await, town.participant("eve").await);
    bob.supplier().offer(bob.domain, Capability { capacity: 2, ..Capability::new("echo", 1) }, Arc::new(Jobs::new(true))).unwrap();
    bob.sees(&[ann.id(), eve.id()]).await;

    let key = ResultKey([7; 32]);
    let begin = async |attempt: u32, task: u8| {
        let mut frames = begin(&ann, bob.id(), Seat { place: 0, attempt }, [task; 16], Some(key)).await;
        for request in [Request::Input(b"what is kept".to_vec()), Request::End] {
            frames.send(request.encode().into()).await.unwrap();
        }
        assert_eq!(said(&mut frames).await, Reply::Begun);
        frames
    };
    let mut frames = begin(1, 1).await;
    assert_eq!(said(&mut frames).await, Reply::Kept { size: 12, hash: *blake3::hash(b"what is kept").as_bytes() });
    assert_eq!(taken(&eve, bob.id(), key).await.as_deref(), Ok(&b"what is kept"[..]));
    for n in 0..32 {
        let mut near = key;
        near.0[n] ^= 1;
        assert_eq!(taken(&eve, bob.id(), near).await, Err(Code::NoObject));
    }
    // Under a name that is taken nothing is kept, and what was stays.
    let mut second = begin(1, 2).await;
    assert!(matches!(said(&mut second).await, Reply::Error { code: Code::Conflict, .. }));
    assert!(taken(&eve, bob.id(), key).await.is_ok());
    // It says that it has it still.
    assert_eq!(said(&mut frames).await, Reply::Alive);
    drop(frames);
    in_time("it is let go", async { while taken(&eve, bob.id(), key).await.is_ok() {} }).await;
}

/// Says that it keeps what it was given, and gives something else, then nothing; then it either goes on saying so or is gone.
async fn lie(liar: &Member, asked: &AtomicUsize, goes: bool) {
    let mut incoming = liar.streams.tasks().incoming().unwrap();
    let mut keeping = None;
    while let Some((_, stream)) = incoming.next().await {
        let mut frames = framed(stream, MESSAGE);
        match Request::decode(&frames.next().await.unwrap().unwrap()).unwrap() {
            Request::Begin { .. } => {
                // Nobody comes again.
                liar.node.advertise(liar.domain, Vec::new()).unwrap();
                say(&mut frames, &Reply::Begun).await;
                say(&mut frames, &Reply::Kept { size: 4, hash: *blake3::hash(b"true").as_bytes() }).await;
                keeping = Some(tokio::spawn(async move {
                    while frames.send(Reply::Alive.encode().into()).await.is_ok() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }));
            }
            Request::Take { .. } if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
                say(&mut frames, &Reply::Output(b"lies".to_vec())).await;
                say(&mut frames, &Reply::Done).await;
                frames.close().await.unwrap();
            }
            Request::Take { .. } if goes => {
                if let Some(keeping) = keeping.take() {
                    keeping.abort();
                }
            }
            _ => {}
        }
    }
}

/// A job whose first result a liar keeps; how often an honest supplier was asked for it, and what was done again. `slow`: it takes so long.
async fn with_a_liar(name: &str, goes: bool, slow: Duration) -> (usize, Vec<String>) {
    let scratch = Scratch::new(name);
    let town = Town::found(&scratch).await;
    let _service = town.serve();
    let (bob, ann, eve) = (town.participant("bob").await, town.participant("ann").await, town.participant("eve").await);
    let asked = AtomicUsize::new(0);
    eve.node.advertise(eve.domain, vec![Capability::new("make", 1)]).unwrap();
    let (honest, makes) = (bob.supplier(), Jobs::new(false));
    honest.offer(bob.domain, Capability::new("use", 1), Arc::new(Jobs::new(true))).unwrap();
    for (of, what) in [(&eve, "make"), (&bob, "use")] {
        ann.knows(of.id(), what).await;
        town.manager.knows(of.id(), what).await;
    }
    let spec = |name: &str, needs: &[&str], own: Option<&'static [u8]>| {
        let needs = needs.iter().map(ToString::to_string).collect();
        TaskSpec { name: name.to_owned(), order: Order::new(name), needs, input: own.map(input) }
    };
    let mut job = ann.tasks().submit(vec![spec("make", &[], Some(b"made")), spec("use", &["make"], None)]).unwrap();
    let doing = async {
        let (mut output, mut again) = (Vec::new(), Vec::new());
        while let Some(event) = in_time("it goes on", job.next()).await.unwrap() {
            match event.step {
                JobStep::Event(Event::Begun { .. }) if event.task == "use" => output.clear(),
                JobStep::Event(Event::Begun { .. }) if !again.is_empty() => {
                    let open = makes.open.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(slow).await;
                        open.send_replace(true);
                    });
                }
                JobStep::Event(Event::Output(bytes)) => output.extend(bytes),
                JobStep::Again => {
                    again.push(event.task);
                    honest.offer(bob.domain, Capability { capacity: 4, ..Capability::new("make", 1) }, Arc::new(makes.clone())).unwrap();
                }
                _ => {}
            }
        }
        (output, again)
    };
    let again = tokio::select! {
        (output, again) = doing => {
            assert_eq!(output, b"made", "nothing of the lies");
            again
        }
        () = lie(&eve, &asked, goes) => unreachable!("it goes on as long as the node"),
    };
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    (makes.demanders().len(), again)
}

#[tokio::test]
async fn a_result_that_is_not_what_its_holder_said_is_made_anew_by_another() {
    let (made, again) = with_a_liar("liar", false, Duration::ZERO).await;
    assert_eq!(again, ["use", "use", "make"], "once for what is false, once for what is not given, and then from the start");
    assert_eq!(made, 1);
}

#[tokio::test]
async fn what_is_being_made_anew_is_not_begun_once_more() {
    // Longer than it takes until what is stuck is tried again: that it is tried shows only by what comes of it.
    let (made, again) = with_a_liar("gone", true, Duration::from_secs(15)).await;
    assert_eq!((made, again.iter().filter(|task| *task == "make").count()), (1, 1), "{again:?}");
}
