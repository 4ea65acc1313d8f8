//! Whom to connect to: every member of every domain (of large ones, those that [`spread`](super::spread) names), directly where
//! there is a way, through a relay's circuit meanwhile.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use super::{
    Peer,
    link::{LinkCommand, Path},
    signal::is_signalled,
};
use crate::base::{Mono, NodeId, Now, limit};
use crate::proto::directory::Status;

/// First wait after a failed dial; doubles up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(3);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the node with the larger id leaves the first move to the other one.
const POLITE: Duration = Duration::from_millis(1_500);

/// Ways through relays that are told of however many direct ones there are.
const KEPT: usize = 2;

/// Dialling one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Dial {
    /// A dial is under way.
    pub running: bool,
    /// Not before this moment.
    pub next: Mono,
    pub failures: u32,
}

/// `…/p2p-circuit/webrtc/p2p/X`: signalled over a circuit, then direct.
pub(super) fn is_webrtc(address: &str) -> bool {
    address.contains("/p2p-circuit/webrtc")
}

fn is_circuit(address: &str) -> bool {
    address.contains("/p2p-circuit") && !is_webrtc(address)
}

/// An address of the machine itself: no circuit, and not the one that somebody has to signal.
pub(super) fn is_own(address: &str) -> bool {
    !address.contains("/p2p-circuit") && !is_signalled(address)
}

/// Of a node's own addresses as many, of as many bytes together, as there is room for: first ways through a relay, without which nobody
/// may reach it, then direct ones, then the rest.
pub(super) fn told(addresses: &[String], (room, mut bytes): (usize, usize)) -> Vec<String> {
    let (circuits, direct): (Vec<&String>, Vec<&String>) = addresses.iter().partition(|a| a.contains("/p2p-circuit"));
    let (first, rest) = circuits.split_at(circuits.len().min(KEPT));
    let direct = direct.into_iter().take(room.saturating_sub(first.len()));
    let fits = |a: &&String| a.len() <= limit::ADDRESS && bytes.checked_sub(a.len()).map(|left| bytes = left).is_some();
    first.iter().copied().chain(direct).chain(rest.iter().copied()).filter(fits).take(room).cloned().collect()
}

impl Peer {
    /// Starts the dials that are due.
    pub(super) fn dial_members(&mut self, now: Now) {
        let mut wanted: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        for domain in self.domains.values() {
            let sought = domain.spread.sought();
            let is_sought = |node: &NodeId| sought.as_ref().is_none_or(|sought| sought.contains(node));
            let contacts = domain.contacts.iter().map(|(node, addresses)| (node, &addresses[..]));
            let listed = domain
                .directory
                .dialable(now)
                .filter(|(node, status, _)| *status != Status::Left && is_sought(node))
                .map(|(node, _, a)| (node, a));
            for (node, addresses) in contacts.chain(listed).filter(|(node, _)| **node != self.me && domain.may_know(node)) {
                let known = wanted.entry(*node).or_default();
                let new: Vec<String> = addresses.iter().filter(|a| !known.contains(a)).cloned().collect();
                known.extend(new);
            }
        }
        self.dials.retain(|node, dial| dial.running || wanted.contains_key(node));
        for (node, addresses) in wanted {
            self.dial_member(now, node, addresses);
        }
    }

    fn dial_member(&mut self, now: Now, node: NodeId, addresses: Vec<String>) {
        let path = self.table.best(&node).map(|(_, link)| link.path);
        if path == Some(Path::Direct) {
            self.dials.remove(&node);
            return;
        }
        let relayed = path == Some(Path::Relayed);
        let (signalled, addresses): (Vec<String>, Vec<String>) = addresses.into_iter().partition(|a| is_signalled(a));
        let mut usable: Vec<String> = addresses
            .into_iter()
            .filter(|a| if is_webrtc(a) { self.config.webrtc && relayed } else { !is_circuit(a) || !relayed })
            .collect();
        // Where there is no other way, or none that leads there.
        let stuck = path.is_none() && (usable.is_empty() || self.dials.get(&node).is_some_and(|d| d.failures > 0));
        if stuck && self.may_offer(&node) {
            usable.extend(signalled);
        }
        let call = stuck && self.may_call(&node);
        if usable.is_empty() && !call {
            return;
        }
        let polite = self.me > node && !self.domains.values().any(|d| d.contacts.contains_key(&node));
        let dial = self
            .dials
            .entry(node)
            .or_insert_with(|| Dial { next: if polite { now.mono.after(POLITE) } else { now.mono }, ..Dial::default() });
        if dial.running || dial.next > now.mono {
            return;
        }
        dial.running = true;
        if call {
            self.call(now, node);
        }
        if usable.is_empty() {
            self.dial_failed(now, node);
        } else {
            self.command_link(LinkCommand::Dial { node, addresses: usable });
        }
    }

    /// A dial ended without a link.
    pub(super) fn dial_failed(&mut self, now: Now, node: NodeId) {
        if let Some(dial) = self.dials.get_mut(&node) {
            dial.running = false;
            // Half of it at random: after a partition of any length somebody on each side tries soon, and not all at once.
            let wait = (RETRY * 2u32.pow(dial.failures.min(5))).min(RETRY_MAX);
            let jitter = self.rng.below(u64::try_from((wait / 2).as_millis()).unwrap_or(0));
            dial.next = now.mono.after(wait / 2 + Duration::from_millis(jitter));
            dial.failures = dial.failures.saturating_add(1);
            let failures = dial.failures;
            self.domains.iter_mut().for_each(|(_, d)| d.spread.dialled_in_vain(&node, failures));
            self.sought(now, node, failures);
        }
    }

    /// The network changed for the better: whom dials did not reach is dialled again.
    pub(super) fn dial_again(&mut self, now: Now) {
        for dial in self.dials.iter_mut().map(|(_, v)| v).filter(|d| !d.running) {
            let soon = now.mono.after(Duration::from_millis(self.rng.below(1_000)));
            (dial.next, dial.failures) = (dial.next.min(soon), 0);
        }
    }

    /// A link to this node came up: the next step towards a direct one may follow, at once for the smaller id.
    pub(super) fn dial_succeeded(&mut self, now: Now, node: NodeId) {
        if let Some(dial) = self.dials.get_mut(&node) {
            let wait = if self.me > node { POLITE } else { Duration::ZERO };
            *dial = Dial { next: now.mono.after(wait), ..Dial::default() };
        }
    }
}

#[cfg(test)]
mod tests;
