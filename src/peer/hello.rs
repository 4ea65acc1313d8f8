//! The messages of the composite machine itself: how two members of a domain begin on a link. `docs/protocol.md` section 3.

use alloc::{string::String, vec::Vec};
use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::base::{Code, DomainId, NodeId, Reject, limit};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::proto::membership::CHAIN;

const LABEL: &str = "peerage/1/hello";

/// First frame of a domain on a link, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hello {
    /// The sender's credential and the statements it rests on, genesis excepted.
    #[n(0)]
    pub chain: Vec<ByteVec>,
    /// The sender's current prekey record.
    #[n(1)]
    pub prekey: ByteVec,
    /// Random, so that no two proofs are alike.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// The sender's identity signature over both node ids, the nonce, the epoch and the prekey record.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub proof: [u8; SIGNATURE],
    /// Whether the sender has had the recipient's Hello on this link already.
    #[n(4)]
    pub answer: bool,
    /// When the sender's process opened the domain, by its own clock: links older than a higher one's were its last process's.
    #[n(5)]
    pub epoch: u64,
}

impl Hello {
    /// Puts the proof in.
    pub fn sign(mut self, key: &SigningKey, domain: &DomainId, to: &NodeId) -> Hello {
        self.proof = key.sign(LABEL, domain, &proof_input(&key.node_id(), to, &self.nonce, self.epoch, &self.prekey));
        self
    }

    /// Checks bounds and the proof: `from` is who the link says, `me` this node.
    pub fn verify(&self, domain: &DomainId, from: &NodeId, me: &NodeId) -> Result<(), Reject> {
        if self.chain.len() > CHAIN || self.chain.iter().any(|s| s.len() > limit::STATEMENT) {
            return Err(Reject::TooLarge);
        }
        sign::verify(from.as_bytes(), LABEL, domain, &proof_input(from, me, &self.nonce, self.epoch, &self.prekey), &self.proof)
    }
}

fn proof_input(from: &NodeId, to: &NodeId, nonce: &[u8; 16], epoch: u64, prekey: &[u8]) -> Vec<u8> {
    [&from.as_bytes()[..], to.as_bytes(), nonce, &epoch.to_be_bytes(), prekey].concat()
}

/// What a member gives another over the pairwise channel once both Hellos hold.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Welcome {
    /// The domain secret.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub secret: [u8; 32],
}

/// Key traffic between two linked members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Keys {
    /// A prekey record.
    #[n(0)]
    Prekey(#[n(0)] ByteVec),
    /// A key message.
    #[n(1)]
    Message(#[n(0)] ByteVec),
    /// The recipient's current keys are wanted: a frame under an unknown key arrived.
    #[n(2)]
    Request,
}

/// Says that something received was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Refuse {
    /// The code's text.
    #[n(0)]
    pub code: String,
}

impl Refuse {
    pub fn new(code: Code) -> Refuse {
        Refuse { code: code.as_str().into() }
    }

    pub fn code(&self) -> Option<Code> {
        Code::ALL.iter().copied().find(|c| c.as_str() == self.code)
    }
}

/// What a joiner's sealed request says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct JoinBody {
    /// The joiner's credential, signed with the invitation's key.
    #[n(0)]
    pub credential: ByteVec,
    /// The public half of the invitation's signing key, so that an unknown invitation can be told from a bad credential.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub invitation: [u8; 32],
    /// The joiner's name, for an issuer who has to decide; at most 64 bytes.
    #[n(2)]
    pub name: Option<String>,
}

/// What the member that was reached answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct JoinAnswer {
    /// The code of a refusal; absent when admitted.
    #[n(0)]
    pub refused: Option<String>,
    /// The signed genesis.
    #[n(1)]
    pub genesis: ByteVec,
    /// The answering member's chain and the invitation's, so that both credentials can be checked.
    #[n(2)]
    pub statements: Vec<ByteVec>,
    /// Whom to dial, the answering member first.
    #[n(3)]
    pub contacts: Vec<Contact>,
}

/// A member and where it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Contact {
    /// Its node id.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: [u8; 32],
    /// Its addresses.
    #[n(1)]
    pub addresses: Vec<String>,
}
