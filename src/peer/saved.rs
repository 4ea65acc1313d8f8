//! What is kept of a domain from one process to the next, and the bytes it is kept in. `docs/protocol.md` section 14.
//!
//! Never kept: sender chains, prekeys, anything derived from them. A process that opens a domain again makes all of them anew,
//! so no stored state, however old, leads to a key or nonce that was used before.

use alloc::{format, string::String, vec::Vec};
use zeroize::Zeroizing;

use crate::base::{Code, DomainId, Error, Map, NodeId, Reject, limit};
use crate::crypto::sign::SigningKey;
use crate::proto::{
    directory::record,
    membership::{Membership, domain_id},
};
use crate::wire::bytes::{Reader, Writer};
use crate::wire::link::{RELAY_ADDRESS, RELAYS};

/// In front of every stored record.
const MAGIC: &[u8; 7] = b"peerage";
/// The version of the layout, after the magic.
const FORMAT: u8 = 1;
/// The checksum at the end, bytes. It tells damage; it protects against nobody.
const SUM: usize = 16;

/// A record among those of a stored domain. Each is written whole and replaced whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The genesis and the secrets.
    Keys = 1,
    /// The membership statements.
    Statements = 2,
    /// Whom to dial: relays, and members with their addresses.
    Contacts = 3,
    /// The shared state.
    State = 4,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Keys, Part::Statements, Part::Contacts, Part::State];

    /// Its name in a store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::Keys => "keys",
            Part::Statements => "statements",
            Part::Contacts => "contacts",
            Part::State => "state",
        }
    }
}

/// What is in a backup, in this order.
const BUNDLED: [Part; 3] = [Part::Keys, Part::Statements, Part::Contacts];

/// What must be kept to open a domain again.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SavedDomain {
    /// The signed genesis.
    pub genesis: Vec<u8>,
    /// The membership statements, as [`Membership::export`](crate::proto::membership::Membership::export) gives them; empty for
    /// none.
    pub statements: Vec<u8>,
    /// The shared state, as [`State::export`](crate::proto::state::State::export) gives it.
    pub state: Vec<u8>,
    /// The domain secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// The root key's seed, at the owner only.
    pub root: Option<Zeroizing<[u8; 32]>>,
    /// The secret of the invitation that this node came with: with it the node renews its credential.
    pub invitation: Option<Zeroizing<[u8; 32]>>,
    /// Relays through which members were reached, at most [`RELAYS`].
    pub relays: Vec<String>,
    /// Members that were online last, with their addresses; at most [`limit::CONTACTS`].
    pub contacts: Vec<(NodeId, Vec<String>)>,
}

impl core::fmt::Debug for SavedDomain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SavedDomain").field("owner", &self.root.is_some()).finish_non_exhaustive()
    }
}

impl SavedDomain {
    /// The domain's id.
    #[must_use]
    pub fn id(&self) -> DomainId {
        domain_id(&self.genesis)
    }

    /// The domain's name, if the genesis can be read.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        Membership::new(self.id(), &self.genesis).ok().map(|m| m.genesis().name.clone())
    }

    /// One part as a record for a store.
    #[must_use]
    pub fn encode(&self, part: Part) -> Zeroizing<Vec<u8>> {
        let body = match part {
            Part::Keys => self.encode_keys(),
            Part::Statements => Zeroizing::new(self.statements.clone()),
            Part::Contacts => Zeroizing::new(self.encode_contacts()),
            Part::State => Zeroizing::new(self.state.clone()),
        };
        encode_record(part as u8, self.id().as_bytes(), &body)
    }

    /// A domain from the records that a store has of it. Without the keys there is no domain; the other parts may be missing.
    ///
    /// # Errors
    /// [`Code::Storage`] if a record is damaged, another domain's, or of a newer version.
    pub fn decode(id: DomainId, records: &Map<Part, Zeroizing<Vec<u8>>>) -> Result<Option<SavedDomain>, Error> {
        let body = |part: Part| match records.get(&part) {
            Some(bytes) => decode_record(part as u8, id.as_bytes(), bytes).map(Some).map_err(|r| damaged(&id, part, r)),
            None => Ok(None),
        };
        let Some(keys) = body(Part::Keys)? else { return Ok(None) };
        let mut saved = SavedDomain::decode_keys(keys).map_err(|r| damaged(&id, Part::Keys, r))?;
        if saved.id() != id {
            return Err(damaged(&id, Part::Keys, Reject::Misdirected));
        }
        saved.statements = body(Part::Statements)?.map(|b| b.to_vec()).unwrap_or_default();
        saved.state = body(Part::State)?.map(|b| b.to_vec()).unwrap_or_default();
        if let Some(contacts) = records.get(&Part::Contacts) {
            saved.read_contacts(contacts)?;
        }
        Ok(Some(saved))
    }

    /// What an owner keeps elsewhere, as one text of bytes: everything but the shared state, which the others have.
    #[must_use]
    pub fn bundle(&self) -> Zeroizing<Vec<u8>> {
        let records = BUNDLED.map(|part| self.encode(part));
        let lengths = records.each_ref().map(|r| u32::try_from(r.len()).unwrap_or(u32::MAX).to_be_bytes());
        // Of its full size at once, so that no copy of a secret is left behind where it grew.
        let mut bundle = Zeroizing::new(Vec::with_capacity(records.iter().map(|r| 4 + r.len()).sum()));
        for (length, record) in lengths.iter().zip(&records) {
            bundle.extend_from_slice(length);
            bundle.extend_from_slice(record);
        }
        bundle
    }

    /// A domain from its [`SavedDomain::bundle`].
    ///
    /// # Errors
    /// [`Code::Storage`] if it is damaged or of a newer version.
    pub fn from_bundle(bundle: &[u8]) -> Result<SavedDomain, Error> {
        let damaged = || unreadable("what was backed up".into(), Reject::Malformed);
        let (mut records, mut rest, mut id) = (Map::new(), bundle, None);
        for part in BUNDLED {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| damaged())?;
            let (record, after) = after.split_at_checked(length).ok_or_else(damaged)?;
            let scope = record.get(MAGIC.len() + 2..).and_then(|r| r.first_chunk::<32>()).ok_or_else(damaged)?;
            id.get_or_insert(DomainId::from_bytes(*scope));
            records.insert(part, Zeroizing::new(record.to_vec()));
            rest = after;
        }
        let id = id.filter(|_| rest.is_empty()).ok_or_else(damaged)?;
        SavedDomain::decode(id, &records)?.ok_or_else(damaged)
    }

    /// Takes over the contacts in a record of this domain.
    ///
    /// # Errors
    /// As [`SavedDomain::decode`].
    pub fn read_contacts(&mut self, record: &[u8]) -> Result<(), Error> {
        let id = self.id();
        let body = decode_record(Part::Contacts as u8, id.as_bytes(), record);
        body.and_then(|body| self.decode_contacts(body)).map_err(|r| damaged(&id, Part::Contacts, r))
    }

    fn encode_keys(&self) -> Zeroizing<Vec<u8>> {
        let optional = |secret: &Option<Zeroizing<[u8; 32]>>| {
            Zeroizing::new(secret.as_ref().map_or([0; 33], |s| {
                let mut field = [1; 33];
                field[1..].copy_from_slice(&s[..]);
                field
            }))
        };
        let mut w = Writer::new();
        w.var(&self.genesis);
        // Of its full size at once, so that no copy of a secret is left behind where it grew.
        let (root, invitation) = (optional(&self.root), optional(&self.invitation));
        Zeroizing::new([&w.finish()[..], &self.secret[..], &root[..], &invitation[..]].concat())
    }

    fn decode_keys(body: &[u8]) -> Result<SavedDomain, Reject> {
        let mut r = Reader::new(body);
        let genesis = r.var(limit::STATEMENT)?.to_vec();
        let secret = Zeroizing::new(r.array()?);
        let mut optional = || {
            let (held, secret) = (r.u8()?, Zeroizing::new(r.array()?));
            match held {
                0 => Ok(None),
                1 => Ok(Some(secret)),
                _ => Err(Reject::Malformed),
            }
        };
        let (root, invitation) = (optional()?, optional()?);
        r.end()?;
        Ok(SavedDomain { genesis, secret, root, invitation, ..SavedDomain::default() })
    }

    fn encode_contacts(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let texts = |w: &mut Writer, list: &[String], most: usize, longest: usize| {
            let list: Vec<&String> = list.iter().filter(|t| t.len() <= longest).take(most).collect();
            w.u8(list.len() as u8);
            for text in list {
                w.var(text.as_bytes());
            }
        };
        texts(&mut w, &self.relays, RELAYS, RELAY_ADDRESS);
        let contacts = &self.contacts[..self.contacts.len().min(limit::CONTACTS)];
        w.u8(contacts.len() as u8);
        for (node, addresses) in contacts {
            w.raw(node.as_bytes());
            texts(&mut w, addresses, record::ADDRESSES, limit::ADDRESS);
        }
        w.finish()
    }

    fn decode_contacts(&mut self, body: &[u8]) -> Result<(), Reject> {
        let mut r = Reader::new(body);
        let texts = |r: &mut Reader<'_>, most: usize, longest: usize| -> Result<Vec<String>, Reject> {
            let count = usize::from(r.u8()?);
            if count > most {
                return Err(Reject::TooLarge);
            }
            (0..count).map(|_| r.text(longest)).collect()
        };
        self.relays = texts(&mut r, RELAYS, RELAY_ADDRESS)?;
        let count = usize::from(r.u8()?);
        if count > limit::CONTACTS {
            return Err(Reject::TooLarge);
        }
        for _ in 0..count {
            let node = NodeId::from_public_key(r.array()?);
            self.contacts.push((node, texts(&mut r, record::ADDRESSES, limit::ADDRESS)?));
        }
        r.end()
    }
}

/// The kind of record that an identity is kept in.
const IDENTITY: u8 = 0;

/// A node's identity as a record for a store.
#[must_use]
pub fn encode_identity(key: &SigningKey) -> Zeroizing<Vec<u8>> {
    encode_record(IDENTITY, &[0; 32], &key.seed()[..])
}

/// The identity in a record.
///
/// # Errors
/// [`Code::Storage`] if it is damaged or of a newer version.
pub fn decode_identity(bytes: &[u8]) -> Result<SigningKey, Error> {
    let body = decode_record(IDENTITY, &[0; 32], bytes).and_then(|b| <[u8; 32]>::try_from(b).map_err(|_| Reject::Malformed));
    body.map(|seed| SigningKey::from_seed(&Zeroizing::new(seed))).map_err(|r| unreadable("the stored identity".into(), r))
}

fn encode_record(kind: u8, scope: &[u8; 32], body: &[u8]) -> Zeroizing<Vec<u8>> {
    let head = [&MAGIC[..], &[FORMAT, kind], scope].concat();
    let mut hash = blake3::Hasher::new();
    hash.update(&head).update(body);
    let sum = hash.finalize();
    Zeroizing::new([&head[..], body, &sum.as_bytes()[..SUM]].concat())
}

fn decode_record<'a>(kind: u8, scope: &[u8; 32], bytes: &'a [u8]) -> Result<&'a [u8], Reject> {
    let mut r = Reader::new(bytes);
    if r.array()? != *MAGIC {
        return Err(Reject::Malformed);
    }
    if r.u8()? > FORMAT {
        return Err(Reject::Version);
    }
    let (rest, sum) = bytes.split_last_chunk::<SUM>().ok_or(Reject::Malformed)?;
    if blake3::hash(rest).as_bytes()[..SUM] != *sum {
        return Err(Reject::Forged);
    }
    if r.u8()? != kind || r.array::<32>()? != *scope {
        return Err(Reject::Misdirected);
    }
    let body = r.rest();
    body.len().checked_sub(SUM).map(|end| &body[..end]).ok_or(Reject::Malformed)
}

fn damaged(id: &DomainId, part: Part, reject: Reject) -> Error {
    unreadable(format!("the stored {} of domain {id}", part.name()), reject)
}

fn unreadable(what: String, reject: Reject) -> Error {
    let (how, hint) = match reject {
        Reject::Version => ("come from a newer version of this program", "Update this program."),
        _ => ("cannot be read: the record is damaged", "Nothing was changed. Restore it from a copy, or forget the domain and join again."),
    };
    Error::new(Code::Storage, format!("{what} {how}")).hint(hint)
}

#[cfg(test)]
mod tests;
