//! One stream to the store, and how it is got again.

use std::task::Poll;
use std::time::Duration;

use asynchronous_codec::Bytes;
use futures::future::{Either, select};
use futures::{FutureExt, SinkExt, StreamExt, poll};
use futures_timer::Delay;

use super::super::streams::{ByteStream, Frames, framed};
use crate::base::{Code, DomainId, Error};
use crate::proto::objects::ObjectId;
use crate::proto::objects::message::{Answer, MESSAGE, Request};

/// How long an answer may take. A put's answer may wait for a disk.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of all that is taken for one request, at most.
const LIST: usize = 64 * 1024 * 1024;

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The stream is gone, and with it all that waits; another may do better.
    Lost(Error),
    /// The answer is no.
    Refused(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Refused(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        match trouble {
            Trouble::Lost(error) | Trouble::Refused(error) => error,
        }
    }
}

/// A stream on which the domain was opened.
pub(crate) struct Session(Frames);

fn lost(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Trouble {
    Trouble::Lost(Error::new(Code::Unreachable, "the stream to the domain manager broke").caused_by(cause))
}

/// What came is no answer to what was asked.
pub(crate) fn astray() -> Trouble {
    Trouble::Refused(Error::new(Code::Malformed, "the domain manager's answer makes no sense").hint("It may be of another version"))
}

impl Session {
    pub(crate) async fn open(stream: Box<dyn ByteStream>, domain: DomainId) -> Result<Session, Trouble> {
        let mut session = Session(framed(stream, MESSAGE));
        match session.ask(&Request::Open(domain)).await? {
            Answer::Done => Ok(session),
            _ => Err(astray()),
        }
    }

    /// Sends a request; its answer is taken with [`Session::answer`].
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), Trouble> {
        self.feed(request).await?;
        self.flush().await
    }

    /// Everything fed leaves.
    pub(crate) async fn flush(&mut self) -> Result<(), Trouble> {
        within(self.0.flush()).await?.map_err(lost)
    }

    /// Sends it with what follows.
    pub(crate) async fn feed(&mut self, request: &Request) -> Result<(), Trouble> {
        within(self.0.feed(Bytes::from(request.encode()))).await?.map_err(lost)
    }

    pub(crate) async fn answer(&mut self) -> Result<Answer, Trouble> {
        let next = within(self.0.next()).await?;
        Session::read(next.ok_or_else(|| lost("it was closed"))?)
    }

    /// An answer that has come already.
    pub(crate) fn ready_answer(&mut self) -> Result<Option<Answer>, Trouble> {
        match self.0.next().now_or_never() {
            None => Ok(None),
            Some(next) => Session::read(next.ok_or_else(|| lost("it was closed"))?).map(Some),
        }
    }

    fn read(frame: Result<impl AsRef<[u8]>, std::io::Error>) -> Result<Answer, Trouble> {
        match Answer::decode(frame.map_err(lost)?.as_ref()) {
            // Another stream, to another manager, does better.
            Ok(Answer::Error { code: code @ Code::NotLeading, message }) => Err(Trouble::Lost(Error::new(code, message))),
            Ok(Answer::Error { code, message }) => Err(Trouble::Refused(Error::new(code, format!("the domain manager says: {message}")))),
            Ok(answer) => Ok(answer),
            Err(_) => Err(astray()),
        }
    }

    /// All lockboxes, at most so many.
    pub(crate) async fn lockboxes(&mut self, most: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let lockbox = |answer| if let Answer::Lockbox(bytes) = answer { Some(vec![bytes]) } else { None };
        self.list(&Request::Lockboxes, most, lockbox).await
    }

    /// The headers of versions in conflict, of an object or of all, at most so many.
    pub(crate) async fn conflicts(&mut self, object: Option<ObjectId>, most: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let headers = |answer| if let Answer::Headers(headers) = answer { Some(headers) } else { None };
        self.list(&Request::Conflicts(object), most, headers).await
    }

    /// What comes in several answers, up to [`Answer::Done`].
    async fn list(
        &mut self,
        request: &Request,
        most: usize,
        pick: impl Fn(Answer) -> Option<Vec<Vec<u8>>>,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        self.send(request).await?;
        let (mut all, mut total) = (Vec::new(), 0);
        loop {
            let answer = self.answer().await?;
            if answer == Answer::Done {
                return Ok(all);
            }
            let some = pick(answer).ok_or_else(astray)?;
            total += some.iter().map(Vec::len).sum::<usize>();
            all.extend(some);
            if all.len() > most || total > LIST {
                return Err(astray());
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Answer, Trouble> {
        self.send(request).await?;
        self.answer().await
    }
}

/// What does not take too long.
pub(crate) async fn within<T>(mut what: impl Future<Output = T> + Unpin) -> Result<T, Trouble> {
    // What is done at once needs no timer, for which another thread would be woken.
    if let Poll::Ready(done) = poll!(&mut what) {
        return Ok(done);
    }
    match select(what, Delay::new(ANSWER)).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => Err(Trouble::Lost(Error::new(Code::Timeout, "the domain manager does not answer"))),
    }
}
