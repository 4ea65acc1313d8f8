//! The records of the embedded store: six tables in redb.
//!
//! ```text
//! puts      put id 32                 author 32 | object 16 | version u64 | chunks u64 | file u64 | touched u64
//! versions  object 16 | version u64   cursor u64 | file u64 | size u64 | taken u64 | author 32 | signed header; file 0: no chunks
//! feed      cursor u64                object 16 | version u64, the newest version of each object
//! forks     header's hash 32          as versions: those that did not prevail; cursor 1 once nobody is to hear of it any more
//! imported  object 16                 version u64, the newest that came from another store
//! meta      name                      number
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, Table,
    TableDefinition,
};

use crate::base::{Code, DomainId, Error, NodeId, Reject, Rng, Wall};
use crate::proto::objects::{Head, Header, follows, hash, prevails};
use crate::runtime::disk::DiskFile;
use crate::runtime::objects::{Changes, Cursor, ObjectId, Put, PutId, Quota};
use crate::wire::bytes::{Reader, Writer};

type Version = [u8; 24];

const PUTS: TableDefinition<'_, &PutId, &[u8]> = TableDefinition::new("puts");
const VERSIONS: TableDefinition<'_, &Version, &[u8]> = TableDefinition::new("versions");
const FEED: TableDefinition<'_, u64, &Version> = TableDefinition::new("feed");
const FORKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("forks");
const IMPORTED: TableDefinition<'_, &ObjectId, u64> = TableDefinition::new("imported");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 1;

/// Versions in conflict that are kept: of more the oldest go.
const MOST_FORKS: usize = 4_096;

/// A file as redb wants one.
#[derive(Debug)]
pub(super) struct Backend(pub Arc<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
}

pub(super) struct Records {
    database: Database,
    epoch: u64,
}

/// What is kept of a put.
#[derive(Clone, Copy)]
pub(super) struct PutRecord {
    pub chunks: u64,
    pub file: u64,
    pub touched: Wall,
}

/// The file of a version.
#[derive(Clone, Copy)]
pub(super) struct File {
    pub number: u64,
    pub author: NodeId,
    pub size: u64,
}

pub(super) enum Outcome {
    Taken {
        cursor: Cursor,
        /// These are needed no more.
        freed: Vec<File>,
    },
    Refused(Code),
}

/// A version of another store.
pub(super) struct Link<'a> {
    pub header: Header,
    pub hash: [u8; 32],
    pub signed: &'a [u8],
    /// Its chunks here; 0 for none.
    pub file: u64,
}

struct Row<'a> {
    cursor: u64,
    file: u64,
    size: u64,
    taken: Wall,
    author: NodeId,
    signed: &'a [u8],
}

fn damaged(e: impl Into<redb::Error>) -> Error {
    Error::new(Code::Storage, "the records of the stored objects cannot be used").caused_by(e.into())
}

fn garbled(_: Reject) -> Error {
    Error::new(Code::Storage, "the records of the stored objects are garbled").hint("Restore the store from a copy")
}

fn version(object: &ObjectId, version: u64) -> Version {
    let mut key = [0; 24];
    key[..16].copy_from_slice(object);
    key[16..].copy_from_slice(&version.to_be_bytes());
    key
}

fn object_of(key: &Version) -> ObjectId {
    let mut object = [0; 16];
    object.copy_from_slice(&key[..16]);
    object
}

impl<'a> Row<'a> {
    fn read(bytes: &'a [u8]) -> Result<Row<'a>, Error> {
        let row = |r: &mut Reader<'a>| {
            let (cursor, file, size, taken) = (r.u64()?, r.u64()?, r.u64()?, Wall(r.u64()?));
            Ok(Row { cursor, file, size, taken, author: NodeId::from_public_key(r.array()?), signed: r.rest() })
        };
        row(&mut Reader::new(bytes)).map_err(garbled)
    }

    fn write(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.cursor).u64(self.file).u64(self.size).u64(self.taken.0).raw(self.author.as_bytes()).raw(self.signed);
        w.finish()
    }

    fn file(&self) -> Option<File> {
        (self.file > 0).then_some(File { number: self.file, author: self.author, size: self.size })
    }

    fn head(&self, key: &Version) -> Head {
        Head { version: number_of(key), hash: hash(self.signed), deleted: self.size == 0 }
    }
}

fn number_of(key: &Version) -> u64 {
    let (_, version) = key.split_last_chunk().expect("a key has 24 bytes"); // invariant: its type
    u64::from_be_bytes(*version)
}

fn newest(versions: &impl ReadableTable<&'static Version, &'static [u8]>, object: &ObjectId) -> Result<Option<Head>, Error> {
    match versions.range::<&Version>(&version(object, 0)..=&version(object, u64::MAX)).map_err(damaged)?.next_back() {
        Some(entry) => {
            let (key, row) = entry.map_err(damaged)?;
            Ok(Some(Row::read(row.value())?.head(key.value())))
        }
        None => Ok(None),
    }
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Error> {
    Ok(meta.get(name).map_err(damaged)?.map_or(0, |n| n.value()))
}

impl Records {
    pub fn open(database: Database, domain: &DomainId, rng: &mut Rng) -> Result<Records, Error> {
        let transaction = database.begin_write().map_err(damaged)?;
        let epoch = {
            let mut meta = transaction.open_table(META).map_err(damaged)?;
            transaction.open_table(PUTS).map_err(damaged)?;
            transaction.open_table(VERSIONS).map_err(damaged)?;
            transaction.open_table(FEED).map_err(damaged)?;
            transaction.open_table(FORKS).map_err(damaged)?;
            transaction.open_table(IMPORTED).map_err(damaged)?;
            let name = domain.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            if number(&meta, "format")? == 0 {
                meta.insert("format", FORMAT).map_err(damaged)?;
                meta.insert("domain", name).map_err(damaged)?;
                meta.insert("epoch", u64::from_be_bytes(rng.bytes())).map_err(damaged)?;
            }
            if number(&meta, "format")? != FORMAT {
                return Err(Error::new(Code::Version, "a later version of this program made this store").hint("Use that version"));
            }
            if number(&meta, "domain")? != name {
                return Err(Error::new(Code::Storage, "this store is of another domain").hint("Name another directory with --data DIR"));
            }
            number(&meta, "epoch")?
        };
        transaction.commit().map_err(damaged)?;
        Ok(Records { database, epoch })
    }

    fn read(&self) -> Result<ReadTransaction, Error> {
        self.database.begin_read().map_err(damaged)
    }

    fn versions(&self) -> Result<ReadOnlyTable<&'static Version, &'static [u8]>, Error> {
        self.read()?.open_table(VERSIONS).map_err(damaged)
    }

    pub fn puts(&self) -> Result<Vec<(Put, PutRecord)>, Error> {
        let table = self.read()?.open_table(PUTS).map_err(damaged)?;
        let mut puts = Vec::new();
        for entry in table.iter().map_err(damaged)? {
            let (id, row) = entry.map_err(damaged)?;
            let read = |r: &mut Reader<'_>| {
                let (author, object, version) = (NodeId::from_public_key(r.array()?), r.array()?, r.u64()?);
                let record = PutRecord { chunks: r.u64()?, file: r.u64()?, touched: Wall(r.u64()?) };
                Ok((Put { id: *id.value(), author, object, version }, record))
            };
            puts.push(read(&mut Reader::new(row.value())).map_err(garbled)?);
        }
        Ok(puts)
    }

    pub fn note_put(&self, put: &Put, record: PutRecord) -> Result<(), Error> {
        let mut w = Writer::new();
        w.raw(put.author.as_bytes()).raw(&put.object).u64(put.version).u64(record.chunks).u64(record.file).u64(record.touched.0);
        let transaction = self.database.begin_write().map_err(damaged)?;
        transaction.open_table(PUTS).map_err(damaged)?.insert(&put.id, w.as_slice()).map_err(damaged)?;
        transaction.commit().map_err(damaged)
    }

    pub fn forget_put(&self, id: &PutId) -> Result<(), Error> {
        let transaction = self.database.begin_write().map_err(damaged)?;
        transaction.open_table(PUTS).map_err(damaged)?.remove(id).map_err(damaged)?;
        transaction.commit().map_err(damaged)
    }

    /// Every file that a version has.
    pub fn files(&self) -> Result<Vec<File>, Error> {
        let mut files = Vec::new();
        for entry in self.versions()?.iter().map_err(damaged)? {
            files.extend(Row::read(entry.map_err(damaged)?.1.value())?.file());
        }
        for entry in self.forks()?.iter().map_err(damaged)? {
            files.extend(Row::read(entry.map_err(damaged)?.1.value())?.file());
        }
        Ok(files)
    }

    fn forks(&self) -> Result<ReadOnlyTable<&'static [u8; 32], &'static [u8]>, Error> {
        self.read()?.open_table(FORKS).map_err(damaged)
    }

    /// The headers of versions in conflict.
    pub fn conflicts(&self, object: Option<&ObjectId>) -> Result<Vec<Vec<u8>>, Error> {
        let mut all = Vec::new();
        for entry in self.forks()?.iter().map_err(damaged)? {
            let (_, row) = entry.map_err(damaged)?;
            let Row { signed, cursor, .. } = Row::read(row.value())?;
            // Format, author and then the object: where a header has it.
            if cursor == 0 && object.is_none_or(|o| signed.get(33..49) == Some(&o[..])) {
                all.push(signed.to_vec());
            }
        }
        Ok(all)
    }

    /// The file of a version in conflict.
    pub fn fork(&self, header: &[u8; 32]) -> Result<Option<File>, Error> {
        match self.forks()?.get(header).map_err(damaged)? {
            Some(row) => Ok(Row::read(row.value())?.file()),
            None => Ok(None),
        }
    }

    /// Where the last version stands.
    pub fn last(&self) -> Result<Cursor, Error> {
        let meta = self.read()?.open_table(META).map_err(damaged)?;
        Ok(Cursor { epoch: self.epoch, at: number(&meta, "cursor")?, floor: 0 })
    }

    pub fn objects(&self) -> Result<u64, Error> {
        self.read()?.open_table(FEED).map_err(damaged)?.len().map_err(damaged)
    }

    pub fn head(&self, object: &ObjectId) -> Result<Option<Head>, Error> {
        newest(&self.versions()?, object)
    }

    pub fn file(&self, object: &ObjectId, number: u64) -> Result<Option<File>, Error> {
        match self.versions()?.get(&version(object, number)).map_err(damaged)? {
            Some(row) => Ok(Row::read(row.value())?.file()),
            None => Ok(None),
        }
    }

    pub fn history(&self, object: &ObjectId, up_to: u64, most: usize) -> Result<Vec<Vec<u8>>, Error> {
        let versions = self.versions()?;
        let newest_first = versions.range::<&Version>(&version(object, 0)..=&version(object, up_to)).map_err(damaged)?.rev();
        newest_first.take(most).map(|entry| Ok(Row::read(entry.map_err(damaged)?.1.value())?.signed.to_vec())).collect()
    }

    /// Where a version stands in the order, if it is this one.
    pub fn committed(&self, header: &Header, name: &[u8; 32]) -> Result<Option<Cursor>, Error> {
        let key = version(&header.identity.object, header.identity.version);
        match self.versions()?.get(&key).map_err(damaged)? {
            Some(row) => {
                let row = Row::read(row.value())?;
                Ok((hash(row.signed) == *name).then_some(Cursor { epoch: self.epoch, at: row.cursor, floor: 0 }))
            }
            None => Ok(None),
        }
    }

    pub fn commit(&self, now: Wall, header: &Header, signed: &[u8], file: u64, quota: &Quota) -> Result<Outcome, Error> {
        let object = header.identity.object;
        let transaction = self.database.begin_write().map_err(damaged)?;
        let outcome = {
            let mut versions = transaction.open_table(VERSIONS).map_err(damaged)?;
            let mut feed = transaction.open_table(FEED).map_err(damaged)?;
            let mut meta = transaction.open_table(META).map_err(damaged)?;
            let head = newest(&versions, &object)?;
            if let Err(code) = follows(head.as_ref(), header) {
                return Ok(Outcome::Refused(code));
            }
            if head.is_none() && feed.len().map_err(damaged)? >= quota.objects as u64 {
                return Ok(Outcome::Refused(Code::Quota));
            }
            let cursor = number(&meta, "cursor")? + 1;
            meta.insert("cursor", cursor).map_err(damaged)?;
            if let Some(head) = &head {
                let before = versions.get(&version(&object, head.version)).map_err(damaged)?;
                let before = before.map(|row| Ok::<_, Error>(Row::read(row.value())?.cursor)).transpose()?;
                feed.remove(before.unwrap_or_default()).map_err(damaged)?;
            }
            let key = version(&object, header.identity.version);
            feed.insert(cursor, &key).map_err(damaged)?;
            let row = Row { cursor, file, size: header.size, taken: now, author: header.identity.author, signed };
            versions.insert(&key, row.write().as_slice()).map_err(damaged)?;
            let freed = trim(&mut versions, header, quota)?;
            let puts = &mut transaction.open_table(PUTS).map_err(damaged)?;
            puts.remove(&header.commitment).map_err(damaged)?;
            Outcome::Taken { cursor: Cursor { epoch: self.epoch, at: cursor, floor: 0 }, freed }
        };
        transaction.commit().map_err(damaged)?;
        Ok(outcome)
    }

    /// Takes another store's versions, the newest first. Of those that did not come to be there, `freed` has the files.
    pub fn import(&self, now: Wall, chain: &[Link<'_>], quota: &Quota) -> Result<Outcome, Error> {
        let Some(newest_link) = chain.first() else { return Ok(Outcome::Refused(Code::Malformed)) };
        let Link { header, .. } = newest_link;
        let object = header.identity.object;
        let own = |file: u64, header: &Header| File { number: file, author: header.identity.author, size: header.size };
        let mut freed: Vec<File> = chain.iter().filter(|l| l.file > 0).map(|l| own(l.file, &l.header)).collect();
        let transaction = self.database.begin_write().map_err(damaged)?;
        let at = {
            let mut versions = transaction.open_table(VERSIONS).map_err(damaged)?;
            let mut feed = transaction.open_table(FEED).map_err(damaged)?;
            let mut forks = transaction.open_table(FORKS).map_err(damaged)?;
            let mut meta = transaction.open_table(META).map_err(damaged)?;
            let mut puts = transaction.open_table(PUTS).map_err(damaged)?;
            let mut imported = transaction.open_table(IMPORTED).map_err(damaged)?;
            for link in chain {
                puts.remove(&link.header.commitment).map_err(damaged)?;
            }
            let mut here = BTreeMap::new();
            for entry in versions.range::<&Version>(&version(&object, 0)..=&version(&object, u64::MAX)).map_err(damaged)? {
                let (key, row) = entry.map_err(damaged)?;
                let row = Row::read(row.value())?;
                here.insert(number_of(key.value()), (hash(row.signed), row.cursor, row.file(), row.taken, row.signed.to_vec()));
            }
            let is_here = |l: &&Link<'_>| here.get(&l.header.identity.version).is_some_and(|(hash, ..)| *hash == l.hash);
            let common = chain.iter().find(is_here).map_or(0, |l| l.header.identity.version);
            let head = here.last_key_value();
            // Older than anything that is known here: the other store was away for long, and finds out itself what that was.
            let stale = common == 0 && here.first_key_value().is_some_and(|(oldest, _)| header.identity.version < *oldest);
            let known = stale || forks.get(&newest_link.hash).map_err(damaged)?.is_some();
            let prevailing =
                head.is_none_or(|(n, (hash, ..))| *n == common || prevails((header.identity.version, &newest_link.hash), (*n, hash)));
            if is_here(&newest_link) {
                head.map_or(0, |(_, (_, cursor, ..))| *cursor)
            } else if !prevailing {
                if !known {
                    freed.retain(|f| f.number != newest_link.file);
                    let row = Row {
                        cursor: 0,
                        file: newest_link.file,
                        size: header.size,
                        taken: now,
                        author: header.identity.author,
                        signed: newest_link.signed,
                    };
                    forks.insert(&newest_link.hash, row.write().as_slice()).map_err(damaged)?;
                }
                head.map_or(0, |(_, (_, cursor, ..))| *cursor)
            } else {
                if head.is_none() && feed.len().map_err(damaged)? >= quota.objects as u64 {
                    return Ok(Outcome::Refused(Code::Quota));
                }
                let at = number(&meta, "cursor")? + 1;
                meta.insert("cursor", at).map_err(damaged)?;
                if let Some((n, (name, cursor, file, _, signed))) = head {
                    feed.remove(*cursor).map_err(damaged)?;
                    // Where the other store has forgotten what followed this one, it was another's if it came from there.
                    let gap = chain.last().is_some_and(|oldest| oldest.header.identity.version > *n);
                    let others = gap && imported.get(&object).map_err(damaged)?.is_some_and(|newest| newest.value() >= *n);
                    if others {
                        freed.extend(file);
                    } else if *n != common {
                        let beaten = Header::verify(&header.identity.domain, signed).map_err(garbled)?;
                        let (author, size) = (beaten.identity.author, beaten.size);
                        let row = Row { cursor: 0, file: file.map_or(0, |f| f.number), size, taken: now, author, signed };
                        forks.insert(name, row.write().as_slice()).map_err(damaged)?;
                    }
                    for (gone, (_, _, file, ..)) in here.range(common + 1..) {
                        freed.extend(file.filter(|_| gone != n));
                        versions.remove(&version(&object, *gone)).map_err(damaged)?;
                    }
                }
                for link in chain.iter().take_while(|l| l.header.identity.version > common) {
                    let Link { header, signed, .. } = link;
                    // What was in conflict until now has its chunks here already.
                    let kept = forks.remove(&link.hash).map_err(damaged)?;
                    let kept = kept.map(|row| Ok::<_, Error>(Row::read(row.value())?.file)).transpose()?.unwrap_or_default();
                    let file = if link.file > 0 { link.file } else { kept };
                    freed.retain(|f| f.number != file);
                    if kept > 0 && kept != file {
                        freed.push(own(kept, header));
                    }
                    let row = Row { cursor: at, file, size: header.size, taken: now, author: header.identity.author, signed };
                    versions.insert(&version(&object, header.identity.version), row.write().as_slice()).map_err(damaged)?;
                }
                feed.insert(at, &version(&object, header.identity.version)).map_err(damaged)?;
                imported.insert(&object, header.identity.version).map_err(damaged)?;
                freed.extend(trim(&mut versions, header, quota)?);
                at
            }
        };
        {
            let mut forks = transaction.open_table(FORKS).map_err(damaged)?;
            freed.extend(thin(&mut forks, Wall(0), Wall(0))?);
        }
        transaction.commit().map_err(damaged)?;
        Ok(Outcome::Taken { cursor: Cursor { epoch: self.epoch, at, floor: 0 }, freed })
    }

    pub fn changes(&self, since: Cursor, bytes: usize) -> Result<Changes, Error> {
        let transaction = self.read()?;
        let meta = transaction.open_table(META).map_err(damaged)?;
        let (last, floor) = (number(&meta, "cursor")?, number(&meta, "floor")?);
        let anew = since.epoch != self.epoch || since.at.max(since.floor) < floor || since.at > last;
        let (feed, versions) = (transaction.open_table(FEED).map_err(damaged)?, transaction.open_table(VERSIONS).map_err(damaged)?);
        let mut next = if anew { Cursor { epoch: self.epoch, at: 0, floor } } else { since };
        let (mut headers, mut taken) = (Vec::new(), 0);
        for entry in feed.range(next.at + 1..).map_err(damaged)? {
            let (cursor, key) = entry.map_err(damaged)?;
            if taken >= bytes {
                return Ok(Changes { headers, next, more: true, anew });
            }
            if let Some(row) = versions.get(key.value()).map_err(damaged)? {
                let signed = Row::read(row.value())?.signed.to_vec();
                taken += signed.len();
                headers.push(signed);
            }
            next.at = cursor.value();
        }
        // Not the last one listed: what came after it may be gone, and nothing more is to be told of it.
        next.at = last;
        Ok(Changes { headers, next, more: false, anew })
    }

    /// Forgets objects that were deleted before, and versions that came to be in conflict before: their files.
    pub fn collect(&self, before: Wall, long_before: Wall) -> Result<Vec<File>, Error> {
        let transaction = self.database.begin_write().map_err(damaged)?;
        let freed = {
            let mut versions = transaction.open_table(VERSIONS).map_err(damaged)?;
            let mut feed = transaction.open_table(FEED).map_err(damaged)?;
            let mut old = Vec::new();
            for entry in feed.iter().map_err(damaged)? {
                let (cursor, key) = entry.map_err(damaged)?;
                if let Some(row) = versions.get(key.value()).map_err(damaged)? {
                    let row = Row::read(row.value())?;
                    if row.size == 0 && row.taken < before {
                        old.push((cursor.value(), object_of(key.value())));
                    }
                }
            }
            let mut meta = transaction.open_table(META).map_err(damaged)?;
            let mut imported = transaction.open_table(IMPORTED).map_err(damaged)?;
            for (cursor, object) in old {
                imported.remove(&object).map_err(damaged)?;
                feed.remove(cursor).map_err(damaged)?;
                versions.retain_in::<&Version, _>(&version(&object, 0)..=&version(&object, u64::MAX), |_, _| false).map_err(damaged)?;
                if cursor > number(&meta, "floor")? {
                    meta.insert("floor", cursor).map_err(damaged)?;
                }
            }
            thin(&mut transaction.open_table(FORKS).map_err(damaged)?, before, long_before)?
        };
        transaction.commit().map_err(damaged)?;
        Ok(freed)
    }
}

/// Frees what versions hold that came to be in conflict `before` some time, and forgets those of `long_before` and the oldest of too many: files that
/// are needed no more. In between it is known that they were here: other managers may have them for longer.
fn thin(forks: &mut Table<'_, &'static [u8; 32], &'static [u8]>, before: Wall, long_before: Wall) -> Result<Vec<File>, Error> {
    let mut all = Vec::new();
    for entry in forks.iter().map_err(damaged)? {
        let (name, row) = entry.map_err(damaged)?;
        let row = Row::read(row.value())?;
        all.push((row.taken, *name.value(), row.file(), Row { cursor: 1, file: 0, ..row }.write(), row.cursor));
    }
    all.sort_unstable_by_key(|(taken, name, ..)| (std::cmp::Reverse(*taken), *name));
    let mut freed = Vec::new();
    for (place, (taken, name, file, without, cursor)) in all.into_iter().enumerate() {
        if taken < long_before || place >= MOST_FORKS {
            forks.remove(&name).map_err(damaged)?;
            freed.extend(file);
        } else if taken < before && cursor == 0 {
            forks.insert(&name, without.as_slice()).map_err(damaged)?;
            freed.extend(file);
        }
    }
    Ok(freed)
}

/// Takes the chunks from versions that are too old, or deleted, and forgets the oldest.
fn trim(versions: &mut Table<'_, &'static Version, &'static [u8]>, header: &Header, quota: &Quota) -> Result<Vec<File>, Error> {
    let (object, newest) = (&header.identity.object, header.identity.version);
    let without = if header.is_tombstone() { newest } else { newest.saturating_sub(quota.versions.max(1) as u64) };
    let mut freed = Vec::new();
    let mut rows = Vec::new();
    for entry in versions.range::<&Version>(&version(object, 0)..=&version(object, without)).map_err(damaged)?.rev() {
        let (key, row) = entry.map_err(damaged)?;
        let mut row = Row::read(row.value())?;
        if let Some(file) = row.file() {
            freed.push(file);
            row.file = 0;
            rows.push((*key.value(), row.write()));
        }
    }
    for (key, row) in rows {
        versions.insert(&key, row.as_slice()).map_err(damaged)?;
    }
    let forgotten = newest.saturating_sub(quota.history.max(1) as u64);
    versions.retain_in::<&Version, _>(&version(object, 0)..=&version(object, forgotten), |_, _| false).map_err(damaged)?;
    Ok(freed)
}
