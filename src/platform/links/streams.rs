//! Streams of our protocols for data and tasks, on the connections of the links.
//!
//! A stream is opened on the link that is the best at that moment, and outlives it: where a better one comes, or the one that nothing
//! needs any more is let go, its connection stays until the streams on it have ended. Where the connection is cut, they break at once.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, FusedFuture, Shared as SharedFuture};
use futures::{AsyncRead, AsyncWrite, FutureExt, Stream, StreamExt};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, InboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use super::address::{node_id, peer_id};
use crate::base::{Code, Error, LinkId, Map, NodeId};
use crate::peer::Path;
use crate::proto::{objects, task};
use crate::runtime::streams::{ByteStream, Streams};

/// How long the other side may take to agree to a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one protocol that came and wait to be taken; those beyond are reset.
const WAITING: usize = 256;

type Incoming = (NodeId, Box<dyn ByteStream>);

/// A connection, as far as streams are opened on it.
struct Way {
    peer: PeerId,
    /// Its link: how it leads there, and which it is.
    link: Option<(Path, LinkId)>,
    orders: mpsc::UnboundedSender<Order>,
    /// Held by every stream on it or about to be, beside this and the handler.
    in_use: Arc<()>,
    /// Once this is dropped, its streams break.
    _life: oneshot::Sender<()>,
}

/// A stream that somebody waits for.
struct Order {
    protocol: &'static str,
    reply: Reply,
}

/// Where it goes, and what keeps the connection until it is there.
type Reply = (oneshot::Sender<Result<LinkStream, Error>>, Arc<()>);

#[derive(Default)]
struct Shared {
    ways: Map<ConnectionId, Way>,
    takers: Vec<(&'static str, mpsc::Sender<Incoming>)>,
}

/// The connections that streams can be opened on, and who takes those that others open; clones are the same.
#[derive(Clone, Default)]
pub struct Ways(Arc<Mutex<Shared>>);

impl Ways {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: ConnectionId, peer: PeerId) -> Handler {
        let (orders, inbox) = mpsc::unbounded();
        let (life, cut) = oneshot::channel();
        let in_use = Arc::new(());
        let handler = Handler { node: node_id(&peer), ways: self.clone(), orders: inbox, cut: cut.shared(), in_use: Arc::clone(&in_use) };
        self.lock().ways.insert(id, Way { peer, link: None, orders, in_use, _life: life });
        handler
    }

    /// The connection became a link.
    pub fn linked(&self, id: ConnectionId, path: Path, link: LinkId) {
        if let Some(way) = self.lock().ways.get_mut(&id) {
            way.link = Some((path, link));
        }
    }

    /// It is no link any more. Its streams go on.
    pub fn unlinked(&self, id: ConnectionId) {
        if let Some(way) = self.lock().ways.get_mut(&id) {
            way.link = None;
        }
    }

    /// Whether there are streams on it.
    pub fn is_in_use(&self, id: ConnectionId) -> bool {
        self.lock().ways.get(&id).is_some_and(|way| Arc::strong_count(&way.in_use) > 2)
    }

    /// It is cut, or gone: its streams break.
    pub fn cut(&self, id: ConnectionId) {
        self.lock().ways.remove(&id);
    }

    /// A new stream to a node. Nothing comes where there is no link, or its connection is gone.
    fn order(&self, peer: &PeerId, protocol: &'static str) -> oneshot::Receiver<Result<LinkStream, Error>> {
        let (reply, answer) = oneshot::channel();
        let shared = self.lock();
        let links = shared.ways.values().filter(|way| way.peer == *peer).filter_map(|way| Some((way.link?, way)));
        // Direct ones first, and of those the newest.
        if let Some((_, best)) = links.max_by_key(|((path, link), _)| (*path == Path::Direct, *link)) {
            let _ = best.orders.unbounded_send(Order { protocol, reply: (reply, Arc::clone(&best.in_use)) });
        }
        answer
    }

    fn accept(&self, protocol: &'static str) -> Option<mpsc::Receiver<Incoming>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let takers = &mut self.lock().takers;
        takers.retain(|(_, taker)| !taker.is_closed());
        if takers.iter().any(|(taken, _)| *taken == protocol) {
            return None;
        }
        takers.push((protocol, sender));
        Some(receiver)
    }

    fn accepted(&self) -> Vec<&'static str> {
        self.lock().takers.iter().filter(|(_, taker)| !taker.is_closed()).map(|(protocol, _)| *protocol).collect()
    }

    fn came(&self, protocol: &'static str, node: NodeId, stream: LinkStream) {
        if let Some((_, taker)) = self.lock().takers.iter_mut().find(|(taken, _)| *taken == protocol)
            && taker.try_send((node, Box::new(stream))).is_err()
        {
            tracing::debug!(%node, protocol, "a stream is reset: too many wait, or nobody takes them any more");
        }
    }
}

/// Opens and takes streams of one protocol. Clones are the same.
#[derive(Clone)]
pub struct LinkStreams {
    ways: Ways,
    protocol: &'static str,
}

impl std::fmt::Debug for LinkStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LinkStreams").field(&self.protocol).finish()
    }
}

impl LinkStreams {
    /// Those of the data protocol.
    pub(super) fn new(ways: Ways) -> LinkStreams {
        LinkStreams { ways, protocol: objects::message::PROTOCOL }
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
        self.ways.accept(self.protocol).ok_or_else(|| Error::new(Code::Busy, "this protocol is served already"))
    }
}

impl Streams for LinkStreams {
    fn open(&self, to: NodeId) -> BoxFuture<'static, Result<Box<dyn ByteStream>, Error>> {
        let LinkStreams { ways, protocol } = self.clone();
        async move {
            let peer = peer_id(to).ok_or_else(|| Error::new(Code::BadId, "no node has this id"))?;
            let stream =
                ways.order(&peer, protocol).await.unwrap_or_else(|_| Err(Error::new(Code::Unreachable, "there is no connection to it")))?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        }
        .boxed()
    }
}

/// Set off when the connection is cut.
type Cut = SharedFuture<oneshot::Receiver<()>>;

/// A stream that breaks with its connection, however long that takes to close.
pub struct LinkStream {
    stream: libp2p::Stream,
    /// Reading and writing may be two tasks, and each clone wakes one.
    reading: Cut,
    writing: Cut,
    _in_use: Arc<()>,
}

fn check(cut: &mut Cut, cx: &mut Context<'_>) -> io::Result<()> {
    if cut.is_terminated() || cut.poll_unpin(cx).is_ready() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

impl AsyncRead for LinkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        check(&mut self.reading, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Takes inbound streams of these protocols.
#[derive(Clone, Debug)]
pub struct Accepted(Vec<&'static str>);

impl UpgradeInfo for Accepted {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;
    fn protocol_info(&self) -> Vec<StreamProtocol> {
        self.0.iter().map(|protocol| StreamProtocol::new(protocol)).collect()
    }
}

impl InboundUpgrade<libp2p::Stream> for Accepted {
    type Output = (Option<&'static str>, libp2p::Stream);
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Output, Infallible>>;
    fn upgrade_inbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        let protocol = self.0.into_iter().find(|p| protocol == *p);
        std::future::ready(Ok((protocol, stream)))
    }
}

/// One connection's streams.
pub struct Handler {
    /// Foreign nodes have keys of other kinds.
    node: Option<NodeId>,
    ways: Ways,
    orders: mpsc::UnboundedReceiver<Order>,
    cut: Cut,
    in_use: Arc<()>,
}

impl Handler {
    fn stream(&self, stream: libp2p::Stream) -> LinkStream {
        LinkStream { stream, reading: self.cut.clone(), writing: self.cut.clone(), _in_use: Arc::clone(&self.in_use) }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accepted;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Accepted> {
        let accepted = if self.node.is_some() { self.ways.accepted() } else { Vec::new() };
        SubstreamProtocol::new(Accepted(accepted), ()).with_timeout(OPEN_TIMEOUT)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Infallible>> {
        let Some(Order { protocol, reply }) = ready!(self.orders.poll_next_unpin(cx)) else { return Poll::Pending };
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(StreamProtocol::new(protocol)), reply).with_timeout(OPEN_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Accepted, Self::OutboundProtocol, (), Self::OutboundOpenInfo>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (Some(protocol), stream), .. }) => {
                if let Some(node) = self.node {
                    self.ways.came(protocol, node, self.stream(stream));
                }
            }
            // Whoever asked may have given up meanwhile: then the stream is reset.
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                drop(info.0.send(Ok(self.stream(protocol))));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                drop(info.0.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => Error::new(Code::Unreachable, "it does not serve this"),
                    error => Error::new(Code::Unreachable, "a stream to it could not be opened").caused_by(error),
                })));
            }
            _ => {}
        }
    }
}

/// The behaviour that gives every connection its [`Handler`].
pub struct Behaviour(pub Ways);

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.0.add(id, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.0.add(id, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(e) => self.0.cut(e.connection_id),
            // A handler was made, then another behaviour refused the connection.
            FromSwarm::ListenFailure(e) => self.0.cut(e.connection_id),
            FromSwarm::DialFailure(e) => self.0.cut(e.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
