//! `peerage relay`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use peerage::base::Error;
use peerage::node::children::stop_signal;
use peerage::node::relay::{self, RelayConfig};
use peerage::node::settings::{RELAY_HTTP, RELAY_LISTEN};

use super::{Common, Tls, say};

/// Run a relay: it lets browsers be reached, and sees only ciphertext
///
/// When it can be reached it prints one JSON line: {"role":"relay","id":…,"addresses":[…],"http":…}. It stops on Ctrl-C
/// or SIGTERM. Without flags it serves this machine only.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage relay
  peerage relay --listen /ip4/0.0.0.0/udp/9610/quic-v1 --listen /ip4/0.0.0.0/tcp/9611/ws --listen /ip4/0.0.0.0/udp/9611/quic-v1/webtransport
  peerage relay --listen /ip4/0.0.0.0/tcp/443/tls/ws --announce /dns4/relay.example/tcp/443/tls/ws \\
    --tls-certificate fullchain.pem --tls-key privkey.pem    # for pages over https; tcp, ws and tls/ws may share a port
  curl http://127.0.0.1:9613/metrics
  peerage relay --record heard.bin; strings heard.bin

Settings file:
  [relay]
  listen = [\"/ip4/127.0.0.1/tcp/9611/ws\"]
  http = \"127.0.0.1:9613\"
  record = \"heard.bin\"      # as --record
  [relay.limits]            # these are the defaults
  reservations = 1024
  reservation_secs = 3600
  circuits = 1024
  circuits_per_peer = 32
  circuit_secs = 86400
  circuit_bytes = 4294967296
  [tls]
  certificate = \"fullchain.pem\"   # as --tls-certificate
  key = \"privkey.pem\"             # as --tls-key")]
pub struct Relay {
    /// A multiaddr to listen on; may be given several times
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_RELAY_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// A multiaddr at which others reach this relay, if not those it listens on; certificate hashes are added to it
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_RELAY_ANNOUNCE", value_delimiter = ',')]
    announce: Vec<String>,
    #[command(flatten)]
    tls: Tls,
    /// Where /metrics, /livez and /readyz are served [default: 127.0.0.1:9613]
    #[arg(long, value_name = "ADDRESS:PORT", env = "PEERAGE_RELAY_HTTP")]
    http: Option<SocketAddr>,
    /// Write every byte received into a new file, to check what this relay could read; it ends at 256 MiB
    #[arg(long, value_name = "FILE", env = "PEERAGE_RELAY_RECORD")]
    record: Option<PathBuf>,
    /// Stop when standard input closes
    #[arg(long, hide = true)]
    follow_stdin: bool,
}

impl Relay {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(self.follow_stdin)?;
        let settings = common.settings()?;
        let data = common.data(&settings)?.folder("relay")?;
        let tls = self.tls.files(&settings);
        let listen = if self.listen.is_empty() { settings.relay.listen } else { Some(self.listen) };
        let config = RelayConfig {
            listen: listen.unwrap_or_else(|| RELAY_LISTEN.map(String::from).to_vec()),
            announce: if self.announce.is_empty() { settings.relay.announce } else { self.announce },
            tls,
            http: Some(self.http.or(settings.relay.http).unwrap_or(RELAY_HTTP)),
            certificate: data.certificate()?,
            limits: settings.relay.limits,
            record: self.record.or(settings.relay.record),
        };
        let key = data.key("node.key")?;
        let mut said = Ok(());
        relay::run(key, config, |ready| said = say(ready), stop).await?;
        said
    }
}
