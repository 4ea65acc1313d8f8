//! With whom to be linked, and who answers for a key. Pure: everybody who knows of the same participants computes the same.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::base::{DomainId, Gather, NodeId, limit};

/// Neighbours on the ring, to each side: any of them may fail and the ring holds.
const RING: usize = 2;
/// Shortcuts each node picks. The weights are the same seen from both ends, so that two nodes often pick each other; what
/// the others pick besides makes about half as many again.
const SHORTCUTS: usize = 5;

/// The participants known to be there, in the order in which the mesh looks at them.
#[derive(Clone, Debug)]
pub struct Mesh {
    domain: DomainId,
    me: NodeId,
    here: u128,
    ring: BTreeSet<(u128, NodeId)>,
    weights: BTreeSet<(u128, NodeId)>,
}

impl Mesh {
    /// A mesh in which nobody is yet but this node.
    #[must_use]
    pub fn new(domain: DomainId, me: NodeId) -> Mesh {
        Mesh { domain, me, here: place(&domain, &me), ring: BTreeSet::new(), weights: BTreeSet::new() }
    }

    /// Somebody else is there.
    pub fn insert(&mut self, node: NodeId) {
        if node != self.me {
            self.ring.insert((place(&self.domain, &node), node));
            self.weights.insert((self.weight(&node), node));
        }
    }

    /// Somebody is there no more.
    pub fn remove(&mut self, node: &NodeId) {
        self.ring.remove(&(place(&self.domain, node), *node));
        self.weights.remove(&(self.weight(node), *node));
    }

    /// How many others there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is nobody else.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether there are few enough others for a link to each.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ring.len() <= limit::DEGREE
    }

    /// With whom this node seeks links. Others seek links with this node besides.
    #[must_use]
    pub fn neighbours(&self) -> BTreeSet<NodeId> {
        if self.is_full() {
            return self.ring.iter().map(|(_, n)| *n).gather();
        }
        let here = (self.here, self.me);
        let after = self.ring.range(here..).chain(self.ring.range(..here)).take(RING);
        let before = self.ring.range(..here).rev().chain(self.ring.range(here..).rev()).take(RING);
        after.chain(before).chain(self.weights.iter().take(SHORTCUTS)).map(|(_, n)| *n).gather()
    }

    fn weight(&self, other: &NodeId) -> u128 {
        let (low, high) = if self.me < *other { (&self.me, other) } else { (other, &self.me) };
        hash("peerage/1/mesh/shortcut", &[self.domain.as_bytes(), low.as_bytes(), high.as_bytes()])
    }
}

fn place(domain: &DomainId, node: &NodeId) -> u128 {
    hash("peerage/1/mesh/place", &[domain.as_bytes(), node.as_bytes()])
}

fn hash(context: &str, parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().as_bytes().first_chunk::<16>().map_or(0, |b| u128::from_be_bytes(*b))
}

/// The `k` of these nodes that answer for a key, best first: rendezvous hashing (Thaler, Ravishankar: "Using Name-Based Mappings
/// to Increase Hit Rates", 1998). A node that comes or goes moves only the keys it wins or held.
#[must_use]
pub fn responsible(key: &[u8], k: usize, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut ranked: Vec<(u128, NodeId)> = nodes.into_iter().map(|n| (hash("peerage/1/responsible", &[n.as_bytes(), key]), n)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.truncate(k);
    ranked.into_iter().map(|(_, n)| n).collect()
}
