//! Connections that take no longer to close than they may.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::StreamMuxerEvent;

/// How long a connection may take to write its last words.
const CLOSE: Duration = Duration::from_secs(3);

/// A muxer that is dropped when its close takes too long. yamux reads nothing more once it closes, so two sides that close while both have
/// much to write would wait for each other until the socket below breaks, and a circuit would be held for a day.
pub(super) struct Brief<M> {
    inner: M,
    closing: Option<Delay>,
}

impl<M> Brief<M> {
    pub(super) fn new(inner: M) -> Brief<M> {
        Brief { inner, closing: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Brief<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if self.closing.get_or_insert_with(|| Delay::new(CLOSE)).poll_unpin(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::future::poll_fn;

    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = futures::io::Cursor<Vec<u8>>;
        type Error = std::io::Error;
        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
            Poll::Pending
        }
        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
            Poll::Pending
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_connection_that_cannot_be_closed_is_dropped() {
        let mut muxer = Brief::new(Stuck);
        block_on(poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx))).unwrap();
    }
}
