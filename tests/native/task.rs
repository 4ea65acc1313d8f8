//! Tasks by the command line: participants that offer commands, and others that have them done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::cli::{Scratch, peerage};
use crate::data::{file, holds, in_memory, on_disk, text};
use crate::participant::{Home, LISTEN, Participant, invite, manage};

/// For one command: a machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(150);

/// A script that can be served.
fn script(scratch: &Scratch, name: &str, lines: &str) -> PathBuf {
    let path = scratch.0.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn supplier(scratch: &Scratch, name: &str, link: &str, served: &[&str]) -> Participant {
    let served: Vec<&str> = served.iter().flat_map(|s| ["--serve", s]).collect();
    Participant::start(&scratch.0.join(name), &[&[link, "--name", name], &LISTEN[..], &served].concat()).await
}

/// A running `peerage task request`.
struct Asker {
    child: Child,
    told: Lines<BufReader<ChildStderr>>,
    events: Vec<Value>,
    rest: String,
}

impl Asker {
    fn start(data: &Path, link: &str, arguments: &[&str]) -> Asker {
        let mut child = peerage(data, &[&["task", "--link", link, "request"], arguments].concat()).spawn().unwrap();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        Asker { child, told, events: Vec::new(), rest: String::new() }
    }

    /// The next line on standard error; none at the end. What is no event is kept apart.
    async fn next(&mut self) -> Option<&Value> {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.told.next_line()).await.expect("it goes on").unwrap()?;
            match serde_json::from_str(&line) {
                Ok(event) => {
                    self.events.push(event);
                    return self.events.last();
                }
                Err(_) => self.rest.push_str(&line),
            }
        }
    }

    async fn until(&mut self, wanted: &str) -> Value {
        while let Some(event) = self.next().await {
            if event["event"] == wanted {
                return event.clone();
            }
        }
        panic!("no {wanted}: {:?} {}", self.events, self.rest);
    }

    /// Its standard output once it succeeded.
    async fn done(mut self) -> (String, Vec<Value>) {
        drop(self.child.stdin.take());
        let mut output = String::new();
        let mut pipe = self.child.stdout.take().unwrap();
        let reading = async { pipe.read_to_string(&mut output).await.unwrap() };
        let hearing = async { while self.next().await.is_some() {} };
        tokio::join!(reading, hearing);
        assert!(self.child.wait().await.unwrap().success(), "{:?} {}", self.events, self.rest);
        (output, self.events)
    }

    /// The code with which it failed.
    async fn failed(mut self) -> String {
        drop(self.child.stdin.take());
        while self.next().await.is_some() {}
        assert!(!self.child.wait().await.unwrap().success());
        let code = self.rest.rsplit_once('[').and_then(|(_, code)| code.strip_suffix(']'));
        code.unwrap_or_else(|| panic!("no code: {}", self.rest)).to_owned()
    }
}

#[tokio::test]
async fn what_one_asks_another_does_and_nobody_else_can_read_any_of_it() {
    let scratch = Scratch::new("task");
    let mut home = Home::start(&scratch).await;
    home.manager.kill().await.unwrap();
    let record = scratch.0.join("heard.bin");
    home.manager = manage(&home.owner, &home.ready.addresses[0], &["--record", text(&record)]).await;
    let markers = ["marker-of-the-input", "marker-of-the-output", "marker-of-the-progress"];
    // The output's marker is nowhere but in what the script makes of two halves.
    let work = script(&scratch, "work", "echo marker-of-the'-progress' >&2\ncat\nprintf marker-of-the\nprintf -- -output");
    let mut bob = supplier(&scratch, "bob", &home.link, &[&format!("work={}", text(&work)), "count=wc -c"]).await;

    let source = file(&scratch, "source", 3 << 20);
    let mut bytes = std::fs::read(&source).unwrap();
    bytes[1_000_000..1_000_000 + markers[0].len()].copy_from_slice(markers[0].as_bytes());
    std::fs::write(&source, &bytes).unwrap();
    let (ann, got) = (scratch.0.join("ann"), scratch.0.join("got"));
    let (said, events) = Asker::start(&ann, &home.link, &["work", text(&source), text(&got)]).done().await;
    assert!(said.contains("done"), "{said}");
    bytes.extend_from_slice(markers[1].as_bytes());
    assert!(std::fs::read(&got).unwrap() == bytes, "what came is what went and what was added");
    assert_eq!((&events[0]["event"], &events[0]["supplier"]), (&Value::from("begun"), &Value::from(bob.node.clone())));
    assert_eq!(events[1]["text"], markers[2]);

    for marker in markers {
        for child in [&home.manager, &home.relay] {
            assert!(!in_memory(child.id().unwrap(), marker.as_bytes()), "{marker}");
        }
        for folder in [&home.owner, &scratch.0.join("relay")] {
            assert!(!holds(&on_disk(folder), marker.as_bytes()), "{marker}");
        }
        assert!(!holds(&std::fs::read(&record).unwrap(), marker.as_bytes()), "{marker}");
    }
    // It was there to be found.
    assert!(holds(&std::fs::read(&got).unwrap(), markers[1].as_bytes()));

    // Standard input, and standard output.
    let mut asker = Asker::start(&ann, &home.link, &["count", "-"]);
    let mut input = asker.child.stdin.take().unwrap();
    input.write_all(&vec![7; 200_000]).await.unwrap();
    drop(input);
    assert_eq!(asker.done().await.0.trim(), "200000");
    assert_eq!(Asker::start(&ann, &home.link, &["count"]).done().await.0.trim(), "0", "no input at all");
    bob.child.kill().await.unwrap();
}

#[tokio::test]
async fn a_task_outlives_its_supplier_and_its_result_comes_once() {
    let scratch = Scratch::new("supplier");
    let home = Home::start(&scratch).await;
    // Ends by itself when nobody reads what it says: who is killed kills nobody.
    let half = script(&scratch, "half", "while echo half; do echo underway >&2; sleep 0.2; done");
    let whole = script(&scratch, "whole", "cat");
    let mut bob = supplier(&scratch, "bob", &home.link, &[&format!("work={}", text(&half))]).await;
    let mut asker = Asker::start(&scratch.0.join("ann"), &home.link, &["work", "-"]);
    asker.child.stdin.take().unwrap().write_all(b"the whole of it").await.unwrap();
    asker.until("progress").await;
    let mut cid = supplier(&scratch, "cid", &home.link, &[&format!("work={}", text(&whole))]).await;
    cid.sees(&bob.node).await;
    bob.child.kill().await.unwrap();
    let lost = asker.until("lost").await;
    assert_eq!(lost["supplier"], bob.node);
    let (output, events) = asker.done().await;
    assert_eq!(output, "the whole of it", "and nothing of the half before");
    let begun: Vec<_> = events.iter().filter(|e| e["event"] == "begun").map(|e| e["supplier"].clone()).collect();
    assert_eq!(begun, [Value::from(bob.node), Value::from(cid.node)]);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_who_has_no_room_is_waited_for() {
    let scratch = Scratch::new("room");
    let home = Home::start(&scratch).await;
    let (gate, ann, eve) = (scratch.0.join("gate"), scratch.0.join("ann"), scratch.0.join("eve"));
    let wait = script(&scratch, "wait", &format!("echo here >&2\nuntil [ -e {} ]; do sleep 0.1; done\necho done", text(&gate)));
    let served = [&format!("wait={}", text(&wait)), "fail=false", "nothing=/nowhere/at-all"];
    let _bob = supplier(&scratch, "bob", &home.link, &served).await;

    assert_eq!(Asker::start(&ann, &home.link, &["fail"]).failed().await, "task-failed");
    assert_eq!(Asker::start(&ann, &home.link, &["unheard-of", "--now"]).failed().await, "no-participant");
    assert_eq!(Asker::start(&ann, &home.link, &["unheard-of", "--deadline", "1"]).failed().await, "timeout");
    assert_eq!(
        Asker::start(&ann, &home.link, &["nothing", "--now"]).failed().await,
        "no-participant",
        "who cannot is not asked again at once"
    );
    assert_eq!(Asker::start(&ann, &home.link, &["wait", "/nowhere/at-all"]).failed().await, "storage");

    let mut first = Asker::start(&ann, &home.link, &["wait"]);
    first.until("progress").await;
    let second = Asker::start(&eve, &home.link, &["wait"]);
    // However long that takes: who waits at the manager is not told.
    tokio::time::sleep(Duration::from_secs(3)).await;
    std::fs::write(&gate, "").unwrap();
    assert_eq!(first.done().await.0, "done\n");
    let (output, events) = second.done().await;
    assert_eq!((output.as_str(), &events[0]["event"]), ("done\n", &Value::from("begun")), "nothing was lost by waiting");
}

#[tokio::test]
async fn when_the_demander_is_gone_the_work_ends() {
    let scratch = Scratch::new("gone");
    let home = Home::start(&scratch).await;
    let pid = scratch.0.join("pid");
    let work = script(&scratch, "work", &format!("echo $$ > {}\necho here >&2\nexec sleep 1000", text(&pid)));
    let _bob = supplier(&scratch, "bob", &home.link, &[&format!("work={}", text(&work))]).await;
    // With more input than the command ever reads.
    let source = file(&scratch, "source", 8 << 20);
    let mut asker = Asker::start(&scratch.0.join("ann"), &home.link, &["work", text(&source)]);
    asker.until("progress").await;
    let process = Path::new("/proc").join(std::fs::read_to_string(&pid).unwrap().trim());
    assert!(process.exists());
    asker.child.kill().await.unwrap();
    let until = Instant::now() + PATIENCE;
    while process.exists() {
        assert!(Instant::now() < until, "the command goes on for nobody");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_is_evicted_supplies_no_more() {
    let scratch = Scratch::new("evicted");
    let home = Home::start(&scratch).await;
    let half = script(&scratch, "half", "while echo half; do echo underway >&2; sleep 0.2; done");
    // By an invitation of its own: an eviction closes it.
    let own = invite(&home.owner, &home.ready.addresses[0], &[]).await;
    let bob = supplier(&scratch, "bob", &own, &[&format!("work={}", text(&half))]).await;
    let mut asker = Asker::start(&scratch.0.join("ann"), &home.link, &["work"]);
    asker.until("progress").await;
    let until = Instant::now() + PATIENCE;
    // The manager notes now and then who is in.
    while !peerage(&home.owner, &["evict", &bob.node]).output().await.unwrap().status.success() {
        assert!(Instant::now() < until, "{} is not known", bob.node);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(asker.until("lost").await["supplier"], bob.node);
    let _cid = supplier(&scratch, "cid", &home.link, &["work=echo whole"]).await;
    assert_eq!(asker.done().await.0, "whole\n");
}
