//! The certificates that browsers know a listener by: self-signed, ECDSA P-256, valid for thirteen days, because browsers take a
//! certificate by its hash only if it is valid for less than fourteen.
//!
//! All of them follow from one secret and the time: a node that is restarted has the certificates that it told others of, and nothing
//! is kept on disk. ECDSA is deterministic here (RFC 6979), or the same certificate would have another hash each time.

use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use libp2p::multihash::Multihash;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use wtransport::quinn::crypto::rustls::QuicServerConfig;
use zeroize::Zeroizing;

use crate::base::{Code, Error, Wall};

/// How long one certificate is served.
pub(super) const PERIOD: Duration = Duration::from_secs(11 * 24 * 60 * 60);
/// How much longer it is valid at either end, for clocks that are off.
const SPARE: Duration = Duration::from_secs(24 * 60 * 60);

/// In every certificate.
const NAME: &str = "peerage";

/// SHA2-256 in the table of multihashes.
pub(super) const SHA2_256: u64 = 0x12;

/// A certificate's hash, as in `/certhash/…`.
pub(super) type Hash = Multihash<64>;

/// All certificates of one listener.
pub(super) struct Certificates {
    secret: Zeroizing<[u8; 32]>,
    /// When periods begin, milliseconds into [`PERIOD`]: not all nodes change theirs at the same moment.
    offset: u64,
}

/// One certificate and its key.
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(super) hash: Hash,
}

struct Key {
    key: SigningKey,
    /// The point, uncompressed (SEC 1).
    public: Box<[u8]>,
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.key.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

impl Certificates {
    /// Those that follow from this secret.
    pub(super) fn new(secret: &[u8; 32]) -> Certificates {
        let mut own = Zeroizing::new([0; 32]);
        let mut offset = [0; 8];
        let hkdf = Hkdf::<Sha256>::new(Some(b"peerage/1/webtransport"), secret);
        hkdf.expand(b"secret", &mut own[..]).expect("32 bytes are a legal length"); // invariant: RFC 5869's bound
        hkdf.expand(b"offset", &mut offset).expect("8 bytes are a legal length"); // invariant: RFC 5869's bound
        Certificates { secret: own, offset: u64::from_be_bytes(offset) % millis(PERIOD) }
    }

    /// The number of the certificate that is served at this time.
    pub(super) fn period(&self, now: Wall) -> u64 {
        (now.0 + self.offset) / millis(PERIOD)
    }

    /// When it begins to be served.
    pub(super) fn start(&self, period: u64) -> Wall {
        Wall((period * millis(PERIOD)).saturating_sub(self.offset))
    }

    /// The certificate of this number.
    ///
    /// # Errors
    /// [`Code::Unsupported`] if none can be made, as for a time that no certificate can name.
    pub(super) fn get(&self, period: u64) -> Result<Certificate, Error> {
        let failed = |e: String| Error::new(Code::Unsupported, "no WebTransport certificate could be made").caused_by(e);
        let key = self.key(period);
        let private = key.to_pkcs8_der().map_err(|e| failed(e.to_string()))?;
        let public = key.verifying_key().to_encoded_point(false).to_bytes();
        let start = self.start(period);
        let date = |ms: u64| time::OffsetDateTime::from_unix_timestamp((ms / 1_000) as i64).map_err(|e| failed(e.to_string()));
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = date(start.before(SPARE).0)?;
        parameters.not_after = date(start.after(PERIOD + SPARE).0)?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, NAME);
        // Nobody looks at the name, but Chromium takes no certificate without extensions.
        parameters.subject_alt_names = vec![rcgen::SanType::DnsName(NAME.try_into().map_err(|e: rcgen::Error| failed(e.to_string()))?)];
        let made = parameters.self_signed(&Key { key, public }).map_err(|e| failed(e.to_string()))?;
        let der = made.der().clone();
        let hash = Hash::wrap(SHA2_256, &Sha256::digest(&der)).map_err(|e| failed(e.to_string()))?;
        Ok(Certificate { der, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private.as_bytes().to_vec())), hash })
    }

    fn key(&self, period: u64) -> SigningKey {
        let hkdf = Hkdf::<Sha256>::new(Some(&period.to_be_bytes()), &self.secret[..]);
        let mut bytes = Zeroizing::new([0; 32]);
        for attempt in 0u8..=u8::MAX {
            hkdf.expand(&[attempt], &mut bytes[..]).expect("32 bytes are a legal length"); // invariant: RFC 5869's bound
            if let Ok(key) = SigningKey::from_slice(&bytes[..]) {
                return key;
            }
        }
        unreachable!("one number in 2^32 is no key; 256 in a row are not met")
    }
}

impl Certificate {
    /// What QUIC serves it by.
    ///
    /// # Errors
    /// [`Code::Unsupported`] if the TLS library refuses it.
    pub(super) fn tls(&self) -> Result<Arc<QuicServerConfig>, Error> {
        let failed = |e: String| Error::new(Code::Unsupported, "the WebTransport certificate cannot be served").caused_by(e);
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], self.key.clone_key())
            .map_err(|e| failed(e.to_string()))?;
        tls.alpn_protocols = vec![wtransport::tls::WEBTRANSPORT_ALPN.to_vec()];
        QuicServerConfig::try_from(tls).map(Arc::new).map_err(|e| failed(e.to_string()))
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn certificates_follow_from_the_secret_and_the_time() {
        let (one, same, other) = (Certificates::new(&[1; 32]), Certificates::new(&[1; 32]), Certificates::new(&[2; 32]));
        let period = one.period(NOW);
        let hash = |c: &Certificates, period| c.get(period).unwrap().hash;
        assert_eq!(hash(&one, period), hash(&same, period));
        assert_ne!(hash(&one, period), hash(&one, period + 1));
        assert_ne!(hash(&one, period), hash(&other, other.period(NOW)));
        assert_ne!(one.offset, other.offset);
    }

    #[test]
    fn each_is_served_while_it_is_valid_by_clocks_a_day_off() {
        for seed in 0..20 {
            let all = Certificates::new(&[seed; 32]);
            let period = all.period(NOW);
            assert!(all.start(period) <= NOW && NOW < all.start(period + 1));
            assert_eq!(all.period(Wall(all.start(period).0)), period);
            assert_eq!(all.period(Wall(all.start(period).0 - 1)), period - 1);
            let der = all.get(period).unwrap().der;
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
            let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
            assert!(to - from < 14 * 86_400, "what browsers take by its hash");
            assert!(
                from * 1_000 <= (all.start(period).0 - 86_000_000) as i64 && to * 1_000 >= (all.start(period + 1).0 + 86_000_000) as i64
            );
            assert_eq!(parsed.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
        }
    }
}
