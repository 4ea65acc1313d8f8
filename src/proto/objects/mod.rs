//! What is said of stored objects: who may read (the lockbox), what is stored (the header), and how a store is asked ([`message`]).

mod description;
mod enrolment;
mod header;
mod keyring;
#[cfg(test)]
mod keyring_tests;
mod lockbox;
pub mod message;
mod stored;
#[cfg(test)]
mod tests;
mod versions;

pub use description::{Description, MEDIA, META, PATH, check_path};
pub use enrolment::Enrolment;
pub use header::Header;
pub use keyring::{GENERATIONS, Keyring, Policy, Taken};
pub use lockbox::{Contents, ENTRIES, Generation, Lockbox, PREVIOUS, seal};
pub use stored::{Ahead, Changes, Cursor, ObjectId, Progress, Put, PutId, Quota, Underway, Used};
pub use versions::{Head, follows, prevails};

/// The hash by which a later header or lockbox names this one, over the signed bytes.
#[must_use]
pub fn hash(signed: &[u8]) -> [u8; 32] {
    *blake3::hash(signed).as_bytes()
}
