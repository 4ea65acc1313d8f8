//! Short messages of the control class, topic 8: the hash of the revocations known, and who waits to be let in.

use alloc::string::String;
use minicbor::{Decode, Encode, bytes::ByteVec};

/// What one member tells others.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Notice {
    /// The hash of the revocations the sender knows.
    #[n(0)]
    View(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]),
    /// Somebody bears an invitation that an issuer has to approve, and waits.
    #[n(1)]
    Knock {
        /// Its credential, signed with the invitation's key.
        #[n(0)]
        credential: ByteVec,
        /// The name it gives itself.
        #[n(1)]
        name: String,
    },
}
