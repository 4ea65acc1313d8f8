//! A member that reaches no other member asks its relays for one: it came back and the addresses it kept are stale, or everybody
//! moved meanwhile. `docs/protocol.md` section 8, request kind `find`.
//!
//! One that is linked asks too, seldom: two halves of a domain that know nothing of each other find together so. A newcomer does soon and
//! more than once: whoever let it in may do harm, and be all that it hears of.

use alloc::{string::String, vec::Vec};
use core::time::Duration;
use minicbor::bytes::ByteVec;

use super::{
    Peer,
    domain::Domain,
    hello::{Find, Found},
};
use crate::base::{DomainId, Mono, NodeId, Now, Reject, limit};
use crate::proto::overlay::{Answer, DomainResponse, RequestKind, Seek, Seeker};
use crate::wire::cbor;

/// The wait after a search that one who reaches nobody made; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(4);
const PAUSE_MAX: Duration = Duration::from_secs(64);
/// How often one who reaches others asks, a quarter more or less.
const SELDOM: Duration = Duration::from_secs(15 * 60);
/// So many members a newcomer wants to hear of besides the one that let it in …
const SECOND_OPINIONS: usize = 2;
/// … and asks so often at most: there may be no others.
const ASKED: u32 = 8;
/// A search ends after this time.
const SEARCH: Duration = Duration::from_secs(12);
/// Who was asked leaves the first move to who asked.
const LATER: Duration = Duration::from_secs(2);

/// A domain's search for other members.
#[derive(Default)]
pub(super) struct Finder {
    search: Option<(Seeker, Mono)>,
    /// Not before this moment; `None` until the first look.
    next: Option<Mono>,
    searches: u32,
    lonely: bool,
    /// Of a newcomer: the members whose answers it had.
    opinions: Option<Vec<NodeId>>,
}

impl Peer {
    /// Looks whether some domain has a reason to ask, and goes on with what is under way.
    pub(super) fn find_members(&mut self, now: Now) {
        let relays = self.relay_links();
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        let mut effects = Vec::new();
        for id in ids {
            let seldom = SELDOM * 3 / 4 + Duration::from_millis(self.rng.below(450_000));
            let Some(domain) = self.domains.get_mut(&id).filter(|d| !d.joining && d.secret.is_some()) else { continue };
            let lonely = domain.is_lonely();
            if domain.spread.is_large() {
                // Links are few there, and a newcomer soon has some to others.
                domain.finder.opinions = None;
            }
            let finder = &mut domain.finder;
            if core::mem::replace(&mut finder.lonely, lonely) != lonely {
                (finder.search, finder.searches) = (None, 0);
                finder.next = Some(now.mono.after(if lonely { Duration::ZERO } else { finder.pause(seldom) }));
            }
            if finder.search.as_ref().is_some_and(|(seeker, end)| now.mono >= *end || seeker.failed().is_some()) {
                finder.rest(now, seldom);
            }
            let soon = now.mono.after(finder.pause(seldom));
            let next = *finder.next.get_or_insert(soon);
            if finder.search.is_none() && now.mono >= next && !relays.is_empty() {
                let seek = self.seek(now, id);
                let seeker = Seeker::new(now, seek, self.rng.fork("finder"));
                let Some(domain) = self.domains.get_mut(&id) else { continue };
                domain.finder.search = Some((seeker, now.mono.after(SEARCH)));
            }
            if let Some((seeker, _)) = self.domains.get_mut(&id).and_then(|d| d.finder.search.as_mut()) {
                seeker.on_timeout(now, &relays, &mut effects);
            }
        }
        self.overlay_effects(effects);
    }

    /// A relay is there that was not: who reaches nobody asks at once.
    pub(super) fn find_again(&mut self, now: Now) {
        for domain in self.domains.iter_mut().map(|(_, v)| v).filter(|d| d.is_lonely()) {
            (domain.finder.next, domain.finder.searches) = (Some(now.mono), 0);
        }
        self.find_members(now);
    }

    fn seek(&self, now: Now, id: DomainId) -> Seek {
        let membership = &self.domains[&id].membership;
        let find = Find::sign(&self.identity, &id, now.wall, membership.chain(now, &self.me), &self.addresses);
        Seek { domain: id, rendezvous: membership.genesis().rendezvous, kind: RequestKind::Find, body: cbor::encode(&find) }
    }

    /// Another member asks where somebody is.
    pub(super) fn found(&mut self, now: Now, id: DomainId, find: &Find) -> Result<Vec<u8>, Reject> {
        let node = find.verify(&id, now.wall)?;
        self.meet(now, id, node, (&find.chain, &find.addresses), LATER)?;
        let domain = self.domains.get(&id).ok_or(Reject::Misdirected)?;
        Ok(cbor::encode(&Found::new(domain.membership.chain(now, &self.me), &self.addresses)))
    }

    /// A response through a relay; false if no search waits for it.
    pub(super) fn find_response(&mut self, now: Now, from: NodeId, response: &DomainResponse) -> Result<bool, Reject> {
        for domain in self.domains.iter_mut().map(|(_, v)| v) {
            let Some((seeker, _)) = domain.finder.search.as_mut().filter(|(s, _)| s.expects(&response.id)) else { continue };
            if let Some(Answer { member, body }) = seeker.handle(now, from, response)? {
                let found: Found = cbor::decode(&body)?;
                found.check()?;
                let id = domain.id;
                let met = self.meet(now, id, member, (&found.chain, &found.addresses), Duration::ZERO);
                if let Some(domain) = self.domains.get_mut(&id) {
                    // An answer of the same one again, or of nobody in the domain, says nothing of the others.
                    if let Some(opinions) = domain.finder.opinions.as_mut().filter(|o| met.is_ok() && !o.contains(&member)) {
                        opinions.push(member);
                    }
                    domain.finder.rest(now, SELDOM);
                }
                met?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks that `node` is a member, and dials it after a wait if it is not linked then.
    fn meet(&mut self, now: Now, id: DomainId, node: NodeId, said: (&[ByteVec], &[String]), wait: Duration) -> Result<(), Reject> {
        let (chain, addresses) = said;
        for statement in chain {
            self.insert_from(now, id, node, statement)?;
        }
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        if domain.membership.member(now, &node).is_none() {
            return Err(Reject::Forbidden);
        }
        if node == self.me || domain.is_linked(&node) || addresses.is_empty() {
            return Ok(());
        }
        if domain.contacts.len() >= limit::CONTACTS {
            let first = domain.contacts.first().map(|(node, _)| *node);
            first.map(|node| domain.contacts.remove(&node));
        }
        domain.contacts.insert(node, addresses.to_vec());
        let dial = self.dials.entry(node).or_default();
        (dial.next, dial.failures) = (now.mono.after(wait), 0);
        self.dial_members(now);
        Ok(())
    }
}

impl Finder {
    /// Of a domain that was joined a moment ago.
    pub(super) fn of_newcomer() -> Finder {
        Finder { opinions: Some(Vec::new()), ..Finder::default() }
    }

    fn is_curious(&self) -> bool {
        self.searches < ASKED && self.opinions.as_ref().is_some_and(|o| o.len() < SECOND_OPINIONS)
    }

    fn pause(&self, seldom: Duration) -> Duration {
        if self.lonely || self.is_curious() { (PAUSE * 2u32.pow(self.searches.min(4))).min(PAUSE_MAX) } else { seldom }
    }

    fn rest(&mut self, now: Now, seldom: Duration) {
        let pause = self.pause(seldom);
        (self.search, self.next, self.searches) = (None, Some(now.mono.after(pause)), self.searches.saturating_add(1));
    }
}

impl Domain {
    fn is_lonely(&self) -> bool {
        !self.greetings.values().any(|g| g.done())
    }
}
