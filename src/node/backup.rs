//! An owner's backup: a file sealed under a passphrase, and the root key as words to write down. `docs/protocol.md` section 14.

use std::num::NonZeroU32;

use bip39::Mnemonic;
use ring::{aead, pbkdf2};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::base::{Code, Error};
use crate::peer::SavedDomain;
use crate::platform::native;

/// In front of every backup, with the version of the layout.
const HEAD: &[u8; 8] = b"peerageB";
const FORMAT: u8 = 1;
/// Rounds of PBKDF2 with HMAC-SHA-256 (OWASP 2023), and how many of another program's are carried out.
const ROUNDS: u32 = 600_000;
const MOST_ROUNDS: u32 = 10_000_000;
const SALT: usize = 16;
/// Head, format, rounds, salt, nonce: what the cipher's tag covers besides the contents.
const HEADER: usize = 8 + 1 + 4 + SALT + aead::NONCE_LEN;
/// Statements are the largest part.
const LARGEST: usize = 64 << 20;
/// Characters of a passphrase.
const SHORTEST: usize = 8;

/// Whether a passphrase has enough characters to seal with.
///
/// # Errors
/// [`Code::BadArgument`] for less than 8.
pub fn long_enough(passphrase: &str) -> Result<(), Error> {
    if passphrase.chars().count() < SHORTEST {
        return Err(Error::new(Code::BadArgument, "a passphrase has at least 8 characters"));
    }
    Ok(())
}

/// Seals a domain under a passphrase.
///
/// # Errors
/// [`Code::BadArgument`] for a passphrase of less than 8 characters; [`Code::Unsupported`] without a secure random source.
pub fn seal(saved: &SavedDomain, passphrase: &str) -> Result<Vec<u8>, Error> {
    long_enough(passphrase)?;
    let random = native::entropy()?.bytes::<{ SALT + aead::NONCE_LEN }>();
    let mut file = [&HEAD[..], &[FORMAT], &ROUNDS.to_be_bytes(), &random].concat();
    let (salt, nonce) = random.split_at(SALT);
    let (key, nonce) = (key(passphrase, salt, ROUNDS)?, nonce_of(nonce)?);
    let mut contents = saved.bundle();
    let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::from(&file), &mut contents).map_err(|_| unreadable())?;
    file.extend_from_slice(&contents);
    file.extend_from_slice(tag.as_ref());
    Ok(file)
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`Code::Forbidden`] for a wrong passphrase or a file that was changed, [`Code::Malformed`] for what is no backup,
/// [`Code::Storage`] for damage that the seal does not show.
pub fn open(file: &[u8], passphrase: &str) -> Result<SavedDomain, Error> {
    if file.len() > LARGEST || file.len() < HEADER || !file.starts_with(HEAD) {
        return Err(Error::new(Code::Malformed, "this is no backup of a domain"));
    }
    if file.get(8) != Some(&FORMAT) {
        return Err(Error::new(Code::Malformed, "this backup comes from a newer version of this program").hint("Update this program."));
    }
    let (header, contents) = file.split_at(HEADER);
    let rounds = header.get(9..13).and_then(|r| r.first_chunk()).map_or(0, |r| u32::from_be_bytes(*r));
    if rounds > MOST_ROUNDS {
        return Err(Error::new(Code::Malformed, "this is no backup of a domain"));
    }
    let (salt, nonce) = header.split_at(13).1.split_at(SALT);
    let (key, nonce) = (key(passphrase, salt, rounds)?, nonce_of(nonce)?);
    let mut contents = Zeroizing::new(contents.to_vec());
    let bundle = key.open_in_place(nonce, aead::Aad::from(header), &mut contents).map_err(|_| unreadable())?;
    SavedDomain::from_bundle(bundle)
}

/// The root key's seed as 24 words of BIP 39 in English.
#[must_use]
pub fn words(root: &[u8; 32]) -> Zeroizing<String> {
    // 32 bytes are one of the lengths there are.
    Zeroizing::new(Mnemonic::from_entropy(root).map(|m| m.to_string()).unwrap_or_default())
}

/// The seed that the words say; case and spaces do not matter.
///
/// # Errors
/// [`Code::BadArgument`] for anything but 24 words of the list whose checksum is right.
pub fn from_words(words: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
    let plain = Zeroizing::new(words.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" "));
    let wrong = |why: String| Error::new(Code::BadArgument, format!("these are not the 24 words of a root key: {why}"));
    let entropy = Zeroizing::new(Mnemonic::parse_normalized(&plain).map_err(|e| wrong(e.to_string()))?.to_entropy());
    let seed = <[u8; 32]>::try_from(entropy.as_slice()).map_err(|_| wrong("there are fewer".into()))?;
    Ok(Zeroizing::new(seed))
}

fn key(passphrase: &str, salt: &[u8], rounds: u32) -> Result<aead::LessSafeKey, Error> {
    let rounds = NonZeroU32::new(rounds).ok_or_else(unreadable)?;
    let passphrase = Zeroizing::new(passphrase.nfkc().collect::<String>());
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key[..]);
    Ok(aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &key[..]).map_err(|_| unreadable())?))
}

fn nonce_of(bytes: &[u8]) -> Result<aead::Nonce, Error> {
    aead::Nonce::try_assume_unique_for_key(bytes).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    Error::new(Code::Forbidden, "the backup does not open: the passphrase is another one, or the file was changed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Now;
    use crate::peer::found_domain;

    fn domain() -> SavedDomain {
        found_domain(&mut native::entropy().unwrap(), Now::default(), "yard", &[]).unwrap()
    }

    #[test]
    fn a_backup_opens_with_its_passphrase_only() {
        let saved = domain();
        let file = seal(&saved, "correct horse \u{212b}").unwrap();
        assert!(open(&file, "correct horse \u{c5}").unwrap() == saved, "whichever way a letter is typed");
        assert_eq!(open(&file, "correct horse").unwrap_err().code(), Code::Forbidden);
        assert_eq!(seal(&saved, "short").unwrap_err().code(), Code::BadArgument);
        for at in [8, 13, 20, 30, 50, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let code = open(&changed, "correct horse \u{c5}").unwrap_err().code();
            assert!(matches!(code, Code::Forbidden | Code::Malformed), "{at}: {code:?}");
        }
        for wrong in [&file[..40], b"peerage", &[], &[&file[..9], &[0xff; 4], &file[13..]].concat()] {
            assert_eq!(open(wrong, "correct horse").unwrap_err().code(), Code::Malformed);
        }
    }

    #[test]
    fn a_root_key_survives_as_words() {
        let root = domain().root.unwrap();
        let said = words(&root);
        assert_eq!(said.split(' ').count(), 24);
        assert_eq!(*from_words(&format!("  {}\n", said.to_uppercase().replace(' ', "  "))).unwrap(), *root);
        // From the test vectors of BIP 39.
        assert_eq!(*words(&[0; 32]), format!("{}art", "abandon ".repeat(23)));
        assert_eq!(*words(&[0xff; 32]), format!("{}vote", "zoo ".repeat(23)));
        for wrong in
            ["", "abandon abandon", &"abandon ".repeat(24), &said.replacen(' ', " xyzzy ", 1), &format!("{}about", "abandon ".repeat(11))]
        {
            assert_eq!(from_words(wrong).unwrap_err().code(), Code::BadArgument);
        }
    }
}
