//! One entry, its order among those of the same key, and its signed bytes.

use alloc::{string::String, vec::Vec};

use crate::base::{DomainId, NodeId, Reject, Wall};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

const LABEL: &str = "peerage/1/state";
const FORMAT: u8 = 1;
/// A key at most, bytes.
pub const KEY: usize = 128;
/// A value at most, bytes.
pub const VALUE: usize = 8 * 1024;
/// A signed entry at most, bytes.
pub const SIGNED: usize = 1 + 2 + KEY + 8 + 32 + 1 + VALUE + SIGNATURE;

/// A moment of a hybrid logical clock: Unix milliseconds in the upper 48 bits, a count in the lower 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Stamp(#[n(0)] pub u64);

impl Stamp {
    /// The first moment of a millisecond.
    #[must_use]
    pub const fn at(wall: Wall) -> Stamp {
        Stamp(wall.0 << 16)
    }

    /// The wall clock's part.
    #[must_use]
    pub const fn wall(self) -> Wall {
        Wall(self.0 >> 16)
    }

    /// The next moment: now, or just after this one if the clock is behind it.
    #[must_use]
    pub fn next(self, now: Wall) -> Stamp {
        Stamp::at(now).max(Stamp(self.0.saturating_add(1)))
    }
}

/// What was written under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1 to [`KEY`] bytes.
    pub key: String,
    /// When, by the hybrid logical clock of the writer.
    pub stamp: Stamp,
    /// Who wrote it.
    pub writer: NodeId,
    /// At most [`VALUE`] bytes; `None`: deleted.
    pub value: Option<Vec<u8>>,
}

impl Entry {
    /// The signed bytes: `1 | key var | stamp u64 | writer 32 | u8: whether there is a value | value | signature 64`.
    #[must_use]
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(FORMAT).var(self.key.as_bytes()).u64(self.stamp.0).raw(self.writer.as_bytes()).u8(u8::from(self.value.is_some()));
        w.raw(self.value.as_deref().unwrap_or_default());
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        w.finish()
    }

    /// Takes an entry apart and checks its writer's signature.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], [`Reject::Malformed`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Entry, Reject> {
        let entry = Entry::parse(bytes)?;
        let (content, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        sign::verify(entry.writer.as_bytes(), LABEL, domain, content, signature)?;
        Ok(entry)
    }

    /// Takes an entry apart without checking its signature.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], [`Reject::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Entry, Reject> {
        if bytes.len() > SIGNED {
            return Err(Reject::TooLarge);
        }
        let (content, _) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(content);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (key, stamp, writer) = (r.text(KEY)?, Stamp(r.u64()?), NodeId::from_public_key(r.array()?));
        let value = match r.u8()? {
            0 => None,
            1 => Some(r.rest().to_vec()),
            _ => return Err(Reject::Malformed),
        };
        r.end()?;
        if key.is_empty() {
            return Err(Reject::Malformed);
        }
        if value.as_ref().is_some_and(|v| v.len() > VALUE) {
            return Err(Reject::TooLarge);
        }
        Ok(Entry { key, stamp, writer, value })
    }
}
