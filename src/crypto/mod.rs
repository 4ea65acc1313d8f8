//! Layer 1: pure functions over keys and bytes. No state, no clock, no policy.
//!
//! Suite 1, fixed: Ed25519, X25519, HKDF- and HMAC-SHA256, ChaCha20-Poly1305, HPKE (0x0020, 0x0001, 0x0003) in mode base.
//! Every signature input and derivation starts with a distinct ASCII label `peerage/1/<thing>`, a zero byte and the domain id.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod chain;
pub mod class;
pub mod frame;
pub mod invite;
pub mod object;
pub mod rest;
pub mod seal;
pub mod sign;
pub mod tag;
pub use class::{Class, Role};
