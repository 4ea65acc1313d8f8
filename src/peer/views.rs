//! Whether members know of the same removals. Each tells the hash of the revocations it knows, in key messages, when it
//! changes and hourly. Where two differ, sets are exchanged at once, and data waits for a moment: somebody may have been
//! evicted who would still read it. Who does not come to agree is flagged and waited for no more.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::{Event, Flag, Peer, link::Lane, notice::Notice, seal::Topic};
use crate::base::{DomainId, Map, Mono, NodeId, Now, Reject};
use crate::wire::cbor;

/// How long data waits for sets to come together.
const HOLD: Duration = Duration::from_secs(10);
/// Data waits at most once in this time, whoever tells what.
const PAUSE: Duration = Duration::from_secs(60);
/// How often a comparison is asked for meanwhile.
const ASK: Duration = Duration::from_secs(1);
/// A link that is new compares sets anyway: this long nothing waits for it.
const FRESH: Duration = Duration::from_secs(5);
/// How long somebody flagged is waited for no more.
const FLAGGED: Duration = Duration::from_secs(3_600);
/// How often the hash is told without cause.
const BEAT: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Differing {
    view: [u8; 32],
    /// From when on it counts.
    since: Mono,
    asked: Mono,
}

/// What a domain keeps for this.
#[derive(Debug, Default)]
pub(super) struct Views {
    told: [u8; 32],
    beat: Mono,
    fresh: Map<NodeId, Mono>,
    differing: Map<NodeId, Differing>,
    flagged: Map<NodeId, Mono>,
    hold: Mono,
    next_hold: Mono,
}

impl Views {
    pub fn linked(&mut self, now: Now, node: NodeId) {
        self.fresh.insert(node, now.mono.after(FRESH));
    }

    pub fn unlinked(&mut self, node: &NodeId) {
        self.fresh.remove(node);
        self.differing.remove(node);
    }

    /// Whether data has to wait now.
    pub fn holds(&self, now: Now) -> bool {
        now.mono < self.hold && self.differing.values().any(|d| d.since <= now.mono)
    }
}

impl Peer {
    /// A member told the hash of the revocations it knows.
    pub(super) fn view_told(&mut self, now: Now, id: DomainId, node: NodeId, view: [u8; 32]) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let views = &mut domain.views;
        if view == domain.membership.view() {
            views.differing.remove(&node);
            return;
        }
        if views.flagged.get(&node).is_some_and(|until| now.mono < *until) || !domain.known.contains_key(&node) {
            return;
        }
        let since = views.fresh.get(&node).copied().unwrap_or_default().max(now.mono);
        let differing = views.differing.entry(node).or_insert(Differing { view, since, asked: Mono(0) });
        differing.view = view;
        self.views_timeouts(now, id);
    }

    /// The revocations known here may have changed.
    pub(super) fn view_changed(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let view = domain.membership.view();
        domain.views.differing.retain(|_, d| d.view != view);
        if domain.views.told != view {
            domain.views.told = view;
            self.tell_view(now, id);
        }
    }

    fn tell_view(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.views.beat = now.mono.after(BEAT);
        let to: BTreeSet<NodeId> = domain.linked();
        self.tell_view_to(now, id, &to);
    }

    /// Tells the hash of the revocations known here.
    pub(super) fn tell_view_to(&mut self, now: Now, id: DomainId, to: &BTreeSet<NodeId>) {
        let Some(view) = self.domains.get(&id).map(|d| d.membership.view()) else { return };
        self.send_sealed(now, id, Topic::Notices, to, Lane::Control, &cbor::encode(&Notice::View(view)));
    }

    /// Asks those who differ for a comparison, flags those who keep differing, and tells the own hash when it is time.
    pub(super) fn views_timeouts(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let views = &mut domain.views;
        views.flagged.retain(|_, until| now.mono < *until);
        views.fresh.retain(|_, until| now.mono < *until);
        let late: Vec<NodeId> = views.differing.iter().filter(|(_, d)| now.mono >= d.since.after(HOLD)).map(|(node, _)| *node).collect();
        for node in &late {
            views.differing.remove(node);
            views.flagged.insert(*node, now.mono.after(FLAGGED));
        }
        if views.differing.values().any(|d| d.since <= now.mono) && now.mono >= views.next_hold {
            views.hold = now.mono.after(HOLD);
            views.next_hold = now.mono.after(PAUSE);
        }
        let mut effects = Vec::new();
        for (node, differing) in &mut views.differing {
            if differing.asked == Mono(0) || now.mono.since(differing.asked) >= ASK {
                differing.asked = now.mono;
                domain.membership.sync_with(now, *node, &mut effects);
            }
        }
        let beat = now.mono >= views.beat;
        self.membership_effects(now, id, effects);
        for node in late {
            self.emit(Event::Flagged { domain: id, node, why: Flag::View });
        }
        if beat {
            self.tell_view(now, id);
        }
    }

    pub(super) fn notice(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        match cbor::decode::<Notice>(plaintext)? {
            Notice::View(view) => self.view_told(now, id, from, view),
            knock @ Notice::Knock { .. } => self.knock(now, id, Some(from), knock),
        }
        Ok(())
    }
}
