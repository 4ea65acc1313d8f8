//! Where records outlive a process: named bytes, written several at once or not at all. redb natively, IndexedDB in a
//! browser, memory in tests. What the bytes say is for [`SavedDomain`](crate::peer::SavedDomain).

use std::{
    collections::BTreeMap,
    future::{Future, Ready, ready},
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use crate::base::{DomainId, Error};
use crate::peer::Part;

/// A record's bytes. They may hold secrets.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Records to be written (`Some`) or deleted (`None`), by name.
pub type Changes = Vec<(String, Option<Bytes>)>;

/// A store of named records. Clones are the same store.
///
/// A write is atomic: after a crash at any point all of its changes are there, or none. Once its answer came it is on disk.
/// Nothing is checked here but that what is read is what was written.
pub trait Store: Clone {
    /// How an answer comes.
    type Answer<T: Send + 'static>: Future<Output = Result<T, Error>>;

    /// The record of this name.
    fn get(&self, name: &str) -> Self::Answer<Option<Bytes>>;

    /// All names, in order.
    fn list(&self) -> Self::Answer<Vec<String>>;

    /// Writes and deletes, all or nothing.
    fn write(&self, changes: Changes) -> Self::Answer<()>;
}

/// The name under which a node's identity is kept.
pub const IDENTITY: &str = "identity";

/// The name of one part of a domain: `domain/<id>/<part>`.
#[must_use]
pub fn name(id: &DomainId, part: Part) -> String {
    format!("domain/{id}/{}", part.name())
}

/// The domain whose record has this name.
pub(super) fn domain_of(name: &str) -> Option<DomainId> {
    name.strip_prefix("domain/")?.split_once('/')?.0.parse().ok()
}

/// A store that is gone with the process.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Store for MemoryStore {
    type Answer<T: Send + 'static> = Ready<Result<T, Error>>;

    fn get(&self, name: &str) -> Self::Answer<Option<Bytes>> {
        ready(Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()))
    }

    fn list(&self) -> Self::Answer<Vec<String>> {
        ready(Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()))
    }

    fn write(&self, changes: Changes) -> Self::Answer<()> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, bytes) in changes {
            match bytes {
                Some(bytes) => records.insert(name, bytes),
                None => records.remove(&name),
            };
        }
        ready(Ok(()))
    }
}
