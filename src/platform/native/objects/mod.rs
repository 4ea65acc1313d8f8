//! The embedded store of sealed objects: records in redb, the chunks of each version in a file of their own.
//!
//! A file's name is a number. It holds the chunks, one after the other, and behind them, once it is a version, their subtree hashes.
//! Which file belongs to what is said by the records alone; a file that no record names is left from a crash and is removed.
//! So a version comes to be in one transaction, after its file was synced, and nothing is ever renamed.

mod disk;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::Database;

pub use disk::Directory;
use records::{File, Link, Outcome, PutRecord, Records};

use crate::base::{Code, DomainId, Error, NodeId, Reject, Rng, Wall};
use crate::crypto::object::{CHUNK, tree};
use crate::proto::objects::{self, Head, Header};
use crate::runtime::disk::{Disk, DiskFile};
use crate::runtime::objects::{Changes, Cursor, ObjectId, ObjectStore, Progress, Put, PutId, Quota, Underway, Used};

/// The file of the records.
const DATABASE: &str = "objects.redb";
/// After so many chunks a put is synced: 8 MiB, what is sent again after a crash at most.
const CHECKPOINT: u64 = 128;
/// A put that nobody goes on with is kept for so long.
const PUT_AGE: Duration = Duration::from_secs(24 * 3_600);
/// And a tombstone, or a version in conflict, so that whoever asks for changes within that time hears of it.
const TOMBSTONE_AGE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A store on a [`Disk`].
pub struct EmbeddedStore<D> {
    disk: D,
    domain: DomainId,
    records: Records,
    quota: Quota,
    state: Mutex<State>,
}

/// What is in memory. Its lock is never held while waiting for a put's.
#[derive(Default)]
struct State {
    next_file: u64,
    used: BTreeMap<NodeId, u64>,
    total: u64,
    puts: BTreeMap<PutId, Tracked>,
}

/// A put as it is known without waiting for whoever works on it.
struct Tracked {
    put: Put,
    durable: u64,
    open: Arc<Mutex<Open>>,
}

/// A put under way.
struct Open {
    put: Put,
    number: u64,
    /// Not yet opened since the process began, or since something failed.
    file: Option<Arc<dyn DiskFile>>,
    leaves: Vec<[u8; 32]>,
    /// Bytes of the chunks written.
    bytes: u64,
    /// Chunks that are certain. The records know the put once there are any.
    durable: u64,
    touched: Wall,
    ended: bool,
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::new(Code::Storage, format!("the disk failed: {what}")).caused_by(e).hint("See whether it is full or broken")
}

fn invalid(reject: Reject) -> Error {
    Error::new(reject.code(), "what was sent is no chunk or header of an object")
}

fn interrupted() -> Error {
    Error::new(Code::NoObject, "this put was interrupted").hint("Begin it again: it goes on where it was")
}

fn missing() -> Error {
    Error::new(Code::NoObject, "no such object, version or chunk is stored")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere left nothing half done that a restart would not find as well.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> EmbeddedStore<D> {
    /// Opens the store, or makes it; what a crash left behind is removed.
    ///
    /// # Errors
    /// [`Code::Storage`] if it is damaged, of another domain or of a later version of this program. It is not changed then.
    pub fn open(disk: D, domain: DomainId, quota: Quota, rng: &mut Rng) -> Result<EmbeddedStore<D>, Error> {
        let database = disk.open(DATABASE).map_err(failed("its records cannot be opened"))?;
        let database = Database::builder().create_with_backend(records::Backend(database)).map_err(|e| {
            let hint = "Nothing was changed. Restore it from a copy; or move the directory away, and a new store is made";
            Error::new(Code::Storage, "the records of the stored objects are damaged").caused_by(e).hint(hint)
        })?;
        let records = Records::open(database, &domain, rng)?;
        // The name of the database too: it may be new.
        disk.sync().map_err(failed("names cannot be synced"))?;
        // File 0 stands for none.
        let mut state = State { next_file: 1, ..State::default() };
        let mut named = BTreeSet::from([DATABASE.to_owned()]);
        for (put, record) in records.puts()? {
            named.insert(name(record.file));
            state.next_file = state.next_file.max(record.file + 1);
            let open = Open::new(put, record);
            state.use_bytes(put.author, open.bytes);
            state.puts.insert(put.id, Tracked { put, durable: open.durable, open: Arc::new(Mutex::new(open)) });
        }
        for File { number, author, size } in records.files()? {
            named.insert(name(number));
            state.next_file = state.next_file.max(number + 1);
            state.use_bytes(author, size);
        }
        let left: Vec<String> = disk.list().map_err(failed("it cannot be listed"))?.into_iter().filter(|n| !named.contains(n)).collect();
        for name in &left {
            disk.remove(name).map_err(failed("a file cannot be removed"))?;
        }
        if !left.is_empty() {
            // Their numbers are used again: none may come back under a new file's name.
            disk.sync().map_err(failed("names cannot be synced"))?;
        }
        Ok(EmbeddedStore { disk, domain, records, quota, state: Mutex::new(state) })
    }

    fn put(&self, id: &PutId) -> Result<Arc<Mutex<Open>>, Error> {
        let unknown = || Error::new(Code::NoObject, "no such put was begun, or it ended").hint("Begin it again");
        lock(&self.state).puts.get(id).map(|t| Arc::clone(&t.open)).ok_or_else(unknown)
    }

    /// Ends a put: its bytes are nobody's any more, unless they are a version's now.
    fn end(&self, open: &mut Open, kept: bool) {
        open.ended = true;
        let mut state = lock(&self.state);
        state.puts.remove(&open.put.id);
        if !kept {
            state.free_bytes(open.put.author, open.bytes);
        }
    }

    /// Drops a put with all that it holds.
    fn discard(&self, open: &mut Open) -> Result<(), Error> {
        if open.durable > 0 {
            self.records.forget_put(&open.put.id)?;
        }
        self.end(open, false);
        self.disk.remove(&name(open.number)).map_err(failed("a file cannot be removed"))
    }

    /// Opens a put's file and reads again what is certain to be there.
    fn load(&self, open: &mut Open) -> Result<Arc<dyn DiskFile>, Error> {
        if let Some(file) = &open.file {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&name(open.number)).map_err(failed("a file cannot be opened"))?;
        let length = open.durable * CHUNK as u64;
        file.set_length(length).map_err(failed("a file cannot be cut"))?;
        let (mut leaves, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        for index in 0..open.durable {
            file.read(index * CHUNK as u64, &mut chunk).map_err(failed("a chunk cannot be read"))?;
            leaves.push(tree::leaf(index, false, &chunk).map_err(invalid)?);
        }
        let mut state = lock(&self.state);
        state.free_bytes(open.put.author, open.bytes);
        state.use_bytes(open.put.author, length);
        drop(state);
        (open.leaves, open.bytes, open.file) = (leaves, length, Some(Arc::clone(&file)));
        Ok(file)
    }

    fn write(&self, now: Wall, open: &mut Open, file: &dyn DiskFile, index: u64, chunk: &[u8]) -> Result<(), Error> {
        file.write(index * CHUNK as u64, chunk).map_err(failed("a chunk cannot be written"))?;
        // A short one is the last one: it is synced with the version.
        if chunk.len() == CHUNK && index + 1 == open.durable + CHECKPOINT {
            file.sync().map_err(failed("a file cannot be synced"))?;
            if open.durable == 0 {
                self.disk.sync().map_err(failed("names cannot be synced"))?;
            }
            self.records.note_put(&open.put, PutRecord { chunks: index + 1, file: open.number, touched: now })?;
            open.durable = index + 1;
            if let Some(tracked) = lock(&self.state).puts.get_mut(&open.put.id) {
                tracked.durable = open.durable;
            }
        }
        Ok(())
    }

    /// Checks a put's chunks against a header and makes all of it certain, but for the records.
    fn seal(&self, open: &mut Open, header: &Header) -> Result<(), Error> {
        let said = (header.identity.author, header.identity.object, header.identity.version, header.size);
        if said != (open.put.author, open.put.object, open.put.version, open.bytes) {
            return Err(Error::new(Code::Forged, "the header is of another put, or not all chunks came"));
        }
        let file = self.load(open)?;
        // An object's only chunk is hashed as a whole tree, and the length tells only now that it is one.
        if open.leaves.len() == 1 {
            let mut chunk = vec![0; open.bytes as usize];
            file.read(0, &mut chunk).map_err(failed("a chunk cannot be read"))?;
            open.leaves[0] = tree::leaf(0, true, &chunk).map_err(invalid)?;
        }
        if tree::root(&open.leaves).map_err(invalid)? != header.root {
            return Err(Error::new(Code::Forged, "the chunks are not those that the header was signed over"));
        }
        file.write(header.size, open.leaves.as_flattened()).map_err(failed("a file cannot be written"))?;
        file.sync().map_err(failed("a file cannot be synced"))?;
        if open.durable == 0 {
            self.disk.sync().map_err(failed("names cannot be synced"))?;
        }
        Ok(())
    }

    /// Stores a header's version, and frees what it makes superfluous.
    fn take(&self, now: Wall, header: &Header, signed: &[u8], file: u64) -> Result<Cursor, Error> {
        match self.records.commit(now, header, signed, file, &self.quota)? {
            Outcome::Taken { cursor, freed } => {
                self.free(&freed);
                Ok(cursor)
            }
            Outcome::Refused(code) => Err(refusal(code)),
        }
    }

    /// Rids the disk of files that no record names any more.
    fn free(&self, freed: &[File]) {
        let mut state = lock(&self.state);
        for file in freed {
            state.free_bytes(file.author, file.size);
        }
        drop(state);
        for file in freed {
            // If this fails, the next start removes it.
            let _ = self.disk.remove(&name(file.number));
        }
    }

    /// Reads in a version's file, which `find` finds.
    fn read(
        &self,
        find: impl Fn() -> Result<Option<File>, Error>,
        offset: impl FnOnce(u64) -> Option<(u64, usize)>,
    ) -> Result<Vec<u8>, Error> {
        let file = find()?.ok_or_else(missing)?;
        let (offset, length) = offset(file.size).ok_or_else(missing)?;
        let mut out = vec![0; length];
        let open = self.disk.open(&name(file.number)).map_err(failed("a file cannot be opened"))?;
        match open.read(offset, &mut out) {
            Ok(()) => Ok(out),
            // A newer version, or a tombstone, took it away meanwhile; then opening has made an empty one.
            Err(_) if find()?.is_none() => {
                self.disk.remove(&name(file.number)).map_err(failed("a file cannot be removed"))?;
                Err(missing())
            }
            Err(e) => Err(failed("a chunk cannot be read")(e)),
        }
    }
}

fn refusal(code: Code) -> Error {
    let (what, hint) = match code {
        Code::Conflict => ("the object has another version by now", "Read it, and write over that one"),
        Code::NoObject => ("there is no such object to delete", "List what is there"),
        _ => ("the domain stores as many objects as it may", "Delete some"),
    };
    Error::new(code, what).hint(hint)
}

fn full(what: &str) -> Error {
    Error::new(Code::Quota, format!("{what} stores as much as it may")).hint("Delete objects, or ask who runs the manager for more")
}

impl State {
    fn use_bytes(&mut self, author: NodeId, bytes: u64) {
        *self.used.entry(author).or_default() += bytes;
        self.total += bytes;
    }

    fn free_bytes(&mut self, author: NodeId, bytes: u64) {
        self.total -= bytes;
        if let Some(used) = self.used.get_mut(&author) {
            *used -= bytes;
            if *used == 0 {
                self.used.remove(&author);
            }
        }
    }
}

impl Open {
    fn new(put: Put, PutRecord { chunks, file: number, touched }: PutRecord) -> Open {
        Open { put, number, file: None, leaves: Vec::new(), bytes: chunks * CHUNK as u64, durable: chunks, touched, ended: false }
    }

    fn progress(&self) -> Progress {
        Progress { written: self.bytes.div_ceil(CHUNK as u64), durable: self.durable }
    }
}

/// Where a chunk is in a file of so many bytes of chunks.
fn chunk_at(index: u64) -> impl FnOnce(u64) -> Option<(u64, usize)> {
    move |size| {
        let offset = index.checked_mul(CHUNK as u64).filter(|o| *o < size)?;
        Some((offset, (size - offset).min(CHUNK as u64) as usize))
    }
}

/// Where the hashes of chunks are, behind them.
fn leaves_at(from: u64, most: usize) -> impl FnOnce(u64) -> Option<(u64, usize)> {
    move |size| {
        let left = size.div_ceil(CHUNK as u64).checked_sub(from).filter(|left| *left > 0)?;
        Some((size + from * 32, (left.min(most as u64) * 32) as usize))
    }
}

fn name(file: u64) -> String {
    format!("{file:016x}")
}

impl<D: Disk> ObjectStore for EmbeddedStore<D> {
    fn domain(&self) -> DomainId {
        self.domain
    }

    fn begin(&self, now: Wall, put: &Put) -> Result<Progress, Error> {
        let version = self.head(&put.object)?.map_or(0, |h| h.version);
        if version.checked_add(1) != Some(put.version) {
            return Err(refusal(Code::Conflict));
        }
        if version == 0 && self.records.objects()? >= self.quota.objects as u64 {
            return Err(refusal(Code::Quota));
        }
        self.mirror(now, put)
    }

    fn append(&self, now: Wall, put: &PutId, index: u64, chunk: &[u8]) -> Result<Progress, Error> {
        let open = self.put(put)?;
        let mut open = lock(&open);
        let Some(file) = open.file.clone().filter(|_| !open.ended) else {
            return Err(interrupted());
        };
        let written = open.leaves.len() as u64;
        if index < written {
            return Ok(open.progress());
        }
        if index > written || open.bytes != written * CHUNK as u64 {
            return Err(Error::new(Code::Malformed, "chunks come in order, and only the last one is short"));
        }
        let (leaf, length) = (tree::leaf(index, false, chunk).map_err(invalid)?, chunk.len() as u64);
        {
            let mut state = lock(&self.state);
            if state.total + length > self.quota.total {
                return Err(full("the domain"));
            }
            if state.used.get(&open.put.author).copied().unwrap_or_default() + length > self.quota.member {
                return Err(full("this member"));
            }
            state.use_bytes(open.put.author, length);
        }
        open.bytes += length;
        open.leaves.push(leaf);
        open.touched = now;
        if let Err(e) = self.write(now, &mut open, &*file, index, chunk) {
            // What was not synced may be lost: whoever begins it again hears from where.
            open.file = None;
            return Err(e);
        }
        Ok(open.progress())
    }

    fn commit(&self, now: Wall, signed: &[u8]) -> Result<Cursor, Error> {
        let header = Header::verify(&self.domain, signed).map_err(invalid)?;
        if let Some(cursor) = self.records.committed(&header, &objects::hash(signed))? {
            return Ok(cursor);
        }
        if header.is_tombstone() {
            return self.take(now, &header, signed, 0);
        }
        let open = self.put(&header.commitment)?;
        let mut open = lock(&open);
        if open.ended || open.file.is_none() {
            return Err(interrupted());
        }
        match self.seal(&mut open, &header).and_then(|()| self.take(now, &header, signed, open.number)) {
            Ok(cursor) => {
                self.end(&mut open, true);
                Ok(cursor)
            }
            Err(e) if e.code() == Code::Storage => {
                open.file = None;
                Err(e)
            }
            Err(e) => self.discard(&mut open).and(Err(e)),
        }
    }

    fn abandon(&self, author: &NodeId, put: &PutId) -> Result<(), Error> {
        let Ok(open) = self.put(put) else { return Ok(()) };
        let mut open = lock(&open);
        if open.put.author != *author {
            return Err(Error::new(Code::Forbidden, "a put of this name is another one's"));
        }
        if open.ended { Ok(()) } else { self.discard(&mut open) }
    }

    fn head(&self, object: &ObjectId) -> Result<Option<Head>, Error> {
        self.records.head(object)
    }

    fn history(&self, object: &ObjectId, up_to: u64, most: usize) -> Result<Vec<Vec<u8>>, Error> {
        self.records.history(object, up_to, most)
    }

    fn chunk(&self, object: &ObjectId, version: u64, index: u64) -> Result<Vec<u8>, Error> {
        self.read(|| self.records.file(object, version), chunk_at(index))
    }

    fn leaves(&self, object: &ObjectId, version: u64, from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error> {
        Ok(self.read(|| self.records.file(object, version), leaves_at(from, most))?.as_chunks().0.to_vec())
    }

    fn last(&self) -> Result<Cursor, Error> {
        self.records.last()
    }

    fn puts(&self) -> Vec<Underway> {
        lock(&self.state).puts.values().map(|t| Underway { put: t.put, durable: t.durable }).collect()
    }

    fn mirror(&self, now: Wall, put: &Put) -> Result<Progress, Error> {
        let mut state = lock(&self.state);
        let open = match state.puts.get(&put.id) {
            Some(tracked) => Arc::clone(&tracked.open),
            None => {
                if state.puts.values().filter(|t| t.put.author == put.author).count() >= self.quota.puts {
                    return Err(Error::new(Code::Quota, "this member has as many puts under way as it may").hint("End one, or wait"));
                }
                let record = PutRecord { chunks: 0, file: state.next_file, touched: now };
                state.next_file += 1;
                let open = Arc::new(Mutex::new(Open::new(*put, record)));
                state.puts.insert(put.id, Tracked { put: *put, durable: 0, open: Arc::clone(&open) });
                open
            }
        };
        drop(state);
        let mut open = lock(&open);
        if open.put != *put {
            return Err(Error::new(Code::Forbidden, "a put of this name is another one's"));
        }
        self.load(&mut open)?;
        open.touched = now;
        Ok(open.progress())
    }

    fn import(&self, now: Wall, chain: &[Vec<u8>]) -> Result<Cursor, Error> {
        let mut links: Vec<Link<'_>> = Vec::new();
        for signed in chain {
            let (header, hash) = (Header::verify(&self.domain, signed).map_err(invalid)?, objects::hash(signed));
            let follows = |l: &Link<'_>| {
                let (newer, older) = (&l.header.identity, &header.identity);
                newer.object == older.object && newer.version == older.version + 1 && l.header.previous == hash
            };
            if !links.last().is_none_or(follows) {
                return Err(Error::new(Code::Malformed, "these are not the versions of one object"));
            }
            links.push(Link { header, hash, signed, file: 0 });
        }
        let Some(newest) = links.first() else { return Err(Error::new(Code::Malformed, "no version was named")) };
        let bare = newest.header.is_tombstone() || self.records.fork(&newest.hash)?.is_some();
        let here = self.records.committed(&newest.header, &newest.hash)?;
        // An author may give two versions one commitment: a put is one version's.
        let own = |l: &Link<'_>| {
            let state = lock(&self.state);
            let tracked = state.puts.get(&l.header.commitment)?;
            (tracked.put == Put::of(&l.header)).then(|| Arc::clone(&tracked.open))
        };
        let puts: Vec<_> = links.iter().map(own).collect();
        // Always the newest first: two that take the same versions wait for each other, and not both for the other.
        let mut opened: Vec<_> =
            puts.iter().map(|p| p.as_ref().map(|p| lock(p)).filter(|open| !open.ended && open.file.is_some())).collect();
        if let Some(cursor) = here {
            opened.iter_mut().flatten().try_for_each(|open| self.discard(open))?;
            return Ok(cursor);
        }
        for (link, open) in links.iter_mut().zip(&mut opened) {
            if let Some(open) = open.as_mut().filter(|open| open.bytes == link.header.size) {
                match self.seal(open, &link.header) {
                    Ok(()) => link.file = open.number,
                    Err(e) if e.code() == Code::Storage => {
                        open.file = None;
                        return Err(e);
                    }
                    // Of no use to anybody.
                    Err(e) => return self.discard(open).and(Err(e)),
                }
            }
        }
        if links[0].file == 0 && !bare {
            return Err(interrupted());
        }
        match self.records.import(now, &links, &self.quota)? {
            Outcome::Taken { cursor, freed } => {
                for (link, open) in links.iter().zip(&mut opened) {
                    if let Some(open) = open.as_mut() {
                        // Its bytes are a version's now, or among those freed.
                        self.end(open, link.file > 0);
                        if link.file == 0 {
                            let _ = self.disk.remove(&name(open.number));
                        }
                    }
                }
                self.free(&freed);
                Ok(cursor)
            }
            Outcome::Refused(code) => Err(refusal(code)),
        }
    }

    fn conflicts(&self, object: Option<&ObjectId>) -> Result<Vec<Vec<u8>>, Error> {
        self.records.conflicts(object)
    }

    fn part(&self, put: &[u8; 32], index: u64) -> Result<Vec<u8>, Error> {
        let Ok(open) = self.put(put) else { return self.read(|| self.records.fork(put), chunk_at(index)) };
        let open = lock(&open);
        if open.ended || index >= open.durable {
            return Err(missing());
        }
        let mut chunk = vec![0; CHUNK];
        let file = self.disk.open(&name(open.number)).map_err(failed("a file cannot be opened"))?;
        file.read(index * CHUNK as u64, &mut chunk).map_err(failed("a chunk cannot be read"))?;
        Ok(chunk)
    }

    fn part_leaves(&self, put: &[u8; 32], from: u64, most: usize) -> Result<Vec<[u8; 32]>, Error> {
        Ok(self.read(|| self.records.fork(put), leaves_at(from, most))?.as_chunks().0.to_vec())
    }

    fn changes(&self, since: Cursor, bytes: usize) -> Result<Changes, Error> {
        self.records.changes(since, bytes)
    }

    fn used(&self, member: &NodeId) -> Used {
        let state = lock(&self.state);
        Used { total: state.total, member: state.used.get(member).copied().unwrap_or_default() }
    }

    fn collect(&self, now: Wall) -> Result<(), Error> {
        let all: Vec<_> = lock(&self.state).puts.values().map(|t| Arc::clone(&t.open)).collect();
        for open in all {
            let mut open = lock(&open);
            if !open.ended && open.touched.after(PUT_AGE) < now {
                self.discard(&mut open)?;
            }
        }
        self.free(&self.records.collect(now.before(TOMBSTONE_AGE), now.before(TOMBSTONE_AGE * 2))?);
        Ok(())
    }
}
