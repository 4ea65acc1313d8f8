//! Layer 3: the composite machine of one node. No I/O: values in, values out.

pub mod link;

pub use link::{Lane, LinkCommand, LinkEvent, Path, Side};
