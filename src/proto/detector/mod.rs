//! Who of a domain's members is alive, told by probes.
//!
//! SWIM (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol", DSN 2002)
//! with Lifeguard's local health and suspicion timeouts (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More
//! Accurate Failure Detection", DSN-W 2018), changed where members may lie:
//!
//! - A suspicion is a signed [`Accusation`] by somebody who had a link to the suspect and got no answer. Nobody repeats
//!   another's word as its own, each member's word counts once, and those often found wrong are not heeded for a while.
//! - What this node sees itself outweighs any word: a member that it reaches is not down. A member reached through a helper
//!   signs its answer, so that a helper cannot invent it.
//! - A member refutes by raising the incarnation of its directory record; accusations name the incarnation they are about.
//! - Deadlines count the time this process was awake: a tab whose timers run once a minute judges late, not wrongly.
//!
//! `docs/protocol.md` section 11.

mod machine;
mod msg;
mod probe;
mod remind;
#[cfg(test)]
mod tests;
mod word;

pub use machine::{ACCUSERS, Detector, Effect, Usage};
#[cfg(test)]
pub(crate) use msg::check_proof;
pub use msg::{Accusation, Msg};
pub use probe::PROBES;
