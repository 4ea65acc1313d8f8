//! Values of `latest` channels: on the way out the newest per (channel, key, recipient), on the way in the newest per
//! (sender, channel, key).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{
    ChannelId, Message,
    msg::{Item, Tag},
};
use crate::base::{NodeId, Wall, limit};
use crate::wire::bytes::Writer;

struct Value {
    channel: ChannelId,
    key: String,
    item: Vec<u8>,
    waiting: BTreeSet<NodeId>,
    /// Who was sent it and nothing newer since; it goes to them again over a new link.
    sent: BTreeSet<NodeId>,
}

/// Values to send.
#[derive(Default)]
pub struct Outbox {
    last: u64,
    values: BTreeMap<u64, Value>,
    newest: BTreeMap<(ChannelId, String, NodeId), u64>,
    /// The values that somebody waits for.
    pending: BTreeSet<u64>,
    /// The values that nobody waits for, and their bytes.
    kept: BTreeSet<u64>,
    kept_bytes: usize,
}

impl Outbox {
    /// Replaces what waits under this key for these recipients. `false`: the bound is reached.
    pub fn put(&mut self, channel: ChannelId, tag: Tag, now: Wall, to: &[NodeId], key: &str, value: &[u8]) -> bool {
        let fresh = to.iter().filter(|n| !self.newest.contains_key(&(channel, key.into(), **n))).count();
        while self.newest.len() + fresh > limit::LATEST_PENDING {
            let Some(oldest) = self.kept.first().copied() else { return false };
            self.drop_value(oldest);
        }
        let seq = self.next_seq(now);
        for node in to {
            if let Some(old) = self.newest.insert((channel, key.into(), *node), seq) {
                self.change(old, |value| {
                    value.waiting.remove(node);
                    value.sent.remove(node);
                });
            }
        }
        let mut w = Writer::new();
        Item::Latest { tag, seq, sent_at: now, key, bytes: value }.write(&mut w);
        let waiting = to.iter().copied().collect();
        self.values.insert(seq, Value { channel, key: key.into(), item: w.finish(), waiting, sent: BTreeSet::new() });
        self.pending.insert(seq);
        true
    }

    /// The number of the next value.
    pub fn next_seq(&mut self, now: Wall) -> u64 {
        // Grows across restarts too, as long as the clock does: 20 bits are left for values within one millisecond.
        self.last = self.last.saturating_add(1).max(now.0.saturating_mul(1 << 20));
        self.last
    }

    /// The oldest value for which somebody is ready, and all who are.
    pub fn take(&mut self, ready: &dyn Fn(&NodeId) -> bool) -> Option<(Vec<NodeId>, Vec<u8>)> {
        let mut known: BTreeMap<NodeId, bool> = BTreeMap::new();
        let (seq, to, item) = self.pending.iter().find_map(|seq| {
            let value = self.values.get(seq)?;
            let to: Vec<NodeId> = value.waiting.iter().copied().filter(|n| *known.entry(*n).or_insert_with(|| ready(n))).collect();
            (!to.is_empty()).then(|| (*seq, to, value.item.clone()))
        })?;
        self.change(seq, |value| {
            for node in &to {
                value.waiting.remove(node);
                value.sent.insert(*node);
            }
        });
        while self.kept_bytes > limit::LATEST_KEPT {
            let Some(oldest) = self.kept.first().copied() else { break };
            self.drop_value(oldest);
        }
        Some((to, item))
    }

    /// What was sent to a node over an older link may be lost: the newest values go again. The receiver drops what it has.
    pub fn resend(&mut self, node: &NodeId) {
        let seqs: Vec<u64> = self.values.iter().filter(|(_, v)| v.sent.contains(node)).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            self.change(seq, |value| {
                value.sent.remove(node);
                value.waiting.insert(*node);
            });
        }
    }

    /// Forgets what waits for a node.
    pub fn forget(&mut self, node: &NodeId) {
        self.newest.retain(|(_, _, n), _| n != node);
        for seq in self.values.keys().copied().collect::<Vec<u64>>() {
            self.change(seq, |value| {
                value.waiting.remove(node);
                value.sent.remove(node);
            });
        }
    }

    /// Forgets what was sent on a closed channel; what still waits goes out.
    pub fn close(&mut self, channel: ChannelId) {
        for seq in self.values.iter().filter(|(_, v)| v.channel == channel).map(|(seq, _)| *seq).collect::<Vec<u64>>() {
            if self.kept.contains(&seq) {
                self.drop_value(seq);
            }
        }
    }

    /// Bytes of values that somebody waits for.
    pub fn bytes(&self) -> usize {
        self.pending.iter().filter_map(|seq| self.values.get(seq)).map(|v| v.item.len()).sum()
    }

    /// Changes who waits for a value and who has it, and keeps the sets in step; a value nobody needs goes.
    fn change(&mut self, seq: u64, change: impl FnOnce(&mut Value)) {
        let Some(value) = self.values.get_mut(&seq) else { return };
        change(value);
        let (len, waits, sent) = (value.item.len(), !value.waiting.is_empty(), !value.sent.is_empty());
        if waits {
            self.pending.insert(seq);
        } else {
            self.pending.remove(&seq);
        }
        if !waits && sent {
            if self.kept.insert(seq) {
                self.kept_bytes += len;
            }
        } else if self.kept.remove(&seq) {
            self.kept_bytes -= len;
        }
        if !waits && !sent {
            self.values.remove(&seq);
        }
    }

    fn drop_value(&mut self, seq: u64) {
        let Some(value) = self.values.get(&seq) else { return };
        for node in value.waiting.iter().chain(&value.sent) {
            self.newest.remove(&(value.channel, value.key.clone(), *node));
        }
        self.change(seq, |value| {
            value.waiting.clear();
            value.sent.clear();
        });
    }
}

struct Entry {
    seq: u64,
    /// `None` once the application has it.
    value: Option<(Wall, Vec<u8>)>,
    /// Its place among the unread.
    order: u64,
}

#[derive(Default)]
struct Source {
    entries: BTreeMap<(Tag, String), Entry>,
    /// All up to here is old, for keys not in `entries`.
    floor: u64,
}

/// Values received.
#[derive(Default)]
pub struct Inbox {
    sources: BTreeMap<NodeId, Source>,
    unread: BTreeMap<Tag, BTreeMap<u64, (NodeId, String)>>,
    order: u64,
    bytes: usize,
}

impl Inbox {
    /// Takes a value if it is newer than what is known under its key. `open` says which channels are open here. `true`: there
    /// is something new to read.
    pub fn insert(&mut self, from: NodeId, tag: Tag, seq: u64, key: &str, value: (Wall, &[u8]), open: &dyn Fn(&Tag) -> bool) -> bool {
        let source = self.sources.entry(from).or_default();
        let id = (tag, String::from(key));
        if seq <= source.entries.get(&id).map_or(source.floor, |e| e.seq) {
            return false;
        }
        if !source.entries.contains_key(&id) {
            let unopened = !open(&tag);
            let bound = if unopened { limit::UNOPENED } else { limit::LATEST_KEYS };
            let rivals = || source.entries.iter().filter(|((t, _), _)| !unopened || !open(t));
            let oldest =
                if rivals().count() >= bound { rivals().min_by_key(|(_, e)| e.seq).map(|(id, e)| (id.clone(), e.seq)) } else { None };
            if let Some((oldest, old_seq)) = oldest {
                if old_seq > seq {
                    return false;
                }
                source.floor = source.floor.max(old_seq);
                self.remove(from, &oldest);
            }
        }
        self.order += 1;
        let order = self.order;
        let source = self.sources.entry(from).or_default();
        self.bytes += value.1.len();
        let value = Some((value.0, Vec::from(value.1)));
        match source.entries.get_mut(&id) {
            Some(entry) => {
                entry.seq = seq;
                if let Some((_, old)) = core::mem::replace(&mut entry.value, value) {
                    self.bytes -= old.len();
                    return false; // keeps its place among the unread
                }
                entry.order = order;
            }
            None => {
                source.entries.insert(id.clone(), Entry { seq, value, order });
            }
        }
        self.unread.entry(tag).or_default().insert(order, (from, id.1));
        true
    }

    /// The next unread value of a channel.
    pub fn take(&mut self, tag: Tag) -> Option<Message> {
        let queue = self.unread.get_mut(&tag)?;
        let (_, (from, key)) = queue.pop_first()?;
        if queue.is_empty() {
            self.unread.remove(&tag);
        }
        let id = (tag, key);
        let (sent_at, payload) = self.sources.get_mut(&from)?.entries.get_mut(&id)?.value.take()?;
        self.bytes -= payload.len();
        Some(Message { from, sent_at, key: (!id.1.is_empty()).then_some(id.1), payload })
    }

    pub fn has_unread(&self, tag: Tag) -> bool {
        self.unread.contains_key(&tag)
    }

    /// Drops the unread values of a channel; what is remembered of their order stays.
    pub fn close(&mut self, tag: Tag) {
        while self.take(tag).is_some() {}
    }

    /// Forgets a node, its unread values included.
    pub fn forget(&mut self, node: &NodeId) {
        let ids: Vec<(Tag, String)> = self.sources.get(node).map(|s| s.entries.keys().cloned().collect()).unwrap_or_default();
        for id in ids {
            self.remove(*node, &id);
        }
        self.sources.remove(node);
    }

    fn remove(&mut self, from: NodeId, id: &(Tag, String)) {
        let Some(entry) = self.sources.get_mut(&from).and_then(|s| s.entries.remove(id)) else { return };
        let Some((_, bytes)) = entry.value else { return };
        self.bytes -= bytes.len();
        if let Some(queue) = self.unread.get_mut(&id.0) {
            queue.remove(&entry.order);
            if queue.is_empty() {
                self.unread.remove(&id.0);
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
