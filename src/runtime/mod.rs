//! Layer 4: the event loop that joins a [`Peer`](crate::peer) and a platform, and the handle applications hold.

pub mod port;
