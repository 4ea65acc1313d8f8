//! Layer 5: the deterministic simulator, a third platform: the same [`Peer`](crate::peer), links and clocks made of numbers.
//!
//! Everything follows from the seed: the same seed gives the same run, and [`trace`](net::Net::trace) is its hash.

pub mod net;

pub use net::{Conditions, Net};
