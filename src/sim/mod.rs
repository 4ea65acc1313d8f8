//! Layer 5: the deterministic simulator, a third platform: the machines that ship, with links and clocks made of numbers.
//!
//! Everything follows from the seed: the same seed gives the same run, and [`trace`](World::trace) is its hash.

pub mod figures;
pub mod net;
mod peer;
pub mod town;
pub mod world;

pub use figures::{Figures, Plan};
pub use net::{Conditions, Net};
pub use town::Town;
pub use world::{Effect, Machine, World};
