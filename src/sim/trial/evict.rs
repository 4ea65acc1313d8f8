//! Guests who are evicted every other minute, and what they get to read afterwards.

use alloc::{collections::BTreeMap, vec::Vec};

use super::Trial;
use crate::base::NodeId;
use crate::peer::InviteOptions;
use crate::wire::link::InviteLink;

/// Ticks between two evictions.
const EVERY: u64 = 120;
/// So many ticks after one the next guest sets out: its invitation is known by then.
const SETS_OUT: u64 = 10;

/// Guests come through invitations of their own, which end with their evictions.
#[derive(Default)]
pub(super) struct Guests {
    link: Option<InviteLink>,
    guest: Option<NodeId>,
    evicted: Option<Evicted>,
    /// Frames of the data class that the manager read so far.
    managed: u64,
}

/// Somebody who was evicted, does not hear of it, and goes on with all the keys it had.
struct Evicted {
    node: NodeId,
    /// Who knows of it, and the last message that was sent before that was seen.
    known: BTreeMap<NodeId, u64>,
}

impl Guests {
    pub fn is_guest(&self, node: NodeId) -> bool {
        self.guest == Some(node)
    }
}

impl Trial {
    /// Evicts one guest and invites the next.
    pub(super) fn have_guests(&mut self, tick: u64) {
        let (domain, manager) = (self.town.domain, self.town.manager);
        if tick.is_multiple_of(EVERY) {
            if let Some(guest) = self.guests.guest.take().filter(|n| self.residents.contains_key(n)) {
                self.evict(guest);
            }
            // The manager holds the root key.
            self.guests.link = self.town.world.act(manager, |p, now| p.invite(now, domain, InviteOptions::default())).ok();
        }
        if tick % EVERY == SETS_OUT
            && let Some(link) = self.guests.link.take()
            && let Ok(node) = self.town.set_out(&link, 0)
        {
            self.guests.guest = Some(node);
            self.joining.push(node);
        }
    }

    fn evict(&mut self, node: NodeId) {
        let (domain, manager) = (self.town.domain, self.town.manager);
        // Room for the next one.
        if let Some(before) = self.guests.evicted.take() {
            self.town.world.crash(before.node);
        }
        self.residents.remove(&node);
        self.gone.insert(node, (self.town.world.now(), "was evicted"));
        self.town.participants.retain(|n| *n != node);
        // What came until now was for it.
        self.town.heard(node);
        self.town.world.act(node, |m, _| m.deaf = true);
        let evicted = self.town.world.act(manager, |p, now| p.evict(now, domain, node));
        self.outcome.evicted += usize::from(evicted.is_ok());
        self.guests.evicted = Some(Evicted { node, known: BTreeMap::new() });
    }

    /// Gives those who must not read it all that participants send each other, and looks what they make of it.
    pub(super) fn watch_evicted(&mut self) {
        let (domain, manager) = (self.town.domain, self.town.manager);
        let Some(mut evicted) = self.guests.evicted.take() else { return };
        for from in self.residents.keys() {
            let frames: Vec<Vec<u8>> = self.town.world.act(*from, |m, _| m.tapped());
            for (by, frame) in frames.iter().flat_map(|f| [(evicted.node, f), (manager, f)]) {
                self.outcome.overheard += usize::from(self.town.world.act(by, |m, now| m.overhear(now, domain, from, frame)));
            }
        }
        for (from, text) in self.town.heard(evicted.node) {
            let after = |last: &u64| text.parse().is_ok_and(|number: u64| number > *last);
            self.outcome.misdirected += usize::from(evicted.known.get(&from).is_some_and(after));
        }
        for node in self.residents.keys() {
            if self.town.world.look(*node, |p, now| p.participant(now, domain, &evicted.node)).is_ok_and(|row| row.is_none()) {
                evicted.known.entry(*node).or_insert(self.count);
            }
        }
        let managed = self.town.world.look(manager, |m, _| m.read);
        self.outcome.misdirected += usize::try_from(managed - self.guests.managed).unwrap_or(usize::MAX);
        self.guests.managed = managed;
        self.guests.evicted = Some(evicted);
    }
}
