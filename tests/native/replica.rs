//! Stores of one domain that take versions without knowing of each other, and exchange them: in one process, with random histories.

use std::collections::{BTreeMap, BTreeSet};

use peerage::base::{Code, Rng};
use peerage::platform::native::objects::EmbeddedStore;
use peerage::proto::objects::{Header, hash};
use peerage::runtime::disk::Disk;
use peerage::runtime::objects::{Cursor, ObjectId, ObjectStore, Put, Quota};
use peerage::sim::disk::SimDisk;

use crate::objects::{DOMAIN, NOW, Version, author, open, rng};

const MONTH: u64 = 31 * 24 * 3_600 * 1_000;

/// Has a version of `from`'s in `to`, as a manager that follows does: the chunks of what is kept, then the headers.
fn carry(from: &dyn ObjectStore, to: &dyn ObjectStore, object: &ObjectId, chunks: &BTreeMap<[u8; 32], Version>) {
    let chain = from.history(object, u64::MAX, 64).unwrap();
    for signed in chain.iter().take(4) {
        mirror(to, &chunks[&hash(signed)]);
    }
    if !chain.is_empty() {
        to.import(NOW, &chain).unwrap();
    }
    for signed in from.conflicts(Some(object)).unwrap() {
        mirror(to, &chunks[&hash(&signed)]);
        to.import(NOW, &[signed]).unwrap();
    }
}

fn mirror(to: &dyn ObjectStore, version: &Version) {
    if version.chunks.is_empty() {
        return;
    }
    let at = to.mirror(NOW, &version.put).unwrap();
    for (index, chunk) in version.chunks.iter().enumerate().skip(at.written as usize) {
        to.append(NOW, &version.put.id, index as u64, chunk).unwrap();
    }
}

/// All that is known of an object: what it is, and what is in conflict with that.
fn state(store: &dyn ObjectStore, object: &ObjectId) -> (Option<[u8; 32]>, BTreeSet<[u8; 32]>) {
    let head = store.head(object).unwrap().map(|h| h.hash);
    (head, store.conflicts(Some(object)).unwrap().iter().map(|signed| hash(signed)).collect())
}

fn write(store: &EmbeddedStore<SimDisk>, object: u8, all: &mut BTreeMap<[u8; 32], Version>, rng: &mut Rng) -> [u8; 32] {
    let head = store.head(&[object; 16]).unwrap();
    let (number, previous) = head.map_or((1, [0; 32]), |h| (h.version + 1, h.hash));
    let by = 1 + rng.below(3) as u8;
    let length = [0, 10, 70_000, 200_000][rng.below(4) as usize];
    let deleted = head.is_none_or(|h| h.deleted);
    let version = if !deleted && rng.below(5) == 0 {
        Version::tombstone(by, object, number, previous, rng)
    } else {
        Version::new(by, object, number, previous, length, rng)
    };
    version.store(store, &mut 0).unwrap();
    let name = version.hash();
    all.insert(name, version);
    name
}

#[test]
fn stores_that_meet_again_are_alike_and_nothing_that_was_acknowledged_is_lost() {
    for seed in 0..30 {
        let mut rng = rng(seed);
        let disks: Vec<SimDisk> = (0..3).map(|_| SimDisk::new()).collect();
        let stores: Vec<_> = disks.iter().map(|disk| open(disk, Quota::default(), &mut rng)).collect();
        let mut all = BTreeMap::new();
        let objects = 3;
        for _ in 0..60 {
            let at = rng.below(3) as usize;
            if rng.below(3) > 0 {
                write(&stores[at], rng.below(objects) as u8, &mut all, &mut rng);
            } else {
                let to = (at + 1 + rng.below(2) as usize) % 3;
                let object = [rng.below(objects) as u8; 16];
                carry(&stores[at], &stores[to], &object, &all);
            }
        }
        // All meet: twice around, so that what came last is everywhere.
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2)] {
            (0..objects).for_each(|object| carry(&stores[from], &stores[to], &[object as u8; 16], &all));
        }
        for object in (0..objects).map(|n| [n as u8; 16]) {
            let (head, conflicts) = state(&stores[0], &object);
            for store in &stores[1..] {
                assert_eq!(state(store, &object), (head, conflicts.clone()), "seed {seed}");
            }
            // Every version that nobody wrote over knowingly is there.
            let previous: BTreeSet<[u8; 32]> = all.values().map(|v| Header::verify(&DOMAIN, &v.signed).unwrap().previous).collect();
            let ends = all.iter().filter(|(name, v)| v.put.object == object && !previous.contains(*name));
            for (name, version) in ends {
                assert!(head == Some(*name) || conflicts.contains(name), "seed {seed}: a version is lost");
                for store in stores.iter().filter(|_| !version.chunks.is_empty()) {
                    if head == Some(*name) {
                        version.is_whole(store);
                    } else {
                        for (index, chunk) in version.chunks.iter().enumerate() {
                            assert!(store.part(&version.hash(), index as u64).unwrap() == *chunk);
                        }
                        assert_eq!(store.part_leaves(&version.hash(), 0, usize::MAX).unwrap().len(), version.chunks.len());
                    }
                }
            }
        }
        // What is in conflict is kept for 30 days, and then nothing of it is left.
        for (store, disk) in stores.iter().zip(&disks) {
            store.collect(peerage::base::Wall(NOW.0 + MONTH)).unwrap();
            assert!(store.conflicts(None).unwrap().is_empty());
            let kept: u64 =
                disk.list().unwrap().iter().filter(|n| !n.ends_with("redb")).map(|n| disk.open(n).unwrap().length().unwrap()).sum();
            let used = store.used(&author(1).node_id()).total;
            assert!(kept >= used && kept < used + used / 100 + 64 * 1_024, "{kept} bytes of files for {used}");
        }
        // And all of it opens again.
        drop(stores);
        for disk in &disks {
            let again = open(disk, Quota::default(), &mut rng);
            assert!(again.changes(Cursor::default(), usize::MAX).unwrap().headers.len() <= objects as usize);
        }
    }
}

#[test]
fn two_versions_of_one_commitment_stop_nobody() {
    let mut rng = rng(9);
    let (here, there) = (open(&SimDisk::new(), Quota::default(), &mut rng), open(&SimDisk::new(), Quota::default(), &mut rng));
    let first = Version::new(1, 1, 1, [0; 32], 70_000, &mut rng);
    let mut second = Version::new(1, 1, 2, first.hash(), 90_000, &mut rng);
    let header = Header { commitment: first.put.id, ..Header::verify(&DOMAIN, &second.signed).unwrap() };
    (second.signed, second.put.id) = (header.sign(&author(1)).unwrap(), first.put.id);
    for version in [&first, &second] {
        version.store(&there, &mut 0).unwrap();
    }
    mirror(&here, &second);
    here.import(NOW, &there.history(&[1; 16], u64::MAX, 9).unwrap()).unwrap();
    second.is_whole(&here);
    assert!(here.puts().is_empty());
}

#[test]
fn what_is_no_chain_or_comes_without_its_chunks_is_refused_and_changes_nothing() {
    let mut rng = rng(7);
    let (here, there) = (SimDisk::new(), SimDisk::new());
    let (here, there) = (open(&here, Quota::default(), &mut rng), open(&there, Quota::default(), &mut rng));
    let mut all = BTreeMap::new();
    for _ in 0..3 {
        write(&there, 1, &mut all, &mut rng);
    }
    let object = [1; 16];
    let chain = there.history(&object, u64::MAX, 9).unwrap();
    let code = |chain: &[Vec<u8>]| here.import(NOW, chain).unwrap_err().code();
    assert_eq!(code(&[]), Code::Malformed);
    assert_eq!(code(&[chain[0].clone(), chain[2].clone()]), Code::Malformed, "a gap");
    let mut forged = chain.clone();
    forged[0][100] ^= 1;
    assert_eq!(code(&forged), Code::Forged);
    let newest = &all[&hash(&chain[0])];
    if !newest.chunks.is_empty() {
        assert_eq!(code(&chain), Code::NoObject, "its chunks did not come");
    }
    assert!(here.head(&object).unwrap().is_none() && here.puts().is_empty());
    // Chunks that are not those of the header.
    let other = Version::new(1, 1, 3, [5; 32], 10, &mut rng);
    let put = Put { id: newest.put.id, ..newest.put };
    here.mirror(NOW, &put).unwrap();
    here.append(NOW, &put.id, 0, &other.chunks[0]).unwrap();
    assert!(matches!(code(&chain), Code::Forged | Code::NoObject));
    carry(&there, &here, &object, &all);
    assert_eq!(state(&here, &object), state(&there, &object));
}
