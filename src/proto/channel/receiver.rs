//! One incoming `reliable` stream: one channel, one sender. Holds pieces that came early, puts messages together, and says
//! how far the sender may go.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::{mem, time::Duration};

use super::{
    msg::{Ack, COST, Head, Tag},
    sender::cost,
};
use crate::base::{Mono, Now, Reject, Wall, limit};

struct Held {
    head: Option<(u32, Wall, String)>,
    bytes: Vec<u8>,
}

struct Assembly {
    total: usize,
    sent_at: Wall,
    key: String,
    data: Vec<u8>,
    received: usize,
    end: u64,
    /// The machine set aside what the whole message costs.
    reserved: bool,
    /// The channel was closed in the middle of it: counted, not kept.
    discard: bool,
}

/// A whole message.
pub struct Complete {
    pub sent_at: Wall,
    pub key: Option<String>,
    pub payload: Vec<u8>,
    /// What it takes of the window until the application has it.
    pub cost: u64,
    /// What it takes of the machine's reserve until then.
    pub reserved: u64,
    /// It was sent to everybody at once: nobody waits for its place in a window.
    pub cast: bool,
}

pub struct RecvStream {
    /// 0: nothing arrived since the sender was gone.
    epoch: u64,
    id: u32,
    next: u64,
    granted: u64,
    announced: u64,
    held: BTreeMap<u64, Held>,
    held_cost: u64,
    assembly: Option<Assembly>,
    /// What the application has not taken yet, the message being put together included.
    unread: u64,
    echo: u32,
    unannounced: u64,
    /// The delayed acknowledgement.
    due: Option<Mono>,
    /// An acknowledgement is wanted at once.
    pub ack_now: bool,
    /// The entry of this stream in the machine's timers.
    pub armed: Option<Mono>,
}

impl RecvStream {
    pub fn new(id: u32) -> RecvStream {
        RecvStream {
            epoch: 0,
            id,
            next: 0,
            granted: 0,
            announced: 0,
            held: BTreeMap::new(),
            held_cost: 0,
            assembly: None,
            unread: 0,
            echo: 0,
            unannounced: 0,
            due: None,
            ack_now: false,
            armed: None,
        }
    }

    /// Forgets where the sender was, not what the application has still to read. Gives back what was reserved.
    pub fn reset(&mut self, id: u32, epoch: u64) -> u64 {
        let (unread, partial) = (self.unread, self.partial());
        let reserved = self.unreserve();
        *self = RecvStream { epoch, unread: unread - partial, armed: self.armed, ..RecvStream::new(id) };
        reserved
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes held, for the statistics.
    pub fn usage(&self) -> u64 {
        self.unread + self.held_cost
    }

    /// Nothing unread and nobody sending.
    pub fn is_forgettable(&self) -> bool {
        self.epoch == 0 && self.unread == 0
    }

    fn partial(&self) -> u64 {
        self.assembly.as_ref().filter(|a| !a.discard).map_or(0, |a| a.received as u64 + COST * pieces(a.received))
    }

    fn unreserve(&mut self) -> u64 {
        self.assembly.as_mut().map_or(0, |a| if mem::take(&mut a.reserved) { cost(a.total as u64) } else { 0 })
    }

    /// How far the sender may go with this window; never less than promised before.
    pub fn grant(&mut self, window: u64) {
        let mut edge = self.next.saturating_add(window).saturating_sub(self.unread);
        if let Some(a) = self.assembly.as_ref().filter(|a| a.reserved) {
            edge = edge.max(a.end);
        }
        self.granted = self.granted.max(edge);
        let grown = self.granted - self.announced.min(self.granted);
        let starved = self.announced < self.next.saturating_add(limit::CHUNK as u64 + COST);
        if grown > 0 && (grown >= window / 4 || starved) {
            self.ack_now = true;
        }
    }

    /// What the message being put together needs of the machine's reserve: it is longer than the window.
    pub fn wants_reserve(&self, window: u64) -> Option<u64> {
        let a = self.assembly.as_ref()?;
        let cost = cost(a.total as u64);
        (!a.reserved && !a.discard && cost > window && a.received < a.total).then_some(cost)
    }

    pub fn reserve(&mut self) {
        if let Some(a) = &mut self.assembly {
            a.reserved = true;
        }
    }

    /// The application took a message of this cost.
    pub fn taken(&mut self, cost: u64) {
        self.unread = self.unread.saturating_sub(cost);
    }

    /// The channel was closed: what is under way is not kept. Gives back what was reserved.
    pub fn discard(&mut self) -> u64 {
        self.unread -= self.partial();
        let reserved = self.unreserve();
        if let Some(a) = &mut self.assembly {
            a.discard = true;
            a.data = Vec::new();
        }
        reserved
    }

    /// Takes a piece of the current epoch; what became whole is appended to `out`.
    pub fn piece(
        &mut self,
        now: Now,
        delay: Duration,
        pos: u64,
        head: Option<Head<'_>>,
        bytes: &[u8],
        out: &mut Vec<Complete>,
    ) -> Result<(), Reject> {
        let piece_cost = bytes.len() as u64 + COST;
        let end = pos.checked_add(piece_cost).ok_or(Reject::Malformed)?;
        if pos < self.next || self.held.contains_key(&pos) {
            self.ack_now = true; // seen before: the acknowledgement was lost
            return Ok(());
        }
        if end > self.granted {
            self.ack_now = true;
            // The first pieces go out before there is credit, and may find less than their sender supposed.
            return if end <= limit::INITIAL_CREDIT as u64 { Ok(()) } else { Err(Reject::Limit) };
        }
        if pos > self.next {
            if self.held_cost + piece_cost > limit::STREAM_WINDOW as u64 {
                return Err(Reject::Limit);
            }
            self.held_cost += piece_cost;
            self.held.insert(pos, Held { head: head.map(|h| (h.total, h.sent_at, h.key.into())), bytes: bytes.into() });
            self.ack_now = true;
            return Ok(());
        }
        self.append(head, bytes, out)?;
        while let Some(entry) = self.held.first_entry().filter(|e| *e.key() <= self.next) {
            let (pos, held) = entry.remove_entry();
            self.held_cost -= held.bytes.len() as u64 + COST;
            if pos == self.next {
                let head = held.head.as_ref().map(|(total, sent_at, key)| Head { total: *total, sent_at: *sent_at, key });
                self.append(head, &held.bytes, out)?;
            }
        }
        if self.unannounced >= limit::STREAM_WINDOW as u64 / 8 {
            self.ack_now = true;
        } else if self.due.is_none() {
            self.due = Some(now.mono.after(delay));
        }
        Ok(())
    }

    fn append(&mut self, head: Option<Head<'_>>, bytes: &[u8], out: &mut Vec<Complete>) -> Result<(), Reject> {
        match (&self.assembly, head) {
            (None, Some(head)) if bytes.len() == (head.total as usize).min(limit::CHUNK) => {
                let end = self.next.checked_add(cost(u64::from(head.total))).ok_or(Reject::Malformed)?;
                self.assembly = Some(Assembly {
                    total: head.total as usize,
                    sent_at: head.sent_at,
                    key: head.key.into(),
                    data: Vec::new(),
                    received: 0,
                    end,
                    reserved: false,
                    discard: false,
                });
            }
            (Some(a), None) if bytes.len() == (a.total - a.received).min(limit::CHUNK) => {}
            _ => return Err(Reject::Malformed),
        }
        let Some(mut a) = self.assembly.take() else { return Ok(()) };
        let piece_cost = bytes.len() as u64 + COST;
        self.next += piece_cost;
        self.unannounced += piece_cost;
        a.received += bytes.len();
        if !a.discard {
            self.unread += piece_cost;
            let (len, capacity) = (a.data.len(), a.data.capacity());
            if len + bytes.len() > capacity {
                a.data.reserve_exact((capacity * 2).clamp(len + bytes.len(), a.total.max(len + bytes.len())) - len);
            }
            a.data.extend_from_slice(bytes);
        }
        if a.received < a.total {
            self.assembly = Some(a);
        } else if !a.discard {
            let cost = cost(a.total as u64);
            let key = (!a.key.is_empty()).then_some(a.key);
            out.push(Complete { sent_at: a.sent_at, key, payload: a.data, cost, reserved: if a.reserved { cost } else { 0 }, cast: false });
        }
        Ok(())
    }

    /// The sender asks what arrived.
    pub fn asked(&mut self, nonce: u32) {
        self.echo = nonce;
        self.ack_now = true;
    }

    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Time passed; harmless when early.
    pub fn on_timeout(&mut self, now: Now) {
        if self.due.is_some_and(|at| at <= now.mono) {
            self.ack_now = true;
        }
    }

    /// The acknowledgement to send now.
    pub fn take_ack(&mut self, tag: Tag) -> Ack {
        self.ack_now = false;
        self.due = None;
        self.unannounced = 0;
        self.announced = self.granted;
        Ack {
            tag,
            epoch: self.epoch,
            receiver: self.id,
            next: self.next,
            credit: self.granted,
            echo: self.echo,
            gap: !self.held.is_empty(),
        }
    }
}

fn pieces(received: usize) -> u64 {
    (received as u64).div_ceil(limit::CHUNK as u64).max(1)
}
