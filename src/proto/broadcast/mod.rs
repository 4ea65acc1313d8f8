//! Broadcast: one message from a participant to all, over a partial mesh, where there are too many for a link to each.
//!
//! Three pieces. [`Mesh`] says with whom to be linked: everybody up to [`limit::DEGREE`](crate::base::limit::DEGREE) others,
//! beyond that a ring and some shortcuts that every node computes alike from its own copy of the directory. [`Cast`] is the
//! message, signed by its origin. [`Broadcast`] carries it: Plumtree (Leitão, Pereira, Rodrigues: "Epidemic Broadcast
//! Trees", SRDS 2007), which pushes messages eagerly along a tree that the traffic itself finds, and tells of them lazily on the
//! other links, so that the tree heals where a node or a link is lost. `docs/protocol.md` section 10.
//!
//! A cast goes from neighbour to neighbour, each of whom seals it for its own neighbours: only neighbours need one another's
//! keys, whatever the size of the domain. Who carries a cast may read it, as it is for all.

mod cast;
mod machine;
mod mesh;
mod msg;
#[cfg(test)]
mod tests;

pub use cast::{BODY, Cast, Replays};
pub use machine::{Accept, Broadcast, Effect, Usage};
pub use mesh::{Mesh, responsible};
pub use msg::{CastId, MAX_MESSAGE, Msg};
