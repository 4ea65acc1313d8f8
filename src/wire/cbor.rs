//! Messages in CBOR (RFC 8949) with numbered fields: for what is read once and signed, if at all, by its own bytes.

use alloc::vec::Vec;
use minicbor::{Decode, Decoder, Encode};

use crate::base::{Reject, limit};

/// The bytes of a message.
#[must_use]
pub fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    minicbor::to_vec(message).expect("encoding to a vector cannot fail") // invariant: the writer is a Vec
}

/// Reads a message. Bounds of its own are for the caller to check.
///
/// # Errors
/// [`Reject::TooLarge`] for more than a frame holds; [`Reject::Malformed`], also for trailing bytes.
pub fn decode<'a, T: Decode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Reject> {
    if bytes.len() > limit::FRAME {
        return Err(Reject::TooLarge);
    }
    let mut decoder = Decoder::new(bytes);
    let message = decoder.decode().map_err(|_| Reject::Malformed)?;
    if decoder.position() == bytes.len() { Ok(message) } else { Err(Reject::Malformed) }
}
