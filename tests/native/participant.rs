//! Real processes of one domain: a relay, a manager, and `peerage join`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peerage::node::children::Ready;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::cli::{Scratch, peerage, start};
use crate::support::PATIENCE;

/// For a line of a participant's. A machine that is busy judges late whether others are alive: at the latest when their leases are
/// over.
const VERDICT: Duration = Duration::from_secs(150);

/// Where participants listen.
pub const LISTEN: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];

/// A relay, and a domain with its manager and an invitation without limits.
pub struct Home {
    pub relay: Child,
    pub ready: Ready,
    pub manager: Child,
    pub owner: PathBuf,
    pub link: String,
}

impl Home {
    pub async fn start(scratch: &Scratch) -> Home {
        let (relay, ready) = start(&scratch.0.join("relay"), &[]).await;
        let owner = scratch.0.join("owner");
        assert!(peerage(&owner, &["domain", "create", "town"]).output().await.unwrap().status.success());
        // Before the manager starts, so that it knows the invitation from its first moment.
        let link = invite(&owner, &ready.addresses[0], &[]).await;
        let manager = manage(&owner, &ready.addresses[0], &[]).await;
        Home { relay, ready, manager, owner, link }
    }
}

/// A new invitation's link.
pub async fn invite(owner: &Path, relay: &str, more: &[&str]) -> String {
    let output = peerage(owner, &[&["invite", "--relay", relay], more].concat()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A manager of the owner's domain, listening.
pub async fn manage(owner: &Path, relay: &str, more: &[&str]) -> Child {
    let mut manager = peerage(owner, &[&["manager", "--relay", relay], &LISTEN[..], more].concat()).spawn().unwrap();
    let mut told = BufReader::new(manager.stdout.take().unwrap()).lines();
    tokio::time::timeout(PATIENCE, told.next_line()).await.expect("the manager listens").unwrap().expect("it says so");
    manager
}

/// A running `peerage join`.
pub struct Participant {
    pub child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Every line so far.
    said: Vec<Value>,
    pub node: String,
}

impl Participant {
    pub async fn start(data: &Path, arguments: &[&str]) -> Participant {
        let mut child = peerage(data, &[&["join"], arguments].concat()).spawn().unwrap();
        let (input, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let mut participant = Participant { child, input, lines, said: Vec::new(), node: String::new() };
        let joined = participant.line(|line| line["event"] == "joined").await;
        participant.node = joined["node"].as_str().unwrap().to_owned();
        participant
    }

    /// The next line that is wanted. Those before it are passed over.
    pub async fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&line).unwrap();
                self.said.push(line.clone());
                if wanted(&line) {
                    return line;
                }
            }
            let mut said = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            panic!("it ended: {said}");
        };
        let found = tokio::time::timeout(VERDICT, found).await;
        found.unwrap_or_else(|_| {
            let said: Vec<String> = self.said.iter().map(|line| line.to_string().chars().take(200).collect()).collect();
            panic!("{} waits in vain; all it said: {said:#?}", self.node)
        })
    }

    /// A line that is wanted: one passed over, or else the next.
    pub async fn said(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        match self.said.iter().find(|line| wanted(line)) {
            Some(line) => line.clone(),
            None => self.line(wanted).await,
        }
    }

    pub async fn say(&mut self, command: Value) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// The node ids in its directory that are online, its own included.
    pub async fn here(&mut self) -> Vec<String> {
        self.say(json!({"cmd": "participants", "id": 1})).await;
        let answer = self.line(|line| line["event"] == "answer" && line["participants"].is_array()).await;
        let online = answer["participants"].as_array().unwrap().iter().filter(|p| p["presence"] == "online");
        online.map(|p| p["node"].as_str().unwrap().to_owned()).collect()
    }

    /// Evicts somebody, as soon as this participant knows that it may.
    pub async fn evicts(&mut self, node: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.say(json!({"cmd": "evict", "node": node, "id": 2})).await;
            if self.line(|line| line["id"] == 2).await["event"] == "answer" {
                return;
            }
            assert!(Instant::now() < until, "it may not evict {node}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn sees(&mut self, node: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.here().await.iter().any(|n| n == node) {
            assert!(Instant::now() < until, "{node} is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
