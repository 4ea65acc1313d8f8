//! Counts the bytes of all streams of a process, so that a relay can show what did and did not pass through it; and records
//! what is received, if that is wanted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use super::record::Recorder;

/// Bytes read from and written to streams, over all connections, since the start. Payload of the streams: without what
/// encryption and multiplexing add.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    /// Bytes read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes written.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// What is done about the streams of a connection.
#[derive(Clone, Default)]
pub(super) struct Watch {
    /// Counts their bytes.
    pub(super) traffic: Option<Arc<Traffic>>,
    /// Records what they bring.
    pub(super) recorder: Option<Arc<Recorder>>,
    /// What is written at once is at most so many bytes and leaves before the next.
    pub(super) most: Option<usize>,
}

impl Watch {
    /// Puts a connection under watch.
    pub(super) fn wrap(&self, inner: StreamMuxerBox) -> StreamMuxerBox {
        StreamMuxerBox::new(Watched { inner, watch: self.clone() })
    }

    fn stream(&self, inner: SubstreamBox) -> WatchedStream {
        WatchedStream { inner, number: self.recorder.as_ref().map_or(0, |r| r.stream()), watch: self.clone() }
    }
}

struct Watched {
    inner: StreamMuxerBox,
    watch: Watch,
}

impl StreamMuxer for Watched {
    type Substream = WatchedStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<WatchedStream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.watch.stream(inner)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<WatchedStream>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.watch.stream(inner)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct WatchedStream {
    inner: SubstreamBox,
    /// In the recording.
    number: u32,
    watch: Watch,
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if let Some(traffic) = &self.watch.traffic {
            traffic.received.fetch_add(n as u64, Ordering::Relaxed);
        }
        if let Some(recorder) = &self.watch.recorder {
            recorder.take(self.number, &buffer[..n]);
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut bytes = bytes;
        if let Some(most) = self.watch.most {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            bytes = &bytes[..bytes.len().min(most)];
        }
        let n = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        if let Some(traffic) = &self.watch.traffic {
            traffic.sent.fetch_add(n as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
