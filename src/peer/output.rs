//! What the [`Peer`](super::Peer) asks for and tells.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::link::{LinkCommand, Path};
use crate::base::{Code, DomainId, Error, NodeId};
use crate::proto::{channel, directory::Capability};

/// An effect. Taken one by one with [`Peer::poll_output`](super::Peer::poll_output) until there is none.
#[derive(Debug)]
pub enum Output {
    /// For the platform.
    Link(LinkCommand),
    /// For the application.
    Event(Event),
    /// A join that was begun has ended.
    Joined {
        /// The domain that the link named.
        domain: DomainId,
        /// How.
        result: Result<(), Error>,
    },
    /// A [`send`](super::Peer::send) ended: every recipient's window has taken all of it, or the recipient is gone.
    Sent {
        /// In which domain.
        domain: DomainId,
        /// Which one.
        id: channel::SendId,
        /// Who was gone before that.
        missed: Vec<NodeId>,
        /// Whether anybody took it.
        taken: bool,
    },
    /// Something can be received on a channel.
    Readable {
        /// In which domain.
        domain: DomainId,
        /// On which channel.
        channel: channel::ChannelId,
    },
}

/// How a participant changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new, or back.
    Joined,
    /// Its record changed.
    Updated,
    /// It is not heard of any more.
    Down,
    /// It said goodbye, or is no member any more.
    Left,
}

/// What an application is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody in a domain's directory changed.
    Participant {
        /// The domain.
        domain: DomainId,
        /// Who.
        node: NodeId,
        /// How.
        change: Change,
    },
    /// The way to a node changed.
    Link {
        /// The node.
        node: NodeId,
        /// The path in use, `None` if there is no link left.
        path: Option<Path>,
    },
    /// The last live supplier of a capability that the domain calls essential is gone.
    Degraded {
        /// The domain.
        domain: DomainId,
        /// What is missing.
        capability: String,
    },
    /// It is back.
    Restored {
        /// The domain.
        domain: DomainId,
        /// What was missing.
        capability: String,
    },
    /// A key of the shared state was written or deleted, here or elsewhere.
    State {
        /// The domain.
        domain: DomainId,
        /// Which.
        key: String,
    },
    /// The addresses at which this node can be dialled changed.
    Addresses,
    /// A relay became usable or stopped being so.
    Relay {
        /// Its address, as given.
        address: String,
        /// Usable now?
        up: bool,
    },
    /// A remote refused something of ours (`by_us` false), or we something of it.
    Refused {
        /// The remote.
        node: NodeId,
        /// Why.
        code: Code,
        /// Who refused.
        by_us: bool,
    },
    /// A direct path to a node could not be built; the relayed one stays.
    DirectFailed {
        /// The node.
        node: NodeId,
        /// [`Code::IceFailed`] or [`Code::Unreachable`].
        code: Code,
    },
    /// What changed could not be stored; it is tried again. Told once, until a try succeeds.
    Unsaved {
        /// Why, for people.
        reason: String,
    },
    /// Somebody bears an invitation that an issuer has to approve, and this node may.
    Approval {
        /// The domain.
        domain: DomainId,
        /// Who.
        node: NodeId,
        /// The name it gives itself.
        name: String,
    },
    /// A join of this node waits for an issuer's approval.
    Waiting {
        /// The domain.
        domain: DomainId,
    },
    /// A member does what an honest one does not, or only by mishap.
    Flagged {
        /// The domain.
        domain: DomainId,
        /// Who.
        node: NodeId,
        /// What.
        why: Flag,
    },
    /// This node is no longer in the domain.
    Closed {
        /// The domain.
        domain: DomainId,
    },
}

/// What a member is flagged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// It says that it knows of other revocations, and neither shows nor takes them.
    View,
    /// It came through an invitation after as many others as that allows; it is let in once an issuer approves it.
    Surplus,
}

impl Flag {
    /// As text: `view` or `surplus`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Flag::View => "view",
            Flag::Surplus => "surplus",
        }
    }
}

/// Who this participant says it is, in a domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// What it offers at the start.
    pub capabilities: Vec<Capability>,
}

/// Who a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other participant that is online.
    All,
    /// These.
    Some(Vec<NodeId>),
}

/// One link, for showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The node at the other end.
    pub node: NodeId,
    /// The path in use; `None` while connecting.
    pub path: Option<Path>,
    /// The last measured round trip.
    pub rtt: Option<Duration>,
    /// Bytes of frames sent on all links to this node that are up.
    pub sent: u64,
    /// Bytes of frames received likewise.
    pub received: u64,
    /// The remote address in use.
    pub address: String,
    /// Whether what is sent on `datagram` channels goes as datagrams; else it takes the control lane's stream.
    pub datagrams: bool,
}

/// What was counted in one domain since this process joined it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames sealed, both classes.
    pub sealed: u64,
    /// Frames opened, both classes.
    pub opened: u64,
    /// Messages refused, by reason.
    pub rejected: crate::base::Map<crate::base::Reject, u64>,
    /// Valid members, online or not, this node included.
    pub members: u64,
    /// Members with an authenticated link to this node.
    pub linked: u64,
    /// Of these links, those that take datagrams; on the others what is sent on `datagram` channels takes a stream.
    pub datagrams: u64,
    /// Membership statements held.
    pub statements: u64,
    /// Pairs of sender keys this node made, the present one included.
    pub epochs: u64,
}
