use alloc::vec;

use super::*;
use crate::base::{DomainId, Reject, Rng};
use crate::crypto::object::{Identity, SEALED_DESCRIPTION, StorageKey, tree};
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);

fn author() -> SigningKey {
    SigningKey::from_seed(&[5; 32])
}

fn storage(n: u8) -> StorageKey {
    StorageKey::generate(&mut Rng::from_seed([n; 32]))
}

fn header() -> Header {
    let identity = Identity { domain: DOMAIN, object: [1; 16], version: 1, generation: 2, author: author().node_id(), salt: [4; 32] };
    let key = storage(1).object(&identity);
    let chunk = key.seal(0, true, b"points").unwrap();
    Header {
        identity,
        commitment: *key.commitment(),
        previous: [0; 32],
        size: chunk.len() as u64,
        root: tree::root(&[tree::leaf(0, true, &chunk).unwrap()]).unwrap(),
        description: key.seal_description(b"bunny.ply").unwrap(),
    }
}

#[test]
fn a_header_comes_back_and_opens_under_its_storage_key_only() {
    let read = Header::verify(&DOMAIN, &header().sign(&author()).unwrap()).unwrap();
    assert_eq!(read, header());
    assert_eq!(read.key(&storage(1)).unwrap().open_description(&read.description).unwrap(), b"bunny.ply");
    assert_eq!(read.key(&storage(2)).unwrap_err(), Reject::Forged);
}

#[test]
fn a_header_is_its_authors_and_no_bit_of_it_can_change() {
    let header = header();
    let signed = header.sign(&author()).unwrap();
    for i in 0..signed.len() {
        let mut bad = signed.clone();
        bad[i] ^= 1;
        assert!(Header::verify(&DOMAIN, &bad).is_err(), "byte {i}");
        assert!(Header::verify(&DOMAIN, &signed[..i]).is_err());
    }
    assert_eq!(Header::verify(&DomainId::from_bytes([9; 32]), &signed), Err(Reject::Forged));
    assert!(Header::verify(&DOMAIN, &[&signed[..], &[0]].concat()).is_err());
    assert_eq!(header.sign(&SigningKey::from_seed(&[6; 32])), Err(Reject::Forbidden));
    assert_eq!(Header { size: u64::MAX, ..header.clone() }.sign(&author()), Err(Reject::TooLarge));
    let long = vec![0; SEALED_DESCRIPTION + 1];
    assert_eq!(Header { description: long, ..header.clone() }.sign(&author()), Err(Reject::TooLarge));
    assert_ne!(hash(&signed), hash(&signed[1..]));
}
