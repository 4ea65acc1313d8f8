//! WebTransport for rust-libp2p, which has none outside browsers: they connect over HTTP/3 to a node that no certificate authority knows.
//! It follows <https://github.com/libp2p/specs/tree/master/webtransport>, over the crates `wtransport` and `quinn`, and uses nothing of
//! this crate but its errors and its clock's type.
//!
//! An address names the hashes of two certificates, the one served now and the next ([`certificates`]); the change from one to the other
//! disturbs no connection, and an address is good for eleven days at least.

mod certificates;
mod connection;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use futures_timer::Delay;
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, identity, noise};
use wtransport::endpoint::IncomingSessionFuture;
use wtransport::quinn::{self, Runtime};
use wtransport::tls::Sha256Digest;

use crate::base::{Error, Wall};
use certificates::{Certificates, Hash};
pub use connection::Connection;

/// Where the session is asked for.
const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";
/// From the first packet to a connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams that the other side may have open.
const STREAMS: u32 = 256;
/// The same of those with one direction: HTTP/3 has three.
const ONE_WAY: u32 = 8;
/// Bytes on their way to a reader that does not read: of one stream, and of all of a connection.
const WINDOW: (u32, u32) = (1024 * 1024, 4 * 1024 * 1024);
/// Connections that begin while this process looks elsewhere.
const WAITING: usize = 256;
/// Bytes of datagrams that wait to be sent; then the oldest go.
const DATAGRAMS: usize = 16 * 1024;
/// A connection that is silent for so long is gone. libp2p's pings keep it.
const IDLE: Duration = Duration::from_secs(30);

/// Tells the time of certificates.
pub type Clock = Arc<dyn Fn() -> Wall + Send + Sync>;
/// Puts something between the endpoint and its socket.
pub type Wrap = fn(Arc<dyn quinn::AsyncUdpSocket>) -> Arc<dyn quinn::AsyncUdpSocket>;

/// Listens for WebTransport sessions, and begins them.
pub struct WebTransport {
    key: identity::Keypair,
    certificates: Certificates,
    clock: Clock,
    wrap: Wrap,
    bounds: Bounds,
    listeners: Vec<Listener>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
struct Bounds {
    /// Handshakes under way at one listener; from half of it on, a stranger has to show first that it receives what is sent to it.
    under_way: usize,
    /// How often the clock is looked at for whether the next certificate's time has come: wall clocks jump.
    look: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { under_way: 256, look: Duration::from_secs(60) }
    }
}

/// The certificates around one period.
#[derive(Clone)]
struct Served {
    period: u64,
    /// Of the one before, the one served, and the next.
    hashes: [Hash; 3],
}

struct Listener {
    id: ListenerId,
    endpoint: quinn::Endpoint,
    accept: BoxFuture<'static, Option<quinn::Incoming>>,
    port: u16,
    /// Where all interfaces are listened on: which there are.
    interfaces: Option<IfWatcher>,
    /// Where others reach it.
    ips: BTreeSet<IpAddr>,
    served: Served,
    look: Delay,
    under_way: Arc<AtomicUsize>,
    /// Handshakes under way at a time.
    most: usize,
    events: VecDeque<TransportEvent<Upgrade, io::Error>>,
    closed: bool,
}

type Upgrade = BoxFuture<'static, io::Result<(PeerId, Connection)>>;

/// A handshake: under way until it is dropped.
struct Handshake(Arc<AtomicUsize>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WebTransport {
    /// Under this identity, with certificates that follow from `secret` and what `clock` says.
    pub fn new(key: identity::Keypair, secret: &[u8; 32], clock: Clock) -> WebTransport {
        WebTransport {
            key,
            certificates: Certificates::new(secret),
            clock,
            wrap: |socket| socket,
            bounds: Bounds::default(),
            listeners: Vec::new(),
            waker: None,
        }
    }

    /// The same over sockets that `wrap` makes of plain ones: what is no QUIC can be taken out there.
    #[must_use]
    pub fn over(self, wrap: Wrap) -> WebTransport {
        WebTransport { wrap, ..self }
    }

    fn listen(&self, id: ListenerId, socket: SocketAddr) -> Result<Listener, io::Error> {
        let served = served(&self.certificates, self.certificates.period((self.clock)())).map_err(io::Error::other)?;
        let config = config(&self.certificates, served.period).map_err(io::Error::other)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = (self.wrap)(runtime.wrap_udp_socket(std::net::UdpSocket::bind(socket)?)?);
        let mut settings = quinn::EndpointConfig::default();
        // Or what is sent here could not be told from other protocols (RFC 9443).
        settings.grease_quic_bit(false);
        let endpoint = quinn::Endpoint::new_with_abstract_socket(settings, Some(config), socket, runtime)?;
        let bound = endpoint.local_addr()?;
        let interfaces = bound.ip().is_unspecified().then(IfWatcher::new).transpose()?;
        let mut listener = Listener {
            id,
            accept: accept(&endpoint),
            endpoint,
            port: bound.port(),
            interfaces,
            ips: BTreeSet::new(),
            served,
            look: Delay::new(self.bounds.look),
            most: self.bounds.under_way,
            under_way: Arc::default(),
            events: VecDeque::new(),
            closed: false,
        };
        if listener.interfaces.is_none() {
            listener.add(bound.ip());
        }
        Ok(listener)
    }
}

fn accept(endpoint: &quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    let endpoint = endpoint.clone();
    async move { endpoint.accept().await }.boxed()
}

fn served(certificates: &Certificates, period: u64) -> Result<Served, Error> {
    let hash = |n| certificates.get(n).map(|c| c.hash);
    Ok(Served { period, hashes: [hash(period.saturating_sub(1))?, hash(period)?, hash(period + 1)?] })
}

fn config(certificates: &Certificates, period: u64) -> Result<quinn::ServerConfig, Error> {
    let mut config = quinn::ServerConfig::with_crypto(certificates.get(period)?.tls()?);
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(ONE_WAY.into())
        .stream_receive_window(WINDOW.0.into())
        .receive_window(WINDOW.1.into())
        // Datagrams that wait for longer would come late.
        .datagram_send_buffer_size(DATAGRAMS)
        .max_idle_timeout(IDLE.try_into().ok());
    config.transport_config(Arc::new(transport)).max_incoming(WAITING).incoming_buffer_size_total(16 * 1024 * 1024);
    Ok(config)
}

impl Served {
    /// The address as others are told of it: an older one is good for as long as its last certificate is served.
    fn address(&self, ip: IpAddr, port: u16) -> Multiaddr {
        let [_, current, next] = self.hashes;
        address(ip, port).with(Protocol::Certhash(current)).with(Protocol::Certhash(next))
    }
}

fn address(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1).with(Protocol::WebTransport)
}

/// The socket to listen on; `None` for addresses of other transports.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Udp(port), Protocol::QuicV1, Protocol::WebTransport, None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

impl Listener {
    fn add(&mut self, ip: IpAddr) {
        if self.ips.insert(ip) {
            let listen_addr = self.served.address(ip, self.port);
            self.events.push_back(TransportEvent::NewAddress { listener_id: self.id, listen_addr });
        }
    }

    fn remove(&mut self, ip: IpAddr) {
        if self.ips.remove(&ip) {
            let listen_addr = self.served.address(ip, self.port);
            self.events.push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
    }

    /// Serves the certificate of now. Connections go on.
    fn rotate(&mut self, certificates: &Certificates, period: u64) -> Result<(), Error> {
        self.endpoint.set_server_config(Some(config(certificates, period)?));
        let old = std::mem::replace(&mut self.served, served(certificates, period)?);
        for ip in &self.ips {
            let listen_addr = self.served.address(*ip, self.port);
            self.events.push_back(TransportEvent::NewAddress { listener_id: self.id, listen_addr });
            let listen_addr = old.address(*ip, self.port);
            self.events.push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
        Ok(())
    }

    fn close(&mut self, reason: Result<(), io::Error>) {
        if !std::mem::replace(&mut self.closed, true) {
            self.endpoint.close(0u32.into(), b"");
            self.events.push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason });
        }
    }

    /// What came in, if it may begin.
    fn admit(&self, incoming: quinn::Incoming, key: &identity::Keypair) -> Option<Upgrade> {
        let under_way = self.under_way.load(Ordering::Relaxed);
        if under_way >= self.most {
            incoming.refuse();
            return None;
        }
        if under_way >= self.most / 2 && !incoming.remote_address_validated() {
            // Whether it can be answered is for the other side.
            let _ = incoming.retry();
            return None;
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let guard = Handshake(self.under_way.clone());
        let (key, hashes) = (key.clone(), self.served.hashes);
        Some(
            async move {
                let _guard = guard;
                let late = |_| io::Error::from(io::ErrorKind::TimedOut);
                tokio::time::timeout(HANDSHAKE, shake_hands(incoming, &key, hashes)).await.map_err(late)?
            }
            .boxed(),
        )
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (key, certificates, clock, look): (&identity::Keypair, &Certificates, &Clock, Duration),
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if self.closed {
                return Poll::Pending;
            }
            if self.look.poll_unpin(cx).is_ready() {
                self.look.reset(look);
                let period = certificates.period(clock());
                if period != self.served.period
                    && let Err(error) = self.rotate(certificates, period)
                {
                    self.close(Err(io::Error::other(error)));
                }
                continue;
            }
            if let Some(Poll::Ready(Some(event))) = self.interfaces.as_mut().map(|watch| watch.poll_next_unpin(cx)) {
                match event {
                    Ok(IfEvent::Up(net)) if net.addr().is_ipv4() == self.is_ipv4() => self.add(net.addr()),
                    Ok(IfEvent::Down(net)) => self.remove(net.addr()),
                    Ok(IfEvent::Up(_)) => {}
                    Err(error) => self.events.push_back(TransportEvent::ListenerError { listener_id: self.id, error }),
                }
                continue;
            }
            let Poll::Ready(incoming) = self.accept.poll_unpin(cx) else { return Poll::Pending };
            let Some(incoming) = incoming else {
                self.close(Ok(()));
                continue;
            };
            self.accept = accept(&self.endpoint);
            let (local, remote) = (incoming.local_ip(), incoming.remote_address());
            if let Some(upgrade) = self.admit(incoming, key) {
                let ip = local.or_else(|| self.ips.first().copied()).unwrap_or(remote.ip());
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id: self.id,
                    upgrade,
                    local_addr: address(ip, self.port),
                    send_back_addr: address(remote.ip(), remote.port()),
                });
            }
        }
    }

    fn is_ipv4(&self) -> bool {
        self.endpoint.local_addr().is_ok_and(|a| a.is_ipv4())
    }
}

/// Whom to dial: the socket, the certificates it may have, and who it has to be.
struct Target {
    socket: SocketAddr,
    hashes: HashSet<Hash>,
    peer: Option<PeerId>,
}

/// What a whole address names; `None` for those of other transports, and without a hash, which no certificate of ours could be held against.
fn target(address: &Multiaddr) -> Option<Target> {
    let mut head = Multiaddr::empty();
    let (mut hashes, mut peer) = (HashSet::new(), None);
    for part in address {
        match part {
            Protocol::Certhash(hash) if hash.code() == certificates::SHA2_256 => drop(hashes.insert(hash)),
            Protocol::Certhash(_) => {}
            Protocol::P2p(id) if peer.is_none() => peer = Some(id),
            part if peer.is_none() && hashes.is_empty() => head.push(part),
            _ => return None,
        }
    }
    (!hashes.is_empty()).then_some(Target { socket: socket(&head)?, hashes, peer })
}

async fn connect(target: Target, key: &identity::Keypair) -> io::Result<(PeerId, Connection)> {
    let own: SocketAddr = if target.socket.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let digests = target.hashes.iter().filter_map(|h| <[u8; 32]>::try_from(h.digest()).ok()).map(Sha256Digest::new);
    let config = wtransport::ClientConfig::builder().with_bind_address(own).with_server_certificate_hashes(digests).build();
    let endpoint = wtransport::Endpoint::client(config)?;
    let session = endpoint.connect(format!("https://{}{PATH}", target.socket)).await.map_err(io::Error::other)?;
    let stream = connection::join(session.open_bi().await.map_err(io::Error::other)?.await.map_err(io::Error::other)?);
    let noise = noise::Config::new(key).map_err(io::Error::other)?.with_webtransport_certhashes(target.hashes);
    let (peer, handshake) = noise.upgrade_outbound(stream, "/noise").await.map_err(io::Error::other)?;
    if target.peer.is_some_and(|expected| expected != peer) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another node answered"));
    }
    Ok((peer, Connection::new(session, handshake)))
}

/// From a first packet to a session whose other end is known.
async fn shake_hands(incoming: quinn::Incoming, key: &identity::Keypair, hashes: [Hash; 3]) -> io::Result<(PeerId, Connection)> {
    let request = IncomingSessionFuture::with_quic_incoming(incoming).await.map_err(io::Error::other)?;
    if request.path() != PATH {
        request.not_found().await;
        return Err(io::Error::new(io::ErrorKind::NotFound, "it asks for something else than libp2p"));
    }
    let session = request.accept().await.map_err(io::Error::other)?;
    let stream = connection::join(session.accept_bi().await.map_err(io::Error::other)?);
    let noise = noise::Config::new(key).map_err(io::Error::other)?.with_webtransport_certhashes(HashSet::from(hashes));
    // Not negotiated: the path says that it is Noise.
    let (peer, handshake) = noise.upgrade_inbound(stream, "/noise").await.map_err(io::Error::other)?;
    Ok((peer, Connection::new(session, handshake)))
}

impl Transport for WebTransport {
    type Output = (PeerId, Connection);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let socket = socket(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let listener = self.listen(id, socket).map_err(TransportError::Other)?;
        self.listeners.push(listener);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let found = self.listeners.iter_mut().find(|l| l.id == id && !l.closed);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        found.map(|l| l.close(Ok(()))).is_some()
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match target(&address) {
            Some(target) if !options.role.is_listener() => {
                let key = self.key.clone();
                let late = |_| io::Error::from(io::ErrorKind::TimedOut);
                Ok(async move { tokio::time::timeout(HANDSHAKE, connect(target, &key)).await.map_err(late)? }.boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, io::Error>> {
        let WebTransport { key, certificates, clock, bounds, listeners, waker, .. } = &mut *self;
        for listener in listeners.iter_mut() {
            if let Poll::Ready(event) = listener.poll(cx, (key, certificates, clock, bounds.look)) {
                return Poll::Ready(event);
            }
        }
        listeners.retain(|l| !l.closed);
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
