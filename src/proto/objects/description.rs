//! What an author says of an object, for participants alone: it is sealed in the header.

use alloc::{string::String, vec::Vec};

use crate::base::{Code, Error, Reject, Wall};
use crate::crypto::object::DESCRIPTION;
use crate::wire::bytes::{Reader, Writer};

const FORMAT: u8 = 1;
/// The longest path, bytes.
pub const PATH: usize = 512;
/// The longest media type, bytes.
pub const MEDIA: usize = 128;
/// The longest metadata, bytes of JSON.
pub const META: usize = 3_072;

const _: () = assert!(1 + 8 + 8 + 3 * 2 + PATH + MEDIA + META <= DESCRIPTION, "the longest one can be sealed");

/// The sealed part of a header: `format u8 | length u64 | written u64 | path var | media type var | metadata var`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its path in the domain: names with `/` between.
    pub path: String,
    /// Its media type (RFC 2046), empty for none.
    pub media: String,
    /// Its length, bytes, without padding; 0 for a tombstone.
    pub length: u64,
    /// When it was written, by the author's clock.
    pub written: Wall,
    /// What else the author says: JSON text, empty for nothing.
    pub meta: String,
}

impl Description {
    /// Its bytes, to be sealed.
    ///
    /// # Errors
    /// As [`check_path`]; [`Code::BadArgument`] for too long a media type or metadata.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        check_path(&self.path)?;
        if self.media.len() > MEDIA || self.meta.len() > META {
            return Err(Error::new(Code::BadArgument, "a media type has at most 128 bytes, metadata 3 KiB of JSON"));
        }
        let mut w = Writer::new();
        w.u8(FORMAT).u64(self.length).u64(self.written.0);
        w.var(self.path.as_bytes()).var(self.media.as_bytes()).var(self.meta.as_bytes());
        Ok(w.finish())
    }

    /// Reads one that was sealed.
    ///
    /// # Errors
    /// [`Reject::Malformed`], also for a path that [`check_path`] refuses; [`Reject::Version`], [`Reject::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Description, Reject> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (length, written) = (r.u64()?, Wall(r.u64()?));
        let (path, media, meta) = (r.text(PATH)?, r.text(MEDIA)?, r.text(META)?);
        r.end()?;
        check_path(&path).map_err(|_| Reject::Malformed)?;
        Ok(Description { path, media, length, written, meta })
    }
}

/// Whether a text is a path: names of no control characters, none of them empty, `.` or `..`, with `/` between; so it is harmless
/// where somebody makes a file of it.
///
/// # Errors
/// [`Code::BadArgument`] if not, and over [`PATH`] bytes.
pub fn check_path(path: &str) -> Result<(), Error> {
    let sound = path.len() <= PATH && !path.chars().any(|c| c.is_control() || c == '\\');
    if sound && path.split('/').all(|name| !matches!(name, "" | "." | "..")) {
        return Ok(());
    }
    let hint = "Names such as scans/hall.ply: at most 512 bytes, no \\, none of the names empty, . or ..";
    Err(Error::new(Code::BadArgument, "not a path of domain data").hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_description_comes_back_and_bounds_hold() {
        let full =
            Description { path: "a".repeat(PATH), media: "b".repeat(MEDIA), length: 1 << 40, written: Wall(7), meta: "c".repeat(META) };
        let bytes = full.encode().unwrap();
        assert_eq!(Description::decode(&bytes), Ok(full.clone()));
        for i in 0..bytes.len() {
            assert!(Description::decode(&bytes[..i]).is_err());
        }
        assert!(Description::decode(&[&bytes[..], &[0]].concat()).is_err());
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a\nb", "a\\b", &"a".repeat(PATH + 1)] {
            assert_eq!(check_path(bad).unwrap_err().code(), Code::BadArgument, "{bad:?}");
        }
        assert!(Description { media: "b".repeat(MEDIA + 1), ..full.clone() }.encode().is_err());
        let climbing = Description { path: "a".to_string(), ..full }.encode().map(|mut b| (b[19] = b'/', b).1).unwrap();
        assert_eq!(Description::decode(&climbing), Err(Reject::Malformed));
    }
}
