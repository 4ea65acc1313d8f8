//! Layer 5: the deterministic simulator, a third platform: the machines that ship, with links and clocks made of numbers.
//!
//! Everything follows from the seed: the same seed gives the same run, and [`trace`](World::trace) is its hash.

pub mod bars;
mod byzantine;
#[cfg(feature = "native")]
pub mod disk;
pub mod figures;
mod halves;
mod member;
pub mod net;
mod peer;
pub mod town;
mod traffic;
pub mod trial;
pub mod world;

pub use byzantine::Byzantine;
pub use figures::{Figures, Plan};
pub use member::Member;
pub use net::{Conditions, LATENCY, Net};
pub use town::Town;
pub use traffic::Traffic;
pub use world::{Effect, Machine, World};
