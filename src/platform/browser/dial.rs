//! What most transports of a page have in common: they dial, and never listen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

/// A dial under way.
pub(super) type Dialling<T> = BoxFuture<'static, io::Result<T>>;

/// A way to dial.
pub(super) trait Dials {
    /// What a dial leads to.
    type Output;
    /// Dials an address; `None` if it is of another transport. Nothing begins before the future is polled.
    fn dial(&self, address: &Multiaddr) -> Option<Dialling<Self::Output>>;
}

/// The transport of such a way.
pub(super) struct Dialler<D>(pub(super) D);

impl<D: Dials + Unpin> Transport for Dialler<D> {
    type Output = D::Output;
    type Error = io::Error;
    type ListenerUpgrade = Dialling<Self::Output>;
    type Dial = Dialling<Self::Output>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.0.dial(&address).ok_or(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
