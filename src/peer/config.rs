//! What kind of node a [`Peer`](super::Peer) is.

use alloc::boxed::Box;
use core::time::Duration;

use crate::proto::overlay::{Registry, Relay};

/// Configuration of the composite machine. Build one from a preset.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether this platform can dial and be dialled over the `/webrtc` private-to-private transport.
    pub webrtc: bool,
    /// What makes this node a relay, which keeps others' place records and hands requests on; none: it is none. Only who makes a relay
    /// names the machine for it, so that a browser, which never is one, does not download it.
    pub relay: Option<fn() -> Box<dyn Relay>>,
    /// How long the credential of a member holds that came through an invitation, until it is renewed; at most 24 hours.
    pub credential: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Config {
    /// A participant in a browser tab.
    #[must_use]
    pub fn browser() -> Config {
        Config { webrtc: true, relay: None, credential: DAY }
    }

    /// A native participant or manager.
    #[must_use]
    pub fn native() -> Config {
        Config { webrtc: false, relay: None, credential: DAY }
    }

    /// A relay.
    #[must_use]
    pub fn relay() -> Config {
        Config { webrtc: false, relay: Some(|| Box::new(Registry::new())), credential: DAY }
    }
}
