//! Dials over WebTransport (<https://www.w3.org/TR/webtransport/>, libp2p specifications, `webtransport`). `libp2p-webtransport-websys`
//! 0.6 keeps its session to itself, and with it the datagrams.

mod api;
mod connection;
mod stream;

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::UpgradeInfo;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::multiaddr::Protocol;
use libp2p::multihash::Multihash;
use libp2p::{Multiaddr, PeerId, Transport, identity, noise};
use send_wrapper::SendWrapper;

pub(super) use connection::Connection;

/// The transport: dials, never listens.
pub(super) struct WebTransport {
    key: identity::Keypair,
}

impl WebTransport {
    pub(super) fn new(key: &identity::Keypair) -> WebTransport {
        WebTransport { key: key.clone() }
    }
}

/// The certificates that the address names: the browser takes these and no other.
type Hashes = HashSet<Multihash<64>>;

/// The URL and the certificates of a WebTransport address; `None` if it is another one.
fn parse(address: &Multiaddr) -> Option<(String, Hashes)> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    let (Protocol::Udp(port), Protocol::QuicV1, Protocol::WebTransport) = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let mut hashes = Hashes::new();
    for part in parts {
        match part {
            Protocol::Certhash(hash) => drop(hashes.insert(hash)),
            Protocol::P2p(_) => {}
            _ => return None,
        }
    }
    Some((format!("https://{host}:{port}/.well-known/libp2p-webtransport?type=noise"), hashes))
}

async fn dial(url: String, hashes: Hashes, key: identity::Keypair) -> io::Result<(PeerId, Connection)> {
    let mut connection = Connection::open(&url, &hashes).await?;
    let mut config = noise::Config::new(&key).map_err(io::Error::other)?;
    if !hashes.is_empty() {
        config = config.with_webtransport_certhashes(hashes);
    }
    // Without multistream-select, as the specification has it.
    let info = config.protocol_info().next().unwrap_or_default();
    let stream = connection.stream().await?;
    let (peer, handshake) = config.upgrade_outbound(stream, info).await.map_err(io::Error::other)?;
    connection.keep(handshake);
    Ok((peer, connection))
}

impl Transport for WebTransport {
    type Output = (PeerId, Connection);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let (url, hashes) = parse(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        // There is one thread.
        Ok(SendWrapper::new(dial(url, hashes, self.key.clone())).boxed())
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
