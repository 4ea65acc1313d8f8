//! Writes down what a process receives, for those who want to check with their own eyes what a relay or manager could read.
//!
//! The file begins with the line `peerage/1/record`. Then comes piece after piece: the number of a stream (u32), a length (u32),
//! both big-endian, and so many bytes as they were read from this stream, after the encryption of the link it runs on. The
//! pieces of one number, put together, are all that came on that stream. Streams inside a circuit that ends here have numbers
//! of their own; their ciphertext is also in the stream that carried the circuit.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::{Code, Error};

/// The largest recording, bytes. When it is full, the recording ends and the process goes on.
pub const RECORDING: u64 = 256 * 1024 * 1024;
/// What every recording begins with.
const HEAD: &[u8] = b"peerage/1/record\n";

/// An open recording. Every piece is in the file before it is handled, so the file is complete at any moment.
pub(super) struct Recorder {
    streams: AtomicU32,
    state: Mutex<State>,
}

struct State {
    /// None once it is full or could not be written.
    file: Option<File>,
    left: u64,
}

impl Recorder {
    /// Makes the file, for its owner alone; `most` bounds its size in bytes.
    ///
    /// # Errors
    /// [`Code::Storage`] if it exists already or cannot be made.
    pub(super) fn create(path: &Path, most: u64) -> Result<Recorder, Error> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = made.map_err(|e| {
            let taken = e.kind() == io::ErrorKind::AlreadyExists;
            let problem = format!("{} {}", path.display(), if taken { "exists already" } else { "cannot be made" });
            let error = Error::new(Code::Storage, problem).caused_by(e);
            if taken { error.hint("A recording replaces nothing: move it away, or name another file") } else { error }
        })?;
        file.write_all(HEAD).map_err(|e| Error::new(Code::Storage, format!("{} cannot be written", path.display())).caused_by(e))?;
        let left = most.saturating_sub(HEAD.len() as u64);
        Ok(Recorder { streams: AtomicU32::new(0), state: Mutex::new(State { file: Some(file), left }) })
    }

    /// The number of one more stream.
    pub(super) fn stream(&self) -> u32 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes down what was read from a stream.
    pub(super) fn take(&self, stream: u32, bytes: &[u8]) {
        // A reader has far less than 4 GiB of room.
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        let piece = [&stream.to_be_bytes(), &length.to_be_bytes(), bytes].concat();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.left.checked_sub(piece.len() as u64);
        let Some(file) = state.file.as_mut().filter(|_| length > 0) else { return };
        if left.is_none() {
            tracing::error!("the recording is full: it ends here");
            state.file = None;
        } else if let Err(error) = file.write_all(&piece) {
            tracing::error!(%error, "the recording cannot be written: it ends here");
            state.file = None;
        } else {
            state.left = left.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn pieces_are_kept_with_their_stream_until_it_is_full_and_nothing_is_replaced() {
        let path = std::env::temp_dir().join(format!("peerage-record-{}", std::process::id()));
        let recorder = Recorder::create(&path, HEAD.len() as u64 + 21).unwrap();
        let (a, b) = (recorder.stream(), recorder.stream());
        recorder.take(a, b"one");
        recorder.take(b, b"");
        recorder.take(b, b"tw");
        // One byte more than there is room for; what would fit after it is not taken either, as there would be a gap.
        recorder.take(a, b"x");
        let expected = [HEAD, &[0, 0, 0, 0, 0, 0, 0, 3], b"one", &[0, 0, 0, 1, 0, 0, 0, 2], b"tw"].concat();
        let (found, mode) = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().permissions().mode());
        let again = Recorder::create(&path, RECORDING).err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found, expected);
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(again.code(), Code::Storage);
        assert!(again.one_line().contains("exists already"), "{}", again.one_line());
    }
}
