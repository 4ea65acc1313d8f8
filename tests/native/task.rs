//! Tasks by the command line: participants that offer commands, and others that have them done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::cli::{Scratch, failing, peerage};
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
        Asker::run(data, link, &[&["request"], arguments].concat())
    }

    /// `peerage task submit` of a job with these lines.
    fn submit(scratch: &Scratch, link: &str, lines: &str) -> Asker {
        let job = scratch.0.join("job.toml");
        std::fs::write(&job, lines).unwrap();
        Asker::run(&scratch.0.join("ann"), link, &["submit", text(&job)])
    }

    fn run(data: &Path, link: &str, arguments: &[&str]) -> Asker {
        let mut child = peerage(data, &[&["task", "--link", link], arguments].concat()).spawn().unwrap();
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
        self.until_of(wanted, &Value::Null).await
    }

    /// Of a task of a job.
    async fn until_of(&mut self, wanted: &str, task: &Value) -> Value {
        while let Some(event) = self.next().await {
            if event["event"] == wanted && (task.is_null() || event["task"] == *task) {
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

#[tokio::test]
async fn a_job_of_five_tasks_goes_from_supplier_to_supplier_and_only_its_end_comes_back() {
    let scratch = Scratch::new("job");
    let home = Home::start(&scratch).await;
    let gate = scratch.0.join("gate");
    // What only suppliers have: the marker is made of two halves.
    let mark = script(&scratch, "mark", "cat\nprintf marker-of-the\nprintf -- -middle");
    let last = script(&scratch, "last", &format!("echo here >&2\nuntil [ -e {} ]; do sleep 0.1; done\ncat", text(&gate)));
    let bob = supplier(&scratch, "bob", &home.link, &[&format!("mark={}", text(&mark)), &format!("last={}", text(&last))]).await;
    let cid = supplier(&scratch, "cid", &home.link, &["count=wc -c", "sum=cksum"]).await;
    let dan = supplier(&scratch, "dan", &home.link, &["upper=tr a-z A-Z"]).await;
    let source = file(&scratch, "source", 3 << 20);
    let job = format!(
        "[tasks.mark]\ncapability = 'mark'\ninput = {source:?}\n\
         [tasks.count]\ncapability = 'count'\nneeds = ['mark']\n\
         [tasks.upper]\ncapability = 'upper'\nneeds = ['mark']\n\
         [tasks.sum]\ncapability = 'sum'\nneeds = ['upper']\n\
         [tasks.last]\ncapability = 'last'\nneeds = ['sum', 'count', 'mark']\noutput = {:?}\n",
        scratch.0.join("got")
    );
    let mut asker = Asker::submit(&scratch, &home.link, &job);
    asker.until("progress").await;
    // Four are done, and the fifth has all it begins with.
    let marker = b"marker-of-the-middle";
    for child in [&home.manager, &home.relay, &asker.child] {
        assert!(!in_memory(child.id().unwrap(), marker));
    }
    let kept = on_disk(&scratch.0.join("bob/participant/kept"));
    assert!(holds(&kept, marker), "bob keeps it");
    std::fs::write(&gate, "").unwrap();
    let (_, events) = asker.done().await;

    let mut middle = std::fs::read(&source).unwrap();
    middle.extend_from_slice(marker);
    let upper = middle.to_ascii_uppercase();
    let sum = std::process::Command::new("cksum").stdin(std::fs::File::open(stored(&scratch, &upper)).unwrap()).output().unwrap().stdout;
    let count = format!("{}\n", middle.len()).into_bytes();
    assert!(std::fs::read(scratch.0.join("got")).unwrap() == [sum, count, middle].concat(), "in the order in which they were named");
    let by = |task: &str| events.iter().find(|e| e["event"] == "begun" && e["task"] == task).unwrap()["supplier"].clone();
    let who = [&bob, &cid, &dan, &cid, &bob].map(|p| Value::from(p.node.clone()));
    assert_eq!(["mark", "count", "upper", "sum", "last"].map(by), who);
    let kept = |task: &str| events.iter().find(|e| e["event"] == "kept" && e["task"] == task).unwrap()["size"].as_u64().unwrap();
    assert_eq!((kept("mark"), kept("upper")), (upper.len() as u64, upper.len() as u64));
    // Whoever kept something lets go of it once nobody needs it.
    let begun = Instant::now();
    while std::fs::read_dir(scratch.0.join("bob/participant/kept")).unwrap().next().is_some() {
        assert!(begun.elapsed() < PATIENCE, "it is still kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn stored(scratch: &Scratch, bytes: &[u8]) -> PathBuf {
    let path = scratch.0.join("stored");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn a_result_that_is_lost_with_its_supplier_is_made_anew() {
    let scratch = Scratch::new("anew");
    let home = Home::start(&scratch).await;
    let mut bob = supplier(&scratch, "bob", &home.link, &["make=tr a-z A-Z"]).await;
    let job = format!(
        "[tasks.make]\ncapability = 'make'\ninput = {:?}\n[tasks.use]\ncapability = 'use'\nneeds = ['make']\n",
        stored(&scratch, b"made twice")
    );
    let mut asker = Asker::submit(&scratch, &home.link, &job);
    assert_eq!(asker.until("kept").await["supplier"], bob.node);
    let mut cid = supplier(&scratch, "cid", &home.link, &["make=tr a-z A-Z"]).await;
    cid.sees(&bob.node).await;
    bob.child.kill().await.unwrap();
    asker.until_of("again", &"make".into()).await;
    assert_eq!(asker.until("kept").await["supplier"], cid.node);
    let _dan = supplier(&scratch, "dan", &home.link, &["use=rev"]).await;
    assert_eq!(asker.done().await.0, "ECIWT EDAM");
}

#[tokio::test]
async fn a_job_that_cannot_be_is_refused_and_one_that_fails_says_where() {
    let scratch = Scratch::new("wrong");
    let home = Home::start(&scratch).await;
    let _bob = supplier(&scratch, "bob", &home.link, &["copy=cat", "fail=false"]).await;
    for lines in [
        "",
        "tasks = {}",
        "[tasks.a]\ncapability = 'copy'\nneeds = ['b']",
        "[tasks.a]\ncapability = 'copy'\nneeds = ['b']\n[tasks.b]\ncapability = 'copy'\nneeds = ['a']",
        "[tasks.a]\ncapability = 'copy'\n[tasks.b]\ncapability = 'copy'",
        "[tasks.a]\ncapability = 'copy'\nneed = []",
        "[tasks.a]\ncapability = 'copy'\nwhere = { gpu = [] }",
    ] {
        assert_eq!(Asker::submit(&scratch, &home.link, lines).failed().await, "bad-argument", "{lines}");
    }
    let lines =
        "[tasks.a]\ncapability = 'copy'\n[tasks.b]\ncapability = 'fail'\nneeds = ['a']\n[tasks.c]\ncapability = 'copy'\nneeds = ['b']";
    assert_eq!(Asker::submit(&scratch, &home.link, lines).failed().await, "task-failed");
    let lines = "[tasks.a]\ncapability = 'copy'\nnow = true\nwhere = { gpu = true }";
    assert_eq!(Asker::submit(&scratch, &home.link, lines).failed().await, "no-participant");
}

#[tokio::test]
async fn what_is_offered_to_some_is_done_for_nobody_else() {
    let scratch = Scratch::new("some");
    let mut home = Home::start(&scratch).await;
    let own = invite(&home.owner, &home.ready.addresses[0], &[]).await;
    let (ann, eve) = (scratch.0.join("ann"), scratch.0.join("eve"));
    let serving = [&[own.as_str(), "--serve", "open=echo welcome", "--for", &own], &LISTEN[..]].concat();
    let mut door = Participant::start(&scratch.0.join("door"), &serving).await;
    for _ in 0..2 {
        assert_eq!(Asker::start(&ann, &own, &["open"]).done().await.0, "welcome\n");
        assert_eq!(Asker::start(&eve, &home.link, &["open", "--now"]).failed().await, "no-participant");
        // Once the manager pairs, and once whoever asks.
        home.manager.kill().await.unwrap();
    }
    door.child.kill().await.unwrap();
    let (said, _) = failing(peerage(&scratch.0.join("door"), &["join", "--serve", "open=cat", "--for", "everybody"])).await;
    assert!(said.contains("nobody is named by everybody"), "{said}");
}
