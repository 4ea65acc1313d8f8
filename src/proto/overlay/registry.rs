//! The relay's side: keeps the records of those linked to it and hands each request to one of them.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::Effect;
use super::msg::{DomainRequest, DomainResponse, Msg, RequestId, Status};
use super::record::{LIFETIME, Record};
use crate::base::{Mono, NodeId, Now, Reject};
use crate::crypto::tag::TAG;

/// Records under one place tag.
pub const PER_PLACE: usize = 64;
/// Signers with records under one place tag. Each may have [`PER_PLACE`] / [`SIGNERS`] whatever the others do.
pub const SIGNERS: usize = 4;
/// A signer that never brought an answer may be replaced by another one after this time.
pub const SIGNER_TRIAL: Duration = Duration::from_secs(60);
/// Records that one neighbour may have, in all places.
pub const PER_NEIGHBOUR: usize = 256;
/// Records in all.
pub const RECORDS: usize = 16_384;
/// Requests under way, in all and from one neighbour.
pub const IN_FLIGHT: (usize, usize) = (256, 32);
/// Messages per second from one neighbour, and how many at once.
pub const RATE: (u64, u64) = (10, 30);
/// How long a member has to answer before the next one is asked.
pub const TRY: Duration = Duration::from_secs(3);
/// How long a request is remembered, and its id refused.
pub const MEMORY: Duration = Duration::from_secs(60);
/// Ids remembered.
const SEEN: usize = 16_384;

struct Signer {
    since: Mono,
    answered: bool,
    /// Rises with each use of anybody: the lowest was used least recently.
    used: u64,
    /// Until when each is listed.
    members: BTreeMap<NodeId, Mono>,
}

type Place = BTreeMap<[u8; 32], Signer>;

struct Pending {
    previous: NodeId,
    request: DomainRequest,
    /// Whom it was handed to; the last one is being waited for.
    tried: Vec<(NodeId, [u8; 32])>,
    retry: Mono,
    busy: bool,
    until: Mono,
}

struct Bucket {
    millitokens: u64,
    at: Mono,
}

/// The records at one relay and the requests on their way through it.
#[derive(Default)]
pub struct Registry {
    places: BTreeMap<[u8; TAG], Place>,
    held: BTreeMap<NodeId, usize>,
    pending: BTreeMap<RequestId, Pending>,
    seen: BTreeSet<RequestId>,
    seen_order: VecDeque<(Mono, RequestId)>,
    buckets: BTreeMap<NodeId, Bucket>,
    uses: u64,
    /// When each member was used last, in any place.
    used: BTreeMap<NodeId, u64>,
    sweep: Mono,
}

impl Registry {
    /// A registry without records.
    #[must_use]
    pub fn new() -> Registry {
        Registry::default()
    }

    /// How many records are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.values().sum()
    }

    /// Whether no record is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The last link to a neighbour broke: its records go, its requests are forgotten, those it was to answer go to the next.
    pub fn disconnected(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        self.held.remove(&node);
        self.used.remove(&node);
        // The allowance of one that is gone is kept only while it still limits it: a new link is no new allowance.
        self.buckets.retain(|_, b| filled(b, now) < RATE.1 * 1000);
        self.places.retain(|_, place| {
            place.retain(|_, signer| {
                signer.members.remove(&node);
                !signer.members.is_empty()
            });
            !place.is_empty()
        });
        self.pending.retain(|_, p| p.previous != node);
        let waiting: Vec<RequestId> =
            self.pending.iter().filter(|(_, p)| p.tried.last().is_some_and(|(n, _)| *n == node)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.hand_on(now, id, out);
        }
    }

    /// A message from a neighbour, which counts as linked from then on until [`Registry::disconnected`].
    ///
    /// # Errors
    /// [`Reject::Limit`] over a bound (a request is then answered "busy"), [`Reject::Stale`] for a request id seen before or an
    /// answer nobody waits for, [`Reject::Expired`] for a request whose hops are used up (answered "refused"),
    /// [`Reject::Forbidden`] for an answer by a node that was not asked, and what [`Record::verify`] says.
    pub fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject> {
        match msg {
            Msg::Put(records) => {
                self.spend(now, from)?;
                let mut result = Ok(());
                for bytes in records {
                    result = result.and(Record::verify(&bytes, now.wall).and_then(|record| self.put(now, from, &record)));
                }
                result
            }
            Msg::Request(request) => self.request(now, from, request, out),
            Msg::Response(response) => self.response(now, from, response, out),
        }
    }

    /// Does what is due. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late: Vec<RequestId> = self.pending.iter().filter(|(_, p)| now.mono >= p.retry).map(|(id, _)| *id).collect();
        for id in late {
            self.hand_on(now, id, out);
        }
        while self.seen_order.front().is_some_and(|(until, _)| now.mono >= *until) {
            if let Some((_, id)) = self.seen_order.pop_front() {
                self.seen.remove(&id);
            }
        }
        if now.mono >= self.sweep {
            self.sweep = now.mono.after(MEMORY);
            let Registry { places, held, .. } = self;
            places.retain(|_, place| {
                place.retain(|_, signer| {
                    signer.members.retain(|node, until| {
                        let keep = *until > now.mono;
                        if !keep {
                            release(held, node);
                        }
                        keep
                    });
                    !signer.members.is_empty()
                });
                !place.is_empty()
            });
        }
    }

    /// When [`Registry::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let retry = self.pending.values().map(|p| p.retry).min();
        let seen = self.seen_order.front().map(|(until, _)| *until);
        let sweep = (!self.places.is_empty()).then_some(self.sweep);
        [retry, seen, sweep].into_iter().flatten().min()
    }

    fn spend(&mut self, now: Now, from: NodeId) -> Result<(), Reject> {
        let full = Bucket { millitokens: RATE.1 * 1000, at: now.mono };
        let bucket = self.buckets.entry(from).or_insert(full);
        bucket.millitokens = filled(bucket, now);
        bucket.at = now.mono;
        bucket.millitokens = bucket.millitokens.checked_sub(1000).ok_or(Reject::Limit)?;
        Ok(())
    }

    fn put(&mut self, now: Now, from: NodeId, record: &Record) -> Result<(), Reject> {
        let lasts = Duration::from_millis(record.expires.0.saturating_sub(now.wall.0)).min(LIFETIME);
        let until = now.mono.after(lasts);
        let place = self.places.get(&record.tag);
        if let Some((signer, _)) = place.and_then(|p| p.iter().find(|(_, s)| s.members.contains_key(&from))) {
            if *signer != record.signer {
                return Err(Reject::Limit); // One neighbour, one signer: a stranger cannot take every share by itself.
            }
        } else if self.held.get(&from).is_some_and(|n| *n >= PER_NEIGHBOUR) || self.len() >= RECORDS {
            return Err(Reject::Limit);
        } else if let Some(place) = place {
            let evicted = make_room(place, now, &record.signer)?;
            for (signer, node) in evicted {
                self.unlist(&record.tag, &signer, &node);
            }
        }
        let new = Signer { since: now.mono, answered: false, used: 0, members: BTreeMap::new() };
        let signer = self.places.entry(record.tag).or_default().entry(record.signer).or_insert(new);
        if signer.members.insert(from, until).is_none() {
            *self.held.entry(from).or_default() += 1;
        }
        Ok(())
    }

    fn unlist(&mut self, tag: &[u8; TAG], signer: &[u8; 32], node: &NodeId) {
        let Some(place) = self.places.get_mut(tag) else { return };
        if let Some(s) = place.get_mut(signer) {
            if s.members.remove(node).is_some() {
                release(&mut self.held, node);
            }
            if s.members.is_empty() {
                place.remove(signer);
            }
        }
        if place.is_empty() {
            self.places.remove(tag);
        }
    }

    fn request(&mut self, now: Now, from: NodeId, mut request: DomainRequest, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let id = request.id;
        let refuse = |status, out: &mut Vec<Effect>| out.push(Effect { to: from, msg: Msg::Response(DomainResponse::without(id, status)) });
        if self.seen.contains(&id) {
            return Err(Reject::Stale);
        }
        let mine = self.pending.values().filter(|p| p.previous == from).count();
        let full = self.pending.len() >= IN_FLIGHT.0 || mine >= IN_FLIGHT.1 || self.seen.len() >= SEEN;
        if self.spend(now, from).is_err() || full {
            refuse(Status::Busy, out);
            return Err(Reject::Limit);
        }
        self.seen.insert(id);
        self.seen_order.push_back((now.mono.after(MEMORY), id));
        let Some(ttl) = request.ttl.checked_sub(1) else {
            refuse(Status::Refused, out);
            return Err(Reject::Expired);
        };
        request.ttl = ttl;
        let until = now.mono.after(MEMORY);
        self.pending.insert(id, Pending { previous: from, request, tried: Vec::new(), retry: until, busy: false, until });
        self.hand_on(now, id, out);
        Ok(())
    }

    /// Hands a request to the listed member used least recently, of the signer used least recently, or answers that there is none.
    fn hand_on(&mut self, now: Now, id: RequestId, out: &mut Vec<Effect>) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let open =
            |node: &NodeId, until: &Mono| *until > now.mono && *node != pending.previous && pending.tried.iter().all(|(n, _)| n != node);
        let chosen = self.places.get_mut(&pending.request.tag).filter(|_| now.mono < pending.until).and_then(|place| {
            let signers = place.iter_mut().filter(|(_, s)| s.members.iter().any(|(n, until)| open(n, until)));
            let (key, signer) = signers.min_by_key(|(_, s)| s.used)?;
            let members = signer.members.iter().filter(|(n, until)| open(n, until)).map(|(n, _)| *n);
            let node = members.min_by_key(|n| self.used.get(n).copied().unwrap_or(0))?;
            self.uses += 1;
            signer.used = self.uses;
            self.used.insert(node, self.uses);
            Some((node, *key))
        });
        if let Some((node, signer)) = chosen {
            pending.tried.push((node, signer));
            pending.retry = now.mono.after(TRY).min(pending.until);
            out.push(Effect { to: node, msg: Msg::Request(pending.request.clone()) });
        } else if let Some(pending) = self.pending.remove(&id) {
            let status = match (pending.busy, pending.tried.is_empty()) {
                (true, _) => Status::Busy,
                (false, true) => Status::NoRoute,
                (false, false) => Status::Lost,
            };
            out.push(Effect { to: pending.previous, msg: Msg::Response(DomainResponse::without(id, status)) });
        }
    }

    fn response(&mut self, now: Now, from: NodeId, response: DomainResponse, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let pending = self.pending.get_mut(&response.id).ok_or(Reject::Stale)?;
        let (_, signer) = *pending.tried.iter().find(|(n, _)| *n == from).ok_or(Reject::Forbidden)?;
        if response.status != Status::Ok {
            if pending.tried.last().is_some_and(|(n, _)| *n == from) {
                pending.busy |= response.status == Status::Busy;
                self.hand_on(now, response.id, out);
            }
            return Ok(());
        }
        // One that was asked before and answers late is as good as the one asked now.
        if let Some(pending) = self.pending.remove(&response.id) {
            if let Some(s) = self.places.get_mut(&pending.request.tag).and_then(|p| p.get_mut(&signer)) {
                s.answered = true;
            }
            out.push(Effect { to: pending.previous, msg: Msg::Response(response) });
        }
        Ok(())
    }
}

/// Which records have to go so that one more of `signer` fits into a place that does not have its neighbour yet.
fn make_room(place: &Place, now: Now, signer: &[u8; 32]) -> Result<Vec<([u8; 32], NodeId)>, Reject> {
    if !place.contains_key(signer) && place.len() >= SIGNERS {
        let idle = place.iter().filter(|(_, s)| !s.answered && now.mono.since(s.since) >= SIGNER_TRIAL);
        let (key, idle) = idle.min_by_key(|(_, s)| s.since).ok_or(Reject::Limit)?;
        return Ok(idle.members.keys().map(|node| (*key, *node)).collect());
    }
    if place.values().map(|s| s.members.len()).sum::<usize>() < PER_PLACE {
        return Ok(Vec::new());
    }
    let has = place.get(signer).map_or(0, |s| s.members.len());
    if has >= PER_PLACE / SIGNERS {
        return Err(Reject::Limit);
    }
    let (key, largest) = place.iter().max_by_key(|(_, s)| s.members.len()).ok_or(Reject::Limit)?;
    let first = largest.members.iter().min_by_key(|(_, until)| **until).ok_or(Reject::Limit)?;
    Ok([(*key, *first.0)].into())
}

fn release(held: &mut BTreeMap<NodeId, usize>, node: &NodeId) {
    if let Some(n) = held.get_mut(node) {
        *n = n.saturating_sub(1);
        if *n == 0 {
            held.remove(node);
        }
    }
}

fn filled(bucket: &Bucket, now: Now) -> u64 {
    let ms = u64::try_from(now.mono.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
    bucket.millitokens.saturating_add(ms.saturating_mul(RATE.0)).min(RATE.1 * 1000)
}

impl core::fmt::Debug for Registry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Registry({} records, {} requests)", self.len(), self.pending.len())
    }
}
