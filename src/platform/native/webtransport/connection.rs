//! A WebTransport session as a libp2p connection: each of its bidirectional streams is a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::StreamMuxerEvent;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use wtransport::stream::BiStream;
use wtransport::{RecvStream, SendStream, VarInt};

/// One of its streams.
pub(super) type Stream = Compat<BiStream>;

type Opening<T> = Option<BoxFuture<'static, io::Result<T>>>;

/// A session whose ends have shown each other who they are.
pub struct Connection {
    inner: wtransport::Connection,
    /// The stream of the Noise handshake. Without it the other side, which has yet to end it, would see it broken off.
    _handshake: Box<dyn Send + 'static>,
    inbound: Opening<(SendStream, RecvStream)>,
    outbound: Opening<(SendStream, RecvStream)>,
    closed: Opening<()>,
}

/// The two halves of a stream as one.
pub(super) fn join(halves: (SendStream, RecvStream)) -> Stream {
    BiStream::join(halves).compat()
}

impl Connection {
    pub(super) fn new(inner: wtransport::Connection, handshake: impl Send + 'static) -> Connection {
        Connection { inner, _handshake: Box::new(handshake), inbound: None, outbound: None, closed: None }
    }
}

impl Connection {
    /// The session itself, which also carries datagrams.
    #[must_use]
    pub fn session(&self) -> wtransport::Connection {
        self.inner.clone()
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let inner = self.inner.clone();
        let next = self.inbound.get_or_insert_with(|| async move { inner.accept_bi().await.map_err(io::Error::other) }.boxed());
        let halves = ready!(next.poll_unpin(cx));
        self.inbound = None;
        Poll::Ready(halves.map(join))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let inner = self.inner.clone();
        let next = self
            .outbound
            .get_or_insert_with(|| async move { inner.open_bi().await.map_err(io::Error::other)?.await.map_err(io::Error::other) }.boxed());
        let halves = ready!(next.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(halves.map(join))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = self.inner.clone();
        let closed = self.closed.get_or_insert_with(|| {
            inner.close(VarInt::from_u32(0), b"");
            async move {
                inner.closed().await;
                Ok(())
            }
            .boxed()
        });
        closed.poll_unpin(cx)
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}
