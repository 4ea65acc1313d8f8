//! Roles as child processes of `peerage up`. A child gets a pipe as its standard input and stops when that closes, so that
//! no child outlives its parent, however the parent ends; what it says comes as JSON lines on its standard output.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};

use crate::base::{Code, Error};

/// How long a child may take to be ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The line a role prints once it does its work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// `relay` or `manager`.
    pub role: String,
    /// Its node id.
    pub id: String,
    /// Where it is reached, each ending in `/p2p/<id>`.
    pub addresses: Vec<String>,
    /// Where its health and counters are, as `http://…`; empty without.
    pub http: String,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    /// What it said when it was ready.
    pub ready: Ready,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a program (this one, mostly) with these arguments and waits until it is ready. Its log goes where ours goes.
    ///
    /// # Errors
    /// What the child said on standard error if it ended instead; [`Code::Timeout`].
    pub async fn start(program: &Path, arguments: &[String]) -> Result<Child, Error> {
        let failed = |e: std::io::Error| Error::new(Code::Unsupported, format!("{} cannot be started", program.display())).caused_by(e);
        let mut process = Command::new(program)
            .args(arguments)
            .arg("--follow-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Error::new(Code::Unsupported, "a child without pipes"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let name = arguments.iter().find(|a| !a.starts_with('-')).map_or("child", String::as_str).to_owned();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .map_err(|_| Error::new(Code::Timeout, format!("the {name} was not ready within 30 s")))?;
        match line.ok().flatten().and_then(|l| serde_json::from_str(&l).ok()) {
            Some(ready) => Ok(Child { ready, process, stdin: Some(stdin), lines }),
            // It has said why on standard error, in one line of its own.
            None => Err(Error::new(Code::Closed, format!("the {name} did not start"))),
        }
    }

    /// The process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// The next line it prints; `None` when it prints no more.
    pub async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.ok().flatten()
    }

    /// Resolves when it ended by itself or was killed.
    pub async fn ended(&mut self) {
        // What it goes on to say is read, so that it never waits for somebody to.
        while self.line().await.is_some() {}
        // An error means that there is nothing to wait for.
        let _ = self.process.wait().await;
    }

    /// Asks it to stop and waits for that; kills it if it does not within 30 s.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(PATIENCE, self.process.wait()).await.is_err() {
            // It may just have ended.
            let _ = self.process.kill().await;
        }
    }
}

/// Resolves on Ctrl-C or SIGTERM, or, with `follow_stdin`, when standard input closes.
///
/// # Errors
/// [`Code::Unsupported`] if the system gives no signals.
pub fn stop_signal(follow_stdin: bool) -> Result<impl Future<Output = ()> + Send, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| Error::new(Code::Unsupported, "signals cannot be received").caused_by(e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        let closed = async {
            if !follow_stdin {
                return std::future::pending().await;
            }
            let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
            while stdin.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = closed => {}
        }
    })
}
