//! Who and when, for the tests of this part.

use crate::base::{DomainId, Mono, NodeId, Now, Wall};
use crate::crypto::{Role, sign::SigningKey};

pub(super) const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);
pub(super) const TOPIC: u16 = 2;
pub(super) const P: Role = Role::Participant;
pub(super) const A: u8 = 1;
pub(super) const B: u8 = 2;
pub(super) const C: u8 = 3;

pub(super) fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1_000), wall: Wall(1_800_000_000_000 + seconds * 1_000) }
}

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub(super) fn id(n: u8) -> NodeId {
    key(n).node_id()
}
