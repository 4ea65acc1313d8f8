//! Domain data by the command line: a relay, a manager that is killed and comes back, and participants that put and get.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peerage::base::Rng;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::cli::{Scratch, failing, peerage};
use crate::participant::{Home, LISTEN, Participant, invite, manage};

/// For one command: a machine that is busy takes its time.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// What a command prints, a line each, once it has succeeded.
pub async fn lines(data: &Path, arguments: &[&str]) -> Vec<Value> {
    let command = peerage(data, &[&["data"], arguments].concat()).output();
    let output = tokio::time::timeout(PATIENCE, command).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command of the owner's about a member: the manager notes now and then who is in.
async fn owns(home: &Home, arguments: &[&str]) {
    let until = Instant::now() + PATIENCE;
    while !peerage(&home.owner, arguments).output().await.unwrap().status.success() {
        assert!(Instant::now() < until, "in vain: {arguments:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn refused(data: &Path, arguments: &[&str], code: &str) {
    let (said, _) = failing(peerage(data, &[&["data"], arguments].concat())).await;
    assert!(said.ends_with(&format!("[{code}]\n")), "{arguments:?}: {said}");
}

/// A file of so many bytes, none like another.
pub fn file(scratch: &Scratch, name: &str, length: usize) -> PathBuf {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(length as u64).to_be_bytes());
    let mut rng = Rng::from_seed(seed);
    let content: Vec<u8> = std::iter::repeat_with(|| rng.bytes::<64>()).flatten().take(length).collect();
    let path = scratch.0.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether a process has these bytes anywhere in its memory.
pub fn in_memory(pid: u32, wanted: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let regions = maps.lines().filter_map(|line| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
    });
    let mut found = false;
    for (from, to) in regions {
        let mut bytes = vec![0; (to - from) as usize];
        // Some regions are the kernel's.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found |= holds(&bytes, wanted);
        }
    }
    found
}

pub fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// All bytes of all files below a folder.
pub fn on_disk(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(on_disk(&path));
        } else {
            all.extend(std::fs::read(&path).unwrap());
        }
    }
    all
}

#[tokio::test]
async fn what_one_puts_another_gets_and_the_manager_can_read_none_of_it() {
    let scratch = Scratch::new("data");
    let mut home = Home::start(&scratch).await;
    home.manager.kill().await.unwrap();
    let record = scratch.0.join("heard.bin");
    home.manager = manage(&home.owner, &home.ready.addresses[0], &["--record", text(&record), "--member-quota", "900000"]).await;
    let (ann, bea) = (scratch.0.join("ann"), scratch.0.join("bea"));

    let markers = ["marker-of-the-content", "marker-of-the-path", "marker-of-the-metadata", "marker/of-the-type"];
    let [content, path, meta, media] = markers;
    let source = file(&scratch, "source", 300_000);
    let mut bytes = std::fs::read(&source).unwrap();
    bytes[100_000..100_000 + content.len()].copy_from_slice(content.as_bytes());
    std::fs::write(&source, &bytes).unwrap();
    let meta_json = format!("{{\"is\":\"{meta}\"}}");
    let put = ["--link", &home.link, "put", text(&source), path, "--type", media, "--meta", &meta_json];
    let stored = &lines(&ann, &put).await[0];
    assert_eq!((stored["version"].as_u64(), stored["length"].as_u64(), stored["path"].as_str()), (Some(1), Some(300_000), Some(path)));
    assert_eq!((&stored["meta"]["is"], &stored["type"]), (&Value::from(meta), &Value::from(media)));

    // Another participant, that nobody but the manager was there for.
    assert_eq!(lines(&bea, &["--link", &home.link, "list"]).await, std::slice::from_ref(stored));
    let got = scratch.0.join("got");
    lines(&bea, &["get", path, text(&got)]).await;
    assert!(std::fs::read(&got).unwrap() == bytes);
    let part = peerage(&bea, &["data", "get", path, "-", "--from", "65000", "--to", "200001"]).output().await.unwrap();
    assert!(part.stdout == bytes[65_000..200_001], "{}", String::from_utf8_lossy(&part.stderr));

    // Versions follow one another, and nobody replaces one unseen.
    let small = scratch.0.join("small");
    std::fs::write(&small, "").unwrap();
    refused(&bea, &["put", text(&small), path, "--if-version", "0"], "conflict").await;
    assert_eq!(lines(&bea, &["put", text(&small), path, "--if-version", "1"]).await[0]["version"], 2);
    lines(&ann, &["get", path, text(&got)]).await;
    assert_eq!(std::fs::read(&got).unwrap(), b"");
    lines(&ann, &["get", path, text(&got), "--at-version", "1"]).await;
    assert!(std::fs::read(&got).unwrap() == bytes);
    lines(&ann, &["delete", path]).await;
    refused(&bea, &["get", path, text(&got)], "no-object").await;
    assert!(lines(&bea, &["list"]).await.is_empty());
    let history = lines(&bea, &["history", path]).await;
    let kinds: Vec<_> = history.iter().map(|e| (e["version"].as_u64().unwrap(), e["deleted"].as_bool().unwrap())).collect();
    assert_eq!(kinds, [(3, true), (2, false), (1, false)]);
    refused(&bea, &["put", text(&small), "../escape"], "bad-argument").await;
    refused(&bea, &["put", text(&scratch.0)], "bad-argument").await;

    // Standard input, whose length nobody knows before its end.
    let mut child = peerage(&bea, &["data", "put", "-", "from/standard/input"]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(&ann, &["get", "from/standard/input", text(&got)]).await;
    assert!(std::fs::read(&got).unwrap() == bytes);
    let quota = &lines(&ann, &["quota"]).await[0];
    // Both contents, filled up and sealed; the deleted versions are gone.
    let used = quota["used"].as_u64().unwrap();
    assert!((300_000..340_000).contains(&used), "{quota}");
    assert_eq!((quota["own_quota"].as_u64(), quota["quota"].as_u64()), (Some(900_000), Some(64 << 30)));
    refused(&ann, &["put", text(&file(&scratch, "large", 1_000_000)), "too/much"], "quota").await;

    let (heard, disk, pid) = (std::fs::read(&record).unwrap(), on_disk(&scratch.0.join("owner")), home.manager.id().unwrap());
    assert!(heard.len() > 600_000, "it heard of both");
    for marker in markers.iter().map(|marker| marker.as_bytes()) {
        assert!(!holds(&heard, marker) && !holds(&disk, marker) && !in_memory(pid, marker));
    }
    // The same search finds what is there.
    assert!(in_memory(pid, &bytes_of_domain(&home)) && holds(&disk, b"town"));
}

/// What the manager does know: its own id.
fn bytes_of_domain(home: &Home) -> Vec<u8> {
    home.ready.addresses[0].as_bytes().to_vec()
}

/// Waits until a manager has a file of more than so many bytes of objects.
pub async fn grows(data: &Path, bytes: u64) {
    let folder = data.join("manager/objects");
    let until = Instant::now() + PATIENCE;
    loop {
        let files = std::fs::read_dir(&folder).into_iter().flatten().filter_map(|e| e.ok()?.metadata().ok());
        if files.map(|m| m.len()).max().unwrap_or_default() > bytes {
            return;
        }
        assert!(Instant::now() < until, "nothing comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_put_goes_on_after_a_kill_of_the_manager_and_of_itself() {
    let scratch = Scratch::new("resumed");
    let mut home = Home::start(&scratch).await;
    let length = std::env::var("PEERAGE_TEST_OBJECT_MIB").map_or(40, |v| v.parse().unwrap()) * MIB;
    let source = file(&scratch, "source", length);
    let (ann, bea, got) = (scratch.0.join("ann"), scratch.0.join("bea"), scratch.0.join("got"));
    lines(&ann, &["--link", &home.link, "list"]).await;
    let again = |home: &Home, name: &str| {
        let record = scratch.0.join(name);
        let (owner, relay) = (home.owner.clone(), home.ready.addresses[0].clone());
        async move { (manage(&owner, &relay, &["--record", text(&record)]).await, record) }
    };
    let putting = |path: &str| -> Child { peerage(&ann, &["data", "put", text(&source), path]).spawn().unwrap() };

    // The manager is killed in the middle and comes back: what it had on disk is not sent again.
    let put = putting("first");
    grows(&home.owner, length as u64 / 2).await;
    home.manager.kill().await.unwrap();
    let record;
    (home.manager, record) = again(&home, "second.bin").await;
    let output = tokio::time::timeout(PATIENCE, put.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heard = std::fs::metadata(&record).unwrap().len() as usize;
    assert!(heard < length * 3 / 4, "{heard} of {length} bytes were sent again");
    lines(&bea, &["--link", &home.link, "get", "first", text(&got)]).await;
    assert!(std::fs::read(&got).unwrap() == std::fs::read(&source).unwrap());

    // The putting program is killed, and started again with the same file.
    let mut put = putting("second");
    let before = std::fs::metadata(&record).unwrap().len() as usize;
    loop {
        let sent = std::fs::metadata(&record).unwrap().len() as usize - before;
        if sent > length / 2 {
            break;
        }
        assert!(put.try_wait().unwrap().is_none(), "it is still at it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    put.kill().await.unwrap();
    home.manager.kill().await.unwrap();
    let third;
    (home.manager, third) = again(&home, "third.bin").await;
    assert_eq!(lines(&ann, &["put", text(&source), "second"]).await[0]["version"], 1);
    let heard = std::fs::metadata(&third).unwrap().len() as usize;
    assert!(heard < length * 3 / 4, "{heard} of {length} bytes were sent again");
    lines(&bea, &["get", "second", text(&got)]).await;
    assert!(std::fs::read(&got).unwrap() == std::fs::read(&source).unwrap());
}

#[tokio::test]
async fn who_was_evicted_is_not_given_the_next_storage_key_and_open_invitations_still_work() {
    let scratch = Scratch::new("rekeyed");
    let home = Home::start(&scratch).await;
    let (ann, bea, cyd) = (scratch.0.join("ann"), scratch.0.join("bea"), scratch.0.join("cyd"));
    let relay = &home.ready.addresses[0];
    let other = invite(&home.owner, relay, &[]).await;
    let (source, got) = (file(&scratch, "source", 5_000), scratch.0.join("got"));
    let old = lines(&bea, &["--link", &other, "put", text(&source), "old"]).await.remove(0);
    lines(&ann, &["--link", &home.link, "list"]).await;

    let (node, until) = (old["author"].as_str().unwrap(), Instant::now() + PATIENCE);
    owns(&home, &["evict", node]).await;
    loop {
        let output = peerage(&bea, &["data", "list"]).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            assert!(said.ends_with("[forbidden]\n"), "{said}");
            break;
        }
        assert!(Instant::now() < until, "it is still served");
    }
    // Ann's key came with her enrolment; she seals under the next generation, and reads both.
    lines(&ann, &["put", text(&source), "new"]).await;
    lines(&ann, &["get", "old", text(&got)]).await;
    // So does who comes by an invitation that was open all the time, and by a new one.
    let late = invite(&home.owner, relay, &[]).await;
    for (data, link) in [(&cyd, &home.link), (&scratch.0.join("dan"), &late)] {
        let listed = lines(data, &["--link", link, "list"]).await;
        assert_eq!(listed.iter().map(|e| e["path"].as_str().unwrap()).collect::<Vec<_>>(), ["new", "old"]);
        for path in ["old", "new"] {
            lines(data, &["get", path, text(&got)]).await;
            assert!(std::fs::read(&got).unwrap() == std::fs::read(&source).unwrap());
        }
    }
    // One lockbox for each invitation, and one for the next generation and what came after.
    let lockboxes = std::fs::read_dir(home.owner.join("domain/lockboxes")).unwrap().count();
    assert!(lockboxes >= 4, "{lockboxes}");
}

#[tokio::test]
async fn whoever_has_the_right_to_store_renews_the_storage_key_while_the_owner_is_away() {
    let scratch = Scratch::new("storing");
    let home = Home::start(&scratch).await;
    let (ann, dan) = (scratch.0.join("ann"), scratch.0.join("dan"));
    let (source, got) = (file(&scratch, "source", 5_000), scratch.0.join("got"));
    // Another invitation: what it gives is closed with who came by it.
    let other = invite(&home.owner, &home.ready.addresses[0], &[]).await;
    let old = lines(&ann, &["--link", &home.link, "put", text(&source), "old"]).await.remove(0);
    lines(&dan, &["--link", &home.link, "list"]).await;
    let mut bea = Participant::start(&scratch.0.join("bea"), &[&[home.link.as_str()], &LISTEN[..]].concat()).await;
    let mut cyd = Participant::start(&scratch.0.join("cyd"), &[&[other.as_str()], &LISTEN[..]].concat()).await;
    bea.sees(&cyd.node).await;
    for (node, right) in [(old["author"].as_str().unwrap(), "store"), (&bea.node, "evict")] {
        owns(&home, &["delegate", node, right]).await;
    }

    // Somebody evicts who may, and may not renew the key.
    bea.evicts(&cyd.node).await;
    cyd.line(|line| line["event"] == "closed").await;
    let until = Instant::now() + PATIENCE;
    loop {
        let output = peerage(&dan, &["data", "put", text(&source), "refused"]).output().await.unwrap();
        if !output.status.success() {
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.ends_with("[busy]\n"), "{said}");
            break;
        }
        assert!(Instant::now() < until, "dan does not hear of the eviction");
    }
    // Whoever may renew it comes, and does.
    lines(&ann, &["put", text(&source), "new"]).await;
    lines(&dan, &["put", text(&source), "newer"]).await;
    for path in ["old", "new", "newer"] {
        lines(&dan, &["get", path, text(&got)]).await;
        assert!(std::fs::read(&got).unwrap() == std::fs::read(&source).unwrap(), "{path}");
    }
}
