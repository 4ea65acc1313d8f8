//! The links of one node: which there are to whom, what was counted on them, and which of several to one node is used.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::link::{Lane, Path, Side};
use crate::base::{LinkId, Map, Mono, NodeId, limit};

/// How long a better link must have been up before a worse one to the same node is closed: what was queued on the old
/// one arrives meanwhile.
const GRACE: Duration = Duration::from_secs(3);

/// One link, as counted here.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub node: NodeId,
    pub path: Path,
    pub side: Side,
    pub address: String,
    pub up_since: Mono,
    pub rtt: Option<Duration>,
    pub sent: u64,
    pub received: u64,
    /// Whether it takes datagrams.
    pub datagrams: bool,
    queued: [usize; 3],
    closing: bool,
    /// When its node was last told of a refusal.
    refused: Option<Mono>,
    /// Since when nothing needs it.
    spare: Option<Mono>,
}

/// All links.
#[derive(Debug)]
pub(super) struct Table {
    me: NodeId,
    links: Map<LinkId, Link>,
}

impl Table {
    pub fn new(me: NodeId) -> Table {
        Table { me, links: Map::new() }
    }

    pub fn up(&mut self, now: Mono, id: LinkId, node: NodeId, path: Path, side: Side, address: String) {
        let link = Link {
            node,
            path,
            side,
            address,
            up_since: now,
            rtt: None,
            sent: 0,
            received: 0,
            datagrams: false,
            queued: [0; 3],
            closing: false,
            refused: None,
            spare: None,
        };
        self.links.insert(id, link);
    }

    pub fn down(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id)
    }

    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&LinkId, &Link)> {
        self.links.iter()
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// The link in use to a node: direct before relayed, then the one dialled by the smaller node id, then the newer.
    /// Both ends come to the same answer.
    pub fn best(&self, node: &NodeId) -> Option<(LinkId, &Link)> {
        self.links
            .iter()
            .filter(|(_, l)| l.node == *node && !l.closing)
            .max_by_key(|(id, l)| (l.path, core::cmp::Reverse(self.dialler(l)), **id))
            .map(|(id, l)| (*id, l))
    }

    /// Whether there is a link to a node, and its lane takes more at present.
    pub fn has_room(&self, node: &NodeId, lane: Lane) -> bool {
        self.best(node).is_some_and(|(_, link)| match link.lane(lane) {
            _ if lane != Lane::Datagram => link.backlog(lane) < limit::LINK_BACKLOG,
            // Behind so much on a stream it would come late.
            carried => link.backlog(carried) < limit::DATAGRAM_BACKLOG,
        })
    }

    /// Marks links that a better one has replaced for [`GRACE`] and that this node dialled, and returns them to be closed.
    pub fn retire(&mut self, now: Mono) -> Vec<LinkId> {
        let redundant: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(id, l)| {
                l.side == Side::Dialler && !l.closing && {
                    let best = self.best(&l.node);
                    best.is_some_and(|(b, best)| b != **id && now.since(best.up_since) >= GRACE)
                }
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &redundant {
            self.closing(*id);
        }
        redundant
    }

    /// Marks the links to the same node that came up before this one, and returns them to be closed.
    pub fn older(&mut self, id: LinkId) -> Vec<LinkId> {
        let Some(Link { node, up_since, .. }) = self.links.get(&id).cloned() else { return Vec::new() };
        let older = self.links.iter_mut().filter(|(i, l)| **i != id && l.node == node && l.up_since <= up_since && !l.closing);
        older.map(|(i, l)| (l.closing = true, *i).1).collect()
    }

    /// Notes which links are needed and which, those to `nodes`, are not; returns those that have not been for `time`.
    pub fn spare(&mut self, now: Mono, time: Duration, nodes: &[NodeId]) -> Vec<LinkId> {
        let mut over = Vec::new();
        for (id, link) in self.links.iter_mut().filter(|(_, l)| !l.closing) {
            if !nodes.contains(&link.node) || link.side == Side::Listener {
                link.spare = None;
            } else if now.since(*link.spare.get_or_insert(now)) >= time {
                over.push(*id);
            }
        }
        over
    }

    /// Whether this is the one link to its node.
    pub fn is_only(&self, id: LinkId) -> bool {
        let Some(node) = self.links.get(&id).map(|l| l.node) else { return false };
        !self.links.iter().any(|(other, l)| *other != id && l.node == node && !l.closing)
    }

    /// Nothing more is sent on this link.
    pub fn closing(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.closing = true;
        }
    }

    /// Whether some link that is being closed is not down yet.
    pub fn is_closing(&self) -> bool {
        self.links.values().any(|link| link.closing)
    }

    pub fn queued(&mut self, id: LinkId, lane: Lane, bytes: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.queued[lane as usize] += bytes;
            link.sent += bytes as u64;
        }
    }

    pub fn drained(&mut self, id: LinkId, lane: Lane, bytes: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.queued[lane as usize] = link.queued[lane as usize].saturating_sub(bytes);
        }
    }

    /// Where to note that a node is told of a refusal, unless it was told less than `pause` ago.
    pub fn refusable(&mut self, node: &NodeId, now: Mono, pause: Duration) -> Option<&mut Option<Mono>> {
        let (id, _) = self.best(node)?;
        let refused = &mut self.links.get_mut(&id)?.refused;
        refused.is_none_or(|at| now.since(at) >= pause).then_some(refused)
    }

    fn dialler(&self, link: &Link) -> NodeId {
        match link.side {
            Side::Dialler => self.me,
            Side::Listener => link.node,
        }
    }
}

impl Link {
    pub fn backlog(&self, lane: Lane) -> usize {
        self.queued[lane as usize]
    }

    /// The lane on which it carries what is for this one.
    pub fn lane(&self, lane: Lane) -> Lane {
        if lane == Lane::Datagram && !self.datagrams { Lane::Control } else { lane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(b: u8) -> NodeId {
        NodeId::from_public_key([b; 32])
    }

    #[test]
    fn direct_replaces_relayed_and_only_the_dialler_closes() {
        let mut t = Table::new(node(5));
        t.up(Mono(0), LinkId(1), node(9), Path::Relayed, Side::Dialler, String::new());
        assert_eq!(t.best(&node(9)).unwrap().0, LinkId(1));
        t.up(Mono(10), LinkId(2), node(9), Path::Direct, Side::Listener, String::new());
        assert_eq!(t.best(&node(9)).unwrap().0, LinkId(2));
        assert!(t.retire(Mono(20)).is_empty(), "the old link drains first");
        assert_eq!(t.retire(Mono(10 + 3_000)), [LinkId(1)]);
        assert!(t.retire(Mono(99_000)).is_empty(), "asked once only; the direct one was dialled by the other side");
    }

    #[test]
    fn both_ends_keep_the_same_one_of_two_direct_links() {
        // Link 1 was dialled by node 5, link 2 by node 9.
        let (mut five, mut nine) = (Table::new(node(5)), Table::new(node(9)));
        five.up(Mono(0), LinkId(1), node(9), Path::Direct, Side::Dialler, String::new());
        five.up(Mono(0), LinkId(2), node(9), Path::Direct, Side::Listener, String::new());
        nine.up(Mono(0), LinkId(7), node(5), Path::Direct, Side::Dialler, String::new());
        nine.up(Mono(0), LinkId(8), node(5), Path::Direct, Side::Listener, String::new());
        assert_eq!(five.best(&node(9)).unwrap().0, LinkId(1));
        assert_eq!(nine.best(&node(5)).unwrap().0, LinkId(8));
        assert!(five.retire(Mono(9_000)).is_empty());
        assert_eq!(nine.retire(Mono(9_000)), [LinkId(7)]);
    }
}
