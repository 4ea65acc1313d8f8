//! What outlives a process: the store alone, and `peerage join` killed and started again.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use peerage::base::Code;
use peerage::platform::native::store::RedbStore;
use peerage::runtime::store::Store;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{Scratch, failing, peerage};
use crate::participant::{Home, LISTEN, Participant};
use crate::support::PATIENCE;

fn bytes(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new(text.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_store_keeps_what_was_written_for_its_owner_alone() {
    let scratch = Scratch::new("store");
    let path = scratch.0.join("store.redb");
    let store = RedbStore::open(&path).await.unwrap();
    assert!(store.list().await.unwrap().is_empty() && store.get("a").await.unwrap().is_none());
    store.write(vec![("a".into(), bytes("1")), ("b".into(), bytes("2"))]).await.unwrap();
    store.write(vec![("a".into(), bytes("3")), ("b".into(), None)]).await.unwrap();
    let second = RedbStore::open(&path).await.err().unwrap();
    assert!(second.one_line().contains("in use by another process"), "{}", second.one_line());
    drop(store);
    let store = RedbStore::open(&path).await.unwrap();
    assert_eq!(store.list().await.unwrap(), ["a"]);
    assert_eq!(store.get("a").await.unwrap(), bytes("3"));
    drop(store);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(RedbStore::open(&path).await.err().unwrap().one_line().contains("chmod 600"));
}

#[tokio::test]
async fn a_file_that_is_no_store_or_a_damaged_one_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new("foreign");
    let path = scratch.0.join("store.redb");
    let store = RedbStore::open(&path).await.unwrap();
    store.write(vec![("a".into(), bytes(&"x".repeat(10_000)))]).await.unwrap();
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let broken_head: Vec<u8> = good.iter().enumerate().map(|(i, b)| if i < 320 { !b } else { *b }).collect();
    for bad in [b"a letter to a friend".to_vec(), vec![0; 70_000], broken_head, good[..good.len() / 3].to_vec()] {
        std::fs::write(&path, &bad).unwrap();
        let error = RedbStore::open(&path).await.err().expect("refused");
        assert_eq!(error.code(), Code::Storage);
        assert!(std::fs::read(&path).unwrap() == bad, "it was changed: {}", error.one_line());
    }
    std::fs::write(&path, &good).unwrap();
    assert!(RedbStore::open(&path).await.unwrap().get("a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_killed_participant_is_back_under_its_id_without_a_link() {
    let scratch = Scratch::new("reload");
    let home = Home::start(&scratch).await;
    let (link, listen) = (home.link, LISTEN);

    let (data_a, data_b) = (scratch.0.join("a"), scratch.0.join("b"));
    let mut a = Participant::start(&data_a, &[&[link.as_str()], &listen[..]].concat()).await;
    let mut b = Participant::start(&data_b, &[&[link.as_str()], &listen[..]].concat()).await;
    a.sees(&b.node).await;
    b.sees(&a.node).await;
    a.say(json!({"cmd": "open", "channel": "chat"})).await;
    b.say(json!({"cmd": "open", "channel": "chat"})).await;
    a.say(json!({"cmd": "send", "channel": "chat", "text": "before"})).await;
    b.line(|line| line["text"] == "before").await;

    b.say(json!({"cmd": "set", "key": "door", "value": {"open": true}})).await;
    a.line(|line| line["event"] == "state" && line["key"] == "door").await;

    // B is killed in the middle of everything, and comes back with nothing but its data directory.
    b.child.kill().await.unwrap();
    let started = Instant::now();
    let mut again = Participant::start(&data_b, &listen).await;
    assert_eq!(again.node, b.node);
    again.sees(&a.node).await;
    a.sees(&again.node).await;
    println!("back after {:?}", started.elapsed());
    assert_eq!(a.here().await.iter().filter(|n| **n == b.node).count(), 1, "one row, no ghost");
    again.say(json!({"cmd": "open", "channel": "chat"})).await;
    a.say(json!({"cmd": "send", "channel": "chat", "text": "after"})).await;
    let first = again.line(|line| line["event"] == "message").await;
    assert_eq!(first["text"], "after", "old messages do not come again");

    // What was said to be joined is stored: killed at that very moment, it can be opened.
    let data_c = scratch.0.join("c");
    for arguments in [&[link.as_str()][..], &[], &[]] {
        Participant::start(&data_c, &[arguments, &listen].concat()).await.child.kill().await.unwrap();
    }

    // Another process with the same identity is refused while this one runs.
    let (said, _) = failing(peerage(&data_b, &["join"])).await;
    assert!(said.contains("in use by another process") && said.lines().count() == 1, "{said}");

    // Killed, and its store damaged: said in one line, and not touched.
    again.child.kill().await.unwrap();
    let path = data_b.join("participant/store.redb");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    // Every copy of the secrets' record, as the file keeps old pages.
    let spots: Vec<usize> = bad.windows(9).enumerate().filter(|(_, w)| w == b"peerage\x01\x01").map(|(i, _)| i + 20).collect();
    assert!(!spots.is_empty());
    spots.iter().for_each(|i| bad[*i] ^= 1);
    std::fs::write(&path, &bad).unwrap();
    for arguments in [vec!["join"], vec!["join", &link]] {
        let (said, _) = failing(peerage(&data_b, &arguments)).await;
        assert!(said.contains("damaged") && said.lines().count() == 1, "{said}");
        let now = std::fs::read(&path).unwrap();
        assert!(spots.iter().all(|i| now[*i] == bad[*i]), "the damaged record was overwritten");
    }

    // Restored from the copy it opens; left for good it is gone.
    std::fs::write(&path, &good).unwrap();
    let mut restored = Participant::start(&data_b, &listen).await;
    assert_eq!(restored.node, b.node);
    restored.sees(&a.node).await;
    let kept = loop {
        restored.say(json!({"cmd": "state", "id": 3})).await;
        let answer = restored.line(|line| line["id"] == 3).await;
        if answer["state"] != json!([]) {
            break answer;
        }
    };
    assert_eq!((&kept["state"][0]["value"], &kept["state"][0]["by"]), (&json!({"open": true}), &json!(b.node)), "{kept}");
    restored.say(json!({"cmd": "leave", "forget": true})).await;
    tokio::time::timeout(PATIENCE, restored.child.wait()).await.expect("it ends").unwrap();
    let (said, _) = failing(peerage(&data_b, &["join"])).await;
    assert!(said.contains("invitation link"), "{said}");
}
