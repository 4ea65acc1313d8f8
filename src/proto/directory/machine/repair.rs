//! What two directories say to each other to find and mend what differs.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use super::super::entry::Entry;
use super::super::msg::{BATCH, BUCKETS, Item, LISTED, Msg, Summary};
use super::super::record::Version;
use super::{Directory, Effect, bucket};
use crate::base::{Gather, NodeId, Now};

impl Directory {
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
        let theirs: BTreeMap<NodeId, Version> = entries.iter().map(|s| (NodeId::from_public_key(s.node), s.version())).gather();
        let newer_there = |(n, v): &(&NodeId, &Version)| self.entries.get(*n).is_none_or(|e| e.signed.version() < **v);
        let want: Vec<u8> = theirs.iter().filter(newer_there).flat_map(|(n, _)| *n.as_bytes()).collect();
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
