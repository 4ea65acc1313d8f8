//! A stream on a data channel, with the framing that lets its two directions end apart (libp2p specifications,
//! `webrtc/README.md`, "Multiplexing").

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use unsigned_varint::{decode, encode};

use super::channel::DataChannel;
use crate::platform::message::{self, invalid};

/// The longest message taken, bytes. The specification has 16 KiB.
const LONGEST: usize = 64 * 1024;

const FIN: u64 = 0;
const STOP_SENDING: u64 = 1;
const RESET: u64 = 2;
const FIN_ACK: u64 = 3;

/// What differs between remotes.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// Written at once, bytes. Every write is one message.
    pub(super) most: usize,
    /// Whether the end of the remote's direction is acknowledged, as the specification has it. rust-libp2p takes the
    /// acknowledgement for an error.
    pub(super) acknowledge: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    Ended,
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// The remote reads no more.
    Stopped,
    /// This side said that it was the end.
    Ended,
}

/// A stream. Dropped before its writing was closed, it is reset.
pub struct RtcStream {
    channel: DataChannel,
    kind: Kind,
    reading: Reading,
    writing: Writing,
    /// What arrived; `next` is where the next message starts, `data` what of the last one was not read yet.
    buffer: Vec<u8>,
    next: usize,
    data: Range<usize>,
}

impl RtcStream {
    pub(super) fn new(channel: DataChannel, kind: Kind) -> RtcStream {
        RtcStream { channel, kind, reading: Reading::Open, writing: Writing::Open, buffer: Vec::new(), next: 0, data: 0..0 }
    }

    /// Takes the next message out of the buffer; false if it is not all there.
    fn step(&mut self) -> io::Result<bool> {
        let waiting = &self.buffer[self.next..];
        let (length, body) = match decode::usize(waiting) {
            Ok(found) => found,
            Err(decode::Error::Insufficient) => return Ok(false),
            Err(_) => return Err(invalid("a message length that is no number")),
        };
        if length > LONGEST {
            return Err(invalid("a message that is too long"));
        }
        let start = self.buffer.len() - body.len();
        let Some(body) = body.get(..length) else { return Ok(false) };
        let (flag, data) = message::read(body)?;
        self.next = start + length;
        if self.reading == Reading::Open {
            self.data = start + data.start..start + data.end;
        }
        match flag {
            Some(FIN) => {
                if self.reading == Reading::Open {
                    self.reading = Reading::Ended;
                }
                if self.kind.acknowledge {
                    self.tell(FIN_ACK);
                }
            }
            Some(STOP_SENDING) if self.writing == Writing::Open => self.writing = Writing::Stopped,
            Some(RESET) => {
                self.reading = Reading::Reset;
                self.writing = Writing::Ended;
                self.data = 0..0;
            }
            // An acknowledgement needs none; a flag of the future is not for us.
            _ => {}
        }
        Ok(true)
    }

    /// Says a flag if that can be done now; a channel that is gone says enough itself.
    fn tell(&self, flag: u64) {
        drop(self.channel.send(&framed(Some(flag), None)));
    }

    /// Reads what the remote says after its end: that it reads no more either.
    fn hear(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.reading != Reading::Open && self.data.is_empty() {
            if self.step()? {
                continue;
            }
            match self.channel.poll_take(cx)? {
                Poll::Ready(Some(bytes)) => self.add(bytes),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: Vec<u8>) {
        if self.next == self.buffer.len() {
            self.buffer = bytes;
        } else {
            self.buffer.drain(..self.next);
            self.buffer.extend_from_slice(&bytes);
        }
        self.next = 0;
        self.data = 0..0;
    }
}

/// A message with its length before it.
fn framed(flag: Option<u64>, data: Option<&[u8]>) -> Vec<u8> {
    let message = message::write(flag, data);
    let mut bytes = Vec::with_capacity(message.len() + 4);
    bytes.extend_from_slice(encode::usize(message.len(), &mut encode::usize_buffer()));
    bytes.extend_from_slice(&message);
    bytes
}

impl AsyncRead for RtcStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if !this.data.is_empty() {
                let n = buffer.len().min(this.data.len());
                buffer[..n].copy_from_slice(&this.buffer[this.data.start..this.data.start + n]);
                this.data.start += n;
                return Poll::Ready(Ok(n));
            }
            match this.reading {
                Reading::Open => {}
                Reading::Ended => return Poll::Ready(Ok(0)),
                Reading::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
            if this.step()? {
                continue;
            }
            match ready!(this.channel.poll_take(cx))? {
                Some(bytes) => this.add(bytes),
                // Without a word before: the remote, or the connection, is gone.
                None => this.reading = Reading::Ended,
            }
        }
    }
}

impl AsyncWrite for RtcStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hear(cx)?;
        if self.writing != Writing::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.channel.poll_ready(cx))?;
        let n = self.kind.most.min(bytes.len());
        self.channel.send(&framed(None, Some(&bytes[..n])))?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the browser's, which needs no asking.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing == Writing::Open {
            ready!(self.channel.poll_ready(cx))?;
            self.channel.send(&framed(Some(FIN), None))?;
        }
        self.writing = Writing::Ended;
        Poll::Ready(Ok(()))
    }
}

impl Drop for RtcStream {
    fn drop(&mut self) {
        if self.writing != Writing::Ended {
            self.tell(RESET);
        }
    }
}
