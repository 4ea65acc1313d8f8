//! `peerage domain`, `peerage invite`, `peerage evict`, `peerage delegate`, `peerage approve` and `peerage deny`

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use peerage::base::{Code, Error, InvitationId, NodeId};
use peerage::crypto::Role;
use peerage::node::domain::DomainFiles;
use peerage::node::{backup, qr};
use peerage::peer::{InviteOptions, SavedDomain, invitation_of};
use peerage::platform::native;
use peerage::proto::membership::{InvitationInfo, LAST_RANK, Rights};
use peerage::wire::link::InviteLink;

use zeroize::Zeroizing;

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
    /// Print the domain's id, name, members with managers' ranks, and invitations
    #[command(after_help = "Examples:\n  peerage domain show")]
    Show,
    /// Write a backup: whoever has the file and its passphrase is the domain's owner
    ///
    /// The passphrase is asked for, or taken from PEERAGE_PASSPHRASE.
    #[command(
        after_help = "Examples:\n  peerage domain backup workshop.peerage\n  PEERAGE_PASSPHRASE=… peerage domain backup /media/stick/workshop.peerage"
    )]
    Backup {
        /// The file; one that exists is not replaced
        file: PathBuf,
    },
    /// Bring a domain back from a backup or a manager's appointment, or its root key from the words that were written down
    #[command(after_help = "Examples:
  peerage --data /srv/new domain restore workshop.peerage
  peerage domain restore --words          asks for them; the domain has to be here, its root key not")]
    Restore {
        /// The backup, or the file of an appointment
        #[arg(required_unless_present = "words")]
        file: Option<PathBuf>,
        /// Restore the root key from its 24 words, which are asked for or read from standard input
        #[arg(long, conflicts_with = "file")]
        words: bool,
    },
    /// Appoint a manager on another machine, and write the file with which it opens the domain
    ///
    /// Of several managers the first in rank that is there leads, and the others stand by. The file has what a manager has to know, the
    /// domain's secret among it, and not the root key. It is sealed as a backup is, under a passphrase that is asked for or taken from
    /// PEERAGE_PASSPHRASE; delete it once it is restored. To give a manager another rank, appoint it again: it learns of that without
    /// the new file.
    #[command(after_help = "Examples:
  peerage manager --id                                    on the standby's machine: prints 12D3KooW…
  peerage domain appoint 12D3KooW… standby.peerage        here; then bring the file there
  peerage domain restore standby.peerage                  there; from then on, peerage manager runs there")]
    Appoint {
        /// What `peerage manager --id` prints on its machine
        node: NodeId,
        /// The file; one that exists is not replaced
        file: PathBuf,
        /// Its place among the managers: 0, the first, to 15
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(..=i64::from(LAST_RANK)))]
        rank: u8,
    },
    /// Print the root key as 24 words to write down: whoever reads them is the domain's owner
    #[command(after_help = "Examples:\n  peerage domain words")]
    Words,
}

impl Domain {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let settings = common.settings()?;
        let files = DomainFiles::open(&common.data(&settings)?)?;
        let saved = match &self.command {
            What::Create { name } => files.create(name)?,
            What::Show => files.existing()?,
            What::Backup { file } => {
                let sealed = backup::seal(&files.existing()?, &secret("Passphrase, at least 8 characters: ", "PEERAGE_PASSPHRASE")?)?;
                return write_new(file, &sealed);
            }
            What::Appoint { node, file, rank } => {
                let saved = files.existing()?;
                let passphrase = secret("Passphrase for the file, at least 8 characters: ", "PEERAGE_PASSPHRASE")?;
                // What is wrong with these is said before anybody is appointed.
                backup::long_enough(&passphrase)?;
                if file.exists() {
                    return Err(unusable(file, "exists already"));
                }
                return write_new(file, &backup::seal(&files.appoint(&saved, *node, *rank)?, &passphrase)?);
            }
            What::Restore { file: Some(file), .. } => {
                let sealed = std::fs::read(file).map_err(|e| unusable(file, "cannot be read").caused_by(e))?;
                let saved = backup::open(&sealed, &secret("Passphrase: ", "PEERAGE_PASSPHRASE")?)?;
                files.restore(&saved)?;
                saved
            }
            What::Restore { file: None, .. } => {
                let saved = files.existing()?;
                files.restore_root(&saved, &*backup::from_words(&secret("The 24 words: ", "PEERAGE_ROOT_WORDS")?)?)?;
                files.existing()?
            }
            What::Words => {
                let saved = files.existing()?;
                let root = saved.root.as_ref();
                let root = root.ok_or_else(|| Error::new(Code::Forbidden, "the domain's root key is not here"))?;
                println!("{}", *backup::words(root));
                return Ok(());
            }
        };
        let membership = files.current(&saved)?;
        println!("domain   {}", membership.domain());
        println!("name     {}", membership.genesis().name);
        println!("root key {}", if saved.root.is_some() { "here" } else { "elsewhere" });
        if matches!(self.command, What::Show) {
            for (node, member) in membership.members(native::clock()) {
                let rank = if member.role == Role::Manager { format!(", rank {}", member.rank) } else { String::new() };
                println!("member   {node} {:?}{rank}", member.role);
            }
            for invitation in files.invitations(&saved)? {
                println!("invite   {}", line(&invitation));
            }
            println!("statements {}", membership.len());
        }
        Ok(())
    }
}

/// Something that nobody looking on should see: from the environment, from the terminal, or the first line of standard input.
fn secret(prompt: &str, variable: &str) -> Result<Zeroizing<String>, Error> {
    if let Ok(given) = std::env::var(variable) {
        return Ok(Zeroizing::new(given));
    }
    let read = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(prompt)
    } else {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let read = read.map_err(|e| Error::new(Code::BadArgument, "nothing could be read").caused_by(e))?;
    Ok(Zeroizing::new(read))
}

/// Writes a file for its owner alone that was not there before.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = created.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|e| unusable(path, "cannot be written").caused_by(e))
}

fn unusable(path: &Path, how: &str) -> Error {
    Error::new(Code::Storage, format!("{} {how}", path.display()))
}

/// An invitation in one line: what names it, how it stands, how often it was used.
fn line(invitation: &InvitationInfo) -> String {
    let id = InvitationId::from_bytes(invitation.key);
    let most = if invitation.max_uses == 0 { String::new() } else { format!(" of {}", invitation.max_uses) };
    let approve = if invitation.approve { ", each approved" } else { "" };
    format!("{id} {:?}, used {}{most}{approve}", invitation.state, invitation.uses)
}

/// Make an invitation link, or close one; a running manager learns of it within a second
#[derive(Args)]
#[command(after_help = "Examples:
  peerage invite
  peerage invite --uses 1 --days 1
  peerage invite --revoke 'http://127.0.0.1:9600/#…'      who came with it stays
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
    /// Close the invitation with this link, or with this id of `peerage domain show`, instead of making one
    #[arg(long, value_name = "LINK|ID", conflicts_with_all = ["uses", "approve", "days", "seconds", "relay"])]
    revoke: Option<String>,
}

/// The domain in the data directory.
fn opened(common: &Common) -> Result<(DomainFiles, SavedDomain), Error> {
    let settings = common.settings()?;
    let files = DomainFiles::open(&common.data(&settings)?)?;
    let saved = files.existing()?;
    Ok((files, saved))
}

impl Invite {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let (files, saved) = opened(common)?;
        if let Some(named) = self.revoke {
            let id = InviteLink::parse(&named).map_or_else(|_| named.parse(), |link| Ok(invitation_of(&link)))?;
            return files.close(&saved, id);
        }
        let lifetime = match self.seconds {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => Duration::try_from_secs_f64(self.days * 86_400.0).ok(),
        };
        let lifetime = lifetime.filter(|l| *l > Duration::ZERO && *l <= Duration::from_secs(3_650 * 86_400));
        let lifetime =
            lifetime.ok_or_else(|| Error::new(Code::BadArgument, "an invitation holds for more than nothing, and ten years at most"))?;
        let options = InviteOptions { max_uses: self.uses, lifetime, approve: self.approve };
        let url = files.invite(&saved, &self.relay, options)?.to_url(&self.page);
        println!("{url}");
        if std::io::stdout().is_terminal()
            && let Some(code) = qr::terminal(&url)
        {
            println!("{code}");
        }
        Ok(())
    }
}

/// Evict a member for good; it reads nothing that is sent once the others know, and everybody else stays
#[derive(Args)]
#[command(after_help = "Examples:\n  peerage domain show                 lists the members\n  peerage evict 12D3KooW…")]
pub struct Evict {
    /// Whom
    node: NodeId,
}

impl Evict {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let (files, saved) = opened(common)?;
        files.evict(&saved, self.node)
    }
}

/// Give a participant rights that else only the root key has
#[derive(Args)]
#[command(after_help = "Examples:\n  peerage delegate 12D3KooW… invite\n  peerage delegate 12D3KooW… invite evict --days 90")]
pub struct Delegate {
    /// To whom
    node: NodeId,
    /// Which
    #[arg(required = true)]
    rights: Vec<Right>,
    /// For how many days, 90 at most
    #[arg(long, default_value_t = 30.0)]
    days: f64,
}

/// What may be delegated.
#[derive(Clone, Copy, ValueEnum)]
enum Right {
    /// To make invitations, and to approve who waits
    Invite,
    /// To evict members and to close invitations
    Evict,
    /// To renew the key of the domain's data
    Store,
}

impl Delegate {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let (files, saved) = opened(common)?;
        let rights = self.rights.iter().fold(Rights::NONE, |all, right| {
            all.and(match right {
                Right::Invite => Rights::INVITE,
                Right::Evict => Rights::EVICT,
                Right::Store => Rights::STORE,
            })
        });
        files.delegate(&saved, self.node, rights, Duration::try_from_secs_f64(self.days * 86_400.0).unwrap_or_default())
    }
}

/// Let somebody in who waits, by an invitation made with --approve
#[derive(Args)]
#[command(after_help = "Examples:\n  peerage approve 12D3KooW…           as the manager's log and the participants' events name it")]
pub struct Approve {
    /// Whom
    node: NodeId,
}

/// Turn somebody away who waits; for this node it outweighs every approval
#[derive(Args)]
#[command(after_help = "Examples:\n  peerage deny 12D3KooW…")]
pub struct Deny {
    /// Whom
    node: NodeId,
}

impl Approve {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let (files, saved) = opened(common)?;
        files.decide(&saved, self.node, true)
    }
}

impl Deny {
    pub fn run(self, common: &Common) -> Result<(), Error> {
        let (files, saved) = opened(common)?;
        files.decide(&saved, self.node, false)
    }
}
