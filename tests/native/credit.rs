//! How much of a task's input and output may be under way, held to by the one side and broken by the other.

use std::sync::Arc;

use asynchronous_codec::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{AsyncReadExt as _, FutureExt as _, Sink, SinkExt as _, StreamExt as _};
use peerage::base::{Code, Error};
use peerage::proto::directory::Capability;
use peerage::proto::task::Seat;
use peerage::proto::task::message::{PART, Reply, Request, WINDOW};
use peerage::runtime::task::{Job, Work};

use crate::cli::Scratch;
use crate::job::{begin, said};
use crate::pairing::{Member, Town, in_time};

/// Puts out what comes in, as it comes.
struct Echo;

impl Work for Echo {
    fn run(&self, mut job: Job) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let mut part = vec![0; PART];
            loop {
                match job.input.read(&mut part).await {
                    Ok(0) => return Ok(()),
                    Ok(n) => job.write(&part[..n]).await?,
                    Err(e) => return Err(Error::new(Code::Aborted, "the input broke").caused_by(e)),
                }
            }
        }
        .boxed()
    }
}

async fn two(scratch: &Scratch) -> (Town, Member, Member) {
    let town = Town::found(scratch).await;
    let (bob, ann) = (town.participant("bob").await, town.participant("ann").await);
    bob.supplier().offer(bob.domain, Capability { capacity: 8, ..Capability::new("echo", 1) }, Arc::new(Echo)).unwrap();
    bob.sees(&[ann.id()]).await;
    (town, bob, ann)
}

const ALL: usize = WINDOW as usize;

/// So much input.
async fn fill(sink: &mut (impl Sink<Bytes, Error = std::io::Error> + Unpin), bytes: usize) {
    for part in 0..bytes / PART {
        sink.send(Request::Input(vec![part as u8; PART]).encode().into()).await.unwrap();
    }
}

#[tokio::test]
async fn credit_for_the_output_is_heard_behind_input_that_the_work_does_not_take_yet() {
    let scratch = Scratch::new("credit");
    let (_town, bob, ann) = two(&scratch).await;
    let (mut sink, mut stream) = begin(&ann, bob.id(), Seat { place: 0, attempt: 1 }, [1; 16], None).await.split();
    // All of it comes back, and this side gives no credit for that.
    let (mut output, mut credit) = (0, 0);
    let hearing = async {
        // What is less than a quarter is not given back yet.
        while output < ALL || credit <= 3 * ALL / 4 {
            match word(stream.next().await) {
                Reply::Output(bytes) => output += bytes.len(),
                Reply::Credit(more) => credit += more as usize,
                Reply::Begun | Reply::Alive => {}
                other => panic!("{other:?}"),
            }
        }
    };
    in_time("the first half", async { tokio::join!(fill(&mut sink, ALL), hearing) }).await;
    assert_eq!(output, ALL);
    in_time("the second half is sent", fill(&mut sink, credit)).await;
    loop {
        match word(in_time("a word", stream.next()).await) {
            // Of what the work holds in its hands.
            Reply::Credit(_) => {}
            Reply::Alive => break,
            other => panic!("there was no credit for more: {other:?}"),
        }
    }
    for request in [Request::Credit(WINDOW), Request::End] {
        sink.send(request.encode().into()).await.unwrap();
    }
    loop {
        match word(in_time("the second half", stream.next()).await) {
            Reply::Output(bytes) => output += bytes.len(),
            Reply::Done => break,
            Reply::Credit(_) | Reply::Alive => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(output, ALL + credit);
}

#[tokio::test]
async fn a_demander_that_does_not_keep_to_it_is_heard_no_more_and_others_are() {
    let scratch = Scratch::new("overdraft");
    let (_town, bob, ann) = two(&scratch).await;
    let wrong = [vec![Request::Input(Vec::new())], vec![Request::Credit(1)], vec![Request::Credit(u32::MAX)]];
    // The work does not take that much of it, for nobody takes its output.
    let flood = vec![Request::Input(vec![0; PART]); 3 * ALL / PART];
    for (task, requests) in wrong.into_iter().chain([flood]).enumerate() {
        let seat = Seat { place: 0, attempt: 1 };
        let (mut sink, mut stream) = begin(&ann, bob.id(), seat, [task as u8; 16], None).await.split();
        let saying = async {
            for request in &requests {
                // Broken off in the middle, as the other side sees.
                if sink.send(request.encode().into()).await.is_err() {
                    return;
                }
            }
        };
        let hearing = async { while let Some(Ok(_)) = stream.next().await {} };
        in_time("its end", async { tokio::join!(saying, hearing) }).await;
    }
    let mut frames = begin(&ann, bob.id(), Seat { place: 0, attempt: 1 }, [99; 16], None).await;
    for request in [Request::Input(b"still here".to_vec()), Request::End] {
        frames.send(request.encode().into()).await.unwrap();
    }
    assert_eq!(said(&mut frames).await, Reply::Begun);
    assert_eq!(said(&mut frames).await, Reply::Output(b"still here".to_vec()));
    assert_eq!(said(&mut frames).await, Reply::Done);
}

fn word(frame: Option<std::io::Result<BytesMut>>) -> Reply {
    Reply::decode(&frame.expect("it goes on").unwrap()).unwrap()
}
