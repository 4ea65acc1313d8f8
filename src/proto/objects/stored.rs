//! What a store of objects and whoever uses it speak of.

use alloc::vec::Vec;

use super::Header;
use crate::base::NodeId;
#[cfg(doc)]
use crate::crypto::object::StorageKey;

/// An object's name, the same for all its versions. It follows from its path and a secret of the domain ([`StorageKey::token`]).
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

impl Put {
    /// The put by which a version comes.
    #[must_use]
    pub fn of(header: &Header) -> Put {
        let identity = &header.identity;
        Put { id: header.commitment, author: identity.author, object: identity.object, version: identity.version }
    }
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

/// A put under way in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underway {
    /// Which.
    pub put: Put,
    /// Its chunks on disk.
    pub durable: u64,
}

/// What a manager has that one who follows it did not have yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Whether it leads: takes what participants store.
    pub leads: bool,
    /// Names the lockboxes, enrolments and versions in conflict that it keeps.
    pub digest: [u8; 32],
    /// All puts under way there.
    pub puts: Vec<Underway>,
    /// Versions.
    pub changes: Changes,
}
