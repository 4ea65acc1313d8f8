use alloc::{format, vec, vec::Vec};

use super::*;
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);

fn author() -> SigningKey {
    SigningKey::from_seed(&[5; 32])
}

fn identity() -> Identity {
    Identity { domain: DOMAIN, object: [1; 16], version: 1, generation: 2, author: author().node_id(), salt: [4; 32] }
}

fn storage(n: u8) -> StorageKey {
    StorageKey::generate(&mut Rng::from_seed([n; 32]))
}

/// An object of so many bytes: its plaintext chunks, filled up.
fn plain(length: u64) -> Vec<Vec<u8>> {
    let mut bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    bytes.resize(padded(length).unwrap() as usize, 0);
    bytes.chunks(CONTENT).map(<[u8]>::to_vec).collect()
}

fn sealed(key: &ObjectKey, length: u64) -> Vec<Vec<u8>> {
    let plain = plain(length);
    assert_eq!(plain.len() as u64, chunks(length).unwrap());
    plain.iter().enumerate().map(|(i, c)| key.seal(i as u64, i + 1 == plain.len(), c).unwrap()).collect()
}

#[test]
fn objects_of_any_size_come_back_and_their_root_is_the_hash_of_all_chunks() {
    let key = storage(1).object(&identity());
    for length in [0, 1, 5_000, CONTENT as u64 - 1, CONTENT as u64, CONTENT as u64 + 1, 3 * CONTENT as u64, 1_000_000] {
        let chunks = sealed(&key, length);
        assert!(chunks.iter().rev().skip(1).all(|c| c.len() == CHUNK));
        let leaves: Vec<_> = chunks.iter().enumerate().map(|(i, c)| tree::leaf(i as u64, chunks.len() == 1, c).unwrap()).collect();
        assert_eq!(tree::root(&leaves).unwrap(), *blake3::hash(&chunks.concat()).as_bytes(), "{length} bytes");
        let key = storage(1).read(&identity(), key.commitment()).unwrap();
        let opened: Vec<_> = chunks.iter().enumerate().map(|(i, c)| key.open(i as u64, i + 1 == chunks.len(), c).unwrap()).collect();
        assert_eq!(opened, plain(length));
    }
}

#[test]
fn every_number_of_chunks_has_the_root_of_the_whole() {
    let chunk = |i: usize, last: bool| vec![i as u8; if last { 1 + i * 97 } else { CHUNK }];
    for n in 1..=33 {
        let chunks: Vec<Vec<u8>> = (0..n).map(|i| chunk(i, i + 1 == n)).collect();
        let leaves: Vec<_> = chunks.iter().enumerate().map(|(i, c)| tree::leaf(i as u64, n == 1, c).unwrap()).collect();
        assert_eq!(tree::root(&leaves).unwrap(), *blake3::hash(&chunks.concat()).as_bytes(), "{n} chunks");
    }
    assert_eq!(tree::root(&[]), Err(Reject::Malformed));
    for (index, bytes) in [(0, 0), (0, CHUNK + 1), (u64::MAX, 1), (1 << 40, 1)] {
        assert_eq!(tree::leaf(index, false, &vec![0; bytes]), Err(Reject::Malformed));
    }
}

#[test]
fn a_chunk_opens_in_its_place_of_its_version_only() {
    let (storage, identity) = (storage(1), identity());
    let key = storage.object(&identity);
    let chunks = sealed(&key, 3 * CONTENT as u64 - 9);
    for (index, last) in [(0, false), (2, true), (1, true)] {
        assert_eq!(key.open(index, last, &chunks[1]), Err(Reject::Forged), "{index} {last}");
    }
    let others = [
        Identity { object: [2; 16], ..identity },
        Identity { version: 2, ..identity },
        Identity { generation: 3, ..identity },
        Identity { salt: [5; 32], ..identity },
        Identity { author: SigningKey::from_seed(&[6; 32]).node_id(), ..identity },
        Identity { domain: DomainId::from_bytes([9; 32]), ..identity },
    ];
    for other in others {
        assert_eq!(storage.object(&other).open(1, false, &chunks[1]), Err(Reject::Forged), "{other:?}");
    }
    for i in (0..CHUNK).step_by(997).chain(CHUNK - 16..CHUNK) {
        let mut bad = chunks[1].clone();
        bad[i] ^= 1;
        assert_eq!(key.open(1, false, &bad), Err(Reject::Forged), "byte {i}");
    }
    for short in [0, 10, 24, 39, CHUNK - 1] {
        assert_eq!(key.open(1, false, &chunks[1][..short]), Err(Reject::Forged));
    }
    assert_eq!(key.seal(0, false, &[0; CONTENT - 1]), Err(Reject::Malformed));
    assert_eq!(key.seal(0, true, &[0; CONTENT + 1]), Err(Reject::TooLarge));
}

#[test]
fn the_same_chunk_is_sealed_alike_and_a_changed_one_under_another_iv() {
    let key = storage(1).object(&identity());
    let (mut content, first) = (vec![7; CONTENT], key.seal(0, false, &[7; CONTENT]).unwrap());
    assert_eq!(key.seal(0, false, &content).unwrap(), first);
    content[CONTENT - 1] ^= 1;
    for other in
        [key.seal(0, false, &content).unwrap(), key.seal(1, false, &[7; CONTENT]).unwrap(), key.seal(0, true, &[7; CONTENT]).unwrap()]
    {
        assert_ne!(other[..24], first[..24]);
        assert_ne!(other[24..64], first[24..64]);
    }
}

#[test]
fn attack_30_an_object_opens_under_one_storage_key_only() {
    let (mine, other) = (storage(1), storage(2));
    let key = mine.object(&identity());
    assert_eq!(other.read(&identity(), key.commitment()).unwrap_err(), Reject::Forged);
    // Nor by a header that commits to the other: then it is no more what the first one reads.
    let forged = *other.object(&identity()).commitment();
    assert_eq!(mine.read(&identity(), &forged).unwrap_err(), Reject::Forged);
    assert_eq!(other.read(&identity(), &forged).unwrap().open(0, true, &sealed(&key, 10)[0]), Err(Reject::Forged));
}

#[test]
fn descriptions_come_back_and_nothing_else_opens_as_one() {
    let key = storage(1).object(&identity());
    for description in [&b""[..], b"bunny.ply", &[7; DESCRIPTION]] {
        let sealed = key.seal_description(description).unwrap();
        assert!(sealed.len() <= SEALED_DESCRIPTION);
        assert_eq!(key.open_description(&sealed).unwrap(), description);
        assert_eq!(key.open_description(&sealed[1..]), Err(Reject::Forged));
    }
    assert_eq!(key.seal_description(&[0; DESCRIPTION + 1]), Err(Reject::TooLarge));
    assert_eq!(key.open_description(&[]), Err(Reject::Forged));
    assert_eq!(key.open_description(&sealed(&key, 10)[0]), Err(Reject::Forged), "a chunk is no description");
}

#[test]
fn lengths_say_little_and_padding_costs_an_eighth_at_most() {
    let lengths: Vec<u64> = [0, 1, 1_023, 1_024, 1_025, 65_536, 1_000_000, 1_073_741_825].to_vec();
    let filled: Vec<u64> = lengths.iter().map(|l| padded(*l).unwrap()).collect();
    assert_eq!(filled, [1_024, 1_024, 1_024, 1_024, 1_088, 65_536, 1_015_808, 1_107_296_256]);
    assert!((1_024..2_000_000).step_by(731).all(|l| (l..=l + l / 8).contains(&padded(l).unwrap())));
    assert_eq!([padded(LARGEST + 1), chunks(LARGEST + 1)], [Err(Reject::TooLarge); 2]);
    assert!(lengths.iter().all(|l| is_sealed_size(padded(*l).unwrap() + chunks(*l).unwrap() * 40)));
    assert!([0, 1, 1_063, 1_065, 65_536 + 40, 1_000_000, u64::MAX].iter().all(|size| !is_sealed_size(*size)));
    let key = storage(1).object(&identity());
    let sizes: Vec<usize> = [0, 1, 200, 254, 255, DESCRIPTION].iter().map(|n| key.seal_description(&vec![1; *n]).unwrap().len()).collect();
    assert_eq!(sizes, [296, 296, 296, 296, 552, 4_392]);
}

#[test]
fn secrets_do_not_show() {
    let storage = storage(1);
    assert_eq!(format!("{storage:?} {:?}", storage.object(&identity())), "StorageKey ObjectKey");
}
