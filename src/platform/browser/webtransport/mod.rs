//! Dials over WebTransport (<https://www.w3.org/TR/webtransport/>, libp2p specifications, `webtransport`). `libp2p-webtransport-websys`
//! 0.6 keeps its session to itself, and with it the datagrams.

mod api;
mod connection;
mod stream;

use std::collections::HashSet;
use std::io;

use futures::FutureExt;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::multiaddr::Protocol;
use libp2p::multihash::Multihash;
use libp2p::{Multiaddr, PeerId, identity, noise};
use send_wrapper::SendWrapper;

use super::dial::{Dialling, Dials};
use crate::platform::links::address;

pub(super) use connection::Connection;

/// The way; proves the key to those it dials.
pub(super) struct WebTransport(pub(super) identity::Keypair);

/// The certificates that the address names: the browser takes these and no other.
type Hashes = HashSet<Multihash<64>>;

/// The URL and the certificates of a WebTransport address; `None` if it is another one.
fn parse(address: &Multiaddr) -> Option<(String, Hashes)> {
    let mut parts = address.iter();
    let host = address::host(&parts.next()?)?;
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

impl Dials for WebTransport {
    type Output = (PeerId, Connection);

    fn dial(&self, address: &Multiaddr) -> Option<Dialling<Self::Output>> {
        let (url, hashes) = parse(address)?;
        // There is one thread.
        Some(SendWrapper::new(dial(url, hashes, self.0.clone())).boxed())
    }
}
