//! Which supplier a task is given to. A pure function, so that whoever pairs comes to the same answer.

use core::cmp::Reverse;
use core::time::Duration;

use crate::base::{Mono, NodeId};

/// A supplier that has what a demand asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who.
    pub node: NodeId,
    /// How many tasks it takes at once.
    pub capacity: u32,
    /// How busy it says that it is, 0 to 100 percent: it may work for others than those this ledger knows of.
    pub load: u8,
    /// The round trip to it, where that was measured.
    pub rtt: Option<Duration>,
    /// How many of the demand's wishes it fulfils; more is better, and counts before all else.
    pub fit: u32,
}

/// What counts more among those that fit equally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// Whoever is least busy.
    #[default]
    Idle,
    /// Whoever is nearest: for tasks with much to send.
    Near,
}

/// What a ledger knows of a supplier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Seats it holds.
    pub running: u32,
    /// The number of the last pairing with it.
    pub last: u64,
    /// It said that it has no room; not asked before then.
    pub shut: Option<Mono>,
}

/// Seats of it that are taken: known here, or said by itself to be.
fn taken(offer: &Offer, used: Use) -> u64 {
    let said = u64::from(offer.capacity) * u64::from(offer.load.min(100)) / 100;
    said.max(used.running.into())
}

/// The best of those with a free seat; `tried` failed at this before and come last. Equal ones take turns.
pub(super) fn choose<'a>(
    now: Mono,
    offers: impl Iterator<Item = &'a Offer>,
    used: impl Fn(&NodeId) -> Use,
    tried: &[NodeId],
    preference: Preference,
) -> Option<&'a Offer> {
    let rank = |offer: &&Offer| {
        let used = used(&offer.node);
        // In thousandths: what it says counts also where it has one seat, and that is free.
        let busy = (u64::from(offer.load.min(100)) * 10).max(u64::from(used.running) * 1_000 / u64::from(offer.capacity.max(1)));
        // Twice as far counts, a little further does not. Unmeasured is far.
        let far = offer.rtt.map_or(u32::MAX, |rtt| (rtt.as_millis() as u64).checked_ilog2().map_or(0, |n| n + 1));
        let (first, second) = match preference {
            Preference::Idle => (busy, far.into()),
            Preference::Near => (far.into(), busy),
        };
        (tried.contains(&offer.node), Reverse(offer.fit), first, second, used.last, offer.node)
    };
    let open = |o: &&Offer| {
        let used = used(&o.node);
        taken(o, used) < o.capacity.into() && used.shut.is_none_or(|at| at <= now)
    };
    offers.filter(open).min_by_key(rank)
}
