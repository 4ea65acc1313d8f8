//! WebSocket in TLS, on connections whose TLS somebody else speaks already when they come in.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};

/// A WebSocket transport without TLS for listeners, under addresses that end in `/tls/ws`. It dials with TLS.
pub(in super::super) struct Wss<T>(pub T);

/// Whether the address is of WebSocket in TLS: `/tls/ws`, or `/wss` as it was.
pub(in super::super) fn is_wss(address: &Multiaddr) -> bool {
    plain(address).is_some()
}

/// The same without TLS.
fn plain(address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts: Vec<Protocol<'_>> = address.iter().collect();
    let peer = parts.pop_if(|p| matches!(p, Protocol::P2p(_)));
    match parts.pop()? {
        Protocol::Wss(path) => parts.push(Protocol::Ws(path)),
        Protocol::Ws(path) => {
            parts.pop_if(|p| *p == Protocol::Tls)?;
            parts.push(Protocol::Ws(path));
        }
        _ => return None,
    }
    Some(parts.into_iter().chain(peer).collect())
}

/// The same within TLS.
fn secured(address: &Multiaddr) -> Multiaddr {
    let within = |p| if matches!(p, Protocol::Ws(_)) { vec![Protocol::Tls, p] } else { vec![p] };
    address.iter().flat_map(within).collect()
}

impl<T: Transport + Unpin> Transport for Wss<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        let Some(plain) = plain(&address) else { return Err(TransportError::MultiaddrNotSupported(address)) };
        self.0.listen_on(id, plain)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if !is_wss(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.0.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.0).poll(cx).map(|event| match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                TransportEvent::NewAddress { listener_id, listen_addr: secured(&listen_addr) }
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                TransportEvent::AddressExpired { listener_id, listen_addr: secured(&listen_addr) }
            }
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr: secured(&local_addr),
                send_back_addr: secured(&send_back_addr),
            },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_tls_is_told_from_one_without() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let peer = "/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
        for end in ["", peer] {
            let without = address(&format!("/dns4/relay.example/tcp/443/ws{end}"));
            let with = address(&format!("/dns4/relay.example/tcp/443/tls/ws{end}"));
            assert_eq!(plain(&with), Some(without.clone()));
            assert_eq!(plain(&address(&format!("/dns4/relay.example/tcp/443/wss{end}"))), Some(without.clone()));
            assert_eq!((plain(&without), secured(&without)), (None, with));
        }
        for no in ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/tls", peer] {
            assert!(!is_wss(&address(no)), "{no}");
        }
    }
}
