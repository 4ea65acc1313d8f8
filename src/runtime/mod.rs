//! Layer 4: the event loop that joins a [`Peer`](crate::peer) and a platform, and the handle applications hold.

pub mod data;
pub mod disk;
pub mod driver;
pub mod handle;
pub mod keeper;
pub mod objects;
pub mod port;
pub mod store;
pub mod streams;
pub mod task;

use std::sync::Arc;

use crate::base::Now;
use crate::peer::Peer;

/// Puts a node together: the handle, and the driver to be run.
pub fn start<P: port::Platform + Unpin>(peer: Peer, platform: P, clock: fn() -> Now) -> (handle::Node, driver::Driver<P>) {
    let shared = handle::Shared::new(peer, clock);
    (handle::Node::new(Arc::clone(&shared)), driver::Driver::new(shared, platform))
}
