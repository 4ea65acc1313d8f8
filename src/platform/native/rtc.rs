//! WebRTC-direct connections that give back what they took. `libp2p-webrtc` 0.10.0-alpha frees the sockets and tasks of a connection
//! only when it is closed; one that fails, or whose other side is gone, is dropped unclosed. What was established is closed here when
//! it is dropped; of inbound handshakes that fail, which nobody outside that crate can close, there is only so many.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::StreamMuxerEvent;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};
use libp2p_webrtc::tokio::Connection;

/// Inbound handshakes under way. A stranger's packet is enough for one, and each takes the place of another connection that is
/// under way until it is over, after ten seconds and more.
const UNDER_WAY: usize = 32;
/// Inbound handshakes that failed since this process started: each holds about 170 KB for good.
const FAILED: usize = 512;

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

/// WebRTC-direct with bounds for the handshakes of strangers. Once too many failed it takes no new ones: the node is to be reached over
/// its other addresses, and restarted.
pub(super) struct Admitting<T> {
    inner: T,
    under_way: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

/// A handshake: under way until it is dropped, failed unless it came to a connection.
struct Handshake {
    under_way: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    connected: bool,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        if !self.connected && self.failed.fetch_add(1, Ordering::Relaxed) + 1 == FAILED {
            tracing::warn!("{FAILED} WebRTC-direct handshakes failed: no more are taken until this process is restarted");
        }
    }
}

impl<T> Admitting<T> {
    pub(super) fn new(inner: T) -> Admitting<T> {
        Admitting { inner, under_way: Arc::default(), failed: Arc::default() }
    }

    fn admits(&self) -> bool {
        let under_way = self.under_way.load(Ordering::Relaxed);
        under_way < UNDER_WAY && under_way + self.failed.load(Ordering::Relaxed) < FAILED
    }
}

impl<T: Transport + Unpin> Transport for Admitting<T>
where
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = BoxFuture<'static, Result<T::Output, T::Error>>;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, T::Error>> {
        loop {
            let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
            // An upgrade that was never polled holds nothing yet.
            if matches!(event, TransportEvent::Incoming { .. }) && !self.admits() {
                continue;
            }
            return Poll::Ready(event.map_upgrade(|upgrade| {
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let mut handshake = Handshake { under_way: self.under_way.clone(), failed: self.failed.clone(), connected: false };
                async move {
                    // The whole of it moves in here, not the one field that is written.
                    let handshake = &mut handshake;
                    let connected = upgrade.await?;
                    handshake.connected = true;
                    Ok(connected)
                }
                .boxed()
            }));
        }
    }
}

/// Whether an address is dialled only where there is no other: a dial that is given up, because another address was faster, is
/// never freed.
pub(super) fn is_last_resort(address: &Multiaddr) -> bool {
    address.iter().any(|p| p == Protocol::WebRTCDirect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::transport::MemoryTransport;

    /// A listener, and its upgrades for so many diallers; those that it does not take are not among them.
    async fn incoming(server: &mut Admitting<MemoryTransport>, address: &Multiaddr, diallers: usize) -> Vec<BoxFuture<'static, bool>> {
        let mut taken = Vec::new();
        for _ in 0..diallers {
            let options = DialOpts { role: libp2p::core::Endpoint::Dialer, port_use: libp2p::core::transport::PortUse::New };
            let dial = MemoryTransport::default().dial(address.clone(), options).unwrap();
            let dialled = tokio::spawn(dial);
            let event = poll_fn(|cx| match Pin::new(&mut *server).poll(cx) {
                Poll::Ready(event) => Poll::Ready(Some(event)),
                // Nothing is there any more: the dial was taken out of the listener's queue, and refused.
                Poll::Pending if dialled.is_finished() => Poll::Ready(None),
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            });
            if let Some(TransportEvent::Incoming { upgrade, .. }) = event.await {
                taken.push(upgrade.map(|end| end.is_ok()).boxed());
            }
        }
        taken
    }

    #[tokio::test]
    async fn handshakes_are_bounded_at_once_and_in_all() {
        let mut server = Admitting::new(MemoryTransport::default());
        server.listen_on(ListenerId::next(), "/memory/0".parse().unwrap()).unwrap();
        let TransportEvent::NewAddress { listen_addr, .. } = poll_fn(|cx| Pin::new(&mut server).poll(cx)).await else { panic!() };
        let first = incoming(&mut server, &listen_addr, UNDER_WAY + 5).await;
        assert_eq!(first.len(), UNDER_WAY, "the others wait outside");
        // Those that come to a connection cost nothing.
        for upgrade in first {
            assert!(upgrade.await);
        }
        for _ in 0..FAILED {
            assert_eq!(incoming(&mut server, &listen_addr, 1).await.len(), 1);
        }
        assert_eq!(incoming(&mut server, &listen_addr, 1).await.len(), 0, "so many were dropped unfinished");
    }
}
