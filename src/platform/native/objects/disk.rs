//! A directory of the operating system as a [`Disk`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Code, Error};
use crate::runtime::disk::{Disk, DiskFile};

/// Holds the lock; no object's file is named so.
const LOCK: &str = "lock";

/// A directory that no other process uses as one.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if it is missing, for its owner alone, and locks it.
    ///
    /// # Errors
    /// [`Code::Storage`] if it cannot be made or written, or another process has it.
    pub fn open(path: &Path) -> Result<Directory, Error> {
        let named = |what: &str| Error::new(Code::Storage, format!("{} {what}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| named("cannot be made").caused_by(e))?;
        let lock = create(&path.join(LOCK)).map_err(|e| named("cannot be written").caused_by(e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_path_buf(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(named("is in use by another process").hint("Stop that one, or name another directory with --data DIR"))
            }
            Err(fs::TryLockError::Error(e)) => Err(named("cannot be locked").caused_by(e)),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl Disk for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(create(&self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().filter(|name| name != LOCK).collect())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        // Its length included, where that changed: fdatasync(2).
        self.sync_data()
    }
}
