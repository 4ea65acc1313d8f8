//! The native platform: tokio, and QUIC, TCP, WebSocket, WebTransport, WebRTC-direct and circuits.

mod count;
mod datagram;
pub mod objects;
mod record;
mod rtc;
pub mod server;
pub mod store;
mod stun;
mod tcp;
pub mod webtransport;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, Transport, dns, identity, quic, relay, websocket};
use libp2p_webrtc::tokio as webrtc;

use super::links::{self, Links, LinksConfig, Upgraded, datagrams::Datagrams, streams::LinkStreams};
use crate::base::{Code, Error, Mono, Now, Rng, Wall};
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, LinkCommand, LinkEvent, Peer};
use crate::runtime::{self, driver::Driver, handle::Node, port::Platform};
pub use count::Traffic;
use count::Watch;
pub use record::RECORDING;
pub use server::{RelayLimits, Served};
pub use tcp::TlsFiles;
use tcp::{Ports, Speaks, Wss, is_wss};
use webtransport::WebTransport;

/// The largest WebSocket message taken, bytes. Noise frames have at most 64 KiB; a sender may pack several.
const WS_MESSAGE: usize = 1024 * 1024;

/// What is written to a WebRTC-direct stream at once, bytes: one message with its framing.
const RTC_WRITE: usize = links::RTC_DIRECT_MESSAGE - 192;

/// Chooses the TLS library's cryptography, once per process. QUIC, WebSocket and WebRTC bring two, and rustls, left to
/// choose between them, panics inside the first DTLS handshake. Harmless to call again.
pub fn install_crypto() {
    // An error says that one is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A certificate for WebRTC-direct as PEM text with its private key. Keep it: its hash is part of every address told to
/// others.
///
/// # Errors
/// [`Code::Unsupported`] if none can be made.
pub fn make_certificate() -> Result<String, Error> {
    fresh_certificate().map(|c| c.serialize_pem())
}

fn fresh_certificate() -> Result<webrtc::Certificate, Error> {
    install_crypto();
    let failed = |e| Error::new(Code::Unsupported, "no WebRTC certificate could be made").caused_by(e);
    webrtc::Certificate::generate(&mut entropy()?).map_err(failed)
}

/// A generator seeded by the operating system.
///
/// # Errors
/// [`Code::Unsupported`] if the system gives no entropy.
pub fn entropy() -> Result<Rng, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| Error::new(Code::Unsupported, "no entropy from the system").caused_by(e.to_string()))?;
    Ok(Rng::from_seed(seed))
}

/// What a native platform is to do. The default listens nowhere.
#[derive(Clone, Debug, Default)]
pub struct NativeConfig {
    /// Addresses to listen on, such as `/ip4/127.0.0.1/udp/4001/quic-v1`, `/ip4/…/tcp/4001`, `/ip4/…/tcp/4002/ws`,
    /// `/ip4/…/udp/4002/quic-v1/webtransport`, `/ip4/…/udp/4003/webrtc-direct`. Port 0 takes a free one. `tcp`, `ws` and `tls/ws` may
    /// share a port.
    pub listen: Vec<String>,
    /// The certificate for addresses that end in `/tls/ws`.
    pub tls: Option<TlsFiles>,
    /// Addresses at which others reach this node, where they are not those it listens on (behind a port forwarding).
    pub announce: Vec<String>,
    /// Hold a reservation on every relay in use: for nodes that nobody can dial.
    pub reserve: bool,
    /// The WebRTC-direct certificate, as [`make_certificate`] gives it. Without one a fresh one is made at each start.
    pub certificate: Option<String>,
    /// Serve circuits to others within these limits.
    pub serve: Option<RelayLimits>,
    /// A file to make, in which every byte received on any stream is written down, at most [`RECORDING`] bytes: a diagnosis
    /// for those who check what this process could read. It costs time and holds no secret that the process does not get anyway.
    pub record: Option<PathBuf>,
}

/// Links on tokio, with the machine's clocks. Create it inside a tokio runtime.
pub struct NativePlatform {
    links: Links<Toggle<relay::Behaviour>>,
    traffic: Arc<Traffic>,
    served: Arc<Served>,
}

/// Both of the machine's clocks, read now. The monotonic one starts with its first reading in this process.
#[must_use]
pub fn clock() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
    Now { mono: Mono(millis(START.get_or_init(Instant::now).elapsed())), wall: Wall(wall) }
}

impl NativePlatform {
    /// Starts listening.
    ///
    /// # Errors
    /// [`Code::AddressInUse`] for a taken port, [`Code::BadArgument`] for an address or certificate that does not parse, or an address
    /// that lacks a certificate, [`Code::Unsupported`] for an address no transport listens on, [`Code::Storage`] if the recording cannot
    /// be made or a certificate cannot be read.
    pub fn new(key: &SigningKey, config: &NativeConfig) -> Result<NativePlatform, Error> {
        install_crypto();
        let mut seed = key.seed();
        let secret = seed.clone();
        let key = identity::Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .map_err(|e| Error::new(Code::BadArgument, "not an Ed25519 key").caused_by(e))?;
        let traffic = Arc::new(Traffic::default());
        let (circuit, client) = links::circuit(&key)?;
        let certificate = match &config.certificate {
            Some(pem) => webrtc::Certificate::from_pem(pem)
                .map_err(|e| Error::new(Code::BadArgument, "the WebRTC certificate does not parse").caused_by(e))?,
            None => fresh_certificate()?,
        };
        let recorder = config.record.as_deref().map(|path| record::Recorder::create(path, RECORDING)).transpose()?.map(Arc::new);
        let watch = Watch { traffic: Some(traffic.clone()), recorder, most: None };
        let session = WebTransport::new(key.clone(), &secret, Arc::new(|| clock().wall)).over(stun::answering);
        let datagrams = Datagrams::default();
        let listen = config.listen.iter().map(|text| parse(text)).collect::<Result<Vec<Multiaddr>, Error>>()?;
        if let Some(address) = listen.iter().find(|a| is_wss(a) && config.tls.is_none()) {
            return Err(Error::new(Code::BadArgument, format!("{address} takes a certificate"))
                .hint("Name its files: --tls-certificate fullchain.pem --tls-key privkey.pem"));
        }
        // Where nobody listens on it, its files may be somebody else's.
        let tls = config.tls.as_ref().filter(|_| listen.iter().any(is_wss));
        let ports = Ports::new(tls.map(tcp::acceptor).transpose()?);
        let transport = transports(&key, &ports, session, certificate, circuit, &watch, datagrams.clone())?;
        let served = Arc::new(Served::default());
        let server = config.serve.as_ref().map(|limits| relay::Behaviour::new(key.public().to_peer_id(), limits.config()));
        let agent = concat!("peerage/", env!("CARGO_PKG_VERSION")).into();
        let setup = LinksConfig {
            reserve: config.reserve,
            webrtc: false,
            vouch: config.serve.is_some(),
            usable,
            last_resort: rtc::is_last_resort,
            agent,
            datagrams,
        };
        let hears = served.clone();
        let executor = libp2p::swarm::Config::with_tokio_executor();
        let mut links = Links::new(&key, transport, client, executor, setup, entropy()?, Toggle::from(server), move |event| {
            hears.on_event(&event);
            None
        });
        for address in listen {
            links.listen(address)?;
        }
        for text in &config.announce {
            links.announce(parse(text)?);
        }
        Ok(NativePlatform { links, traffic, served })
    }

    /// Opens and takes streams of the data protocol.
    #[must_use]
    pub fn streams(&self) -> LinkStreams {
        self.links.streams()
    }

    /// Bytes over all connections.
    #[must_use]
    pub fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// What the circuit server did, if there is one.
    #[must_use]
    pub fn served(&self) -> Arc<Served> {
        self.served.clone()
    }
}

/// Starts a node on this platform. It does nothing until the driver runs.
///
/// # Errors
/// As [`NativePlatform::new`].
pub fn start(key: SigningKey, config: &NativeConfig, peer: Config) -> Result<(Node, Driver<NativePlatform>), Error> {
    let platform = NativePlatform::new(&key, config)?;
    Ok(start_on(platform, key, peer, entropy()?.bytes()))
}

/// As [`start`], on a platform whose counters somebody looks at.
pub fn start_on(platform: NativePlatform, key: SigningKey, peer: Config, seed: [u8; 32]) -> (Node, Driver<NativePlatform>) {
    runtime::start(Peer::new(peer, key, seed), platform, clock)
}

impl Platform for NativePlatform {
    fn now(&self) -> Now {
        clock()
    }

    fn command(&mut self, command: LinkCommand) {
        self.links.command(command);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        let event = self.links.poll_event(cx);
        self.served.set_connections(self.links.connections());
        event
    }
}

fn parse(text: &str) -> Result<Multiaddr, Error> {
    text.parse().map_err(|e: libp2p::multiaddr::Error| {
        Error::new(Code::BadArgument, format!("{text} is no multiaddr")).hint("It looks like /ip4/127.0.0.1/tcp/4001").caused_by(e)
    })
}

/// Every transport of this platform behind one face. Circuits are not counted: their bytes are those of other streams. They are
/// recorded, because only their ends can read them.
fn transports(
    key: &identity::Keypair,
    ports: &Ports,
    session: WebTransport,
    certificate: webrtc::Certificate,
    circuit: Boxed<Upgraded>,
    watch: &Watch,
    datagrams: Datagrams,
) -> Result<Boxed<Upgraded>, Error> {
    let unnamed = |e| Error::new(Code::Unsupported, "no name resolution").caused_by(e);
    let plain = links::secure(ports.face(Speaks::Libp2p), key, links::AHEAD)?;
    let mut web = websocket::Config::new(ports.face(Speaks::WebSocket));
    web.set_max_data_size(WS_MESSAGE);
    let web = links::secure(web, key, links::AHEAD)?;
    // It resolves names itself: the certificate is for the name.
    let mut wss = websocket::Config::new(dns::tokio::Transport::system(ports.face(Speaks::Tls)).map_err(unnamed)?);
    wss.set_max_data_size(WS_MESSAGE).set_tls_config(trust());
    let wss = links::secure(Wss(wss), key, links::AHEAD)?;
    let quic = quic::tokio::Transport::new(quic::Config::new(key)).map(|(peer, c), _| (peer, StreamMuxerBox::new(c))).boxed();
    let session = session.map(move |(peer, c), _| {
        datagram::join(peer, c.session(), &datagrams);
        (peer, StreamMuxerBox::new(c))
    });
    let session = session.boxed();
    let rtc = rtc::Admitting::new(webrtc::Transport::new(key.clone(), certificate))
        .map(|(peer, c), _| (peer, StreamMuxerBox::new(rtc::Closing::new(c))))
        .boxed();
    let watched = |transport: Boxed<Upgraded>, watch: Watch| transport.map(move |(peer, muxer), _| (peer, watch.wrap(muxer))).boxed();
    let all = any(
        watched(any(any(web, plain), any(session, quic)), watch.clone()),
        watched(rtc, Watch { most: Some(RTC_WRITE), ..watch.clone() }),
    );
    let named = dns::tokio::Transport::system(all).map_err(unnamed)?;
    let named = any(watched(wss, watch.clone()), named.boxed());
    Ok(any(watched(circuit, Watch { traffic: None, ..watch.clone() }), named))
}

/// Whom to believe when a server shows a certificate: Mozilla's list, and what the machine's owner trusts (`SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, where they are set). It keeps strangers from the connection, no more: who a node is, its own key says.
fn trust() -> websocket::tls::Config {
    let mut config = websocket::tls::Config::builder();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that rustls cannot read is not trusted.
        let _ = config.add_trust(&websocket::tls::Certificate::new(certificate.to_vec()));
    }
    config.finish()
}

fn any(first: Boxed<Upgraded>, second: Boxed<Upgraded>) -> Boxed<Upgraded> {
    OrTransport::new(first, second).map(|either, _| either.into_inner()).boxed()
}

/// Can these transports dial the address?
fn usable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = parts
        .next()
        .is_some_and(|p| matches!(p, Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)));
    let rest: Vec<Protocol<'_>> = parts.filter(|p| !matches!(p, Protocol::P2p(_))).collect();
    host && matches!(
        rest.as_slice(),
        [Protocol::Tcp(_)]
            | [Protocol::Tcp(_), Protocol::Ws(_) | Protocol::Wss(_)]
            | [Protocol::Tcp(_), Protocol::Tls, Protocol::Ws(_)]
            | [Protocol::Udp(_), Protocol::QuicV1]
            | [Protocol::Udp(_), Protocol::WebRTCDirect, Protocol::Certhash(_)]
            | [Protocol::Udp(_), Protocol::QuicV1, Protocol::WebTransport, Protocol::Certhash(_), ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_these_transports_are_dialled() {
        for yes in [
            "/ip4/127.0.0.1/tcp/1",
            "/dns4/localhost/tcp/1/ws",
            "/ip6/::1/udp/1/quic-v1",
            "/dns4/localhost/tcp/1/wss",
            "/dns4/localhost/tcp/1/tls/ws",
        ] {
            assert!(usable(&yes.parse().unwrap()), "{yes}");
        }
        for no in ["/webrtc", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/tls", "/ip4/127.0.0.1/udp/1/webrtc-direct", "/memory/1"] {
            assert!(!usable(&no.parse().unwrap()), "{no}");
        }
    }
}
