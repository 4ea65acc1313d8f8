//! The directory of one domain: every participant holds every record, so a query is local and costs no message.
//!
//! Records are signed by their owners and leased. News is broadcast; what was missed is repaired by comparing digests with a
//! random neighbour, at a cost proportional to the difference. `docs/protocol.md` section 7.

mod addresses;
mod entry;
mod machine;
pub mod msg;
pub mod query;
pub mod record;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;

pub use machine::{Config, Directory, Effect, Event};
pub use msg::{Item, Msg};
pub use query::{Participant, Predicate, Query, Status, Test, decode_predicates, encode_predicates};
pub use record::{Capability, Presence, Profile, Record, Signed, TEXT, Value};
