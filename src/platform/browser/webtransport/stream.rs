//! A bidirectional stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use js_sys::Uint8Array;
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, JsValue};

use super::super::webrtc::thrown;
use super::api::{Duplex, Reader, Waiting, Writer, chunk, let_go};

struct Inner {
    reader: Reader,
    reading: Waiting,
    /// What was read and not yet taken, from the position on.
    rest: Vec<u8>,
    at: usize,
    over: bool,
    writer: Writer,
    room: Waiting,
    closing: Waiting,
    /// The writing side was ended.
    ended: bool,
}

/// One stream. Dropped before its end, it is ended, and what comes on it is refused.
pub struct Stream(SendWrapper<Inner>);

impl Stream {
    pub(super) fn new(value: &JsValue) -> io::Result<Stream> {
        let duplex: &Duplex = value.unchecked_ref();
        let reader = duplex.readable().reader().map_err(|e| thrown("no stream to read", &e))?;
        let writer = duplex.writable().writer().map_err(|e| thrown("no stream to write", &e))?;
        let (reading, room, closing) = (Waiting::default(), Waiting::default(), Waiting::default());
        Ok(Stream(SendWrapper::new(Inner { reader, reading, rest: Vec::new(), at: 0, over: false, writer, room, closing, ended: false })))
    }
}

impl Inner {
    /// Ready when the browser takes more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.writer.desired_size().map_err(|e| thrown("the stream is broken", &e))?.unwrap_or(0.0);
        if room <= 0.0 || self.room.is_begun() {
            let writer = &self.writer;
            ready!(self.room.poll(cx, || writer.ready()))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self.0;
        while this.at == this.rest.len() && !this.over {
            let reader = &this.reader;
            let read = ready!(this.reading.poll(cx, || reader.read()))?;
            match chunk(&read) {
                Some(bytes) => (this.rest, this.at) = (Uint8Array::new(&bytes).to_vec(), 0),
                None => this.over = true,
            }
        }
        let n = buffer.len().min(this.rest.len() - this.at);
        buffer[..n].copy_from_slice(&this.rest[this.at..this.at + n]);
        this.at += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.0.poll_room(cx))?;
        // A write that fails breaks the stream, which the next look at its room shows.
        let_go(self.0.writer.write(&Uint8Array::from(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With room again, what was written before is on its way.
        if self.0.ended { Poll::Ready(Ok(())) } else { self.0.poll_room(cx) }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0;
        if this.ended && !this.closing.is_begun() {
            return Poll::Ready(Ok(()));
        }
        this.ended = true;
        let writer = &this.writer;
        // The other side may have broken the stream off: then it is closed as well.
        drop(ready!(this.closing.poll(cx, || writer.close())));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.0.ended {
            // Not broken off, which may take with it what was written last.
            let_go(self.0.writer.close());
        }
        if !self.0.over {
            let_go(self.0.reader.cancel());
        }
    }
}
