//! The streams this node receives.

use alloc::vec::Vec;

use super::{
    super::{
        Effect, Message, Transmit,
        msg::{Item, Tag},
        receiver::RecvStream,
    },
    ACKS, Channels, Timer, arm, keys_of, keys_of_set,
};
use crate::base::{NodeId, Now, Reject, limit};
use crate::wire::{bytes::Writer, frame::Lane};

impl Channels {
    pub(super) fn handle_item(&mut self, now: Now, from: NodeId, item: Item<'_>) -> Result<(), Reject> {
        match item {
            Item::Ack(ack) => self.handle_ack(now, from, &ack),
            Item::Latest { tag, seq, sent_at, key, bytes } => {
                let open = &self.open;
                if self.latest_in.insert(from, tag, seq, key, (sent_at, bytes), &|tag| open.contains_key(tag)) {
                    self.announce(tag);
                }
                Ok(())
            }
            Item::Datagram { tag, seq, sent_at, key, bytes } => {
                let key = (!key.is_empty()).then(|| key.into());
                let message = Message { from, sent_at, key, payload: bytes.into() };
                if self.open.contains_key(&tag) && self.datagrams_in.insert(tag, seq, message) {
                    self.announce(tag);
                }
                Ok(())
            }
            Item::Cast { tag, epoch, pos, head, bytes } => {
                let key = (from, tag);
                for whole in self.cast_in.piece(now, key, (epoch, pos), head, bytes)? {
                    self.deliver_cast(key, whole);
                }
                Ok(())
            }
            Item::Ask { tag, epoch, nonce } => {
                let key = (from, tag);
                if self.enter(key, epoch)?
                    && let Some(stream) = self.receivers.get_mut(&key)
                {
                    stream.asked(nonce);
                }
                self.arm_receiver(key);
                Ok(())
            }
            Item::Piece { tag, epoch, pos, head, bytes } => {
                let key = (from, tag);
                let mut whole = Vec::new();
                let mut result = Ok(());
                if self.enter(key, epoch)?
                    && let Some(stream) = self.receivers.get_mut(&key)
                {
                    result = stream.piece(now, self.config.ack_delay, pos, head, bytes, &mut whole);
                }
                for message in whole {
                    self.inbox.entry(tag).or_default().push_back((from, message));
                    self.announce(tag);
                }
                self.regrant(key);
                result
            }
        }
    }

    /// Finds or makes the stream; `false`: the sender means an older epoch and is told the newer one.
    pub(super) fn enter(&mut self, key: (NodeId, Tag), epoch: u64) -> Result<bool, Reject> {
        if epoch == 0 {
            return Err(Reject::Malformed);
        }
        let id = self.receiver_number();
        if !self.receivers.contains_key(&key) {
            while self.receivers.len() >= limit::RECEIVE_STREAMS {
                if !self.shed(|channels, node| !keys_of(&channels.receivers, *node).is_empty()) {
                    return Err(Reject::Limit);
                }
            }
            let unopened = keys_of(&self.receivers, key.0).iter().filter(|(_, tag)| !self.open.contains_key(tag)).count();
            if !self.open.contains_key(&key.1) && unopened >= limit::UNOPENED {
                return Err(Reject::Limit);
            }
            self.receivers.insert(key, RecvStream::new(id));
        }
        let window = self.window(key.1);
        let Some(stream) = self.receivers.get_mut(&key) else { return Ok(false) };
        if epoch < stream.epoch() {
            stream.ack_now = true;
            return Ok(false);
        }
        if epoch > stream.epoch() {
            let freed = stream.reset(id, epoch);
            stream.grant(window);
            self.release(key.0, freed);
        }
        Ok(true)
    }

    pub(super) fn receiver_number(&mut self) -> u32 {
        u32::from_be_bytes(self.rng.bytes())
    }

    /// What a stream of this channel may hold.
    pub(super) fn window(&self, tag: Tag) -> u64 {
        if !self.open.contains_key(&tag) {
            return limit::INITIAL_CREDIT as u64;
        }
        let share = limit::RECEIVE_QUEUE / self.receivers.len().max(1);
        share.clamp(limit::INITIAL_CREDIT, limit::STREAM_WINDOW) as u64
    }

    pub(super) fn regrant(&mut self, key: (NodeId, Tag)) {
        let window = self.window(key.1);
        let open = self.open.contains_key(&key.1);
        let Some(stream) = self.receivers.get_mut(&key) else { return };
        stream.grant(window);
        if open && stream.wants_reserve(window).is_some() && !self.wanting.contains(&key) {
            self.wanting.push_back(key);
            self.serve_reserve();
        }
        self.arm_receiver(key);
    }

    /// Gives what is left of the reserve to the long messages that wait for it, first come first served. A sender holds at
    /// most as much as one message of the greatest length needs.
    pub(super) fn serve_reserve(&mut self) {
        for _ in 0..self.wanting.len() {
            let Some(key) = self.wanting.pop_front() else { return };
            let window = self.window(key.1);
            let Some(stream) = self.receivers.get_mut(&key) else { continue };
            let Some(cost) = stream.wants_reserve(window).filter(|_| self.open.contains_key(&key.1)) else { continue };
            let own = self.reserved.get(&key.0).copied().unwrap_or(0);
            // Who is lost needs none now.
            if self.lost.contains_key(&key.0) || (own > 0 && own + cost > limit::RELIABLE_MESSAGE as u64) {
                self.wanting.push_back(key);
                continue;
            }
            let fits = |channels: &Channels| channels.reserved.values().sum::<u64>() + cost <= limit::RECEIVE_QUEUE as u64;
            while !fits(self) && self.shed(|channels, node| channels.reserved.contains_key(node)) {}
            if !fits(self) {
                self.wanting.push_back(key);
                continue;
            }
            let Some(stream) = self.receivers.get_mut(&key) else { continue };
            stream.reserve();
            stream.grant(window);
            *self.reserved.entry(key.0).or_insert(0) += cost;
            self.arm_receiver(key);
        }
    }

    pub(super) fn release(&mut self, node: NodeId, cost: u64) {
        if let Some(held) = self.reserved.get_mut(&node) {
            *held = held.saturating_sub(cost);
            if *held == 0 {
                self.reserved.remove(&node);
            }
        }
    }

    /// The application has, or will never have, a message of this stream.
    pub(super) fn taken(&mut self, key: (NodeId, Tag), cost: u64, reserved: u64) {
        self.release(key.0, reserved);
        let window = self.window(key.1);
        if let Some(stream) = self.receivers.get_mut(&key) {
            stream.taken(cost);
            stream.grant(window);
        }
        if !self.forget_receiver(key) {
            self.arm_receiver(key);
        }
    }

    pub(super) fn forget_receiver(&mut self, key: (NodeId, Tag)) -> bool {
        let forget = self.receivers.get(&key).is_some_and(RecvStream::is_forgettable);
        if forget
            && let Some(stream) = self.receivers.remove(&key)
            && let Some(at) = stream.armed
        {
            self.timers.remove(&(at, Timer::Receive(key.0, key.1)));
        }
        forget
    }

    pub(super) fn receivers_of(&self, tag: Tag) -> Vec<(NodeId, Tag)> {
        self.receivers.keys().copied().filter(|key| key.1 == tag).collect()
    }

    pub(super) fn announce(&mut self, tag: Tag) {
        let Some(id) = self.open.get(&tag) else { return };
        if let Some(channel) = self.channels.get_mut(id)
            && !core::mem::replace(&mut channel.announced, true)
        {
            self.effects.push_back(Effect::Readable { channel: *id });
        }
    }

    pub(super) fn arm_receiver(&mut self, key: (NodeId, Tag)) {
        let Some(stream) = self.receivers.get_mut(&key) else { return };
        if stream.epoch() == 0 {
            return;
        }
        if stream.ack_now {
            self.acks.insert(key);
        }
        let deadline = if stream.ack_now { None } else { stream.deadline() };
        arm(&mut self.timers, Timer::Receive(key.0, key.1), &mut stream.armed, deadline);
    }

    pub(super) fn poll_acks(&mut self, ready: &dyn Fn(&NodeId, Lane) -> bool) -> Option<Transmit> {
        let mut refused = None;
        let node = self.acks.iter().map(|(node, _)| *node).find(|node| {
            let ok = refused != Some(*node) && ready(node, Lane::Control);
            refused = (!ok).then_some(*node);
            ok
        })?;
        let keys: Vec<_> = keys_of_set(&self.acks, node).take(ACKS).collect();
        let mut w = Writer::new();
        for key in keys {
            self.acks.remove(&key);
            if let Some(stream) = self.receivers.get_mut(&key) {
                Item::Ack(stream.take_ack(key.1)).write(&mut w);
            }
        }
        let payload = w.finish();
        if payload.is_empty() { self.poll_acks(ready) } else { Some(Transmit { to: alloc::vec![node], lane: Lane::Control, payload }) }
    }
}
