//! The streams this node sends.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use super::{
    super::{
        ChannelId, Effect, Mode, SendId,
        msg::{self, Ack, Head, Item, Tag},
        sender::{Acked, SendStream},
    },
    Channels, Outgoing, Timer, arm,
};
use crate::base::{Code, Error, Gather, NodeId, Now, Reject, limit};
use crate::wire::bytes::Writer;

impl Channels {
    pub(super) fn check(
        &self,
        id: ChannelId,
        to: &[NodeId],
        payload: &[u8],
        key: Option<String>,
    ) -> Result<(Mode, Tag, Vec<NodeId>, String), Error> {
        let channel = self.channels.get(&id).ok_or_else(|| Error::new(Code::Closed, "the channel is closed"))?;
        let bound = match channel.mode {
            Mode::Reliable => limit::RELIABLE_MESSAGE,
            Mode::Latest => limit::LATEST_VALUE,
            Mode::Datagram => limit::DATAGRAM,
        };
        if payload.len() > bound {
            let text = alloc::format!("{} bytes are more than the {bound} that a {:?} channel takes", payload.len(), channel.mode);
            return Err(Error::new(Code::TooLarge, text));
        }
        let key = key.unwrap_or_default();
        if key.len() > limit::MESSAGE_KEY {
            return Err(Error::new(Code::BadArgument, alloc::format!("a key has at most {} bytes", limit::MESSAGE_KEY)));
        }
        let to: BTreeSet<NodeId> = to.iter().copied().filter(|n| *n != self.me).gather();
        Ok((channel.mode, channel.tag, to.into_iter().collect(), key))
    }

    pub(super) fn new_send(&mut self) -> SendId {
        self.next_send += 1;
        SendId(self.next_send)
    }

    pub(super) fn enqueue(&mut self, now: Now, tag: Tag, to: &[NodeId], payload: Vec<u8>, key: String) -> SendId {
        let id = self.new_send();
        let len = payload.len() as u64;
        let out = Outgoing { payload, key, sent_at: now.wall, holders: to.len(), waiting: to.len(), taken: false, missed: Vec::new() };
        self.sending += out.size();
        self.outgoing.insert(id, out);
        for node in to {
            let key = (*node, tag);
            if !self.senders.contains_key(&key) {
                let epoch = self.new_epoch(now, 0);
                self.senders.insert(key, SendStream::new(epoch));
            }
            if let Some(stream) = self.senders.get_mut(&key) {
                stream.push(now, &self.config, id, len);
            }
            self.accept(key);
            self.arm_sender(key);
        }
        id
    }

    /// An epoch no stream of this node ever had, as far as its clock and 16 random bits tell, and above `known`.
    pub(super) fn new_epoch(&mut self, now: Now, known: u64) -> u64 {
        let drawn = now.wall.0.saturating_mul(1 << 16).saturating_add(u64::from(u16::from_be_bytes(self.rng.bytes())));
        self.last_epoch = self.last_epoch.max(known).saturating_add(1).max(drawn);
        self.last_epoch
    }

    /// Counts the messages that a window has taken since the last time.
    pub(super) fn accept(&mut self, key: (NodeId, Tag)) {
        let fit = self.senders.get_mut(&key).map(SendStream::newly_accepted).unwrap_or_default();
        for id in fit {
            self.settle(id, None);
        }
    }

    /// One recipient less to wait for: its window took the message, or it is gone and misses it.
    pub(super) fn settle(&mut self, id: SendId, gone: Option<NodeId>) {
        let Some(out) = self.outgoing.get_mut(&id) else { return };
        out.taken |= gone.is_none();
        out.missed.extend(gone);
        out.waiting -= 1;
        if out.waiting == 0 {
            self.effects.push_back(Effect::SendDone { id, missed: core::mem::take(&mut out.missed), taken: out.taken });
        }
    }

    /// One stream less queues the message.
    pub(super) fn drop_holder(&mut self, id: SendId) {
        let Some(out) = self.outgoing.get_mut(&id) else { return };
        out.holders -= 1;
        if out.holders == 0 {
            self.sending -= out.size();
            self.outgoing.remove(&id);
        }
    }

    /// Pieces of one stream, as many as fit a payload, or its question.
    pub(super) fn fill(&mut self, now: Now, key: (NodeId, Tag)) -> Vec<u8> {
        let Some(stream) = self.senders.get_mut(&key) else { return Vec::new() };
        let mut w = Writer::new();
        if let Some(nonce) = stream.take_ask(now, &self.config) {
            Item::Ask { tag: key.1, epoch: stream.epoch, nonce }.write(&mut w);
            return w.finish();
        }
        while let Some(piece) = stream.next_piece() {
            if !w.as_slice().is_empty() && w.as_slice().len() + piece.len + msg::HEADER > limit::CHUNK {
                break;
            }
            let Some(out) = self.outgoing.get(&piece.id) else { break };
            // Bounded by `limit::RELIABLE_MESSAGE`, which fits 32 bits.
            let head = (piece.offset == 0).then_some(Head { total: out.payload.len() as u32, sent_at: out.sent_at, key: &out.key });
            let bytes = out.payload.get(piece.offset..piece.offset + piece.len).unwrap_or_default();
            Item::Piece { tag: key.1, epoch: stream.epoch, pos: piece.pos, head, bytes }.write(&mut w);
            stream.piece_sent(now, &self.config, &piece);
        }
        w.finish()
    }

    pub(super) fn handle_ack(&mut self, now: Now, from: NodeId, ack: &Ack) -> Result<(), Reject> {
        let key = (from, ack.tag);
        let Some(stream) = self.senders.get_mut(&key) else { return Ok(()) };
        match stream.handle_ack(now, &self.config, ack)? {
            Acked::Freed(freed) => {
                self.accept(key);
                for id in freed {
                    self.drop_holder(id);
                }
            }
            Acked::Restart(known) => {
                // 34 years ahead of the clock: nonsense, which could use up the epochs.
                if known > now.wall.0.saturating_add(1 << 40).saturating_mul(1 << 16) {
                    return Err(Reject::Malformed);
                }
                let epoch = self.new_epoch(now, known);
                if let Some(stream) = self.senders.get_mut(&key) {
                    stream.restart(now, &self.config, epoch);
                }
                self.accept(key);
            }
        }
        self.arm_sender(key);
        Ok(())
    }

    /// Keeps a stream's timer, its place in the round, and its life in step with its state.
    pub(super) fn arm_sender(&mut self, key: (NodeId, Tag)) {
        let Some(stream) = self.senders.get_mut(&key) else { return };
        let timer = Timer::Send(key.0, key.1);
        let deadline = stream.deadline();
        arm(&mut self.timers, timer, &mut stream.armed, deadline);
        if !stream.active && stream.wants() {
            stream.active = true;
            self.round.push_back(key);
        }
        if stream.is_idle() && !self.open.contains_key(&key.1) {
            if let Some(at) = stream.armed {
                self.timers.remove(&(at, timer));
            }
            self.senders.remove(&key);
        }
    }
}
