//! What a node says of itself to nodes of other domains.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::NOWHERE;
use crate::base::{NodeId, Reject, Wall};
use crate::crypto::{
    sign::{self, SIGNATURE, SigningKey},
    tag::TAG,
};
use crate::wire::bytes::{Reader, Writer};

const LABEL: &str = "peerage/1/advert";
const FORMAT: u8 = 1;
/// A whole advert, signed, in bytes.
pub const ADVERT: usize = 1024;
/// Addresses in one advert.
pub const ADDRESSES: usize = 4;
/// Node tags in one advert, decoys included.
pub const TAGS: usize = 16;
/// Capabilities of the node itself in one advert.
pub const CAPABILITIES: usize = 8;
/// How far in the future an advert may be dated.
pub const SKEW: Duration = Duration::from_secs(120);

/// An advert, signed by its node. Of two, the one with the higher sequence wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAdvert {
    /// Whose.
    pub node: NodeId,
    /// Where it can be dialled (multiaddr text) and how much it prefers that, higher first; at most [`ADDRESSES`].
    pub addresses: Vec<(String, u8)>,
    /// What those who share a domain with it recognise it by, among decoys: none, 4, 8 or 16.
    pub tags: Vec<[u8; TAG]>,
    /// What the node does for anybody, such as `relay`; at most [`CAPABILITIES`] of at most 32 bytes.
    pub capabilities: Vec<String>,
    /// Rises with each advert of the node.
    pub sequence: u64,
    /// When it was signed.
    pub created: Wall,
    /// Until when it holds.
    pub expires: Wall,
}

impl NodeAdvert {
    /// The signed bytes.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] if a list or the whole is over its bound, [`Reject::Forbidden`] if `key` is not the node's.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Reject> {
        if key.node_id() != self.node {
            return Err(Reject::Forbidden);
        }
        let fits =
            self.addresses.len() <= ADDRESSES && matches!(self.tags.len(), 0 | 4 | 8 | 16) && self.capabilities.len() <= CAPABILITIES;
        if !fits || self.addresses.iter().any(|(a, _)| a.len() > ADVERT) || self.capabilities.iter().any(|c| c.len() > 32) {
            return Err(Reject::TooLarge);
        }
        let mut w = Writer::new();
        w.u8(FORMAT).raw(self.node.as_bytes()).u64(self.sequence).u64(self.created.0).u64(self.expires.0);
        w.u8(self.addresses.len() as u8);
        for (address, weight) in &self.addresses {
            w.var(address.as_bytes()).u8(*weight);
        }
        w.u8(self.tags.len() as u8);
        for tag in &self.tags {
            w.raw(tag);
        }
        w.u8(self.capabilities.len() as u8);
        for capability in &self.capabilities {
            w.var(capability.as_bytes());
        }
        let mut bytes = w.finish();
        bytes.extend_from_slice(&key.sign(LABEL, &NOWHERE, &bytes));
        if bytes.len() > ADVERT { Err(Reject::TooLarge) } else { Ok(bytes) }
    }

    /// Reads and verifies an advert.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], [`Reject::Malformed`], [`Reject::Version`], [`Reject::Expired`] (also more than [`SKEW`] in the
    /// future), [`Reject::Forged`].
    pub fn verify(bytes: &[u8], now: Wall) -> Result<NodeAdvert, Reject> {
        if bytes.len() > ADVERT {
            return Err(Reject::TooLarge);
        }
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let node = NodeId::from_public_key(r.array()?);
        let (sequence, created, expires) = (r.u64()?, Wall(r.u64()?), Wall(r.u64()?));
        let count = |r: &mut Reader<'_>, max: usize| Some(usize::from(r.u8()?)).filter(|n| *n <= max).ok_or(Reject::TooLarge);
        let addresses = (0..count(&mut r, ADDRESSES)?).map(|_| Ok((r.text(ADVERT)?, r.u8()?))).collect::<Result<_, _>>()?;
        let tags: Vec<[u8; TAG]> = (0..count(&mut r, TAGS)?).map(|_| r.array()).collect::<Result<_, _>>()?;
        let capabilities = (0..count(&mut r, CAPABILITIES)?).map(|_| r.text(32)).collect::<Result<_, _>>()?;
        r.end()?;
        if !matches!(tags.len(), 0 | 4 | 8 | 16) {
            return Err(Reject::Malformed);
        }
        if expires <= now || created > now.after(SKEW) {
            return Err(Reject::Expired);
        }
        sign::verify(node.as_bytes(), LABEL, &NOWHERE, message, signature)?;
        Ok(NodeAdvert { node, addresses, tags, capabilities, sequence, created, expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advert_round_trips_and_is_refused_when_old_early_altered_or_large() {
        let key = SigningKey::from_seed(&[1; 32]);
        let advert = NodeAdvert {
            node: key.node_id(),
            addresses: alloc::vec![("/ip4/1.2.3.4/tcp/1".into(), 9)],
            tags: alloc::vec![[3; 16]; 4],
            capabilities: alloc::vec!["relay".into()],
            sequence: 5,
            created: Wall(1_000_000),
            expires: Wall(2_000_000),
        };
        let bytes = advert.sign(&key).unwrap();
        assert_eq!(NodeAdvert::verify(&bytes, Wall(1_000_000)), Ok(advert.clone()));
        assert_eq!(NodeAdvert::verify(&bytes, Wall(2_000_000)), Err(Reject::Expired));
        assert_eq!(NodeAdvert::verify(&bytes, Wall(879_999)), Err(Reject::Expired));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(NodeAdvert::verify(&bad, Wall(1_000_000)).is_err(), "byte {i}");
            assert!(NodeAdvert::verify(&bytes[..i], Wall(1_000_000)).is_err(), "cut at {i}");
        }
        let with = |f: &dyn Fn(&mut NodeAdvert)| {
            let mut a = advert.clone();
            f(&mut a);
            a.sign(&key).unwrap_err()
        };
        assert_eq!(with(&|a| a.tags.push([1; 16])), Reject::TooLarge);
        assert_eq!(with(&|a| a.addresses = alloc::vec![("x".repeat(300), 1); 4]), Reject::TooLarge);
        assert_eq!(with(&|a| a.addresses = alloc::vec![("x".into(), 1); 5]), Reject::TooLarge);
        assert_eq!(with(&|a| a.node = NodeId::from_public_key([9; 32])), Reject::Forbidden);
    }
}
