//! Layer 2: machines without I/O, one per part. They never import one another; `peer` joins them.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod broadcast;
pub mod channel;
pub mod detector;
pub mod directory;
pub mod membership;
pub mod objects;
pub mod overlay;
pub mod session;
pub mod state;
pub mod task;
