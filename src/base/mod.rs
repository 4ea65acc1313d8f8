//! Layer 0: identifiers, time, randomness, errors and limits. Knows nothing of protocols.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod error;
mod gather;
pub mod id;
pub mod limit;
mod map;
pub mod rng;
pub mod time;

pub use error::{Code, Error, Reject};
pub use gather::{Gather, only};
pub use id::{DomainId, InvitationId, LinkId, NodeId};
pub use map::Map;
pub use rng::Rng;
pub use time::{Mono, Now, Wall};
