//! What a member leaves at a relay so that its domain can be found there.

use alloc::vec::Vec;
use core::time::Duration;

use super::NOWHERE;
use crate::base::{Reject, Wall, limit};
use crate::crypto::{
    sign::{self, SIGNATURE, SigningKey},
    tag::TAG,
};
use crate::wire::bytes::{Reader, Writer};

const LABEL: &str = "peerage/1/place-record";
/// The longest a record may hold.
pub const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// The sealed contacts, in bytes.
pub const CONTACTS: usize = 1_200;

/// A record under a place tag. The relay that holds it learns who left it (its link says so) and nothing of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The place.
    pub tag: [u8; TAG],
    /// The public half of the domain's key for the slot. The relay cannot know which key is the right one; it gives each a share.
    pub signer: [u8; 32],
    /// Until when it holds, at most [`LIFETIME`] from now.
    pub expires: Wall,
    /// Where the member can be reached, sealed to the domain's rendezvous key.
    pub contacts: Vec<u8>,
}

impl Record {
    /// The signed bytes. `key` is the domain's key for the slot; `signer` is taken from it.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] for contacts over [`CONTACTS`].
    pub fn sign(tag: [u8; TAG], expires: Wall, contacts: &[u8], key: &SigningKey) -> Result<Vec<u8>, Reject> {
        if contacts.len() > CONTACTS {
            return Err(Reject::TooLarge);
        }
        let mut w = Writer::new();
        w.raw(&tag).raw(&key.public()).u64(expires.0).var(contacts);
        let mut bytes = w.finish();
        bytes.extend_from_slice(&key.sign(LABEL, &NOWHERE, &bytes));
        Ok(bytes)
    }

    /// Reads and verifies a record.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`], [`Reject::Expired`] (past, or further ahead than [`LIFETIME`] and the
    /// clocks' disagreement), [`Reject::Forged`].
    pub fn verify(bytes: &[u8], now: Wall) -> Result<Record, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        let (tag, signer, expires) = (r.array()?, r.array()?, Wall(r.u64()?));
        let contacts = r.var(CONTACTS)?.to_vec();
        r.end()?;
        if expires <= now || expires > now.after(LIFETIME).after(limit::CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        sign::verify(&signer, LABEL, &NOWHERE, message, signature)?;
        Ok(Record { tag, signer, expires, contacts })
    }
}
