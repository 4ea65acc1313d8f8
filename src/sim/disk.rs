//! A disk that loses power: of what was not synced, each sector, length and name may be there afterwards or not.
//!
//! As POSIX promises it and no better: a new file's name is certain once its directory was synced, its content once it was itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::Rng;
use crate::runtime::disk::{Disk, DiskFile};

/// What is written in one piece or not at all, bytes.
const SECTOR: usize = 512;

/// The disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    /// The names that are certain, and what was done to them since.
    synced: BTreeMap<String, u64>,
    named: Vec<(String, Option<u64>)>,
    next: u64,
    /// So many more changes until the power fails; then nothing works until [`SimDisk::restart`].
    left: Option<u64>,
    /// Changes so far.
    changes: u64,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

#[derive(Debug)]
struct SimFile(SimDisk, u64);

fn apply(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
}

impl Inner {
    fn alive(&self) -> io::Result<()> {
        if self.left == Some(0) { Err(io::Error::other("the power failed")) } else { Ok(()) }
    }

    /// Counts a change. The last one is begun, and interrupted.
    fn change(&mut self) -> io::Result<bool> {
        self.alive()?;
        self.changes += 1;
        self.left = self.left.map(|left| left - 1);
        Ok(self.left != Some(0))
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the power fail in the midst of the change after so many more.
    pub fn fail_after(&self, changes: u64) {
        self.inner().left = Some(changes + 1);
    }

    /// How many changes there were: writes, lengths, names, syncs.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.inner().changes
    }

    /// The power comes back. What was synced is there; of everything else, as chance has it, all, nothing, or some.
    pub fn restart(&self, rng: &mut Rng) {
        let mut inner = self.inner();
        let odds = rng.below(3);
        let mut kept = || match odds {
            0 => false,
            1 => true,
            _ => rng.below(2) == 0,
        };
        for content in inner.files.values_mut() {
            let mut bytes = std::mem::take(&mut content.synced);
            for change in content.since.drain(..) {
                match change {
                    Change::Length(length) if kept() => bytes.resize(length, 0),
                    Change::Length(_) => {}
                    Change::Write(offset, part) => {
                        let mut at = 0;
                        while at < part.len() {
                            let length = (SECTOR - (offset + at) % SECTOR).min(part.len() - at);
                            if kept() {
                                apply(&mut bytes, offset + at, &part[at..at + length]);
                            }
                            at += length;
                        }
                    }
                }
            }
            (content.now, content.synced) = (bytes.clone(), bytes);
        }
        let named = std::mem::take(&mut inner.named);
        for (name, file) in named.into_iter().filter(|_| kept()) {
            match file {
                Some(file) => inner.synced.insert(name, file),
                None => inner.synced.remove(&name),
            };
        }
        inner.names = inner.synced.clone();
        let names = inner.names.values().copied().collect::<std::collections::BTreeSet<_>>();
        inner.files.retain(|file, _| names.contains(file));
        inner.left = None;
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.alive()?;
        if let Some(file) = inner.names.get(name) {
            return Ok(Arc::new(SimFile(self.clone(), *file)));
        }
        inner.change()?;
        inner.next += 1;
        let file = inner.next;
        inner.files.insert(file, Content::default());
        inner.names.insert(name.to_owned(), file);
        inner.named.push((name.to_owned(), Some(file)));
        Ok(Arc::new(SimFile(self.clone(), file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.change()?;
        if inner.names.remove(name).is_some() {
            inner.named.push((name.to_owned(), None));
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.inner();
        inner.alive()?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.change()? {
            return inner.alive();
        }
        inner.named.clear();
        inner.synced = inner.names.clone();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        let inner = self.0.inner();
        inner.alive()?;
        Ok(inner.files[&self.1].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.inner();
        inner.alive()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = inner.files[&self.1].now.get(offset..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.inner();
        let whole = inner.change()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if let Some(content) = inner.files.get_mut(&self.1) {
            apply(&mut content.now, offset, bytes);
            content.since.push(Change::Write(offset, bytes.to_vec()));
        }
        if whole { Ok(()) } else { inner.alive() }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut inner = self.0.inner();
        let whole = inner.change()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if let Some(content) = inner.files.get_mut(&self.1) {
            content.now.resize(length, 0);
            content.since.push(Change::Length(length));
        }
        if whole { Ok(()) } else { inner.alive() }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.0.inner();
        if !inner.change()? {
            return inner.alive();
        }
        if let Some(Content { synced, since, .. }) = inner.files.get_mut(&self.1) {
            for change in since.drain(..) {
                match change {
                    Change::Length(length) => synced.resize(length, 0),
                    Change::Write(offset, part) => apply(synced, offset, &part),
                }
            }
        }
        Ok(())
    }
}
