//! Links over libp2p, shared by every platform: one swarm, one connection per link, two lanes on each. The platform brings
//! the transports and, if it likes, one more behaviour (a relay server; the signalling of `/webrtc`).

pub mod address;
mod ahead;
mod brief;
pub mod datagrams;
mod dialling;
pub mod handler;
pub mod lanes;
mod relays;
mod start;
pub mod streams;

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use futures_timer::Delay;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, ListenerId};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Transport, connection_limits, identify, identity, noise, ping, relay, yamux};

use crate::base::{Code, Error, Map, NodeId, Rng, limit};
use crate::peer::{Lane, LinkCommand, LinkEvent};
use ahead::ReadAhead;
use brief::Brief;
use datagrams::Datagrams;
use dialling::Pending;
use relays::{Relays, Standing};
use start::{Staggered, Starts};
use streams::{LinkStreams, Ways};

/// How long a connection without lanes or other streams stays, for foreign nodes that ping now and then.
const IDLE: Duration = Duration::from_secs(60);
/// Pings per connection: every so often, and after how long one counts as lost.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Lost pings in a row after which a connection counts as dead.
const PINGS_LOST: u32 = 2;
/// Connections to one peer at a time: a relayed and a direct one each way, and some in transition.
const PER_PEER: u32 = 8;
/// Incoming connections in handshake at a time.
const PENDING: u32 = 256;
/// How long a connection has to answer a ping once there is reason to think that it leads nowhere any more.
const PROOF: Duration = Duration::from_secs(7);
/// Addresses told to others.
const ADDRESSES: usize = 32;
/// What is read of a stream transport while writing waits, bytes; and of a circuit, which is a yamux stream itself: its sender hears of room
/// only when half of a window is read, and a window is as large as the way to the relay is fast and long.
pub const AHEAD: usize = 256 * 1024;
const CIRCUIT_AHEAD: usize = 4 * 1024 * 1024;
/// Of one relay: who is connected to it needs none, and others need one that they can dial.
const CIRCUITS: usize = 2;

/// The largest data channel message sent over WebRTC-direct, bytes. libp2p-webrtc 0.10.0-alpha cannot take more than 8,192,
/// though the specification says 16,384: it sets a buffer of 16 KiB on a handle and reads through a clone of it, which
/// starts over with 8.
pub const RTC_DIRECT_MESSAGE: usize = 8_192;

/// An upgraded connection: authenticated and multiplexed.
pub type Upgraded = (PeerId, StreamMuxerBox);

/// The swarm's behaviours. `X` is the platform's own.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour<X: NetworkBehaviour> {
    limits: connection_limits::Behaviour,
    lanes: lanes::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    circuit: relay::client::Behaviour,
    streams: streams::Behaviour,
    extra: X,
}

/// How the links of a platform are set up.
#[derive(Clone)]
pub struct LinksConfig {
    /// Hold a circuit reservation on every relay in use, so as to be dialled through it (browsers; natives that nobody can dial).
    pub reserve: bool,
    /// The platform's transports speak `/webrtc`: such addresses are dialled, and told to others for every circuit held.
    pub webrtc: bool,
    /// Confirm listen addresses as external ones without being asked: a relay hands only those to its clients.
    pub vouch: bool,
    /// Which addresses the platform's transports can dial; for circuits it is asked about the relay's address.
    pub usable: fn(&Multiaddr) -> bool,
    /// Which addresses are dialled only where there is no other.
    pub last_resort: fn(&Multiaddr) -> bool,
    /// Named in identify, for people.
    pub agent: String,
    /// The ways for datagrams that the transports' connections have.
    pub datagrams: Datagrams,
}

impl LinksConfig {
    /// Leaves out what is a last resort, unless nothing else is there.
    fn prefer(&self, addresses: &mut Vec<Multiaddr>) {
        if !addresses.iter().all(self.last_resort) {
            addresses.retain(|a| !(self.last_resort)(a));
        }
    }
}

/// A timer or retry inside the links.
enum Tick {
    Relay(PeerId),
    /// Connections doubted at this occasion have to have answered.
    Proof(u64),
}

/// The links of one node: commands in, events out, a swarm between.
pub struct Links<X: NetworkBehaviour> {
    me: PeerId,
    config: LinksConfig,
    swarm: Swarm<Behaviour<X>>,
    observe: Box<dyn FnMut(X::ToSwarm) -> Option<LinkEvent> + Send>,
    events: VecDeque<LinkEvent>,
    dials: Map<ConnectionId, Pending>,
    /// Dials of circuits whose relay is being connected first.
    waiting: Vec<(PeerId, NodeId, Vec<Multiaddr>)>,
    /// Connections to relays made for [`Links::waiting`].
    bridges: Map<ConnectionId, PeerId>,
    relays: Relays,
    starts: Starts,
    /// Direct connections by peer.
    direct: Map<PeerId, Vec<ConnectionId>>,
    listening: Vec<(ListenerId, Multiaddr)>,
    announced: Vec<Multiaddr>,
    /// The announced ones as they are told.
    external: Vec<Multiaddr>,
    told: Vec<String>,
    rtt: Map<ConnectionId, (Option<Duration>, u32)>,
    /// Connections that have not answered since an occasion to doubt them, and how many there were.
    doubted: Map<ConnectionId, u64>,
    doubts: u64,
    ticks: FuturesUnordered<BoxFuture<'static, Tick>>,
}

/// Noise and yamux on a stream transport: what every byte stream (TCP, WebSocket, circuit) gets. `ahead`: bytes read while writing
/// waits, [`AHEAD`].
///
/// # Errors
/// [`Code::Unsupported`] if the key cannot make a noise identity.
pub fn secure<T, S>(transport: T, key: &identity::Keypair, ahead: usize) -> Result<Boxed<Upgraded>, Error>
where
    T: Transport<Output = S> + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
{
    let noise = noise::Config::new(key).map_err(|e| Error::new(Code::Unsupported, "no noise identity").caused_by(e))?;
    Ok(transport
        .map(move |stream, _| ReadAhead::new(stream, ahead))
        .upgrade(libp2p::core::upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(Duration::from_secs(20))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Brief::new(muxer))))
        .boxed())
}

/// The circuit transport and the behaviour that belongs to it.
///
/// # Errors
/// As [`secure`].
pub fn circuit(key: &identity::Keypair) -> Result<(Boxed<Upgraded>, relay::client::Behaviour), Error> {
    let (transport, behaviour) = relay::client::new(key.public().to_peer_id());
    Ok((secure(transport, key, CIRCUIT_AHEAD)?, behaviour))
}

impl<X: NetworkBehaviour> Links<X>
where
    X::ToSwarm: std::fmt::Debug,
{
    /// Links on a transport that includes the [`circuit`] one; `observe` hears the platform behaviour's events, some of which
    /// are for the driver.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is one thing the platform brings; a struct would only rename them")]
    pub fn new(
        key: &identity::Keypair,
        transport: Boxed<Upgraded>,
        circuit: relay::client::Behaviour,
        executor: libp2p::swarm::Config,
        config: LinksConfig,
        mut rng: Rng,
        extra: X,
        observe: impl FnMut(X::ToSwarm) -> Option<LinkEvent> + Send + 'static,
    ) -> Links<X> {
        let me = key.public().to_peer_id();
        let most = u32::try_from(limit::LINKS).unwrap_or(u32::MAX);
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(most.saturating_mul(2)))
            .with_max_established_incoming(Some(most))
            .with_max_pending_incoming(Some(PENDING))
            .with_max_established_per_peer(Some(PER_PEER));
        let identify = identify::Config::new("/peerage/1".into(), key.public())
            .with_agent_version(config.agent.clone())
            .with_push_listen_addr_updates(config.vouch)
            // A relay's clients learn where else it is; nobody learns where its clients are.
            .with_hide_listen_addrs(!config.vouch)
            .with_cache_size(0);
        let ways = Ways::default();
        let behaviour = Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            lanes: lanes::Behaviour::new(config.datagrams.clone(), ways.clone()),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
            circuit,
            streams: streams::Behaviour(ways),
            extra,
        };
        let starts = Starts::default();
        let transport = Staggered::new(transport, starts.clone()).boxed();
        let swarm = Swarm::new(transport, behaviour, me, executor.with_idle_connection_timeout(IDLE));
        Links {
            me,
            config,
            swarm,
            observe: Box::new(observe),
            events: VecDeque::new(),
            dials: Map::new(),
            waiting: Vec::new(),
            bridges: Map::new(),
            relays: Relays::new(rng.fork("relays")),
            starts,
            direct: Map::new(),
            listening: Vec::new(),
            announced: Vec::new(),
            external: Vec::new(),
            told: Vec::new(),
            rtt: Map::new(),
            doubted: Map::new(),
            doubts: 0,
            ticks: FuturesUnordered::new(),
        }
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.me
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// [`Code::AddressInUse`] if another program has it, [`Code::Unsupported`] if no transport takes it, else [`Code::Unreachable`].
    pub fn listen(&mut self, address: Multiaddr) -> Result<ListenerId, Error> {
        self.swarm.listen_on(address.clone()).map_err(|e| match e {
            libp2p::TransportError::MultiaddrNotSupported(_) => {
                Error::new(Code::Unsupported, format!("no transport can listen on {address}"))
            }
            libp2p::TransportError::Other(e) if is_in_use(&e) => {
                Error::new(Code::AddressInUse, format!("{address} is taken by another program")).hint("Choose another port, or stop it")
            }
            libp2p::TransportError::Other(e) => Error::new(Code::Unreachable, format!("cannot listen on {address}")).caused_by(e),
        })
    }

    /// Names an address at which this node is reached besides those it listens on; told to others, and by relays to their clients.
    pub fn announce(&mut self, address: Multiaddr) {
        if !self.announced.contains(&address) {
            self.announced.push(address);
            self.announce_all();
        }
    }

    /// Whether somebody can dial an address that it listens on. In TLS it is the name that is dialled, where one is announced: the certificate
    /// is for that.
    fn leads_here(&self, address: &Multiaddr) -> bool {
        address::is_dialable(address) && !(address::is_tls(address) && self.announced.iter().any(address::is_tls))
    }

    /// What was announced, with the certificate hashes of now, which whoever announces an address cannot know.
    fn announce_all(&mut self) {
        // The latest first: a certificate that follows another is told of before that one expires.
        let listening = || self.listening.iter().rev().map(|(_, a)| a);
        let complete: Vec<Multiaddr> = self.announced.iter().filter_map(|a| address::with_hashes(a, listening())).collect();
        for new in complete.iter().filter(|a| !self.external.contains(a)) {
            self.swarm.add_external_address(new.clone());
        }
        for old in self.external.iter().filter(|a| !complete.contains(a)) {
            self.swarm.remove_external_address(old);
        }
        self.external = complete;
        self.tell_addresses();
    }

    /// Opens and takes streams of the data protocol on the links' connections.
    #[must_use]
    pub fn streams(&self) -> LinkStreams {
        LinkStreams::new(self.swarm.behaviour().streams.0.clone())
    }

    /// The platform's own behaviour.
    pub fn extra_mut(&mut self) -> &mut X {
        &mut self.swarm.behaviour_mut().extra
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.swarm.network_info().connection_counters().num_established() as usize
    }

    /// These connections have to show that they still lead somewhere.
    fn doubt(&mut self, connections: Vec<ConnectionId>) {
        self.doubts += 1;
        let doubt = self.doubts;
        for connection in connections {
            self.doubted.entry(connection).or_insert(doubt);
        }
        self.ticks.push(Delay::new(PROOF).map(move |()| Tick::Proof(doubt)).boxed());
    }

    /// Cuts those that have not.
    fn cut_doubted(&mut self, doubt: u64) {
        let cut: Vec<ConnectionId> = self.doubted.iter().filter(|(_, d)| **d == doubt).map(|(connection, _)| *connection).collect();
        self.doubted.retain(|_, d| *d != doubt);
        for connection in cut {
            self.swarm.behaviour_mut().lanes.cut(connection);
        }
    }

    /// Tries every relay that waits for its next turn now.
    fn retry_relays(&mut self) {
        let waiting: Vec<PeerId> =
            self.relays.by_peer.iter().filter(|(_, r)| r.standing == Standing::Waiting).map(|(peer, _)| *peer).collect();
        for peer in waiting {
            self.connect_relay(peer);
        }
    }

    /// Carries out a command; never blocks.
    pub fn command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Dial { node, addresses } => self.dial(node, &addresses),
            LinkCommand::UseRelay { address } => self.use_relay(address),
            LinkCommand::DropRelay { address } => self.drop_relay(&address),
            LinkCommand::NetworkChanged => {
                self.doubt(self.rtt.keys().copied().collect());
                self.retry_relays();
            }
            // For the platform whose own behaviour asks for signals.
            LinkCommand::Signal { .. } => {}
            LinkCommand::Send { link, lane: lane @ Lane::Datagram, frame } => {
                // Sent or dropped, it waits no more.
                self.events.push_back(LinkEvent::Drained { link, lane, bytes: frame.len() });
                let lanes = &self.swarm.behaviour().lanes;
                if lanes.peer(link).is_some_and(|peer| !self.config.datagrams.send(&peer, &frame)) {
                    // The connection that had a way for it is gone, or it is too narrow.
                    lanes.send(link, Lane::Control, frame);
                }
            }
            LinkCommand::Send { link, lane, frame } => self.swarm.behaviour().lanes.send(link, lane, frame),
            LinkCommand::Close { link } => self.swarm.behaviour().lanes.close(link),
        }
    }

    /// The next event, or registers for a wake-up.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if let Poll::Ready(Some(tick)) = self.ticks.poll_next_unpin(cx) {
                match tick {
                    Tick::Relay(peer) => self.connect_relay(peer),
                    Tick::Proof(doubt) => self.cut_doubted(doubt),
                }
                continue;
            }
            match self.swarm.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => {
                    self.on_swarm(event);
                    continue;
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            // Last: whoever floods this node with datagrams holds nothing up.
            match self.config.datagrams.poll_next(cx) {
                // Without a link it comes too early, or too late.
                Poll::Ready((peer, frame)) => {
                    if let Some(link) = self.swarm.behaviour().lanes.direct(&peer) {
                        return Poll::Ready(Some(LinkEvent::Frame { link, lane: Lane::Datagram, frame }));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_direct(&self, peer: &PeerId) -> bool {
        self.direct.get(peer).is_some_and(|c| !c.is_empty())
    }

    // Relays.

    fn use_relay(&mut self, text: String) {
        let parsed = text.parse::<Multiaddr>().ok().filter(|a| !address::is_circuit(a) && (self.config.usable)(a));
        let Some((parsed, peer)) = parsed.and_then(|a| address::split_peer(&a).1.filter(|p| *p != self.me).map(|p| (a, p))) else {
            return self.events.push_back(LinkEvent::Relay { address: text, up: false });
        };
        let new = self.relays.want(peer, text.clone(), parsed);
        self.swarm.behaviour_mut().lanes.keep(peer);
        if new {
            // After what else is to be done now: its other addresses may be among that, and all of them are dialled together.
            self.ticks.push(std::future::ready(Tick::Relay(peer)).boxed());
        } else if self.relays.by_peer.get(&peer).is_some_and(|r| matches!(r.standing, Standing::Up(_))) {
            self.events.push_back(LinkEvent::Relay { address: text, up: true });
        }
    }

    /// A reservation that stands or is asked for lasts as long as its connection: `libp2p-relay` 0.22 panics if the answer to a
    /// reservation (the relay chooses when it comes) arrives after its listener was removed.
    fn drop_relay(&mut self, text: &str) {
        if let Some(peer) = self.relays.drop_address(text) {
            self.swarm.behaviour_mut().lanes.release(peer);
        }
    }

    /// Dials a waiting relay, or asks for the reservation if it is connected already.
    fn connect_relay(&mut self, peer: PeerId) {
        let connected = self.is_direct(&peer);
        let Some(relay) = self.relays.by_peer.get_mut(&peer) else { return };
        if relay.standing != Standing::Waiting {
            return;
        }
        if connected {
            return self.relay_connected(peer);
        }
        let mut addresses = relay.addresses.iter().map(|(_, a)| a.clone()).collect();
        self.config.prefer(&mut addresses);
        self.starts.plan(&peer, &addresses);
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build();
        relay.standing = Standing::Dialling(opts.connection_id());
        if self.swarm.dial(opts).is_err() {
            self.relay_lost(peer);
        }
    }

    fn relay_connected(&mut self, peer: PeerId) {
        let Some(relay) = self.relays.by_peer.get_mut(&peer) else { return };
        if !matches!(relay.standing, Standing::Waiting | Standing::Dialling(_)) {
            return;
        }
        if !self.config.reserve {
            return self.relay_up(peer, None);
        }
        let Some((_, address)) = relay.addresses.first() else { return };
        match self.swarm.listen_on(address.clone().with(Protocol::P2pCircuit)) {
            Ok(id) => relay.standing = Standing::Reserving(id),
            Err(_) => self.relay_lost(peer),
        }
    }

    fn relay_up(&mut self, peer: PeerId, listener: Option<ListenerId>) {
        self.relays.up(peer, listener);
        self.tell_relay(peer, true);
    }

    /// The relay is gone, or refused: say so and try again later.
    fn relay_lost(&mut self, peer: PeerId) {
        let was_up = self.relays.by_peer.get(&peer).is_some_and(|r| matches!(r.standing, Standing::Up(_)));
        let Some(wait) = self.relays.failed(peer) else { return };
        self.ticks.push(Delay::new(wait).map(move |()| Tick::Relay(peer)).boxed());
        if was_up {
            self.tell_relay(peer, false);
        }
    }

    fn tell_relay(&mut self, peer: PeerId, up: bool) {
        if let Some(relay) = self.relays.by_peer.get(&peer) {
            self.events.extend(relay.addresses.iter().map(|(text, _)| LinkEvent::Relay { address: text.clone(), up }));
        }
    }

    // What the swarm says.

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent<X>>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
                if let Some(dial) = self.dials.get_mut(&connection_id) {
                    dial.reached = Some((address::path(&endpoint), endpoint.get_remote_address().to_string()));
                }
                if endpoint.is_dialer() {
                    self.starts.worked(peer_id, endpoint.get_remote_address());
                }
                if !endpoint.is_relayed() {
                    let all = self.direct.entry(peer_id).or_default();
                    // Whoever connects once more may have lost the other connection without a word getting through.
                    let others = all.clone();
                    all.push(connection_id);
                    if !others.is_empty() {
                        self.doubt(others);
                    }
                    self.bridges.remove(&connection_id);
                    self.relay_connected(peer_id);
                    self.relay_reached(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                self.rtt.remove(&connection_id);
                self.doubted.remove(&connection_id);
                if let Some(list) = self.direct.get_mut(&peer_id) {
                    list.retain(|c| *c != connection_id);
                    if list.is_empty() {
                        self.direct.remove(&peer_id);
                        if self.relays.by_peer.get(&peer_id).is_some_and(|r| r.standing != Standing::Waiting) {
                            self.relay_lost(peer_id);
                        }
                    }
                }
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.dial_failed(
                        dial.node,
                        Code::Unreachable,
                        "the connection closed before its lanes were open, or it does not speak the Peerage protocol".into(),
                    );
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(peer = ?peer_id, %error, "dial failed");
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.dial_error(dial, &error);
                }
                if let Some(relay) = self.bridges.remove(&connection_id) {
                    self.relay_failed(relay, &error.to_string());
                }
                if let Some(relay) = self.relays.by_dial(connection_id) {
                    self.relay_lost(relay);
                    self.relay_failed(relay, &error.to_string());
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                if let Some(peer) = self.relays.by_listener(listener_id)
                    && self.relays.by_peer.get(&peer).is_some_and(|r| r.standing == Standing::Reserving(listener_id))
                {
                    self.relay_up(peer, Some(listener_id));
                }
                if self.config.vouch && self.leads_here(&address) && !address::is_circuit(&address) {
                    self.swarm.add_external_address(address.clone());
                }
                if !self.listening.iter().any(|(_, a)| *a == address) {
                    self.listening.push((listener_id, address));
                }
                self.announce_all();
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.listening.retain(|(id, a)| *id != listener_id || *a != address);
                if self.config.vouch {
                    self.swarm.remove_external_address(&address);
                }
                self.tell_addresses();
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                tracing::debug!(?reason, "listener closed");
                self.listening.retain(|(id, _)| *id != listener_id);
                if let Some(peer) = self.relays.by_listener(listener_id) {
                    self.relay_lost(peer);
                }
                self.tell_addresses();
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent<X>) {
        match event {
            BehaviourEvent::Lanes(lanes::Event::Link(event)) => self.events.push_back(event),
            BehaviourEvent::Lanes(lanes::Event::Opened(id)) => {
                self.dials.remove(&id);
                // The first ping is often back before the lanes are open. `Up` is already queued here.
                if let (Some((Some(rtt), _)), Some(link)) = (self.rtt.get(&id).copied(), self.swarm.behaviour().lanes.link(id)) {
                    self.events.push_back(LinkEvent::Rtt { link, rtt });
                }
            }
            BehaviourEvent::Lanes(lanes::Event::Refused(id)) => {
                if let Some(dial) = self.dials.get_mut(&id) {
                    dial.refused = true;
                    self.tell_foreign(id);
                }
            }
            BehaviourEvent::Ping(ping::Event { connection, result, .. }) => self.on_ping(connection, result),
            BehaviourEvent::Extra(event) => self.events.extend((self.observe)(event)),
            BehaviourEvent::Limits(never) | BehaviourEvent::Streams(never) => match never {},
            BehaviourEvent::Identify(_) | BehaviourEvent::Circuit(_) => {}
        }
    }

    fn on_ping(&mut self, connection: ConnectionId, result: Result<Duration, ping::Failure>) {
        let (last, lost) = self.rtt.entry(connection).or_default();
        match result {
            Ok(rtt) => {
                (*last, *lost) = (Some(rtt), 0);
                self.doubted.remove(&connection);
                if let Some(link) = self.swarm.behaviour().lanes.link(connection) {
                    self.events.push_back(LinkEvent::Rtt { link, rtt });
                }
                self.tell_foreign(connection);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(_) => {
                *lost += 1;
                if *lost >= PINGS_LOST {
                    self.swarm.behaviour_mut().lanes.cut(connection);
                }
            }
        }
    }

    /// Ends the dial of a node that has no lanes but answered a ping.
    fn tell_foreign(&mut self, connection: ConnectionId) {
        let Some(&(Some(rtt), _)) = self.rtt.get(&connection) else { return };
        if self.dials.get(&connection).is_some_and(|d| d.refused)
            && let Some(Pending { node, reached: Some((path, address)), .. }) = self.dials.remove(&connection)
        {
            self.events.push_back(LinkEvent::Foreign { node, path, address, rtt });
        }
    }

    /// Tells the driver the addresses, if they changed: the one that others signal, direct ones, then circuits.
    fn tell_addresses(&mut self) {
        let mut all: Vec<Multiaddr> = self.listening.iter().map(|(_, a)| a).chain(&self.external).cloned().collect();
        all.retain(|a| self.external.contains(a) || self.leads_here(a));
        all.sort_by_key(|a| (address::is_circuit(a), address::is_loopback(a), address::reach(a)));
        let mut of_relay: Map<PeerId, usize> = Map::new();
        all.retain(|a| {
            let Some((relay, _)) = address::relay_of(a) else { return true };
            let seen = of_relay.entry(relay).or_default();
            *seen += 1;
            *seen <= CIRCUITS
        });
        let mut told: Vec<String> = Vec::new();
        if self.config.webrtc {
            told.push(Multiaddr::empty().with(Protocol::WebRTC).with(Protocol::P2p(self.me)).to_string());
        }
        for address in all {
            let (head, _) = address::split_peer(&address);
            let circuit = address::is_circuit(&address) && !address::is_webrtc(&address);
            let webrtc = (circuit && self.config.webrtc).then(|| head.clone().with(Protocol::WebRTC));
            for each in webrtc.into_iter().chain([head]) {
                let text = each.with(Protocol::P2p(self.me)).to_string();
                if told.len() < ADDRESSES && !told.contains(&text) {
                    told.push(text);
                }
            }
        }
        if told != self.told {
            self.told.clone_from(&told);
            self.events.push_back(LinkEvent::Addresses(told));
        }
    }
}

/// Transports wrap the operating system's error, some more than once.
fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse || error.to_string().contains("in use")
}
