//! What two directories say to each other to find and mend what differs.

use alloc::vec::Vec;
use core::time::Duration;

use super::super::entry::Entry;
use super::super::msg::{BATCH, BUCKETS, Item, LISTED, Msg, Summary};
use super::super::record::Version;
use super::{Directory, Effect, TURN, YOUNG, bucket};
use crate::base::{Gather, Map, Mono, NodeId, Now, limit};

/// Where so many buckets differ from a neighbour's and hold less than one record each, it is here that most is missing.
const MANY: u32 = 16;
/// How long records that were asked for are waited for.
const ASKED: Duration = Duration::from_secs(1);

/// What a young directory waits for. It has a dozen neighbours at once, each of which has all that it lacks: compared with all at
/// once, it would get everything a dozen times. A neighbour that misuses this keeps it from comparing while it is young, and no longer.
#[derive(Default)]
pub(super) struct CatchingUp {
    /// With whom the comparison is under way, and until when its answer is waited for.
    with: Option<(NodeId, Mono)>,
    /// Records asked for, and until when they are waited for.
    asked: Map<NodeId, Mono>,
    /// What was asked for is here, or nothing was lacking: from now on comparisons cost little.
    done: bool,
}

impl CatchingUp {
    /// A record came.
    pub fn got(&mut self, node: &NodeId) {
        self.done |= self.asked.remove(node).is_some() && self.asked.is_empty();
    }
}

impl Directory {
    fn is_young(&self, now: Now) -> bool {
        now.mono.since(self.born) < YOUNG
    }

    /// Whether the next comparison is to wait for what the last one brings.
    pub(super) fn is_catching_up(&self, now: Now) -> bool {
        let CatchingUp { with, asked, done } = &self.catching_up;
        self.is_young(now) && !done && with.iter().map(|(_, until)| until).chain(asked.values()).any(|until| now.mono < *until)
    }

    /// Begins a comparison.
    pub(super) fn begin(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        self.catching_up.with = Some((node, now.mono.after(TURN)));
        out.push(Effect::Send { to: node, msg: Msg::Buckets(self.digests.to_vec()) });
    }

    /// A neighbour began one.
    pub(super) fn take_buckets(&mut self, now: Now, from: NodeId, theirs: &[u64], out: &mut Vec<Effect>) {
        // What was awaited from this one: it has turned the comparison round.
        self.catching_up.with.take_if(|(with, _)| *with == from);
        let catching_up = self.is_catching_up(now);
        if let Some(owed) = self.links.get_mut(&from) {
            *owed = catching_up.then(|| now.mono.after(TURN));
            if catching_up {
                return;
            }
        }
        let pairs = theirs.iter().zip(&self.digests).enumerate();
        let differ = pairs.filter(|(_, (a, b))| a != b).fold(0u64, |set, (i, _)| set | 1 << (i % BUCKETS));
        let lacks = differ.count_ones() >= MANY && self.entries.len() < differ.count_ones() as usize;
        // Who lacks much asks for it itself, and so but once. Only one of two does that.
        if self.is_young(now) && self.me > from && lacks {
            return self.begin(now, from, out);
        }
        self.send_summaries(from, differ, out);
    }

    pub(super) fn send_summaries(&self, to: NodeId, buckets: u64, out: &mut Vec<Effect>) {
        let (mut covered, mut entries) = (0u64, Vec::new());
        for i in (0..BUCKETS).filter(|i| buckets >> i & 1 == 1) {
            let mut of: Vec<Summary> =
                self.entries.iter().filter(|(n, _)| bucket(n) == i).map(|(n, e)| Summary::new(n, e.signed.version())).collect();
            if entries.len() + of.len() > LISTED && covered != 0 {
                out.push(Effect::Send {
                    to,
                    msg: Msg::Summaries { buckets: core::mem::take(&mut covered), entries: core::mem::take(&mut entries) },
                });
            }
            // More than fit: their list says nothing about what is missing here, the next round asks the other way.
            if of.len() > LISTED {
                for part in of.chunks(LISTED) {
                    out.push(Effect::Send { to, msg: Msg::Summaries { buckets: 0, entries: part.to_vec() } });
                }
                continue;
            }
            covered |= 1 << i;
            entries.append(&mut of);
        }
        if covered != 0 {
            out.push(Effect::Send { to, msg: Msg::Summaries { buckets: covered, entries } });
        }
    }

    pub(super) fn compare(&mut self, now: Now, from: NodeId, buckets: u64, entries: &[Summary], out: &mut Vec<Effect>) {
        let theirs: Map<NodeId, Version> = entries.iter().map(|s| (NodeId::from_public_key(s.node), s.version())).gather();
        let young = self.is_young(now);
        self.catching_up.with.take_if(|(with, _)| *with == from);
        self.catching_up.asked.retain(|_, until| young && now.mono < *until);
        let asked = &self.catching_up.asked;
        let newer_there =
            |(n, v): &(&NodeId, &Version)| self.entries.get(*n).is_none_or(|e| e.signed.version() < **v) && !asked.contains_key(*n);
        let wanted: Vec<NodeId> = theirs.iter().filter(newer_there).map(|(n, _)| *n).collect();
        self.catching_up.done |= wanted.is_empty() && asked.is_empty();
        let want: Vec<u8> = wanted.iter().flat_map(|n| *n.as_bytes()).collect();
        if young && self.catching_up.asked.len() + wanted.len() <= limit::RECORDS {
            self.catching_up.asked.extend(wanted.into_iter().map(|n| (n, now.mono.after(ASKED))));
        }
        if !want.is_empty() {
            out.push(Effect::Send { to: from, msg: Msg::Want(want) });
        }
        let newer_here = |(n, e): &(&NodeId, &Entry)| match theirs.get(*n) {
            Some(v) => e.signed.version() > *v,
            None => buckets >> bucket(n) & 1 == 1,
        };
        let give: Vec<NodeId> = self.entries.iter().filter(newer_here).map(|(n, _)| *n).collect();
        self.send_records(now, from, give, out);
    }

    pub(super) fn send_records(&self, now: Now, to: NodeId, nodes: Vec<NodeId>, out: &mut Vec<Effect>) {
        let (mut items, mut size) = (Vec::new(), 0);
        for entry in nodes.iter().filter_map(|n| self.entries.get(n)) {
            let own = entry.signed.record().node == self.me;
            let age = if own { Duration::ZERO } else { now.mono.since(entry.received) + entry.age };
            let record = entry.signed.bytes().to_vec();
            size += record.len();
            items.push(Item { age: u64::try_from(age.as_millis()).unwrap_or(u64::MAX), record });
            if size >= BATCH {
                out.push(Effect::Send { to, msg: Msg::Records(core::mem::take(&mut items)) });
                size = 0;
            }
        }
        if !items.is_empty() {
            out.push(Effect::Send { to, msg: Msg::Records(items) });
        }
    }
}
