//! Who talks with whom over `/webrtc-signaling/0.0.1`, and on which connection: only relayed ones, whose handshake proves
//! the remote's identity. The direct connection has no other proof than the certificate named in the description.
//!
//! Where there is no relay, offer and answer are one [`Signal`] each: the driver has them carried, and proves who said them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, InboundUpgrade, UpgradeInfo};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, StreamProtocol, SubstreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use wasm_bindgen_futures::spawn_local;

use super::configuration::Configuration;
use super::connection::Connection;
use super::exchange::{self, Wire};
use crate::peer::Path;
use crate::platform::links::address;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/webrtc-signaling/0.0.1");
/// How long the remote may take to agree to the protocol.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Offers being answered at a time, over all connections and on one.
const ANSWERS: usize = 64;
const ANSWERS_EACH: usize = 2;
/// Dials that wait for a circuit.
const WAITING: usize = 256;

/// Where the result of an offer goes.
pub(super) type Reply = oneshot::Sender<io::Result<Connection>>;

/// A dial: whom, over which circuit if there is none yet; without one, by signals.
pub(super) struct Ask {
    pub(super) peer: PeerId,
    pub(super) circuit: Option<Multiaddr>,
    pub(super) reply: Reply,
}

/// What goes to a connection's handler: make an offer.
pub struct Offer(Reply);

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offer")
    }
}

/// An offer or answer with all its candidates, for the driver to have carried.
#[derive(Debug)]
pub struct Signal {
    /// To whom.
    pub peer: PeerId,
    /// The first byte says what it is, the next eight which talk it belongs to; then the session description.
    pub message: Vec<u8>,
}

const OFFER: u8 = 0;
const ANSWER: u8 = 1;
/// Random, from who offers.
type Talk = [u8; 8];

/// The behaviour.
pub struct Behaviour {
    asks: mpsc::Receiver<Ask>,
    arrived: mpsc::Sender<(PeerId, Connection)>,
    /// For new connections.
    rtc: Arc<Configuration>,
    relayed: BTreeMap<PeerId, Vec<ConnectionId>>,
    /// Dials that wait for a circuit, with its number.
    waiting: Vec<(ConnectionId, PeerId, Reply)>,
    /// Offers carried by others that wait for their answer.
    talks: Vec<(PeerId, Talk, oneshot::Sender<String>)>,
    /// What the talks have to say.
    say: mpsc::UnboundedSender<Signal>,
    said: mpsc::UnboundedReceiver<Signal>,
    actions: VecDeque<ToSwarm<Signal, Offer>>,
    /// As many owners as offers are being answered, and one for each handler and this.
    answering: Arc<()>,
    handlers: Arc<()>,
}

impl Behaviour {
    pub(super) fn new(asks: mpsc::Receiver<Ask>, arrived: mpsc::Sender<(PeerId, Connection)>, rtc: Arc<Configuration>) -> Behaviour {
        let (say, said) = mpsc::unbounded();
        Behaviour {
            talks: Vec::new(),
            say,
            said,
            asks,
            arrived,
            rtc,
            relayed: BTreeMap::new(),
            waiting: Vec::new(),
            actions: VecDeque::new(),
            answering: Arc::new(()),
            handlers: Arc::new(()),
        }
    }

    fn ask(&mut self, Ask { peer, circuit, reply }: Ask) {
        let Some(circuit) = circuit else { return self.offer_by_signal(peer, reply) };
        if let Some(connection) = self.relayed.get(&peer).and_then(|all| all.last()) {
            return self.offer(peer, *connection, reply);
        }
        self.waiting.retain(|(_, _, reply)| !reply.is_canceled());
        if self.waiting.len() >= WAITING {
            return refuse(reply, "too many dials wait for circuits");
        }
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![circuit]).build();
        self.waiting.push((opts.connection_id(), peer, reply));
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn offer_by_signal(&mut self, peer: PeerId, reply: Reply) {
        self.talks.retain(|(_, _, answer)| !answer.is_canceled());
        let mut talk = Talk::default();
        if self.talks.len() >= WAITING || getrandom::fill(&mut talk).is_err() {
            return refuse(reply, "too many dials wait for answers");
        }
        let (answer, heard) = oneshot::channel();
        self.talks.push((peer, talk, answer));
        spawn_local(offer(self.carried(peer, OFFER, talk, heard), self.rtc.clone(), reply));
    }

    fn carried(&self, peer: PeerId, kind: u8, talk: Talk, heard: oneshot::Receiver<String>) -> Wire {
        let out = self.say.clone();
        let say = Box::new(move |description: &str| {
            // Nobody listens once the node is gone.
            drop(out.unbounded_send(Signal { peer, message: [&[kind][..], &talk, description.as_bytes()].concat() }));
        });
        Wire::Carried { say, heard }
    }

    /// Another node's signal was carried here; the driver knows that it is that node's.
    pub fn heard(&mut self, peer: PeerId, message: &[u8]) {
        let Some((&[kind, ref talk @ ..], description)) = message.split_first_chunk::<9>() else { return };
        let Ok(description) = String::from_utf8(description.to_vec()) else { return };
        match kind {
            OFFER if running(&self.answering, &self.handlers) < ANSWERS => {
                let (tell, heard) = oneshot::channel();
                drop(tell.send(description));
                let slots = (self.answering.clone(), Arc::default());
                spawn_local(answer(self.carried(peer, ANSWER, *talk, heard), self.rtc.clone(), peer, self.arrived.clone(), slots));
            }
            ANSWER => {
                if let Some(at) = self.talks.iter().position(|(p, t, _)| *p == peer && t == talk) {
                    drop(self.talks.swap_remove(at).2.send(description));
                }
            }
            _ => {}
        }
    }

    fn offer(&mut self, peer_id: PeerId, connection: ConnectionId, reply: Reply) {
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event: Offer(reply) });
    }

    fn handler(&self, peer: PeerId, relayed: bool) -> Handler {
        Handler {
            peer,
            relayed,
            offers: VecDeque::new(),
            arrived: self.arrived.clone(),
            rtc: self.rtc.clone(),
            all: self.answering.clone(),
            handlers: self.handlers.clone(),
            here: Arc::new(()),
        }
    }
}

/// The dial has its error; nobody minds if it was given up.
fn refuse(reply: Reply, reason: &str) {
    drop(reply.send(Err(io::Error::other(reason.to_owned()))));
}

fn is_relayed(address: &Multiaddr) -> bool {
    address::is_circuit(address) && !address::is_webrtc(address)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Signal;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, is_relayed(local)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, is_relayed(address)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(e) if address::path(e.endpoint) == Path::Relayed => {
                self.relayed.entry(e.peer_id).or_default().push(e.connection_id);
                for (dial, peer, reply) in std::mem::take(&mut self.waiting) {
                    if peer == e.peer_id {
                        self.offer(peer, e.connection_id, reply);
                    } else {
                        self.waiting.push((dial, peer, reply));
                    }
                }
            }
            FromSwarm::ConnectionClosed(e) => {
                if let Some(all) = self.relayed.get_mut(&e.peer_id) {
                    all.retain(|c| *c != e.connection_id);
                    if all.is_empty() {
                        self.relayed.remove(&e.peer_id);
                    }
                }
            }
            FromSwarm::DialFailure(e) => {
                if let Some(at) = self.waiting.iter().position(|(dial, ..)| *dial == e.connection_id) {
                    let (_, _, reply) = self.waiting.swap_remove(at);
                    refuse(reply, &format!("no circuit for the signalling: {}", e.error));
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, report: THandlerOutEvent<Self>) {
        match report {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Signal, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            if let Poll::Ready(Some(signal)) = self.said.poll_next_unpin(cx) {
                return Poll::Ready(ToSwarm::GenerateEvent(signal));
            }
            match self.asks.poll_next_unpin(cx) {
                Poll::Ready(Some(ask)) => self.ask(ask),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Takes the protocol on relayed connections and nothing on others.
#[derive(Clone, Copy, Debug)]
pub struct Signals(bool);

impl UpgradeInfo for Signals {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;
    fn protocol_info(&self) -> Self::InfoIter {
        self.0.then_some(PROTOCOL).into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Signals {
    type Output = libp2p::Stream;
    type Error = Infallible;
    type Future = std::future::Ready<Result<libp2p::Stream, Infallible>>;
    fn upgrade_inbound(self, stream: libp2p::Stream, _: StreamProtocol) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

/// One connection's part. The talks themselves are tasks of their own: the relayed connection may go before they end.
pub struct Handler {
    peer: PeerId,
    relayed: bool,
    offers: VecDeque<Reply>,
    arrived: mpsc::Sender<(PeerId, Connection)>,
    rtc: Arc<Configuration>,
    all: Arc<()>,
    handlers: Arc<()>,
    here: Arc<()>,
}

impl Handler {
    fn answer(&self, stream: libp2p::Stream) {
        if running(&self.all, &self.handlers) >= ANSWERS || Arc::strong_count(&self.here) > ANSWERS_EACH {
            tracing::debug!(peer = %self.peer, "too many offers");
            return;
        }
        let slots = (self.all.clone(), self.here.clone());
        spawn_local(answer(Wire::stream(stream), self.rtc.clone(), self.peer, self.arrived.clone(), slots));
    }
}

/// Offers being answered. Every handler and the behaviour own one of each; the rest are answers.
fn running(all: &Arc<()>, handlers: &Arc<()>) -> usize {
    Arc::strong_count(all).saturating_sub(Arc::strong_count(handlers))
}

/// Makes an offer, unless the dial is given up.
async fn offer(wire: Wire, rtc: Arc<Configuration>, mut reply: Reply) {
    let result = match select(pin!(exchange::offer(wire, rtc)), reply.cancellation()).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => return,
    };
    // Given up this moment: the connection closes with it.
    drop(reply.send(result));
}

/// Answers an offer, which takes `slots`.
async fn answer(
    wire: Wire,
    rtc: Arc<Configuration>,
    peer: PeerId,
    mut arrived: mpsc::Sender<(PeerId, Connection)>,
    slots: (Arc<()>, Arc<()>),
) {
    match exchange::answer(wire, rtc).await {
        // Full only if the swarm does not take what comes; then it goes as it came.
        Ok(connection) => drop(arrived.try_send((peer, connection))),
        Err(error) => tracing::debug!(%peer, %error, "no direct connection from an offer"),
    }
    drop(slots);
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Offer;
    type ToBehaviour = Infallible;
    type InboundProtocol = Signals;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Signals> {
        SubstreamProtocol::new(Signals(self.relayed), ()).with_timeout(OPEN_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        !self.offers.is_empty()
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Reply, Infallible>> {
        match self.offers.pop_front() {
            Some(reply) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), reply).with_timeout(OPEN_TIMEOUT);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, Offer(reply): Offer) {
        self.offers.push_back(reply);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Signals, Self::OutboundProtocol, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => self.answer(stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: reply }) => {
                spawn_local(offer(Wire::stream(stream), self.rtc.clone(), reply));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                refuse(info, &format!("the other side does not signal: {error}"));
            }
            _ => {}
        }
    }
}
