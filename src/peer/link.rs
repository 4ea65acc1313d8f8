//! What the platform and the [`Peer`](super) say to each other about links, as values. A link is one libp2p connection
//! to one node: authenticated (the node id is proven by the transport's handshake), encrypted, with two ordered lanes of frames.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::base::{Code, LinkId, NodeId};
pub use crate::wire::frame::Lane;

/// How a link reaches its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Through a relay's circuit.
    Relayed,
    /// Without any node in between.
    Direct,
}

/// Who opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This node dialled.
    Dialler,
    /// The other node dialled.
    Listener,
}

/// What the platform is asked to do. Addresses are multiaddr text; the platform skips those it cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Connect to a node, trying the addresses given (all without or with a final `/p2p/<node>`). Ends in
    /// [`LinkEvent::Up`], [`LinkEvent::Foreign`] or [`LinkEvent::DialFailed`] for the same node. `…/p2p-circuit/webrtc` addresses give a direct link;
    /// so does a bare `/webrtc/p2p/<node>`, whose signalling goes through [`LinkEvent::Signal`].
    Dial {
        /// Whom.
        node: NodeId,
        /// Where, best first.
        addresses: Vec<String>,
    },
    /// Connect to a relay and, where this platform cannot be dialled otherwise, hold a circuit reservation on it.
    /// The address ends in `/p2p/<relay>`. Kept up (re-dialled with backoff) until [`LinkCommand::DropRelay`].
    UseRelay {
        /// The relay's address.
        address: String,
    },
    /// Stop keeping the relay at this address: it is not dialled again. A reservation there ends with the connection.
    DropRelay {
        /// As it was given to [`LinkCommand::UseRelay`].
        address: String,
    },
    /// The network may have changed: try the relays that are waited for now, and cut what does not answer.
    NetworkChanged,
    /// Another node's platform has this to say, as it gave it in [`LinkEvent::Signal`].
    Signal {
        /// Who says it, authenticated.
        node: NodeId,
        /// What.
        message: Vec<u8>,
    },
    /// Queue one frame on a lane. Silently dropped if the link is down: [`LinkEvent::Down`] says so anyway.
    Send {
        /// On which link.
        link: LinkId,
        /// On which stream.
        lane: Lane,
        /// The frame, at most [`limit::FRAME`](crate::base::limit::FRAME) bytes, without a length prefix.
        frame: Vec<u8>,
    },
    /// Close a link after what is queued on its control lane has been written.
    Close {
        /// Which.
        link: LinkId,
    },
}

/// What the platform reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is up: both lanes are open in both directions.
    Up {
        /// Its number.
        link: LinkId,
        /// The node at the other end, authenticated.
        node: NodeId,
        /// How it goes.
        path: Path,
        /// Who dialled.
        side: Side,
        /// The remote address, for people.
        address: String,
        /// Whether frames can be sent on [`Lane::Datagram`].
        datagrams: bool,
    },
    /// A link is gone; frames not yet delivered are lost.
    Down {
        /// Which.
        link: LinkId,
    },
    /// A frame arrived. The platform stops reading a link while the driver is behind, so this queue is short.
    Frame {
        /// On which link.
        link: LinkId,
        /// On which stream.
        lane: Lane,
        /// The frame, at most [`limit::FRAME`](crate::base::limit::FRAME) bytes.
        frame: Vec<u8>,
    },
    /// Bytes of queued frames were written to a lane's transport (which applies its own backpressure).
    Drained {
        /// On which link.
        link: LinkId,
        /// On which stream.
        lane: Lane,
        /// Sum of the lengths of the frames written.
        bytes: usize,
    },
    /// No address given to [`LinkCommand::Dial`] led to the node.
    DialFailed {
        /// The node.
        node: NodeId,
        /// [`Code::IceFailed`] where a circuit worked and ICE did not, else [`Code::Unreachable`].
        code: Code,
        /// For people and logs.
        reason: String,
    },
    /// A node given to [`LinkCommand::Dial`] was reached and answered a ping, but does not speak the Peerage protocol: there
    /// is no link.
    Foreign {
        /// The node, authenticated.
        node: NodeId,
        /// How the connection goes.
        path: Path,
        /// The remote address, for people.
        address: String,
        /// The measured round trip.
        rtt: Duration,
    },
    /// The full set of addresses at which others can dial this node now, circuit and `/webrtc` addresses included,
    /// each ending in `/p2p/<this node>`.
    Addresses(Vec<String>),
    /// A relay given to [`LinkCommand::UseRelay`] became usable (connected, and reserved where that is needed) or stopped being so.
    Relay {
        /// As it was given.
        address: String,
        /// Usable now?
        up: bool,
    },
    /// To be carried to another node's platform, which the dial of its `/webrtc` address waits for. Nothing tells if it is not.
    Signal {
        /// To whom.
        node: NodeId,
        /// What.
        message: Vec<u8>,
    },
    /// A measured round trip (libp2p ping).
    Rtt {
        /// On which link.
        link: LinkId,
        /// The time.
        rtt: Duration,
    },
}
