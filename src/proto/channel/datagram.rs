//! Messages of `datagram` channels: sent once or dropped, read once, never an older one after a newer one of the same sender.

use alloc::{collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::{Message, msg::Tag};
use crate::base::{Map, Mono, NodeId, limit};

/// What could not be sent for so long is of no use any more.
const STALE: Duration = Duration::from_millis(250);

/// What waits for the next look at the links, which is a moment away unless nothing may be sent just now.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<(Mono, Vec<NodeId>, Vec<u8>)>,
}

impl Outbox {
    pub fn put(&mut self, now: Mono, to: Vec<NodeId>, item: Vec<u8>) {
        self.queue.push_back((now, to, item));
        if self.queue.len() > limit::DATAGRAMS {
            self.queue.pop_front();
        }
    }

    /// The next one, for those of its recipients that are ready; whoever is not misses it.
    pub fn take(&mut self, now: Mono, ready: &dyn Fn(&NodeId) -> bool) -> Option<(Vec<NodeId>, Vec<u8>)> {
        while let Some((at, mut to, item)) = self.queue.pop_front() {
            to.retain(|node| now.since(at) < STALE && ready(node));
            if !to.is_empty() {
                return Some((to, item));
            }
        }
        None
    }

    pub fn bytes(&self) -> usize {
        self.queue.iter().map(|(_, _, item)| item.len()).sum()
    }
}

/// What came and was not read yet.
#[derive(Default)]
pub struct Inbox {
    unread: VecDeque<(Tag, Message)>,
    /// The newest of each sender on each open channel.
    newest: Map<(Tag, NodeId), u64>,
}

impl Inbox {
    /// Takes a message of an open channel unless a later one came before it. Where too much is unread the oldest goes, of the same
    /// sender and channel if that has more than its share.
    pub fn insert(&mut self, tag: Tag, seq: u64, message: Message) -> bool {
        let newest = self.newest.entry((tag, message.from)).or_insert(0);
        if seq <= *newest {
            return false;
        }
        *newest = seq;
        let own = |(of, m): &(Tag, Message)| *of == tag && m.from == message.from;
        let share = self.unread.iter().filter(|u| own(u)).count() >= limit::DATAGRAMS_OF_ONE;
        if share || self.unread.len() >= limit::DATAGRAMS {
            let first = self.unread.iter().position(|u| !share || own(u));
            first.map(|at| self.unread.remove(at));
        }
        self.unread.push_back((tag, message));
        true
    }

    pub fn take(&mut self, tag: Tag) -> Option<Message> {
        let at = self.unread.iter().position(|(of, _)| *of == tag)?;
        self.unread.remove(at).map(|(_, message)| message)
    }

    pub fn close(&mut self, tag: Tag) {
        self.unread.retain(|(of, _)| *of != tag);
        self.newest.retain(|(t, _), _| *t != tag);
    }

    /// Forgets a node; what it sent stays readable.
    pub fn forget(&mut self, node: &NodeId) {
        self.newest.retain(|(_, n), _| n != node);
    }

    pub fn bytes(&self) -> usize {
        self.unread.iter().map(|(_, m)| m.payload.len()).sum()
    }
}
