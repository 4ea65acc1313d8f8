//! Two managers of a domain, as processes: the one leads, the other has all that is stored and takes over; and what becomes of what both took.

use std::path::{Path, PathBuf};
use std::process::Command as Plain;
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::cli::{Scratch, peerage};
use crate::data::{PATIENCE, file, grows, lines, text};
use crate::participant::{Home, LISTEN};

const MIB: usize = 1 << 20;

/// A manager's process, and what it tells of its turn.
struct Manager {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
    id: String,
}

impl Manager {
    async fn start(data: &Path, relay: &str, more: &[&str]) -> Manager {
        let mut child = peerage(data, &[&["manager", "--relay", relay], &LISTEN[..], more].concat()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut manager = Manager { child, told, id: String::new() };
        manager.id = manager.tells(|line| line["role"] == "manager").await["id"].as_str().unwrap().to_owned();
        manager
    }

    /// Waits for a line.
    async fn tells(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let line = self.told.next_line().await.unwrap().expect("the manager ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if wanted(&line) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it is told in time")
    }

    async fn leads(&mut self) {
        self.tells(|line| line["event"] == "leads").await;
    }

    /// Waits until this one is followed by another that has everything.
    async fn is_followed(&mut self, by: &str) {
        self.tells(|line| line["event"] == "followed" && line["by"] == by).await;
    }

    fn signal(&self, name: &str) {
        let sent = Plain::new("kill").args([name, &self.child.id().unwrap().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

/// A domain with its manager and one that stands by.
struct Pair {
    home: Home,
    first: Manager,
    second: Manager,
    standby: PathBuf,
}

impl Pair {
    async fn start(scratch: &Scratch) -> Pair {
        let mut home = Home::start(scratch).await;
        home.manager.kill().await.unwrap();
        let (relay, standby, file) = (home.ready.addresses[0].clone(), scratch.0.join("standby"), scratch.0.join("appointment"));
        let mut first = Manager::start(&home.owner, &relay, &[]).await;
        first.leads().await;
        let id = done(peerage(&standby, &["manager", "--id"])).await.trim().to_owned();
        for (data, arguments) in
            [(&home.owner, vec!["domain", "appoint", &id, text(&file)]), (&standby, vec!["domain", "restore", text(&file)])]
        {
            let mut command = peerage(data, &arguments);
            command.env("PEERAGE_PASSPHRASE", "a passphrase");
            done(command).await;
        }
        let second = Manager::start(&standby, &relay, &["--record", text(&scratch.0.join("second.bin"))]).await;
        assert_eq!(second.id, id);
        first.is_followed(&id).await;
        Pair { home, first, second, standby }
    }

    fn relay(&self) -> &str {
        &self.home.ready.addresses[0]
    }
}

async fn done(mut command: tokio::process::Command) -> String {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn holds(data: &Path, path: &str, source: &Path, got: &Path) {
    lines(data, &["get", path, text(got)]).await;
    assert!(std::fs::read(got).unwrap() == std::fs::read(source).unwrap(), "{path}");
}

#[tokio::test]
async fn a_put_goes_on_at_the_standby_when_the_manager_is_killed_and_the_manager_has_it_when_it_is_back() {
    let scratch = Scratch::new("failover");
    let mut pair = Pair::start(&scratch).await;
    let length = 40 * MIB;
    let (source, small) = (file(&scratch, "source", length), file(&scratch, "small", 9_000));
    let (ann, bea, got) = (scratch.0.join("ann"), scratch.0.join("bea"), scratch.0.join("got"));
    lines(&ann, &["--link", &pair.home.link, "put", text(&small), "before"]).await;

    let put = peerage(&ann, &["data", "put", text(&source), "large"]).spawn().unwrap();
    grows(&pair.standby, length as u64 / 2).await;
    pair.first.child.kill().await.unwrap();
    let killed = Instant::now();
    pair.second.leads().await;
    println!("the standby leads {:.1} s after the manager was killed", killed.elapsed().as_secs_f64());
    let output = tokio::time::timeout(PATIENCE, put.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("the put is done {:.1} s after that", killed.elapsed().as_secs_f64());
    // Each chunk came once: from the manager, or from its author.
    let heard = std::fs::metadata(scratch.0.join("second.bin")).unwrap().len() as usize;
    assert!(heard < length * 3 / 2, "{heard} of {length} bytes came to the standby");
    lines(&bea, &["--link", &pair.home.link, "list"]).await;
    for (path, source) in [("before", &small), ("large", &source)] {
        holds(&bea, path, source, &got).await;
    }

    // The manager is back, catches up and leads again; the other one is not needed any more.
    pair.first = Manager::start(&pair.home.owner, pair.relay(), &[]).await;
    pair.first.leads().await;
    pair.second.tells(|line| line["event"] == "stands-by").await;
    pair.second.child.kill().await.unwrap();
    for (path, source) in [("before", &small), ("large", &source)] {
        holds(&bea, path, source, &got).await;
    }
    assert_eq!(lines(&ann, &["put", text(&small), "large"]).await[0]["version"], 2);
}

#[tokio::test]
async fn a_manager_that_is_stopped_hands_over_what_it_acknowledged() {
    let scratch = Scratch::new("handover");
    let mut pair = Pair::start(&scratch).await;
    let (small, got, ann) = (file(&scratch, "small", 9_000), scratch.0.join("got"), scratch.0.join("ann"));
    lines(&ann, &["--link", &pair.home.link, "put", text(&small), "one"]).await;
    lines(&ann, &["put", text(&small), "two"]).await;
    pair.first.signal("-TERM");
    let stopped = Instant::now();
    assert!(pair.first.child.wait().await.unwrap().success());
    pair.second.leads().await;
    println!("the standby leads {:.1} s after the manager was told to stop", stopped.elapsed().as_secs_f64());
    for path in ["one", "two"] {
        holds(&ann, path, &small, &got).await;
    }
    assert_eq!(lines(&ann, &["put", text(&small), "two"]).await[0]["version"], 2);
}

#[tokio::test]
async fn what_two_managers_took_without_knowing_of_each_other_is_there_in_both_and_one_of_it_in_conflict() {
    let scratch = Scratch::new("divided");
    let mut pair = Pair::start(&scratch).await;
    let (ann, bea, got) = (scratch.0.join("ann"), scratch.0.join("bea"), scratch.0.join("got"));
    let content: Vec<PathBuf> = (0..3).map(|n| file(&scratch, &format!("source-{n}"), 100_000 + n)).collect();
    lines(&ann, &["--link", &pair.home.link, "put", text(&content[0]), "plan"]).await;
    lines(&bea, &["--link", &pair.home.link, "list"]).await;

    // The manager stands still; the other one takes over, takes a version, and is gone.
    pair.first.signal("-STOP");
    pair.second.leads().await;
    assert_eq!(lines(&ann, &["put", text(&content[1]), "plan"]).await[0]["version"], 2);
    pair.second.child.kill().await.unwrap();
    // The manager goes on as if nothing had been, and takes another one.
    pair.first.signal("-CONT");
    assert_eq!(lines(&bea, &["put", text(&content[2]), "plan"]).await[0]["version"], 2);
    pair.second = Manager::start(&pair.standby, pair.relay(), &[]).await;
    let id = pair.second.id.clone();
    pair.first.is_followed(&id).await;

    let mut alike = Vec::new();
    for round in 0..2 {
        // Each has the other's version as soon as it has asked for it.
        let until = Instant::now() + PATIENCE;
        let history = loop {
            let history = lines(&ann, &["history", "plan"]).await;
            if history.len() == 3 {
                break history;
            }
            assert!(Instant::now() < until, "{history:?}");
        };
        assert_eq!(history.iter().map(|e| e["version"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1, 2]);
        let conflict = history[2]["conflict"].as_str().unwrap();
        assert!(history[0]["conflict"].is_null());
        lines(&ann, &["get", "plan", text(&got)]).await;
        let stands = std::fs::read(&got).unwrap();
        lines(&bea, &["get", "plan", text(&got), "--conflict", conflict]).await;
        let beside = std::fs::read(&got).unwrap();
        let read = |n: usize| std::fs::read(&content[n]).unwrap();
        assert!((stands == read(1) && beside == read(2)) || (stands == read(2) && beside == read(1)));
        alike.push((stands, beside));
        if round == 0 {
            // The other one says the same.
            pair.first.child.kill().await.unwrap();
            pair.second.leads().await;
        }
    }
    assert!(alike.len() == 2 && alike[0] == alike[1]);
    assert_eq!(lines(&bea, &["put", text(&content[0]), "plan"]).await[0]["version"], 3);
}
