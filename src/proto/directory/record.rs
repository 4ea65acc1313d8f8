//! A directory record: what a participant says of itself, signed by its identity, in a byte-exact encoding.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use super::addresses;
use crate::base::{DomainId, NodeId, Reject, Wall, limit};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

/// The label under a record's signature.
const LABEL: &str = "peerage/1/record";
/// The version of the encoding, its first byte.
const FORMAT: u8 = 2;
/// A participant's name, in bytes.
pub const NAME: usize = 64;
/// Addresses in one record.
pub const ADDRESSES: usize = 8;
/// Capabilities in one record.
pub const CAPABILITIES: usize = 32;
/// Attributes of one capability.
pub const ATTRIBUTES: usize = 32;
/// An attribute's key or a capability's name, in bytes.
pub const KEY: usize = 64;
/// An attribute's text, in bytes.
pub const TEXT: usize = 256;
/// The longest lease a record may claim.
pub const LEASE: Duration = Duration::from_secs(3_600);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any finite number.
    Number(f64),
    /// Text of at most [`TEXT`] bytes.
    Text(String),
}

/// Something a participant can do for others.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    /// What, such as `map/reconstruct`; 1 to [`KEY`] bytes.
    pub name: String,
    /// The version of its interface.
    pub version: u32,
    /// What distinguishes this supplier; at most [`ATTRIBUTES`].
    pub attributes: BTreeMap<String, Value>,
    /// How many tasks it takes at once.
    pub capacity: u32,
    /// How busy it is, 0 to 100 percent.
    pub load: u8,
}

impl Capability {
    /// An idle capability of capacity 1 without attributes.
    #[must_use]
    pub fn new(name: impl Into<String>, version: u32) -> Capability {
        Capability { name: name.into(), version, attributes: BTreeMap::new(), capacity: 1, load: 0 }
    }
}

/// What a participant says of its own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// Awake and reachable.
    Online,
    /// A hidden tab or a sleeping phone: slow to answer, back later.
    Suspended,
    /// Left the domain of its own will.
    Left,
}

/// The changeable part of a record: what the application chooses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// A name for people, at most [`NAME`] bytes.
    pub name: String,
    /// Where others can dial this node: multiaddr text, at most [`ADDRESSES`] of at most [`limit::ADDRESS`] bytes.
    pub addresses: Vec<String>,
    /// What it can do, at most [`CAPABILITIES`].
    pub capabilities: Vec<Capability>,
}

/// Which of two records of one node is newer: incarnation, then sequence, then a hash, so that even two records signed with
/// the same numbers are put in the same order everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The process: its start in Unix milliseconds, or more.
    pub incarnation: u64,
    /// Counts the records of one process.
    pub sequence: u64,
    /// The first eight bytes of the BLAKE3 hash of the signed bytes.
    pub hash: u64,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Whose.
    pub node: NodeId,
    /// The process: its start in Unix milliseconds, or more.
    pub incarnation: u64,
    /// Counts the records of one process.
    pub sequence: u64,
    /// When it was signed, by its owner's clock.
    pub created: Wall,
    /// How long it holds after it was received new; at most [`LEASE`].
    pub lease: Duration,
    /// The owner's state.
    pub presence: Presence,
    /// The rest.
    pub profile: Profile,
}

/// A record with the exact bytes that were signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    record: Record,
    bytes: Vec<u8>,
    version: Version,
}

impl Signed {
    /// Signs a record with its owner's identity.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] if a field or the whole is over its bound, [`Reject::Malformed`] for a number that is not finite or
    /// an empty capability name, [`Reject::Forbidden`] if `key` is not the key of `record.node`.
    pub fn sign(record: Record, key: &SigningKey, domain: &DomainId) -> Result<Signed, Reject> {
        if key.node_id() != record.node {
            return Err(Reject::Forbidden);
        }
        let mut bytes = encode(&record)?;
        bytes.extend_from_slice(&key.sign(LABEL, domain, &bytes));
        if bytes.len() > limit::RECORD {
            return Err(Reject::TooLarge);
        }
        Ok(Signed { version: version(&record, &bytes), record, bytes })
    }

    /// Reads a record without checking its signature: [`Signed::verify`] does, after the cheap reasons to refuse it.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] or [`Reject::Malformed`]; [`Reject::Version`] for another format.
    pub fn parse(bytes: &[u8]) -> Result<Signed, Reject> {
        if bytes.len() > limit::RECORD {
            return Err(Reject::TooLarge);
        }
        let record = decode(bytes)?;
        Ok(Signed { version: version(&record, bytes), record, bytes: bytes.to_vec() })
    }

    /// Checks the owner's signature.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn verify(&self, domain: &DomainId) -> Result<(), Reject> {
        let (message, signature) = self.bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        sign::verify(self.record.node.as_bytes(), LABEL, domain, message, signature)
    }

    /// What it says.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The signed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its place among the records of its node.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

fn version(record: &Record, bytes: &[u8]) -> Version {
    let hash = blake3::hash(bytes);
    let hash = hash.as_bytes().first_chunk::<8>().map_or(0, |h| u64::from_be_bytes(*h));
    Version { incarnation: record.incarnation, sequence: record.sequence, hash }
}

pub(super) fn put_text(w: &mut Writer, text: &str, max: usize) -> Result<(), Reject> {
    if text.len() > max {
        return Err(Reject::TooLarge);
    }
    w.var(text.as_bytes());
    Ok(())
}

pub(super) fn put_count(w: &mut Writer, count: usize, max: usize) -> Result<(), Reject> {
    match u8::try_from(count) {
        Ok(n) if count <= max => {
            w.u8(n);
            Ok(())
        }
        _ => Err(Reject::TooLarge),
    }
}

pub(super) fn put_value(w: &mut Writer, value: &Value) -> Result<(), Reject> {
    match value {
        Value::Bool(v) => _ = w.u8(0).u8(u8::from(*v)),
        Value::Int(v) => _ = w.u8(1).raw(&v.to_be_bytes()),
        Value::Number(v) if v.is_finite() => _ = w.u8(2).raw(&v.to_be_bytes()),
        Value::Number(_) => return Err(Reject::Malformed),
        Value::Text(v) => {
            w.u8(3);
            put_text(w, v, TEXT)?;
        }
    }
    Ok(())
}

fn encode(r: &Record) -> Result<Vec<u8>, Reject> {
    let lease = u32::try_from(r.lease.as_millis()).ok().filter(|_| r.lease <= LEASE).ok_or(Reject::TooLarge)?;
    let mut w = Writer::new();
    w.u8(FORMAT).raw(r.node.as_bytes()).u64(r.incarnation).u64(r.sequence).u64(r.created.0).u32(lease).u8(r.presence as u8);
    put_text(&mut w, &r.profile.name, NAME)?;
    addresses::put(&mut w, &r.node, &r.profile.addresses)?;
    put_count(&mut w, r.profile.capabilities.len(), CAPABILITIES)?;
    for c in &r.profile.capabilities {
        if c.name.is_empty() || c.load > 100 {
            return Err(Reject::Malformed);
        }
        put_text(&mut w, &c.name, KEY)?;
        w.u32(c.version).u32(c.capacity).u8(c.load);
        put_count(&mut w, c.attributes.len(), ATTRIBUTES)?;
        for (key, value) in &c.attributes {
            put_text(&mut w, key, KEY)?;
            put_value(&mut w, value)?;
        }
    }
    Ok(w.finish())
}

pub(super) fn count(r: &mut Reader<'_>, max: usize) -> Result<usize, Reject> {
    let n = usize::from(r.u8()?);
    if n > max { Err(Reject::TooLarge) } else { Ok(n) }
}

fn decode(bytes: &[u8]) -> Result<Record, Reject> {
    let (message, _) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
    let mut r = Reader::new(message);
    if r.u8()? != FORMAT {
        return Err(Reject::Version);
    }
    let node = NodeId::from_public_key(r.array()?);
    let (incarnation, sequence, created) = (r.u64()?, r.u64()?, Wall(r.u64()?));
    let lease = Duration::from_millis(u64::from(r.u32()?));
    if lease > LEASE {
        return Err(Reject::TooLarge);
    }
    let presence = match r.u8()? {
        0 => Presence::Online,
        1 => Presence::Suspended,
        2 => Presence::Left,
        _ => return Err(Reject::Malformed),
    };
    let name = r.text(NAME)?;
    let addresses = addresses::get(&mut r, &node)?;
    let capabilities = (0..count(&mut r, CAPABILITIES)?).map(|_| capability(&mut r)).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(Record { node, incarnation, sequence, created, lease, presence, profile: Profile { name, addresses, capabilities } })
}

pub(super) fn value(r: &mut Reader<'_>) -> Result<Value, Reject> {
    Ok(match r.u8()? {
        0 => match r.u8()? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            _ => return Err(Reject::Malformed),
        },
        1 => Value::Int(i64::from_be_bytes(r.array()?)),
        2 => Value::Number(Some(f64::from_be_bytes(r.array()?)).filter(|n| n.is_finite()).ok_or(Reject::Malformed)?),
        3 => Value::Text(r.text(TEXT)?),
        _ => return Err(Reject::Malformed),
    })
}

fn capability(r: &mut Reader<'_>) -> Result<Capability, Reject> {
    let name = r.text(KEY)?;
    let (version, capacity, load) = (r.u32()?, r.u32()?, r.u8()?);
    if name.is_empty() || load > 100 {
        return Err(Reject::Malformed);
    }
    let mut attributes = BTreeMap::new();
    for _ in 0..count(r, ATTRIBUTES)? {
        let key = r.text(KEY)?;
        // One encoding per record: keys rise.
        if attributes.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Reject::Malformed);
        }
        attributes.insert(key, value(r)?);
    }
    Ok(Capability { name, version, attributes, capacity, load })
}
