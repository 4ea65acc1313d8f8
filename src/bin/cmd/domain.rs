//! `peerage domain` and `peerage invite`

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use peerage::base::{Code, Error};
use peerage::node::domain::DomainFiles;
use peerage::node::qr;
use peerage::peer::InviteOptions;
use peerage::platform::native;

use super::Common;

/// Where `peerage up` serves the page.
const PAGE: &str = "http://127.0.0.1:9600/";

/// Make a domain, or look at the one in the data directory
#[derive(Args)]
pub struct Domain {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Found a domain; its root key stays in the data directory
    #[command(after_help = "Examples:\n  peerage domain create 'the workshop'\n  peerage --data /srv/peerage domain create lab")]
    Create {
        /// Its name, for people: 1 to 64 bytes
        name: String,
    },
    /// Print the domain's id, name and members
    #[command(after_help = "Examples:\n  peerage domain show")]
    Show,
}

impl Domain {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let settings = common.settings()?;
        let files = DomainFiles::open(&common.data(&settings)?)?;
        let saved = match &self.command {
            What::Create { name } => files.create(name)?,
            What::Show => files.existing()?,
        };
        let (id, membership) = files.describe(&saved)?;
        println!("domain   {id}");
        println!("name     {}", membership.genesis().name);
        println!("root key {}", if saved.root.is_some() { "here" } else { "elsewhere" });
        if matches!(self.command, What::Show) {
            for (node, member) in membership.members(native::clock()) {
                println!("member   {node} {:?}", member.role);
            }
            println!("statements {}", membership.len());
        }
        Ok(())
    }
}

/// Make an invitation link; a running manager learns of it within a second
#[derive(Args)]
#[command(after_help = "Examples:
  peerage invite
  peerage invite --uses 1 --days 1
  peerage invite --page https://app.example/j --relay /dns4/relay.example/tcp/443/wss/p2p/12D3KooW…")]
pub struct Invite {
    /// The page the link opens
    #[arg(long, default_value = PAGE, value_name = "URL", env = "PEERAGE_PAGE")]
    page: String,
    /// How many may use it; 0 for no limit
    #[arg(long, default_value_t = 0)]
    uses: u32,
    /// Let nobody in whom the owner or an issuer did not approve
    #[arg(long)]
    approve: bool,
    /// How many days it holds; who is in by then stays where the owner or an issuer is online daily
    #[arg(long, default_value_t = 30.0, conflicts_with = "seconds")]
    days: f64,
    /// The same in seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// A relay that the link names; may be given several times [default: those `up` used last]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    relay: Vec<String>,
}

impl Invite {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let settings = common.settings()?;
        let files = DomainFiles::open(&common.data(&settings)?)?;
        let lifetime = match self.seconds {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => Duration::try_from_secs_f64(self.days * 86_400.0).ok(),
        };
        let lifetime = lifetime.filter(|l| *l > Duration::ZERO && *l <= Duration::from_secs(3_650 * 86_400));
        let lifetime =
            lifetime.ok_or_else(|| Error::new(Code::BadArgument, "an invitation holds for more than nothing, and ten years at most"))?;
        let options = InviteOptions { max_uses: self.uses, lifetime, approve: self.approve };
        let url = files.invite(&files.existing()?, &self.relay, options)?.to_url(&self.page);
        println!("{url}");
        if std::io::stdout().is_terminal()
            && let Some(code) = qr::terminal(&url)
        {
            println!("{code}");
        }
        Ok(())
    }
}
