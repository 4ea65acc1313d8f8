//! What a store of objects needs of a disk, and no more: files that can be written anywhere in them and synced, in one directory.
//! The operating system gives one (`platform::native`), the simulator another that loses what was not synced (`sim::disk`).

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A directory of files. What was written, made or removed is certain to outlive a crash only once it was synced; until then any
/// part of it may.
pub trait Disk: Send + Sync + 'static {
    /// The file of this name; made, empty, if it is missing.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Takes a file's name away, if it is there. Who has it open goes on reading.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names, in no order.
    ///
    /// # Errors
    /// The disk's.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Syncs which names there are; not what the files hold.
    ///
    /// # Errors
    /// The disk's. What was not synced before may be lost or not.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Its length, bytes.
    ///
    /// # Errors
    /// The disk's.
    fn length(&self) -> io::Result<u64>;

    /// Fills all of `out`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] behind its end; the disk's.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`; the file grows if need be.
    ///
    /// # Errors
    /// The disk's.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros.
    ///
    /// # Errors
    /// The disk's.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Syncs what the file holds, and its length.
    ///
    /// # Errors
    /// The disk's. What was not synced before may be lost or not.
    fn sync(&self) -> io::Result<()>;
}
