//! A sealed message: header (32 bytes), ciphertext, signature. 112 bytes more than its plaintext.
//!
//! ```text
//! version 1 | suite 1 | class | flags 0 | kid 16 | index u32 | salt 8
//! ChaCha20-Poly1305 under a key of its own, the header in the authenticated data
//! Ed25519 of the sender's epoch over header and ciphertext
//! ```

use alloc::vec::Vec;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};

use super::{
    chain::{Kid, MessageKey, Owner},
    class::Class,
    sign::{self, SIGNATURE, SigningKey, labelled},
};
use crate::base::Reject;

/// Bytes of the header.
pub const HEADER: usize = 32;
/// Bytes added to a plaintext.
pub const OVERHEAD: usize = HEADER + 16 + SIGNATURE;
const VERSION: u8 = 1;
const SUITE: u8 = 1;

/// A sealed message taken apart; nothing of it is checked but its form.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a> {
    /// The class it claims.
    pub class: Class,
    /// The chain it is under.
    pub kid: Kid,
    /// Its place in the chain.
    pub index: u32,
    salt: [u8; 8],
    header: &'a [u8],
    ciphertext: &'a [u8],
    signature: &'a [u8; SIGNATURE],
}

/// Where in which chain a message is, and its salt.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The chain.
    pub kid: Kid,
    /// The index in it.
    pub index: u32,
    /// Random, so that a cloned state does not use one key twice.
    pub salt: [u8; 8],
}

/// Seals one message.
#[must_use]
pub fn seal(owner: &Owner, key: &MessageKey, signer: &SigningKey, place: Place, topic: u16, plaintext: &[u8]) -> Vec<u8> {
    let Place { kid, index, salt } = place;
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
    out.extend_from_slice(&[VERSION, SUITE, owner.class.wire(), 0]);
    out.extend_from_slice(&kid);
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(&salt);
    let (aead_key, nonce) = key.expand(owner, &kid, index, &salt);
    let aad = aad(owner, topic, &out);
    let cipher = ChaCha20Poly1305::new((&*aead_key).into());
    let ciphertext = cipher.encrypt(&nonce.into(), Payload { msg: plaintext, aad: &aad }).expect("a frame is far below 256 GiB"); // invariant: RFC 8439 2.8
    out.extend_from_slice(&ciphertext);
    let signature = signer.sign("peerage/1/msg", &owner.domain, &signed(owner, &out));
    out.extend_from_slice(&signature);
    out
}

/// Takes a sealed message apart.
///
/// # Errors
/// [`Reject::Malformed`] for too few bytes or set flags, [`Reject::Version`] for another version or suite.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Reject> {
    if bytes.len() < OVERHEAD {
        return Err(Reject::Malformed);
    }
    let (body, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
    let (header, ciphertext) = body.split_at_checked(HEADER).ok_or(Reject::Malformed)?;
    let [version, suite, class, flags, ..] = *header else { return Err(Reject::Malformed) };
    if [version, suite] != [VERSION, SUITE] {
        return Err(Reject::Version);
    }
    if flags != 0 {
        return Err(Reject::Malformed);
    }
    let class = Class::parse(class)?;
    let (mut kid, mut index, mut salt) = ([0; 16], [0; 4], [0; 8]);
    kid.copy_from_slice(&header[4..20]);
    index.copy_from_slice(&header[20..24]);
    salt.copy_from_slice(&header[24..32]);
    Ok(Parsed { class, kid, index: u32::from_be_bytes(index), salt, header, ciphertext, signature })
}

impl Parsed<'_> {
    /// Checks the signature of the sender's epoch.
    ///
    /// # Errors
    /// [`Reject::Forged`] if it does not hold.
    pub fn verify(&self, owner: &Owner, msg_vk: &[u8; 32]) -> Result<(), Reject> {
        let input = signed(owner, &[self.header, self.ciphertext].concat());
        sign::verify(msg_vk, "peerage/1/msg", &owner.domain, &input, self.signature)
    }

    /// Opens the seal.
    ///
    /// # Errors
    /// [`Reject::Forged`] if key, header, topic or ciphertext do not belong together.
    pub fn open(&self, owner: &Owner, key: &MessageKey, topic: u16) -> Result<Vec<u8>, Reject> {
        let (aead_key, nonce) = key.expand(owner, &self.kid, self.index, &self.salt);
        let aad = aad(owner, topic, self.header);
        let cipher = ChaCha20Poly1305::new((&*aead_key).into());
        cipher.decrypt(&nonce.into(), Payload { msg: self.ciphertext, aad: &aad }).map_err(|_| Reject::Forged)
    }
}

fn aad(owner: &Owner, topic: u16, header: &[u8]) -> Vec<u8> {
    let input = [owner.sender.as_bytes(), &[owner.class.wire()][..], &topic.to_be_bytes(), header].concat();
    labelled("peerage/1/aad", &owner.domain, &input)
}

fn signed(owner: &Owner, header_and_ciphertext: &[u8]) -> Vec<u8> {
    [owner.sender.as_bytes(), &[owner.class.wire()][..], header_and_ciphertext].concat()
}
