//! WebRTC-direct connections that give back what they took. `libp2p-webrtc` 0.10.0-alpha frees the sockets and tasks of a connection
//! only when it is closed; one that fails, or whose other side is gone, is dropped unclosed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::StreamMuxerEvent;
use libp2p::multiaddr::Protocol;
use libp2p_webrtc::tokio::Connection;

/// Such a connection; closed when it is dropped.
pub(super) struct Closing(Option<Connection>);

impl Closing {
    pub(super) fn new(connection: Connection) -> Closing {
        Closing(Some(connection))
    }

    fn inner(&mut self) -> Pin<&mut Connection> {
        Pin::new(self.0.as_mut().expect("only taken by drop")) // invariant: nothing else takes it
    }
}

impl StreamMuxer for Closing {
    type Substream = <Connection as StreamMuxer>::Substream;
    type Error = <Connection as StreamMuxer>::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        self.inner().poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        self.inner().poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner().poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.inner().poll(cx)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let (Some(mut connection), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // What is closed already closes again; what cannot be closed is gone.
                let _ = poll_fn(|cx| Pin::new(&mut connection).poll_close(cx)).await;
            });
        }
    }
}

/// Whether an address is dialled only where there is no other: a dial that is given up, because another address was faster, is
/// never freed.
pub(super) fn is_last_resort(address: &Multiaddr) -> bool {
    address.iter().any(|p| p == Protocol::WebRTCDirect)
}
