//! The frame around every message on a link: version, kind, body. `docs/protocol.md` section 2.

use alloc::vec::Vec;

use crate::base::{Reject, limit};

/// The protocol version in every frame.
pub const VERSION: u8 = 1;

/// Which of a link's two streams a frame takes, or neither. Within a stream frames keep their order; between lanes they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent: never waits behind bulk.
    Control,
    /// Channel data.
    Bulk,
    /// No stream: what is lost stays lost, and order is not kept. Only on links that have it.
    Datagram,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)+) => {
        /// What a frame carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $value,)+ }
        impl Kind {
            fn parse(value: u8) -> Result<Kind, Reject> {
                match value { $($value => Ok(Kind::$name),)+ _ => Err(Reject::UnknownKind) }
            }
        }
    };
}

kinds! {
    /// A coded refusal of something received.
    Refuse = 0x01;
    /// First frame of a domain on a link, both ways: credential chain, prekey record, proof.
    Hello = 0x10;
    /// What a member gives a newly admitted one: the domain secret.
    Welcome = 0x11;
    /// Membership statements.
    Membership = 0x12;
    /// Prekey records, key messages and requests for them.
    Keys = 0x13;
    /// The sender left this domain on this link.
    Goodbye = 0x14;
    /// A sealed message of the control or data class.
    Sealed = 0x20;
    /// Between nodes, outside any domain: records, requests, responses.
    Overlay = 0x30;
}

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: Kind,
    /// The message.
    pub body: &'a [u8],
}

/// Puts a message into a frame.
#[must_use]
pub fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + body.len());
    out.push(VERSION);
    out.push(kind as u8);
    out.extend_from_slice(body);
    out
}

/// Takes a frame apart.
///
/// # Errors
/// [`Reject::TooLarge`], [`Reject::Malformed`] (fewer than two bytes), [`Reject::Version`], [`Reject::UnknownKind`].
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, Reject> {
    if bytes.len() > limit::FRAME {
        return Err(Reject::TooLarge);
    }
    let [version, kind, body @ ..] = bytes else { return Err(Reject::Malformed) };
    if *version != VERSION {
        return Err(Reject::Version);
    }
    Ok(Frame { kind: Kind::parse(*kind)?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_bad_ones_are_named() {
        let bytes = encode(Kind::Sealed, b"abc");
        assert_eq!(decode(&bytes), Ok(Frame { kind: Kind::Sealed, body: b"abc" }));
        assert_eq!(decode(&[1]), Err(Reject::Malformed));
        assert_eq!(decode(&[2, 0x20]), Err(Reject::Version));
        assert_eq!(decode(&[1, 0xff]), Err(Reject::UnknownKind));
        assert_eq!(decode(&alloc::vec![1; limit::FRAME + 1]), Err(Reject::TooLarge));
    }
}
