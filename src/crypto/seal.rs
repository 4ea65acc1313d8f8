//! HPKE (RFC 9180) in mode base: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, single-shot only.

use alloc::vec::Vec;
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256 as Kem,
};
use zeroize::Zeroizing;

use crate::base::{Reject, Rng};

/// The encapsulated key's length in bytes.
pub const ENC: usize = 32;
/// Bytes that sealing adds to a plaintext, besides [`ENC`].
pub const TAG: usize = 16;

/// An X25519 key pair that others seal to. The private half is wiped on drop.
pub struct KemKey {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl KemKey {
    /// A new random pair.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> KemKey {
        KemKey::derive(&rng.bytes())
    }

    /// DeriveKeyPair of RFC 9180 section 7.1.3.
    #[must_use]
    pub fn derive(ikm: &[u8; 32]) -> KemKey {
        let (private, public) = Kem::derive_keypair(ikm);
        KemKey { private: Zeroizing::new(array(&private)), public: array(&public) }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Opens what [`seal`] made for this key.
    ///
    /// # Errors
    /// [`Reject::Forged`] if anything differs: key, `enc`, `info`, `aad`, ciphertext; also for a low-order `enc`.
    pub fn open(&self, info: &[u8], aad: &[u8], enc: &[u8; ENC], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reject> {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(&self.private[..]).map_err(|_| Reject::Forged)?;
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(enc).map_err(|_| Reject::Forged)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeR::Base, &private, &enc, info, ciphertext, aad)
            .map(Zeroizing::new)
            .map_err(|_| Reject::Forged)
    }
}

impl core::fmt::Debug for KemKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KemKey")
    }
}

/// Seals `plaintext` to the holder of `recipient`'s private half. Returns the encapsulated key and the ciphertext.
///
/// # Errors
/// [`Reject::Forged`] for a low-order recipient key (RFC 7748 section 6.1).
pub fn seal(recipient: &[u8; 32], info: &[u8], aad: &[u8], plaintext: &[u8], rng: &mut Rng) -> Result<([u8; ENC], Vec<u8>), Reject> {
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(recipient).map_err(|_| Reject::Forged)?;
    hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeS::Base, &public, info, plaintext, aad, rng)
        .map(|(enc, ciphertext)| (array(&enc), ciphertext))
        .map_err(|_| Reject::Forged)
}

fn array<T: Serializable>(value: &T) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&value.to_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_the_recipient_only() {
        let mut rng = Rng::from_seed([1; 32]);
        let (alice, bob) = (KemKey::generate(&mut rng), KemKey::generate(&mut rng));
        let (enc, ct) = seal(alice.public(), b"info", b"aad", b"hello", &mut rng).unwrap();
        assert_eq!(alice.open(b"info", b"aad", &enc, &ct).unwrap().as_slice(), b"hello");
        assert_eq!(bob.open(b"info", b"aad", &enc, &ct).unwrap_err(), Reject::Forged);
        assert_eq!(alice.open(b"info", b"other", &enc, &ct).unwrap_err(), Reject::Forged);
    }

    #[test]
    fn low_order_points_are_refused_at_both_ends() {
        let mut rng = Rng::from_seed([2; 32]);
        let key = KemKey::generate(&mut rng);
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert_eq!(seal(&point, b"", b"", b"x", &mut rng).unwrap_err(), Reject::Forged);
            assert_eq!(key.open(b"", b"", &point, &[0; 17]).unwrap_err(), Reject::Forged);
        }
    }
}
