//! The stranger's side: finds a member of a domain through relays and hears its answer.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::Effect;
use super::msg::{DomainResponse, Msg, RequestId, Status};
use super::sealed::{self, Answer, RequestKind};
use crate::base::{Code, DomainId, Map, Mono, NodeId, Now, Reject, Rng};
use crate::crypto::{seal::KemKey, tag};

/// How long one request may take.
pub const TRY: Duration = Duration::from_secs(8);
/// Nothing came for so long: another request follows over the same relay, while the answer to the first may still come.
pub const AGAIN: Duration = Duration::from_secs(3);
/// The wait before the next request over a relay that had no answer; doubles up to eight times this.
pub const PAUSE: Duration = Duration::from_millis(500);
/// The whole search.
pub const DEADLINE: Duration = Duration::from_secs(45);

/// What is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// The domain.
    pub domain: DomainId,
    /// The public half of its rendezvous key, from the invitation link.
    pub rendezvous: [u8; 32],
    /// What for.
    pub kind: RequestKind,
    /// The seeker's own words, at most [`sealed::REQUEST_BODY`] bytes.
    pub body: Vec<u8>,
}

struct Try {
    relay: NodeId,
    reply: KemKey,
    until: Mono,
}

struct Relay {
    /// When the next request goes over it.
    next: Mono,
    failures: u32,
}

/// A search for one member of one domain.
pub struct Seeker {
    seek: Seek,
    rng: Rng,
    relays: Map<NodeId, Relay>,
    tries: Map<RequestId, Try>,
    /// The places tried in this round.
    visited: BTreeSet<u8>,
    attempt: u8,
    deadline: Mono,
    reached: bool,
    failed: Option<Code>,
}

impl Seeker {
    /// A search. It goes on until it is dropped or [`Seeker::failed`] says why it ended.
    #[must_use]
    pub fn new(now: Now, seek: Seek, rng: Rng) -> Seeker {
        let failed = (seek.body.len() > sealed::REQUEST_BODY).then_some(Code::TooLarge);
        Seeker {
            seek,
            rng,
            relays: Map::new(),
            tries: Map::new(),
            visited: BTreeSet::new(),
            attempt: 0,
            deadline: now.mono.after(DEADLINE),
            reached: false,
            failed,
        }
    }

    /// Why the search ended: [`Code::NoRelay`] if no relay was ever reached, [`Code::NoMember`], or [`Code::TooLarge`].
    #[must_use]
    pub fn failed(&self) -> Option<Code> {
        self.failed
    }

    /// Whether a response with this id is for this search.
    #[must_use]
    pub fn expects(&self, id: &RequestId) -> bool {
        self.tries.contains_key(id)
    }

    /// A response that came over a relay. An answer says who made it; whether that is a member is for the caller to check, and
    /// unless the caller drops the search, it goes on after a pause: the answer may have been no use.
    ///
    /// # Errors
    /// [`Reject::Stale`] if nobody waits for it, [`Reject::Misdirected`] from another relay than the one asked, and what
    /// [`sealed::open_answer`] says. An answer that does not hold leaves the request open: the true one may follow.
    pub fn handle(&mut self, now: Now, from: NodeId, response: &DomainResponse) -> Result<Option<Answer>, Reject> {
        let t = self.tries.get(&response.id).ok_or(Reject::Stale)?;
        if t.relay != from {
            return Err(Reject::Misdirected);
        }
        let ok = response.status == Status::Ok;
        let answer = if ok { Some(sealed::open_answer(&self.seek.domain, &t.reply, response)?) } else { None };
        self.end(now, response.id);
        Ok(answer)
    }

    /// Asks at relays that are newly linked, and does what is due. `relays` are all those linked now. To be called when they
    /// change and when time is up; early and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, relays: &BTreeSet<NodeId>, out: &mut Vec<Effect>) {
        if self.failed.is_some() {
            return;
        }
        self.relays.retain(|relay, _| relays.contains(relay));
        self.tries.retain(|_, t| relays.contains(&t.relay));
        for relay in relays {
            self.reached = true;
            self.relays.entry(*relay).or_insert(Relay { next: now.mono, failures: 0 });
        }
        if now.mono >= self.deadline {
            self.tries.clear();
            self.failed = Some(if self.reached { Code::NoMember } else { Code::NoRelay });
            return;
        }
        let late: Vec<RequestId> = self.tries.iter().filter(|(_, t)| now.mono >= t.until).map(|(id, _)| *id).collect();
        for id in late {
            self.end(now, id);
        }
        self.ask(now, out);
    }

    /// When [`Seeker::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.failed.is_some() {
            return None;
        }
        let tries = self.tries.values().map(|t| t.until);
        tries.chain(self.relays.values().map(|r| r.next)).chain([self.deadline]).min()
    }

    /// A request is over; its relay rests a while, longer each time.
    fn end(&mut self, now: Now, id: RequestId) {
        if let Some(t) = self.tries.remove(&id)
            && let Some(relay) = self.relays.get_mut(&t.relay)
        {
            relay.next = now.mono.after(PAUSE * 2u32.pow(relay.failures.min(3)));
            relay.failures += 1;
        }
    }

    fn ask(&mut self, now: Now, out: &mut Vec<Effect>) {
        let ready: Vec<NodeId> = self.relays.iter().filter(|(_, r)| now.mono >= r.next).map(|(n, _)| *n).collect();
        for relay in ready {
            if let Some(r) = self.relays.get_mut(&relay) {
                r.next = now.mono.after(AGAIN);
            }
            let place = self.place();
            let Some(slot) = tag::slots(now.wall).into_iter().next() else { continue };
            let reply = KemKey::generate(&mut self.rng);
            let Seek { domain, rendezvous, kind, body } = &self.seek;
            let tag = tag::place_tag(domain, slot, place);
            let made = sealed::request(domain, rendezvous, tag, self.attempt, &reply, *kind, body, &mut self.rng);
            // A weak rendezvous key in a link: nothing can be asked, and the deadline says so.
            let Ok(request) = made else { continue };
            self.attempt = self.attempt.saturating_add(1);
            self.tries.insert(request.id, Try { relay, reply, until: now.mono.after(TRY) });
            out.push(Effect { to: relay, msg: Msg::Request(request) });
        }
    }

    /// A place not tried yet in this round, at random.
    fn place(&mut self) -> u8 {
        if self.visited.len() >= usize::from(tag::PLACES) {
            self.visited.clear();
        }
        let left: Vec<u8> = (0..tag::PLACES).filter(|i| !self.visited.contains(i)).collect();
        let pick = usize::try_from(self.rng.below(left.len() as u64)).unwrap_or(0);
        let place = left.get(pick).copied().unwrap_or(0);
        self.visited.insert(place);
        place
    }
}

impl core::fmt::Debug for Seeker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Seeker({:?}, {} relays, attempt {})", self.seek.domain, self.relays.len(), self.attempt)
    }
}
