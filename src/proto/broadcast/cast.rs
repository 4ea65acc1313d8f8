//! The message: what its origin signs, and how a replay is told.

use alloc::vec::Vec;

use crate::base::{DomainId, Map, NodeId, Now, Reject, Wall, limit};
use crate::crypto::sign::{self, SIGNATURE, SigningKey};
use crate::wire::bytes::{Reader, Writer};

const LABEL: &str = "peerage/1/cast";
/// What a cast carries at most, bytes: one payload of the channels.
pub const BODY: usize = limit::CHUNK + 256;
/// Numbers this far behind an origin's newest are not taken any more.
const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;

/// A message from one participant to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Who made it.
    pub origin: NodeId,
    /// Grows with every start of the origin's process.
    pub epoch: u64,
    /// Counts the casts of an epoch, from 1.
    pub seq: u64,
    /// The hash of the revocations the origin knew of: it is handed only to neighbours by those who know of them too.
    pub view: [u8; 32],
    /// When it was made, by the origin's clock.
    pub created: Wall,
    /// What it says, at most [`BODY`] bytes.
    pub body: Vec<u8>,
}

impl Cast {
    /// The signed bytes: `origin 32 | epoch u64 | seq u64 | view 32 | created u64 | body | signature 64`.
    #[must_use]
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(self.origin.as_bytes()).u64(self.epoch).u64(self.seq).raw(&self.view).u64(self.created.0).raw(&self.body);
        let signature = key.sign(LABEL, domain, w.as_slice());
        w.raw(&signature);
        w.finish()
    }

    /// Takes a cast apart without checking its signature.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Cast, Reject> {
        let (content, _) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(content);
        let (origin, epoch, seq) = (NodeId::from_public_key(r.array()?), r.u64()?, r.u64()?);
        let (view, created) = (r.array()?, Wall(r.u64()?));
        let body = r.rest();
        if body.len() > BODY {
            return Err(Reject::TooLarge);
        }
        if seq == 0 {
            return Err(Reject::Malformed);
        }
        Ok(Cast { origin, epoch, seq, view, created, body: body.to_vec() })
    }

    /// Checks the signature of the bytes this cast was parsed from.
    ///
    /// # Errors
    /// [`Reject::Forged`].
    pub fn verify(&self, domain: &DomainId, bytes: &[u8]) -> Result<(), Reject> {
        let (content, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        sign::verify(self.origin.as_bytes(), LABEL, domain, content, signature)
    }
}

struct Seen {
    epoch: u64,
    newest: u64,
    /// Bit `i` of the whole: `newest - i` was taken.
    bits: [u64; WORDS],
}

/// Which casts were taken: each at most once, for every origin.
#[derive(Default)]
pub struct Replays(Map<NodeId, Seen>);

impl Replays {
    /// Whether a cast may still be taken.
    ///
    /// # Errors
    /// [`Reject::Stale`] for one that was taken, or too old to tell; [`Reject::Expired`] for one made more than
    /// [`limit::CLOCK_SKEW`] from now; [`Reject::Limit`] when too many origins are known.
    pub fn check(&self, now: Now, cast: &Cast) -> Result<(), Reject> {
        if cast.created > now.wall.after(limit::CLOCK_SKEW) || cast.created < now.wall.before(limit::CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        match self.0.get(&cast.origin) {
            None if self.0.len() >= limit::RECORDS => Err(Reject::Limit),
            None => Ok(()),
            Some(seen) if cast.epoch != seen.epoch => {
                if cast.epoch > seen.epoch {
                    Ok(())
                } else {
                    Err(Reject::Stale)
                }
            }
            Some(seen) if cast.seq > seen.newest => Ok(()),
            Some(seen) => {
                let back = seen.newest - cast.seq;
                if back >= WINDOW || seen.bits[(back / 64) as usize] >> (back % 64) & 1 == 1 { Err(Reject::Stale) } else { Ok(()) }
            }
        }
    }

    /// Remembers a cast that [`Replays::check`] let pass and whose signature holds.
    pub fn take(&mut self, cast: &Cast) {
        let seen = self.0.entry(cast.origin).or_insert(Seen { epoch: cast.epoch, newest: 0, bits: [0; WORDS] });
        if cast.epoch > seen.epoch {
            *seen = Seen { epoch: cast.epoch, newest: 0, bits: [0; WORDS] };
        }
        if cast.seq > seen.newest {
            shift(&mut seen.bits, cast.seq - seen.newest);
            seen.newest = cast.seq;
        }
        let back = seen.newest - cast.seq;
        if back < WINDOW {
            seen.bits[(back / 64) as usize] |= 1 << (back % 64);
        }
    }

    /// Forgets an origin that is no member any more. Should it return, its epoch is a new one.
    pub fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }
}

/// Moves every bit `by` places up.
fn shift(bits: &mut [u64; WORDS], by: u64) {
    let (words, rest) = ((by / 64).min(WORDS as u64) as usize, by % 64);
    for i in (0..WORDS).rev() {
        let from = |back: usize| i.checked_sub(words + back).map_or(0, |j| bits[j]);
        bits[i] = if rest == 0 { from(0) } else { from(0) << rest | from(1) >> (64 - rest) };
    }
}

impl core::fmt::Debug for Replays {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Replays({} origins)", self.0.len())
    }
}
