//! Which of a node's addresses is tried first: the best way there is gets a head start, and so does the one that worked before
//! (RFC 8305, "Happy Eyeballs").

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures_timer::Delay;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};

use super::Upgraded;
use super::address::{self, Way};

/// How long each way waits for the one before it: what RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// Nodes of which it is remembered which way worked.
const REMEMBERED: usize = 256;

#[derive(Default)]
struct Shared {
    /// The one that was used last at the end.
    worked: Vec<(PeerId, Way)>,
    /// Addresses that are about to be dialled, and how long each is to wait.
    waits: Vec<(Multiaddr, Duration)>,
}

/// What is known of the ways to other nodes; clones are the same.
#[derive(Clone, Default)]
pub struct Starts(Arc<Mutex<Shared>>);

impl Starts {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These addresses of a node are dialled now, all together. Circuits and what is signalled do not wait: others are slower to fail
    /// than they are to connect.
    pub fn plan(&self, peer: &PeerId, addresses: &[Multiaddr]) {
        let mut shared = self.lock();
        let worked = shared.worked.iter().find(|(p, _)| p == peer).map(|(_, way)| *way);
        let others = Way::ALL.into_iter().filter(|way| worked != Some(*way));
        let there = |way: &Way| addresses.iter().any(|a| address::way(a) == Some(*way));
        let ways: Vec<Way> = worked.into_iter().chain(others).filter(there).collect();
        let wait = |a: &Multiaddr| address::way(a).and_then(|way| ways.iter().position(|w| *w == way)).unwrap_or(0);
        // The swarm adds whom they lead to, where that is missing.
        shared.waits = addresses.iter().map(|a| (address::split_peer(a).0, HEAD_START * u32::try_from(wait(a)).unwrap_or(0))).collect();
    }

    /// A dialled connection to the node is up.
    pub fn worked(&self, peer: PeerId, address: &Multiaddr) {
        if let Some(way) = address::way(address) {
            let mut shared = self.lock();
            shared.worked.retain(|(known, _)| *known != peer);
            if shared.worked.len() >= REMEMBERED {
                shared.worked.remove(0);
            }
            shared.worked.push((peer, way));
        }
    }

    fn wait(&self, address: &Multiaddr) -> Duration {
        let mut shared = self.lock();
        let (address, _) = address::split_peer(address);
        let at = shared.waits.iter().position(|(a, _)| *a == address);
        at.map_or(Duration::ZERO, |at| shared.waits.swap_remove(at).1)
    }
}

/// A transport whose dials wait as it was planned.
pub struct Staggered {
    inner: Boxed<Upgraded>,
    starts: Starts,
}

impl Staggered {
    /// All dials of `inner`, by the plans of `starts`.
    pub fn new(inner: Boxed<Upgraded>, starts: Starts) -> Staggered {
        Staggered { inner, starts }
    }
}

impl Transport for Staggered {
    type Output = Upgraded;
    type Error = std::io::Error;
    type ListenerUpgrade = <Boxed<Upgraded> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<Upgraded, std::io::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<std::io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<std::io::Error>> {
        let wait = self.starts.wait(&address);
        // Begins when it is polled first.
        let dial = self.inner.dial(address, opts)?;
        if wait.is_zero() {
            return Ok(dial.boxed());
        }
        Ok(async move {
            Delay::new(wait).await;
            dial.await
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, std::io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_goes_first_and_the_one_that_worked_before_it() {
        let starts = Starts::default();
        let peer = PeerId::random();
        let hash = "uEiAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let all: Vec<Multiaddr> = [
            "/ip4/192.0.2.1/tcp/1/ws".into(),
            format!("/ip4/192.0.2.1/udp/1/quic-v1/webtransport/certhash/{hash}"),
            format!("/ip4/192.0.2.1/udp/2/webrtc-direct/certhash/{hash}"),
            "/ip4/198.51.100.1/tcp/1/ws".into(),
            format!("/ip4/192.0.2.9/tcp/1/ws/p2p/{peer}/p2p-circuit"),
            "/webrtc".into(),
        ]
        .iter()
        .map(|a: &String| a.parse().unwrap())
        .collect();
        let waits = |starts: &Starts| -> Vec<u128> { all.iter().map(|a| starts.wait(a).as_millis()).collect() };
        starts.plan(&peer, &all);
        let named = all[0].clone().with_p2p(peer).unwrap();
        assert_eq!(starts.wait(&named).as_millis(), 250);
        assert_eq!(waits(&starts), [0, 0, 500, 250, 0, 0], "once");
        starts.worked(peer, &all[3]);
        starts.plan(&peer, &all);
        assert_eq!(waits(&starts), [0, 250, 500, 0, 0, 0]);
        // What worked is not among them now: it plays no part.
        starts.plan(&peer, &all[1..3]);
        assert_eq!(waits(&starts), [0, 0, 250, 0, 0, 0]);
        // A circuit says nothing of the ways.
        starts.worked(peer, &all[4]);
        starts.plan(&PeerId::random(), &all);
        assert_eq!(waits(&starts), [250, 0, 500, 250, 0, 0]);
        for _ in 0..2 * REMEMBERED {
            starts.worked(PeerId::random(), &all[0]);
        }
        assert_eq!(starts.lock().worked.len(), REMEMBERED);
    }
}
