//! What goes on a supplier's stream beside the work: it is heard, spoken on, and held to the credit of both sides.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};

use asynchronous_codec::Bytes;
use futures::channel::mpsc;
use futures::stream::{self, SplitSink, SplitStream};
use futures::task::AtomicWaker;
use futures::{FutureExt, SinkExt, Stream, StreamExt, poll};
use futures_timer::Delay;

use super::BEAT;
use super::shelf::Keeping;
use super::supplier::{broken, lock};
use crate::base::Error;
use crate::proto::task::credit::{Receiving, Sending};
use crate::proto::task::message::{Kept, PART, Reply, Request};
use crate::runtime::streams::Frames;

/// Kept results that an input may have in it.
const FROM: usize = 256;

/// What comes of the input.
pub(super) enum Piece {
    Own(Vec<u8>),
    /// To be fetched.
    Kept(Kept),
    End,
}

/// Takes what the demander says until it is gone, or makes no sense. Nothing holds it up: credit for the output may be behind much input.
pub(super) async fn hear(mut stream: SplitStream<Frames>, flow: &Flow) {
    let (mut kept, mut ended) = (0, false);
    while let Some(Ok(bytes)) = stream.next().await {
        match Request::decode(&bytes) {
            Ok(Request::Credit(more)) if lock(&flow.sending).more(more).is_ok() => flow.speaker.wake(),
            Ok(Request::Input(bytes)) if !ended && !bytes.is_empty() && lock(&flow.receiving).came(bytes.len()).is_ok() => {
                flow.add(Piece::Own(bytes));
            }
            Ok(Request::From(result)) if !ended && kept < FROM => {
                kept += 1;
                flow.add(Piece::Kept(result));
            }
            Ok(Request::End) if !ended => {
                ended = true;
                flow.add(Piece::End);
            }
            _ => return,
        }
    }
}

/// What comes after the last of an input: an error, unless it was whole.
pub(super) fn broken_off(whole: Arc<AtomicBool>) -> impl Stream<Item = io::Result<Vec<u8>>> {
    stream::poll_fn(move |_| Poll::Ready((!whole.load(Ordering::Acquire)).then(|| Err(io::ErrorKind::UnexpectedEof.into()))))
}

/// What may be under way between a demander and the work.
#[derive(Default)]
pub(super) struct Flow {
    pub sending: Mutex<Sending>,
    pub receiving: Mutex<Receiving>,
    /// Woken when there is more to say, or more may be said.
    pub speaker: AtomicWaker,
    /// What came of the input, and the work has not taken.
    pieces: Mutex<VecDeque<Piece>>,
    feeder: AtomicWaker,
}

impl Flow {
    /// The next piece of the input, once there is one.
    pub async fn next(&self) -> Piece {
        poll_fn(|cx| {
            self.feeder.register(cx.waker());
            lock(&self.pieces).pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Parts that are small go together: each costs more than its bytes.
    fn add(&self, piece: Piece) {
        let mut pieces = lock(&self.pieces);
        match (pieces.back_mut(), piece) {
            (Some(Piece::Own(last)), Piece::Own(more)) if last.len() + more.len() <= PART => last.extend(more),
            (_, piece) => pieces.push_back(piece),
        }
        self.feeder.wake();
    }
}

/// Says what the work puts out, or keeps it, and, when there is nothing to say, that it goes on. The error is of what could not be kept.
pub(super) async fn speak(
    mut sink: SplitSink<Frames, Bytes>,
    mut said: mpsc::Receiver<Reply>,
    mut keeping: Option<&mut Keeping>,
    flow: &Flow,
) -> Result<(SplitSink<Frames, Bytes>, Option<Error>), Error> {
    let mut beat = Delay::new(BEAT);
    // An output that waits until it may be sent.
    let mut held = None;
    loop {
        let mut next = poll_fn(|cx| {
            flow.speaker.register(cx.waker());
            if let Some(credit) = lock(&flow.receiving).due() {
                return Poll::Ready(Some(Reply::Credit(credit)));
            }
            // Before the rest: of an output that is kept nothing is said, however much comes.
            if beat.poll_unpin(cx).is_ready() {
                return Poll::Ready(Some(Reply::Alive));
            }
            if held.is_none() {
                let Some(next) = ready!(said.poll_next_unpin(cx)) else { return Poll::Ready(None) };
                held = Some(next);
            }
            if let (Some(Reply::Output(bytes)), None) = (&held, &keeping) {
                let mut sending = lock(&flow.sending);
                if sending.credit() < bytes.len() {
                    return Poll::Pending;
                }
                sending.sent(bytes.len());
            }
            Poll::Ready(held.take())
        });
        // What comes at once goes together.
        let next = match poll!(&mut next) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                sink.flush().await.map_err(broken)?;
                next.await
            }
        };
        let next = match (next, &mut keeping) {
            (Some(Reply::Output(bytes)), Some(keeping)) => match keeping.add(bytes).await {
                Ok(()) => continue,
                Err(error) => return Ok((sink, Some(error))),
            },
            (Some(reply), _) => reply,
            (None, _) => return Ok((sink, None)),
        };
        beat.reset(BEAT);
        sink.feed(Bytes::from(next.encode())).await.map_err(broken)?;
    }
}
