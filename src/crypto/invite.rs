//! The keys behind an invitation's secret: the bearer of the link holds both private halves, the issuer publishes the public ones.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    seal::KemKey,
    sign::{SigningKey, labelled},
};
use crate::base::DomainId;

/// What an invitation's secret yields.
#[derive(Debug)]
pub struct InviteKeys {
    /// Signs the bearer's own credential.
    pub sign: SigningKey,
    /// Opens what issuers seal to the bearer of the link.
    pub kem: KemKey,
}

/// HKDF-SHA256 (RFC 5869): extract with the salt `peerage/1/invite | domain`, expand `sign` to an Ed25519 seed and `kem` to
/// the input of DeriveKeyPair (RFC 9180).
#[must_use]
pub fn derive(domain: &DomainId, secret: &[u8; 32]) -> InviteKeys {
    let prk = Hkdf::<Sha256>::new(Some(&labelled("peerage/1/invite", domain, b"")), secret);
    let expand = |info: &[u8]| {
        let mut out = Zeroizing::new([0; 32]);
        prk.expand(info, &mut out[..]).expect("32 bytes are less than 255 blocks"); // invariant: RFC 5869's bound
        out
    };
    InviteKeys { sign: SigningKey::from_seed(&expand(b"sign")), kem: KemKey::derive(&expand(b"kem")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_means_other_keys_in_another_domain() {
        let (a, b) = (DomainId::from_bytes([1; 32]), DomainId::from_bytes([2; 32]));
        assert_eq!(derive(&a, &[3; 32]).sign.public(), derive(&a, &[3; 32]).sign.public());
        assert_ne!(derive(&a, &[3; 32]).sign.public(), derive(&b, &[3; 32]).sign.public());
        assert_ne!(derive(&a, &[3; 32]).kem.public(), derive(&b, &[3; 32]).kem.public());
        assert_ne!(derive(&a, &[3; 32]).sign.public(), *derive(&a, &[3; 32]).kem.public());
    }
}
