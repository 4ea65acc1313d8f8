//! A sender chain: one key per message, each forgotten after use.
//!
//! Where the design gives one label to two uses (`msg`, `keydist`), each use has a label of its own here, so that no label
//! stands for two things.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{class::Class, sign::labelled};
use crate::base::{DomainId, NodeId};

/// Names a chain: 16 bytes that commit to domain, sender, class, message-signing key and seed.
pub type Kid = [u8; 16];

/// Whose chain it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The domain.
    pub domain: DomainId,
    /// The sender.
    pub sender: NodeId,
    /// The class.
    pub class: Class,
}

/// The key from which all later ones follow, and no earlier one.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ChainKey([u8; 32]);

/// The key of one message.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MessageKey([u8; 32]);

/// `SHA256(kid label | sender | class | msg_vk | SHA256(com label | seed))[0..16]`.
#[must_use]
pub fn kid(owner: &Owner, msg_vk: &[u8; 32], seed: &[u8; 32]) -> Kid {
    let commitment = Sha256::digest(Zeroizing::new(labelled("peerage/1/com", &owner.domain, seed)));
    let input = [owner.sender.as_bytes(), &[owner.class.wire()][..], msg_vk, &commitment].concat();
    let hash = Sha256::digest(labelled("peerage/1/kid", &owner.domain, &input));
    let mut kid = [0; 16];
    kid.copy_from_slice(&hash[..16]);
    kid
}

impl ChainKey {
    /// `CK_0 = HKDF-Expand(HKDF-Extract(domain, seed), ck label | class | sender | kid)`.
    #[must_use]
    pub fn first(owner: &Owner, kid: &Kid, seed: &[u8; 32]) -> ChainKey {
        let info = labelled("peerage/1/ck", &owner.domain, &[&[owner.class.wire()][..], owner.sender.as_bytes(), kid].concat());
        let mut out = [0; 32];
        Hkdf::<Sha256>::new(Some(owner.domain.as_bytes()), seed).expand(&info, &mut out).expect("32 bytes are a legal length"); // invariant: RFC 5869's bound
        ChainKey(out)
    }

    /// A chain key out of a key message.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> ChainKey {
        ChainKey(bytes)
    }

    /// The bytes, for a key message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of the message at this index, and the chain moved on by one: `MK = HMAC(CK, 1)`, `CK' = HMAC(CK, 2)`.
    #[must_use]
    pub fn step(&self) -> (MessageKey, ChainKey) {
        (MessageKey(self.mac(1)), ChainKey(self.mac(2)))
    }

    fn mac(&self, byte: u8) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key length"); // invariant: RFC 2104
        mac.update(&[byte]);
        mac.finalize().into_bytes().into()
    }
}

impl MessageKey {
    /// AEAD key and nonce: `HKDF-Expand(MK, msg-key label | class | kid | index | salt, 44)`.
    #[must_use]
    pub fn expand(&self, owner: &Owner, kid: &Kid, index: u32, salt: &[u8; 8]) -> (Zeroizing<[u8; 32]>, [u8; 12]) {
        let input = [&[owner.class.wire()][..], kid, &index.to_be_bytes(), salt].concat();
        let mut out = Zeroizing::new([0; 44]);
        let hkdf = Hkdf::<Sha256>::from_prk(&self.0).expect("a message key is as long as a PRK"); // invariant: 32 bytes
        hkdf.expand(&labelled("peerage/1/msg-key", &owner.domain, &input), &mut out[..]).expect("44 bytes are a legal length"); // invariant: RFC 5869's bound
        let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
        key.copy_from_slice(&out[..32]);
        nonce.copy_from_slice(&out[32..]);
        (key, nonce)
    }
}

impl core::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ChainKey")
    }
}

impl core::fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MessageKey")
    }
}
