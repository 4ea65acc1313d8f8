//! Ed25519 (RFC 8032), always verified strictly and always over a labelled, domain-bound input.

use alloc::vec::Vec;
use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::base::{DomainId, NodeId, Reject, Rng};

/// A signature's length in bytes.
pub const SIGNATURE: usize = 64;

/// A private signing key. Wiped on drop, never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new random key.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> SigningKey {
        SigningKey::from_seed(&rng.bytes())
    }

    /// The key of this 32-byte seed (RFC 8032 section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> SigningKey {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for storing the key.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The node whose identity this key is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::from_public_key(self.public())
    }

    /// Signs `label | 0x00 | domain | message`.
    #[must_use]
    pub fn sign(&self, label: &str, domain: &DomainId, message: &[u8]) -> [u8; SIGNATURE] {
        self.0.sign(&labelled(label, domain, message)).to_bytes()
    }
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigningKey({:?})", self.node_id())
    }
}

/// Checks a signature made by [`SigningKey::sign`] with the same label and domain.
///
/// # Errors
/// [`Reject::Forged`] if it does not hold, if the key is no point or a weak (small-order) one, or if S is not canonical.
pub fn verify(public: &[u8; 32], label: &str, domain: &DomainId, message: &[u8], signature: &[u8; SIGNATURE]) -> Result<(), Reject> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| Reject::Forged)?;
    if key.is_weak() {
        return Err(Reject::Forged);
    }
    key.verify_strict(&labelled(label, domain, message), &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| Reject::Forged)
}

/// The bytes under every signature and the `info` of every derivation.
#[must_use]
pub fn labelled(label: &str, domain: &DomainId, message: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(label.len() + 33 + message.len());
    input.extend_from_slice(label.as_bytes());
    input.push(0);
    input.extend_from_slice(domain.as_bytes());
    input.extend_from_slice(message);
    input
}

/// Whether these bytes are a public key that [`verify`] can ever accept: a point, and not a weak (small-order) one.
#[must_use]
pub fn is_usable(public: &[u8; 32]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}
