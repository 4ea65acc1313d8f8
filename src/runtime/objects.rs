//! A store of sealed objects, as the manager sees it: it checks, counts and serves what it cannot read. One implementation is
//! embedded (`platform::native::objects`); a database server or S3-compatible storage would be others.
//!
//! A put is begun, gets its chunks in order, and is committed with the signed header. Nothing of it shows before. Calls block.

use crate::base::{DomainId, Error, NodeId, Wall};
use crate::proto::objects::Head;
pub use crate::proto::objects::{Changes, Cursor, ObjectId, Progress, Put, PutId, Quota, Underway, Used};

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
    /// [`Code::NoObject`](crate::base::Code::NoObject) if no such put was begun since the store was opened,
    /// [`Code::Conflict`](crate::base::Code::Conflict), [`Code::Storage`](crate::base::Code::Storage). But for this and the last the put ends.
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

    // ---- what another store of the same domain has ------------------------------------------------------------------

    /// Where the last version stands.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn last(&self) -> Result<Cursor, Error>;

    /// Puts under way.
    fn puts(&self) -> Vec<Underway>;

    /// As [`ObjectStore::begin`], for a put that another store has, whichever version it is to become.
    ///
    /// # Errors
    /// As [`ObjectStore::begin`], but for the conflict.
    fn mirror(&self, now: Wall, put: &Put) -> Result<Progress, Error>;

    /// Takes versions of one object from another store: `chain`, the newest first, each named by the one before by its hash. The newest
    /// needs its chunks in a put that was [mirrored](ObjectStore::mirror), unless it is a tombstone; of the others those that have such a put get theirs.
    ///
    /// If the newest version here is among them they are what follows it. If not, somebody stored here what the other store did not know: that of both
    /// which [prevails](crate::proto::objects::prevails) is the object, the other one is kept in conflict. Nothing changes if all of it is here.
    ///
    /// # Errors
    /// As [`ObjectStore::commit`]; [`Code::Malformed`](crate::base::Code::Malformed) for what is no such chain.
    fn import(&self, now: Wall, chain: &[Vec<u8>]) -> Result<Cursor, Error>;

    /// The signed headers of versions in conflict, of an object or of all.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn conflicts(&self, object: Option<&ObjectId>) -> Result<Vec<Vec<u8>>, Error>;

    /// A chunk of a version in conflict, by its header's hash, or one on disk of a put under way.
    ///
    /// # Errors
    /// As [`ObjectStore::chunk`].
    fn part(&self, put: &[u8; 32], index: u64) -> Result<Vec<u8>, Error>;

    /// As [`ObjectStore::leaves`], of a version in conflict.
    ///
    /// # Errors
    /// As [`ObjectStore::chunk`].
    fn part_leaves(&self, put: &[u8; 32], from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error>;

    /// How much is stored, all together and by a member.
    fn used(&self, member: &NodeId) -> Used;

    /// Frees what puts hold that nobody went on with for a day, and forgets objects that were deleted, and versions that came to be in conflict,
    /// 30 days ago.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    fn collect(&self, now: Wall) -> Result<(), Error>;
}
