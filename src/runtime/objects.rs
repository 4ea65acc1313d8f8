//! A store of sealed objects, as the manager sees it: it checks, counts and serves what it cannot read. One implementation is
//! embedded (`platform::native::objects`); a database server or S3-compatible storage would be others.
//!
//! A put is begun, gets its chunks in order, and is committed with the signed header. Nothing of it shows before. Calls block.

use crate::base::{DomainId, Error, NodeId, Wall};
use crate::proto::objects::Head;

/// An object's random name, the same for all its versions.
pub type ObjectId = [u8; 16];

/// What names a put: the commitment that its header will carry, which no other put has.
pub type PutId = [u8; 32];

/// A version of an object on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its name.
    pub id: PutId,
    /// Who sends it. Nobody else goes on with it.
    pub author: NodeId,
    /// The object.
    pub object: ObjectId,
    /// The version it is to become.
    pub version: u64,
}

/// How far a put is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks written.
    pub written: u64,
    /// Chunks on disk: after a crash the put goes on behind them.
    pub durable: u64,
}

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of sealed chunks, all together, puts under way included.
    pub total: u64,
    /// The same of one author.
    pub member: u64,
    /// Puts of one author under way.
    pub puts: usize,
    /// Versions of one object whose chunks are kept, the newest included.
    pub versions: usize,
    /// Versions of one object that are known, the newest included.
    pub history: usize,
    /// Objects, the deleted included until they are collected.
    pub objects: usize,
}

impl Default for Quota {
    /// 64 GiB, of which one member may fill 16.
    fn default() -> Quota {
        Quota { total: 64 << 30, member: 16 << 30, puts: 16, versions: 4, history: 64, objects: 1 << 20 }
    }
}

/// How much is stored, bytes of sealed chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// All together.
    pub total: u64,
    /// By one author.
    pub member: u64,
}

/// A place in the order in which a store took versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Random, of the store: another store, or one that was made anew, has another order.
    pub epoch: u64,
    /// Counts up.
    pub at: u64,
    /// Deletions forgotten up to here are none that its holder missed: it began to list after that.
    pub floor: u64,
}

/// What changed since a cursor: of each object that did, the newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Signed headers, in the order in which they were taken.
    pub headers: Vec<Vec<u8>>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether there is more already.
    pub more: bool,
    /// Whether this begins with the first object, because the cursor was of another store or too old: what is not listed is not there.
    pub anew: bool,
}

/// A store of one domain's sealed objects.
///
/// What [`commit`](ObjectStore::commit) answered is on disk, and so are the chunks that [`Progress`] calls durable. After a crash at any
/// point each version is there whole or not at all.
pub trait ObjectStore: Send + Sync {
    /// The domain whose objects these are.
    fn domain(&self) -> DomainId;

    /// Begins a put, or goes on with it.
    ///
    /// # Errors
    /// [`Code::Conflict`](crate::base::Code::Conflict) if that version is not the next one, [`Code::Quota`](crate::base::Code::Quota) for too
    /// many puts or objects, [`Code::Forbidden`](crate::base::Code::Forbidden) for somebody else's, [`Code::Storage`](crate::base::Code::Storage).
    fn begin(&self, now: Wall, put: &Put) -> Result<Progress, Error>;

    /// Takes a chunk. One that was written already changes nothing.
    ///
    /// # Errors
    /// [`Code::NoObject`](crate::base::Code::NoObject) if no such put was begun, [`Code::Malformed`](crate::base::Code::Malformed) for a chunk out
    /// of order, behind a short one, or of no chunk's length, [`Code::Quota`](crate::base::Code::Quota), [`Code::Storage`](crate::base::Code::Storage).
    fn append(&self, now: Wall, put: &PutId, index: u64, chunk: &[u8]) -> Result<Progress, Error>;

    /// Makes a put a version; or stores a tombstone, which needs no put. The same header again changes nothing.
    ///
    /// # Errors
    /// [`Code::Forged`](crate::base::Code::Forged) if the header is not its author's or the chunks are not what it says,
    /// [`Code::NoObject`](crate::base::Code::NoObject), [`Code::Conflict`](crate::base::Code::Conflict), [`Code::Storage`](crate::base::Code::Storage).
    /// But for the last the put ends.
    fn commit(&self, now: Wall, signed: &[u8]) -> Result<Cursor, Error>;

    /// Ends a put without a version. One that does not exist changes nothing.
    ///
    /// # Errors
    /// [`Code::Forbidden`](crate::base::Code::Forbidden) for somebody else's, [`Code::Storage`](crate::base::Code::Storage).
    fn abandon(&self, author: &NodeId, put: &PutId) -> Result<(), Error>;

    /// The newest version's number and hash.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn head(&self, object: &ObjectId) -> Result<Option<Head>, Error>;

    /// The signed headers of versions up to this one, the newest first; at most so many.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn history(&self, object: &ObjectId, up_to: u64, most: usize) -> Result<Vec<Vec<u8>>, Error>;

    /// A sealed chunk.
    ///
    /// # Errors
    /// [`Code::NoObject`](crate::base::Code::NoObject) if the version, its chunks or this one are not there,
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn chunk(&self, object: &ObjectId, version: u64, index: u64) -> Result<Vec<u8>, Error>;

    /// The subtree hashes of chunks, from one on, at most so many: what a reader checks single chunks by.
    ///
    /// # Errors
    /// As [`ObjectStore::chunk`].
    fn leaves(&self, object: &ObjectId, version: u64, from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error>;

    /// What changed, up to about so many bytes of headers, one at least.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn changes(&self, since: Cursor, bytes: usize) -> Result<Changes, Error>;

    /// How much is stored, all together and by a member.
    fn used(&self, member: &NodeId) -> Used;

    /// Frees what puts hold that nobody went on with for a day, and forgets objects that were deleted 30 days ago.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn collect(&self, now: Wall) -> Result<(), Error>;
}
