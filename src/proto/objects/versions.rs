//! Which version may follow which: the rule by which every store decides alike, and a writer knows beforehand.

use super::Header;
use crate::base::Code;

/// The newest version of an object, as far as a store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub version: u64,
    /// Its hash ([`super::hash`]).
    pub hash: [u8; 32],
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// Whether of two versions that followed the same one, or have it in their past, the first is the one that goes on being the object: the one with
/// more versions behind it, and of as many the one of the greater hash. All stores decide alike, so that two that took versions without
/// knowing of each other come to the same end; what does not prevail is kept beside, in conflict.
#[must_use]
pub fn prevails(version: (u64, &[u8; 32]), over: (u64, &[u8; 32])) -> bool {
    version > over
}

/// Whether a header may become the newest version: it names the one that is, by number and hash. So of two writers that
/// replace the same version one succeeds, and no version is lost unseen. After a tombstone an object goes on with the next number.
///
/// # Errors
/// [`Code::Conflict`]; [`Code::NoObject`] for a tombstone of what is not there, or is deleted.
pub fn follows(head: Option<&Head>, next: &Header) -> Result<(), Code> {
    if next.is_tombstone() && head.is_none_or(|h| h.deleted) {
        return Err(Code::NoObject);
    }
    let (version, hash) = head.map_or((0, [0; 32]), |h| (h.version, h.hash));
    if version.checked_add(1) == Some(next.identity.version) && hash == next.previous { Ok(()) } else { Err(Code::Conflict) }
}
