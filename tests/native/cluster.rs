//! The command line from end to end: a relay, a manager and participants, each a process, on loopback.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use peerage::base::{Now, limit};
use peerage::crypto::sign::SigningKey;
use peerage::node::{data::DataDir, domain::DomainFiles};
use peerage::peer::{InviteOptions, make_invitation};
use peerage::platform::native;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use zeroize::Zeroizing;

use crate::cli::{Scratch, failing, peerage};
use crate::participant::{Home, LISTEN, Participant, invite, manage};
use crate::support::PATIENCE;

/// One participant by the link, in a folder of its own.
async fn joined(scratch: &Scratch, link: &str, name: &str) -> Participant {
    Participant::start(&scratch.0.join(name), &[&[link, "--name", name], &LISTEN[..]].concat()).await
}

fn from(node: &str, text: &str) -> impl Fn(&Value) -> bool {
    move |line| line["event"] == "message" && line["from"] == node && line["text"] == text
}

#[tokio::test]
async fn processes_form_a_cluster_that_outlives_its_manager_and_its_relay() {
    let scratch = Scratch::new("cluster");
    let mut home = Home::start(&scratch).await;
    let mut a = joined(&scratch, &home.link, "ann").await;
    let mut b = joined(&scratch, &home.link, "bea").await;
    a.sees(&b.node).await;
    b.sees(&a.node).await;

    // From its own copy of the directory: names, roles, capabilities.
    a.say(json!({"cmd": "participants", "id": 5})).await;
    let answer = a.line(|line| line["event"] == "answer" && line["id"] == 5).await;
    let all = answer["participants"].as_array().unwrap();
    let one = |role: &str, name: &str| all.iter().find(|p| p["role"] == role && p["name"] == name).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!((one("participant", "ann")["self"].as_bool(), one("participant", "bea")["self"].as_bool()), (Some(true), Some(false)));
    assert_eq!(one("manager", "manager")["capabilities"][0]["name"], "domain/manager");

    // Both ways, in both modes, to one and to all.
    for p in [&mut a, &mut b] {
        p.say(json!({"cmd": "open", "channel": "chat"})).await;
        p.say(json!({"cmd": "open", "channel": "pose", "mode": "latest"})).await;
    }
    a.say(json!({"cmd": "send", "channel": "chat", "text": "to all"})).await;
    b.line(from(&a.node, "to all")).await;
    b.say(json!({"cmd": "send", "channel": "chat", "to": [a.node], "text": "to you", "id": 6})).await;
    a.line(from(&b.node, "to you")).await;
    b.say(json!({"cmd": "send", "channel": "pose", "mode": "latest", "key": "me", "text": "here"})).await;
    a.line(from(&b.node, "here")).await;

    // Lines that are no commands are answered, and the next one is carried out.
    for (line, code) in [
        (json!({"cmd": "fly", "id": 7}), "bad-argument"),
        (json!({"cmd": "send", "channel": "chat", "text": "x", "data": "AA==", "id": 8}), "bad-argument"),
        (json!({"cmd": "send", "channel": "chat", "to": ["nobody"], "text": "x", "id": 9}), "bad-id"),
        (json!({"cmd": "open", "channel": "", "id": 10}), "bad-argument"),
        (json!([]), "bad-argument"),
    ] {
        a.say(line.clone()).await;
        let answer = a.line(|line| line["event"] == "error").await;
        assert_eq!(answer["code"], code, "{line}: {answer}");
    }
    assert_eq!(a.here().await.len(), 3);

    // What one does not read waits, until it is gone: the sender is told who misses it.
    let mut c = joined(&scratch, &home.link, "cyd").await;
    a.sees(&c.node).await;
    c.say(json!({"cmd": "open", "channel": "unread by bea"})).await;
    let long = "x".repeat(100_000);
    a.say(json!({"cmd": "send", "channel": "unread by bea", "to": [b.node, c.node], "text": long, "id": 11})).await;
    c.line(from(&a.node, &long)).await;

    // Without the manager they go on, and know what is missing; it comes back on another port.
    home.manager.kill().await.unwrap();
    a.line(|line| line["event"] == "degraded" && line["capability"] == "domain/manager").await;
    a.say(json!({"cmd": "send", "channel": "chat", "text": "without it"})).await;
    b.line(from(&a.node, "without it")).await;
    home.manager = manage(&home.owner, &home.ready.addresses[0], &[]).await;
    a.line(|line| line["event"] == "restored" && line["capability"] == "domain/manager").await;

    // Without the relay likewise.
    home.relay.kill().await.unwrap();
    a.line(|line| line["event"] == "relay" && line["up"] == false).await;
    b.say(json!({"cmd": "send", "channel": "chat", "text": "no relay"})).await;
    a.line(from(&b.node, "no relay")).await;

    // Who leaves is seen to, also by whom it owes a message.
    b.say(json!({"cmd": "leave"})).await;
    // In either order; to a machine that stood still bea may have been gone before, and the message was missed then.
    a.said(|line| line["event"] == "participant" && line["node"] == b.node.as_str() && line["change"] == "left").await;
    let missed = a.said(|line| line["event"] == "error" && line["id"] == 11).await;
    assert_eq!(missed["code"], "no-participant", "{missed}");
    let message = missed["message"].as_str().unwrap();
    assert!(message.contains(&b.node) && !message.contains(&c.node), "{missed}");
    assert!(tokio::time::timeout(PATIENCE, b.child.wait()).await.expect("it ends").unwrap().success());

    for path in files(&scratch.0) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is for its owner alone", path.display());
    }
}

#[tokio::test]
async fn an_owner_approves_delegates_evicts_and_closes() {
    let scratch = Scratch::new("owner");
    let mut home = Home::start(&scratch).await;
    let mut told = BufReader::new(home.manager.stderr.take().unwrap()).lines();
    let owner = |arguments: &[&str]| {
        let command = peerage(&home.owner, arguments).output();
        async {
            let output = tokio::time::timeout(PATIENCE, command).await.expect("it ends").unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }
    };
    let mut a = joined(&scratch, &home.link, "ann").await;
    let mut b = joined(&scratch, &home.link, "bea").await;
    a.sees(&b.node).await;

    // Who comes by an invitation that has to be approved is named to the owner, and let in.
    let approve = invite(&home.owner, &home.ready.addresses[0], &["--approve"]).await;
    let data = scratch.0.join("cal");
    let joining =
        tokio::spawn(async move { Participant::start(&data, &[&[approve.as_str(), "--name", "cal"], &LISTEN[..]].concat()).await });
    let asked = tokio::time::timeout(PATIENCE, told.next_line()).await.expect("the manager says so").unwrap().unwrap();
    assert!(asked.starts_with("\"cal\" waits to be let in: peerage approve "), "{asked}");
    let waiting = asked.split_whitespace().last().unwrap();
    owner(&["approve", waiting]).await;
    let mut c = joining.await.unwrap();
    assert_eq!(c.node, waiting);

    // A participant evicts only with the right to it.
    a.sees(&c.node).await;
    a.say(json!({"cmd": "evict", "node": c.node, "id": 1})).await;
    assert_eq!(a.line(|line| line["id"] == 1).await["code"], "forbidden");
    owner(&["delegate", &a.node, "evict"]).await;
    a.evicts(&c.node).await;
    c.line(|line| line["event"] == "closed").await;

    // The owner evicts from outside.
    owner(&["evict", &b.node]).await;
    b.line(|line| line["event"] == "closed").await;
    assert_eq!(tokio::time::timeout(PATIENCE, b.child.wait()).await.expect("it ends").unwrap().code(), Some(1));
    let (said, _) = failing(peerage(&scratch.0.join("bea"), &[&["join"], &LISTEN[..]].concat())).await;
    assert!(said.ends_with("[forbidden]\n"), "{said}");

    // The eviction closed the invitation she came with; the one who came with it too stays. Another is closed by its link.
    let (said, _) = failing(peerage(&scratch.0.join("dan"), &[&["join", &home.link], &LISTEN[..]].concat())).await;
    assert!(said.ends_with("[invite-revoked]\n"), "{said}");
    let other = invite(&home.owner, &home.ready.addresses[0], &[]).await;
    owner(&["invite", "--revoke", &other]).await;
    let (said, _) = failing(peerage(&scratch.0.join("eve"), &[&["join", &other], &LISTEN[..]].concat())).await;
    assert!(said.ends_with("[invite-revoked]\n"), "{said}");
    assert_eq!(a.here().await.len(), 2);
    // With it those by which the evicted came.
    let shown = owner(&["domain", "show"]).await;
    assert_eq!(shown.lines().filter(|line| line.contains(" Revoked, used ")).count(), 3, "{shown}");

    let (said, code) = failing(peerage(&home.owner, &["evict", &home.ready.id])).await;
    assert!(said.ends_with("[no-participant]\n") && code == 1, "{said}");
    let (said, code) = failing(peerage(&home.owner, &["evict", "nobody"])).await;
    assert!(said.contains("nobody") && code == 2, "{said}");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
}

#[tokio::test]
async fn a_link_that_leads_nowhere_ends_with_its_code() {
    let scratch = Scratch::new("wrong");
    let home = Home::start(&scratch).await;
    let relay = home.ready.addresses[0].clone();
    let (page, fragment) = home.link.split_once('#').unwrap();
    let middle = fragment.len() / 2;
    let changed = if &fragment[middle..=middle] == "A" { "B" } else { "A" };
    let garbled = format!("{page}#{}{changed}{}", &fragment[..middle], &fragment[middle + 1..]);
    let truncated = home.link[..home.link.len() - 4].to_owned();

    // Made with the domain's own key: one that ended a moment ago by any clock, and one that no member was told of.
    let files = DomainFiles::open(&DataDir::open(&home.owner).unwrap()).unwrap();
    let saved = files.load().unwrap().unwrap();
    let root = SigningKey::from_seed(saved.root.as_ref().unwrap());
    let now = native::clock();
    let make = |secret: u8, at: Now| {
        let place = peerage::wire::link::InviteLink::parse(&home.link).unwrap().rendezvous;
        make_invitation(at, &saved.id(), &root, Zeroizing::new([secret; 32]), place, None, vec![relay.clone()], InviteOptions::default())
    };
    let age = InviteOptions::default().lifetime + limit::CLOCK_SKEW + Duration::from_secs(1);
    let (expired, statement) = make(1, Now { wall: now.wall.before(age), ..now });
    files.statements().unwrap().add(&statement).unwrap();
    let (unknown, _) = make(2, now);

    let used = invite(&home.owner, &relay, &["--uses", "1"]).await;
    drop(joined(&scratch, &used, "first").await);

    let stranger = scratch.0.join("stranger");
    assert!(peerage(&stranger, &["domain", "create", "nobody home"]).output().await.unwrap().status.success());
    let foreign = invite(&stranger, &relay, &[]).await;
    let nowhere = invite(&stranger, "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", &[]).await;

    for (i, (link, code)) in [
        ("hello", "invite-garbled"),
        (&garbled, "invite-garbled"),
        (&truncated, "invite-garbled"),
        (&expired.to_url(page), "invite-expired"),
        (&unknown.to_url(page), "invite-unknown"),
        (&used, "invite-used"),
        (&foreign, "no-member"),
        (&nowhere, "no-relay"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = scratch.0.join(format!("wrong-{i}"));
        let (said, exit) = failing(peerage(&data, &[&["join", link], &LISTEN[..]].concat())).await;
        assert!(said.ends_with(&format!(" [{code}]\n")) && said.lines().count() == 1, "{code}: {said}");
        assert_eq!(exit, 1, "{said}");
    }
}

/// `peerage up` on ports of its own, with a page.
struct Up {
    scratch: Scratch,
    ports: [u16; 4],
}

impl Up {
    fn new(name: &str) -> Up {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.0.join("www")).unwrap();
        std::fs::write(scratch.0.join("www/index.html"), "<!doctype html>").unwrap();
        // Taken at once, so that they differ; free again when they are used.
        let taken = [(); 4].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = taken.each_ref().map(|t| t.local_addr().unwrap().port());
        let [page, relay, manager, http] = ports;
        let settings = format!(
            "[page]\nhttp = \"127.0.0.1:{page}\"\nwww = {:?}\n[relay]\nlisten = [\"/ip4/127.0.0.1/tcp/{relay}\"]\nhttp = \"127.0.0.1:{http}\"\n\
             [manager]\nlisten = [\"/ip4/127.0.0.1/tcp/{manager}\"]\n",
            scratch.0.join("www")
        );
        std::fs::write(scratch.0.join("settings.toml"), settings).unwrap();
        Up { scratch, ports }
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = peerage(&self.scratch.0.join("data"), &["up", "--config"]);
        command.arg(self.scratch.0.join("settings.toml"));
        command
    }

    /// Started: the process, the link it printed, and the ids of the processes it started.
    async fn start(&self) -> (Child, String, Vec<u32>, Lines<BufReader<ChildStdout>>) {
        let mut child = self.command().spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut link, mut children) = (String::new(), Vec::new());
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
            let Some(line) = line else {
                let mut said = String::new();
                child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
                panic!("it ended: {said}");
            };
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(url), None, None) if url.contains("/#") => url.clone_into(&mut link),
                (Some("relay" | "manager"), Some("process"), Some(pid)) => children.push(pid.parse().unwrap()),
                (Some("Ctrl-C"), ..) => return (child, link, children, lines),
                _ => {}
            }
        }
    }
}

async fn interrupted(mut child: Child, children: &[u32]) {
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it stops").unwrap();
    assert!(status.success());
    for pid in children {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} was left behind");
    }
}

#[tokio::test]
async fn up_keeps_its_domain_and_stops_cleanly() {
    let up = Up::new("up");
    let (child, link, children, _lines) = up.start().await;
    assert!(link.starts_with(&format!("http://127.0.0.1:{}/#", up.ports[0])), "{link}");
    assert_eq!(children.len(), 2);
    let participant = joined(&up.scratch, &link, "guest").await;
    assert!(!participant.node.is_empty());

    // A second one at the same time finds its ports taken, and leaves the first alone.
    let (said, code) = failing(up.command()).await;
    assert!(said.contains("taken by another program") && said.contains(&up.ports[0].to_string()), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    interrupted(child, &children).await;
    let (child, again, children, _lines) = up.start().await;
    assert_eq!(again, link, "the same domain, the same invitation");
    interrupted(child, &children).await;
}

#[tokio::test]
async fn up_says_in_one_line_why_it_cannot_start() {
    let up = Up::new("up-trouble");
    // A relay has its port: what was started already is stopped again.
    let taken = std::net::TcpListener::bind(("127.0.0.1", up.ports[1])).unwrap();
    let (said, code) = failing(up.command()).await;
    assert!(said.contains(&up.ports[1].to_string()), "{said}");
    assert_eq!(code, 1, "{said}");
    drop(taken);

    std::fs::remove_file(up.scratch.0.join("www/index.html")).unwrap();
    let (said, code) = failing(up.command()).await;
    assert!(said.contains("there is no page in") && said.contains("--www"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");

    // A file where the directory should be: nobody, root included, can make a directory there.
    let up = Up::new("up-unwritable");
    std::fs::write(up.scratch.0.join("data"), "").unwrap();
    let (said, code) = failing(up.command()).await;
    assert!(said.contains("cannot be"), "{said}");
    assert_eq!((said.lines().count(), code), (1, 1), "{said}");
}

#[tokio::test]
async fn the_doctor_tries_every_way_to_a_relay_and_says_when_there_is_none() {
    let scratch = Scratch::new("doctor");
    let mut home = Home::start(&scratch).await;
    let told = |data: std::path::PathBuf, arguments: Vec<String>| async move {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = tokio::time::timeout(PATIENCE, peerage(&data, &[&["doctor"], &arguments[..]].concat()).output())
            .await
            .expect("it ends")
            .unwrap();
        let code = String::from_utf8(output.stderr).unwrap().trim_end().rsplit_once('[').map(|(_, code)| code.to_owned());
        (String::from_utf8(output.stdout).unwrap(), code)
    };
    let elsewhere = scratch.0.join("elsewhere");
    let (said, code) = told(elsewhere.clone(), vec![home.link.clone()]).await;
    assert!(said.lines().count() > 0 && said.lines().all(|line| line.starts_with("works ")) && code.is_none(), "{said} {code:?}");
    let (said, _) = told(elsewhere.clone(), home.ready.addresses.clone()).await;
    assert_eq!(said.lines().filter(|line| line.starts_with("works ")).count(), home.ready.addresses.len(), "{said}");
    assert_eq!(told(elsewhere.clone(), Vec::new()).await.1.as_deref(), Some("no-relay]"), "none is known here");
    home.relay.kill().await.unwrap();
    let (said, code) = told(elsewhere, vec![home.link.clone()]).await;
    assert!(said.contains("fails") && said.contains("No way leads to a relay"), "{said}");
    assert_eq!(code.as_deref(), Some("no-relay]"));
}
