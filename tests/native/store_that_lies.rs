//! A manager whose store lies: what a participant makes of it. Real nodes, a real service and store on a real disk; only the answers
//! are changed on their way out.

use std::sync::{Arc, Mutex};

use futures::{SinkExt, StreamExt};
use peerage::base::{Code, DomainId, Error, NodeId, Wall};
use peerage::crypto::Role;
use peerage::crypto::object::{Identity, recipient, tree};
use peerage::crypto::sign::SigningKey;
use peerage::node::data::DataDir;
use peerage::node::domain::DomainFiles;
use peerage::node::objects::Service;
use peerage::peer::storage::with_policy;
use peerage::peer::{Config, Profile, SavedDomain};
use peerage::platform::links::streams::LinkStreams;
use peerage::platform::native::objects::{Directory, EmbeddedStore};
use peerage::platform::native::{self, NativeConfig, NativePlatform, entropy};
use peerage::proto::objects::message::{Answer, MESSAGE, Request};
use peerage::proto::objects::{Description, Head, Header, Keyring};
use peerage::runtime::data::{DomainData, PutOptions};
use peerage::runtime::handle::Node;
use peerage::runtime::objects::{Changes, Cursor, ObjectId, ObjectStore, Progress, Put, PutId, Quota, Underway, Used};
use peerage::runtime::store::MemoryStore;
use peerage::runtime::streams::{Streams as _, framed};

use crate::cli::Scratch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// Two chunks in each other's place.
    Reordered,
    /// The chunks of another object.
    Swapped,
    /// The last chunk is shorter.
    Truncated,
    /// A bit of a chunk, of a hash, of a header.
    Chunk,
    Leaf,
    Header,
    /// Another object's headers.
    Renamed,
    /// As if the newest version had never been.
    RolledBack,
    /// As if the object had never been.
    Hidden,
    /// One version left out.
    Gap,
}

struct Lying {
    inner: EmbeddedStore<Directory>,
    lie: Mutex<Lie>,
    /// What is lied about, and what is given out instead.
    objects: Mutex<Vec<ObjectId>>,
}

impl Lying {
    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    fn other(&self, object: &ObjectId) -> ObjectId {
        *self.objects.lock().unwrap().iter().find(|o| *o != object).unwrap()
    }
}

impl ObjectStore for Lying {
    fn domain(&self) -> DomainId {
        self.inner.domain()
    }
    fn begin(&self, now: Wall, put: &Put) -> Result<Progress, Error> {
        let mut objects = self.objects.lock().unwrap();
        if !objects.contains(&put.object) {
            objects.push(put.object);
        }
        self.inner.begin(now, put)
    }
    fn append(&self, now: Wall, put: &PutId, index: u64, chunk: &[u8]) -> Result<Progress, Error> {
        self.inner.append(now, put, index, chunk)
    }
    fn commit(&self, now: Wall, signed: &[u8]) -> Result<Cursor, Error> {
        self.inner.commit(now, signed)
    }
    fn abandon(&self, author: &NodeId, put: &PutId) -> Result<(), Error> {
        self.inner.abandon(author, put)
    }
    fn head(&self, object: &ObjectId) -> Result<Option<Head>, Error> {
        self.inner.head(object)
    }
    fn history(&self, object: &ObjectId, up_to: u64, most: usize) -> Result<Vec<Vec<u8>>, Error> {
        let all = self.inner.history(object, up_to, most)?;
        Ok(match self.lie() {
            Lie::Header => all.into_iter().map(|mut h| (h[100] ^= 1, h).1).collect(),
            Lie::Renamed => self.inner.history(&self.other(object), up_to, most)?,
            Lie::RolledBack => self.inner.history(object, 1, most)?,
            Lie::Hidden => Vec::new(),
            Lie::Gap => all.into_iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, h)| h).collect(),
            _ => all,
        })
    }
    fn chunk(&self, object: &ObjectId, version: u64, index: u64) -> Result<Vec<u8>, Error> {
        let mut chunk = match self.lie() {
            Lie::Reordered => self.inner.chunk(object, version, index ^ 1)?,
            Lie::Swapped => self.inner.chunk(&self.other(object), 1, index)?,
            _ => self.inner.chunk(object, version, index)?,
        };
        match self.lie() {
            Lie::Truncated => chunk.truncate(chunk.len() / 2),
            Lie::Chunk => chunk[1_000] ^= 1,
            _ => {}
        }
        Ok(chunk)
    }
    fn leaves(&self, object: &ObjectId, version: u64, from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error> {
        let mut leaves = self.inner.leaves(object, version, from, most)?;
        if self.lie() == Lie::Leaf {
            leaves[0][0] ^= 1;
        }
        Ok(leaves)
    }
    fn changes(&self, since: Cursor, bytes: usize) -> Result<Changes, Error> {
        self.inner.changes(since, bytes)
    }
    fn used(&self, member: &NodeId) -> Used {
        self.inner.used(member)
    }
    fn collect(&self, now: Wall) -> Result<(), Error> {
        self.inner.collect(now)
    }
    fn last(&self) -> Result<Cursor, Error> {
        self.inner.last()
    }
    fn puts(&self) -> Vec<Underway> {
        self.inner.puts()
    }
    fn mirror(&self, now: Wall, put: &Put) -> Result<Progress, Error> {
        self.inner.mirror(now, put)
    }
    fn import(&self, now: Wall, chain: &[Vec<u8>]) -> Result<Cursor, Error> {
        self.inner.import(now, chain)
    }
    fn conflicts(&self, object: Option<&ObjectId>) -> Result<Vec<Vec<u8>>, Error> {
        self.inner.conflicts(object)
    }
    fn part(&self, put: &[u8; 32], index: u64) -> Result<Vec<u8>, Error> {
        self.inner.part(put, index)
    }
    fn part_leaves(&self, put: &[u8; 32], from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error> {
        self.inner.part_leaves(put, from, most)
    }
}

fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

/// A node of the domain on loopback.
async fn node(saved: &SavedDomain, role: Role, name: &str) -> (Node, DomainId, LinkStreams) {
    node_of(SigningKey::generate(&mut entropy().unwrap()), saved, role, name).await
}

async fn node_of(key: SigningKey, saved: &SavedDomain, role: Role, name: &str) -> (Node, DomainId, LinkStreams) {
    let config = NativeConfig { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..NativeConfig::default() };
    let platform = NativePlatform::new(&key, &config).unwrap();
    let streams = platform.streams();
    let (node, driver) = native::start_on(platform, key, Config::native(), entropy().unwrap().bytes());
    let domain = node.open_domain(saved, role, profile(name)).unwrap();
    tokio::spawn(driver);
    while node.addresses().is_empty() {
        node.next_event().await.unwrap();
    }
    (node, domain, streams)
}

/// A domain on disk with its manager, which serves a store.
struct Home<S> {
    files: DomainFiles,
    /// What a participant opens: with it the root key, and where the manager is.
    knows: SavedDomain,
    manager: Node,
    store: Arc<S>,
}

impl<S: ObjectStore + 'static> Home<S> {
    async fn start(scratch: &Scratch, made_of: impl FnOnce(EmbeddedStore<Directory>) -> S) -> Home<S> {
        let files = DomainFiles::open(&DataDir::open(&scratch.0).unwrap()).unwrap();
        let saved = files.create("town").unwrap();
        let (manager, domain, streams) = node(&saved, Role::Manager, "manager").await;
        let disk = Directory::open(&scratch.0.join("objects")).unwrap();
        let store = Arc::new(made_of(EmbeddedStore::open(disk, domain, Quota::default(), &mut entropy().unwrap()).unwrap()));
        let service = Service::new(manager.clone(), store.clone(), Quota::default(), &files).unwrap();
        service.lead(true).await;
        tokio::spawn(service.serve(streams.incoming().unwrap()));
        let knows = SavedDomain { contacts: vec![(manager.id(), manager.addresses())], ..saved };
        Home { files, knows, manager, store }
    }
}

#[tokio::test]
async fn attack_28_what_a_manager_swaps_cuts_reorders_renames_or_rolls_back_is_refused() {
    let scratch = Scratch::new("lies");
    let lying = |inner| Lying { inner, lie: Mutex::new(Lie::None), objects: Mutex::default() };
    let Home { knows, manager, store, .. } = Home::start(&scratch, lying).await;
    let (owner, domain, streams) = node(&knows, Role::Participant, "owner").await;
    let memory = MemoryStore::default();
    let data = DomainData::open(owner.clone(), domain, Arc::new(streams.clone()), memory.clone()).await.unwrap();

    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_be_bytes).collect();
    let put = async |path: &str, content: &[u8]| data.put(path, content, PutOptions::default(), |_| ()).await.unwrap().version;
    assert_eq!(put("other", &content[4..]).await, 1);
    for version in 1..=3 {
        assert_eq!(put("map", &content).await, version);
    }
    let read = async || data.get("map", None).await?.bytes().await;
    assert_eq!(read().await.unwrap(), content);

    let lies =
        [Lie::Reordered, Lie::Swapped, Lie::Truncated, Lie::Chunk, Lie::Leaf, Lie::Header, Lie::Renamed, Lie::RolledBack, Lie::Hidden];
    for lie in lies {
        *store.lie.lock().unwrap() = lie;
        assert_eq!(read().await.unwrap_err().code(), Code::Forged, "{lie:?}");
        *store.lie.lock().unwrap() = Lie::None;
        assert_eq!(read().await.unwrap(), content, "after {lie:?}");
    }
    *store.lie.lock().unwrap() = Lie::Gap;
    assert_eq!(data.history("map").await.unwrap_err().code(), Code::Forged);

    // What was seen before a restart is remembered.
    *store.lie.lock().unwrap() = Lie::RolledBack;
    let data = DomainData::open(owner.clone(), domain, Arc::new(streams), memory).await.unwrap();
    assert_eq!(data.entry("map").await.unwrap_err().code(), Code::Forged);
    *store.lie.lock().unwrap() = Lie::None;
    assert_eq!(data.entry("map").await.unwrap().version, 3);
    for node in [manager, owner] {
        node.close();
    }
}

#[tokio::test]
async fn an_object_under_anothers_path_is_not_listed() {
    let scratch = Scratch::new("paths");
    let Home { files, knows, manager, .. } = Home::start(&scratch, |store| store).await;
    let key = SigningKey::generate(&mut entropy().unwrap());
    let (mallory, domain, streams) = node_of(key.clone(), &knows, Role::Participant, "mallory").await;
    let data = DomainData::open(mallory.clone(), domain, Arc::new(streams.clone()), MemoryStore::default()).await.unwrap();
    data.put("map", &b"the map"[..], PutOptions::default(), |_| ()).await.unwrap();

    // A member seals and signs by the rules, but for the object's id, which is not that of the path it names.
    let (root, (_, membership)) = (SigningKey::from_seed(knows.root.as_ref().unwrap()), files.describe(&knows).unwrap());
    let (mut keyring, kem) = (Keyring::new(domain), recipient(&root, &domain));
    // One for the root, and one for the participant who came since, in no order.
    for lockbox in files.lockboxes().unwrap().fresh().unwrap() {
        with_policy(&membership, native::clock(), |policy| keyring.take(&lockbox, &[(root.public(), &kem)], policy)).unwrap();
    }
    let identity = Identity { domain, object: [9; 16], version: 1, generation: 1, author: key.node_id(), salt: [1; 32] };
    let sealing = keyring.first().unwrap().object(&identity);
    let chunk = sealing.seal(0, true, &[0; 1_024]).unwrap();
    let description = Description { path: "map".into(), length: 5, ..Description::default() }.encode().unwrap();
    let header = Header {
        identity,
        commitment: *sealing.commitment(),
        previous: [0; 32],
        size: chunk.len() as u64,
        root: tree::leaf(0, true, &chunk).unwrap(),
        description: sealing.seal_description(&description).unwrap(),
    };
    let mut frames = framed(streams.open(manager.id()).await.unwrap(), MESSAGE);
    let put = Put { id: header.commitment, author: key.node_id(), object: [9; 16], version: 1 };
    let requests = [
        Request::Open(domain),
        Request::Begin(put),
        Request::Chunk { index: 0, bytes: chunk },
        Request::Commit(header.sign(&key).unwrap()),
        Request::Begin(Put { author: manager.id(), ..put }),
    ];
    for request in requests {
        frames.send(request.encode().into()).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < 4 {
        answers.push(Answer::decode(&frames.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(matches!(answers[2], Answer::Committed(_)), "the manager cannot tell: {answers:?}");
    assert!(matches!(answers[3], Answer::Error { code: Code::Forbidden, .. }), "nobody puts for another: {answers:?}");
    let (listed, ..) = data.changes(Cursor::default(), false).await.unwrap();
    assert_eq!(listed.iter().map(|e| (e.path.as_str(), e.length)).collect::<Vec<_>>(), [("map", 7)]);
    assert_eq!(data.get("map", None).await.unwrap().bytes().await.unwrap(), b"the map");
}
