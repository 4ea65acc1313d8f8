//! What of the network is blocked: each way to a relay is tried by itself, and what that shows is put into words.

use std::fmt;
use std::time::Duration;

use crate::base::{Code, Error};
use crate::crypto::sign::SigningKey;
use crate::peer::Config;
use crate::platform::native::{self, NativeConfig};

/// How long a way is tried.
const PATIENCE: Duration = Duration::from_secs(15);

/// How bytes go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/3 over UDP.
    WebTransport,
    /// DTLS over UDP.
    WebRtcDirect,
    /// QUIC over UDP.
    Quic,
    /// Over TCP, as browsers can.
    WebSocket,
    /// Plain TCP.
    Tcp,
}

impl Transport {
    /// That of an address.
    #[must_use]
    pub fn of(address: &str) -> Transport {
        let has = |name: &str| address.split('/').any(|part| part == name);
        if has("webtransport") {
            Transport::WebTransport
        } else if has("webrtc-direct") {
            Transport::WebRtcDirect
        } else if has("quic-v1") {
            Transport::Quic
        } else if has("ws") || has("wss") {
            Transport::WebSocket
        } else {
            Transport::Tcp
        }
    }

    /// Whether it is over UDP.
    #[must_use]
    pub fn is_udp(self) -> bool {
        matches!(self, Transport::WebTransport | Transport::WebRtcDirect | Transport::Quic)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transport::WebTransport => "webtransport",
            Transport::WebRtcDirect => "webrtc-direct",
            Transport::Quic => "quic",
            Transport::WebSocket => "websocket",
            Transport::Tcp => "tcp",
        })
    }
}

/// A way to a relay, tried.
#[derive(Debug)]
pub struct Way {
    /// The address.
    pub address: String,
    /// The round trip, or why there is none.
    pub outcome: Result<Duration, Error>,
}

impl Way {
    fn works(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Tries an address, which ends in `/p2p/<id>`, with a node of its own: no connection that is there already is taken for it.
pub async fn try_out(address: String) -> Way {
    let tried = async {
        let key = SigningKey::generate(&mut native::entropy()?);
        let (node, driver) = native::start(key, &NativeConfig::default(), Config::native())?;
        let driving = tokio::spawn(driver);
        let dialled = tokio::time::timeout(PATIENCE, node.dial(&address)).await;
        node.close();
        // Bounded by the goodbye.
        let _ = driving.await;
        let link = dialled.map_err(|_| Error::new(Code::Timeout, "nothing came back"))??;
        Ok(link.rtt.unwrap_or_default())
    };
    Way { outcome: tried.await, address }
}

/// What the ways that were tried show, in words, the most important first. Nothing if all work.
#[must_use]
pub fn findings(ways: &[Way]) -> Vec<&'static str> {
    let (udp, tcp): (Vec<&Way>, Vec<&Way>) = ways.iter().partition(|w| Transport::of(&w.address).is_udp());
    let some = |ways: &[&Way]| ways.iter().any(|w| w.works());
    let blocked = |ways: &[&Way], others: &[&Way]| !ways.is_empty() && !some(ways) && some(others);
    if !ways.is_empty() && !ways.iter().any(Way::works) {
        return vec!["No way leads to a relay: it does not run, its address is another by now, or a firewall lets nothing through."];
    }
    let mut found = Vec::new();
    if blocked(&udp, &tcp) {
        found.push(
            "UDP is blocked between here and the relay: WebSocket or TCP is used instead. Links to others go through the relay unless they are on the same network.",
        );
    }
    if blocked(&tcp, &udp) {
        found.push("TCP is blocked between here and the relay, WebSocket with it: UDP is used instead.");
    }
    let stale = |w: &&Way| !w.works() && matches!(Transport::of(&w.address), Transport::WebTransport);
    if found.is_empty() && ways.iter().any(|w| stale(&w)) && udp.iter().any(|w| w.works()) {
        found.push("A WebTransport address does not work though UDP does: its certificates may be of another fortnight. A new invitation names those of today.");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(address: &str, works: bool) -> Way {
        let outcome = if works { Ok(Duration::from_millis(1)) } else { Err(Error::new(Code::Unreachable, "no")) };
        Way { address: address.into(), outcome }
    }

    #[test]
    fn what_is_blocked_is_told_from_what_is_down() {
        let (ws, tcp, wt, rtc) = (
            "/ip4/192.0.2.1/tcp/1/ws",
            "/ip4/192.0.2.1/tcp/1",
            "/ip4/192.0.2.1/udp/1/quic-v1/webtransport",
            "/ip4/192.0.2.1/udp/1/webrtc-direct",
        );
        let told = |ways: &[(&str, bool)]| findings(&ways.iter().map(|(a, works)| way(a, *works)).collect::<Vec<_>>()).join(" ");
        assert_eq!(told(&[(ws, true), (tcp, true), (wt, true), (rtc, true)]), "");
        assert_eq!(told(&[]), "");
        assert!(told(&[(ws, true), (wt, false), (rtc, false)]).starts_with("UDP is blocked"));
        assert!(told(&[(ws, false), (tcp, false), (wt, true)]).starts_with("TCP is blocked"));
        assert!(told(&[(ws, false), (wt, false)]).starts_with("No way"));
        assert!(told(&[(ws, true), (wt, false), (rtc, true)]).starts_with("A WebTransport address"));
        assert_eq!(told(&[(ws, false), (tcp, true)]), "", "one of several ports");
    }
}
