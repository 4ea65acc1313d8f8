//! Keepers on stores that lose, tear and refuse: what was acknowledged is there, and nothing is overwritten unasked.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::*;
use crate::base::Now;
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, LinkCommand, LinkEvent, Peer};
use crate::runtime::port::Platform;
use crate::runtime::store::MemoryStore;
use zeroize::Zeroizing;

/// No links at all.
struct Island;

fn clock() -> Now {
    Now { wall: crate::base::Wall(1_800_000_000_000), ..Now::default() }
}

impl Platform for Island {
    fn now(&self) -> Now {
        clock()
    }
    fn command(&mut self, _: LinkCommand) {}
    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        Poll::Pending
    }
}

fn node(seed: u8) -> Node {
    let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
    // Nobody drives it: without links there is nothing to drive.
    super::super::start(Peer::new(Config::native(), key, [seed; 32]), Island, clock).0
}

/// A memory that can be told to fail.
#[derive(Clone, Default)]
struct Frail {
    memory: MemoryStore,
    broken: Arc<AtomicBool>,
}

impl Store for Frail {
    type Answer<T: Send + 'static> = Ready<Result<T, Error>>;

    fn get(&self, name: &str) -> Self::Answer<Option<Bytes>> {
        self.memory.get(name)
    }
    fn list(&self) -> Self::Answer<Vec<String>> {
        self.memory.list()
    }
    fn write(&self, changes: Changes) -> Self::Answer<()> {
        if self.broken.load(Ordering::Relaxed) {
            return ready(Err(Error::new(Code::Storage, "the disk is full")));
        }
        self.memory.write(changes)
    }
}

async fn all(store: &Frail) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for name in store.list().await.unwrap() {
        let bytes = store.get(&name).await.unwrap().unwrap();
        all.insert(name, bytes);
    }
    all
}

#[tokio::test]
async fn what_was_stored_opens_again_and_what_was_forgotten_does_not() {
    let store = Frail::default();
    let first = Keeper::new(node(1), store.clone());
    let id = first.node.create_domain("town", &[], Profile::default()).unwrap();
    first.flush().await.unwrap();
    assert_eq!(all(&store).await.len(), Part::ALL.len());
    first.node.write_state(id, "door", Some(b"open".to_vec())).unwrap();
    first.flush().await.unwrap();

    let second = Keeper::new(node(2), store.clone());
    assert_eq!(second.domains().await.unwrap(), [id]);
    second.reopen(id, Role::Participant, Profile::default()).await.unwrap();
    assert_eq!(second.node.domain_name(id).unwrap(), "town");
    let entry = second.node.state_entry(id, "door").unwrap().expect("the shared state is there again");
    assert_eq!((entry.value.as_deref(), entry.writer), (Some(&b"open"[..]), first.node.id()));
    second.node.invite(id, crate::peer::InviteOptions::default()).expect("the root key is there again");
    second.node.leave(id).unwrap();
    second.reopen(id, Role::Participant, Profile::default()).await.expect("leaving is not forgetting");

    second.forget(id).await.unwrap();
    assert!(all(&store).await.is_empty());
    second.flush().await.unwrap();
    assert!(all(&store).await.is_empty(), "it does not come back with a late write");
    let error = second.reopen(id, Role::Participant, Profile::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Storage);
}

#[tokio::test]
async fn what_could_not_be_stored_is_said_and_tried_again() {
    let store = Frail::default();
    let keeper = Keeper::new(node(1), store.clone());
    store.broken.store(true, Ordering::Relaxed);
    keeper.node.create_domain("town", &[], Profile::default()).unwrap();
    assert_eq!(keeper.flush().await.unwrap_err().message(), "the disk is full");
    store.broken.store(false, Ordering::Relaxed);
    keeper.flush().await.unwrap();
    assert_eq!(all(&store).await.len(), Part::ALL.len());
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_stays_as_it_is() {
    let store = Frail::default();
    let first = Keeper::new(node(1), store.clone());
    let id = first.node.create_domain("town", &[], Profile::default()).unwrap();
    let link = first.node.invite(id, crate::peer::InviteOptions::default()).unwrap().to_url("http://x/");
    first.flush().await.unwrap();
    for part in Part::ALL {
        let good = store.get(&name(&id, part)).await.unwrap().unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        store.write(vec![(name(&id, part), Some(bad))]).await.unwrap();
        let before = all(&store).await;
        let keeper = Keeper::new(node(2), store.clone());
        for error in [
            keeper.reopen(id, Role::Participant, Profile::default()).await.unwrap_err(),
            keeper.join(&link, Profile::default()).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::Storage);
            assert!(error.message().contains(part.name()), "{}", error.message());
        }
        keeper.flush().await.unwrap();
        assert!(all(&store).await == before, "nothing was overwritten");
        store.write(vec![(name(&id, part), Some(good))]).await.unwrap();
    }
}

#[tokio::test]
async fn keys_that_lie_there_are_not_lost_to_a_process_that_began_without_them() {
    let store = Frail::default();
    let owner = Keeper::new(node(1), store.clone());
    let id = owner.node.create_domain("town", &[], Profile::default()).unwrap();
    owner.flush().await.unwrap();
    // As a guest that came in by a link, past the keeper.
    let saved = SavedDomain { root: None, ..owner.node.save_domain(id).unwrap() };
    let guest = Keeper::new(node(2), store.clone());
    guest.node.open_domain(&saved, Role::Participant, Profile::default()).unwrap();
    guest.flush().await.unwrap();
    assert!(Keeper::new(node(3), store).load(id).await.unwrap().unwrap().root.is_some());
}

#[tokio::test]
async fn equal_records_are_not_written_again() {
    let store = Frail::default();
    let keeper = Keeper::new(node(1), store.clone());
    let id = keeper.node.create_domain("town", &[], Profile::default()).unwrap();
    keeper.flush().await.unwrap();
    store.broken.store(true, Ordering::Relaxed);
    keeper.node.mark_unsaved(&Part::ALL.map(|part| (id, part)));
    keeper.flush().await.expect("nothing to write");
}
