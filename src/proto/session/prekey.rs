//! Prekey records: the X25519 key that key messages for one process are sealed to, signed by its member.

use alloc::vec::Vec;

use crate::base::{DomainId, NodeId, Reject, Wall};
use crate::crypto::{
    Role,
    sign::{self, SIGNATURE, SigningKey},
};
use crate::wire::bytes::{Reader, Writer};

const LABEL: &str = "peerage/1/prekey";

/// Names a prekey. The first half is the process, random at its birth; the second counts its prekeys.
pub type PrekeyId = [u8; 8];

/// A record, as its member signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prekey {
    /// Whose.
    pub member: NodeId,
    /// Its name.
    pub id: PrekeyId,
    /// The X25519 public key.
    pub spk: [u8; 32],
    /// The role the member claims; its credential decides.
    pub role: Role,
    /// Newer records of a member have higher ones.
    pub seq: u64,
    /// From when.
    pub created: Wall,
    /// Until when.
    pub expires: Wall,
}

impl Prekey {
    /// Signs the record.
    #[must_use]
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(self.member.as_bytes()).raw(&self.id).raw(&self.spk).u8(self.role.wire());
        w.u64(self.seq).u64(self.created.0).u64(self.expires.0);
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        w.finish()
    }

    /// Reads a record and checks its signature, not its dates.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Prekey, Reject> {
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(body);
        let record = Prekey {
            member: NodeId::from_public_key(r.array()?),
            id: r.array()?,
            spk: r.array()?,
            role: Role::parse(r.u8()?)?,
            seq: r.u64()?,
            created: Wall(r.u64()?),
            expires: Wall(r.u64()?),
        };
        r.end()?;
        sign::verify(record.member.as_bytes(), LABEL, domain, body, signature)?;
        Ok(record)
    }

    /// Whether two records are of one process.
    #[must_use]
    pub fn same_process(&self, other: &Prekey) -> bool {
        self.id[..4] == other.id[..4]
    }
}
