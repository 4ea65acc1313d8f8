//! Streams of our protocols for data and tasks on the connections of the links.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use libp2p::StreamProtocol;
use libp2p_stream::{Control, OpenStreamError};

use super::address::{node_id, peer_id};
use crate::base::{Code, Error, Map, NodeId};
use crate::proto::{objects, task};
use crate::runtime::streams::{ByteStream, Streams};

/// Opens and takes streams of one protocol. Clones are the same.
#[derive(Clone)]
pub struct LinkStreams {
    control: Control,
    protocol: &'static str,
    turns: Arc<Turns>,
}

/// To each node one stream is opened at a time: what takes them at the other side holds a single one, and drops those that come with it.
#[derive(Default)]
struct Turns(Mutex<Map<NodeId, Arc<futures::lock::Mutex<()>>>>);

impl Turns {
    fn at(&self, node: NodeId) -> Arc<futures::lock::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(node).or_default())
    }
}

impl std::fmt::Debug for LinkStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LinkStreams").field(&self.protocol).finish()
    }
}

impl LinkStreams {
    /// Those of the data protocol.
    pub(super) fn new(control: Control) -> LinkStreams {
        LinkStreams { control, protocol: objects::message::PROTOCOL, turns: Arc::default() }
    }

    /// Those of the task protocol on the same connections.
    #[must_use]
    pub fn tasks(&self) -> LinkStreams {
        LinkStreams { protocol: task::message::PROTOCOL, ..self.clone() }
    }

    /// Those of the pairing protocol on the same connections.
    #[must_use]
    pub fn pairing(&self) -> LinkStreams {
        LinkStreams { protocol: task::pairing::PROTOCOL, ..self.clone() }
    }

    /// Takes what others open from now on, with who they are.
    ///
    /// # Errors
    /// [`Code::Busy`] if somebody does already.
    pub fn incoming(&self) -> Result<impl Stream<Item = (NodeId, Box<dyn ByteStream>)> + Send + Unpin + use<>, Error> {
        let incoming = self.control.clone().accept(StreamProtocol::new(self.protocol));
        let incoming = incoming.map_err(|_| Error::new(Code::Busy, "this protocol is served already"))?;
        Ok(incoming.filter_map(|(peer, stream)| {
            // Foreign nodes have keys of other kinds.
            std::future::ready(node_id(&peer).map(|node| (node, Box::new(stream) as Box<dyn ByteStream>)))
        }))
    }
}

impl Streams for LinkStreams {
    fn open(&self, to: NodeId) -> BoxFuture<'static, Result<Box<dyn ByteStream>, Error>> {
        let (mut control, protocol, turn) = (self.control.clone(), self.protocol, self.turns.at(to));
        async move {
            let _turn = turn.lock().await;
            let peer = peer_id(to).ok_or_else(|| Error::new(Code::BadId, "no node has this id"))?;
            match control.open_stream(peer, StreamProtocol::new(protocol)).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn ByteStream>),
                Err(OpenStreamError::UnsupportedProtocol(_)) => Err(Error::new(Code::Unreachable, "it does not serve this")),
                Err(e) => Err(Error::new(Code::Unreachable, "there is no connection to it").caused_by(e)),
            }
        }
        .boxed()
    }
}
