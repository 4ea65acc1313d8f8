//! What goes to everybody at once: [`cast`](crate::proto::channel::cast) in the machine.

use alloc::{string::String, vec::Vec};

use super::{
    super::{
        ChannelId, Effect, Mode, SendId, cast,
        msg::{Item, Tag},
        receiver::Complete,
    },
    Channels,
};
use crate::base::{Code, Error, NodeId, Now, limit};

impl Channels {
    /// Queues a message for everybody, to be taken with [`Channels::poll_cast`]: in a domain too large for a stream to each.
    /// The end is told once the last of it was taken. Nobody acknowledges it. Order holds among what goes this way.
    ///
    /// # Errors
    /// [`Code::Closed`], [`Code::TooLarge`] (over [`limit::CAST_MESSAGE`]), [`Code::BadArgument`], [`Code::Busy`]
    /// ([`limit::CAST_QUEUE`] is reached: wait for the end of earlier sends).
    pub fn send_all(&mut self, now: Now, id: ChannelId, payload: &[u8], key: Option<String>) -> Result<SendId, Error> {
        let (mode, tag, _, key) = self.check(id, &[], payload, key)?;
        if payload.len() > limit::CAST_MESSAGE {
            let text = alloc::format!("{} bytes are more than the {} that go to everybody here", payload.len(), limit::CAST_MESSAGE);
            return Err(Error::new(Code::TooLarge, text).hint("Name the recipients, or cut it into parts"));
        }
        if !self.cast_out.has_room(payload.len()) {
            return Err(Error::new(Code::Busy, "the send queue is full").hint("Wait until earlier sends are done"));
        }
        let send = self.new_send();
        match mode {
            Mode::Latest => {
                let seq = self.latest_out.next_seq(now.wall);
                self.cast_out.value(tag, &key, &Item::Latest { tag, seq, sent_at: now.wall, key: &key, bytes: payload });
                self.effects.push_back(Effect::SendDone { id: send, missed: Vec::new(), taken: true });
            }
            Mode::Datagram => {
                let seq = self.latest_out.next_seq(now.wall);
                self.cast_out.value(tag, &key, &Item::Datagram { tag, seq, sent_at: now.wall, key: &key, bytes: payload });
                self.effects.push_back(Effect::SendDone { id: send, missed: Vec::new(), taken: true });
            }
            Mode::Reliable => {
                if self.cast_epoch == 0 {
                    self.cast_epoch = self.new_epoch(now, 0);
                }
                self.cast_out.message(send, tag, self.cast_epoch, now.wall, &key, payload);
            }
        }
        Ok(send)
    }

    /// Like [`Channels::send_all`], but `false` where it would say [`Code::Busy`], and nothing tells the end.
    ///
    /// # Errors
    /// [`Code::Closed`], [`Code::TooLarge`], [`Code::BadArgument`].
    pub fn post_all(&mut self, now: Now, id: ChannelId, payload: &[u8], key: Option<String>) -> Result<bool, Error> {
        match self.send_all(now, id, payload, key) {
            Ok(send) => {
                // A value has ended already, a message will: nobody waits for either.
                if self.effects.pop_back_if(|e| matches!(e, Effect::SendDone { id, .. } if *id == send)).is_none() {
                    self.posted.insert(send);
                }
                Ok(true)
            }
            Err(error) if error.code() == Code::Busy => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next payload for everybody.
    pub fn poll_cast(&mut self) -> Option<Vec<u8>> {
        let (payload, ends) = self.cast_out.take()?;
        if let Some(id) = ends
            && !self.posted.remove(&id)
        {
            self.effects.push_back(Effect::SendDone { id, missed: Vec::new(), taken: true });
        }
        Some(payload)
    }

    pub(super) fn release_message(&mut self, key: (NodeId, Tag), message: &Complete) {
        if message.cast {
            self.cast_in.taken(key.0, message.payload.len());
        } else {
            self.taken(key, message.cost, message.reserved);
        }
    }

    /// What was sent to everybody is whole: it waits for the application if the channel is open.
    pub(super) fn deliver_cast(&mut self, key: (NodeId, Tag), whole: cast::Whole) {
        if !self.open.contains_key(&key.1) {
            self.cast_in.taken(key.0, whole.payload.len());
            return;
        }
        let cast::Whole { sent_at, key: name, payload } = whole;
        let message = Complete { sent_at, key: name, payload, cost: 0, reserved: 0, cast: true };
        self.inbox.entry(key.1).or_default().push_back((key.0, message));
        self.announce(key.1);
    }
}
