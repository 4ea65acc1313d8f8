//! Streams that are read from while writing to them has to wait.
//!
//! yamux 0.14 answers a ping before it reads on. Where both sides have as much to write as goes, each waits with its answer until the
//! other reads, which neither does any more (<https://github.com/libp2p/rust-yamux/issues/227>). So what comes meanwhile is taken in here,
//! up to a bound: it makes the room in which the other side gets its answer out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

/// Read at a time, bytes.
const PART: usize = 16 * 1024;

/// A stream below a yamux connection.
pub(super) struct ReadAhead<S> {
    inner: S,
    /// Bytes that are taken in at most.
    most: usize,
    /// What was, and how much of it was read.
    ahead: Vec<u8>,
    read: usize,
    /// What comes after that.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ReadAhead<S> {
    pub(super) fn new(inner: S, most: usize) -> ReadAhead<S> {
        ReadAhead { inner, most, ahead: Vec::new(), read: 0, failed: None }
    }

    /// What writing came to; if it has to wait, what can be read is taken in.
    fn unless_waiting<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        // Or what is read a little at a time would pile up behind it.
        if self.read > self.ahead.len() / 2 {
            self.ahead.drain(..self.read);
            self.read = 0;
        }
        let (before, whole) = (self.ahead.len(), self.failed.is_none());
        while self.failed.is_none() && self.ahead.len() - self.read < self.most {
            let end = self.ahead.len();
            self.ahead.resize(end + PART, 0);
            let got = Pin::new(&mut self.inner).poll_read(cx, &mut self.ahead[end..]);
            self.ahead.truncate(end + if let Poll::Ready(Ok(n)) = got { n } else { 0 });
            match got {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(Err(error)) => self.failed = Some(error),
                // A stream that ended says so again.
                Poll::Ready(Ok(_)) | Poll::Pending => break,
            }
        }
        if self.ahead.len() > before || (whole && self.failed.is_some()) {
            // Whoever waits to read was not told by the stream.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.read < this.ahead.len() {
            let n = buffer.len().min(this.ahead.len() - this.read);
            buffer[..n].copy_from_slice(&this.ahead[this.read..this.read + n]);
            this.read += n;
            if this.read == this.ahead.len() {
                (this.ahead, this.read) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(n));
        }
        match this.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut this.inner).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.unless_waiting(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.unless_waiting(cx, flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.inner).poll_close(cx);
        self.unless_waiting(cx, closed)
    }
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use futures::task::noop_waker_ref;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    const PIPE: usize = 4 * 1024;
    const MOST: usize = 64 * 1024;

    /// Writes counted bytes until no more go.
    fn fill(stream: &mut (impl AsyncWrite + Unpin), sent: &mut usize) {
        let mut cx = Context::from_waker(noop_waker_ref());
        loop {
            let bytes: Vec<u8> = (*sent..*sent + 1_000).map(|i| i as u8).collect();
            match Pin::new(&mut *stream).poll_write(&mut cx, &bytes) {
                Poll::Ready(n) => *sent += n.unwrap(),
                Poll::Pending => return,
            }
        }
    }

    fn drain(stream: &mut (impl AsyncRead + Unpin), got: &mut usize) -> Option<io::Result<usize>> {
        let (mut cx, mut buffer) = (Context::from_waker(noop_waker_ref()), [0; 777]);
        loop {
            match Pin::new(&mut *stream).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    for byte in &buffer[..n] {
                        assert_eq!(*byte, *got as u8, "at {got}");
                        *got += 1;
                    }
                }
                Poll::Ready(end) => return Some(end),
                Poll::Pending => return None,
            }
        }
    }

    #[test]
    fn who_cannot_write_makes_room_for_the_other_side_up_to_a_bound_and_loses_nothing() {
        let (near, far) = tokio::io::duplex(PIPE);
        let (mut near, mut far) = (ReadAhead::new(near.compat(), MOST), far.compat());
        let (mut there, mut back) = (0, 0);
        fill(&mut far, &mut back);
        assert_eq!(back, PIPE, "the pipe is full");
        // Once this side's is full too.
        fill(&mut near, &mut there);
        assert_eq!(there, PIPE);
        let mut rounds = 0;
        loop {
            let before = back;
            fill(&mut far, &mut back);
            fill(&mut near, &mut there);
            if back == before {
                break;
            }
            rounds += 1;
        }
        assert!(rounds > 1 && (MOST..MOST + PART + 2 * PIPE).contains(&back), "{back} bytes in {rounds} rounds");
        assert_eq!(there, PIPE, "what was written is not what was read");
        let (mut got, mut came) = (0, 0);
        assert!(drain(&mut near, &mut got).is_none());
        assert!(drain(&mut far, &mut came).is_none());
        assert_eq!((got, came), (back, there));
        // And goes on as before.
        fill(&mut far, &mut back);
        assert!(drain(&mut near, &mut got).is_none());
        assert_eq!(got, back);
    }

    #[test]
    fn who_reads_a_little_and_waits_again_does_not_pile_up_what_was_read() {
        let (near, far) = tokio::io::duplex(PIPE);
        let (mut near, mut far) = (ReadAhead::new(near.compat(), MOST), far.compat());
        let (mut there, mut back, mut got) = (0, 0, 0);
        let mut cx = Context::from_waker(noop_waker_ref());
        for _ in 0..200 {
            for _ in 0..MOST / PIPE {
                fill(&mut far, &mut back);
                fill(&mut near, &mut there);
            }
            let mut part = [0; 1_000];
            let Poll::Ready(Ok(n)) = Pin::new(&mut near).poll_read(&mut cx, &mut part) else { panic!("there is something") };
            got += n;
            assert!(near.ahead.capacity() <= 4 * (MOST + PART), "{} bytes are held after {got} were read", near.ahead.capacity());
        }
        assert!(got > 2 * MOST);
    }

    #[test]
    fn the_end_comes_after_what_was_taken_in() {
        let (near, far) = tokio::io::duplex(PIPE);
        let (mut near, mut far) = (ReadAhead::new(near.compat(), MOST), far.compat());
        let (mut there, mut back, mut got) = (0, 0, 0);
        fill(&mut far, &mut back);
        fill(&mut near, &mut there);
        drop(far);
        assert!(matches!(drain(&mut near, &mut got), Some(Ok(0))));
        assert_eq!(got, back);
    }
}
