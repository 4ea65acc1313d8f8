//! `peerage up`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use peerage::base::{Code, Error};
use peerage::node::children::{Child, stop_signal};
use peerage::node::domain::DomainFiles;
use peerage::node::settings::PAGE_HTTP;
use peerage::node::{qr, web};

use super::Common;

/// Everything for a first try on this machine: a relay, a domain with its manager, the page, a link and its QR code
///
/// The domain is made on the first run and kept in the data directory. Stops on Ctrl-C.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage up
  peerage --data /tmp/try up --http 127.0.0.1:8080

Settings file:
  [page]
  http = \"127.0.0.1:9600\"
  www = \"www/dist\"")]
pub struct Up {
    /// Where the page is served [default: 127.0.0.1:9600]
    #[arg(long, value_name = "ADDRESS:PORT", env = "PEERAGE_HTTP")]
    http: Option<SocketAddr>,
    /// The page's files [default: www/dist here, or beside the program]
    #[arg(long, value_name = "DIR", env = "PEERAGE_WWW")]
    www: Option<PathBuf>,
    /// The name of the domain, if it is made now
    #[arg(long, default_value = "my domain")]
    name: String,
}

impl Up {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(false)?;
        let settings = common.settings()?;
        let www = www(self.www.or(settings.page.www.clone()))?;
        let data = common.data(&settings)?;
        let listener = web::bind(self.http.or(settings.page.http).unwrap_or(PAGE_HTTP)).await?;
        let page = listener.local_addr().map_err(|e| Error::new(Code::Unreachable, "the page has no address").caused_by(e))?;
        let files = DomainFiles::open(&data)?;
        let saved = match files.load()? {
            Some(saved) => saved,
            None => files.create(&self.name)?,
        };
        let program = std::env::current_exe().map_err(|e| Error::new(Code::Unsupported, "this program cannot find itself").caused_by(e))?;
        let shared = common.arguments(data.path());
        let with = |role: &str, more: Vec<String>| [shared.clone(), vec![role.to_owned()], more].concat();

        let mut relay = Child::start(&program, &with("relay", Vec::new())).await?;
        let reached = relay.ready.addresses.clone();
        let near = reached.iter().find(|a| a.contains("/tcp/") && !a.contains("/ws")).or(reached.first()).cloned().unwrap_or_default();
        // Before the manager starts, so that it knows the invitation from its first moment.
        files.standing_invite(&saved, &reached)?;
        let mut manager = Child::start(&program, &with("manager", vec!["--relay".to_owned(), near])).await?;
        files.store_relays(&reached, &manager.ready.id)?;
        let link = files.standing_invite(&saved, &reached)?.to_url(&format!("http://{page}/"));

        let (halt, halted) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(web::serve(listener, web::page(www), async { drop(halted.await) }));
        if let Some(code) = qr::terminal(&link) {
            println!("{code}");
        }
        println!("Open this link in two tabs, or more:\n\n  {link}\n");
        println!("relay    process {} \u{2014} kill it: connected tabs go on", pid(&relay));
        println!("manager  process {} \u{2014} kill it: tabs go on, and say what is missing", pid(&manager));
        println!("data     {}", data.path().display());
        println!("\nCtrl-C stops everything.");

        let (mut relay_runs, mut manager_runs) = (true, true);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = relay.ended(), if relay_runs => {
                    relay_runs = false;
                    eprintln!("The relay has ended. Connected tabs go on; new ones cannot join until `peerage up` runs again.");
                }
                () = manager.ended(), if manager_runs => {
                    manager_runs = false;
                    eprintln!("The manager has ended. Participants go on; any of them admits new ones.");
                }
            }
        }
        drop(halt);
        tokio::join!(relay.stop(), manager.stop());
        // A browser that holds its connection open is not waited for.
        serving.abort();
        Ok(())
    }
}

fn pid(child: &Child) -> String {
    child.pid().map_or_else(|| "?".to_owned(), |pid| pid.to_string())
}

/// The page's folder: the one named, else `www/dist` here or beside the program.
fn www(named: Option<PathBuf>) -> Result<PathBuf, Error> {
    let beside = std::env::current_exe().ok().and_then(|p| p.parent().map(|p| p.join("www")));
    let candidates = match &named {
        Some(path) => vec![path.clone()],
        None => [Some(PathBuf::from("www/dist")), beside].into_iter().flatten().collect(),
    };
    candidates.iter().find(|p| p.join("index.html").is_file()).cloned().ok_or_else(|| {
        let looked = candidates.iter().map(|p: &PathBuf| p.display().to_string()).collect::<Vec<_>>().join(" and ");
        Error::new(Code::Storage, format!("there is no page in {looked}"))
            .hint("Build it with npm run build, or name its folder with --www DIR")
    })
}

impl Common {
    /// The shared flags for a child.
    fn arguments(&self, data: &Path) -> Vec<String> {
        let mut arguments = vec!["--data".to_owned(), data.display().to_string()];
        if let Some(config) = &self.config {
            arguments.extend(["--config".to_owned(), config.display().to_string()]);
        }
        arguments
    }
}
