//! Results that a supplier keeps for other suppliers, which go on with them: so that what one makes of a task goes to the next and never
//! by way of whoever asked.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{AsyncRead, FutureExt, StreamExt, TryStreamExt, stream};

use crate::base::{Code, DomainId, Error, Map, NodeId};
use crate::proto::task::message::ResultKey;

/// The bytes of one result.
pub trait Spool: Send + Sync {
    /// Adds more.
    ///
    /// # Errors
    /// What is wrong with where it is kept.
    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;

    /// All that was added by now.
    ///
    /// # Errors
    /// What is wrong with where it is kept.
    fn read(&self) -> BoxFuture<'static, io::Result<Box<dyn AsyncRead + Send + Unpin>>>;
}

/// Where results are kept, as long as their demanders want them.
pub struct Shelf {
    make: Box<dyn Fn() -> io::Result<Arc<dyn Spool>> + Send + Sync>,
    room: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes kept: all, and of each demander.
    total: u64,
    used: Map<NodeId, u64>,
    /// By the hash of their names, so that how long a search takes tells nothing of a name.
    kept: Map<[u8; 32], Entry>,
}

struct Entry {
    domain: DomainId,
    spool: Arc<dyn Spool>,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Shelf {
    /// One for so many bytes, of which one demander may have half, in places that `make` makes.
    #[must_use]
    pub fn new(room: u64, make: impl Fn() -> io::Result<Arc<dyn Spool>> + Send + Sync + 'static) -> Arc<Shelf> {
        Arc::new(Shelf { make: Box::new(make), room, state: Mutex::default() })
    }

    /// One in memory.
    #[must_use]
    pub fn in_memory(room: u64) -> Arc<Shelf> {
        Shelf::new(room, || Ok(Arc::new(Memory::default())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to keep a result for its demander, and for those it tells the name.
    pub(super) fn begin(self: &Arc<Shelf>, domain: DomainId, demander: NodeId, key: ResultKey) -> Result<Keeping, Error> {
        let spool = (self.make)().map_err(unkept)?;
        let (shelf, name) = (Arc::clone(self), name(key));
        Ok(Keeping { shelf, domain, demander, name, spool, size: 0, hasher: blake3::Hasher::new(), listed: false })
    }

    /// A result of this name that is whole.
    pub(super) fn find(&self, domain: DomainId, key: ResultKey) -> Option<Arc<dyn Spool>> {
        let state = self.state();
        state.kept.get(&name(key)).filter(|entry| entry.domain == domain).map(|entry| Arc::clone(&entry.spool))
    }
}

fn name(key: ResultKey) -> [u8; 32] {
    *blake3::hash(&key.0).as_bytes()
}

fn unkept(cause: io::Error) -> Error {
    Error::new(Code::SupplierFailed, "the supplier cannot keep the result").caused_by(cause)
}

/// A result that is being kept; dropped, it is given to nobody any more.
pub(super) struct Keeping {
    shelf: Arc<Shelf>,
    domain: DomainId,
    demander: NodeId,
    name: [u8; 32],
    spool: Arc<dyn Spool>,
    size: u64,
    hasher: blake3::Hasher,
    listed: bool,
}

impl Keeping {
    /// Adds more of it.
    pub async fn add(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let length = bytes.len() as u64;
        {
            let mut state = self.shelf.state();
            let own = state.used.get(&self.demander).copied().unwrap_or_default();
            if state.total + length > self.shelf.room || own + length > self.shelf.room / 2 {
                return Err(Error::new(Code::Busy, "the supplier has no room to keep the result"));
            }
            state.total += length;
            state.used.insert(self.demander, own + length);
        }
        self.size += length;
        self.hasher.update(&bytes);
        self.spool.append(bytes).await.map_err(unkept)
    }

    /// It is whole: from now on it is given to those who know its name. Its length and hash.
    pub fn list(&mut self) -> Result<(u64, [u8; 32]), Error> {
        let entry = Entry { domain: self.domain, spool: Arc::clone(&self.spool) };
        let mut state = self.shelf.state();
        if state.kept.contains_key(&self.name) {
            return Err(Error::new(Code::Conflict, "another result of this name is kept"));
        }
        state.kept.insert(self.name, entry);
        self.listed = true;
        Ok((self.size, *self.hasher.finalize().as_bytes()))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut state = self.shelf.state();
        if self.listed {
            state.kept.remove(&self.name);
        }
        state.total -= self.size;
        match state.used.get_mut(&self.demander) {
            Some(used) if *used > self.size => *used -= self.size,
            _ => _ = state.used.remove(&self.demander),
        }
    }
}

/// A result in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<Arc<[u8]>>>);

impl Spool for Memory {
    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes.into());
        std::future::ready(Ok(())).boxed()
    }

    fn read(&self) -> BoxFuture<'static, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reader = stream::iter(parts).map(Ok::<_, io::Error>).into_async_read();
        std::future::ready(Ok(Box::new(reader) as Box<_>)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncReadExt;
    use futures::executor::block_on;

    const DOMAIN: DomainId = DomainId::from_bytes([1; 32]);

    fn demander(n: u8) -> NodeId {
        NodeId::from_public_key([n; 32])
    }

    #[test]
    fn a_result_is_found_by_its_name_while_it_is_kept() {
        let shelf = Shelf::in_memory(100);
        let key = ResultKey([2; 32]);
        let mut keeping = shelf.begin(DOMAIN, demander(1), key).unwrap();
        block_on(keeping.add(vec![1; 20])).unwrap();
        assert!(shelf.find(DOMAIN, key).is_none(), "it is not whole");
        block_on(keeping.add(vec![2; 20])).unwrap();
        let all = [[1; 20], [2; 20]].concat();
        assert_eq!(keeping.list().unwrap(), (40, *blake3::hash(&all).as_bytes()));
        let found = shelf.find(DOMAIN, key).unwrap();
        assert!(shelf.find(DomainId::from_bytes([9; 32]), key).is_none(), "of another domain");
        assert!(shelf.find(DOMAIN, ResultKey([3; 32])).is_none(), "of another name");
        let mut second = shelf.begin(DOMAIN, demander(2), key).unwrap();
        assert_eq!(second.list().unwrap_err().code(), Code::Conflict);
        drop(second);
        assert!(shelf.find(DOMAIN, key).is_some(), "who has the name keeps it");
        drop(keeping);
        assert!(shelf.find(DOMAIN, key).is_none());
        // Who began to read it has it to the end.
        let mut bytes = Vec::new();
        block_on(async { found.read().await.unwrap().read_to_end(&mut bytes).await.unwrap() });
        assert_eq!(bytes, all);
    }

    #[test]
    fn one_demander_has_half_of_the_room_and_gives_it_back() {
        let shelf = Shelf::in_memory(100);
        let keep = |of: u8, key: u8| shelf.begin(DOMAIN, demander(of), ResultKey([key; 32])).unwrap();
        let (mut one, mut other, mut third) = (keep(1, 1), keep(2, 2), keep(3, 3));
        block_on(one.add(vec![0; 50])).unwrap();
        assert_eq!(block_on(one.add(vec![0; 1])).unwrap_err().code(), Code::Busy);
        assert_eq!(block_on(keep(1, 4).add(vec![0; 1])).unwrap_err().code(), Code::Busy);
        block_on(other.add(vec![0; 50])).unwrap();
        assert_eq!(block_on(third.add(vec![0; 1])).unwrap_err().code(), Code::Busy, "all of it is used");
        drop(one);
        block_on(third.add(vec![0; 50])).unwrap();
        drop((other, third));
        assert_eq!(shelf.state().total, 0);
        assert!(shelf.state().used.is_empty());
    }
}
