//! What a domain shows to strangers: rotating tags and the keys that belong to them. Whoever has the domain id recognises a tag;
//! to anybody else it is random bytes. Labels and slots: `docs/protocol.md` section 8.

use alloc::vec::Vec;
use core::time::Duration;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    seal::KemKey,
    sign::{SigningKey, labelled},
};
use crate::base::{DomainId, NodeId, Wall};

/// A node or place tag's length in bytes.
pub const TAG: usize = 16;
/// The places a domain has per slot.
pub const PLACES: u8 = 8;
/// How long a tag is in use.
pub const SLOT: Duration = Duration::from_secs(6 * 3600);
/// So long before and after the turn of a slot both slots are valid.
pub const TURN: Duration = Duration::from_secs(1800);

/// The slots valid at a moment: the current one, then, around a turn, the one on its other side.
#[must_use]
pub fn slots(now: Wall) -> Vec<u64> {
    let (slot, turn) = (SLOT.as_secs() * 1000, TURN.as_secs() * 1000);
    let (current, into) = (now.0 / slot, now.0 % slot);
    let other = if into < turn { current.checked_sub(1) } else { (slot - into <= turn).then_some(current + 1) };
    [Some(current), other].into_iter().flatten().collect()
}

/// The tag by which those who know `domain` recognise `node` in `slot`.
#[must_use]
pub fn node_tag(domain: &DomainId, node: &NodeId, slot: u64) -> [u8; TAG] {
    cut(keyed(domain, &[b"peerage/1/node-tag", node.as_bytes(), &slot.to_be_bytes()]))
}

/// The domain's `i`-th place in `slot`, `i` below [`PLACES`].
#[must_use]
pub fn place_tag(domain: &DomainId, slot: u64, i: u8) -> [u8; TAG] {
    cut(keyed(domain, &[b"peerage/1/place", &slot.to_be_bytes(), &[i]]))
}

/// What stands for `domain` in the frames between two nodes, whichever of them sends.
#[must_use]
pub fn pair_tag(domain: &DomainId, a: &NodeId, b: &NodeId) -> [u8; 8] {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    cut(keyed(domain, &[b"peerage/1/pair-tag", low.as_bytes(), high.as_bytes()]))
}

/// The key to which requests for a domain are sealed. Every member derives it from the domain secret; its public half is in
/// invitation links and in the genesis, so that it cannot depend on the domain id, which is the genesis' hash.
#[must_use]
pub fn rendezvous_key(secret: &[u8; 32]) -> KemKey {
    KemKey::derive(&derive(&DomainId::from_bytes([0; 32]), secret, "peerage/1/rendezvous", &[]))
}

/// The key that signs a domain's records in the places of `slot`, so that knowing the domain id is not enough to put one there.
#[must_use]
pub fn slot_key(domain: &DomainId, secret: &[u8; 32], slot: u64) -> SigningKey {
    SigningKey::from_seed(&derive(domain, secret, "peerage/1/slot-sign", &slot.to_be_bytes()))
}

fn derive(domain: &DomainId, secret: &[u8; 32], label: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(domain.as_bytes()), secret).expand(&labelled(label, domain, context), &mut out[..]);
    // invariant: 32 bytes are within HKDF's 255 blocks.
    expanded.expect("32 bytes can be expanded");
    out
}

fn keyed(domain: &DomainId, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(domain.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn cut<const N: usize>(hash: [u8; 32]) -> [u8; N] {
    core::array::from_fn(|i| hash[i % 32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    const DOMAIN: DomainId = DomainId::from_bytes([1; 32]);

    #[test]
    fn around_a_turn_two_slots_hold() {
        let slot = SLOT.as_secs() * 1000;
        let turn = Wall(slot * 1000);
        assert_eq!(slots(Wall(turn.0 + slot / 2)), [1000]);
        assert_eq!(slots(turn), [1000, 999]);
        assert_eq!(slots(turn.before(Duration::from_millis(1))), [999, 1000]);
        assert_eq!(slots(turn.before(TURN)), [999, 1000]);
        assert_eq!(slots(turn.before(TURN + Duration::from_millis(1))), [999]);
        assert_eq!(slots(turn.after(TURN)), [1000]);
        assert_eq!(slots(Wall(0)), [0]);
    }

    #[test]
    fn tags_differ_in_everything_they_depend_on() {
        let (a, b) = (NodeId::from_public_key([1; 32]), NodeId::from_public_key([2; 32]));
        let mut tags: BTreeSet<[u8; 16]> = (0..PLACES).map(|i| place_tag(&DOMAIN, 5, i)).collect();
        tags.extend([place_tag(&DOMAIN, 6, 0), place_tag(&DomainId::from_bytes([2; 32]), 5, 0)]);
        tags.extend([node_tag(&DOMAIN, &a, 5), node_tag(&DOMAIN, &b, 5), node_tag(&DOMAIN, &a, 6)]);
        assert_eq!(tags.len(), 13);
        assert_eq!(pair_tag(&DOMAIN, &a, &b), pair_tag(&DOMAIN, &b, &a));
        assert_ne!(pair_tag(&DOMAIN, &a, &b), pair_tag(&DOMAIN, &a, &a));
    }

    #[test]
    fn keys_need_the_secret() {
        let publics: BTreeSet<[u8; 32]> = [
            *rendezvous_key(&[1; 32]).public(),
            *rendezvous_key(&[2; 32]).public(),
            slot_key(&DomainId::from_bytes([2; 32]), &[1; 32], 1).public(),
            slot_key(&DOMAIN, &[1; 32], 1).public(),
            slot_key(&DOMAIN, &[1; 32], 2).public(),
            slot_key(&DOMAIN, &[2; 32], 1).public(),
        ]
        .into();
        assert_eq!(publics.len(), 6);
    }
}
