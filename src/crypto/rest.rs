//! Records at rest, where the store itself is not trusted with what they say: sealed under one key that the platform guards.

use alloc::vec::Vec;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::base::{Reject, Rng};

/// In front of every sealed record: random, and with it a key of its own, so that the AEAD's nonce need not vary.
const SALT: usize = 24;
const TAG: usize = 16;

/// How long a record of so many bytes is when it is sealed.
#[must_use]
pub const fn sealed(length: usize) -> usize {
    SALT + length + TAG
}

/// Seals a record under its name: it opens under no other.
#[must_use]
pub fn seal(key: &[u8; 32], name: &str, plaintext: &[u8], rng: &mut Rng) -> Vec<u8> {
    let salt: [u8; SALT] = rng.bytes();
    let sealed = cipher(key, &salt).encrypt(&[0; 12].into(), Payload { msg: plaintext, aad: name.as_bytes() });
    let sealed = sealed.expect("a record is far below 256 GiB"); // invariant: RFC 8439 2.8
    [&salt[..], &sealed].concat()
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`Reject::Forged`] if anything differs: key, name, bytes.
pub fn open(key: &[u8; 32], name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reject> {
    let (salt, sealed) = sealed.split_first_chunk::<SALT>().ok_or(Reject::Forged)?;
    let opened = cipher(key, salt).decrypt(&[0; 12].into(), Payload { msg: sealed, aad: name.as_bytes() });
    opened.map(Zeroizing::new).map_err(|_| Reject::Forged)
}

fn cipher(key: &[u8; 32], salt: &[u8; SALT]) -> ChaCha20Poly1305 {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"peerage/1/rest\0").update(salt);
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    ChaCha20Poly1305::new((&*key).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn a_record_opens_under_its_key_and_name_only_and_no_two_are_alike() {
        let mut rng = Rng::from_seed([1; 32]);
        let sealed = seal(&[1; 32], "domain/a/keys", b"secret", &mut rng);
        assert_eq!(open(&[1; 32], "domain/a/keys", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(open(&[2; 32], "domain/a/keys", &sealed).unwrap_err(), Reject::Forged);
        assert_eq!(open(&[1; 32], "domain/b/keys", &sealed).unwrap_err(), Reject::Forged);
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(open(&[1; 32], "domain/a/keys", &changed).unwrap_err(), Reject::Forged);
            assert_eq!(open(&[1; 32], "domain/a/keys", &sealed[..i]).unwrap_err(), Reject::Forged);
        }
        let many: BTreeSet<Vec<u8>> = (0..100).map(|_| seal(&[1; 32], "a", b"same", &mut rng)).collect();
        assert_eq!(many.len(), 100);
    }
}
