//! The member's side, one per domain: makes the domain findable at this node's relays and opens what arrives there.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;
use zeroize::Zeroizing;

use super::Effect;
use super::msg::{DomainRequest, DomainResponse, Msg, PUT, RequestId};
use super::record::{LIFETIME, Record};
use super::sealed::{self, RequestKind};
use crate::base::{DomainId, Map, Mono, NodeId, Now, Reject, Rng};
use crate::crypto::{seal::KemKey, sign::SigningKey, tag};

/// Records are put again after this time, well before they expire, and often enough to be there when a slot turns.
pub const RENEW: Duration = Duration::from_secs(10 * 60);
/// On a new link they are put again after this time, and then after four times as long each time, up to [`RENEW`]: nothing
/// confirms them, and a relay at its bounds drops them.
pub const REPEAT: Duration = Duration::from_secs(2);
/// How long the id of a request is refused.
pub const MEMORY: Duration = Duration::from_secs(60);
/// Ids remembered.
const SEEN: usize = 1_024;

/// A request opened.
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

/// Makes one domain findable.
pub struct Locator {
    domain: DomainId,
    secret: Zeroizing<[u8; 32]>,
    rendezvous: KemKey,
    rng: Rng,
    contacts: Vec<u8>,
    /// When records are put next, and the wait after that.
    relays: Map<NodeId, (Mono, Duration)>,
    seen: Map<RequestId, Mono>,
}

impl Locator {
    /// For a member of `domain`. `secret` is the domain secret.
    #[must_use]
    pub fn new(domain: DomainId, secret: &[u8; 32], rng: Rng) -> Locator {
        Locator {
            domain,
            secret: Zeroizing::new(*secret),
            rendezvous: tag::rendezvous_key(secret),
            rng,
            contacts: Vec::new(),
            relays: Map::new(),
            seen: Map::new(),
        }
    }

    /// Where this member can be reached, for the sealed part of its records; what is over 1,022 bytes is cut off.
    pub fn set_contacts(&mut self, contacts: Vec<u8>) {
        self.contacts = contacts;
    }

    /// How many records this member keeps at relays now.
    #[must_use]
    pub fn records(&self, now: Now) -> usize {
        self.relays.len() * tag::slots(now.wall).len() * usize::from(tag::PLACES)
    }

    /// Whether a request with this place tag is for this domain.
    #[must_use]
    pub fn is_ours(&self, now: Now, place: &[u8; tag::TAG]) -> bool {
        tag::slots(now.wall).into_iter().any(|slot| (0..tag::PLACES).any(|i| tag::place_tag(&self.domain, slot, i) == *place))
    }

    /// Opens a request that a relay handed over.
    ///
    /// # Errors
    /// [`Reject::Misdirected`] for another domain's tag, [`Reject::Stale`] for a request seen before, [`Reject::Limit`] with too
    /// many in a minute, and what [`sealed::open_request`] says. The relay then goes on to the next member; telling it so with
    /// [`DomainResponse::without`] saves it the wait.
    pub fn open(&mut self, now: Now, request: &DomainRequest) -> Result<Ask, Reject> {
        if !self.is_ours(now, &request.tag) {
            return Err(Reject::Misdirected);
        }
        if self.seen.contains_key(&request.id) {
            return Err(Reject::Stale);
        }
        if self.seen.len() >= SEEN {
            return Err(Reject::Limit);
        }
        let (kind, body) = sealed::open_request(&self.domain, &self.rendezvous, request)?;
        self.seen.insert(request.id, now.mono.after(MEMORY));
        Ok(Ask { request_id: request.id, reply_key: request.reply_key, kind, body })
    }

    /// Answers a request as the member with this identity. The caller puts the credential that proves it into the body.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] over [`sealed::ANSWER_BODY`], [`Reject::Forged`] for a weak reply key.
    pub fn respond(&mut self, identity: &SigningKey, ask: &Ask, body: &[u8]) -> Result<DomainResponse, Reject> {
        sealed::answer(&self.domain, &ask.request_id, &ask.reply_key, identity, body, &mut self.rng)
    }

    /// Leaves the domain's records at relays that are newly linked, and does what is due. `relays` are all those linked now. To be
    /// called when they change and when time is up; early and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, relays: &BTreeSet<NodeId>, out: &mut Vec<Effect>) {
        self.relays.retain(|relay, _| relays.contains(relay));
        let due = |relay: &&NodeId| self.relays.get(*relay).is_none_or(|(at, _)| now.mono >= *at);
        let due: Vec<NodeId> = relays.iter().filter(due).copied().collect();
        for relay in due {
            self.put(now, relay, out);
        }
        self.seen.retain(|_, until| *until > now.mono);
    }

    /// When [`Locator::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.relays.values().map(|(at, _)| at).chain(self.seen.values()).min().copied()
    }

    fn put(&mut self, now: Now, relay: NodeId, out: &mut Vec<Effect>) {
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
            out.push(Effect { to: relay, msg: Msg::Put(part.to_vec()) });
        }
    }
}

impl core::fmt::Debug for Locator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Locator({:?}, {} relays)", self.domain, self.relays.len())
    }
}
