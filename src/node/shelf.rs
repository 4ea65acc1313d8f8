//! Where a supplier keeps results for other suppliers: files in a folder of its own, which go with the process.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{AsyncRead, FutureExt as _};
use tempfile::TempPath;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::data::DataDir;
use crate::base::{Code, Error};
use crate::runtime::task::{Shelf, Spool};

/// Bytes of results kept at once.
const ROOM: u64 = 16 << 30;

/// A shelf in a folder that nothing else uses: what a process that was killed left there is removed.
///
/// # Errors
/// [`Code::Storage`].
pub fn open(folder: &DataDir) -> Result<Arc<Shelf>, Error> {
    let path = folder.path().to_path_buf();
    clear(&path).map_err(|e| Error::new(Code::Storage, format!("{} cannot be cleared", path.display())).caused_by(e))?;
    Ok(Shelf::new(ROOM, move || {
        let (file, path) = tempfile::NamedTempFile::new_in(&path)?.into_parts();
        Ok(Arc::new(OnDisk { file: Mutex::new(File::from_std(file)), path }))
    }))
}

fn clear(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// One result; the file goes with it.
struct OnDisk {
    file: Mutex<File>,
    path: TempPath,
}

impl Spool for OnDisk {
    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let mut file = self.file.lock().await;
            file.write_all(&bytes).await?;
            file.flush().await
        }
        .boxed()
    }

    fn read(&self) -> BoxFuture<'static, io::Result<Box<dyn AsyncRead + Send + Unpin>>> {
        let path = self.path.to_path_buf();
        async move { Ok(Box::new(File::open(path).await?.compat()) as Box<_>) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncReadExt as _;

    #[tokio::test]
    async fn what_is_kept_is_read_from_its_beginning_and_gone_with_its_place() {
        let scratch = tempfile::tempdir().unwrap();
        let data = DataDir::open(scratch.path()).unwrap();
        let folder = data.folder("kept").unwrap();
        std::fs::write(folder.path().join("left"), "by a process that was killed").unwrap();
        let _shelf = open(&folder).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let (file, path) = tempfile::NamedTempFile::new_in(folder.path()).unwrap().into_parts();
        let spool = OnDisk { file: Mutex::new(File::from_std(file)), path };
        spool.append(vec![1; 100_000]).await.unwrap();
        spool.append(vec![2; 100_000]).await.unwrap();
        for _ in 0..2 {
            let mut all = Vec::new();
            spool.read().await.unwrap().read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [[1; 100_000], [2; 100_000]].concat());
        }
        drop(spool);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
