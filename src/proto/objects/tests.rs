use alloc::{vec, vec::Vec};

use super::*;
use crate::base::{Code, DomainId, Reject, Rng};
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
    let chunk = key.seal(0, true, &[7; 1_024]).unwrap();
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
    let odd = [
        Header { size: u64::MAX, ..header.clone() },
        Header { size: header.size + 1, ..header.clone() },
        Header { size: 0, ..header.clone() },
        Header { previous: [1; 32], ..header.clone() },
        Header { identity: Identity { version: 0, ..header.identity }, ..header.clone() },
        Header { identity: Identity { version: 2, ..header.identity }, ..header.clone() },
    ];
    assert!(odd.iter().all(|h| h.sign(&author()) == Err(Reject::Malformed)));
    let long = vec![0; SEALED_DESCRIPTION + 1];
    assert_eq!(Header { description: long, ..header.clone() }.sign(&author()), Err(Reject::TooLarge));
    assert_ne!(hash(&signed), hash(&signed[1..]));
}

#[test]
fn of_writers_that_replace_the_same_version_one_succeeds_and_the_chain_has_no_gap() {
    // A model: the list of all that was accepted.
    let mut rng = Rng::from_seed([8; 32]);
    let mut chain: Vec<(Header, [u8; 32])> = Vec::new();
    let mut seen: [Option<Head>; 4] = [None; 4];
    let (mut conflicts, mut absent) = (0, 0);
    for _ in 0..2_000 {
        let writer = rng.below(4) as usize;
        if rng.below(3) == 0 {
            seen[writer] = chain.last().map(|(h, hash)| Head { version: h.identity.version, hash: *hash, deleted: h.is_tombstone() });
            continue;
        }
        let (version, previous) = seen[writer].map_or((1, [0; 32]), |h| (h.version + 1, h.hash));
        let mut next = header();
        next.identity = Identity { version, salt: rng.bytes(), ..next.identity };
        next.previous = previous;
        if rng.below(4) == 0 {
            (next.size, next.root) = (0, [0; 32]);
        }
        let head = chain.last().map(|(h, hash)| Head { version: h.identity.version, hash: *hash, deleted: h.is_tombstone() });
        let deleted = chain.last().is_none_or(|(h, _)| h.is_tombstone());
        match follows(head.as_ref(), &next) {
            Ok(()) => {
                assert_eq!((seen[writer], next.is_tombstone() && deleted), (head, false));
                chain.push((next.clone(), hash(&next.sign(&author()).unwrap())));
            }
            Err(Code::Conflict) => {
                assert_ne!(seen[writer], head);
                conflicts += 1;
            }
            Err(code) => {
                assert_eq!((code, next.is_tombstone() && deleted), (Code::NoObject, true));
                absent += 1;
            }
        }
    }
    assert!(chain.len() > 100 && conflicts > 100 && absent > 5, "{} {conflicts} {absent}", chain.len());
    assert!(chain.iter().zip(1..).all(|((h, _), n)| h.identity.version == n));
    assert!(chain.windows(2).all(|pair| pair[1].0.previous == pair[0].1));
}
