//! The browser platform: WebSocket, WebTransport, WebRTC-direct, circuits, and WebRTC from browser to browser.

mod dial;
mod inbox;
mod store;
mod webrtc;
mod websocket;
mod webtransport;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use js_sys::Reflect;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, Transport, identity};
use wasm_bindgen::{JsCast, JsValue};
use zeroize::Zeroizing;

use super::links::{self, Links, LinksConfig, Upgraded, address, datagrams::Datagrams, streams::LinkStreams};
use crate::base::{Code, Error, Mono, Now, Rng, Wall};
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, LinkCommand, LinkEvent, Peer, saved};
use crate::runtime::store::{IDENTITY, Store as _};
use crate::runtime::{self, handle::Node, keeper::Keeper, port::Platform};
use dial::Dialler;
pub use store::{BrowserStore, JsStore};
use webrtc::{configuration::Configuration, direct, private, signaling};
use webtransport::WebTransport;

/// From the first packet of a WebTransport session to its connection: browsers alone wait for longer where UDP is blocked.
const SESSION: Duration = Duration::from_secs(10);

/// Links in a page or a worker, with the browser's clocks. A worker without WebRTC has WebSocket and circuits.
pub struct BrowserPlatform {
    links: Links<Toggle<signaling::Behaviour>>,
    /// For connections from browser to browser.
    rtc: Arc<Configuration>,
}

/// Both of the browser's clocks, read now. The monotonic one starts with the page.
#[must_use]
pub fn clock() -> Now {
    thread_local! {
        static PERFORMANCE: Option<web_sys::Performance> = Reflect::get(&js_sys::global(), &JsValue::from_str("performance"))
            .ok()
            .filter(JsValue::is_object)
            .map(JsCast::unchecked_into);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds, not negative, far below 2^53")]
    let millis = |ms: f64| ms.max(0.0) as u64;
    let wall = js_sys::Date::now();
    let mono = PERFORMANCE.with(|p| p.as_ref().map_or(wall, web_sys::Performance::now));
    Now { mono: Mono(millis(mono)), wall: Wall(millis(wall)) }
}

/// A generator seeded by the browser.
///
/// # Errors
/// [`Code::Unsupported`] if it gives no entropy.
pub fn entropy() -> Result<Rng, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| Error::new(Code::Unsupported, "no entropy from the browser").caused_by(e.to_string()))?;
    Ok(Rng::from_seed(seed))
}

/// A running node, and what it keeps and opens.
pub struct Started {
    /// The node.
    pub node: Node,
    /// Keeps its domains.
    pub keeper: Keeper<BrowserStore>,
    /// The store of both.
    pub store: BrowserStore,
    /// Streams to other nodes.
    pub streams: LinkStreams,
}

/// Starts a node with the identity in the store, made and stored if there is none, and runs it on the page's event loop. No two
/// nodes may run on one store at once: that is for the caller to see to. `rtc`: as in [`BrowserPlatform::new`].
///
/// # Errors
/// As [`BrowserPlatform::new`]; [`Code::Storage`], also for an identity that cannot be read: it is not replaced.
pub async fn start(records: JsStore, key: Zeroizing<[u8; 32]>, rtc: &str) -> Result<Started, Error> {
    let mut rng = entropy()?;
    let store = BrowserStore::new(records, key, rng.fork("store"));
    let key = match store.get(IDENTITY).await? {
        Some(record) => saved::decode_identity(&record)?,
        None => {
            let key = SigningKey::generate(&mut rng);
            store.write(vec![(IDENTITY.to_owned(), Some(saved::encode_identity(&key)))]).await?;
            key
        }
    };
    let platform = BrowserPlatform::new(&key, rtc)?;
    let streams = platform.links.streams();
    let config = Config { webrtc: webrtc::is_available(), ..Config::browser() };
    let (node, driver) = runtime::start(Peer::new(config, key, rng.bytes()), platform, clock);
    wasm_bindgen_futures::spawn_local(driver);
    let keeper = Keeper::new(node.clone(), store.clone());
    wasm_bindgen_futures::spawn_local(keeper.clone().run());
    Ok(Started { node, keeper, store, streams })
}

impl BrowserPlatform {
    /// Links under this identity; reachable through every relay they are told to use. `configuration`: an `RTCConfiguration` as JSON,
    /// for connections from browser to browser. Without `iceServers` in it the relays are asked.
    ///
    /// # Errors
    /// [`Code::Unsupported`] without entropy.
    pub fn new(key: &SigningKey, configuration: &str) -> Result<BrowserPlatform, Error> {
        let mut seed = key.seed();
        let key = identity::Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .map_err(|e| Error::new(Code::BadArgument, "not an Ed25519 key").caused_by(e))?;
        let rtc = webrtc::is_available();
        let (circuit, client) = links::circuit(&key)?;
        let settings = Arc::new(Configuration::new(configuration));
        let datagrams = Datagrams::default();
        let (transport, signals) = transports(&key, circuit, rtc.then(|| settings.clone()), datagrams.clone())?;
        let agent = concat!("peerage/", env!("CARGO_PKG_VERSION"), " (browser)").into();
        let usable = if rtc { usable } else { usable_without_rtc };
        let setup = LinksConfig { reserve: true, webrtc: rtc, vouch: false, usable, last_resort: |_| false, agent, datagrams };
        let executor = libp2p::swarm::Config::with_executor(wasm_bindgen_futures::spawn_local);
        let mut links = Links::new(&key, transport, client, executor, setup, entropy()?, Toggle::from(signals), carried);
        if rtc {
            links.listen(private::listen_address())?;
        }
        Ok(BrowserPlatform { links, rtc: settings })
    }
}

impl Platform for BrowserPlatform {
    fn now(&self) -> Now {
        clock()
    }

    fn command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Signal { node, message } => {
                if let (Some(signals), Some(peer)) = (self.links.extra_mut().as_mut(), address::peer_id(node)) {
                    signals.heard(peer, &message);
                }
            }
            other => {
                match &other {
                    LinkCommand::UseRelay { address } => self.rtc.add(address),
                    LinkCommand::DropRelay { address } => self.rtc.remove(address),
                    _ => {}
                }
                self.links.command(other);
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        self.links.poll_event(cx)
    }
}

/// A signal, for the driver to have carried.
fn carried(signal: signaling::Signal) -> Option<LinkEvent> {
    address::node_id(&signal.peer).map(|node| LinkEvent::Signal { node, message: signal.message })
}

/// Every transport of this platform behind one face, and the signalling that one of them needs.
fn transports(
    key: &identity::Keypair,
    circuit: Boxed<Upgraded>,
    rtc: Option<Arc<Configuration>>,
    datagrams: Datagrams,
) -> Result<(Boxed<Upgraded>, Option<signaling::Behaviour>), Error> {
    let own = datagrams.clone();
    let session = Dialler(WebTransport(key.clone())).map(move |(peer, c), _| {
        c.join(peer, &own);
        (peer, StreamMuxerBox::new(c))
    });
    let web = any(TransportTimeout::new(session, SESSION).boxed(), links::secure(Dialler(websocket::WebSockets), key, links::AHEAD)?);
    let Some(rtc) = rtc else { return Ok((any(circuit, web), None)) };
    let (private, signals) = private::new(rtc);
    let private = private.map(move |(peer, c), _| {
        c.join(peer, &datagrams);
        (peer, StreamMuxerBox::new(c))
    });
    let private = private.boxed();
    let direct = Dialler(direct::Direct::new(key.clone())).map(|(peer, c), _| (peer, StreamMuxerBox::new(c))).boxed();
    // `/webrtc` before the circuits, which would take its addresses for theirs.
    Ok((any(private, any(circuit, any(direct, web))), Some(signals)))
}

fn any(first: Boxed<Upgraded>, second: Boxed<Upgraded>) -> Boxed<Upgraded> {
    OrTransport::new(first, second).map(|either, _| either.into_inner()).boxed()
}

/// Can these transports dial the address?
fn usable(address: &Multiaddr) -> bool {
    let rest: Vec<Protocol<'_>> = address.iter().filter(|p| !matches!(p, Protocol::P2p(_))).collect();
    usable_without_rtc(address)
        || matches!(rest.as_slice(), [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::WebRTCDirect, Protocol::Certhash(_)])
}

fn usable_without_rtc(address: &Multiaddr) -> bool {
    websocket::url(address).is_some_and(|url| url.starts_with("wss:") || !is_https() || is_this_machine(address))
        || (is_webtransport(address) && has_webtransport())
}

/// Whether the page came over `https`: then the browser opens no `ws:` but to the machine itself, and complains of each
/// (<https://www.w3.org/TR/mixed-content/>).
fn is_https() -> bool {
    let location = Reflect::get(&js_sys::global(), &JsValue::from_str("location"));
    let protocol = location.and_then(|location| Reflect::get(&location, &JsValue::from_str("protocol")));
    protocol.is_ok_and(|protocol| protocol.as_string().as_deref() == Some("https:"))
}

fn is_this_machine(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => name == "localhost",
        _ => false,
    }
}

fn is_webtransport(address: &Multiaddr) -> bool {
    let rest: Vec<Protocol<'_>> = address.iter().filter(|p| !matches!(p, Protocol::P2p(_) | Protocol::Certhash(_))).collect();
    matches!(rest.as_slice(), [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1, Protocol::WebTransport])
}

/// Whether this browser has it, and here: pages that are neither `https` nor of this machine do not.
fn has_webtransport() -> bool {
    Reflect::has(&js_sys::global(), &JsValue::from_str("WebTransport")).unwrap_or(false)
}
