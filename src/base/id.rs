//! Identifiers, each a type of its own with strict parsing.

use alloc::{format, string::String, vec::Vec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use core::{fmt, str::FromStr};

use super::error::{Code, Error};

/// A node's identity: its Ed25519 public key. Shown as the libp2p `PeerId` of the same key (`12D3KooW…`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// The multihash "identity" of a protobuf-encoded Ed25519 public key: libp2p's `PeerId` (libp2p/specs peer-ids).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// Before every other in order; no node's id.
    pub const MIN: NodeId = NodeId([0; 32]);
    /// After every other in order; no node's id.
    pub const MAX: NodeId = NodeId([255; 32]);

    /// The id of the holder of this Ed25519 public key. Whether the bytes are a usable point is for the verifier to say.
    #[must_use]
    pub const fn from_public_key(key: [u8; 32]) -> NodeId {
        NodeId(key)
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 38 bytes of the libp2p `PeerId`.
    #[must_use]
    pub fn to_peer_id_bytes(&self) -> Vec<u8> {
        [&PEER_ID_PREFIX[..], &self.0].concat()
    }

    /// Reads the bytes of a libp2p `PeerId`; only Ed25519 keys are taken.
    ///
    /// # Errors
    /// [`Code::BadId`] for any other multihash or key type.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<NodeId, Error> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX[..]).and_then(|k| <[u8; 32]>::try_from(k).ok());
        key.map(NodeId).ok_or_else(|| Error::new(Code::BadId, "not the id of an Ed25519 key"))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self}");
        write!(f, "node:{}", &text[text.len().saturating_sub(6)..])
    }
}

impl FromStr for NodeId {
    type Err = Error;
    fn from_str(text: &str) -> Result<NodeId, Error> {
        if text.len() > 64 {
            return Err(Error::new(Code::BadId, "a node id has 52 characters"));
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| Error::new(Code::BadId, "a node id is base58 text like 12D3KooW…"))?;
        NodeId::from_peer_id_bytes(&bytes)
    }
}

/// A domain's identity: the hash of its signed genesis statement. Shown as 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId([u8; 32]);

impl DomainId {
    /// The domain with this hash.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> DomainId {
        DomainId(hash)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = format!("{self}");
        write!(f, "domain:{}", &text[..6])
    }
}

impl FromStr for DomainId {
    type Err = Error;
    fn from_str(text: &str) -> Result<DomainId, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
        bytes.map(DomainId).ok_or_else(|| Error::new(Code::BadId, "a domain id is 43 characters of base64url"))
    }
}

/// An invitation's name: its public signing key. Shown as 43 characters of base64url. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId([u8; 32]);

impl InvitationId {
    /// The invitation with this key.
    #[must_use]
    pub const fn from_bytes(key: [u8; 32]) -> InvitationId {
        InvitationId(key)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = format!("{self}");
        write!(f, "invitation:{}", &text[..6])
    }
}

impl FromStr for InvitationId {
    type Err = Error;
    fn from_str(text: &str) -> Result<InvitationId, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
        bytes.map(InvitationId).ok_or_else(|| Error::new(Code::BadId, "an invitation's id is 43 characters of base64url"))
    }
}

/// One connection to one node, numbered by the platform. Never used again after the link went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_round_trip_and_refuse_other_text() {
        let node = NodeId::from_public_key([7; 32]);
        assert!(node.to_string().starts_with("12D3KooW"));
        assert_eq!(node.to_string().parse::<NodeId>().unwrap(), node);
        let domain = DomainId::from_bytes([9; 32]);
        assert_eq!(domain.to_string().parse::<DomainId>().unwrap(), domain);
        for bad in ["", "12D3", "0OIl", &"1".repeat(100)] {
            assert_eq!(bad.parse::<NodeId>().unwrap_err().code(), Code::BadId);
            assert_eq!(bad.parse::<DomainId>().unwrap_err().code(), Code::BadId);
        }
    }
}
