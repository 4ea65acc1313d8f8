//! Where traffic meets keys: the only place that seals and opens.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{Peer, domain::Greeting, hello::Keys, link::Lane, table::Table};
#[cfg(feature = "sim")]
use crate::base::only;
use crate::base::{DomainId, Map, NodeId, Now, Reject};
use crate::crypto::{Class, Role, tag};
use crate::wire::bytes::Reader;
use crate::wire::cbor;
use crate::wire::frame::Kind;

/// Which machine a sealed message is for. In clear on the frame and bound into its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Topic {
    Directory = 1,
    Channels = 2,
    /// Shared state.
    State = 3,
    /// The tree of what goes to every participant.
    Casts = 4,
    /// The tree of the directory's news.
    News = 5,
    /// Who is alive.
    Probes = 6,
    /// What members have to tell each other before they connect, carried by a common neighbour.
    Signals = 7,
    /// Views of the membership, and who waits to be let in.
    Notices = 8,
}

impl Topic {
    pub fn parse(value: u16) -> Result<Topic, Reject> {
        match value {
            1 => Ok(Topic::Directory),
            2 => Ok(Topic::Channels),
            3 => Ok(Topic::State),
            4 => Ok(Topic::Casts),
            5 => Ok(Topic::News),
            6 => Ok(Topic::Probes),
            7 => Ok(Topic::Signals),
            8 => Ok(Topic::Notices),
            _ => Err(Reject::UnknownKind),
        }
    }

    /// The class whose keys this topic uses.
    pub fn class(self) -> Class {
        match self {
            Topic::Directory | Topic::News | Topic::Probes | Topic::Signals | Topic::Notices => Class::Control,
            Topic::Channels | Topic::Casts | Topic::State => Class::Data,
        }
    }
}

/// Whether a participant can be sent channel data on this lane now.
pub(super) fn takes(table: &Table, greetings: &Map<NodeId, Greeting>, known: &Map<NodeId, Role>, node: &NodeId, lane: Lane) -> bool {
    greetings.get(node).is_some_and(|g| g.done()) && known.get(node) == Some(&Role::Participant) && table.has_room(node, lane)
}

impl Peer {
    /// Sends a domain-scoped frame to one node.
    pub(super) fn send_scoped(&mut self, domain: &DomainId, to: &NodeId, lane: Lane, kind: Kind, body: &[u8]) -> bool {
        let tagged = [&tag::pair_tag(domain, &self.me, to)[..], body].concat();
        self.send_frame(to, lane, kind, &tagged)
    }

    /// Seals one message and sends it to each of `to` that is linked and may hold the key. Keys go first.
    pub(super) fn send_sealed(&mut self, now: Now, id: DomainId, topic: Topic, to: &BTreeSet<NodeId>, lane: Lane, plaintext: &[u8]) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let to: Vec<NodeId> =
            to.iter().filter(|n| domain.is_linked(n) && domain.known.get(n).is_some_and(|role| topic.is_for(*role))).copied().collect();
        if to.is_empty() {
            return;
        }
        let Ok(frame) = domain.session.seal(now, topic.class(), topic as u16, plaintext) else { return };
        domain.sealed += 1;
        self.send_keys(now, id);
        let body = [&(topic as u16).to_be_bytes()[..], &frame].concat();
        for node in to {
            self.send_scoped(&id, &node, lane, Kind::Sealed, &body);
        }
    }

    /// For a simulated member that does harm: seals what it likes for somebody who is linked.
    #[cfg(feature = "sim")]
    pub(crate) fn send_raw(&mut self, now: Now, id: DomainId, topic: Topic, to: NodeId, plaintext: &[u8]) {
        self.send_sealed(now, id, topic, &only(to), Lane::Control, plaintext);
    }

    /// Sends the key messages that are due. Always before a frame they are for.
    pub(super) fn send_keys(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        for (node, message) in domain.session.take_key_messages(now) {
            self.send_scoped(&id, &node, Lane::Control, Kind::Keys, &cbor::encode(&Keys::Message(message.into())));
        }
    }

    /// Takes a sealed message apart: who sent it, for which part, and what it says.
    pub(super) fn open(&mut self, now: Now, id: DomainId, body: &[u8]) -> Result<(NodeId, Topic, Vec<u8>), Reject> {
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let mut reader = Reader::new(body);
        let topic = Topic::parse(reader.u16()?)?;
        let opened = domain.session.open(now, topic as u16, reader.rest())?;
        if opened.class != topic.class() {
            return Err(Reject::Forbidden);
        }
        domain.opened += 1;
        Ok((opened.sender, topic, opened.plaintext))
    }

    /// Seals and sends what the channels have ready, as far as links take it.
    pub(super) fn send_channels(&mut self, now: Now, id: DomainId) {
        loop {
            let Some(domain) = self.domains.get_mut(&id) else { return };
            if domain.role != Role::Participant || domain.views.holds(now) {
                return;
            }
            let (table, greetings, known) = (&self.table, &domain.greetings, &domain.known);
            let ready = |node: &NodeId, lane: Lane| takes(table, greetings, known, node, lane);
            let Some(transmit) = domain.channels.poll_transmit(now, &ready) else { return };
            let to = transmit.to.into_iter().collect();
            self.send_sealed(now, id, Topic::Channels, &to, transmit.lane, &transmit.payload);
        }
    }
}
