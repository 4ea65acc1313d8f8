//! The data directory: key files of mode 0600, created exclusively, and the domain a machine owns.
//!
//! ```text
//! relay/node.key      relay/webrtc.pem      the relay's identity, and its certificate for browsers
//! manager/node.key    manager/webrtc.pem    the manager's
//! participant/node.key                      `peerage join`'s
//! domain/domain.key                         the root key of the domain made here
//! domain/statements/                        signed membership statements, one file each, named by their hash
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::base::{Code, Error, limit};
use crate::crypto::sign::SigningKey;
use crate::platform::native;

/// The most that is read from any file here, bytes.
const FILE: u64 = 64 * 1024 * 1024;

/// A directory of ours, known to be writable.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

fn storage(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(Code::Storage, format!("{} {what}", path.display())).caused_by(error)
}

impl DataDir {
    /// `$XDG_DATA_HOME/peerage`, or `~/.local/share/peerage`.
    ///
    /// # Errors
    /// [`Code::Storage`] if the environment names no home.
    pub fn default_path() -> Result<PathBuf, Error> {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|h| h.join(".local/share")));
        base.map(|b| b.join("peerage"))
            .ok_or_else(|| Error::new(Code::Storage, "no home directory is known").hint("Name one with --data DIR"))
    }

    /// Makes the directory if it is missing (for its owner alone) and makes sure that files can be written in it.
    ///
    /// # Errors
    /// [`Code::Storage`] if it cannot be made or written.
    pub fn open(path: &Path) -> Result<DataDir, Error> {
        let hint = "Choose another with --data DIR";
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| storage(path, "cannot be made", e).hint(hint))?;
        let probe = path.join(format!(".writable-{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|e| storage(path, "cannot be written", e).hint(hint))?;
        Ok(DataDir(path.to_path_buf()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A directory inside, made if missing.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn folder(&self, name: &str) -> Result<DataDir, Error> {
        DataDir::open(&self.0.join(name))
    }

    /// The signing key in this file; made on first use.
    ///
    /// # Errors
    /// [`Code::Storage`] if the file is no key, or open to others.
    pub fn key(&self, name: &str) -> Result<SigningKey, Error> {
        if let Some(key) = self.existing_key(name)? {
            return Ok(key);
        }
        let key = SigningKey::generate(&mut native::entropy()?);
        self.create_key(name, &key)?;
        Ok(key)
    }

    /// The signing key in this file, if there is one.
    ///
    /// # Errors
    /// As [`DataDir::key`].
    pub fn existing_key(&self, name: &str) -> Result<Option<SigningKey>, Error> {
        let path = self.0.join(name);
        let Some(text) = self.read_secret(name)? else { return Ok(None) };
        let seed = std::str::from_utf8(&text).ok().and_then(|t| URL_SAFE_NO_PAD.decode(t.trim_end()).ok().map(Zeroizing::new));
        match seed.as_deref().map(|s| <[u8; 32]>::try_from(s.as_slice())) {
            Some(Ok(seed)) => Ok(Some(SigningKey::from_seed(&Zeroizing::new(seed)))),
            _ => Err(Error::new(Code::Storage, format!("{} is no key file", path.display()))
                .hint("Restore it from a copy; or move it away, and a new identity is made")),
        }
    }

    /// Writes a key to a file that must not exist yet.
    ///
    /// # Errors
    /// [`Code::Storage`] if it does, or cannot be written.
    pub fn create_key(&self, name: &str, key: &SigningKey) -> Result<(), Error> {
        let mut text = Zeroizing::new(URL_SAFE_NO_PAD.encode(key.seed().as_slice()));
        text.push('\n');
        self.create_secret(name, text.as_bytes())
    }

    /// The WebRTC certificate in this directory; made on first use.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::Unsupported`].
    pub fn certificate(&self) -> Result<String, Error> {
        const NAME: &str = "webrtc.pem";
        if let Some(pem) = self.read_secret(NAME)? {
            return String::from_utf8(pem.to_vec())
                .map_err(|_| Error::new(Code::Storage, format!("{} is no certificate", self.0.join(NAME).display())));
        }
        let pem = Zeroizing::new(native::make_certificate()?);
        self.create_secret(NAME, pem.as_bytes())?;
        Ok(pem.to_string())
    }

    /// A secret's bytes, if the file exists. Refuses files that others can read.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let path = self.0.join(name);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| storage(&path, "cannot be read", e))?,
        };
        let mode = file.metadata().map_err(|e| storage(&path, "cannot be read", e))?.permissions().mode();
        if mode & 0o077 != 0 {
            let problem = format!("{} can be read by others (mode {:03o})", path.display(), mode & 0o777);
            return Err(Error::new(Code::Storage, problem).hint("Make it yours alone with chmod 600"));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(FILE).read_to_end(&mut bytes).map_err(|e| storage(&path, "cannot be read", e))?;
        Ok(Some(bytes))
    }

    /// Writes a file of mode 0600 that must not exist yet, and waits until it is on disk. All of it is there or nothing:
    /// it is written under another name first.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn create_secret(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        let draft = self.draft(name, bytes)?;
        // A hard link, unlike a rename, fails if the name is taken.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(|e| storage(&draft, "cannot be removed", e))?;
        linked.map_err(|e| storage(&path, "cannot be made", e))?;
        self.sync()
    }

    /// Writes a file of mode 0600 in place of what was there, if anything.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn replace_secret(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        let draft = self.draft(name, bytes)?;
        fs::rename(&draft, &path).map_err(|e| storage(&path, "cannot be written", e))?;
        self.sync()
    }

    fn draft(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let draft = self.0.join(format!(".{name}.{}", std::process::id()));
        // Left by a process of the same number that was killed in between.
        let _ = fs::remove_file(&draft);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(|e| storage(&draft, "cannot be made", e))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| storage(&draft, "cannot be written", e))?;
        Ok(draft)
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.0).and_then(|d| d.sync_all()).map_err(|e| storage(&self.0, "cannot be written", e))
    }
}

/// A folder of signed texts, one per file, named by their hashes. Several processes may add to it; one may watch it.
#[derive(Debug)]
pub struct Inbox {
    folder: DataDir,
    /// The longest text, bytes, and the most of them.
    size: usize,
    count: usize,
    seen: BTreeSet<String>,
}

impl Inbox {
    /// Membership statements, under this directory's `statements/`.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn statements(domain: &DataDir) -> Result<Inbox, Error> {
        Inbox::open(domain, "statements", limit::STATEMENT, limit::STATEMENTS)
    }

    /// Those in a folder of this directory, of so many bytes and so many at most.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn open(domain: &DataDir, name: &str, size: usize, count: usize) -> Result<Inbox, Error> {
        Ok(Inbox { folder: domain.folder(name)?, size, count, seen: BTreeSet::new() })
    }

    /// Adds one; nothing happens if it is there already.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::TooLarge`].
    pub fn add(&self, text: &[u8]) -> Result<(), Error> {
        if text.len() > self.size {
            return Err(Error::new(Code::TooLarge, format!("more than {} bytes", self.size)));
        }
        let name = blake3::hash(text).to_hex().to_string();
        if self.folder.path().join(&name).exists() {
            return Ok(());
        }
        self.folder.replace_secret(&name, text)
    }

    /// Those that came since the last call. Files that are none by name or size are passed over.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn fresh(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let path = self.folder.path().to_path_buf();
        let failed = |e| storage(&path, "cannot be read", e);
        let mut fresh = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if self.seen.contains(&name) || blake3::Hash::from_hex(&name).is_err() || self.seen.len() >= self.count {
                continue;
            }
            let Some(bytes) = self.folder.read_secret(&name)? else { continue };
            if bytes.len() <= self.size && blake3::hash(&bytes).to_hex().as_str() == name {
                fresh.push(bytes.to_vec());
            }
            self.seen.insert(name);
        }
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("peerage-{name}-{}", std::process::id()));
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let scratch = Scratch::new("key");
        let data = DataDir::open(&scratch.0).unwrap();
        let key = data.key("node.key").unwrap();
        assert_eq!(data.key("node.key").unwrap().public(), key.public());
        let path = scratch.0.join("node.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(data.create_key("node.key", &key).unwrap_err().code(), Code::Storage);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(data.key("node.key").err().unwrap().one_line().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_key_file_is_neither_used_nor_replaced() {
        let scratch = Scratch::new("damaged");
        let data = DataDir::open(&scratch.0).unwrap();
        for bad in ["", "short", &"A".repeat(44), "\u{0}\u{1}"] {
            data.replace_secret("node.key", bad.as_bytes()).unwrap();
            assert_eq!(data.key("node.key").err().unwrap().code(), Code::Storage);
            assert_eq!(fs::read(scratch.0.join("node.key")).unwrap(), bad.as_bytes());
        }
    }

    #[test]
    fn statements_are_seen_once_and_damaged_ones_never() {
        let scratch = Scratch::new("statements");
        let data = DataDir::open(&scratch.0).unwrap();
        let (other, mut watcher) = (Inbox::statements(&data).unwrap(), Inbox::statements(&data).unwrap());
        other.add(b"one").unwrap();
        other.add(b"one").unwrap();
        assert_eq!(watcher.fresh().unwrap(), [b"one"]);
        assert!(watcher.fresh().unwrap().is_empty());
        other.add(b"two").unwrap();
        data.folder("statements").unwrap().replace_secret(&"0".repeat(64), b"not its hash").unwrap();
        assert_eq!(watcher.fresh().unwrap(), [b"two"]);
        assert_eq!(other.add(&[0; limit::STATEMENT + 1]).unwrap_err().code(), Code::TooLarge);
    }
}
