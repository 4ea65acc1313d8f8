//! Peerage: private peer-to-peer clusters for people, devices and robots that share a place.
//!
//! The modules in layer order; each imports only from those above it in this list. `docs/architecture.md` tells the story.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | [`base`] | identifiers, time, randomness, errors, limits |

#![forbid(unsafe_code)]

extern crate alloc;

pub mod base;
pub mod crypto;
#[cfg(all(feature = "native", not(target_arch = "wasm32")))]
pub mod node;
#[deny(clippy::disallowed_types, clippy::disallowed_methods)]
pub mod peer;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod platform;
pub mod proto;
#[cfg(any(feature = "native", feature = "wasm"))]
pub mod runtime;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(all(feature = "wasm", target_arch = "wasm32"))]
mod wasm;
#[cfg(all(feature = "wasm-occupancy", target_arch = "wasm32"))]
#[path = "wasm/occupancy.rs"]
mod wasm_occupancy;
pub mod wire;
#[cfg(feature = "occupancy")]
pub mod work;
