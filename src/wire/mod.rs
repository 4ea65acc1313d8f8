//! Layer 1: how values become bytes. No policy.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod bytes;
pub mod cbor;
pub mod frame;
pub mod link;
