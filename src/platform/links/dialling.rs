//! From a node's addresses to one connection: which are dialled at once, which wait for a relay, what follows a failure.

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId};

use super::relays::Standing;
use super::{Links, address};
use crate::base::{Code, NodeId};
use crate::peer::{LinkEvent, Path};

/// Dials that wait for a relay to be connected.
const WAITING_DIALS: usize = 1_024;

/// A dial the driver asked for.
pub(super) struct Pending {
    pub(super) node: NodeId,
    pub(super) peer: PeerId,
    /// What to dial if this fails.
    pub(super) later: Vec<Multiaddr>,
    /// How the connection goes and its address, once there is one.
    pub(super) reached: Option<(Path, String)>,
    /// The remote has no lanes: a ping will show that it lives.
    pub(super) refused: bool,
}

impl<X: NetworkBehaviour> Links<X>
where
    X::ToSwarm: std::fmt::Debug,
{
    pub(super) fn dial(&mut self, node: NodeId, addresses: &[String]) {
        let Some(peer) = address::peer_id(node) else { return self.dial_failed(node, Code::BadId, "no such node".into()) };
        let mut usable: Vec<Multiaddr> = addresses.iter().filter_map(|text| self.usable(text, peer)).collect();
        if usable.is_empty() {
            return self.dial_failed(node, Code::Unreachable, "no address that this platform can dial".into());
        }
        self.config.prefer(&mut usable);
        self.dial_usable(node, peer, usable);
    }

    /// Circuits of relays that are connected come first. Those of others wait until these have failed, and then for their relay: it
    /// may be gone, and the relay client drops a second request while it connects.
    fn dial_usable(&mut self, node: NodeId, peer: PeerId, addresses: Vec<Multiaddr>) {
        let absent = |a: &Multiaddr| address::relay_of(a).map(|(relay, _)| relay).filter(|relay| !self.is_direct(relay));
        let (later, now): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| absent(a).is_some());
        match later.first().and_then(absent) {
            Some(relay) if now.is_empty() => self.dial_behind(relay, node, later),
            // Nothing tells how soon an address without a relay fails.
            Some(_) if !now.iter().any(address::is_circuit) => {
                self.dial_now(node, peer, now.into_iter().chain(later).collect(), Vec::new())
            }
            _ => self.dial_now(node, peer, now, later),
        }
    }

    fn dial_now(&mut self, node: NodeId, peer: PeerId, addresses: Vec<Multiaddr>, later: Vec<Multiaddr>) {
        self.starts.plan(&peer, &addresses);
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        let id = opts.connection_id();
        self.dials.insert(id, Pending { node, peer, later, reached: None, refused: false });
        if let Err(error) = self.swarm.dial(opts)
            && let Some(dial) = self.dials.remove(&id)
        {
            self.dial_error(dial, &error);
        }
    }

    fn dial_behind(&mut self, relay: PeerId, node: NodeId, addresses: Vec<Multiaddr>) {
        if self.waiting.len() >= WAITING_DIALS {
            return self.dial_failed(node, Code::Busy, "too many dials wait for relays".into());
        }
        let under_way = self.bridges.values().any(|p| *p == relay)
            || self.relays.by_peer.get(&relay).is_some_and(|r| matches!(r.standing, Standing::Dialling(_)));
        let mut heads: Vec<Multiaddr> =
            addresses.iter().filter_map(address::relay_of).filter(|(r, _)| *r == relay).map(|(_, head)| head).collect();
        heads.dedup();
        self.waiting.push((relay, node, addresses));
        if under_way {
            return;
        }
        self.starts.plan(&relay, &heads);
        let opts = DialOpts::peer_id(relay).condition(PeerCondition::Always).addresses(heads).build();
        let id = opts.connection_id();
        self.bridges.insert(id, relay);
        if let Err(error) = self.swarm.dial(opts) {
            self.bridges.remove(&id);
            self.relay_failed(relay, &error.to_string());
        }
    }

    /// Lets the dials go that waited for this relay.
    pub(super) fn relay_reached(&mut self, relay: PeerId) {
        let (ready, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(r, ..)| *r == relay);
        self.waiting = rest;
        for (_, node, addresses) in ready {
            if let Some(peer) = address::peer_id(node) {
                self.dial_usable(node, peer, addresses);
            }
        }
    }

    /// Fails the dials that waited for this relay, or sends them to the next one they name.
    pub(super) fn relay_failed(&mut self, relay: PeerId, reason: &str) {
        let (failed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(|(r, ..)| *r == relay);
        self.waiting = rest;
        for (_, node, addresses) in failed {
            let others: Vec<Multiaddr> = addresses.into_iter().filter(|a| address::relay_of(a).is_some_and(|(r, _)| r != relay)).collect();
            match address::peer_id(node) {
                Some(peer) if !others.is_empty() => self.dial_usable(node, peer, others),
                _ => self.dial_failed(node, Code::Unreachable, format!("its relay: {reason}")),
            }
        }
    }

    /// The address parsed, ending in `/p2p/<peer>`; `None` if this platform cannot dial it.
    fn usable(&self, text: &str, peer: PeerId) -> Option<Multiaddr> {
        let parsed: Multiaddr = text.parse().ok()?;
        let (head, named) = address::split_peer(&parsed);
        if named.is_some_and(|p| p != peer) && !matches!(parsed.iter().last(), Some(Protocol::P2pCircuit)) {
            return None;
        }
        let full = if named.is_some() { parsed } else { head.with(Protocol::P2p(peer)) };
        if address::is_webrtc(&full) && !self.config.webrtc {
            return None;
        }
        match address::relay_of(&full) {
            Some((relay, head)) => (relay != self.me && relay != peer && (self.config.usable)(&head)).then_some(full),
            None if address::is_circuit(&full) => None,
            // Of WebRTC only what somebody signals.
            None => ((self.config.usable)(&full) || (self.config.webrtc && address::is_signalled(&full))).then_some(full),
        }
    }

    pub(super) fn dial_failed(&mut self, node: NodeId, code: Code, reason: String) {
        self.events.push_back(LinkEvent::DialFailed { node, code, reason });
    }

    pub(super) fn dial_error(&mut self, dial: Pending, error: &DialError) {
        // The browser's `/webrtc` transport puts the code's text into its error, as a transport can hand up nothing else.
        let ice = match error {
            DialError::Transport(each) => each.iter().any(|(_, e)| {
                let text = format!("{e:?}");
                text.contains(Code::IceFailed.as_str())
            }),
            _ => false,
        };
        if !dial.later.is_empty() && !ice {
            return self.dial_usable(dial.node, dial.peer, dial.later);
        }
        let mut reason = error.to_string();
        reason.truncate(reason.floor_char_boundary(512));
        self.dial_failed(dial.node, if ice { Code::IceFailed } else { Code::Unreachable }, reason);
    }
}
