//! What the store of sealed objects adds to writing and reading the same bytes: a put of 256 MiB against a plain file that is
//! hashed with BLAKE3, written and synced; reading it against reading that file; small puts against files of one chunk, each synced.
//! Both run by turns; the fastest of each counts, which other work on the machine disturbs least.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peerage::base::{DomainId, Rng, Wall};
use peerage::crypto::object::{CHUNK, Identity, chunks, padded, tree};
use peerage::crypto::sign::SigningKey;
use peerage::platform::native::objects::{Directory, EmbeddedStore};
use peerage::proto::objects::Header;
use peerage::runtime::objects::{ObjectStore, Put, Quota};

const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);
const NOW: Wall = Wall(1_000_000_000_000);
const ROUNDS: usize = 5;
const SMALL: u64 = 100;

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// An object of so many bytes: its chunks, all from one buffer, and its signed header.
fn object(n: u64, length: u64, rng: &mut Rng) -> (Put, Vec<Vec<u8>>, Vec<u8>) {
    let (count, key) = (chunks(length).unwrap(), SigningKey::from_seed(&[1; 32]));
    let size = padded(length).unwrap() + count * 40;
    let pattern: [u8; 32] = rng.bytes();
    let chunk = |i: u64| {
        let mut bytes = pattern.repeat(CHUNK / 32);
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        bytes.truncate((size - i * CHUNK as u64).min(CHUNK as u64) as usize);
        bytes
    };
    let parts: Vec<_> = (0..count).map(chunk).collect();
    let leaves: Vec<_> = parts.iter().enumerate().map(|(i, c)| tree::leaf(i as u64, count == 1, c).unwrap()).collect();
    let (mut object, commitment) = ([0; 16], rng.bytes());
    object[..8].copy_from_slice(&n.to_be_bytes());
    let identity = Identity { domain: DOMAIN, object, version: 1, generation: 1, author: key.node_id(), salt: rng.bytes() };
    let root = tree::root(&leaves).unwrap();
    let header = Header { identity, commitment, previous: [0; 32], size, root, description: vec![0; 296] };
    let signed = header.sign(&key).unwrap();
    (Put { id: commitment, author: key.node_id(), object, version: 1 }, parts, signed)
}

fn put(store: &dyn ObjectStore, (put, parts, signed): &(Put, Vec<Vec<u8>>, Vec<u8>)) {
    store.begin(NOW, put).unwrap();
    for (i, chunk) in parts.iter().enumerate() {
        store.append(NOW, &put.id, i as u64, chunk).unwrap();
    }
    store.commit(NOW, signed).unwrap();
}

fn copy(path: &Path, parts: &[Vec<u8>]) {
    let mut file = File::create(path).unwrap();
    let mut hasher = blake3::Hasher::new();
    for chunk in parts {
        hasher.update(chunk);
        file.write_all(chunk).unwrap();
    }
    file.sync_all().unwrap();
    std::hint::black_box(hasher.finalize());
}

fn main() {
    // `cargo test --benches` wants to know only that it builds.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("objects-{}", std::process::id()));
    let mut rng = Rng::from_seed([1; 32]);
    let store = EmbeddedStore::open(Directory::open(&folder.join("store")).unwrap(), DOMAIN, Quota::default(), &mut rng).unwrap();
    let plain = folder.join("plain");
    let mut best = [Duration::MAX; 6];
    for round in 0..ROUNDS as u64 {
        let large = object(round * 1_000, 256 << 20, &mut rng);
        let small: Vec<_> = (1..=SMALL).map(|n| object(round * 1_000 + n, 20_000, &mut rng)).collect();
        let count = large.1.len() as u64;
        let times = [
            time(|| put(&store, &large)),
            time(|| copy(&plain, &large.1)),
            time(|| (0..count).for_each(|i| drop(std::hint::black_box(store.chunk(&large.0.object, 1, i).unwrap())))),
            time(|| {
                let (mut file, mut chunk) = (File::open(&plain).unwrap(), vec![0; CHUNK]);
                while file.read(&mut chunk).unwrap() > 0 {}
            }),
            time(|| small.iter().for_each(|o| put(&store, o))),
            time(|| small.iter().for_each(|o| copy(&plain, &o.1))),
        ];
        best.iter_mut().zip(times).for_each(|(best, time)| *best = time.min(*best));
        println!("round {} of {ROUNDS}", round + 1);
    }
    drop(store);
    fs::remove_dir_all(&folder).unwrap();
    let names = ["put of 256 MiB", "get of 256 MiB", "100 puts of 20 KB"];
    println!("{:<20}{:>12}{:>14}{:>22}", "", "store", "plain file", "plain / store");
    for (name, pair) in names.iter().zip(best.chunks(2)) {
        let ratio = 100.0 * pair[1].as_secs_f64() / pair[0].as_secs_f64();
        println!("{name:<20}{:>9} ms{:>11} ms{ratio:>20.0} %", pair[0].as_millis(), pair[1].as_millis());
    }
}
