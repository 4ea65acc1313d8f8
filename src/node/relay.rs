//! The relay role: circuits for nodes that cannot be dialled. It knows no domain, and tells no addresses above debug level.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::children::Ready;
use super::web::{self, Health};
use crate::base::Error;
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, Event};
use crate::platform::native::{self, NativeConfig, NativePlatform, RelayLimits, Served, TlsFiles, Traffic};

/// What a relay is to do.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs told to others besides.
    pub announce: Vec<String>,
    /// The certificate for `/tls/ws`, if it listens on that.
    pub tls: Option<TlsFiles>,
    /// Where health and counters are served, if at all. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// The certificate for WebRTC-direct, with its key, as PEM.
    pub certificate: String,
    /// What is given at most.
    pub limits: RelayLimits,
    /// Where everything received is written down, if at all.
    pub record: Option<PathBuf>,
}

/// A relay's counters.
struct Status {
    ready: AtomicBool,
    traffic: Arc<Traffic>,
    served: Arc<Served>,
}

impl Health for Status {
    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("peerage_stream_received_bytes_total", "Bytes read from streams, circuits included.", self.traffic.received()),
            ("peerage_stream_sent_bytes_total", "Bytes written to streams, circuits included.", self.traffic.sent()),
            ("peerage_connections", "Connections now.", self.served.connections()),
            ("peerage_relay_reservations", "Reservations held now.", self.served.reservations()),
            ("peerage_relay_circuits", "Circuits open now.", self.served.circuits()),
            ("peerage_relay_circuits_total", "Circuits opened.", self.served.circuits_total()),
            ("peerage_relay_denied_total", "Reservations and circuits refused.", self.served.denied()),
        ]
    }
}

/// Runs a relay until `stop` resolves; `ready` is called once, when it can be reached.
///
/// # Errors
/// [`Code::AddressInUse`](crate::base::Code::AddressInUse) for a taken port, and what [`NativePlatform::new`] gives.
pub async fn run(
    key: SigningKey,
    config: RelayConfig,
    ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let listener = match config.http {
        Some(address) => Some(web::bind(address).await?),
        None => None,
    };
    let wanted = wanted(&config.listen, &config.announce);
    let settings = NativeConfig {
        listen: config.listen,
        tls: config.tls,
        announce: config.announce,
        reserve: false,
        certificate: Some(config.certificate),
        serve: Some(config.limits),
        record: config.record,
    };
    let platform = NativePlatform::new(&key, &settings)?;
    let status = Arc::new(Status { ready: AtomicBool::new(false), traffic: platform.traffic(), served: platform.served() });
    let http = listener.as_ref().and_then(|l| l.local_addr().ok()).map_or_else(String::new, |a| format!("http://{a}"));
    let (halt, halted) = tokio::sync::oneshot::channel::<()>();
    let serving = listener.map(|l| tokio::spawn(web::serve(l, web::health(status.clone()), async { drop(halted.await) })));
    let (node, driver) = native::start_on(platform, key, Config::relay(), native::entropy()?.bytes());
    let driving = tokio::spawn(driver);
    let mut ready = Some(ready);
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            () = &mut stop => break,
            event = node.next_event() => event,
        };
        // Listeners come up one after the other; ready means all of them.
        match event {
            Some(Event::Addresses) if listeners(&node.addresses()) >= wanted => {
                if let Some(ready) = ready.take() {
                    status.ready.store(true, Ordering::Relaxed);
                    ready(&Ready { role: "relay".into(), id: node.id().to_string(), addresses: node.addresses(), http: http.clone() });
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    node.close();
    // Bounded by the goodbye.
    let _ = driving.await;
    drop(halt);
    if let Some(serving) = serving {
        // Its own errors have no reader any more.
        let _ = serving.await;
    }
    Ok(())
}

/// How many listeners will be told of. Of those in TLS names are told, where names are announced.
pub(super) fn wanted(listen: &[String], announce: &[String]) -> usize {
    let is_tls = |a: &String| a.split('/').any(|part| matches!(part, "tls" | "wss"));
    let told: Vec<String> = listen.iter().filter(|a| !(is_tls(a) && announce.iter().any(is_tls))).cloned().collect();
    // Each that takes a free port has one of its own.
    let (any_port, rest): (Vec<String>, Vec<String>) = told.into_iter().partition(|a| a.split('/').nth(4) == Some("0"));
    any_port.len() + listeners(&rest)
}

/// How many listeners stand behind these addresses: each is on one or more interfaces, with a port or a protocol of its own.
pub(super) fn listeners(addresses: &[String]) -> usize {
    let own = |a: &String| {
        let parts: Vec<&str> = a.split('/').skip(1).collect();
        let (family, rest) = (*parts.first()?, parts.get(2..)?);
        let rest = rest.iter().take_while(|part| !matches!(**part, "certhash" | "p2p")).map(|part| part.replace("wss", "tls/ws"));
        matches!(family, "ip4" | "ip6").then(|| (family.to_owned(), rest.collect::<Vec<_>>().join("/")))
    };
    addresses.iter().filter_map(own).collect::<std::collections::BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_counted_once_whatever_its_interfaces_and_not_what_is_announced() {
        let addresses = [
            "/ip4/127.0.0.1/tcp/443",
            "/ip4/192.0.2.1/tcp/443",
            "/ip4/192.0.2.1/tcp/443/tls/ws",
            "/ip6/::1/udp/443/quic-v1/webtransport/certhash/uEiA/certhash/uEiB/p2p/12D3",
            "/ip4/127.0.0.1/udp/443/quic-v1/webtransport/certhash/uEiA",
            "/dns4/relay.example/tcp/443/tls/ws",
        ];
        let addresses = addresses.map(String::from);
        assert_eq!(listeners(&addresses), 4);
        let (listen, announce) = ([addresses[0].clone(), addresses[2].clone()], [addresses[5].clone()]);
        assert_eq!((wanted(&listen, &[]), wanted(&listen, &announce)), (2, 1));
        let both =
            ["/ip4/0.0.0.0/tcp/443", "/ip6/::/tcp/443", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0", "/ip4/192.0.2.1/tcp/443/wss"];
        assert_eq!(wanted(&both.map(String::from), &[]), 5);
        assert_eq!(wanted(&["/ip4/192.0.2.1/tcp/443", "/ip4/127.0.0.1/tcp/443"].map(String::from), &[]), 1);
    }
}
