//! Node ids as libp2p's `PeerId`, and what a multiaddr says about a path.

use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, core::ConnectedPoint};

use crate::base::NodeId;
use crate::peer::Path;

/// The `PeerId` of a node. `None` only for a node id whose 32 bytes no multihash can hold, which does not exist.
pub fn peer_id(node: NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&node.to_peer_id_bytes()).ok()
}

/// The node behind a `PeerId`; `None` for keys other than Ed25519 (foreign libp2p nodes).
pub fn node_id(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_peer_id_bytes(&peer.to_bytes()).ok()
}

/// The address without a final `/p2p/<id>`, and that id.
pub fn split_peer(address: &Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut head = address.clone();
    match head.pop() {
        Some(Protocol::P2p(peer)) => (head, Some(peer)),
        _ => (address.clone(), None),
    }
}

/// Does the address lead through a relay at all (signalling included)?
pub fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|p| p == Protocol::P2pCircuit)
}

/// Is it a browser-to-browser address (`…/webrtc/…`), whose circuit carries only the signalling?
pub fn is_webrtc(address: &Multiaddr) -> bool {
    address.iter().any(|p| p == Protocol::WebRTC)
}

/// Is it `/webrtc/p2p/<node>`, signalled by whoever is linked to both?
pub fn is_signalled(address: &Multiaddr) -> bool {
    address.iter().next() == Some(Protocol::WebRTC)
}

/// The relay before `/p2p-circuit`: its id and its own address, `/p2p/<relay>` included.
pub fn relay_of(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let head: Multiaddr = address.iter().take_while(|p| *p != Protocol::P2pCircuit).collect();
    if head.len() == address.len() {
        return None;
    }
    split_peer(&head).1.map(|relay| (relay, head))
}

/// Can another machine be expected to dial this listen address? Wildcards and IPv6 link-local addresses (which need a
/// zone) cannot; a bare `/webrtc` has nothing to dial.
pub fn is_dialable(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
        _ => false,
    }
}

/// The address with the certificate hashes of the first of these that goes by the same transport, if it is one that needs some and
/// has none. `None` if there are none yet.
pub fn with_hashes<'a>(address: &Multiaddr, listening: impl Iterator<Item = &'a Multiaddr>) -> Option<Multiaddr> {
    let needs = |p: &Protocol<'_>| matches!(p, Protocol::WebTransport | Protocol::WebRTCDirect);
    let is_hash = |p: &Protocol<'_>| matches!(p, Protocol::Certhash(_));
    let Some(transport) = address.iter().find(needs).filter(|_| !address.iter().any(|p| is_hash(&p))) else { return Some(address.clone()) };
    let (head, peer) = split_peer(address);
    let mut same = listening.filter(|a| !is_circuit(a) && a.iter().any(|p| p == transport));
    let whole = same.next()?.iter().filter(is_hash).fold(head, Multiaddr::with);
    Some(peer.into_iter().map(Protocol::P2p).fold(whole, Multiaddr::with))
}

/// The host as URLs have it, if it is one.
pub fn host(part: &Protocol<'_>) -> Option<String> {
    match part {
        Protocol::Ip4(ip) => Some(ip.to_string()),
        Protocol::Ip6(ip) => Some(format!("[{ip}]")),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.to_string()),
        _ => None,
    }
}

/// Spoken in TLS, as a certificate authority knows it?
pub fn is_tls(address: &Multiaddr) -> bool {
    address.iter().any(|p| matches!(p, Protocol::Tls | Protocol::Wss(_)))
}

/// Only for this machine?
pub fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// How many others can dial it, or the relay it begins with; fewer for larger numbers.
pub fn reach(address: &Multiaddr) -> u8 {
    let speaks = |what: fn(&Protocol<'_>) -> bool| address.iter().take_while(|p| *p != Protocol::P2pCircuit).any(|p| what(&p));
    if speaks(|p| matches!(p, Protocol::Ws(_) | Protocol::Wss(_))) {
        0
    } else if speaks(|p| matches!(p, Protocol::WebTransport)) {
        1
    } else if speaks(|p| matches!(p, Protocol::WebRTCDirect)) {
        2
    } else {
        3
    }
}

/// Whether connections of this kind carry datagrams: WebTransport, and WebRTC between browsers.
pub fn has_datagrams(point: &ConnectedPoint) -> bool {
    let carries = |a: &Multiaddr| a.iter().any(|p| matches!(p, Protocol::WebTransport | Protocol::WebRTC));
    path(point) == Path::Direct
        && match point {
            ConnectedPoint::Dialer { address, .. } => carries(address),
            ConnectedPoint::Listener { local_addr, .. } => carries(local_addr),
        }
}

/// A way to a node without another one in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// QUIC, and WebTransport on it.
    Quic,
    /// TCP.
    Tcp,
    /// WebSocket.
    WebSocket,
    /// WebRTC-direct.
    WebRtcDirect,
}

impl Way {
    /// All, the best first: by one round trip less to the first frame, or by what it carries.
    pub const ALL: [Way; 4] = [Way::Quic, Way::Tcp, Way::WebSocket, Way::WebRtcDirect];
}

/// By which way an address leads; none for circuits, and for what is signalled.
pub fn way(address: &Multiaddr) -> Option<Way> {
    let speaks = |what: fn(&Protocol<'_>) -> bool| address.iter().any(|p| what(&p));
    if is_circuit(address) || is_webrtc(address) {
        None
    } else if speaks(|p| matches!(p, Protocol::QuicV1)) {
        Some(Way::Quic)
    } else if speaks(|p| matches!(p, Protocol::Ws(_) | Protocol::Wss(_))) {
        Some(Way::WebSocket)
    } else if speaks(|p| matches!(p, Protocol::WebRTCDirect)) {
        Some(Way::WebRtcDirect)
    } else {
        speaks(|p| matches!(p, Protocol::Tcp(_))).then_some(Way::Tcp)
    }
}

/// How a connection goes: relayed if its frames pass a circuit, which on `/webrtc` only the signalling does.
pub fn path(point: &ConnectedPoint) -> Path {
    let address = match point {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } => local_addr,
    };
    if is_circuit(address) && !is_webrtc(address) && !is_webrtc(point.get_remote_address()) { Path::Relayed } else { Path::Direct }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuit_addresses_are_taken_apart() {
        let relay = "/ip4/127.0.0.1/tcp/1/ws/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
        let me = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        let circuit: Multiaddr = format!("{relay}/p2p-circuit/webrtc/p2p/{me}").parse().unwrap();
        let (peer, head) = relay_of(&circuit).unwrap();
        assert_eq!(head.to_string(), relay);
        assert_eq!(split_peer(&head).1, Some(peer));
        assert_eq!(split_peer(&circuit).1, Some(me.parse().unwrap()));
        assert!(is_circuit(&circuit) && is_webrtc(&circuit) && is_dialable(&circuit));
        assert!(relay_of(&head).is_none());
        assert!(!is_dialable(&"/webrtc".parse().unwrap()) && !is_dialable(&"/ip4/0.0.0.0/tcp/1".parse().unwrap()));
        let hash = "certhash/uEiDPRFTJoPwIOFIsNo7Ec9MQKZQ-xRA0C7u0MynBlzDcQA";
        let listening: [Multiaddr; 2] =
            [format!("/ip4/10.0.0.1/udp/1/quic-v1/webtransport/{hash}/{hash}"), "/ip4/10.0.0.1/tcp/1".to_string()]
                .map(|a| a.parse().unwrap());
        let announced = |text: &str| with_hashes(&text.parse().unwrap(), listening.iter()).map(|a| a.to_string());
        assert_eq!(announced("/ip4/192.0.2.1/tcp/5").unwrap(), "/ip4/192.0.2.1/tcp/5");
        let (bare, whole) =
            ("/dns4/example.org/udp/5/quic-v1/webtransport", format!("/dns4/example.org/udp/5/quic-v1/webtransport/{hash}/{hash}"));
        assert_eq!(announced(bare).unwrap(), whole);
        assert_eq!(announced(&whole).unwrap(), whole);
        assert_eq!(announced(&format!("{bare}/p2p/{me}")).unwrap(), format!("{whole}/p2p/{me}"));
        assert_eq!(announced("/ip4/192.0.2.1/udp/5/webrtc-direct"), None, "no certificate of that kind yet");
        let dialable = |text: &str| reach(&format!("{text}/p2p/{me}/p2p-circuit").parse().unwrap());
        let ways = [
            "/ip4/192.0.2.1/tcp/1/ws",
            "/ip4/192.0.2.1/udp/1/quic-v1/webtransport",
            "/ip4/192.0.2.1/udp/1/webrtc-direct",
            "/ip4/192.0.2.1/tcp/1",
        ];
        assert_eq!(ways.map(dialable), [0, 1, 2, 3]);
        let node = node_id(&peer).unwrap();
        assert_eq!(peer_id(node), Some(peer));
    }
}
