//! The settings file: TOML, every key optional, unknown keys refused. A flag beats the environment (`PEERAGE_…`), which
//! beats this file, which beats the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::{Code, Error};
use crate::platform::native::{RelayLimits, TlsFiles};

/// All of a settings file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The data directory.
    pub data: Option<PathBuf>,
    /// For `peerage relay`.
    pub relay: RelaySettings,
    /// For `peerage manager`.
    pub manager: NodeSettings,
    /// For the web server of `peerage up`.
    pub page: PageSettings,
    /// The certificate of whoever listens on `/tls/ws`.
    pub tls: Option<TlsFiles>,
}

/// `[relay]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelaySettings {
    /// Multiaddrs to listen on.
    pub listen: Option<Vec<String>>,
    /// Multiaddrs to be told to others besides.
    pub announce: Vec<String>,
    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub http: Option<SocketAddr>,
    /// What is given at most.
    pub limits: RelayLimits,
    /// A file to make for a recording of everything received.
    pub record: Option<PathBuf>,
}

/// `[manager]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Multiaddrs to listen on.
    pub listen: Option<Vec<String>>,
    /// Multiaddrs to be told to others besides.
    pub announce: Vec<String>,
    /// Relays to use, as multiaddrs that end in `/p2p/…`.
    pub relays: Option<Vec<String>>,
    /// A file to make for a recording of everything received.
    pub record: Option<PathBuf>,
    /// How much domain data may be stored.
    pub quota: QuotaSettings,
}

/// `[manager.quota]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// Bytes of the whole domain, sealed.
    pub total_bytes: Option<u64>,
    /// Bytes of one member, sealed.
    pub member_bytes: Option<u64>,
}

/// `[page]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageSettings {
    /// Where the page is served.
    pub http: Option<SocketAddr>,
    /// The directory of the page's files.
    pub www: Option<PathBuf>,
}

/// Where a relay listens if nothing else is said: this machine only.
pub const RELAY_LISTEN: [&str; 5] = [
    "/ip4/127.0.0.1/udp/9610/quic-v1",
    "/ip4/127.0.0.1/tcp/9610",
    "/ip4/127.0.0.1/tcp/9611/ws",
    "/ip4/127.0.0.1/udp/9611/quic-v1/webtransport",
    "/ip4/127.0.0.1/udp/9612/webrtc-direct",
];
/// Where a relay's counters are if nothing else is said.
pub const RELAY_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9613);
/// Where a manager listens if nothing else is said.
pub const MANAGER_LISTEN: [&str; 5] = [
    "/ip4/127.0.0.1/udp/9620/quic-v1",
    "/ip4/127.0.0.1/tcp/9620",
    "/ip4/127.0.0.1/tcp/9621/ws",
    "/ip4/127.0.0.1/udp/9621/quic-v1/webtransport",
    "/ip4/127.0.0.1/udp/9622/webrtc-direct",
];
/// Where the page is served if nothing else is said.
pub const PAGE_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9600);

impl Settings {
    /// The settings in a text.
    ///
    /// # Errors
    /// [`Code::BadArgument`] with the line and what is wrong there.
    pub fn parse(text: &str) -> Result<Settings, Error> {
        toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Error::new(Code::BadArgument, format!("settings, line {line}: {}", e.message().replace('\n', " ")))
        })
    }

    /// The settings in a file, the defaults without one.
    ///
    /// # Errors
    /// [`Code::Storage`] if it cannot be read, else as [`Settings::parse`].
    pub fn read(path: Option<&Path>) -> Result<Settings, Error> {
        let Some(path) = path else { return Ok(Settings::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::new(Code::Storage, format!("{} cannot be read", path.display())).caused_by(e))?;
        Settings::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_line_and_name() {
        let settings = Settings::parse("[relay]\nlisten = [\"/ip4/127.0.0.1/tcp/1\"]\n[relay.limits]\ncircuits = 2\n").unwrap();
        assert_eq!(settings.relay.limits.circuits, 2);
        assert_eq!(settings.relay.limits.reservations, RelayLimits::default().reservations);
        let error = Settings::parse("[relay]\nlisen = []\n").unwrap_err();
        assert!(error.message().contains("line 2") && error.message().contains("lisen"), "{}", error.message());
        assert!(Settings::parse("[relay]\nhttp = \"nowhere\"\n").is_err());
        assert!(Settings::parse("[page").is_err());
        let settings = Settings::parse("[manager.quota]\nmember_bytes = 5\n").unwrap();
        assert_eq!((settings.manager.quota.total_bytes, settings.manager.quota.member_bytes), (None, Some(5)));
    }
}
