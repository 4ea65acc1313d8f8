//! Which relays to keep: two, so that one may die without anybody noticing, of those that invitations and former days named.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use super::{Peer, command::last_node, link::LinkCommand};
use crate::base::{Error, Gather, Mono, NodeId, Now};
use crate::wire::link::RELAYS;

/// Relays that are to be up at a time.
const KEPT: usize = 2;
/// Addresses of others known besides.
const SPARE: usize = 16;
/// How long a relay has to come up before another one is taken as well.
const PATIENCE: Duration = Duration::from_secs(3);

/// May be tried beside others of the same relay: WebTransport, where UDP passes, is better than WebSocket, and does not wait for it to
/// fail. A WebRTC-direct handshake that comes too late costs the relay too much.
fn races(address: &str) -> bool {
    !address.contains("/webrtc-direct")
}

/// A relay this node uses, at one address.
pub(super) struct Relay {
    pub node: NodeId,
    pub up: bool,
    /// When that changed last, or the relay was taken.
    since: Mono,
}

impl Peer {
    /// Uses a relay for good: connects to it, holds a reservation where needed, leaves records there.
    ///
    /// # Errors
    /// [`Code::BadArgument`](crate::base::Code::BadArgument) if the address does not end in `/p2p/<id>`.
    pub fn use_relay(&mut self, now: Now, address: &str) -> Result<(), Error> {
        let node = last_node(address)?;
        self.spare_relays.retain(|(spare, _)| spare != address);
        if !self.relays.contains_key(address) {
            self.relays.insert(address.to_string(), Relay { node, up: false, since: now.mono });
            self.command_link(LinkCommand::UseRelay { address: address.to_string() });
        }
        Ok(())
    }

    /// Names relays that may be used. Those that are needed are used at once, the others once one of those is down.
    ///
    /// # Errors
    /// As [`Peer::use_relay`], if none of the addresses is one.
    pub fn offer_relays(&mut self, now: Now, addresses: &[String]) -> Result<(), Error> {
        let mut result = Ok(());
        let mut some = false;
        for address in addresses {
            match last_node(address) {
                Ok(node) => {
                    some = true;
                    let known = self.relays.contains_key(address) || self.spare_relays.iter().any(|(spare, _)| spare == address);
                    if !known && self.spare_relays.len() < SPARE {
                        self.spare_relays.push((address.clone(), node));
                    }
                }
                Err(error) => result = Err(error),
            }
        }
        self.keep_relays(now);
        if some { Ok(()) } else { result }
    }

    /// Takes a spare relay, or more, if too few are up.
    pub(super) fn keep_relays(&mut self, now: Now) {
        let promising = |r: &&Relay| r.up || now.mono < r.since.after(PATIENCE);
        let mut kept: BTreeSet<NodeId> = self.relays.values().filter(promising).map(|r| r.node).gather();
        while kept.len() < KEPT {
            let used = |node: &NodeId| self.relays.values().any(|r| r.node == *node);
            let others = self.spare_relays.iter().filter(|(_, node)| !kept.contains(node));
            // Another relay before another way to one that is down.
            let Some((address, node)) = others.min_by_key(|(_, node)| used(node)).cloned() else { return };
            kept.insert(node);
            let also = self.spare_relays.iter().filter(|(other, of)| *of == node && races(other)).map(|(other, _)| other.clone());
            for address in also.chain([address]).collect::<Vec<_>>() {
                // Its address was read before.
                let _ = self.use_relay(now, &address);
            }
        }
    }

    /// A relay came up or went down; whether it is one of this node's.
    pub(super) fn relay_stands(&mut self, now: Now, address: &str, up: bool) -> bool {
        let Some(relay) = self.relays.get_mut(address) else { return false };
        if relay.up != up {
            (relay.up, relay.since) = (up, now.mono);
        }
        true
    }

    /// The relays of this node for others and for later days: those that are up first, at most [`RELAYS`].
    #[must_use]
    pub fn known_relays(&self) -> Vec<String> {
        let mut relays: Vec<(&String, bool)> = self.relays.iter().map(|(address, relay)| (address, relay.up)).collect();
        relays.sort_by_key(|(_, up)| !up);
        let spare = self.spare_relays.iter().map(|(address, _)| address);
        relays.into_iter().map(|(address, _)| address).chain(spare).take(RELAYS).cloned().collect()
    }

    /// The relays that are linked.
    pub(super) fn relay_links(&self) -> BTreeSet<NodeId> {
        self.relays.values().map(|r| r.node).filter(|n| self.table.best(n).is_some()).gather()
    }
}
