//! The keys of one domain in one process: the own pair of sender chains, the prekeys it is given keys through, and what the
//! other members gave. The only part that holds keys of traffic. `docs/protocol.md` sections 3 and 6.
//!
//! Prekeys and chains live in memory and are new in every process: nothing here is ever stored, so no index is used twice.

#[cfg(test)]
mod attacks;
pub mod keymsg;
mod machine;
pub mod prekey;
mod receiver;
#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod seal_attacks;
mod sender;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use machine::{Opened, Session};
pub use receiver::{AHEAD, KEEP, WINDOW};
pub use sender::{BYTES, MESSAGES};
