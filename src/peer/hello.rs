//! The messages of the composite machine itself: how two members of a domain begin on a link. `docs/protocol.md` section 3.

use alloc::{string::String, vec::Vec};
use minicbor::{Decode, Encode, bytes::ByteVec};

use super::dialling::told;
use crate::base::{Code, DomainId, NodeId, Reject, Wall, limit};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::proto::membership::CHAIN;
use crate::wire::cbor;

const LABEL: &str = "peerage/1/hello";
const FIND: &str = "peerage/1/find";
/// Addresses in a [`Find`] or [`Found`], and their bytes together: with a chain they fit a request and an answer.
const ADDRESSES: (usize, usize) = (6, 1_536);

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
        bounded(&self.chain, &[])?;
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
        Code::named(&self.code)
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

/// What a member's sealed request says that looks for others.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Find {
    /// Who asks.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub node: [u8; 32],
    /// When, by its clock, in milliseconds of Unix time.
    #[n(1)]
    pub at: u64,
    /// Its credential and what that rests on.
    #[n(2)]
    pub chain: Vec<ByteVec>,
    /// Where it can be dialled.
    #[n(3)]
    pub addresses: Vec<String>,
    /// Its identity signature over time and addresses.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub proof: [u8; SIGNATURE],
}

impl Find {
    pub fn sign(key: &SigningKey, domain: &DomainId, now: Wall, chain: Vec<Vec<u8>>, addresses: &[String]) -> Find {
        let Found { chain, addresses } = Found::new(chain, addresses);
        let find = Find { node: key.public(), at: now.0, chain, addresses, proof: [0; SIGNATURE] };
        Find { proof: key.sign(FIND, domain, &find.input()), ..find }
    }

    /// Who asks. Whether that is a member is for the caller to check.
    pub fn verify(&self, domain: &DomainId, now: Wall) -> Result<NodeId, Reject> {
        bounded(&self.chain, &self.addresses)?;
        let skew = u64::try_from(limit::CLOCK_SKEW.as_millis()).unwrap_or(u64::MAX);
        if self.at.abs_diff(now.0) > skew {
            return Err(Reject::Expired);
        }
        sign::verify(&self.node, FIND, domain, &self.input(), &self.proof)?;
        Ok(NodeId::from_public_key(self.node))
    }

    fn input(&self) -> Vec<u8> {
        [&self.at.to_be_bytes()[..], &cbor::encode(&self.addresses)].concat()
    }
}

/// What the member that was reached answers to it; the answer's own signature says who that is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Found {
    /// Its credential and what that rests on.
    #[n(0)]
    pub chain: Vec<ByteVec>,
    /// Where it can be dialled.
    #[n(1)]
    pub addresses: Vec<String>,
}

impl Found {
    pub fn new(chain: Vec<Vec<u8>>, addresses: &[String]) -> Found {
        Found { chain: chain.into_iter().map(Into::into).collect(), addresses: told(addresses, ADDRESSES) }
    }

    pub fn check(&self) -> Result<(), Reject> {
        bounded(&self.chain, &self.addresses)
    }
}

fn bounded(chain: &[ByteVec], addresses: &[String]) -> Result<(), Reject> {
    let long = chain.len() > CHAIN || chain.iter().any(|s| s.len() > limit::STATEMENT);
    let wide = addresses.len() > ADDRESSES.0 || addresses.iter().map(String::len).sum::<usize>() > ADDRESSES.1;
    if long || wide { Err(Reject::TooLarge) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_search_holds_for_its_domain_time_and_addresses_only() {
        let key = SigningKey::from_seed(&[7; 32]);
        let (domain, now) = (DomainId::from_bytes([1; 32]), Wall(1_000_000_000));
        let find = Find::sign(&key, &domain, now, vec![vec![1, 2, 3]], &["/ip4/127.0.0.1/tcp/1".into(), "x".repeat(limit::ADDRESS + 1)]);
        assert_eq!(find.addresses.len(), 1, "what is too long stays out");
        assert_eq!(cbor::decode::<Find>(&cbor::encode(&find)).unwrap().verify(&domain, now), Ok(key.node_id()));
        assert_eq!(find.verify(&domain, now.after(limit::CLOCK_SKEW * 2)), Err(Reject::Expired));
        assert_eq!(find.verify(&domain, now.before(limit::CLOCK_SKEW * 2)), Err(Reject::Expired));
        assert_eq!(find.verify(&DomainId::from_bytes([2; 32]), now), Err(Reject::Forged));
        for change in [
            (|f: &mut Find| f.at += 1) as fn(&mut Find),
            |f| f.addresses[0].push('1'),
            |f| f.addresses.clear(),
            |f| f.node = SigningKey::from_seed(&[8; 32]).public(),
        ] {
            let mut find = find.clone();
            change(&mut find);
            assert_eq!(find.verify(&domain, now), Err(Reject::Forged));
        }
        let wide = Find { addresses: vec!["a".into(); 7], ..find.clone() };
        assert_eq!(wide.verify(&domain, now), Err(Reject::TooLarge));
        let heavy = Find { addresses: vec!["a".repeat(limit::ADDRESS); 4], ..find.clone() };
        assert_eq!(heavy.verify(&domain, now), Err(Reject::TooLarge));
        let long = Find { chain: vec![vec![0; limit::STATEMENT + 1].into()], ..find };
        assert_eq!(long.verify(&domain, now), Err(Reject::TooLarge));
    }
}
