//! The member's side, one per domain: makes the domain findable at this node's relays and opens what arrives there.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;
use zeroize::Zeroizing;

use super::Send;
use super::msg::{DomainRequest, DomainResponse, Msg, PUT, RequestId, Status};
use super::record::{LIFETIME, Record};
use super::sealed::{self, RequestKind};
use crate::base::{DomainId, Mono, NodeId, Now, Reject, Rng};
use crate::crypto::{seal::KemKey, sign::SigningKey, tag};

/// Records are put again after this time, well before they expire, and often enough to be there when a slot turns.
pub const RENEW: Duration = Duration::from_secs(10 * 60);
/// On a new link they are put again after this time, and then after four times as long each time, up to [`RENEW`]: nothing
/// confirms them, and a relay at its bounds drops them.
pub const REPEAT: Duration = Duration::from_secs(2);
/// Requests opened and not answered yet.
pub const OPEN: usize = 64;
/// How long a request may wait for its answer, and how long its id is refused.
pub const MEMORY: Duration = Duration::from_secs(60);
/// Ids remembered.
const SEEN: usize = 1_024;

/// A request opened. [`Locator::respond`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its id.
    pub request_id: RequestId,
    /// The key its answer is sealed to.
    pub reply_key: [u8; 32],
    /// What is asked for.
    pub kind: RequestKind,
    /// The seeker's own words.
    pub body: Vec<u8>,
}

struct Open {
    from: NodeId,
    reply_key: [u8; 32],
}

/// Makes one domain findable.
pub struct Locator {
    domain: DomainId,
    secret: Zeroizing<[u8; 32]>,
    rendezvous: KemKey,
    identity: SigningKey,
    rng: Rng,
    contacts: Vec<u8>,
    /// When records are put next, and the wait after that.
    relays: BTreeMap<NodeId, (Mono, Duration)>,
    open: BTreeMap<RequestId, Open>,
    seen: BTreeMap<RequestId, Mono>,
}

impl Locator {
    /// For the member of `domain` with this identity. `secret` is the domain secret.
    #[must_use]
    pub fn new(domain: DomainId, secret: &[u8; 32], identity: SigningKey, rng: Rng) -> Locator {
        Locator {
            domain,
            secret: Zeroizing::new(*secret),
            rendezvous: tag::rendezvous_key(&domain, secret),
            identity,
            rng,
            contacts: Vec::new(),
            relays: BTreeMap::new(),
            open: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Where this member can be reached, for the sealed part of its records; what is over 1,022 bytes is cut off.
    pub fn set_contacts(&mut self, contacts: Vec<u8>) {
        self.contacts = contacts;
    }

    /// A relay of this node can be reached: leaves the domain's records there.
    pub fn relay_up(&mut self, now: Now, relay: NodeId, out: &mut Vec<Send>) {
        self.put(now, relay, out);
    }

    /// A relay cannot be reached any more.
    pub fn relay_down(&mut self, relay: NodeId) {
        self.relays.remove(&relay);
        self.open.retain(|_, open| open.from != relay);
    }

    /// How many records this member keeps at relays now.
    #[must_use]
    pub fn records(&self, now: Now) -> usize {
        self.relays.len() * tag::slots(now.wall).len() * usize::from(tag::PLACES)
    }

    /// Whether a request with this place tag is for this domain.
    #[must_use]
    pub fn owns(&self, now: Now, place: &[u8; tag::TAG]) -> bool {
        tag::slots(now.wall).into_iter().any(|slot| (0..tag::PLACES).any(|i| tag::place_tag(&self.domain, slot, i) == *place))
    }

    /// Opens a request that a relay handed over.
    ///
    /// # Errors
    /// [`Reject::Misdirected`] for another domain's tag, [`Reject::Stale`] for a request seen before, [`Reject::Limit`] with too
    /// many unanswered (the relay is told "busy"), and what [`sealed::open_request`] says (told "refused").
    pub fn handle(&mut self, now: Now, from: NodeId, request: &DomainRequest, out: &mut Vec<Send>) -> Result<Ask, Reject> {
        if !self.owns(now, &request.tag) {
            return Err(Reject::Misdirected);
        }
        if self.seen.contains_key(&request.id) {
            return Err(Reject::Stale);
        }
        let result = if self.open.len() >= OPEN || self.seen.len() >= SEEN {
            Err(Reject::Limit)
        } else {
            sealed::open_request(&self.domain, &self.rendezvous, request)
        };
        match result {
            Ok((kind, body)) => {
                self.seen.insert(request.id, now.mono.after(MEMORY));
                self.open.insert(request.id, Open { from, reply_key: request.reply_key });
                Ok(Ask { request_id: request.id, reply_key: request.reply_key, kind, body })
            }
            Err(reject) => {
                let status = if reject == Reject::Limit { Status::Busy } else { Status::Refused };
                out.push(Send { to: from, msg: Msg::Response(DomainResponse::without(request.id, status)) });
                Err(reject)
            }
        }
    }

    /// Answers a request: a body that proves itself (the caller puts the credential into it), or why there is none. No effect
    /// if the request is not open any more.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] over [`sealed::ANSWER_BODY`], [`Reject::Forged`] for a weak reply key; the relay is told "refused".
    pub fn respond(&mut self, id: RequestId, answer: Result<&[u8], Status>, out: &mut Vec<Send>) -> Result<(), Reject> {
        let Some(open) = self.open.remove(&id) else { return Ok(()) };
        let made = match answer {
            Ok(body) => sealed::answer(&self.domain, &id, &open.reply_key, &self.identity, body, &mut self.rng),
            Err(Status::Ok) => Err(Reject::Malformed),
            Err(status) => Ok(DomainResponse::without(id, status)),
        };
        let (response, result) = match made {
            Ok(response) => (response, Ok(())),
            Err(reject) => (DomainResponse::without(id, Status::Refused), Err(reject)),
        };
        out.push(Send { to: open.from, msg: Msg::Response(response) });
        result
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Send>) {
        let due: Vec<NodeId> = self.relays.iter().filter(|(_, (at, _))| now.mono >= *at).map(|(n, _)| *n).collect();
        for relay in due {
            self.put(now, relay, out);
        }
        let Locator { seen, open, .. } = self;
        seen.retain(|id, until| {
            let keep = *until > now.mono;
            if !keep {
                open.remove(id);
            }
            keep
        });
    }

    /// When [`Locator::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.relays.values().map(|(at, _)| at).chain(self.seen.values()).min().copied()
    }

    fn put(&mut self, now: Now, relay: NodeId, out: &mut Vec<Send>) {
        let wait = self.relays.get(&relay).map_or(REPEAT, |(_, wait)| *wait);
        self.relays.insert(relay, (now.mono.after(wait), (wait * 4).min(RENEW)));
        let expires = now.wall.after(LIFETIME);
        let mut records = Vec::new();
        for slot in tag::slots(now.wall) {
            let key = tag::slot_key(&self.domain, &self.secret, slot);
            for i in 0..tag::PLACES {
                let place = tag::place_tag(&self.domain, slot, i);
                let contacts = sealed::contacts(&self.domain, &self.rendezvous, &self.contacts, &mut self.rng);
                // invariant: the contacts are cut to fit and the key is a derived one, so that neither step can refuse.
                if let Ok(bytes) = contacts.and_then(|c| Record::sign(place, expires, &c, &key)) {
                    records.push(bytes.into());
                }
            }
        }
        for part in records.chunks(PUT) {
            out.push(Send { to: relay, msg: Msg::Put(part.to_vec()) });
        }
    }
}

impl core::fmt::Debug for Locator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Locator({:?}, {} relays)", self.domain, self.relays.len())
    }
}
