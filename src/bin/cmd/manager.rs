//! `peerage manager`

use std::path::PathBuf;

use clap::Args;
use peerage::base::Error;
use peerage::node::children::stop_signal;
use peerage::node::domain::DomainFiles;
use peerage::node::manager::{self, ManagerConfig};
use peerage::node::replica::Turn;
use peerage::node::settings::MANAGER_LISTEN;
use peerage::runtime::objects::Quota;
use serde_json::json;

use super::{Common, Tls, say};

/// Run the manager of the domain in the data directory
///
/// It admits joiners when nobody else is there and keeps what was decided about membership. It holds no key to what
/// participants exchange. When it listens it prints one JSON line: {"role":"manager","id":…,"addresses":[…]}.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage domain create 'the workshop'
  peerage manager --relay /ip4/127.0.0.1/tcp/9611/ws/p2p/12D3KooW…
  peerage manager --id         for the owner, who appoints it: peerage domain appoint

Settings file:
  [manager]
  listen = [\"/ip4/127.0.0.1/tcp/9621/ws\"]
  relays = [\"/ip4/127.0.0.1/tcp/9611/ws/p2p/12D3KooW…\"]
  record = \"heard.bin\"      # as --record
  [manager.quota]           # these are the defaults
  total_bytes = 68719476736
  member_bytes = 17179869184
  [tls]
  certificate = \"fullchain.pem\"   # as --tls-certificate
  key = \"privkey.pem\"             # as --tls-key")]
pub struct Manager {
    /// A multiaddr to listen on; may be given several times
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_MANAGER_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// A multiaddr at which others reach this manager, if not those it listens on; certificate hashes are added to it
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_MANAGER_ANNOUNCE", value_delimiter = ',')]
    announce: Vec<String>,
    #[command(flatten)]
    tls: Tls,
    /// A relay through which joiners find this domain; may be given several times
    #[arg(long, value_name = "MULTIADDR", env = "PEERAGE_RELAYS", value_delimiter = ',')]
    relay: Vec<String>,
    /// Its name in the directory
    #[arg(long, default_value = "manager", env = "PEERAGE_NAME")]
    name: String,
    /// Bytes of domain data that may be stored, sealed [default: 64 GiB]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_QUOTA")]
    quota: Option<u64>,
    /// Bytes of domain data that one member may store, sealed [default: 16 GiB]
    #[arg(long, value_name = "BYTES", env = "PEERAGE_MEMBER_QUOTA")]
    member_quota: Option<u64>,
    /// Write every byte received into a new file, to check what this manager could read; it ends at 256 MiB
    #[arg(long, value_name = "FILE", env = "PEERAGE_MANAGER_RECORD")]
    record: Option<PathBuf>,
    /// Print the node id of this data directory's manager and end; its key is made if it is missing
    #[arg(long)]
    id: bool,
    /// Stop when standard input closes
    #[arg(long, hide = true)]
    follow_stdin: bool,
}

/// Tells programs that started this one who leads, as JSON lines.
fn turned(turn: Turn) {
    let line = match turn {
        Turn::Leads => json!({ "event": "leads" }),
        Turn::StandsBy => json!({ "event": "stands-by" }),
        Turn::Followed(by) => json!({ "event": "followed", "by": by.to_string() }),
    };
    // Nobody reads it where the pipe is closed.
    let _ = say(&line);
}

impl Manager {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let settings = common.settings()?;
        let data = common.data(&settings)?;
        let own = data.folder("manager")?;
        if self.id {
            println!("{}", own.key("node.key")?.node_id());
            return Ok(());
        }
        let stop = stop_signal(self.follow_stdin)?;
        let tls = self.tls.files(&settings);
        let listen = if self.listen.is_empty() { settings.manager.listen } else { Some(self.listen) };
        let stock = Quota::default();
        let config = ManagerConfig {
            listen: listen.unwrap_or_else(|| MANAGER_LISTEN.map(String::from).to_vec()),
            announce: if self.announce.is_empty() { settings.manager.announce } else { self.announce },
            tls,
            relays: if self.relay.is_empty() { settings.manager.relays.unwrap_or_default() } else { self.relay },
            certificate: own.certificate()?,
            name: self.name,
            objects: own.folder("objects")?.path().to_path_buf(),
            quota: Quota {
                total: self.quota.or(settings.manager.quota.total_bytes).unwrap_or(stock.total),
                member: self.member_quota.or(settings.manager.quota.member_bytes).unwrap_or(stock.member),
                ..stock
            },
            record: self.record.or(settings.manager.record),
        };
        let mut said = Ok(());
        manager::run(own.key("node.key")?, &DomainFiles::open(&data)?, config, |ready| said = say(ready), turned, stop).await?;
        said
    }
}
