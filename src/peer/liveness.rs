//! Who is alive: joins the detector and the directory, and what to do when this process sleeps and wakes.
//!
//! | when | then |
//! |---|---|
//! | a record is new | the detector learns its incarnation, and whether its node is to be probed |
//! | the detector finds somebody silent, or reaches it again | the directory shows it as down, or not |
//! | somebody suspects this node | the directory signs a record with a higher incarnation |
//! | anything comes over a link | the detector knows that its sender lives |
//! | this process slept, or its network changed | all links are probed, all dials are due, and nobody's lease has run out meanwhile |

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Peer,
    link::{Lane, LinkCommand},
    seal::Topic,
};
use crate::base::{DomainId, NodeId, Now, Reject, only};
use crate::proto::{detector, directory};

/// A Hello that was not answered is sent again after this time, which doubles five times.
const GREET_AGAIN: Duration = Duration::from_secs(3);
/// So many dials fail before somebody is sought through others.
const FAILURES: u32 = 2;
/// Neighbours that are asked for a suspect's record: so many that a fifth of all frames may be lost.
const CONFIRMERS: usize = 6;
/// A node in a domain is called every half a second at least: a pause as long as this shows that it slept.
const SLEPT: Duration = Duration::from_secs(5);

impl Peer {
    /// Says in every domain that this node goes to sleep, as a hidden tab does, or is awake again. Those asleep are not
    /// expected to answer. Waking also does what [`Peer::wake`] does.
    pub fn suspend(&mut self, now: Now, suspended: bool) {
        if self.suspended == suspended {
            return;
        }
        self.suspended = suspended;
        self.publish_all(now);
        if !suspended {
            self.wake(now);
        }
        self.settle(now);
    }

    /// Whether this node says that it sleeps.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// This process was asleep, or its network changed: every link is probed, whoever is missing is dialled, the others hear that
    /// this node is here, and have time to say that they are.
    pub fn wake(&mut self, now: Now) {
        self.dial_again(now);
        self.command_link(LinkCommand::NetworkChanged);
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            let Some(domain) = self.domains.get_mut(&id) else { continue };
            let mut effects = Vec::new();
            domain.detector.wake(now);
            domain.directory.woke(now, &mut effects);
            self.directory_effects(now, id, effects);
        }
        self.tick_within(now, Duration::ZERO);
    }

    /// Before every input: whether this process was stopped for a while, by either clock. A browser may stop the monotonic one
    /// with the process.
    pub(super) fn notice_sleep(&mut self, now: Now) {
        let last = self.last_input.replace(now);
        let slept = |last: Now| now.mono.since(last.mono) >= SLEPT || now.wall >= last.wall.after(SLEPT);
        if last.is_some_and(slept) && !self.domains.is_empty() {
            self.wake(now);
        }
    }

    /// Something came from a member over a greeted link.
    pub(super) fn heard(&mut self, now: Now, id: DomainId, node: NodeId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let mut effects = Vec::new();
        domain.detector.heard(now, node, &mut effects);
        self.detector_effects(now, id, effects);
    }

    /// A message of the detector's, which goes over one link only: `link` is who sent the frame, `from` who sealed it.
    pub(super) fn probe_message(&mut self, now: Now, id: DomainId, link: NodeId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        if link != from {
            return Err(Reject::Forbidden);
        }
        let message = detector::Msg::decode(plaintext)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let mut effects = Vec::new();
        let result = domain.detector.handle(now, from, message, &mut effects);
        self.detector_effects(now, id, effects);
        result
    }

    pub(super) fn detector_effects(&mut self, now: Now, id: DomainId, effects: Vec<detector::Effect>) {
        let mut effects = effects.into_iter().peekable();
        while let Some(effect) = effects.next() {
            let Some(domain) = self.domains.get_mut(&id) else { return };
            let mut records = Vec::new();
            match effect {
                detector::Effect::Send { to, msg } => {
                    // The same to several is sealed once.
                    let mut all = only(to);
                    let same = |e: &detector::Effect| matches!(e, detector::Effect::Send { msg: other, .. } if *other == msg);
                    while let Some(detector::Effect::Send { to, .. }) = effects.next_if(same) {
                        all.insert(to);
                    }
                    self.send_sealed(now, id, Topic::Probes, &all, Lane::Control, &msg.encode());
                    continue;
                }
                detector::Effect::Confirm { node } => {
                    let linked: Vec<NodeId> = domain.linked().into_iter().filter(|n| *n != node).collect();
                    let start = usize::try_from(self.rng.below(linked.len() as u64)).unwrap_or(0);
                    let want = || directory::Msg::Want(node.as_bytes().to_vec());
                    let asked = linked.iter().cycle().skip(start).take(linked.len().min(CONFIRMERS));
                    records.extend(asked.map(|to| directory::Effect::Send { to: *to, msg: want() }));
                }
                detector::Effect::Verdict { node, incarnation, down: true } => {
                    domain.directory.condemn(now, node, incarnation, &mut records);
                }
                detector::Effect::Verdict { node, .. } => domain.directory.absolve(now, node, &mut records),
                detector::Effect::Refute { incarnation } => domain.directory.refute(now, incarnation, &mut records),
            }
            self.directory_effects(now, id, records);
        }
    }

    /// A member cannot be dialled: if that goes on, others are asked.
    pub(super) fn sought(&mut self, now: Now, node: NodeId, failures: u32) {
        if failures >= FAILURES {
            for domain in self.domains.iter_mut().map(|(_, v)| v) {
                domain.detector.dial_failed(now, node);
            }
        }
    }

    /// Somebody is back: dialled now, not when its turn comes after many failures.
    pub(super) fn dial_soon(&mut self, now: Now, node: NodeId) {
        let jitter = Duration::from_millis(self.rng.below(500));
        if let Some(dial) = self.dials.get_mut(&node).filter(|d| !d.running) {
            (dial.next, dial.failures) = (dial.next.min(now.mono.after(jitter)), 0);
        }
    }

    /// Hellos that got no answer are sent again: the link stands, but a frame may have been lost or come before its time.
    pub(super) fn greet_again(&mut self, now: Now) {
        let mut due = Vec::new();
        for domain in self.domains.values() {
            let waiting = domain.greetings.iter().filter(|(n, g)| g.told && !g.heard && domain.may_know(n));
            due.extend(
                waiting.filter(|(_, g)| now.mono >= g.told_at.after(GREET_AGAIN * 2u32.pow(g.tries.min(5)))).map(|(n, _)| (domain.id, *n)),
            );
        }
        for (id, node) in due {
            self.greet(now, id, node, false);
        }
    }
}
