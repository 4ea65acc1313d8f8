//! The domain manager that pairs a task: the demander's side of the stream to it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_timer::Delay;

use crate::base::{Code, Error, Mono, NodeId};
use crate::proto::task::End;
use crate::proto::task::pairing::{Answer, BEAT, Call, MESSAGE, REST};
use crate::runtime::handle::Node;
use crate::runtime::streams::{ByteStream, Frames, framed};

/// A manager that does not answer for so long is not waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// What the manager says.
pub(super) enum Heard {
    /// Nothing new.
    Noted,
    /// A signed ticket.
    Paired(Vec<u8>),
    Ended(End),
}

pub(super) struct Pairer {
    pub manager: NodeId,
    frames: Frames,
    beat: Delay,
    /// Since when an answer is owed.
    owed: Option<Mono>,
    /// Since when it rests, if it had a task before, whose end the manager may have to say yet.
    rested: Option<Mono>,
}

fn lost() -> Error {
    Error::new(Code::Unreachable, "the stream to the domain manager broke")
}

impl Pairer {
    pub fn new(manager: NodeId, stream: Box<dyn ByteStream>) -> Pairer {
        Pairer { manager, frames: framed(stream, MESSAGE), beat: Delay::new(BEAT), owed: None, rested: None }
    }

    /// Says what is the last of a task, and keeps the stream for the next one; none if that did not leave.
    pub fn rest(mut self, now: Mono, last: &Call) -> Option<Pairer> {
        self.say(now, last).ok()?;
        self.frames.flush().now_or_never()?.ok()?;
        (self.owed, self.rested) = (None, Some(now));
        Some(self)
    }

    /// Whether it serves another task: the manager may have given up waiting for that.
    pub fn serves(&self, now: Mono) -> bool {
        self.rested.is_some_and(|since| now.since(since) < REST / 2)
    }

    /// For another task.
    pub fn again(mut self) -> Pairer {
        self.beat.reset(BEAT);
        self
    }

    /// Says something. So little is said that there is room for it, unless nobody reads.
    pub fn say(&mut self, now: Mono, call: &Call) -> Result<(), Error> {
        self.frames.feed(Bytes::from(call.encode())).now_or_never().and_then(Result::ok).ok_or_else(lost)?;
        self.owed.get_or_insert(now);
        // What does not leave now leaves when it is listened for an answer.
        let _ = self.frames.flush().now_or_never();
        Ok(())
    }

    /// The next that is news.
    pub async fn news(&mut self, node: &Node) -> Result<Heard, Error> {
        loop {
            match poll_fn(|cx| self.poll(cx, node.now().mono)).await {
                Ok(Heard::Noted) => {}
                heard => return heard,
            }
        }
    }

    /// Listens, and says now and then that this demander is there. Nothing is lost if it is not polled to its end. After an error the
    /// manager is of no more use.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Mono) -> Poll<Result<Heard, Error>> {
        loop {
            match self.frames.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    let answer = Answer::decode(&bytes);
                    // Of the task before, up to its end.
                    if self.rested.is_some() && matches!(answer, Ok(Answer::Noted | Answer::Paired(_) | Answer::Ended(_))) {
                        self.rested.take_if(|_| matches!(answer, Ok(Answer::Ended(_))));
                        continue;
                    }
                    self.owed = None;
                    return Poll::Ready(match answer {
                        Ok(Answer::Noted) => Ok(Heard::Noted),
                        Ok(Answer::Paired(ticket)) => Ok(Heard::Paired(ticket)),
                        Ok(Answer::Ended(end)) => Ok(Heard::Ended(end)),
                        Ok(Answer::Error { code, message }) => Err(Error::new(code, message)),
                        Err(reject) => Err(Error::new(reject.code(), "the domain manager makes no sense")),
                    });
                }
                Poll::Ready(_) => return Poll::Ready(Err(lost())),
                Poll::Pending => break,
            }
        }
        while self.beat.poll_unpin(cx).is_ready() {
            if self.owed.is_some_and(|since| now.since(since) >= ANSWER) {
                return Poll::Ready(Err(Error::new(Code::Timeout, "the domain manager does not answer")));
            }
            self.beat.reset(BEAT);
            if let Err(error) = self.say(now, &Call::Alive) {
                return Poll::Ready(Err(error));
            }
        }
        match self.frames.poll_flush_unpin(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Err(lost())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}
