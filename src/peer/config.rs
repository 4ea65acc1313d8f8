//! What kind of node a [`Peer`](super::Peer) is.

use core::time::Duration;

/// Configuration of the composite machine. Build one from a preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether this platform can dial and be dialled over the `/webrtc` private-to-private transport.
    pub webrtc: bool,
    /// Whether this node is a relay that keeps others' place records and hands requests on (the overlay's registry).
    pub registry: bool,
    /// How long the credential of a member holds that came through an invitation, until it is renewed; at most 24 hours.
    pub credential: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Config {
    /// A participant in a browser tab.
    #[must_use]
    pub fn browser() -> Config {
        Config { webrtc: true, registry: false, credential: DAY }
    }

    /// A native participant or manager.
    #[must_use]
    pub fn native() -> Config {
        Config { webrtc: false, registry: false, credential: DAY }
    }

    /// A relay.
    #[must_use]
    pub fn relay() -> Config {
        Config { webrtc: false, registry: true, credential: DAY }
    }
}
