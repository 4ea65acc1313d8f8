//! `peerage task submit`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use peerage::base::{Code, Error};
use peerage::proto::directory::{Predicate, Test, Value as Attribute};
use peerage::runtime::task::{Event, JobEvent, JobStep, Order, TaskSpec, Tasks};
use serde::Deserialize;
use serde_json::json;

use super::task::{Output, Prefer, an_hour, input, line, order, tell};
use super::{failed, say};

/// The longest file of a job, bytes.
const FILE: u64 = 1024 * 1024;

#[derive(Args)]
#[command(after_help = "The file of a job (TOML): tasks by name.
  [tasks.grid]
  capability = \"map/occupancy\"
  input = \"hall.ply\"                 a file, - for standard input; without it none
  where = { gpu = true }             what the supplier's capability has to say of itself

  [tasks.rooms]
  capability = \"map/rooms\"
  needs = [\"grid\"]                   it begins with the results of these, one after the other, behind its own input
  output = \"rooms.json\"              of a task that no other needs; - for standard output, the default if there is one such task

  Also: prefer = \"idle\" or \"near\", deadline = SECONDS, now = true (fail if nobody is free).

Examples:
  peerage task submit hall.toml")]
pub struct Submit {
    /// The file of the job, - for standard input
    job: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    tasks: BTreeMap<String, Member>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    capability: String,
    #[serde(default)]
    needs: Vec<String>,
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    #[serde(default, rename = "where")]
    conditions: BTreeMap<String, toml::Value>,
    #[serde(default)]
    prefer: Prefer,
    #[serde(default = "an_hour")]
    deadline: u64,
    #[serde(default)]
    now: bool,
}

fn wrong(what: String) -> Error {
    Error::new(Code::BadArgument, what).hint("peerage task submit --help shows what a job looks like")
}

/// A job that was read and looked through.
pub struct Prepared {
    tasks: BTreeMap<String, Member>,
    /// Where the outputs go of tasks that no other needs.
    outputs: BTreeMap<String, PathBuf>,
}

impl Submit {
    /// Reads the job.
    pub fn prepare(self) -> Result<Prepared, Error> {
        let text = if self.job == Path::new("-") {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::metadata(&self.job).and_then(|m| if m.len() > FILE { Err(too_long()) } else { std::fs::read_to_string(&self.job) })
        };
        let text = text.map_err(failed(&self.job, "cannot be read"))?;
        let Job { tasks } = toml::from_str(&text).map_err(|e| wrong(format!("{} is no job: {e}", self.job.display())))?;
        let last: Vec<&String> = tasks.keys().filter(|name| !tasks.values().any(|t| t.needs.contains(name))).collect();
        let mut outputs = BTreeMap::new();
        for (name, task) in &tasks {
            let path = match (&task.output, last.contains(&name)) {
                (Some(path), true) => path.clone(),
                (None, true) if last.len() == 1 => PathBuf::from("-"),
                (None, true) => return Err(wrong(format!("{name} needs an output: no other task takes its result"))),
                (Some(_), false) => return Err(wrong(format!("{name} has an output, but its result goes to another task"))),
                (None, false) => continue,
            };
            if outputs.values().any(|other| *other == path) {
                return Err(wrong(format!("two outputs go to {}", path.display())));
            }
            outputs.insert(name.clone(), path);
        }
        Ok(Prepared { tasks, outputs })
    }
}

fn too_long() -> std::io::Error {
    std::io::Error::other("it is over 1 MiB")
}

fn condition((key, value): (String, toml::Value)) -> Result<Predicate, Error> {
    let value = match value {
        toml::Value::Boolean(b) => Attribute::Bool(b),
        toml::Value::Integer(n) => Attribute::Int(n),
        toml::Value::Float(n) => Attribute::Number(n),
        toml::Value::String(text) => Attribute::Text(text),
        _ => return Err(wrong(format!("{key} is compared with a text, a number, true or false"))),
    };
    Ok(Predicate { key, test: Test::Eq(value) })
}

impl Prepared {
    /// Has it done.
    pub async fn run(self, tasks: &Tasks) -> Result<(), Error> {
        let mut specs = Vec::new();
        for (name, task) in self.tasks {
            let Member { capability, needs, input: path, conditions, prefer, deadline, now, .. } = task;
            let order = Order {
                predicates: conditions.into_iter().map(condition).collect::<Result<_, _>>()?,
                ..order(capability, prefer, now, deadline)
            };
            let own = match path {
                Some(path) => Some(input(Some(path)).await?),
                None => None,
            };
            specs.push(TaskSpec { name, order, needs, input: own });
        }
        let mut job = tasks.submit(specs)?;
        let mut outputs = BTreeMap::new();
        for (name, path) in self.outputs {
            outputs.insert(name, Output::new(path)?);
        }
        while let Some(JobEvent { task, step }) = job.next().await? {
            let mut told = match &step {
                JobStep::Event(event) => {
                    match (event, outputs.get_mut(&task)) {
                        (Event::Begun { .. }, Some(output)) => output.begin_anew().await?,
                        (Event::Output(bytes), Some(output)) => output.write(bytes).await?,
                        _ => {}
                    }
                    match line(event) {
                        Some(line) => line,
                        None => continue,
                    }
                }
                JobStep::Kept { supplier, size } => json!({"event": "kept", "supplier": supplier.to_string(), "size": size}),
                JobStep::Again => json!({"event": "again"}),
                JobStep::Done => json!({"event": "done"}),
            };
            told["task"] = task.clone().into();
            tell(&told);
        }
        for output in outputs.into_values() {
            if let Some(path) = output.finish().await? {
                say(&json!({"event": "done", "output": path.display().to_string()}))?;
            }
        }
        Ok(())
    }
}
