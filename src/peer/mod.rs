//! Layer 3: the composite machine of one node. No I/O: values in, values out.
//!
//! [`Peer`] owns the parts of [`proto`](crate::proto), one set per domain, and joins them: `input` takes what the platform
//! reports, `command` what the application asks for, `route` carries effects between parts and reads like a table, `seal`
//! is the only place where traffic meets keys, `join` is the way in, `dialling` decides whom to connect to.
//!
//! ```text
//! peer.handle(now, event);                      // or a command, or on_timeout
//! while let Some(output) = peer.poll_output() { … }
//! sleep until peer.next_timeout()
//! ```

mod command;
mod config;
mod dialling;
mod domain;
mod find;
mod hello;
mod input;
#[cfg(feature = "sim")]
mod inspect;
mod join;
mod keep;
#[cfg(test)]
mod labels_tests;
pub mod link;
mod liveness;
mod members;
mod notice;
mod output;
mod relays;
mod route;
pub mod saved;
mod seal;
mod shared;
mod signal;
mod spread;
pub mod storage;
mod table;
mod views;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use crate::base::{DomainId, Map, Mono, NodeId, Now, Rng};
use crate::crypto::sign::SigningKey;
use crate::proto::overlay;
use crate::wire::frame::{self, Kind};

pub use command::{InviteOptions, found_domain, make_invitation};
pub use config::Config;
pub use link::{Lane, LinkCommand, LinkEvent, Path, Side};
pub use members::{Manager, invitation_of};
pub use output::{Change, Event, Flag, LinkInfo, Output, Profile, Stats, To};
pub use saved::{Part, SavedDomain};
#[cfg(feature = "sim")]
pub(crate) use {notice::Notice, seal::Topic};

use dialling::Dial;
use domain::Domain;
use join::Join;
use relays::Relay;
use table::Table;

/// A [`Peer::dial`] under way.
#[derive(Default)]
struct Probe {
    /// The address leads to a direct connection by way of a circuit: the circuit is not what was asked for.
    direct: bool,
    end: Option<Result<LinkInfo, crate::base::Error>>,
}

/// One node: a participant, a manager or a relay.
pub struct Peer {
    me: NodeId,
    identity: SigningKey,
    config: Config,
    rng: Rng,
    table: Table,
    addresses: Vec<String>,
    relays: Map<String, Relay>,
    /// Relays that are not used yet.
    spare_relays: Vec<(String, NodeId)>,
    registry: Option<Box<dyn overlay::Relay>>,
    domains: Map<DomainId, Domain>,
    joins: Map<DomainId, Join>,
    dials: Map<NodeId, Dial>,
    probes: Map<NodeId, Probe>,
    outputs: VecDeque<Output>,
    /// This node says that it sleeps.
    suspended: bool,
    /// When the platform last called.
    last_input: Option<Now>,
    /// What of which domain is to be stored anew.
    unsaved: BTreeSet<(DomainId, Part)>,
    /// The statements' records of domains that this node was evicted from.
    last_words: Map<DomainId, zeroize::Zeroizing<Vec<u8>>>,
    tick: Option<Mono>,
}

impl Peer {
    /// A node with its identity. `seed` is 32 bytes of entropy; the same seed and the same inputs give the same outputs.
    #[must_use]
    pub fn new(config: Config, identity: SigningKey, seed: [u8; 32]) -> Peer {
        let me = identity.node_id();
        let rng = Rng::from_seed(seed);
        let registry = config.relay.map(|make| make());
        Peer {
            me,
            identity,
            config,
            rng,
            table: Table::new(me),
            addresses: Vec::new(),
            relays: Map::new(),
            spare_relays: Vec::new(),
            registry,
            domains: Map::new(),
            joins: Map::new(),
            dials: Map::new(),
            probes: Map::new(),
            outputs: VecDeque::new(),
            suspended: false,
            last_input: None,
            unsaved: BTreeSet::new(),
            last_words: Map::new(),
            tick: None,
        }
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// The next effect. Call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether no link is being closed: what was queued on its control lane was read by the other side, or had its time.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.outputs.is_empty() && !self.table.is_closing()
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn command_link(&mut self, command: LinkCommand) {
        self.outputs.push_back(Output::Link(command));
    }

    /// Queues a frame on the best link to a node; false if there is none.
    fn send_frame(&mut self, to: &NodeId, lane: Lane, kind: Kind, body: &[u8]) -> bool {
        let Some((link, lane)) = self.table.best(to).map(|(id, link)| (id, link.lane(lane))) else { return false };
        let frame = frame::encode(kind, body);
        self.table.queued(link, lane, frame.len());
        self.command_link(LinkCommand::Send { link, lane, frame });
        true
    }
}

impl core::fmt::Debug for Peer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Peer").field("me", &self.me).field("domains", &self.domains.len()).finish_non_exhaustive()
    }
}
