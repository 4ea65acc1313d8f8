//! Relays a node keeps: which are wanted, how they stand, when to try again. No I/O: [`Links`](super::Links) asks
//! [`Relays::due`] and tells what happened.

use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::base::{Map, Rng};

/// First wait before a relay is tried again; doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between two tries.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What a relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be tried (again) once the wait is over.
    Waiting,
    /// Being dialled.
    Dialling(ConnectionId),
    /// Connected; the reservation was asked for.
    Reserving(ListenerId),
    /// Usable, with the reservation's listener where there is one.
    Up(Option<ListenerId>),
}

/// One relay.
pub struct Relay {
    /// Every address it was given by: the text and what it says.
    pub addresses: Vec<(String, Multiaddr)>,
    /// Where it stands.
    pub standing: Standing,
    tries: u32,
}

/// The relays by identity.
pub struct Relays {
    /// All of them.
    pub by_peer: Map<PeerId, Relay>,
    rng: Rng,
}

impl Relays {
    /// None yet; the generator jitters the waits.
    pub fn new(rng: Rng) -> Relays {
        Relays { by_peer: Map::new(), rng }
    }

    /// Wants a relay; true if it is new.
    pub fn want(&mut self, peer: PeerId, text: String, address: Multiaddr) -> bool {
        let new = !self.by_peer.contains_key(&peer);
        let relay = self.by_peer.entry(peer).or_insert(Relay { addresses: Vec::new(), standing: Standing::Waiting, tries: 0 });
        if !relay.addresses.iter().any(|(t, _)| *t == text) {
            relay.addresses.push((text, address));
        }
        new
    }

    /// Forgets one address of a relay; the relay itself with the last one, which is then returned.
    pub fn drop_address(&mut self, text: &str) -> Option<PeerId> {
        let peer = *self.by_peer.iter().find(|(_, r)| r.addresses.iter().any(|(t, _)| t == text))?.0;
        let relay = self.by_peer.get_mut(&peer)?;
        relay.addresses.retain(|(t, _)| t != text);
        if relay.addresses.is_empty() { self.by_peer.remove(&peer).map(|_| peer) } else { None }
    }

    /// The relay that holds this reservation listener.
    pub fn by_listener(&self, id: ListenerId) -> Option<PeerId> {
        let holds = |s: Standing| s == Standing::Reserving(id) || s == Standing::Up(Some(id));
        self.by_peer.iter().find(|(_, r)| holds(r.standing)).map(|(p, _)| *p)
    }

    /// The relay being dialled on this connection.
    pub fn by_dial(&self, id: ConnectionId) -> Option<PeerId> {
        self.by_peer.iter().find(|(_, r)| r.standing == Standing::Dialling(id)).map(|(p, _)| *p)
    }

    /// Marks a relay usable.
    pub fn up(&mut self, peer: PeerId, listener: Option<ListenerId>) {
        if let Some(relay) = self.by_peer.get_mut(&peer) {
            relay.standing = Standing::Up(listener);
            relay.tries = 0;
        }
    }

    /// Marks a relay as to be tried again; how long to wait first (half to one and a half of the doubled wait).
    pub fn failed(&mut self, peer: PeerId) -> Option<Duration> {
        let relay = self.by_peer.get_mut(&peer)?;
        let wait = FIRST_WAIT.saturating_mul(1 << relay.tries.min(6)).min(LAST_WAIT);
        relay.tries = relay.tries.saturating_add(1);
        relay.standing = Standing::Waiting;
        Some(wait / 2 + Duration::from_millis(self.rng.below(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_a_bound_and_start_over_after_success() {
        let mut relays = Relays::new(Rng::from_seed([1; 32]));
        let peer = PeerId::random();
        assert!(relays.want(peer, "a".into(), Multiaddr::empty()));
        assert!(!relays.want(peer, "b".into(), Multiaddr::empty()));
        let first = relays.failed(peer).unwrap();
        assert!(first >= FIRST_WAIT / 2 && first <= FIRST_WAIT * 3 / 2);
        let last = (0..20).filter_map(|_| relays.failed(peer)).last().unwrap();
        assert!(last >= LAST_WAIT / 2 && last <= LAST_WAIT * 3 / 2);
        relays.up(peer, None);
        assert!(relays.failed(peer).unwrap() <= FIRST_WAIT * 3 / 2);
        assert!(relays.drop_address("a").is_none());
        assert_eq!(relays.drop_address("b").unwrap(), peer);
        assert!(relays.failed(peer).is_none());
    }
}
