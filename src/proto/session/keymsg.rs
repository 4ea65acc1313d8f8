//! Key messages: a sender's current chain keys, sealed to one prekey of one member, signed by the sender.

use alloc::vec::Vec;
use zeroize::Zeroizing;

use super::prekey::PrekeyId;
use crate::base::{DomainId, NodeId, Reject, Rng, Wall};
use crate::crypto::{
    Class,
    chain::{ChainKey, Kid},
    seal::{self, ENC, KemKey, TAG},
    sign::{self, SIGNATURE, SigningKey, labelled},
};
use crate::wire::bytes::{Reader, Writer};

const VERSION: u8 = 1;
const SUITE: u8 = 1;
const TYPE: u8 = 1;
/// What the seal is bound to, besides the header.
const INFO: &str = "peerage/1/keydist";
/// What the signature covers.
const SIGNED: &str = "peerage/1/keymsg";

/// One class' chain in a key message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which class.
    pub class: Class,
    /// The chain.
    pub kid: Kid,
    /// The index of the key given.
    pub index: u32,
    /// The chain before it in this process; zeros for the first one.
    pub prev_kid: Kid,
    /// The first index of that chain that was not used.
    pub prev_final: u32,
}

/// Everything in a key message but the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The domain.
    pub domain: DomainId,
    /// Whose keys.
    pub sender: NodeId,
    /// For whom.
    pub recipient: NodeId,
    /// Which of the recipient's prekeys it is sealed to.
    pub prekey: PrekeyId,
    /// Counts the messages of one epoch, that is of one `msg_vk`, from 1.
    pub seq: u64,
    /// The public key that signs the epoch's messages.
    pub msg_vk: [u8; 32],
    /// The hash of the sender's view of revocations.
    pub view: [u8; 32],
    /// From when.
    pub created: Wall,
    /// Until when it may be taken.
    pub expires: Wall,
    /// Control, or control and data.
    pub entries: Vec<Entry>,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let flags = self.entries.iter().fold(0, |flags, e| flags | e.class.wire());
        let mut w = Writer::new();
        w.u8(VERSION).u8(SUITE).u8(TYPE).u8(flags).raw(self.domain.as_bytes());
        w.raw(self.sender.as_bytes()).raw(self.recipient.as_bytes()).raw(&self.prekey).u64(self.seq);
        w.raw(&self.msg_vk).raw(&self.view).u64(self.created.0).u64(self.expires.0);
        for e in &self.entries {
            w.raw(&e.kid).u32(e.index).raw(&e.prev_kid).u32(e.prev_final);
        }
        w.finish()
    }

    fn read(r: &mut Reader<'_>) -> Result<Header, Reject> {
        if (r.u8()?, r.u8()?) != (VERSION, SUITE) {
            return Err(Reject::Version);
        }
        let (kind, flags) = (r.u8()?, r.u8()?);
        if kind != TYPE || !matches!(flags, 1..=3) {
            return Err(Reject::Malformed);
        }
        let mut header = Header {
            domain: DomainId::from_bytes(r.array()?),
            sender: NodeId::from_public_key(r.array()?),
            recipient: NodeId::from_public_key(r.array()?),
            prekey: r.array()?,
            seq: r.u64()?,
            msg_vk: r.array()?,
            view: r.array()?,
            created: Wall(r.u64()?),
            expires: Wall(r.u64()?),
            entries: Vec::new(),
        };
        for class in Class::BOTH.into_iter().filter(|c| flags & c.wire() != 0) {
            header.entries.push(Entry { class, kid: r.array()?, index: r.u32()?, prev_kid: r.array()?, prev_final: r.u32()? });
        }
        Ok(header)
    }

    fn info(&self) -> Vec<u8> {
        labelled(INFO, &self.domain, &[&self.sender.as_bytes()[..], self.recipient.as_bytes(), &self.prekey].concat())
    }

    /// Seals one chain key per entry to the prekey `spk` and signs the whole.
    ///
    /// # Errors
    /// [`Reject::Forged`] for a low-order prekey.
    pub fn seal(&self, identity: &SigningKey, spk: &[u8; 32], keys: &[ChainKey], rng: &mut Rng) -> Result<Vec<u8>, Reject> {
        let mut out = self.encode();
        let plain = Zeroizing::new(keys.iter().flat_map(|k| k.as_bytes()).copied().collect::<Vec<u8>>());
        let (enc, ct) = seal::seal(spk, &self.info(), &out, &plain, rng)?;
        out.extend_from_slice(&enc);
        out.extend_from_slice(&ct);
        let signature = identity.sign(SIGNED, &self.domain, &out);
        out.extend_from_slice(&signature);
        Ok(out)
    }
}

/// A key message whose form and signature hold.
#[derive(Debug)]
pub struct KeyMessage<'a> {
    /// What it says.
    pub header: Header,
    aad: &'a [u8],
    enc: [u8; ENC],
    ciphertext: &'a [u8],
}

impl<'a> KeyMessage<'a> {
    /// Reads a key message and checks the sender's signature.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::Version`], [`Reject::Forged`].
    pub fn verify(bytes: &'a [u8]) -> Result<KeyMessage<'a>, Reject> {
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(body);
        let header = Header::read(&mut r)?;
        let aad = &body[..body.len() - r.remaining()];
        let enc = r.array()?;
        let ciphertext = r.rest();
        if ciphertext.len() != header.entries.len() * 32 + TAG {
            return Err(Reject::Malformed);
        }
        sign::verify(header.sender.as_bytes(), SIGNED, &header.domain, body, signature)?;
        Ok(KeyMessage { header, aad, enc, ciphertext })
    }

    /// Opens the seal: one chain key per entry.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn open(&self, prekey: &KemKey) -> Result<Vec<ChainKey>, Reject> {
        let plain = prekey.open(&self.header.info(), self.aad, &self.enc, self.ciphertext)?;
        let (keys, _) = plain.as_chunks::<32>();
        Ok(keys.iter().map(|k| ChainKey::from_bytes(*k)).collect())
    }
}
