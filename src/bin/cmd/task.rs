//! `peerage task`

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use futures::FutureExt as _;
use peerage::base::{Code, Error};
use peerage::node::children::stop_signal;
use peerage::platform::native::NativeConfig;
use peerage::proto::task::{Policy, Preference};
use peerage::runtime::task::{Event, Input, Order, Tasks};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::participant::{Entrance, Participant, evicted};
use super::{Common, failed, say};

/// Have something done by another participant
///
/// The input and the output go to and from whoever does it over a stream between the two, and are seen by nobody else. When that
/// participant fails, another begins anew. What happens is told on standard error, one JSON line each.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage join LINK --serve 'map/occupancy=occupancy --cell 0.05'    on one machine
  peerage task request map/occupancy hall.ply hall.grid              on another
  tar c photos | peerage task request count -                        standard input, to standard output")]
pub struct Task {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    entrance: Entrance,
}

#[derive(Subcommand)]
enum What {
    /// Have a capability carried out once
    Request(Request),
}

#[derive(Args)]
struct Request {
    /// What is to be done
    capability: String,
    /// The input, - for standard input [default: none]
    input: Option<PathBuf>,
    /// Where the output goes, - for standard output; a file that is there is replaced once all has come
    #[arg(default_value = "-")]
    output: PathBuf,
    /// It is given up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    deadline: u64,
    /// Whom to take of several that are free
    #[arg(long, value_enum, default_value_t)]
    prefer: Prefer,
    /// Fail if nobody is free, instead of waiting
    #[arg(long)]
    now: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Prefer {
    /// Whoever is least busy
    #[default]
    Idle,
    /// Whoever is nearest
    Near,
}

impl Task {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(false)?;
        let settings = common.settings()?;
        let data = common.data(&settings)?.folder("participant")?;
        let Participant { node, keeper, streams, driving, .. } = Participant::start(&data, &NativeConfig::default()).await?;
        let Task { what: What::Request(request), entrance } = self;
        let work = async {
            let domain = entrance.enter(&keeper).await?;
            let tasks = Tasks::new(node.clone(), domain, Arc::new(streams.tasks()), Arc::new(streams.pairing()));
            request.run(&tasks).await.map_err(|error| if error.code() == Code::Closed { evicted() } else { error })
        };
        let result = tokio::select! {
            result = work => result,
            () = stop => Err(Error::new(Code::Aborted, "the task was cancelled")),
        };
        let kept = keeper.flush().await;
        node.close();
        // Bounded by the goodbye.
        let _ = driving.await;
        result.and(kept)
    }
}

fn tell(value: &serde_json::Value) {
    eprintln!("{value}");
}

/// What can be read from its beginning for each attempt: a file; or what comes on standard input, put into one that has no name.
async fn input(path: Option<PathBuf>) -> Result<Input, Error> {
    let Some(path) = path else {
        return Ok(Box::new(|| async { Ok(Box::new(futures::io::empty()) as Box<_>) }.boxed()));
    };
    if path == Path::new("-") {
        let spool = tempfile::tempfile().map_err(failed(&std::env::temp_dir(), "cannot be written to"))?;
        let mut file = File::from_std(spool.try_clone().map_err(failed(&path, "cannot be kept"))?);
        tokio::io::copy(&mut tokio::io::stdin(), &mut file).await.map_err(failed(&path, "cannot be read"))?;
        file.flush().await.map_err(failed(&path, "cannot be kept"))?;
        return Ok(Box::new(move || {
            let copy = spool.try_clone();
            async move {
                let mut file = File::from_std(copy?);
                file.rewind().await?;
                Ok(Box::new(file.compat()) as Box<_>)
            }
            .boxed()
        }));
    }
    // Whoever mistyped its name hears of it before anybody is asked for anything.
    File::open(&path).await.map_err(failed(&path, "cannot be opened"))?;
    Ok(Box::new(move || {
        let path = path.clone();
        async move { Ok(Box::new(File::open(path).await?.compat()) as Box<_>) }.boxed()
    }))
}

impl Request {
    async fn run(self, tasks: &Tasks) -> Result<(), Error> {
        let order = Order {
            preference: match self.prefer {
                Prefer::Idle => Preference::Idle,
                Prefer::Near => Preference::Near,
            },
            policy: if self.now { Policy::Fail } else { Policy::Wait },
            deadline: Duration::from_secs(self.deadline),
            ..Order::new(self.capability)
        };
        let mut task = tasks.request(order, input(self.input).await?)?;
        // Of an attempt that fails nothing is to be seen: it goes where it can be taken back.
        let to_file = self.output != Path::new("-");
        let folder = self.output.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
        // As the shell would make it, where it is to stay.
        let lasting = || tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&folder);
        let draft = if to_file { lasting() } else { tempfile::NamedTempFile::new() };
        let draft = draft.map_err(failed(&folder, "cannot be written to"))?;
        let mut out = File::from_std(draft.reopen().map_err(failed(&folder, "cannot be written to"))?);
        while let Some(event) = task.next().await? {
            match event {
                Event::Begun { supplier, attempt } => {
                    out.set_len(0).await.map_err(failed(&self.output, "cannot be written"))?;
                    out.rewind().await.map_err(failed(&self.output, "cannot be written"))?;
                    tell(&json!({"event": "begun", "supplier": supplier.to_string(), "attempt": attempt}));
                }
                Event::Progress(bytes) => tell(&json!({"event": "progress", "text": String::from_utf8_lossy(&bytes)})),
                Event::Output(bytes) => out.write_all(&bytes).await.map_err(failed(&self.output, "cannot be written"))?,
                Event::Lost { supplier, error } => {
                    tell(
                        &json!({"event": "lost", "supplier": supplier.to_string(), "code": error.code().as_str(), "message": error.one_line()}),
                    );
                }
            }
        }
        out.sync_all().await.map_err(failed(&self.output, "cannot be written"))?;
        if to_file {
            draft.persist(&self.output).map_err(|e| failed(&self.output, "cannot be replaced")(e.error))?;
            return say(&json!({"event": "done", "output": self.output.display().to_string()}));
        }
        out.rewind().await.map_err(failed(&self.output, "cannot be read again"))?;
        let mut screen = tokio::io::stdout();
        tokio::io::copy(&mut out, &mut screen).await.map_err(failed(&self.output, "cannot be written"))?;
        screen.flush().await.map_err(failed(&self.output, "cannot be written"))
    }
}
