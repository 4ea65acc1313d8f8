//! `peerage data`

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use peerage::base::{Code, Error};
use peerage::node::children::stop_signal;
use peerage::platform::native::{NativeConfig, store::RedbStore};
use peerage::proto::objects::Cursor;
use peerage::runtime::data::{Body, DomainData, Entry, PutOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::participant::{Entrance, Participant, evicted};
use super::{Common, failed, say};

/// Bytes that are written to a file at once.
const WRITTEN: usize = 1 << 20;

/// Store, read and list the domain's data: files that all participants can read, and the manager that keeps them cannot
///
/// Needs the domain manager, and a domain that was joined with this data directory (or a link). One JSON line for each version, on
/// standard output; progress on standard error.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage data put hall.ply scans/hall.ply --type model/ply
  peerage data get scans/hall.ply hall.ply
  peerage data list scans/
  tar c photos | peerage data put - photos.tar      standard input, to and from: -
  peerage data put plan.json --if-version 3         only if 3 is the newest version; 0: only if there is none
  peerage data watch                                what changes, until Ctrl-C")]
pub struct Data {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    entrance: Entrance,
}

#[derive(Subcommand)]
enum What {
    /// Store a file; cut off, the same command goes on where it was
    Put {
        /// The file, - for standard input
        file: PathBuf,
        /// Its path in the domain [default: the file's name]
        path: Option<String>,
        /// Its media type
        #[arg(long = "type", value_name = "TYPE", default_value = "")]
        media: String,
        /// What else is to be said of it, as JSON
        #[arg(long, value_name = "JSON", value_parser = json_text)]
        meta: Option<String>,
        /// Only if this is the newest version; 0 for none
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
    /// Read an object into a file
    Get {
        /// Its path in the domain
        path: String,
        /// The file, - for standard output [default: the last name of the path]; one that is there is replaced once all has come
        file: Option<PathBuf>,
        /// This version, not the newest
        #[arg(long, value_name = "N")]
        at_version: Option<u64>,
        /// The version in conflict that `history` names so
        #[arg(long, value_name = "NAME", conflicts_with = "at_version")]
        conflict: Option<String>,
        /// The first byte
        #[arg(long, value_name = "BYTE", default_value_t = 0)]
        from: u64,
        /// The byte behind the last one [default: the end]
        #[arg(long, value_name = "BYTE")]
        to: Option<u64>,
    },
    /// List what is stored
    List {
        /// Only paths that begin like this
        #[arg(default_value = "")]
        prefix: String,
    },
    /// List the versions of an object, the newest first; behind them those in conflict, which two managers took without knowing of each other
    History {
        /// Its path in the domain
        path: String,
    },
    /// Delete an object
    Delete {
        /// Its path in the domain
        path: String,
        /// Only if this is the newest version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
    /// Tell how many bytes are stored and may be
    Quota,
    /// Tell what is stored, and then what changes
    Watch {
        /// Only paths that begin like this
        #[arg(default_value = "")]
        prefix: String,
    },
}

fn json_text(text: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<Value>(text).map(|value| value.to_string())
}

fn line(entry: &Entry) -> Value {
    let mut line = json!({
        "path": entry.path, "version": entry.version, "deleted": entry.deleted, "length": entry.length, "type": entry.media,
        "written": entry.written.0, "author": entry.author.to_string(),
        "meta": serde_json::from_str::<Value>(&entry.meta).unwrap_or(Value::Null),
    });
    if let Some(conflict) = &entry.conflict {
        line["conflict"] = json!(conflict);
    }
    line
}

/// A bar on standard error, where somebody looks at it.
fn bar(length: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    match length {
        Some(length) => {
            ProgressBar::new(length).with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        None => ProgressBar::new_spinner(),
    }
}

impl Data {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let stop = stop_signal(false)?;
        let settings = common.settings()?;
        let data = common.data(&settings)?.folder("participant")?;
        // Nobody has to dial a command that is over soon.
        let Participant { node, keeper, store, streams, driving } = Participant::start(&data, &NativeConfig::default()).await?;
        let Data { what, entrance } = self;
        let work = async {
            let domain = entrance.enter(&keeper).await?;
            let data = DomainData::open(node.clone(), domain, Arc::new(streams), store).await?;
            // Nobody here leaves it meanwhile: it was closed to this node.
            what.run(&data).await.map_err(|error| if error.code() == Code::Closed { evicted() } else { error })
        };
        let result = tokio::select! {
            result = work => result,
            () = stop => Ok(()),
        };
        let kept = keeper.flush().await;
        node.close();
        // Bounded by the goodbye.
        let _ = driving.await;
        result.and(kept)
    }
}

impl What {
    async fn run(self, data: &DomainData<RedbStore>) -> Result<(), Error> {
        match self {
            What::Put { file, path, media, meta, if_version } => {
                let options = PutOptions { media, meta: meta.unwrap_or_default(), expected: if_version, resume: None };
                put(data, &file, path, options).await
            }
            What::Get { path, file, at_version, conflict, from, to } => {
                let body = match conflict {
                    Some(name) => data.conflicting(&path, &name).await?,
                    None => data.get(&path, at_version).await?,
                };
                get(body.range(from..to.unwrap_or(u64::MAX)), &path, file).await
            }
            What::List { prefix } => data.list(&prefix).await?.iter().try_for_each(|entry| say(&line(entry))),
            What::History { path } => data.history(&path).await?.iter().try_for_each(|entry| say(&line(entry))),
            What::Delete { path, if_version } => data.delete(&path, if_version).await,
            What::Quota => {
                let (used, quota) = data.quota().await?;
                say(&json!({"used": used.total, "quota": quota.total, "own": used.member, "own_quota": quota.member}))
            }
            What::Watch { prefix } => {
                let mut cursor = Cursor::default();
                loop {
                    let (entries, next, _) = data.changes(cursor, true).await?;
                    entries.iter().filter(|entry| entry.path.starts_with(&prefix)).try_for_each(|entry| say(&line(entry)))?;
                    cursor = next;
                }
            }
        }
    }
}

async fn put(data: &DomainData<RedbStore>, file: &Path, path: Option<String>, mut options: PutOptions) -> Result<(), Error> {
    let named = || file.file_name().and_then(|name| name.to_str()).filter(|_| file != Path::new("-")).map(str::to_owned);
    let path = path
        .or_else(named)
        .ok_or_else(|| Error::new(Code::BadArgument, "under which path is it to be stored?").hint("Give it behind -"))?;
    let (source, length): (Box<dyn AsyncRead + Unpin>, _) = if file == Path::new("-") {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let opened = tokio::fs::File::open(file).await.map_err(failed(file, "cannot be opened"))?;
        let about = opened.metadata().await.map_err(failed(file, "cannot be read"))?;
        if !about.is_file() {
            return Err(Error::new(Code::BadArgument, format!("{} is no file", file.display())));
        }
        let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        options.resume = Some([about.len().to_be_bytes().to_vec(), changed.as_nanos().to_be_bytes().to_vec()].concat());
        (Box::new(tokio::io::BufReader::with_capacity(1 << 20, opened)), Some(about.len()))
    };
    let shown = bar(length);
    let stored = data.put(&path, source.compat(), options, |done| shown.set_position(done)).await;
    shown.finish_and_clear();
    say(&line(&stored?))
}

async fn get(mut body: Body<RedbStore>, path: &str, file: Option<PathBuf>) -> Result<(), Error> {
    let entry = body.entry();
    // A path's names are harmless as files' names.
    let file = file.unwrap_or_else(|| PathBuf::from(path.rsplit('/').next().unwrap_or(path)));
    let shown = bar(Some(entry.length));
    if file == Path::new("-") {
        let mut out = std::io::stdout().lock();
        while let Some(part) = body.next().await? {
            out.write_all(&part).map_err(failed(&file, "cannot be written"))?;
            shown.inc(part.len() as u64);
        }
        return out.flush().map_err(failed(&file, "cannot be written"));
    }
    let mut draft = file.clone().into_os_string();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let out = tokio::fs::File::create(&draft).await.map_err(failed(&draft, "cannot be made"))?;
    let mut out = tokio::io::BufWriter::with_capacity(WRITTEN, out);
    while let Some(part) = body.next().await? {
        out.write_all(&part).await.map_err(failed(&draft, "cannot be written"))?;
        shown.inc(part.len() as u64);
    }
    out.flush().await.map_err(failed(&draft, "cannot be written"))?;
    out.get_ref().sync_all().await.map_err(failed(&draft, "cannot be written"))?;
    tokio::fs::rename(&draft, &file).await.map_err(failed(&file, "cannot be replaced"))?;
    shown.finish_and_clear();
    say(&line(&entry))
}
