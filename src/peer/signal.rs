//! Signalling without a relay: what two members have to tell each other before they can connect directly is carried by one that is
//! linked to both. `docs/protocol.md` section 13.
//!
//! Who says it signs it with its identity key: whoever carries it may drop it, and can neither change it nor say it itself.
//!
//! A native node cannot be told so how to reach a browser, but a browser can reach it: it asks to be dialled (connection reversal, RFC
//! 5128 section 3.2), with a signal that is empty.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;
use minicbor::{Decode, Encode, bytes::ByteVec};

use super::{
    Peer,
    dialling::is_own,
    domain::Domain,
    link::{Lane, LinkCommand},
    seal::Topic,
};
use crate::base::{DomainId, Map, Mono, NodeId, Now, Reject, Wall, limit, only};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::cbor;

const LABEL: &str = "peerage/1/signal";
/// The longest message, bytes.
const MESSAGE: usize = 16 * 1024;
/// Neighbours that are asked to carry one message: some may not be linked to whom it is for.
const CARRIERS: usize = 3;
/// Messages carried for one neighbour in a [`WINDOW`], and taken of one member: an offer takes a connection to answer.
const CARRIED: u32 = 32;
const TAKEN: u32 = 4;
const WINDOW: Duration = Duration::from_secs(10);

/// A message from member to member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Signal {
    /// Who says it.
    #[cbor(n(0), with = "minicbor::bytes")]
    from: [u8; 32],
    /// To whom.
    #[cbor(n(1), with = "minicbor::bytes")]
    to: [u8; 32],
    /// When, by the sender's clock; higher in each of its messages.
    #[n(2)]
    at: u64,
    /// For the platform: an offer or an answer. Empty: please dial me.
    #[n(3)]
    message: ByteVec,
    /// The sender's identity signature over all of that.
    #[cbor(n(4), with = "minicbor::bytes")]
    signature: [u8; SIGNATURE],
}

impl Signal {
    pub fn new(key: &SigningKey, domain: &DomainId, to: &NodeId, at: Wall, message: Vec<u8>) -> Signal {
        let (from, to) = (*key.node_id().as_bytes(), *to.as_bytes());
        let mut signal = Signal { from, to, at: at.0, message: message.into(), signature: [0; SIGNATURE] };
        signal.signature = key.sign(LABEL, domain, &signal.signed());
        signal
    }

    fn signed(&self) -> Vec<u8> {
        [&self.from[..], &self.to, &self.at.to_be_bytes(), &self.message].concat()
    }

    pub fn verify(&self, domain: &DomainId) -> Result<(), Reject> {
        sign::verify(&self.from, LABEL, domain, &self.signed(), &self.signature)
    }
}

/// What a domain keeps for this. Bounded by its members.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// When the last message that was sent said it was.
    said: Wall,
    /// What came of each member.
    by: Map<NodeId, Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When it said the last that it said to this node, and who carried that.
    last: Wall,
    carrier: Option<NodeId>,
    /// How much of it was taken, and carried.
    taken: Window,
    carried: Window,
}

/// Messages since when.
#[derive(Debug, Default)]
struct Window(Mono, u32);

impl Window {
    fn count(&mut self, now: Now, most: u32) -> Result<(), Reject> {
        if now.mono.since(self.0) >= WINDOW {
            *self = Window(now.mono, 0);
        }
        self.1 += 1;
        if self.1 > most { Err(Reject::Limit) } else { Ok(()) }
    }
}

impl Signals {
    /// Somebody is a member no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.by.remove(node);
    }
}

/// `/webrtc/p2p/X`: signalled by a common neighbour, then direct.
pub(super) fn is_signalled(address: &str) -> bool {
    address.starts_with("/webrtc/p2p/")
}

impl Domain {
    /// Neighbours that may be linked to this node.
    fn carriers(&self, node: &NodeId) -> impl Iterator<Item = NodeId> {
        self.greetings.iter().filter(move |(n, g)| *n != node && g.done()).map(|(n, _)| *n).filter(|n| self.known.contains_key(n))
    }

    fn may_signal(&self, node: &NodeId) -> bool {
        self.known.contains_key(node) && self.carriers(node).next().is_some()
    }
}

impl Peer {
    /// Whether somebody might carry an offer to this node.
    pub(super) fn may_offer(&self, node: &NodeId) -> bool {
        self.config.webrtc && self.domains.values().any(|d| d.may_signal(node))
    }

    /// Whether this node can be dialled by one that it cannot dial, and somebody might carry its word. One that asked for the same finds no
    /// way either.
    pub(super) fn may_call(&self, node: &NodeId) -> bool {
        self.addresses.iter().any(|a| is_own(a)) && self.domains.values().any(|d| d.may_signal(node) && !d.spread.has_called(node))
    }

    /// Asks a node that no way leads to that it dial this one.
    pub(super) fn call(&mut self, now: Now, node: NodeId) {
        self.signal(now, node, Vec::new());
    }

    /// The platform has something to tell a node that it is about to connect to.
    pub(super) fn signal(&mut self, now: Now, node: NodeId, message: Vec<u8>) {
        let Some(domain) = self.domains.iter_mut().map(|(_, v)| v).find(|d| d.may_signal(&node)) else { return };
        let at = Wall(now.wall.0.max(domain.signals.said.0 + 1));
        domain.signals.said = at;
        let signal = Signal::new(&self.identity, &domain.id, &node, at, message);
        // An answer goes back the way the offer came.
        let came = domain.signals.by.get(&node).and_then(|told| told.carrier);
        let mut carriers: Vec<NodeId> = domain.carriers(&node).collect();
        carriers.sort_by_cached_key(|carrier| (came.as_ref() != Some(carrier), self.rng.below(u64::MAX)));
        let to: BTreeSet<NodeId> = carriers.into_iter().take(CARRIERS).collect();
        let id = domain.id;
        self.send_sealed(now, id, Topic::Signals, &to, Lane::Control, &cbor::encode(&signal));
    }

    /// A signal came from a neighbour: for this node, or to be carried one hop.
    pub(super) fn signal_message(&mut self, now: Now, id: DomainId, sender: NodeId, bytes: &[u8]) -> Result<(), Reject> {
        let signal: Signal = cbor::decode(bytes)?;
        if signal.message.len() > MESSAGE {
            return Err(Reject::TooLarge);
        }
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let (from, to) = (NodeId::from_public_key(signal.from), NodeId::from_public_key(signal.to));
        if to != self.me {
            if from != sender {
                return Err(Reject::Forbidden);
            }
            domain.signals.by.entry(sender).or_default().carried.count(now, CARRIED)?;
            self.send_sealed(now, id, Topic::Signals, &only(to), Lane::Control, bytes);
            return Ok(());
        }
        let is_call = signal.message.is_empty();
        if !(is_call || self.config.webrtc) || !domain.known.contains_key(&from) {
            return Err(Reject::Forbidden);
        }
        signal.verify(&id)?;
        let at = Wall(signal.at);
        if at > now.wall.after(limit::CLOCK_SKEW) || now.wall > at.after(limit::CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        let told = domain.signals.by.entry(from).or_default();
        // The same by way of another neighbour, or somebody's replay.
        if at <= told.last {
            return Err(Reject::Stale);
        }
        told.taken.count(now, TAKEN)?;
        (told.last, told.carrier) = (at, Some(sender));
        if is_call {
            self.called(now, id, from);
        } else {
            self.command_link(LinkCommand::Signal { node: from, message: signal.message.into() });
        }
        Ok(())
    }

    /// A member has no way to this node and asks to be dialled, at the addresses of its record. Nothing that this node wants itself is given
    /// up for it, and what leads nowhere is tried twice in two minutes at most: nobody is to have a third party dialled by all.
    fn called(&mut self, now: Now, id: DomainId, node: NodeId) {
        if !self.domains.get_mut(&id).is_some_and(|d| d.spread.called(now, node)) {
            return;
        }
        let dial = self.dials.entry(node).or_default();
        if dial.failures == 0 {
            dial.next = dial.next.min(now.mono);
        }
        self.tick_within(now, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);

    /// A manager, a relay or a member between two others puts its own certificate in place of theirs.
    #[test]
    fn attack_18_whoever_carries_an_offer_cannot_change_it() {
        let (a, b, c) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]), SigningKey::from_seed(&[3; 32]));
        let offer = b"v=0\r\na=fingerprint:sha-256 AA:BB\r\n".to_vec();
        let signal = Signal::new(&a, &DOMAIN, &b.node_id(), Wall(1_000), offer.clone());
        assert_eq!(signal.verify(&DOMAIN), Ok(()));
        let bytes = cbor::encode(&signal);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(cbor::decode::<Signal>(&bent).and_then(|s| s.verify(&DOMAIN)).is_err(), "bit {bit}");
        }
        let own = Signal::new(&c, &DOMAIN, &b.node_id(), Wall(1_000), offer);
        let as_a = Signal { from: signal.from, ..own };
        assert_eq!(as_a.verify(&DOMAIN), Err(Reject::Forged));
        assert_eq!(signal.verify(&DomainId::from_bytes([8; 32])), Err(Reject::Forged), "nor is it good for another domain");
    }
}
