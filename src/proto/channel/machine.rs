//! The machine of all channels of one domain.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use super::{
    ChannelId, Config, Effect, Message, Mode, SendId, Transmit, Usage, latest,
    msg::{self, Ack, COST, Head, Item, Tag},
    receiver::{Complete, RecvStream},
    sender::{Acked, SendStream, cost},
};
use crate::base::{Code, Error, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::wire::{bytes::Writer, frame::Lane};

/// Acknowledgements in one payload.
const ACKS: usize = 64;

struct Channel {
    mode: Mode,
    tag: Tag,
    /// `Readable` was said and the application has not yet read until nothing was left.
    announced: bool,
}

struct Outgoing {
    payload: Vec<u8>,
    key: String,
    sent_at: Wall,
    /// Streams that still queue it.
    holders: usize,
    /// Of those, whose window has not taken it.
    waiting: usize,
    /// One window at least has.
    accepted: bool,
}

impl Outgoing {
    fn size(&self) -> usize {
        self.payload.len() + COST as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Send(NodeId, Tag),
    Receive(NodeId, Tag),
}

/// The channels of one domain. Give it the plaintext payloads of the other participants and the two events about links;
/// after every call take the effects, then what is to be transmitted.
pub struct Channels {
    config: Config,
    me: NodeId,
    rng: Rng,
    last_epoch: u64,
    next_channel: u32,
    next_send: u64,
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<String, ChannelId>,
    open: BTreeMap<Tag, ChannelId>,
    effects: VecDeque<Effect>,
    timers: BTreeSet<(Mono, Timer)>,

    outgoing: BTreeMap<SendId, Outgoing>,
    sending: usize,
    senders: BTreeMap<(NodeId, Tag), SendStream>,
    round: VecDeque<(NodeId, Tag)>,

    receivers: BTreeMap<(NodeId, Tag), RecvStream>,
    inbox: BTreeMap<Tag, VecDeque<(NodeId, Complete)>>,
    acks: BTreeSet<(NodeId, Tag)>,
    reserved: BTreeMap<NodeId, u64>,
    wanting: VecDeque<(NodeId, Tag)>,

    latest_out: latest::Outbox,
    latest_in: latest::Inbox,
}

impl Channels {
    /// No channel open.
    #[must_use]
    pub fn new(config: Config, me: NodeId, rng: Rng) -> Channels {
        Channels {
            config,
            me,
            rng,
            last_epoch: 0,
            next_channel: 0,
            next_send: 0,
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            open: BTreeMap::new(),
            effects: VecDeque::new(),
            timers: BTreeSet::new(),
            outgoing: BTreeMap::new(),
            sending: 0,
            senders: BTreeMap::new(),
            round: VecDeque::new(),
            receivers: BTreeMap::new(),
            inbox: BTreeMap::new(),
            acks: BTreeSet::new(),
            reserved: BTreeMap::new(),
            wanting: VecDeque::new(),
            latest_out: latest::Outbox::default(),
            latest_in: latest::Inbox::default(),
        }
    }

    // ---- the application ------------------------------------------------------------------------------------------------

    /// Opens a channel. The same name and mode again give the same channel.
    ///
    /// # Errors
    /// [`Code::BadArgument`]: the name is empty, longer than [`limit::CHANNEL_NAME`] bytes, or open with the other mode.
    /// [`Code::Busy`]: [`limit::CHANNELS`] are open.
    pub fn open(&mut self, _now: Now, name: &str, mode: Mode) -> Result<ChannelId, Error> {
        if name.is_empty() || name.len() > limit::CHANNEL_NAME {
            return Err(Error::new(Code::BadArgument, alloc::format!("a channel name has 1 to {} bytes", limit::CHANNEL_NAME)));
        }
        if let Some((id, channel)) = self.names.get(name).and_then(|id| Some((*id, self.channels.get(id)?))) {
            return if channel.mode == mode {
                Ok(id)
            } else {
                let text = alloc::format!("the channel \"{name}\" is open with mode {:?}", channel.mode);
                Err(Error::new(Code::BadArgument, text).hint("Use one mode per name, or another name"))
            };
        }
        if self.channels.len() >= limit::CHANNELS {
            return Err(Error::new(Code::Busy, alloc::format!("{} channels are open", limit::CHANNELS)).hint("Close one that is not used"));
        }
        let id = ChannelId(self.next_channel);
        self.next_channel += 1;
        let tag = Tag::of(mode, name);
        self.channels.insert(id, Channel { mode, tag, announced: false });
        self.names.insert(name.into(), id);
        self.open.insert(tag, id);
        for key in self.receivers_of(tag) {
            self.regrant(key);
        }
        if self.inbox.get(&tag).is_some_and(|q| !q.is_empty()) || self.latest_in.has_unread(tag) {
            self.announce(tag);
        }
        Ok(id)
    }

    /// Closes a channel here: what it has not yet given to the application is dropped. What was sent on it still goes out.
    /// Closing twice is harmless.
    pub fn close(&mut self, id: ChannelId) {
        let Some(Channel { tag, .. }) = self.channels.remove(&id) else { return };
        self.names.retain(|_, open| *open != id);
        self.open.remove(&tag);
        self.latest_in.close(tag);
        self.latest_out.close(id);
        for (from, message) in self.inbox.remove(&tag).unwrap_or_default() {
            self.taken((from, tag), message.cost, message.reserved);
        }
        for key in self.receivers_of(tag) {
            if let Some(stream) = self.receivers.get_mut(&key) {
                let freed = stream.discard();
                self.release(key.0, freed);
            }
        }
        self.serve_reserve();
    }

    /// Is this channel open?
    #[must_use]
    pub fn is_open(&self, id: ChannelId) -> bool {
        self.channels.contains_key(&id)
    }

    /// Queues a message for every recipient named (this node and repetitions are skipped). The end is told by
    /// [`Effect::SendDone`]. A `latest` value replaces what still waits under its key, and its send ends at once.
    ///
    /// # Errors
    /// [`Code::Closed`], [`Code::NoParticipant`] (nobody to send to), [`Code::TooLarge`], [`Code::BadArgument`] (the key is
    /// longer than [`limit::MESSAGE_KEY`]), [`Code::Busy`] ([`limit::SEND_QUEUE`] is reached: wait for the end of earlier sends).
    pub fn send(&mut self, now: Now, id: ChannelId, to: &[NodeId], payload: Vec<u8>, key: Option<String>) -> Result<SendId, Error> {
        let (mode, tag, to, key) = self.check(id, to, &payload, key)?;
        if to.is_empty() {
            return Err(Error::new(Code::NoParticipant, "there is nobody to send to"));
        }
        let full = || Error::new(Code::Busy, "the send queue is full").hint("Wait until earlier sends are done");
        match mode {
            Mode::Latest => {
                if !self.latest_out.put(id, tag, now.wall, &to, &key, &payload) {
                    return Err(full());
                }
                let send = self.new_send();
                self.effects.push_back(Effect::SendDone { id: send, result: Ok(()) });
                Ok(send)
            }
            Mode::Reliable => {
                if self.sending.saturating_add(payload.len()) > limit::SEND_QUEUE {
                    return Err(full());
                }
                Ok(self.enqueue(now, tag, &to, payload, key))
            }
        }
    }

    /// Like [`Channels::send`], but never waits: `false` says that nothing was queued for anybody, because the window of one
    /// of the recipients or the queue has no room, or because there is no recipient.
    ///
    /// # Errors
    /// [`Code::Closed`], [`Code::TooLarge`], [`Code::BadArgument`].
    pub fn post(&mut self, now: Now, id: ChannelId, to: &[NodeId], payload: Vec<u8>, key: Option<String>) -> Result<bool, Error> {
        let (mode, tag, to, key) = self.check(id, to, &payload, key)?;
        if to.is_empty() {
            return Ok(false);
        }
        if mode == Mode::Latest {
            return Ok(self.latest_out.put(id, tag, now.wall, &to, &key, &payload));
        }
        let len = payload.len() as u64;
        let room = |node: &NodeId| match self.senders.get(&(*node, tag)) {
            Some(stream) => stream.has_room(len),
            None => cost(len) <= limit::INITIAL_CREDIT as u64,
        };
        if self.sending.saturating_add(payload.len()) > limit::SEND_QUEUE || !to.iter().all(room) {
            return Ok(false);
        }
        let send = self.enqueue(now, tag, &to, payload, key);
        // It fitted every window, so it is done already, and nobody waits for its end.
        self.effects.pop_back_if(|e| matches!(e, Effect::SendDone { id, .. } if *id == send));
        Ok(true)
    }

    /// The next message of a channel, if one is there.
    pub fn receive(&mut self, id: ChannelId) -> Option<Message> {
        let channel = self.channels.get_mut(&id)?;
        let tag = channel.tag;
        let message = match channel.mode {
            Mode::Latest => self.latest_in.take(tag),
            Mode::Reliable => self.inbox.get_mut(&tag).and_then(VecDeque::pop_front).map(|(from, m)| {
                self.taken((from, tag), m.cost, m.reserved);
                Message { from, sent_at: m.sent_at, key: m.key, payload: m.payload }
            }),
        };
        if message.is_none() {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.announced = false;
            }
        } else {
            self.serve_reserve();
        }
        message
    }

    /// The next thing to tell the application.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What is held now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let unread: u64 = self.receivers.values().map(RecvStream::usage).sum();
        Usage {
            sending: self.sending + self.latest_out.bytes(),
            received: unread as usize + self.latest_in.bytes(),
            streams: self.senders.len() + self.receivers.len(),
        }
    }

    // ---- the links ------------------------------------------------------------------------------------------------------

    /// The next payload to seal and send, to recipients for which `ready` holds on its lane. Call until it gives `None`.
    /// Acknowledgements and `latest` values take the control lane, streams the bulk lane, one after the other in turn.
    pub fn poll_transmit(&mut self, now: Now, ready: &dyn Fn(&NodeId, Lane) -> bool) -> Option<Transmit> {
        if let Some(transmit) = self.poll_acks(ready) {
            return Some(transmit);
        }
        if let Some((to, payload)) = self.latest_out.take(&|node| ready(node, Lane::Control)) {
            return Some(Transmit { to, lane: Lane::Control, payload });
        }
        for _ in 0..self.round.len() {
            let key = self.round.pop_front()?;
            let Some(stream) = self.senders.get_mut(&key) else { continue };
            if !stream.wants() {
                stream.active = false;
                continue;
            }
            self.round.push_back(key);
            if ready(&key.0, Lane::Bulk) {
                let payload = self.fill(now, key);
                self.arm_sender(key);
                if !payload.is_empty() {
                    return Some(Transmit { to: alloc::vec![key.0], lane: Lane::Bulk, payload });
                }
            }
        }
        None
    }

    /// Takes a payload opened from a participant's frame.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], [`Reject::Malformed`], [`Reject::UnknownKind`]: nothing of it was used. [`Reject::Limit`]: sent
    /// past its credit, or on more channels than are kept for one sender; [`Reject::Misdirected`]: by this node itself. Of
    /// several items the others were used.
    pub fn handle(&mut self, now: Now, from: NodeId, payload: &[u8]) -> Result<(), Reject> {
        if from == self.me {
            return Err(Reject::Misdirected);
        }
        let mut first = Ok(());
        for item in msg::decode(payload)? {
            first = first.and(self.handle_item(now, from, item));
        }
        first
    }

    /// A link to the node came up: both sides find out what was lost with the last one.
    pub fn link_up(&mut self, _now: Now, node: NodeId) {
        for key in keys_of(&self.senders, node) {
            if let Some(stream) = self.senders.get_mut(&key) {
                stream.link_up();
            }
            self.arm_sender(key);
        }
        self.latest_out.resend(&node);
    }

    /// The node left, was evicted or is down for good: what waits for it fails with [`Code::NoParticipant`], half messages
    /// are dropped. Whole messages already here stay readable; its unread `latest` values do not.
    pub fn peer_gone(&mut self, _now: Now, node: NodeId) {
        for key in keys_of(&self.senders, node) {
            let Some(mut stream) = self.senders.remove(&key) else { continue };
            if let Some(at) = stream.armed {
                self.timers.remove(&(at, Timer::Send(key.0, key.1)));
            }
            for (id, accepted) in stream.drain() {
                if !accepted {
                    self.settle(id, false);
                }
                self.drop_holder(id);
            }
        }
        self.round.retain(|key| key.0 != node);
        for key in keys_of(&self.receivers, node) {
            let id = self.receiver_number();
            let Some(stream) = self.receivers.get_mut(&key) else { continue };
            let freed = stream.reset(id, 0);
            self.acks.remove(&key);
            self.forget_receiver(key);
            self.release(node, freed);
        }
        self.latest_out.forget(&node);
        self.latest_in.forget(&node);
        self.serve_reserve();
    }

    /// Time passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        while let Some((_, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.timers.pop_first();
            match timer {
                Timer::Send(node, tag) => {
                    if let Some(stream) = self.senders.get_mut(&(node, tag)) {
                        stream.armed = None;
                        stream.on_timeout(now);
                    }
                    self.arm_sender((node, tag));
                }
                Timer::Receive(node, tag) => {
                    if let Some(stream) = self.receivers.get_mut(&(node, tag)) {
                        stream.armed = None;
                        stream.on_timeout(now);
                    }
                    self.arm_receiver((node, tag));
                }
            }
        }
    }

    /// When [`Channels::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    // ---- sending --------------------------------------------------------------------------------------------------------

    fn check(&self, id: ChannelId, to: &[NodeId], payload: &[u8], key: Option<String>) -> Result<(Mode, Tag, Vec<NodeId>, String), Error> {
        let channel = self.channels.get(&id).ok_or_else(|| Error::new(Code::Closed, "the channel is closed"))?;
        let bound = match channel.mode {
            Mode::Reliable => limit::RELIABLE_MESSAGE,
            Mode::Latest => limit::LATEST_VALUE,
        };
        if payload.len() > bound {
            let text = alloc::format!("{} bytes are more than the {bound} that a {:?} channel takes", payload.len(), channel.mode);
            return Err(Error::new(Code::TooLarge, text));
        }
        let key = key.unwrap_or_default();
        if key.len() > limit::MESSAGE_KEY {
            return Err(Error::new(Code::BadArgument, alloc::format!("a key has at most {} bytes", limit::MESSAGE_KEY)));
        }
        let to: BTreeSet<NodeId> = to.iter().copied().filter(|n| *n != self.me).collect();
        Ok((channel.mode, channel.tag, to.into_iter().collect(), key))
    }

    fn new_send(&mut self) -> SendId {
        self.next_send += 1;
        SendId(self.next_send)
    }

    fn enqueue(&mut self, now: Now, tag: Tag, to: &[NodeId], payload: Vec<u8>, key: String) -> SendId {
        let id = self.new_send();
        let len = payload.len() as u64;
        let out = Outgoing { payload, key, sent_at: now.wall, holders: to.len(), waiting: to.len(), accepted: false };
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
    fn new_epoch(&mut self, now: Now, known: u64) -> u64 {
        let drawn = now.wall.0.saturating_mul(1 << 16).saturating_add(u64::from(u16::from_be_bytes(self.rng.bytes())));
        self.last_epoch = self.last_epoch.max(known).saturating_add(1).max(drawn);
        self.last_epoch
    }

    /// Counts the messages that a window has taken since the last time.
    fn accept(&mut self, key: (NodeId, Tag)) {
        let fit = self.senders.get_mut(&key).map(SendStream::newly_accepted).unwrap_or_default();
        for id in fit {
            self.settle(id, true);
        }
    }

    /// One recipient less to wait for: its window took the message, or it is gone.
    fn settle(&mut self, id: SendId, accepted: bool) {
        let Some(out) = self.outgoing.get_mut(&id) else { return };
        out.accepted |= accepted;
        out.waiting -= 1;
        if out.waiting == 0 {
            let result = if out.accepted { Ok(()) } else { Err(Code::NoParticipant) };
            self.effects.push_back(Effect::SendDone { id, result });
        }
    }

    /// One stream less queues the message.
    fn drop_holder(&mut self, id: SendId) {
        let Some(out) = self.outgoing.get_mut(&id) else { return };
        out.holders -= 1;
        if out.holders == 0 {
            self.sending -= out.size();
            self.outgoing.remove(&id);
        }
    }

    /// Pieces of one stream, as many as fit a payload, or its question.
    fn fill(&mut self, now: Now, key: (NodeId, Tag)) -> Vec<u8> {
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

    fn handle_ack(&mut self, now: Now, from: NodeId, ack: &Ack) -> Result<(), Reject> {
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
    fn arm_sender(&mut self, key: (NodeId, Tag)) {
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

    // ---- receiving ------------------------------------------------------------------------------------------------------

    fn handle_item(&mut self, now: Now, from: NodeId, item: Item<'_>) -> Result<(), Reject> {
        match item {
            Item::Ack(ack) => self.handle_ack(now, from, &ack),
            Item::Latest { tag, seq, sent_at, key, bytes } => {
                let open = &self.open;
                if self.latest_in.insert(from, tag, seq, key, (sent_at, bytes), &|tag| open.contains_key(tag)) {
                    self.announce(tag);
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
    fn enter(&mut self, key: (NodeId, Tag), epoch: u64) -> Result<bool, Reject> {
        if epoch == 0 {
            return Err(Reject::Malformed);
        }
        let id = self.receiver_number();
        if !self.receivers.contains_key(&key) {
            if self.receivers.len() >= limit::RECEIVE_STREAMS {
                return Err(Reject::Limit);
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

    fn receiver_number(&mut self) -> u32 {
        u32::from_be_bytes(self.rng.bytes())
    }

    /// What a stream of this channel may hold.
    fn window(&self, tag: Tag) -> u64 {
        if !self.open.contains_key(&tag) {
            return limit::INITIAL_CREDIT as u64;
        }
        let share = limit::RECEIVE_QUEUE / self.receivers.len().max(1);
        share.clamp(limit::INITIAL_CREDIT, limit::STREAM_WINDOW) as u64
    }

    fn regrant(&mut self, key: (NodeId, Tag)) {
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
    fn serve_reserve(&mut self) {
        for _ in 0..self.wanting.len() {
            let Some(key) = self.wanting.pop_front() else { return };
            let window = self.window(key.1);
            let total: u64 = self.reserved.values().sum();
            let Some(stream) = self.receivers.get_mut(&key) else { continue };
            let Some(cost) = stream.wants_reserve(window).filter(|_| self.open.contains_key(&key.1)) else { continue };
            let own = self.reserved.get(&key.0).copied().unwrap_or(0);
            if total + cost > limit::RECEIVE_QUEUE as u64 || (own > 0 && own + cost > limit::RELIABLE_MESSAGE as u64) {
                self.wanting.push_back(key);
                continue;
            }
            stream.reserve();
            stream.grant(window);
            *self.reserved.entry(key.0).or_insert(0) += cost;
            self.arm_receiver(key);
        }
    }

    fn release(&mut self, node: NodeId, cost: u64) {
        if let Some(held) = self.reserved.get_mut(&node) {
            *held = held.saturating_sub(cost);
            if *held == 0 {
                self.reserved.remove(&node);
            }
        }
    }

    /// The application has, or will never have, a message of this stream.
    fn taken(&mut self, key: (NodeId, Tag), cost: u64, reserved: u64) {
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

    fn forget_receiver(&mut self, key: (NodeId, Tag)) -> bool {
        let forget = self.receivers.get(&key).is_some_and(RecvStream::is_forgettable);
        if forget
            && let Some(stream) = self.receivers.remove(&key)
            && let Some(at) = stream.armed
        {
            self.timers.remove(&(at, Timer::Receive(key.0, key.1)));
        }
        forget
    }

    fn receivers_of(&self, tag: Tag) -> Vec<(NodeId, Tag)> {
        self.receivers.keys().copied().filter(|key| key.1 == tag).collect()
    }

    fn announce(&mut self, tag: Tag) {
        let Some(id) = self.open.get(&tag) else { return };
        if let Some(channel) = self.channels.get_mut(id)
            && !core::mem::replace(&mut channel.announced, true)
        {
            self.effects.push_back(Effect::Readable { channel: *id });
        }
    }

    fn arm_receiver(&mut self, key: (NodeId, Tag)) {
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

    fn poll_acks(&mut self, ready: &dyn Fn(&NodeId, Lane) -> bool) -> Option<Transmit> {
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

/// Keeps one entry per stream: moved earlier when needed; a later deadline is found when the entry fires.
fn arm(timers: &mut BTreeSet<(Mono, Timer)>, timer: Timer, armed: &mut Option<Mono>, deadline: Option<Mono>) {
    let Some(deadline) = deadline else { return };
    match *armed {
        Some(at) if at <= deadline => return,
        Some(at) => {
            timers.remove(&(at, timer));
        }
        None => {}
    }
    *armed = Some(deadline);
    timers.insert((deadline, timer));
}

const FIRST_TAG: Tag = Tag([0; 8]);
const LAST_TAG: Tag = Tag([0xff; 8]);

fn keys_of<T>(map: &BTreeMap<(NodeId, Tag), T>, node: NodeId) -> Vec<(NodeId, Tag)> {
    map.range((node, FIRST_TAG)..=(node, LAST_TAG)).map(|(key, _)| *key).collect()
}

fn keys_of_set(set: &BTreeSet<(NodeId, Tag)>, node: NodeId) -> impl Iterator<Item = (NodeId, Tag)> {
    set.range((node, FIRST_TAG)..=(node, LAST_TAG)).copied()
}
