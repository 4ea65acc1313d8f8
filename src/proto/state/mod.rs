//! Shared state: a small map that every participant of a domain holds whole and may change.
//!
//! Each key has one entry, the last one written: stamps of hybrid logical clocks (Kulkarni, Demirbas, Madappa, Avva, Leone:
//! "Logical Physical Clocks", OPODIS 2014) decide which that is, so that whoever saw an entry writes after it, whatever the
//! clocks say, and copies that were apart agree again without losing the later write. An entry is signed by its writer: who
//! hands it on cannot change it. A deleted key leaves an entry that says so, which wins over older ones.
//!
//! What a write costs grows with the number of links; comparing copies costs what differs, and a digest per bucket of keys. All of it
//! is data class: the manager does not read it. `docs/protocol.md` section 12.

mod entry;
mod machine;
mod msg;
#[cfg(test)]
mod tests;

pub use entry::{Entry, KEY, SIGNED, Stamp, VALUE};
pub use machine::{BYTES, Effect, KEYS, State};
pub use msg::{BUCKETS, Msg, Summary};
