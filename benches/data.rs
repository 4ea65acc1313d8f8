//! Domain data from end to end: a put and a get of 256 MiB through a native manager on loopback, sealed, checked, on disk, against a plain
//! copy of the same bytes that is hashed with BLAKE3 and synced. By turns;
//! the fastest of each counts, which other work on the machine disturbs least.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peerage::crypto::Role;
use peerage::crypto::sign::SigningKey;
use peerage::node::data::DataDir;
use peerage::node::domain::DomainFiles;
use peerage::node::objects::Service;
use peerage::peer::{Config, Profile, SavedDomain};
use peerage::platform::links::streams::LinkStreams;
use peerage::platform::native::objects::{Directory, EmbeddedStore};
use peerage::platform::native::{self, NativeConfig, NativePlatform, entropy};
use peerage::runtime::data::{DomainData, PutOptions};
use peerage::runtime::handle::Node;
use peerage::runtime::objects::Quota;
use peerage::runtime::store::MemoryStore;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

const ROUNDS: usize = 5;
const LENGTH: usize = 256 << 20;
const PIECE: usize = 64 * 1024;

fn best(best: &mut Duration, start: Instant) {
    *best = start.elapsed().min(*best);
}

/// A node of the domain that listens on loopback.
async fn node(saved: &SavedDomain, role: Role) -> (Node, LinkStreams) {
    let key = SigningKey::generate(&mut entropy().unwrap());
    let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()];
    let platform = NativePlatform::new(&key, &NativeConfig { listen, ..NativeConfig::default() }).unwrap();
    let streams = platform.streams();
    let (node, driver) = native::start_on(platform, key, Config::native(), entropy().unwrap().bytes());
    node.open_domain(saved, role, Profile { name: "bench".into(), capabilities: Vec::new() }).unwrap();
    tokio::spawn(driver);
    while node.addresses().len() < 2 {
        node.next_event().await.unwrap();
    }
    (node, streams)
}

fn copy(from: &Path, to: &Path) {
    let (mut source, mut file) = (File::open(from).unwrap(), File::create(to).unwrap());
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; PIECE]);
    loop {
        let n = source.read(&mut piece).unwrap();
        if n == 0 {
            break;
        }
        hasher.update(&piece[..n]);
        file.write_all(&piece[..n]).unwrap();
    }
    file.sync_all().unwrap();
    std::hint::black_box(hasher.finalize());
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` wants to know only that it builds.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("data-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let files = DomainFiles::open(&DataDir::open(&folder.join("owner")).unwrap()).unwrap();
    let saved = files.create("bench").unwrap();
    let (manager, streams) = node(&saved, Role::Manager).await;
    let disk = Directory::open(&folder.join("objects")).unwrap();
    let store = Arc::new(EmbeddedStore::open(disk, saved.id(), Quota::default(), &mut entropy().unwrap()).unwrap());
    let service = Service::new(manager.clone(), store, Quota::default(), &files).unwrap();
    tokio::spawn(service.serve(streams.incoming().unwrap()));
    let knows = SavedDomain { contacts: vec![(manager.id(), manager.addresses())], ..saved };
    let (owner, streams) = node(&knows, Role::Participant).await;
    let data = DomainData::open(owner.clone(), knows.id(), Arc::new(streams), MemoryStore::default()).await.unwrap();

    let (source, plain) = (folder.join("source"), folder.join("plain"));
    let mut rng = entropy().unwrap();
    let bytes: Vec<u8> = std::iter::repeat_with(|| rng.bytes::<4096>()).flatten().take(LENGTH).collect();
    fs::write(&source, &bytes).unwrap();
    let mut times = [Duration::MAX; 4];
    for round in 0..ROUNDS {
        let start = Instant::now();
        let file = tokio::io::BufReader::with_capacity(1 << 20, tokio::fs::File::open(&source).await.unwrap());
        data.put("large", file.compat(), PutOptions::default(), |_| ()).await.unwrap();
        best(&mut times[0], start);

        let start = Instant::now();
        tokio::task::block_in_place(|| copy(&source, &plain));
        best(&mut times[1], start);

        let start = Instant::now();
        let mut body = data.get("large", None).await.unwrap();
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, tokio::fs::File::create(folder.join("got")).await.unwrap());
        while let Some(part) = body.next().await.unwrap() {
            tokio::io::AsyncWriteExt::write_all(&mut file, &part).await.unwrap();
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.unwrap();
        file.get_ref().sync_all().await.unwrap();
        best(&mut times[2], start);

        let start = Instant::now();
        tokio::task::block_in_place(|| copy(&plain, &folder.join("again")));
        best(&mut times[3], start);
        println!("round {} of {ROUNDS}", round + 1);
    }
    assert!(fs::read(folder.join("got")).unwrap() == bytes);
    for node in [manager, owner] {
        node.close();
    }
    fs::remove_dir_all(&folder).unwrap();
    println!("{:<20}{:>12}{:>14}{:>22}", "", "domain data", "plain copy", "plain / domain data");
    for (name, pair) in ["put of 256 MiB", "get of 256 MiB"].iter().zip(times.chunks(2)) {
        let ratio = 100.0 * pair[1].as_secs_f64() / pair[0].as_secs_f64();
        println!("{name:<20}{:>9} ms{:>11} ms{ratio:>20.0} %", pair[0].as_millis(), pair[1].as_millis());
    }
}
