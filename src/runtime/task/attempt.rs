//! One attempt at a task: the stream to a supplier, what is sent on it and what comes back; and the result that stays at its end.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use asynchronous_codec::Bytes;
use futures::future::BoxFuture;
use futures::{AsyncRead, Sink, SinkExt, StreamExt};

use super::demander::{Inner, Tasks, Wanted};
use super::pairer::Heard;
use super::{HOLD, OPEN, SILENT, framed, within};
use crate::base::{Code, DomainId, Error, Mono, NodeId, Reject};
use crate::proto::task::credit::{Receiving, Sending};
use crate::proto::task::message::{Kept, PART, Reply, Request, ResultKey};
use crate::proto::task::{Seat, Ticket};
use crate::runtime::handle::Node;
use crate::runtime::streams::{Frames, reach};

/// The input of a task, from its beginning: asked for once for each attempt.
pub type Input = Box<dyn FnMut() -> BoxFuture<'static, io::Result<Box<dyn AsyncRead + Send + Unpin>>> + Send>;

/// A piece of a task's input.
pub(super) enum Part {
    /// This node sends it.
    Own(Input),
    /// The supplier fetches it.
    Kept(Kept),
}

/// One supplier at work.
pub(super) struct Attempt {
    pub supplier: NodeId,
    pub seat: Seat,
    pub frames: Frames,
    /// Its name, if the output is to be kept.
    pub keep: Option<ResultKey>,
    /// What of the input was not sent yet; none once all was and its end was said.
    input: Option<VecDeque<Source>>,
    sending: Sending,
    receiving: Receiving,
    buffer: Vec<u8>,
    /// When its link was last wanted.
    pub held: Mono,
    /// When it last said something.
    pub heard: Mono,
}

/// Where the input comes from, opened.
enum Source {
    Own(Box<dyn AsyncRead + Send + Unpin>),
    Kept(Kept),
}

/// A result that its supplier keeps while this is there.
pub(super) struct KeptResult {
    /// What others are told of it.
    pub kept: Kept,
    pub node: Node,
    pub domain: DomainId,
    pub frames: Frames,
}

impl KeptResult {
    /// Returns when it is kept no more.
    pub async fn lost(mut self) {
        let mut wanted = self.node.now().mono;
        loop {
            let said = within(SILENT, self.frames.next()).await;
            let lasts = matches!(said, Some(Some(Ok(bytes))) if Reply::decode(&bytes) == Ok(Reply::Alive));
            if !lasts || !self.node.is_member(self.domain, self.kept.holder) {
                return;
            }
            if self.node.now().mono.since(wanted) >= HOLD {
                wanted = self.node.now().mono;
                self.node.want_link(self.domain, self.kept.holder);
            }
        }
    }
}

/// What happened next.
pub(super) enum Step {
    Said(Reply),
    Manager(Result<Heard, Error>),
    Failed(Error),
    /// The input cannot be read: no other supplier would help.
    Input(io::Error),
    Time,
}

/// A ticket, and what it is shown for.
pub(super) struct Shown<'a> {
    pub tasks: &'a Tasks,
    pub demand: &'a Wanted,
    pub end: Mono,
    pub keep: bool,
    pub supplier: NodeId,
    pub seat: Seat,
    pub ticket: Option<Vec<u8>>,
}

impl Shown<'_> {
    /// Opens a stream to the supplier and shows it the ticket.
    pub async fn begin(self, input: &mut [Part]) -> Result<Attempt, Error> {
        let Shown { tasks, demand, end, keep, supplier, seat, ticket } = self;
        let Inner { node, domain, streams, .. } = &*tasks.0;
        let now = node.now();
        let own = || {
            let ticket = Ticket {
                issuer: node.id(),
                term: 0,
                task: demand.task,
                seat,
                demander: node.id(),
                supplier,
                until: now.wall.after(OPEN),
                capability: demand.capability.clone(),
            };
            let signed = node.look_at_keys(*domain, |_, me, _, _| ticket.sign(domain, me))?;
            signed.map_err(|r| Error::new(r.code(), "the ticket cannot be signed"))
        };
        let ticket = ticket.map_or_else(own, Ok)?;
        let slow = || Error::new(Code::Timeout, "the supplier does not answer");
        reach(node, *domain, supplier).await?;
        let mut frames = framed(within(OPEN, streams.open(supplier)).await.ok_or_else(slow)??);
        // Of each attempt another: who was given an earlier one's name gets nothing of this one.
        let keep = keep.then(|| ResultKey(node.rng().bytes()));
        let request = Request::Begin { domain: *domain, time: end.since(now.mono), keep, ticket };
        within(OPEN, frames.send(Bytes::from(request.encode()))).await.ok_or_else(slow)?.map_err(broken)?;
        let mut sources = VecDeque::new();
        for part in input {
            sources.push_back(match part {
                Part::Own(open) => Source::Own(open().await.map_err(unreadable)?),
                Part::Kept(kept) => Source::Kept(*kept),
            });
        }
        let now = node.now().mono;
        let (sending, receiving, buffer) = (Sending::default(), Receiving::default(), vec![0; PART]);
        Ok(Attempt { supplier, seat, frames, keep, input: Some(sources), sending, receiving, buffer, held: now, heard: now })
    }
}

pub(super) fn senseless(reject: Reject) -> Error {
    Error::new(reject.code(), "the supplier makes no sense")
}

fn broken(cause: io::Error) -> Error {
    Error::new(Code::Unreachable, "the stream to the supplier broke").caused_by(cause)
}

/// Whoever gives the input may have better words for it.
pub(super) fn unreadable(cause: io::Error) -> Error {
    cause.downcast().unwrap_or_else(|cause| Error::new(Code::Storage, "the input cannot be read").caused_by(cause))
}

impl Attempt {
    /// Sends the input as far as it goes, and hears what the supplier says. Nothing is lost if it is not polled to its end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(step) = self.poll_send(cx) {
            return Poll::Ready(step);
        }
        Poll::Ready(match ready!(self.frames.poll_next_unpin(cx)) {
            Some(Ok(bytes)) => match Reply::decode(&bytes).and_then(|reply| self.count(&reply).map(|()| reply)) {
                Ok(reply) => Step::Said(reply),
                Err(reject) => Step::Failed(senseless(reject)),
            },
            Some(Err(error)) => Step::Failed(broken(error)),
            None => Step::Failed(Error::new(Code::Unreachable, "the supplier ended the stream")),
        })
    }

    fn count(&mut self, reply: &Reply) -> Result<(), Reject> {
        match reply {
            Reply::Credit(more) => self.sending.more(*more),
            // It is told one part after the other, and this is polled only when the next is wanted.
            Reply::Output(bytes) => self.receiving.came(bytes.len()).map(|()| self.receiving.taken(bytes.len())),
            _ => Ok(()),
        }
    }

    /// Ready only if it cannot go on.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match Pin::new(&mut self.frames).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                // What it said before is heard first, so that a refusal is told and not the broken stream behind it.
                Poll::Ready(Err(_)) => {
                    self.input = None;
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
            let request = match self.receiving.due() {
                Some(credit) => Request::Credit(credit),
                None => match self.poll_input(cx) {
                    Poll::Ready(Ok(Some(request))) => request,
                    Poll::Ready(Ok(None)) | Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Input(error)),
                },
            };
            if Pin::new(&mut self.frames).start_send(Bytes::from(request.encode())).is_err() {
                self.input = None;
                break;
            }
        }
        // Whatever stands in the way of the rest is heard when the next is to be sent, or from the other side.
        let _ = self.frames.poll_flush_unpin(cx);
        Poll::Pending
    }

    /// What is to be said next of the input; none after its end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Request>>> {
        let Some(sources) = &mut self.input else { return Poll::Ready(Ok(None)) };
        loop {
            return Poll::Ready(Ok(Some(match sources.front_mut() {
                Some(Source::Own(input)) => {
                    let most = self.sending.credit().min(PART);
                    if most == 0 {
                        return Poll::Pending;
                    }
                    let n = ready!(Pin::new(input).poll_read(cx, &mut self.buffer[..most]))?;
                    if n == 0 {
                        sources.pop_front();
                        continue;
                    }
                    self.sending.sent(n);
                    Request::Input(self.buffer[..n].to_vec())
                }
                Some(Source::Kept(kept)) => {
                    let request = Request::From(*kept);
                    sources.pop_front();
                    request
                }
                None => {
                    self.input = None;
                    Request::End
                }
            })));
        }
    }
}
