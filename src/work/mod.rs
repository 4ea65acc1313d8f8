//! Layer 1: work that participants can offer to one another, as pure functions of bytes. No state, no clock, no policy.
//!
//! Each kind of work has a feature of its own, so that a program carries only what it offers.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod occupancy;
