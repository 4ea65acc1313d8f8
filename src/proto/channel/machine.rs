//! The machine of all channels of one domain.

mod casts;
mod receiving;
mod sending;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use super::{
    ChannelId, Config, Effect, Message, Mode, SendId, Transmit, Usage, cast, datagram, latest,
    msg::{self, COST, Tag},
    receiver::{Complete, RecvStream},
    sender::{SendStream, cost},
};
use crate::base::{Code, Error, Map, Mono, NodeId, Now, Reject, Rng, Wall, limit};
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
    taken: bool,
    /// Recipients that were gone before theirs had.
    missed: Vec<NodeId>,
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
    channels: Map<ChannelId, Channel>,
    names: Map<String, ChannelId>,
    open: Map<Tag, ChannelId>,
    effects: VecDeque<Effect>,
    timers: BTreeSet<(Mono, Timer)>,

    outgoing: Map<SendId, Outgoing>,
    sending: usize,
    senders: Map<(NodeId, Tag), SendStream>,
    round: VecDeque<(NodeId, Tag)>,
    /// Those who are held for down, and until when their streams are kept.
    lost: Map<NodeId, Mono>,

    receivers: Map<(NodeId, Tag), RecvStream>,
    inbox: Map<Tag, VecDeque<(NodeId, Complete)>>,
    acks: BTreeSet<(NodeId, Tag)>,
    reserved: Map<NodeId, u64>,
    wanting: VecDeque<(NodeId, Tag)>,

    latest_out: latest::Outbox,
    latest_in: latest::Inbox,
    datagrams_out: datagram::Outbox,
    datagrams_in: datagram::Inbox,

    cast_epoch: u64,
    /// Casts whose end nobody wants to hear of.
    posted: BTreeSet<SendId>,
    cast_out: cast::Outbox,
    cast_in: cast::Inbox,
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
            channels: Map::new(),
            names: Map::new(),
            open: Map::new(),
            effects: VecDeque::new(),
            timers: BTreeSet::new(),
            outgoing: Map::new(),
            sending: 0,
            senders: Map::new(),
            round: VecDeque::new(),
            lost: Map::new(),
            receivers: Map::new(),
            inbox: Map::new(),
            acks: BTreeSet::new(),
            reserved: Map::new(),
            wanting: VecDeque::new(),
            latest_out: latest::Outbox::default(),
            latest_in: latest::Inbox::default(),
            datagrams_out: datagram::Outbox::default(),
            datagrams_in: datagram::Inbox::default(),
            cast_epoch: 0,
            posted: BTreeSet::new(),
            cast_out: cast::Outbox::default(),
            cast_in: cast::Inbox::default(),
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
        self.datagrams_in.close(tag);
        self.latest_out.close(id);
        for (from, message) in self.inbox.remove(&tag).unwrap_or_default() {
            self.release_message((from, tag), &message);
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

    /// How this channel was opened, if it is open.
    #[must_use]
    pub fn mode(&self, id: ChannelId) -> Option<Mode> {
        self.channels.get(&id).map(|c| c.mode)
    }

    /// Queues a message for every recipient named (this node and repetitions are skipped). The end is told by
    /// [`Effect::SendDone`]. A `latest` value replaces what still waits under its key, and its send ends at once; so does that of a
    /// datagram, which goes to those that can be reached at this moment.
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
                self.effects.push_back(Effect::SendDone { id: send, missed: Vec::new(), taken: true });
                Ok(send)
            }
            Mode::Datagram => {
                self.queue_datagram(now, tag, to, &payload, &key);
                let send = self.new_send();
                self.effects.push_back(Effect::SendDone { id: send, missed: Vec::new(), taken: true });
                Ok(send)
            }
            Mode::Reliable => {
                let over = self.sending.saturating_add(payload.len()).saturating_sub(limit::SEND_QUEUE);
                if over > self.held_for_the_lost() {
                    return Err(full());
                }
                while self.sending.saturating_add(payload.len()) > limit::SEND_QUEUE && self.shed(Channels::owes) {}
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
        match mode {
            Mode::Latest => return Ok(self.latest_out.put(id, tag, now.wall, &to, &key, &payload)),
            Mode::Datagram => {
                self.queue_datagram(now, tag, to, &payload, &key);
                return Ok(true);
            }
            Mode::Reliable => {}
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

    fn queue_datagram(&mut self, now: Now, tag: Tag, to: Vec<NodeId>, payload: &[u8], key: &str) {
        let seq = self.latest_out.next_seq(now.wall);
        let mut w = Writer::new();
        msg::Item::Datagram { tag, seq, sent_at: now.wall, key, bytes: payload }.write(&mut w);
        self.datagrams_out.put(now.mono, to, w.finish());
    }

    /// The next message of a channel, if one is there.
    pub fn receive(&mut self, id: ChannelId) -> Option<Message> {
        let channel = self.channels.get_mut(&id)?;
        let tag = channel.tag;
        let message = match channel.mode {
            Mode::Latest => self.latest_in.take(tag),
            Mode::Datagram => self.datagrams_in.take(tag),
            Mode::Reliable => self.inbox.get_mut(&tag).and_then(VecDeque::pop_front).map(|(from, m)| {
                self.release_message((from, tag), &m);
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
            sending: self.sending + self.latest_out.bytes() + self.datagrams_out.bytes() + self.cast_out.bytes(),
            received: unread as usize + self.latest_in.bytes() + self.datagrams_in.bytes() + self.cast_in.bytes(),
            streams: self.senders.len() + self.receivers.len(),
        }
    }

    // ---- the links ------------------------------------------------------------------------------------------------------

    /// The next payload to seal and send, to recipients for which `ready` holds on its lane. Call until it gives `None`.
    /// Acknowledgements and `latest` values take the control lane, streams the bulk lane, one after the other in turn; datagrams
    /// their own.
    pub fn poll_transmit(&mut self, now: Now, ready: &dyn Fn(&NodeId, Lane) -> bool) -> Option<Transmit> {
        if let Some(transmit) = self.poll_acks(ready) {
            return Some(transmit);
        }
        if let Some((to, payload)) = self.datagrams_out.take(now.mono, &|node| ready(node, Lane::Datagram)) {
            return Some(Transmit { to, lane: Lane::Datagram, payload });
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
        self.lost.remove(&node);
        for key in keys_of(&self.senders, node) {
            if let Some(stream) = self.senders.get_mut(&key) {
                stream.link_up();
            }
            self.arm_sender(key);
        }
        self.latest_out.resend(&node);
    }

    /// The node is held for down: what waits for its window misses it, and so do values and casts under way. But it may be cut off,
    /// not gone, and what its windows had taken counts as sent: that, and how far it had come here, is kept for [`Config::keep`].
    pub fn peer_lost(&mut self, now: Now, node: NodeId) {
        self.forget_values(&node);
        for key in keys_of(&self.senders, node) {
            let Some(stream) = self.senders.get_mut(&key) else { continue };
            let given_up = stream.give_up();
            stream.park();
            if let Some(at) = stream.armed.take() {
                self.timers.remove(&(at, Timer::Send(key.0, key.1)));
            }
            if stream.is_idle() {
                self.senders.remove(&key);
            }
            for (id, stays) in given_up {
                self.settle(id, Some(node));
                if !stays {
                    self.drop_holder(id);
                }
            }
        }
        self.round.retain(|key| key.0 != node);
        self.acks.retain(|key| key.0 != node);
        if !keys_of(&self.senders, node).is_empty() || !keys_of(&self.receivers, node).is_empty() {
            let until = now.mono.after(self.config.keep);
            self.lost.entry(node).or_insert(until);
        }
    }

    /// Is anything under way to the node, or does anything wait for it?
    #[must_use]
    pub fn owes(&self, node: &NodeId) -> bool {
        keys_of(&self.senders, *node).iter().any(|key| self.senders.get(key).is_some_and(|s| !s.is_idle()))
    }

    /// The node left, was evicted, or is down for good: what waits for it misses it, half messages
    /// are dropped. Whole messages already here stay readable; its unread `latest` values do not.
    pub fn peer_gone(&mut self, _now: Now, node: NodeId) {
        self.forget(node);
        self.serve_reserve();
    }

    fn forget(&mut self, node: NodeId) {
        self.lost.remove(&node);
        for key in keys_of(&self.senders, node) {
            let Some(mut stream) = self.senders.remove(&key) else { continue };
            if let Some(at) = stream.armed {
                self.timers.remove(&(at, Timer::Send(key.0, key.1)));
            }
            for (id, accepted) in stream.drain() {
                if !accepted {
                    self.settle(id, Some(node));
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
        self.forget_values(&node);
    }

    fn forget_values(&mut self, node: &NodeId) {
        self.latest_out.forget(node);
        self.latest_in.forget(node);
        self.datagrams_in.forget(node);
        self.cast_in.forget(node);
    }

    /// Bytes of messages that nobody waits for but those who are lost.
    fn held_for_the_lost(&self) -> usize {
        let mut holders: BTreeMap<SendId, usize> = BTreeMap::new();
        let streams = self.lost.keys().flat_map(|node| keys_of(&self.senders, *node)).filter_map(|key| self.senders.get(&key));
        for id in streams.flat_map(SendStream::queued) {
            *holders.entry(id).or_default() += 1;
        }
        let alone = holders.iter().filter_map(|(id, n)| self.outgoing.get(id).filter(|out| out.holders == *n));
        alone.map(Outgoing::size).sum()
    }

    /// Makes room for those who are there: of the lost that hold some, forgets the one that has been lost the longest.
    pub(super) fn shed(&mut self, holds: impl Fn(&Channels, &NodeId) -> bool) -> bool {
        let longest = self.lost.iter().filter(|(node, _)| holds(self, node)).min_by_key(|(_, until)| **until).map(|(node, _)| *node);
        longest.map(|node| self.forget(node)).is_some()
    }

    /// Time passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        while self.shed(|channels, node| channels.lost.get(node).is_some_and(|until| *until <= now.mono)) {
            self.serve_reserve();
        }
        for (key, whole) in self.cast_in.on_timeout(now) {
            self.deliver_cast(key, whole);
        }
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
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.cast_in.next_timeout()).chain(self.lost.values().min().copied()).min()
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

fn keys_of<T>(map: &Map<(NodeId, Tag), T>, node: NodeId) -> Vec<(NodeId, Tag)> {
    let (Ok(first) | Err(first)) = map.find_index(&(node, FIRST_TAG));
    map.keys().skip(first).take_while(|(owner, _)| *owner == node).copied().collect()
}

fn keys_of_set(set: &BTreeSet<(NodeId, Tag)>, node: NodeId) -> impl Iterator<Item = (NodeId, Tag)> {
    set.range((node, FIRST_TAG)..=(node, LAST_TAG)).copied()
}
