//! What members say to one another about who is alive.

use alloc::vec::Vec;

use crate::base::{DomainId, NodeId, Reject, Wall};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

const ACCUSE: &str = "peerage/1/suspect";
const ALIVE: &str = "peerage/1/alive";
/// Bytes of a signed accusation.
pub const ACCUSATION: usize = 32 + 32 + 8 + 8 + SIGNATURE;
/// Accusations in one message at most.
pub const LISTED: usize = 32;
/// Members named in one message at most.
pub const NAMED: usize = 32;
/// A member where it need not be told from all others there might be: the first bytes of its id. Whoever makes ids that begin alike
/// is asked about once more.
pub type Name = [u8; 8];
/// An encoded message at most, bytes.
pub const MAX_MESSAGE: usize = 1 + LISTED * ACCUSATION;

/// One message. Numbers (`nonce`) are chosen by whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Msg {
    /// Are you there? Answered with [`Msg::Pong`].
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Yes.
    Pong {
        /// From the question.
        nonce: u64,
    },
    /// Can you reach this member? Answered with [`Msg::Help`] at once, and with a [`Msg::Proof`] if it answers.
    Ask {
        /// Comes back in both answers.
        nonce: u64,
        /// Who is sought.
        target: NodeId,
    },
    /// Whether the helper has a link to the member sought.
    Help {
        /// From the question.
        nonce: u64,
        /// Has it?
        linked: bool,
    },
    /// From the helper to the member sought: somebody asks for you. Answered with [`Msg::Proof`].
    Prove {
        /// From the question.
        nonce: u64,
        /// Who asks.
        asker: NodeId,
    },
    /// The answer of the member sought, to the helper and from it to whoever asks.
    Proof {
        /// From the question.
        nonce: u64,
        /// Who asked.
        asker: NodeId,
        /// The member sought.
        target: NodeId,
        /// Its signature over asker and nonce.
        signature: [u8; SIGNATURE],
    },
    /// Signed [`Accusation`]s, at most [`LISTED`].
    Accuse(Vec<[u8; ACCUSATION]>),
    /// The same of members that the sender holds for down, said on a new link: no news to anybody but, maybe, the recipient.
    Down(Vec<[u8; ACCUSATION]>),
    /// Members that the sender holds for down. Answered with [`Msg::Why`] by whoever does not.
    Held {
        /// Whether the recipient is to name its own, too.
        answer: bool,
        /// Who, at most [`NAMED`].
        names: Vec<Name>,
    },
    /// What is said against these? Answered with [`Msg::Down`].
    Why(Vec<Name>),
}

/// What stands for a member in [`Msg::Held`] and [`Msg::Why`].
pub(super) fn name(node: &NodeId) -> Name {
    *node.as_bytes().first_chunk().unwrap_or(&[0; 8])
}

impl Msg {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Msg::Ping { nonce } => w.u8(1).u64(*nonce),
            Msg::Pong { nonce } => w.u8(2).u64(*nonce),
            Msg::Ask { nonce, target } => w.u8(3).u64(*nonce).raw(target.as_bytes()),
            Msg::Help { nonce, linked } => w.u8(4).u64(*nonce).u8(u8::from(*linked)),
            Msg::Prove { nonce, asker } => w.u8(5).u64(*nonce).raw(asker.as_bytes()),
            Msg::Proof { nonce, asker, target, signature } => {
                w.u8(6).u64(*nonce).raw(asker.as_bytes()).raw(target.as_bytes()).raw(signature)
            }
            Msg::Accuse(list) => w.u8(7).raw(&list.concat()),
            Msg::Down(list) => w.u8(8).raw(&list.concat()),
            Msg::Held { answer, names } => w.u8(9).u8(u8::from(*answer)).raw(&names.concat()),
            Msg::Why(list) => w.u8(10).raw(&list.concat()),
        };
        w.finish()
    }

    /// Takes a message apart.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`], [`Reject::UnknownKind`].
    pub fn decode(bytes: &[u8]) -> Result<Msg, Reject> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Reject::TooLarge);
        }
        let mut r = Reader::new(bytes);
        let node = |r: &mut Reader<'_>| r.array().map(NodeId::from_public_key);
        let msg = match r.u8()? {
            1 => Msg::Ping { nonce: r.u64()? },
            2 => Msg::Pong { nonce: r.u64()? },
            3 => Msg::Ask { nonce: r.u64()?, target: node(&mut r)? },
            4 => Msg::Help { nonce: r.u64()?, linked: flag(r.u8()?)? },
            5 => Msg::Prove { nonce: r.u64()?, asker: node(&mut r)? },
            6 => Msg::Proof { nonce: r.u64()?, asker: node(&mut r)?, target: node(&mut r)?, signature: r.array()? },
            kind @ (7 | 8) => match r.rest().as_chunks::<ACCUSATION>() {
                (list @ [_, ..], []) => (if kind == 7 { Msg::Accuse } else { Msg::Down })(list.to_vec()),
                _ => return Err(Reject::Malformed),
            },
            9 => Msg::Held { answer: flag(r.u8()?)?, names: named(r.rest())? },
            10 => Msg::Why(named(r.rest())?),
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        Ok(msg)
    }

    /// The answer of a member that is sought.
    pub(super) fn prove(key: &SigningKey, domain: &DomainId, asker: NodeId, nonce: u64) -> Msg {
        let signature = key.sign(ALIVE, domain, &alive(&asker, nonce));
        Msg::Proof { nonce, asker, target: key.node_id(), signature }
    }
}

fn flag(byte: u8) -> Result<bool, Reject> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Reject::Malformed),
    }
}

fn named(bytes: &[u8]) -> Result<Vec<Name>, Reject> {
    match bytes.as_chunks() {
        (list, []) if list.len() <= NAMED => Ok(list.to_vec()),
        _ => Err(Reject::Malformed),
    }
}

/// Whether a proof of life is the target's own.
///
/// # Errors
/// [`Reject::Forged`].
pub(crate) fn check_proof(
    domain: &DomainId,
    asker: &NodeId,
    target: &NodeId,
    nonce: u64,
    signature: &[u8; SIGNATURE],
) -> Result<(), Reject> {
    sign::verify(target.as_bytes(), ALIVE, domain, &alive(asker, nonce), signature)
}

fn alive(asker: &NodeId, nonce: u64) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(asker.as_bytes()).u64(nonce);
    w.finish()
}

/// What a member says of another that does not answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// Who says it.
    pub accuser: NodeId,
    /// Of whom.
    pub suspect: NodeId,
    /// The incarnation of the suspect's record; a higher one refutes this.
    pub incarnation: u64,
    /// When, by the accuser's clock.
    pub created: Wall,
}

impl Accusation {
    /// The signed bytes: `accuser 32 | suspect 32 | incarnation u64 | created u64 | signature 64`.
    #[must_use]
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> [u8; ACCUSATION] {
        let mut w = Writer::new();
        w.raw(self.accuser.as_bytes()).raw(self.suspect.as_bytes()).u64(self.incarnation).u64(self.created.0);
        let signature = key.sign(ACCUSE, domain, w.as_slice());
        w.raw(&signature);
        let mut out = [0; ACCUSATION];
        out.copy_from_slice(w.as_slice());
        out
    }

    /// Takes one apart without checking its signature.
    ///
    /// # Errors
    /// [`Reject::Malformed`].
    pub fn parse(bytes: &[u8; ACCUSATION]) -> Result<Accusation, Reject> {
        let mut r = Reader::new(bytes);
        let (accuser, suspect) = (NodeId::from_public_key(r.array()?), NodeId::from_public_key(r.array()?));
        Ok(Accusation { accuser, suspect, incarnation: r.u64()?, created: Wall(r.u64()?) })
    }

    /// Checks the accuser's signature.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn verify(&self, domain: &DomainId, bytes: &[u8; ACCUSATION]) -> Result<(), Reject> {
        let (content, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        sign::verify(self.accuser.as_bytes(), ACCUSE, domain, content, signature)
    }
}
