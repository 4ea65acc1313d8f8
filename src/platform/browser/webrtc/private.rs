//! Browser to browser: `<relay>/p2p-circuit/webrtc/p2p/<peer>`, or `/webrtc/p2p/<peer>` where somebody else carries the signals. The
//! transport's half of it; the signalling happens in the [behaviour](super::signaling), as only that can open streams.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport};

use super::configuration::Configuration;
use super::connection::Connection;
use super::signaling::{Ask, Behaviour};
use crate::platform::links::address;

/// Dials on their way to the behaviour, and connections on theirs to the swarm.
const QUEUE: usize = 64;

/// The transport.
pub struct Private {
    asks: mpsc::Sender<Ask>,
    arrived: mpsc::Receiver<(PeerId, Connection)>,
    listener: Option<ListenerId>,
    /// Whether the listener's address was told.
    told: bool,
    waker: Option<Waker>,
}

/// The transport and the behaviour that belongs to it.
pub fn new(rtc: Arc<Configuration>) -> (Private, Behaviour) {
    let (asks, asked) = mpsc::channel(QUEUE);
    let (arrive, arrived) = mpsc::channel(QUEUE);
    (Private { asks, arrived, listener: None, told: false, waker: None }, Behaviour::new(asked, arrive, rtc))
}

/// The address that stands for being reached so.
pub fn listen_address() -> Multiaddr {
    Multiaddr::empty().with(Protocol::WebRTC)
}

/// Whom an address leads to, and the circuit that carries the signalling, if it names one.
fn parse(address: &Multiaddr) -> Option<(PeerId, Option<Multiaddr>)> {
    let circuit: Multiaddr = address.iter().filter(|p| *p != Protocol::WebRTC).collect();
    let peer = address::split_peer(&circuit).1?;
    if address::is_signalled(address) {
        return Some((peer, None));
    }
    (address::is_circuit(address) && address::is_webrtc(address)).then_some((peer, Some(circuit)))
}

impl Transport for Private {
    type Output = (PeerId, Connection);
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if address != listen_address() || self.listener.is_some() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.listener = Some(id);
        self.told = false;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|l| *l == id).is_some()
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((peer, circuit)) = parse(&address) else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let mut asks = self.asks.clone();
        Ok(async move {
            let (reply, told) = oneshot::channel();
            let gone = || io::Error::other("the signalling ended before it was done");
            asks.send(Ask { peer, circuit, reply }).await.map_err(|_| gone())?;
            told.await.map_err(|_| gone())?.map(|connection| (peer, connection))
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Some(listener_id) = self.listener else {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if !self.told {
            self.told = true;
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr: listen_address() });
        }
        if let Poll::Ready(Some((peer, connection))) = self.arrived.poll_next_unpin(cx) {
            return Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade: ready(Ok((peer, connection))),
                local_addr: listen_address(),
                send_back_addr: listen_address().with(Protocol::P2p(peer)),
            });
        }
        Poll::Pending
    }
}
