//! The stranger's side: finds a member of a domain through relays and hears its answer.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use super::Send;
use super::msg::{DomainResponse, Msg, RequestId, Status};
use super::sealed::{self, Answer, RequestKind};
use crate::base::{Code, DomainId, Mono, NodeId, Now, Reject, Rng};
use crate::crypto::{seal::KemKey, tag};

/// How long one request may take.
pub const TRY: Duration = Duration::from_secs(8);
/// The wait before the next request over a relay that had no answer; doubles up to eight times this.
pub const PAUSE: Duration = Duration::from_millis(500);
/// The whole search.
pub const DEADLINE: Duration = Duration::from_secs(45);

/// What the caller learns. After an answer the search stands still until [`Seeker::reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered. Whether it is a member is for the caller to check.
    Answered(Answer),
    /// The search is over: [`Code::NoRelay`] if no relay was ever reached, else [`Code::NoMember`].
    Failed(Code),
}

struct Try {
    relay: NodeId,
    reply: KemKey,
    until: Mono,
}

struct Relay {
    /// When the next request may go over it; none while one is under way.
    next: Option<Mono>,
    failures: u32,
}

/// A search for one member of one domain.
pub struct Seeker {
    domain: DomainId,
    rendezvous: [u8; 32],
    kind: RequestKind,
    body: Vec<u8>,
    rng: Rng,
    relays: BTreeMap<NodeId, Relay>,
    tries: BTreeMap<RequestId, Try>,
    /// The places tried in this round.
    visited: BTreeSet<u8>,
    attempt: u8,
    deadline: Mono,
    reached: bool,
    resting: bool,
    over: bool,
}

impl Seeker {
    /// A search. `rendezvous` is the public half from the invitation link.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] if the body is over [`sealed::REQUEST_BODY`].
    pub fn new(now: Now, domain: DomainId, rendezvous: [u8; 32], kind: RequestKind, body: Vec<u8>, rng: Rng) -> Result<Seeker, Reject> {
        if body.len() > sealed::REQUEST_BODY {
            return Err(Reject::TooLarge);
        }
        Ok(Seeker {
            domain,
            rendezvous,
            kind,
            body,
            rng,
            relays: BTreeMap::new(),
            tries: BTreeMap::new(),
            visited: BTreeSet::new(),
            attempt: 0,
            deadline: now.mono.after(DEADLINE),
            reached: false,
            resting: false,
            over: false,
        })
    }

    /// A relay can be reached: asks there.
    pub fn relay_up(&mut self, now: Now, relay: NodeId, out: &mut Vec<Send>) {
        self.reached = true;
        self.relays.entry(relay).or_insert(Relay { next: Some(now.mono), failures: 0 });
        self.ask(now, out);
    }

    /// A relay cannot be reached any more.
    pub fn relay_down(&mut self, relay: NodeId) {
        self.relays.remove(&relay);
        self.tries.retain(|_, t| t.relay != relay);
    }

    /// Whether a response with this id is for this search.
    #[must_use]
    pub fn expects(&self, id: &RequestId) -> bool {
        self.tries.contains_key(id)
    }

    /// A response that came over a relay.
    ///
    /// # Errors
    /// [`Reject::Stale`] if nobody waits for it, [`Reject::Misdirected`] from another relay than the one asked, and what
    /// [`sealed::open_answer`] says. An answer that does not hold leaves the request open: the true one may follow.
    pub fn handle(&mut self, now: Now, from: NodeId, response: &DomainResponse, out: &mut Vec<Send>) -> Result<Option<Outcome>, Reject> {
        let t = self.tries.get(&response.id).ok_or(Reject::Stale)?;
        if t.relay != from {
            return Err(Reject::Misdirected);
        }
        if response.status == Status::Ok {
            let answer = sealed::open_answer(&self.domain, &t.reply, response)?;
            self.end(now, response.id);
            if self.resting || self.over {
                return Ok(None);
            }
            self.resting = true;
            return Ok(Some(Outcome::Answered(answer)));
        }
        self.end(now, response.id);
        self.ask(now, out);
        Ok(None)
    }

    /// The answer was no use (no valid credential, or its member could not be reached): goes on.
    pub fn reject(&mut self, now: Now, out: &mut Vec<Send>) {
        self.resting = false;
        self.ask(now, out);
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Send>) -> Option<Outcome> {
        if self.over || self.resting {
            return None;
        }
        if now.mono >= self.deadline {
            self.over = true;
            self.tries.clear();
            return Some(Outcome::Failed(if self.reached { Code::NoMember } else { Code::NoRelay }));
        }
        let late: Vec<RequestId> = self.tries.iter().filter(|(_, t)| now.mono >= t.until).map(|(id, _)| *id).collect();
        for id in late {
            self.end(now, id);
        }
        self.ask(now, out);
        None
    }

    /// When [`Seeker::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.over || self.resting {
            return None;
        }
        let tries = self.tries.values().map(|t| t.until);
        tries.chain(self.relays.values().filter_map(|r| r.next)).chain([self.deadline]).min()
    }

    /// A request is over; its relay rests a while, longer each time.
    fn end(&mut self, now: Now, id: RequestId) {
        if let Some(t) = self.tries.remove(&id)
            && let Some(relay) = self.relays.get_mut(&t.relay)
        {
            relay.next = Some(now.mono.after(PAUSE * 2u32.pow(relay.failures.min(3))));
            relay.failures += 1;
        }
    }

    fn ask(&mut self, now: Now, out: &mut Vec<Send>) {
        if self.over || self.resting {
            return;
        }
        let ready: Vec<NodeId> = self.relays.iter().filter(|(_, r)| r.next.is_some_and(|at| now.mono >= at)).map(|(n, _)| *n).collect();
        for relay in ready {
            if let Some(r) = self.relays.get_mut(&relay) {
                r.next = None;
            }
            let place = self.place();
            let Some(slot) = tag::slots(now.wall).into_iter().next() else { continue };
            let reply = KemKey::generate(&mut self.rng);
            let tag = tag::place_tag(&self.domain, slot, place);
            let made = sealed::request(&self.domain, &self.rendezvous, tag, self.attempt, &reply, self.kind, &self.body, &mut self.rng);
            // A weak rendezvous key in a link: nothing can be asked, and the deadline says so.
            let Ok(request) = made else { continue };
            self.attempt = self.attempt.saturating_add(1);
            self.tries.insert(request.id, Try { relay, reply, until: now.mono.after(TRY) });
            out.push(Send { to: relay, msg: Msg::Request(request) });
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
        write!(f, "Seeker({:?}, {} relays, attempt {})", self.domain, self.relays.len(), self.attempt)
    }
}
