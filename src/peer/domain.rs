//! One domain this node is in: its parts, and who of its members is linked.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use zeroize::Zeroizing;

use super::{find::Finder, members::Affairs, output::Profile, route::GIVE_UP, signal::Signals, spread::Spread, views::Views};
use crate::base::{DomainId, Gather, Map, Mono, NodeId, Now, Reject, Wall};
use crate::crypto::{Role, sign::SigningKey};
use crate::proto::{
    channel::Channels,
    detector::Detector,
    directory::{Directory, Status},
    membership::Membership,
    overlay::Locator,
    session::Session,
    state::State,
};

/// A member of the domain that has an authenticated link to this node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Greeting {
    /// Its Hello was received and holds.
    pub heard: bool,
    /// The highest epoch a Hello of its had.
    pub epoch: u64,
    /// This node's Hello was sent.
    pub told: bool,
    /// When this node's Hello was last sent.
    pub told_at: Mono,
    /// How often it was sent on this link without an answer.
    pub tries: u32,
    /// When its keys were last asked for.
    pub asked: Option<Mono>,
}

impl Greeting {
    pub fn done(self) -> bool {
        self.heard && self.told
    }
}

pub(super) struct Domain {
    pub id: DomainId,
    pub membership: Membership,
    pub session: Session,
    pub directory: Directory,
    pub detector: Detector,
    pub state: State,
    pub channels: Channels,
    pub spread: Spread,
    /// `None` until the domain secret is known.
    pub locator: Option<Locator>,
    pub secret: Option<Zeroizing<[u8; 32]>>,
    pub root: Option<SigningKey>,
    /// The secret of the invitation this node came with.
    pub invitation: Option<Zeroizing<[u8; 32]>>,
    pub affairs: Affairs,
    pub finder: Finder,
    pub views: Views,
    pub signals: Signals,
    pub role: Role,
    pub profile: Profile,
    pub greetings: Map<NodeId, Greeting>,
    /// Whom to dial before the directory says so: of the join answer, of the last process, of a search.
    pub contacts: Map<NodeId, Vec<String>>,
    /// Participants taken for down, and when what was sent to them is given up.
    pub lost: Map<NodeId, Mono>,
    /// The members as of the last look, for telling what changed.
    pub known: Map<NodeId, Role>,
    /// Nobody let this node in yet: its [`Join`](super::join::Join) goes on.
    pub joining: bool,
    /// When validity of some statement changes by the clock alone.
    pub next_change: Option<Wall>,
    pub sealed: u64,
    pub opened: u64,
    pub rejected: Map<Reject, u64>,
}

impl Domain {
    /// Members with a greeted link, in order.
    pub fn linked(&self) -> BTreeSet<NodeId> {
        self.greetings.iter().filter(|(_, g)| g.done()).map(|(n, _)| *n).gather()
    }

    pub fn is_linked(&self, node: &NodeId) -> bool {
        self.greetings.get(node).is_some_and(|g| g.done())
    }

    /// Whether this node is a member, or somebody a member named.
    /// What is for members that are not there waits only for so long.
    pub fn doubt(&mut self, now: Now, nodes: &[NodeId]) {
        for node in nodes {
            let role = self.known.get(node).copied();
            if self.directory.get(now, node, &|_| role).is_none_or(|p| matches!(p.presence, Status::Down | Status::Left)) {
                self.lost.entry(*node).or_insert(now.mono.after(GIVE_UP));
            }
        }
    }

    pub fn may_know(&self, node: &NodeId) -> bool {
        self.known.contains_key(node) || self.contacts.contains_key(node)
    }

    pub fn reject(&mut self, reject: Reject) {
        *self.rejected.entry(reject).or_default() += 1;
    }
}
