//! Vectors of the RFCs, of BLAKE3, and Wycheproof's, for the primitives as the crate uses them.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hmac::Mac;
use peerage::crypto::seal::KemKey;
use sha2::Sha256;

use crate::array;

/// RFC 7748 section 5.2: one multiplication, and a thousand.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_7748_x25519() {
    let scalar = array("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
    let u = array("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    assert_eq!(x25519_dalek::x25519(scalar, u), array("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"));
    let (mut k, mut u) = ([0; 32], [0; 32]);
    (k[0], u[0]) = (9, 9);
    for i in 1..=1_000 {
        (k, u) = (x25519_dalek::x25519(k, u), k);
        if i == 1 {
            assert_eq!(k, array("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(k, array("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

/// RFC 8032 section 7.1, test 1.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_8032_ed25519() {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(&array("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
    assert_eq!(key.verifying_key().to_bytes(), array("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
    let signature =
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    assert_eq!(key.sign(b"").to_bytes(), array::<64>(signature));
}

/// RFC 8439 section 2.8.2.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_8439_chacha20_poly1305() {
    let key: [u8; 32] = array("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce: [u8; 12] = array("070000004041424344454647");
    let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let sealed = ChaCha20Poly1305::new(&Key::from(key)).encrypt(&Nonce::from(nonce), Payload { msg: text, aad: &aad }).unwrap();
    assert_eq!(sealed[..16], array::<16>("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert_eq!(sealed[sealed.len() - 16..], array::<16>("1ae10b594f09e26a7e902ecbd0600691"));
}

/// RFC 5869 appendix A.1.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_5869_hkdf() {
    let salt = hex::decode("000102030405060708090a0b0c").unwrap();
    let mut out = [0; 42];
    hkdf::Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22]).expand(&hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap(), &mut out).unwrap();
    assert_eq!(out, array("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"));
}

/// RFC 4231, test cases 1 and 2.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_4231_hmac() {
    let mac = |key: &[u8], data: &[u8]| -> [u8; 32] {
        let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes().into()
    };
    assert_eq!(mac(&[0x0b; 20], b"Hi There"), array("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
    let second = array("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_eq!(mac(b"Jefe", b"what do ya want for nothing?"), second);
}

/// RFC 9180 appendix A.2.1: the recipient's key from its seed, and the first message opened with it.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn rfc_9180_hpke_base() {
    let key = KemKey::derive(&array("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df"));
    assert_eq!(*key.public(), array("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"));
    let enc = array("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
    let sealed = hex::decode("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28").unwrap();
    let opened = key.open(b"Ode on a Grecian Urn", b"Count-0", &enc, &sealed).unwrap();
    assert_eq!(opened.as_slice(), b"Beauty is truth, truth beauty");
}

/// BLAKE3's own, for the empty input.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn blake3_empty() {
    assert_eq!(*blake3::hash(b"").as_bytes(), array("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"));
}

/// Wycheproof: X25519. A shared secret of zeros is what a low-order point gives; HPKE refuses it.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn wycheproof_x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|g| &g.tests) {
        let (Ok(private), Ok(public)) = (<[u8; 32]>::try_from(&test.private_key[..]), <[u8; 32]>::try_from(&test.public_key[..])) else {
            continue;
        };
        assert_eq!(x25519_dalek::x25519(private, public)[..], test.shared_secret[..], "case {}", test.tc_id);
        run += 1;
    }
    assert!(run > 500, "{run}");
}

/// Wycheproof: Ed25519, verified strictly as everywhere here.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn wycheproof_ed25519() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut run = 0;
    for group in &set.test_groups {
        let key = <[u8; 32]>::try_from(&group.key.pk[..]).ok().and_then(|k| ed25519_dalek::VerifyingKey::from_bytes(&k).ok());
        for test in &group.tests {
            let signature = ed25519_dalek::Signature::from_slice(&test.sig);
            let holds = key.is_some_and(|k| signature.is_ok_and(|s| k.verify_strict(&test.msg, &s).is_ok()));
            assert_eq!(holds, !test.result.must_fail(), "case {}", test.tc_id);
            run += 1;
        }
    }
    assert!(run > 100, "{run}");
}

/// Wycheproof: ChaCha20-Poly1305.
#[test]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn wycheproof_chacha20_poly1305() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|g| &g.tests) {
        let Ok(nonce) = <[u8; 12]>::try_from(&test.nonce[..]) else { continue };
        let key = <[u8; 32]>::try_from(&test.key[..]).unwrap();
        let cipher = ChaCha20Poly1305::new(&Key::from(key));
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let opened = cipher.decrypt(&Nonce::from(nonce), Payload { msg: &sealed, aad: &test.aad });
        match opened {
            Ok(plain) => assert!(!test.result.must_fail() && plain == test.pt[..], "case {}", test.tc_id),
            Err(_) => assert!(test.result.must_fail(), "case {}", test.tc_id),
        }
        run += 1;
    }
    assert!(run > 200, "{run}");
}
