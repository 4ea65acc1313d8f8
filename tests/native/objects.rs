//! The store of sealed objects: on a disk that loses power, and in a process that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use peerage::base::{Code, DomainId, Error, NodeId, Rng, Wall};
use peerage::crypto::object::{CHUNK, Identity, chunks, padded, tree};
use peerage::crypto::sign::SigningKey;
use peerage::platform::native::objects::{Directory, EmbeddedStore};
use peerage::proto::objects::{Header, hash};
use peerage::runtime::disk::Disk;
use peerage::runtime::objects::{Cursor, ObjectId, ObjectStore, Put, Quota};
use peerage::sim::disk::SimDisk;

use crate::cli::Scratch;

pub const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);
pub const NOW: Wall = Wall(1_000_000_000_000);
const DAY: u64 = 24 * 3_600 * 1_000;

pub fn rng(seed: u64) -> Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    Rng::from_seed(bytes)
}

pub fn author(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

/// A version ready to be put. The store cannot read chunks, so that any bytes are as good as sealed ones.
#[derive(Clone)]
pub struct Version {
    pub put: Put,
    pub chunks: Vec<Vec<u8>>,
    pub signed: Vec<u8>,
}

impl Version {
    /// One with so many bytes of content.
    pub fn new(by: u8, object: u8, version: u64, previous: [u8; 32], length: u64, rng: &mut Rng) -> Version {
        let count = chunks(length).unwrap();
        let size = padded(length).unwrap() + count * 40;
        let pattern: [u8; 32] = rng.bytes();
        let chunk = |i: u64| {
            let mut bytes = pattern.repeat(CHUNK / 32);
            bytes[..8].copy_from_slice(&i.to_be_bytes());
            bytes.truncate((size - i * CHUNK as u64).min(CHUNK as u64) as usize);
            bytes
        };
        let chunks: Vec<Vec<u8>> = (0..count).map(chunk).collect();
        let leaves: Vec<_> = chunks.iter().enumerate().map(|(i, c)| tree::leaf(i as u64, count == 1, c).unwrap()).collect();
        Version::signed(by, object, version, previous, size, tree::root(&leaves).unwrap(), chunks, rng)
    }

    pub fn tombstone(by: u8, object: u8, version: u64, previous: [u8; 32], rng: &mut Rng) -> Version {
        Version::signed(by, object, version, previous, 0, [0; 32], Vec::new(), rng)
    }

    #[expect(clippy::too_many_arguments, reason = "what a header says")]
    fn signed(
        by: u8,
        object: u8,
        version: u64,
        previous: [u8; 32],
        size: u64,
        root: [u8; 32],
        chunks: Vec<Vec<u8>>,
        rng: &mut Rng,
    ) -> Version {
        let (key, object) = (author(by), [object; 16]);
        let identity = Identity { domain: DOMAIN, object, version, generation: 1, author: key.node_id(), salt: rng.bytes() };
        let commitment = rng.bytes();
        let description = rng.bytes::<32>().to_vec();
        let header = Header { identity, commitment, previous, size, root, description };
        let signed = header.sign(&key).unwrap();
        Version { put: Put { id: commitment, author: key.node_id(), object, version }, chunks, signed }
    }

    pub fn hash(&self) -> [u8; 32] {
        hash(&self.signed)
    }

    /// Puts it from the first chunk that is missing; `durable` hears how many are certain.
    pub fn store(&self, store: &dyn ObjectStore, durable: &mut u64) -> Result<Cursor, Error> {
        if !self.chunks.is_empty() {
            let mut at = store.begin(NOW, &self.put)?;
            assert!(at.durable >= *durable, "what was said to be durable is: {at:?}, {durable}");
            for (index, chunk) in self.chunks.iter().enumerate().skip(at.written as usize) {
                at = store.append(NOW, &self.put.id, index as u64, chunk)?;
                *durable = at.durable;
            }
        }
        store.commit(NOW, &self.signed)
    }

    pub fn is_whole(&self, store: &dyn ObjectStore) {
        let Put { object, version, .. } = self.put;
        let leaves = store.leaves(&object, version, 0, usize::MAX).unwrap();
        assert_eq!(leaves.len(), self.chunks.len());
        for (i, chunk) in self.chunks.iter().enumerate() {
            assert!(store.chunk(&object, version, i as u64).unwrap() == *chunk, "chunk {i}");
            assert_eq!(leaves[i], tree::leaf(i as u64, leaves.len() == 1, chunk).unwrap());
        }
        assert_eq!(store.chunk(&object, version, leaves.len() as u64).unwrap_err().code(), Code::NoObject);
    }
}

pub fn open(disk: &SimDisk, quota: Quota, rng: &mut Rng) -> EmbeddedStore<SimDisk> {
    EmbeddedStore::open(disk.clone(), DOMAIN, quota, rng).unwrap()
}

/// Every change there is to hear of.
fn all_changes(store: &dyn ObjectStore, since: Cursor) -> (Vec<Vec<u8>>, Cursor, bool) {
    let (mut headers, mut next, mut anew) = (Vec::new(), since, false);
    loop {
        let page = store.changes(next, 1_000).unwrap();
        anew |= page.anew;
        headers.extend(page.headers);
        next = page.next;
        if !page.more {
            return (headers, next, anew);
        }
    }
}

#[test]
fn versions_are_kept_read_listed_and_forgotten() {
    let mut rng = rng(1);
    let disk = SimDisk::new();
    let quota = Quota { versions: 2, history: 3, ..Quota::default() };
    let store = open(&disk, quota, &mut rng);
    let mut versions: Vec<Version> = Vec::new();
    for (n, length) in [(1, 0), (2, 70_000), (3, 1_000_000), (4, 5_000)] {
        let previous = versions.last().map_or([0; 32], Version::hash);
        let version = Version::new(1, 7, n, previous, length, &mut rng);
        let cursor = version.store(&store, &mut 0).unwrap();
        assert_eq!(store.commit(NOW, &version.signed).unwrap(), cursor, "again is the same");
        versions.push(version);
    }
    let object: ObjectId = [7; 16];
    versions[3].is_whole(&store);
    versions[2].is_whole(&store);
    assert_eq!(store.chunk(&object, 2, 0).unwrap_err().code(), Code::NoObject);
    let history = store.history(&object, u64::MAX, 10).unwrap();
    assert!(history.iter().eq(versions.iter().rev().take(3).map(|v| &v.signed)));
    let size = |v: &Version| v.chunks.iter().map(|c| c.len() as u64).sum::<u64>();
    assert_eq!(store.used(&author(1).node_id()).member, size(&versions[2]) + size(&versions[3]));
    assert_eq!(disk.list().unwrap().len(), 3);

    let (headers, next, anew) = all_changes(&store, Cursor::default());
    assert_eq!((headers, anew), (vec![versions[3].signed.clone()], true));
    let other = Version::new(2, 8, 1, [0; 32], 9, &mut rng);
    other.store(&store, &mut 0).unwrap();
    let gone = Version::tombstone(2, 7, 5, versions[3].hash(), &mut rng);
    gone.store(&store, &mut 0).unwrap();
    assert_eq!(store.used(&author(1).node_id()).member, 0);
    let (headers, last, anew) = all_changes(&store, next);
    assert_eq!((headers, anew), (vec![other.signed.clone(), gone.signed.clone()], false));
    assert_eq!(store.chunk(&object, 4, 0).unwrap_err().code(), Code::NoObject);

    // A tombstone is remembered for 30 days; then whoever has not heard of it begins anew.
    store.collect(Wall(NOW.0 + 29 * DAY)).unwrap();
    assert!(store.head(&object).unwrap().unwrap().deleted);
    store.collect(Wall(NOW.0 + 31 * DAY)).unwrap();
    assert!(store.head(&object).unwrap().is_none() && store.history(&object, u64::MAX, 9).unwrap().is_empty());
    assert_eq!(all_changes(&store, next), (vec![other.signed.clone()], last_of(&store), true));
    assert_eq!(all_changes(&store, last), (Vec::new(), last, false));
    drop(store);
    assert_eq!(disk.list().unwrap().len(), 2, "the records and one object");
}

fn last_of(store: &dyn ObjectStore) -> Cursor {
    all_changes(store, Cursor::default()).1
}

#[test]
fn what_may_not_be_is_refused_with_its_code_and_leaves_nothing() {
    let mut rng = rng(2);
    let disk = SimDisk::new();
    let quota = Quota { total: 400_000, member: 300_000, puts: 2, objects: 3, ..Quota::default() };
    let store = open(&disk, quota, &mut rng);
    let first = Version::new(1, 1, 1, [0; 32], 100_000, &mut rng);
    first.store(&store, &mut 0).unwrap();
    let code = |result: Result<Cursor, Error>| result.unwrap_err().code();

    let twice = Version::new(1, 1, 1, [0; 32], 10, &mut rng);
    assert_eq!(code(twice.store(&store, &mut 0)), Code::Conflict);
    let gap = Version::new(1, 1, 3, first.hash(), 10, &mut rng);
    assert_eq!(code(gap.store(&store, &mut 0)), Code::Conflict);
    let unknown = Version::new(1, 1, 2, [9; 32], 10, &mut rng);
    assert_eq!(code(unknown.store(&store, &mut 0)), Code::Conflict, "found out when it is committed");
    assert_eq!(code(Version::tombstone(1, 2, 1, [0; 32], &mut rng).store(&store, &mut 0)), Code::NoObject);

    // Of two that replace the same version one is late.
    let (a, b) = (Version::new(1, 1, 2, first.hash(), 10, &mut rng), Version::new(2, 1, 2, first.hash(), 10, &mut rng));
    store.begin(NOW, &b.put).unwrap();
    a.store(&store, &mut 0).unwrap();
    store.append(NOW, &b.put.id, 0, &b.chunks[0]).unwrap();
    assert_eq!(code(store.commit(NOW, &b.signed)), Code::Conflict);

    // Chunks that are not what was signed, or not whole, or not in order.
    let mut wrong = Version::new(1, 2, 1, [0; 32], 100_000, &mut rng);
    wrong.chunks[1][7] ^= 1;
    assert_eq!(code(wrong.store(&store, &mut 0)), Code::Forged);
    let short = Version::new(1, 2, 1, [0; 32], 100_000, &mut rng);
    store.begin(NOW, &short.put).unwrap();
    assert_eq!(store.append(NOW, &short.put.id, 1, &short.chunks[1]).unwrap_err().code(), Code::Malformed);
    assert_eq!(store.append(NOW, &short.put.id, 0, &[]).unwrap_err().code(), Code::Malformed);
    assert_eq!(store.append(NOW, &short.put.id, 0, &vec![0; CHUNK + 1]).unwrap_err().code(), Code::Malformed);
    store.append(NOW, &short.put.id, 0, &short.chunks[1]).unwrap();
    assert_eq!(store.append(NOW, &short.put.id, 1, &short.chunks[0]).unwrap_err().code(), Code::Malformed, "behind a short one");
    assert_eq!(code(store.commit(NOW, &short.signed)), Code::Forged);
    let mut forged = first.signed.clone();
    forged[40] ^= 1;
    assert!([Code::Forged, Code::Malformed].contains(&code(store.commit(NOW, &forged))));
    assert_eq!(store.append(NOW, &short.put.id, 0, &short.chunks[0]).unwrap_err().code(), Code::NoObject, "it ended");

    // Somebody else's put, and too many.
    store.begin(NOW, &short.put).unwrap();
    let thief = Put { author: author(2).node_id(), ..short.put };
    assert_eq!(store.begin(NOW, &thief).unwrap_err().code(), Code::Forbidden);
    assert_eq!(store.abandon(&thief.author, &thief.id).unwrap_err().code(), Code::Forbidden);
    store.begin(NOW, &Put { id: [1; 32], ..short.put }).unwrap();
    assert_eq!(store.begin(NOW, &Put { id: [2; 32], ..short.put }).unwrap_err().code(), Code::Quota);
    for id in [short.put.id, [1; 32], [4; 32]] {
        store.abandon(&short.put.author, &id).unwrap();
    }

    // Bytes: the member's, the domain's; and objects.
    let much = Version::new(1, 3, 1, [0; 32], 260_000, &mut rng);
    assert_eq!(code(much.store(&store, &mut 0)), Code::Quota);
    store.abandon(&much.put.author, &much.put.id).unwrap();
    let others = Version::new(2, 3, 1, [0; 32], 280_000, &mut rng);
    others.store(&store, &mut 0).unwrap();
    let more = Version::new(3, 4, 1, [0; 32], 60_000, &mut rng);
    assert_eq!(code(more.store(&store, &mut 0)), Code::Quota);
    store.abandon(&more.put.author, &more.put.id).unwrap();
    Version::new(3, 4, 1, [0; 32], 10, &mut rng).store(&store, &mut 0).unwrap();
    assert_eq!(code(Version::new(3, 5, 1, [0; 32], 10, &mut rng).store(&store, &mut 0)), Code::Quota);

    let size = |v: &Version| v.chunks.iter().map(|c| c.len() as u64).sum::<u64>();
    let members = [1, 2, 3].map(|n| store.used(&author(n).node_id()).member);
    assert_eq!(members, [size(&first) + size(&a), size(&others), 1_064]);
    assert_eq!(store.used(&author(9).node_id()).total, members.iter().sum::<u64>());
    assert_eq!(disk.list().unwrap().len(), 5, "the records and four versions");
}

#[test]
fn a_store_is_of_one_domain_and_of_one_process_and_says_so_when_it_is_damaged() {
    let scratch = Scratch::new("objects");
    let path = scratch.0.join("objects");
    let mut rng = rng(3);
    let first = Version::new(1, 1, 1, [0; 32], 10, &mut rng);
    let store = EmbeddedStore::open(Directory::open(&path).unwrap(), DOMAIN, Quota::default(), &mut rng).unwrap();
    first.store(&store, &mut 0).unwrap();
    let second = Directory::open(&path).unwrap_err();
    assert!(second.one_line().contains("in use by another process"), "{}", second.one_line());
    drop(store);
    let other = EmbeddedStore::open(Directory::open(&path).unwrap(), DomainId::from_bytes([4; 32]), Quota::default(), &mut rng);
    assert!(other.err().unwrap().one_line().contains("of another domain"));
    first.is_whole(&EmbeddedStore::open(Directory::open(&path).unwrap(), DOMAIN, Quota::default(), &mut rng).unwrap());
    std::fs::write(path.join("objects.redb"), [7; 10_000]).unwrap();
    let damaged = EmbeddedStore::open(Directory::open(&path).unwrap(), DOMAIN, Quota::default(), &mut rng);
    assert_eq!(damaged.err().unwrap().code(), Code::Storage);
}

#[test]
fn puts_that_nobody_goes_on_with_are_collected() {
    let mut rng = rng(4);
    let disk = SimDisk::new();
    let long = Version::new(1, 1, 1, [0; 32], 9_000_000, &mut rng);
    let store = open(&disk, Quota::default(), &mut rng);
    store.begin(NOW, &long.put).unwrap();
    for (i, chunk) in long.chunks.iter().enumerate().take(130) {
        store.append(NOW, &long.put.id, i as u64, chunk).unwrap();
    }
    drop(store);
    let store = open(&disk, Quota::default(), &mut rng);
    assert_eq!(store.used(&long.put.author).member, 128 * CHUNK as u64);
    assert_eq!(store.begin(NOW, &long.put).unwrap().durable, 128);
    store.collect(Wall(NOW.0 + DAY - 1)).unwrap();
    assert_eq!(store.used(&long.put.author).member, 128 * CHUNK as u64);
    store.collect(Wall(NOW.0 + DAY + 1)).unwrap();
    assert_eq!((store.used(&long.put.author).total, disk.list().unwrap().len()), (0, 1));
    assert_eq!(store.begin(NOW, &long.put).unwrap().written, 0);
}

/// What the test knows of a store: what was acknowledged, and what was under way when the power failed.
#[derive(Default)]
struct Model {
    taken: BTreeMap<ObjectId, Version>,
    under_way: BTreeMap<ObjectId, (Version, u64)>,
    cursor: Cursor,
}

impl Model {
    /// Puts versions and deletes until the power fails.
    fn work(&mut self, store: &dyn ObjectStore, rng: &mut Rng) {
        loop {
            let n = rng.below(6) as u8;
            let object = [n; 16];
            let (version, mut durable) = self.under_way.remove(&object).unwrap_or_else(|| (self.next(n, rng), 0));
            let stored = version.store(store, &mut durable);
            if let Ok(cursor) = stored {
                assert!(cursor.at > self.cursor.at || self.cursor.epoch == 0, "{cursor:?}");
                self.taken.insert(object, version);
            } else {
                assert_eq!(stored.unwrap_err().code(), Code::Storage);
                self.under_way.insert(object, (version, durable));
                return;
            }
            if rng.below(4) == 0 {
                let Ok(changes) = store.changes(self.cursor, usize::MAX) else { return };
                self.cursor = changes.next;
            }
        }
    }

    fn next(&self, n: u8, rng: &mut Rng) -> Version {
        let before = self.taken.get(&[n; 16]);
        let (number, previous) = before.map_or((1, [0; 32]), |v| (v.put.version + 1, v.hash()));
        if rng.below(4) == 0 && before.is_some_and(|v| !v.chunks.is_empty()) {
            return Version::tombstone(1, n, number, previous, rng);
        }
        let length = [10, 3_000, 200_000, 9_000_000][rng.below(16).div_ceil(5) as usize];
        Version::new(1 + n % 3, n, number, previous, length, rng)
    }

    /// Everything acknowledged is there and whole; what was under way is there whole, or goes on.
    fn check(&mut self, store: &dyn ObjectStore, disk: &impl Disk) {
        for (object, (version, durable)) in std::mem::take(&mut self.under_way) {
            let head = store.head(&object).unwrap();
            if head.is_some_and(|h| h.hash == version.hash()) {
                self.taken.insert(object, version);
            } else {
                self.under_way.insert(object, (version, durable));
            }
        }
        for version in self.taken.values() {
            assert_eq!(store.head(&version.put.object).unwrap().unwrap().hash, version.hash());
            if !version.chunks.is_empty() {
                version.is_whole(store);
            }
        }
        let (headers, next, anew) = all_changes(store, self.cursor);
        assert!(anew == (self.cursor.epoch == 0) && headers.len() <= self.taken.len());
        let (all, ..) = all_changes(store, Cursor::default());
        let mut heads: Vec<_> = self.taken.values().map(|v| &v.signed).collect();
        heads.sort();
        let mut listed: Vec<_> = all.iter().collect();
        listed.sort();
        assert!(listed == heads, "the feed has the newest version of each");
        self.cursor = next;
        let members: Vec<NodeId> = (1..=3).map(|n| author(n).node_id()).collect();
        let used: u64 = members.iter().map(|m| store.used(m).member).sum();
        assert_eq!(used, store.used(&members[0]).total);
        // No file that nothing names: the database, what versions have, and what puts under way had made certain.
        let kept = |v: &Version| {
            let chunks = |n: &u64| store.chunk(&v.put.object, *n, 0).is_ok();
            (v.put.version.saturating_sub(9)..=v.put.version).filter(chunks).count()
        };
        let versions: usize = self.taken.values().map(kept).sum();
        let puts = self.under_way.values().filter(|(v, _)| !v.chunks.is_empty()).count();
        let files = disk.list().unwrap().iter().filter(|n| *n != "objects.redb").count();
        assert!((versions..=versions + puts).contains(&files), "{files} files, {versions} versions, {puts} puts");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails_at_any_moment() {
    let (mut resumed, mut taken, mut failures) = (0, 0, 0);
    for seed in 0..8 {
        let mut rng = rng(100 + seed);
        let (disk, mut model) = (SimDisk::new(), Model::default());
        for _ in 0..10 {
            // Also while it opens.
            let moments = [40, 600, 600][rng.below(3) as usize];
            disk.fail_after(rng.below(moments));
            let opened = EmbeddedStore::open(disk.clone(), DOMAIN, Quota::default(), &mut rng);
            if let Ok(store) = &opened {
                model.work(store, &mut rng);
            }
            drop(opened);
            failures += 1;
            disk.restart(&mut rng);
            let store = open(&disk, Quota::default(), &mut rng);
            model.check(&store, &disk);
            resumed += model.under_way.values().filter(|(_, durable)| *durable > 0).count();
        }
        taken += model.taken.values().map(|v| v.put.version).sum::<u64>();
    }
    assert!(resumed > 2 && taken > 150, "{failures} failures, {taken} versions, {resumed} puts went on");
}

/// Tells the test below what it is, in a process of its own.
const CHILD: &str = "PEERAGE_TEST_STORE";

fn directory(path: &Path) -> EmbeddedStore<Directory> {
    EmbeddedStore::open(Directory::open(path).unwrap(), DOMAIN, Quota::default(), &mut rng(5)).unwrap()
}

/// The version that the process below puts at this place: it follows from what is there.
fn following(store: &dyn ObjectStore, n: u8) -> Version {
    let head = store.head(&[n; 16]).unwrap();
    let (number, previous) = head.map_or((1, [0; 32]), |h| (h.version + 1, h.hash));
    let mut rng = rng(u64::from(n) << 32 | number);
    match rng.below(5) {
        0 if head.is_some_and(|h| !h.deleted) => Version::tombstone(1, n, number, previous, &mut rng),
        1 => Version::new(1, n, number, previous, 9_000_000, &mut rng),
        _ => Version::new(1, n, number, previous, 1 + rng.below(200_000), &mut rng),
    }
}

#[test]
#[ignore = "puts until it is killed: run by the next one, in a process of its own"]
fn puts_until_it_is_killed() {
    let path = std::env::var_os(CHILD).expect("run by the next test");
    let store = directory(path.as_ref());
    let mut out = std::io::stdout();
    for n in (0..5).cycle() {
        let version = following(&store, n);
        version.store(&store, &mut 0).unwrap();
        writeln!(out, "\nstored {n} {}", version.put.version).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let scratch = Scratch::new("killed");
    let path = scratch.0.join("objects");
    let restarts = std::env::var("PEERAGE_TEST_RESTARTS").map_or(12, |n| n.parse().expect("a number"));
    let (mut rng, mut stored) = (rng(6), BTreeMap::<u8, u64>::new());
    for restart in 0..restarts {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "objects::puts_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for _ in 0..rng.below(12) {
            let line = lines.by_ref().find(|l| l.starts_with("stored ")).expect("it goes on until it is killed");
            note(&mut stored, &line);
        }
        // In the midst of something.
        std::thread::sleep(std::time::Duration::from_micros(rng.below(20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.filter(|l| l.starts_with("stored ")).for_each(|line| note(&mut stored, &line));

        let store = directory(&path);
        for (n, version) in &mut stored {
            let head = store.head(&[*n; 16]).unwrap().unwrap();
            assert!(head.version == *version || head.version == *version + 1, "restart {restart}: {head:?}, {version}");
            *version = head.version;
            let signed = store.history(&[*n; 16], head.version, 1).unwrap().remove(0);
            let header = Header::verify(&DOMAIN, &signed).unwrap();
            assert_eq!(hash(&signed), head.hash);
            let chunks = (0..header.chunks()).map(|i| store.chunk(&[*n; 16], head.version, i).unwrap()).collect::<Vec<_>>().concat();
            assert!(header.is_tombstone() || root(&chunks) == header.root, "restart {restart}: object {n}");
        }
        let files = std::fs::read_dir(&path).unwrap().count();
        assert!(files <= 2 + 5 * 4 + 5, "{files} files: versions that are kept, and one put of each");
    }
    assert!(stored.values().sum::<u64>() > restarts, "{stored:?}");
}

fn note(stored: &mut BTreeMap<u8, u64>, line: &str) {
    let mut words = line.split(' ').skip(1).map(|w| w.parse::<u64>().unwrap());
    let (n, version) = (words.next().unwrap(), words.next().unwrap());
    stored.insert(n as u8, version);
}

fn root(chunks: &[u8]) -> [u8; 32] {
    let parts: Vec<_> = chunks.chunks(CHUNK).collect();
    let leaves: Vec<_> = parts.iter().enumerate().map(|(i, c)| tree::leaf(i as u64, parts.len() == 1, c).unwrap()).collect();
    tree::root(&leaves).unwrap()
}
