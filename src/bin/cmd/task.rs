//! `peerage task`

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use futures::FutureExt as _;
use futures::future::Either;
use peerage::base::{Code, Error};
use peerage::node::children::stop_signal;
use peerage::platform::native::NativeConfig;
use peerage::proto::task::{Policy, Preference};
use peerage::runtime::task::{Event, Input, Order, Tasks};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::job::Submit;
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
  peerage task submit hall.toml                                      several, as peerage task submit --help says
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
    /// Have several things done, some with the results of others, which go from participant to participant
    Submit(Submit),
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
    #[arg(long, value_name = "SECONDS", default_value_t = an_hour())]
    deadline: u64,
    /// Whom to take of several that are free
    #[arg(long, value_enum, default_value_t)]
    prefer: Prefer,
    /// Fail if nobody is free, instead of waiting
    #[arg(long)]
    now: bool,
}

#[derive(Clone, Copy, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Prefer {
    /// Whoever is least busy
    #[default]
    Idle,
    /// Whoever is nearest
    Near,
}

/// How long a task may take, seconds, if nothing else is said.
pub(super) const fn an_hour() -> u64 {
    3_600
}

/// What is asked for, in so many seconds; with `now` at once or not at all.
pub(super) fn order(capability: String, prefer: Prefer, now: bool, seconds: u64) -> Order {
    Order {
        preference: match prefer {
            Prefer::Idle => Preference::Idle,
            Prefer::Near => Preference::Near,
        },
        policy: if now { Policy::Fail } else { Policy::Wait },
        deadline: Duration::from_secs(seconds),
        ..Order::new(capability)
    }
}

impl Task {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(false)?;
        let settings = common.settings()?;
        let data = common.data(&settings)?.folder("participant")?;
        let Participant { node, keeper, streams, driving, .. } = Participant::start(&data, &NativeConfig::default()).await?;
        let Task { what, entrance } = self;
        let what = match what {
            What::Request(request) => Either::Left(request),
            // What is wrong with the job is told before anybody is asked for anything.
            What::Submit(submit) => Either::Right(submit.prepare()?),
        };
        let work = async {
            let domain = entrance.enter(&keeper).await?;
            let tasks = Tasks::new(node.clone(), domain, Arc::new(streams.tasks()), Arc::new(streams.pairing()));
            let done = match what {
                Either::Left(request) => request.run(&tasks).await,
                Either::Right(job) => job.run(&tasks).await,
            };
            done.map_err(|error| if error.code() == Code::Closed { evicted() } else { error })
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

pub(super) fn tell(value: &Value) {
    eprintln!("{value}");
}

/// What can be read from its beginning for each attempt: a file; or what comes on standard input, put into one that has no name.
pub(super) async fn input(path: Option<PathBuf>) -> Result<Input, Error> {
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
        let order = order(self.capability, self.prefer, self.now, self.deadline);
        let mut task = tasks.request(order, input(self.input).await?)?;
        let mut output = Output::new(self.output)?;
        while let Some(event) = task.next().await? {
            if matches!(event, Event::Begun { .. }) {
                output.begin_anew().await?;
            }
            if let Event::Output(bytes) = &event {
                output.write(bytes).await?;
            }
            if let Some(line) = line(&event) {
                tell(&line);
            }
        }
        if let Some(path) = output.finish().await? {
            say(&json!({"event": "done", "output": path.display().to_string()}))?;
        }
        Ok(())
    }
}

/// What is told of an event, if anything.
pub(super) fn line(event: &Event) -> Option<Value> {
    match event {
        Event::Begun { supplier, attempt } => Some(json!({"event": "begun", "supplier": supplier.to_string(), "attempt": attempt})),
        Event::Progress(bytes) => Some(json!({"event": "progress", "text": String::from_utf8_lossy(bytes)})),
        Event::Output(_) => None,
        Event::Lost { supplier, error } => {
            Some(json!({"event": "lost", "supplier": supplier.to_string(), "code": error.code().as_str(), "message": error.one_line()}))
        }
    }
}

/// Where an output goes: a draft until all of it is there, for of an attempt that fails nothing is to be seen.
pub(super) struct Output {
    /// `-` for standard output.
    path: PathBuf,
    draft: NamedTempFile,
    file: File,
}

impl Output {
    pub fn new(path: PathBuf) -> Result<Output, Error> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
        // As the shell would make it, where it is to stay.
        let lasting = || tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&folder);
        let draft = if path == Path::new("-") { NamedTempFile::new() } else { lasting() };
        let draft = draft.map_err(failed(&folder, "cannot be written to"))?;
        let file = File::from_std(draft.reopen().map_err(failed(&folder, "cannot be written to"))?);
        Ok(Output { path, draft, file })
    }

    pub async fn begin_anew(&mut self) -> Result<(), Error> {
        self.file.set_len(0).await.map_err(failed(&self.path, "cannot be written"))?;
        self.file.rewind().await.map_err(failed(&self.path, "cannot be written"))?;
        Ok(())
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).await.map_err(failed(&self.path, "cannot be written"))
    }

    /// It is whole. The file that it is in now, unless it went to standard output.
    pub async fn finish(self) -> Result<Option<PathBuf>, Error> {
        let Output { path, draft, mut file } = self;
        file.sync_all().await.map_err(failed(&path, "cannot be written"))?;
        if path != Path::new("-") {
            draft.persist(&path).map_err(|e| failed(&path, "cannot be replaced")(e.error))?;
            return Ok(Some(path));
        }
        file.rewind().await.map_err(failed(&path, "cannot be read again"))?;
        let mut screen = tokio::io::stdout();
        tokio::io::copy(&mut file, &mut screen).await.map_err(failed(&path, "cannot be written"))?;
        screen.flush().await.map_err(failed(&path, "cannot be written"))?;
        Ok(None)
    }
}
