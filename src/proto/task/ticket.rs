//! What supplier and demander show each other before they begin.

use alloc::{string::String, vec::Vec};

use super::TaskId;
use super::machine::{CAPABILITY, Seat};
use crate::base::{DomainId, NodeId, Reject, Wall, limit};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

/// The label under its signature.
const LABEL: &str = "peerage/1/ticket";
const FORMAT: u8 = 1;

/// That a supplier and a demander are a pair for one attempt at a task. Signed by who paired them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Who paired them: a domain manager, or the demander where there is none.
    pub issuer: NodeId,
    /// Rises with every change of the manager: of two tickets for one seat the one of the higher term counts.
    pub term: u64,
    /// The task.
    pub task: TaskId,
    /// Which of the suppliers it asked for, and which attempt at finding that one.
    pub seat: Seat,
    /// Who asks.
    pub demander: NodeId,
    /// Who does it.
    pub supplier: NodeId,
    /// When it is too late to begin.
    pub until: Wall,
    /// What is to be done, 1 to [`CAPABILITY`] bytes.
    pub capability: String,
}

impl Ticket {
    /// Signs it: `format u8 | issuer 32 | term u64 | task 16 | place u16 | attempt u32 | demander 32 | supplier 32 | until u64 |
    /// length u16 | capability | Ed25519`.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] if `key` is not the issuer's, [`Reject::TooLarge`] or [`Reject::Malformed`] for the capability's length.
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> Result<Vec<u8>, Reject> {
        if key.node_id() != self.issuer {
            return Err(Reject::Forbidden);
        }
        match self.capability.len() {
            0 => return Err(Reject::Malformed),
            length if length > CAPABILITY => return Err(Reject::TooLarge),
            _ => {}
        }
        let mut w = Writer::new();
        w.u8(FORMAT).raw(self.issuer.as_bytes()).u64(self.term).raw(&self.task).u16(self.seat.place).u32(self.seat.attempt);
        w.raw(self.demander.as_bytes()).raw(self.supplier.as_bytes()).u64(self.until.0).var(self.capability.as_bytes());
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        Ok(w.finish())
    }

    /// Reads one and checks its signature. Whether the issuer may pair is for the caller to say, and [`Ticket::admits`] whom it is for.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`], [`Reject::Version`], [`Reject::Forged`].
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Ticket, Reject> {
        let (message, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(message);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let issuer = NodeId::from_public_key(r.array()?);
        let (term, task, seat) = (r.u64()?, r.array()?, Seat { place: r.u16()?, attempt: r.u32()? });
        let (demander, supplier) = (NodeId::from_public_key(r.array()?), NodeId::from_public_key(r.array()?));
        let (until, capability) = (Wall(r.u64()?), r.text(CAPABILITY)?);
        r.end()?;
        if capability.is_empty() {
            return Err(Reject::Malformed);
        }
        sign::verify(issuer.as_bytes(), LABEL, domain, message, signature)?;
        Ok(Ticket { issuer, term, task, seat, demander, supplier, until, capability })
    }

    /// Whether these two may begin this now.
    ///
    /// # Errors
    /// [`Reject::Misdirected`]: it is for others, or for something else. [`Reject::Stale`]: its time is over.
    pub fn admits(&self, now: Wall, demander: &NodeId, supplier: &NodeId, capability: &str) -> Result<(), Reject> {
        if self.demander != *demander || self.supplier != *supplier || self.capability != capability {
            return Err(Reject::Misdirected);
        }
        if self.until.after(limit::CLOCK_SKEW) < now { Err(Reject::Stale) } else { Ok(()) }
    }
}
