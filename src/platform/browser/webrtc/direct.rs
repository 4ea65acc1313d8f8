//! Dials a native node over WebRTC-direct, version 1: no signalling; both descriptions are made up here from the address, and
//! a noise handshake on the channel with number 0 proves who is at the other end.

use std::io;
use std::net::SocketAddr;

use futures::FutureExt;
use futures::channel::oneshot;
use libp2p::{Multiaddr, PeerId, identity};
use libp2p_webrtc_utils::{Fingerprint, noise, parse_webrtc_dial_addr};
use wasm_bindgen_futures::spawn_local;
use web_sys::{RtcConfiguration, RtcDataChannelInit, RtcSdpType};

use super::super::dial::{Dialling, Dials};
use super::channel::DataChannel;
use super::connection::{Connection, Peer};
use super::stream::RtcStream;
use super::{DIRECT, TIMEOUT, described, set_local, set_remote, within};

/// The way.
pub(in super::super) struct Direct(identity::Keypair);

impl Direct {
    /// Proves `key` to those it dials.
    pub(in super::super) fn new(key: identity::Keypair) -> Direct {
        Direct(key)
    }
}

impl Dials for Direct {
    type Output = (PeerId, Connection);

    fn dial(&self, address: &Multiaddr) -> Option<Dialling<Self::Output>> {
        let (socket, fingerprint) = parse_webrtc_dial_addr(address).filter(|(s, _)| s.port() != 0 && !s.ip().is_unspecified())?;
        let key = self.0.clone();
        let dial = async move {
            let (mut tell, told) = oneshot::channel();
            spawn_local(async move {
                let work = within(TIMEOUT, "no answer over WebRTC-direct", connect(socket, fingerprint, key)).fuse();
                futures::pin_mut!(work);
                let result = futures::select! {
                    result = work => Some(result),
                    () = tell.cancellation().fuse() => None,
                };
                if let Some(result) = result {
                    // Nobody waits any more: the connection closes with it.
                    drop(tell.send(result));
                }
            });
            told.await.map_err(|_| io::Error::other("the dial ended"))?
        };
        Some(dial.boxed())
    }
}

async fn connect(socket: SocketAddr, remote: Fingerprint, key: identity::Keypair) -> io::Result<(PeerId, Connection)> {
    // The relay's address is all there is to try: no ICE server helps.
    let peer = Peer::new(&RtcConfiguration::new())?;
    let options = RtcDataChannelInit::new();
    options.set_negotiated(true);
    options.set_id(0);
    let channel = DataChannel::new(peer.raw.create_data_channel_with_data_channel_dict("", &options));
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!("libp2p+webrtc+v1/{}", bs58::encode(random).into_string());
    let offer = named(&described(peer.raw.create_offer()).await?, &name);
    let local = fingerprint(&offer).ok_or_else(|| io::Error::other("an offer without a fingerprint"))?;
    set_local(&peer.raw, RtcSdpType::Offer, &offer).await?;
    set_remote(&peer.raw, RtcSdpType::Answer, &answer(socket, remote, &name)).await?;
    let stream = RtcStream::new(channel.clone(), DIRECT);
    let handshake = async { noise::outbound(key, stream, remote, local).await.map_err(io::Error::other) };
    let id = peer.while_alive(handshake).await?;
    Ok((id, Connection::new(peer, DIRECT, Some(channel))))
}

/// The offer with its ICE credentials replaced by the name that the listener will see.
fn named(offer: &str, name: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((key @ ("a=ice-ufrag" | "a=ice-pwd"), _)) => format!("{key}:{name}\r\n"),
        _ => format!("{line}\r\n"),
    };
    offer.lines().filter(|l| !l.is_empty()).map(line).collect()
}

/// What the listener would have answered, by the specification of WebRTC-direct: its address is its only candidate.
/// `libp2p-webrtc-utils` has the same as a template, for the engine of which every page would pay.
fn answer(socket: SocketAddr, fingerprint: Fingerprint, name: &str) -> String {
    let (ip, port, version) = (socket.ip(), socket.port(), if socket.is_ipv4() { "IP4" } else { "IP6" });
    let fingerprint = fingerprint.to_sdp_format();
    format!(
        "v=0\r\no=- 0 0 IN {version} {ip}\r\ns=-\r\nt=0 0\r\na=ice-lite\r\nm=application {port} UDP/DTLS/SCTP webrtc-datachannel\r\n\
         c=IN {version} {ip}\r\na=mid:0\r\na=ice-options:ice2\r\na=ice-ufrag:{name}\r\na=ice-pwd:{name}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:passive\r\na=sctp-port:5000\r\na=max-message-size:16384\r\n\
         a=candidate:1467250027 1 UDP 1467250027 {ip} {port} typ host\r\na=end-of-candidates\r\n"
    )
}

fn fingerprint(description: &str) -> Option<Fingerprint> {
    let text = description.lines().find_map(|l| l.strip_prefix("a=fingerprint:sha-256 "))?;
    let bytes: Option<Vec<u8>> = text.trim().split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    bytes?.try_into().ok().map(Fingerprint::raw)
}
