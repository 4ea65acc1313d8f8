//! Channels: messages between the participants of one domain. `reliable` channels deliver every message once, in order,
//! whatever happens to the links; `latest` channels deliver the newest value of each key and forget the others; `datagram` channels
//! deliver what the network carries at once, and nothing late.
//! The machine sees plaintext only: what [`Channels::poll_transmit`] gives is sealed by the caller, what
//! [`Channels::handle`] takes was opened by the caller and is known to come from a participant. `docs/protocol.md` section 9.

mod cast;
mod datagram;
mod latest;
mod machine;
mod msg;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::base::{NodeId, Wall, limit};
use crate::wire::frame::Lane;

pub use machine::Channels;

/// The longest payload that [`Channels::poll_transmit`] gives.
pub const MAX_PAYLOAD: usize = limit::CHUNK + msg::HEADER;

/// What a channel promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every message, once, in the order sent, per sender.
    Reliable,
    /// The newest value of each key, never an older one after a newer one.
    Latest,
    /// Each message at most once: what is lost, late or overtaken by a later one of the same sender does not come.
    Datagram,
}

/// A channel opened here. Means nothing to other nodes, which know a channel by its name and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// One call of [`Channels::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// A message or value for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it, authenticated.
    pub from: NodeId,
    /// When, by the sender's clock.
    pub sent_at: Wall,
    /// The key it was sent under.
    pub key: Option<String>,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// A payload to seal and send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom; several for a `latest` value, which is sealed once for all of them. Never empty, no node twice.
    pub to: Vec<NodeId>,
    /// On which lane.
    pub lane: Lane,
    /// The plaintext, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// What happened, for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A send ended.
    SendDone {
        /// Which.
        id: SendId,
        /// Recipients that were gone before their windows had taken all of it.
        missed: Vec<NodeId>,
        /// Whether any recipient's window took all of it.
        taken: bool,
    },
    /// A channel has something to receive, after a moment when it had not.
    Readable {
        /// Which.
        channel: ChannelId,
    },
}

/// Times of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long an acknowledgement may wait for company. Default 25 ms: below what a person notices, and at most 40
    /// signatures a second for a trickle of messages.
    pub ack_delay: Duration,
    /// The shortest silence after which a sender asks what arrived. Default 500 ms: several round trips over a relay.
    pub retry_min: Duration,
    /// The longest. The time doubles with every question that finds no answer. Default 10 s.
    pub retry_max: Duration,
    /// How long what is under way to and from somebody who is held for down is kept. Default 15 minutes: a network that was parted
    /// for ten comes together within.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ack_delay: Duration::from_millis(25),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(10),
            keep: Duration::from_secs(15 * 60),
        }
    }
}

/// What the machine holds, for statistics and for tests of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of messages sent and not yet acknowledged by every recipient, and of `latest` values somebody waits for.
    pub sending: usize,
    /// Bytes received and not yet taken by the application, parts of messages included.
    pub received: usize,
    /// Streams, outgoing and incoming.
    pub streams: usize,
}
