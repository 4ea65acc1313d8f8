//! Layer 1: how values become bytes. No policy.

pub mod bytes;
pub mod frame;
