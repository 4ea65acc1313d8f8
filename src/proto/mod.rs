//! Layer 2: machines without I/O, one per part. They never import one another; `peer` joins them.

pub mod channel;
pub mod directory;
pub mod overlay;
