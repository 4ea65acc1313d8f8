//! The behaviour that gives every connection its [`Handler`] and turns their reports into link numbers.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use futures::channel::mpsc;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use super::address;
use super::datagrams::Datagrams;
use super::handler::{End, Handler, Order, Report};
use super::streams::Ways;
use crate::base::{LinkId, Map, limit};
use crate::peer::{Lane, LinkEvent, Path, Side};

/// What the behaviour tells the swarm's owner.
#[derive(Debug)]
pub enum Event {
    /// For the driver, unchanged.
    Link(LinkEvent),
    /// A connection became a link.
    Opened(ConnectionId),
    /// The connection will never be a link: the remote does not speak the protocol.
    Refused(ConnectionId),
}

struct Connection {
    peer: PeerId,
    side: Side,
    /// Known once the connection is established.
    point: Option<ConnectedPoint>,
    orders: mpsc::UnboundedSender<Order>,
    link: Option<LinkId>,
    /// It was a link, and is none any more: it is there only for the streams on it.
    retired: bool,
}

/// Lanes on every connection.
pub struct Behaviour {
    connections: Map<ConnectionId, Connection>,
    links: Map<LinkId, ConnectionId>,
    next_link: u64,
    actions: VecDeque<ToSwarm<Event, std::convert::Infallible>>,
    /// Peers whose connection outlives its link: relays in use.
    keep: Vec<PeerId>,
    waker: Option<Waker>,
    datagrams: Datagrams,
    streams: Ways,
}

impl Behaviour {
    /// Without connections.
    pub fn new(datagrams: Datagrams, streams: Ways) -> Behaviour {
        let (connections, links, actions) = (Map::new(), Map::new(), VecDeque::new());
        Behaviour { connections, links, next_link: 1, actions, keep: Vec::new(), waker: None, datagrams, streams }
    }

    /// Queues a frame. Dropped if the link is gone or the frame too long, as the port says.
    pub fn send(&self, link: LinkId, lane: Lane, frame: Vec<u8>) {
        if frame.len() <= limit::FRAME {
            self.order(link, Order::Send(lane, frame));
        }
    }

    /// Ends a link once its control lane is written.
    pub fn close(&self, link: LinkId) {
        self.order(link, Order::Close);
    }

    /// The link on a connection, if there is one.
    pub fn link(&self, connection: ConnectionId) -> Option<LinkId> {
        self.connections.get(&connection)?.link
    }

    /// Whom a link leads to.
    pub fn peer(&self, link: LinkId) -> Option<PeerId> {
        self.links.get(&link).and_then(|c| self.connections.get(c)).map(|c| c.peer)
    }

    /// The newest direct link to a peer.
    pub fn direct(&self, peer: &PeerId) -> Option<LinkId> {
        let direct = |c: &&Connection| c.peer == *peer && c.point.as_ref().is_some_and(|p| address::path(p) == Path::Direct);
        self.connections.values().filter(direct).filter_map(|c| c.link).max()
    }

    /// Keep connections to this peer when their link is closed.
    pub fn keep(&mut self, peer: PeerId) {
        if !self.keep.contains(&peer) {
            self.keep.push(peer);
        }
    }

    /// Treat the peer like any other again.
    pub fn release(&mut self, peer: PeerId) {
        self.keep.retain(|p| *p != peer);
    }

    /// Ends a connection (it was found dead, or nobody wants it), and its link at once: a close that has to write what is queued to
    /// nobody takes long.
    pub fn cut(&mut self, connection: ConnectionId) {
        self.down(connection);
        self.streams.cut(connection);
        if let Some(peer) = self.connections.get(&connection).map(|c| c.peer) {
            self.push(ToSwarm::CloseConnection { peer_id: peer, connection: CloseConnection::One(connection) });
        }
    }

    fn order(&self, link: LinkId, order: Order) {
        if let Some(connection) = self.links.get(&link).and_then(|c| self.connections.get(c)) {
            // A handler that is gone reports its end by itself.
            let _ = connection.orders.unbounded_send(order);
        }
    }

    fn push(&mut self, action: ToSwarm<Event, std::convert::Infallible>) {
        self.actions.push_back(action);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn add(&mut self, id: ConnectionId, peer: PeerId, side: Side) -> Handler {
        let (orders, inbox) = mpsc::unbounded();
        self.connections.insert(id, Connection { peer, side, point: None, orders, link: None, retired: false });
        Handler::new(side, address::node_id(&peer).is_none(), inbox)
    }

    fn up(&mut self, id: ConnectionId) {
        let link = LinkId(self.next_link);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (Some(node), Some(point)) = (address::node_id(&connection.peer), &connection.point) else { return };
        let path = address::path(point);
        let event = LinkEvent::Up {
            link,
            node,
            path,
            side: connection.side,
            address: point.get_remote_address().to_string(),
            datagrams: address::has_datagrams(point) && self.datagrams.has(&connection.peer),
        };
        connection.link = Some(link);
        self.next_link += 1;
        self.links.insert(link, id);
        self.streams.linked(id, path, link);
        self.push(ToSwarm::GenerateEvent(Event::Link(event)));
        self.push(ToSwarm::GenerateEvent(Event::Opened(id)));
    }

    fn down(&mut self, id: ConnectionId) {
        let ended = self.connections.get_mut(&id).and_then(|c| {
            c.retired |= c.link.is_some();
            c.link.take()
        });
        if let Some(link) = ended {
            self.links.remove(&link);
            self.streams.unlinked(id);
            self.push(ToSwarm::GenerateEvent(Event::Link(LinkEvent::Down { link })));
        }
    }

    /// A link ended because this side wanted it: its connection is cut. It stays if streams are on it and another link leads there too,
    /// until they have ended or that one is let go as well.
    fn let_go(&mut self, id: ConnectionId, peer: PeerId) {
        if self.connections.values().any(|c| c.peer == peer && c.link.is_some()) {
            if !self.streams.is_in_use(id) {
                self.cut(id);
            }
            return;
        }
        let gone = |(other, c): (&ConnectionId, &Connection)| (*other == id || (c.peer == peer && c.retired)).then_some(*other);
        let gone: Vec<ConnectionId> = self.connections.iter().filter_map(gone).collect();
        for connection in gone {
            self.cut(connection);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.add(id, peer, Side::Listener))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.add(id, peer, Side::Dialler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                if let Some(connection) = self.connections.get_mut(&e.connection_id) {
                    connection.point = Some(e.endpoint.clone());
                }
            }
            FromSwarm::ConnectionClosed(e) => {
                self.down(e.connection_id);
                self.connections.remove(&e.connection_id);
            }
            // A handler was made, then another behaviour refused the connection.
            FromSwarm::ListenFailure(e) => drop(self.connections.remove(&e.connection_id)),
            FromSwarm::DialFailure(e) => drop(self.connections.remove(&e.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, report: THandlerOutEvent<Self>) {
        let link = self.link(id);
        match (report, link) {
            (Report::Open, None) => self.up(id),
            (Report::Refused, _) => self.push(ToSwarm::GenerateEvent(Event::Refused(id))),
            (Report::Frame(lane, frame), Some(link)) => {
                self.push(ToSwarm::GenerateEvent(Event::Link(LinkEvent::Frame { link, lane, frame })));
            }
            (Report::Drained(lane, bytes), Some(link)) => {
                self.push(ToSwarm::GenerateEvent(Event::Link(LinkEvent::Drained { link, lane, bytes })));
            }
            (Report::Ended(end), _) => {
                self.down(id);
                match end {
                    End::Violation => self.cut(id),
                    End::Ours if !self.keep.contains(&peer) => self.let_go(id, peer),
                    End::Ours | End::Theirs => {}
                }
            }
            (Report::Open, Some(_)) | (Report::Frame(..) | Report::Drained(..), None) => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
