//! Datagrams: what some connections carry beside their streams. A [`StreamMuxer`](libp2p::core::StreamMuxer) knows only streams, so the
//! transports hand their connections' ways for datagrams over here, by the node at the other end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;

use crate::base::limit;

/// Datagrams that came and wait for the driver, in all and from one node; then its oldest goes, or the oldest.
const WAITING: usize = 1_024;
const WAITING_OF_ONE: usize = 64;

/// A connection's way for datagrams.
pub trait Port: Send {
    /// Sends one at once, or drops it because too many wait. `false`: it cannot go this way.
    fn send(&self, bytes: &[u8]) -> bool;
    /// Whether it can still be used.
    fn is_open(&self) -> bool;
}

#[derive(Default)]
struct Shared {
    /// The newest last.
    ports: Vec<(PeerId, Box<dyn Port>)>,
    came: VecDeque<(PeerId, Vec<u8>)>,
    waker: Option<Waker>,
}

impl Shared {
    fn port(&self, peer: &PeerId) -> Option<&dyn Port> {
        self.ports.iter().rev().find(|(to, port)| to == peer && port.is_open()).map(|(_, port)| &**port)
    }
}

/// The ways there are; clones are the same.
#[derive(Clone, Default)]
pub struct Datagrams(Arc<Mutex<Shared>>);

impl Datagrams {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to this node has a way, until it is closed.
    pub fn add(&self, peer: PeerId, port: Box<dyn Port>) {
        let mut shared = self.lock();
        shared.ports.retain(|(_, port)| port.is_open());
        shared.ports.push((peer, port));
    }

    /// Whether datagrams can be sent to this node.
    #[must_use]
    pub fn has(&self, peer: &PeerId) -> bool {
        self.lock().port(peer).is_some()
    }

    /// Sends one at once, or drops it because too many wait. `false`: there is no way for it.
    #[must_use]
    pub fn send(&self, peer: &PeerId, bytes: &[u8]) -> bool {
        self.lock().port(peer).is_some_and(|port| port.send(bytes))
    }

    /// One came from this node.
    pub fn came(&self, peer: PeerId, bytes: Vec<u8>) {
        if bytes.is_empty() || bytes.len() > limit::FRAME {
            return;
        }
        let mut shared = self.lock();
        let own = shared.came.iter().filter(|(from, _)| *from == peer).count() >= WAITING_OF_ONE;
        if own || shared.came.len() >= WAITING {
            let first = shared.came.iter().position(|(from, _)| !own || *from == peer);
            first.map(|at| shared.came.remove(at));
        }
        shared.came.push_back((peer, bytes));
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    }

    /// The next that came.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<(PeerId, Vec<u8>)> {
        let mut shared = self.lock();
        match shared.came.pop_front() {
            Some(next) => Poll::Ready(next),
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Datagrams({} ways)", self.lock().ports.len())
    }
}
