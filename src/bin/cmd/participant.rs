//! A participant under the identity in the data directory, for the commands that take part in a domain.

use clap::Args;
use peerage::base::{Code, DomainId, Error};
use peerage::crypto::Role;
use peerage::node::data::DataDir;
use peerage::peer::{Config, Profile};
use peerage::platform::links::streams::LinkStreams;
use peerage::platform::native::{self, NativeConfig, NativePlatform, store::RedbStore};
use peerage::runtime::{handle::Node, keeper::Keeper};
use tokio::task::JoinHandle;

/// Where a command that takes part enters, and as whom.
#[derive(Args)]
pub struct Entrance {
    /// An invitation link [default: none; a domain joined before is opened again]
    #[arg(long, global = true, value_name = "LINK", env = "PEERAGE_LINK", hide_env_values = true)]
    link: Option<String>,
    /// Which of the domains joined before, if there are several
    #[arg(long, global = true, value_name = "ID", conflicts_with = "link")]
    domain: Option<DomainId>,
    /// A name for people
    #[arg(long, global = true, default_value = "peerage", env = "PEERAGE_NAME")]
    name: String,
}

impl Entrance {
    /// Enters there.
    pub async fn enter(self, keeper: &Keeper<RedbStore>) -> Result<DomainId, Error> {
        enter(keeper, self.link, self.domain, Profile { name: self.name, capabilities: Vec::new() }).await
    }
}

/// A running node with its store.
pub struct Participant {
    pub node: Node,
    pub keeper: Keeper<RedbStore>,
    pub store: RedbStore,
    pub streams: LinkStreams,
    /// Ends when the node has been closed.
    pub driving: JoinHandle<()>,
}

impl Participant {
    /// Starts the node whose key and store are in a directory.
    pub async fn start(data: &DataDir, config: &NativeConfig) -> Result<Participant, Error> {
        let store = RedbStore::open(&data.path().join("store.redb")).await?;
        let key = data.key("node.key")?;
        let platform = NativePlatform::new(&key, config)?;
        let streams = platform.streams();
        let (node, driver) = native::start_on(platform, key, Config::native(), native::entropy()?.bytes());
        let driving = tokio::spawn(driver);
        let keeper = Keeper::new(node.clone(), store.clone());
        tokio::spawn(keeper.clone().run());
        Ok(Participant { node, keeper, store, streams, driving })
    }
}

/// Joins by a link, or opens the domain that was joined before.
pub async fn enter(keeper: &Keeper<RedbStore>, link: Option<String>, named: Option<DomainId>, profile: Profile) -> Result<DomainId, Error> {
    if let Some(link) = link {
        return keeper.join(&link, profile).await;
    }
    let stored = keeper.domains().await?;
    let id = match (named, stored.as_slice()) {
        (Some(id), _) => Ok(id),
        (None, [id]) => Ok(*id),
        (None, []) => {
            Err(Error::new(Code::BadArgument, "no domain was joined with this data directory yet").hint("Give an invitation link"))
        }
        (None, several) => {
            let ids = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            Err(Error::new(Code::BadArgument, "several domains were joined with this data directory")
                .hint(format!("Choose with --domain: {ids}")))
        }
    }?;
    keeper.reopen(id, Role::Participant, profile).await
}

/// What somebody is told who was evicted.
pub fn evicted() -> Error {
    Error::new(Code::Forbidden, "this node is no member of the domain any more").hint("Ask the domain's owner why")
}
