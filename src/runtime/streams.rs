//! Streams of bytes to other nodes, each of a protocol, and messages on them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asynchronous_codec::{Bytes, Framed};
use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite};
use futures_timer::Delay;
use unsigned_varint::codec::UviBytes;

use super::handle::Node;
use crate::base::{Code, DomainId, Error, Map, NodeId};

/// How long a link is waited for, and how often it is looked for.
const REACH: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// A stream of bytes to another node.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens streams of one protocol to nodes that there is a connection to.
pub trait Streams: Send + Sync {
    /// A new stream.
    ///
    /// # Errors
    /// [`Code::Unreachable`] if there is no connection, or the other side does not speak the protocol.
    fn open(&self, to: NodeId) -> BoxFuture<'static, Result<Box<dyn ByteStream>, Error>>;
}

/// Messages on a stream, each behind its length as an unsigned varint.
pub type Frames = Framed<Box<dyn ByteStream>, UviBytes<Bytes>>;

/// Messages of at most so many bytes on a stream.
#[must_use]
pub fn framed(stream: Box<dyn ByteStream>, longest: usize) -> Frames {
    let mut codec = UviBytes::default();
    codec.set_max_len(longest);
    Framed::new(stream, codec)
}

/// Waits for a link to a participant, which is sought where this node is not linked with everybody.
///
/// # Errors
/// [`Code::Unreachable`] if there is none in time.
pub async fn reach(node: &Node, domain: DomainId, to: NodeId) -> Result<(), Error> {
    reach_any(node, domain, &[to]).await.map(drop)
}

/// Waits for a link to one of these at least, and seeks them all; those that there are links to, in the order given.
///
/// # Errors
/// As [`reach`].
pub async fn reach_any(node: &Node, domain: DomainId, to: &[NodeId]) -> Result<Vec<NodeId>, Error> {
    let begun = node.now().mono;
    // For a minute, which is longer than it is waited for.
    to.iter().for_each(|to| node.want_link(domain, *to));
    loop {
        let links = node.links(Some(domain));
        let linked: Vec<NodeId> = to.iter().copied().filter(|to| links.iter().any(|l| l.node == *to && l.path.is_some())).collect();
        if !linked.is_empty() {
            return Ok(linked);
        }
        if node.now().mono.since(begun) >= REACH {
            return Err(Error::new(Code::Unreachable, "there is no connection to it"));
        }
        Delay::new(LOOK).await;
    }
}

/// How many streams are served: together, and of one member.
#[derive(Debug)]
pub struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Map<NodeId, usize>>,
}

impl Places {
    /// So many, all free.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Arc<Places> {
        Arc::new(Places { all, each, taken: Mutex::default() })
    }

    /// One for a stream of this member's, if one is free.
    #[must_use]
    pub fn take(self: &Arc<Places>, of: NodeId) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&of).copied().unwrap_or_default());
        if all >= self.all || own >= self.each {
            return None;
        }
        taken.insert(of, own + 1);
        drop(taken);
        Some(Place { places: Arc::clone(self), of })
    }
}

/// A place taken; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    of: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.of) {
            Some(own) if *own > 1 => *own -= 1,
            _ => _ = taken.remove(&self.of),
        }
    }
}
