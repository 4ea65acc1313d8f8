//! The native store: one redb file, one table of named records.
//!
//! redb is copy-on-write with a two-phase commit of its root, so that a crash leaves the old or the new state, and it locks
//! its file, so that two processes never write one store. It blocks; each call runs on a thread for that.

use std::fs::OpenOptions;
use std::future::Future;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

use crate::base::{Code, Error};
use crate::runtime::store::{Bytes, Changes, Store};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// A store in a file of mode 0600. Clones are the same store.
#[derive(Clone)]
pub struct RedbStore(Arc<Database>);

impl RedbStore {
    /// Opens the file; makes it if it is missing.
    ///
    /// # Errors
    /// [`Code::Storage`] if it is in use by another process, open to others, damaged, or no store. It is not changed then.
    pub async fn open(path: &Path) -> Result<RedbStore, Error> {
        let path = path.to_path_buf();
        blocking(move || {
            let named = |what: &str| Error::new(Code::Storage, format!("{} {what}", path.display()));
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(|e| named("cannot be opened").caused_by(e))?;
            let mode = file.metadata().map_err(|e| named("cannot be opened").caused_by(e))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(named(&format!("can be read by others (mode {:03o})", mode & 0o777)).hint("Make it yours alone with chmod 600"));
            }
            match Builder::new().create_file(file) {
                Ok(database) => Ok(RedbStore(Arc::new(database))),
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    Err(named("is in use by another process").hint("Stop that one, or name another directory with --data DIR"))
                }
                Err(e) => Err(named("is damaged, or no store of this program")
                    .caused_by(e)
                    .hint("Nothing was changed. Restore it from a copy; or move it away, and join again")),
            }
        })
        .await
    }
}

impl Store for RedbStore {
    type Answer<T: Send + 'static> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

    fn get(&self, name: &str) -> Self::Answer<Option<Bytes>> {
        let (database, name) = (self.0.clone(), name.to_owned());
        Box::pin(blocking(move || {
            let read = || -> Result<Option<Bytes>, redb::Error> {
                let transaction = database.begin_read()?;
                let table = match transaction.open_table(RECORDS) {
                    Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                    table => table?,
                };
                Ok(table.get(name.as_str())?.map(|bytes| Zeroizing::new(bytes.value().to_vec())))
            };
            read().map_err(|e| failed("read", e))
        }))
    }

    fn list(&self) -> Self::Answer<Vec<String>> {
        let database = self.0.clone();
        Box::pin(blocking(move || {
            let read = || -> Result<Vec<String>, redb::Error> {
                let transaction = database.begin_read()?;
                let table = match transaction.open_table(RECORDS) {
                    Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                    table => table?,
                };
                table.iter()?.map(|entry| Ok(entry?.0.value().to_owned())).collect()
            };
            read().map_err(|e| failed("read", e))
        }))
    }

    fn write(&self, changes: Changes) -> Self::Answer<()> {
        let database = self.0.clone();
        Box::pin(blocking(move || {
            let write = || -> Result<(), redb::Error> {
                let transaction = database.begin_write()?;
                {
                    let mut table = transaction.open_table(RECORDS)?;
                    for (name, bytes) in &changes {
                        match bytes {
                            Some(bytes) => drop(table.insert(name.as_str(), bytes.as_slice())?),
                            None => drop(table.remove(name.as_str())?),
                        }
                    }
                }
                Ok(transaction.commit()?)
            };
            write().map_err(|e| failed("written", e))
        }))
    }
}

fn failed(what: &str, error: redb::Error) -> Error {
    Error::new(Code::Storage, format!("the store cannot be {what}")).caused_by(error)
}

/// Runs on a thread that may block. A panic in there, as redb's of a file damaged in a way it does not expect, is an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::new(Code::Storage, "the store is damaged").caused_by(e)))
}
