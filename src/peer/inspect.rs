//! For the simulator: what a node holds, so that copies can be compared and weighed, and what it opens of what is not meant for it.

use alloc::{string::String, vec::Vec};

use super::{
    Peer,
    link::{Lane, LinkEvent},
};
use crate::base::{DomainId, NodeId, Now, limit};
use crate::crypto::tag;
use crate::proto::{detector, state};

/// Something a node holds: what, how much, and how much it may.
pub(crate) type Weight = (&'static str, usize, usize);

impl Peer {
    /// The records of the directory, signed as they came.
    pub(crate) fn records(&self, id: DomainId) -> Vec<Vec<u8>> {
        self.domains.get(&id).map(|d| d.directory.records().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    /// Equal where the same statements of the membership are held, and so the same ones revoked.
    pub(crate) fn statements_digest(&self, id: DomainId) -> Option<[u8; 32]> {
        self.domains.get(&id).map(|d| d.membership.digest())
    }

    /// All that others can make this node hold in a domain, with its bounds.
    pub(crate) fn weights(&self, id: DomainId) -> Vec<Weight> {
        let Some(d) = self.domains.get(&id) else { return Vec::new() };
        let (members, channels, found) = (d.known.len(), d.channels.usage(), d.detector.usage());
        let (keys, bytes) = d.state.usage();
        // Streams, and values and casts that nobody reads, are bounded for each sender.
        let unread = members * (limit::LATEST_KEYS * limit::LATEST_VALUE + 3 * limit::CAST_MESSAGE);
        let mut weights = Vec::from([
            ("links", d.linked().len(), limit::LINKS),
            ("members", members, limit::RECORDS),
            ("records", d.directory.len(), limit::RECORDS),
            ("statements", d.membership.len(), limit::STATEMENTS),
            ("bytes to send", channels.sending, limit::SEND_QUEUE + limit::LATEST_KEPT + limit::CAST_QUEUE),
            ("bytes to read", channels.received, limit::RECEIVE_QUEUE + unread),
            ("streams", channels.streams, limit::RECEIVE_STREAMS + members * limit::CHANNELS),
            ("keys of the shared state", keys, state::KEYS),
            ("bytes of the shared state", bytes, state::BYTES),
            ("members watched", found.members, limit::RECORDS),
            ("words against one", found.words, detector::ACCUSERS + 1),
            ("probes", found.probes, detector::PROBES),
        ]);
        for tree in d.spread.usage() {
            weights.extend([
                ("bytes of casts", tree.bytes, limit::CASTS),
                ("casts", tree.ids, limit::CASTS_KNOWN),
                ("casts missing", tree.missing, limit::CASTS_MISSING),
            ]);
        }
        weights
    }

    /// What this node's detector makes of a member.
    pub(crate) fn suspicion(&self, id: DomainId, node: &NodeId) -> String {
        self.domains.get(&id).map(|d| d.detector.describe(node)).unwrap_or_default()
    }

    /// How many sealed messages it opened, in all domains.
    pub(crate) fn opened(&self) -> u64 {
        self.domains.values().map(|d| d.opened).sum()
    }

    /// Takes a frame that `from` sent to somebody else as if it were for this node: over the link to it, or else over any. False if there is
    /// no link.
    pub(crate) fn overhear(&mut self, now: Now, id: DomainId, from: &NodeId, frame: &[u8]) -> bool {
        let linked = self.domains.get(&id).map(|d| d.linked()).unwrap_or_default();
        let Some(node) = linked.get(from).or(linked.first()) else { return false };
        let Some((link, _)) = self.table.best(node) else { return false };
        let mut frame = frame.to_vec();
        if let Some(pair) = frame.get_mut(2..10) {
            pair.copy_from_slice(&tag::pair_tag(&id, node, &self.me));
        }
        self.handle(now, LinkEvent::Frame { link, lane: Lane::Control, frame });
        true
    }
}
