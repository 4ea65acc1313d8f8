//! A participant's KEM key for storage keys, signed by itself alone: so nobody can have the next storage key sealed to another's.

use alloc::vec::Vec;

use crate::base::{DomainId, NodeId, Reject};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

/// The label under its signature.
const LABEL: &str = "peerage/1/enrolment";
const FORMAT: u8 = 1;

/// To what storage keys are sealed for a participant. It never changes: the key follows from the identity and the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Who.
    pub node: NodeId,
    /// The public half.
    pub kem: [u8; 32],
}

impl Enrolment {
    /// Its length, bytes.
    pub const LENGTH: usize = 1 + 32 + 32 + SIGNATURE;

    /// Signs the key of who holds `key`: `format u8 | node 32 | KEM key 32 | Ed25519`.
    #[must_use]
    pub fn sign(domain: &DomainId, key: &SigningKey, kem: &[u8; 32]) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(FORMAT).raw(key.node_id().as_bytes()).raw(kem);
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        w.finish()
    }

    /// Reads one and checks its signature. Whether the node is a member is for the caller to say.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::Version`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Enrolment, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let (node, kem) = (NodeId::from_public_key(r.array()?), r.array()?);
        r.end()?;
        sign::verify(node.as_bytes(), LABEL, domain, message, signature)?;
        Ok(Enrolment { node, kem })
    }
}
