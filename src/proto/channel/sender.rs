//! One outgoing `reliable` stream: one channel, one recipient. Positions count bytes, plus [`COST`] for every piece, from
//! the start of the epoch. Nothing is sent again by guess: after a silence or on a new link the sender asks what arrived
//! and goes back to there.

use alloc::{collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::{
    Config, SendId,
    msg::{Ack, COST},
};
use crate::base::{Mono, Now, Reject, limit};

const STEP: u64 = limit::CHUNK as u64 + COST;

/// The cost of a message of `len` bytes: what its pieces count for together.
pub fn cost(len: u64) -> u64 {
    len + COST * len.div_ceil(limit::CHUNK as u64).max(1)
}

struct Queued {
    id: SendId,
    start: u64,
    len: u64,
}

impl Queued {
    fn end(&self) -> u64 {
        self.start + cost(self.len)
    }
}

/// The next piece to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub id: SendId,
    pub pos: u64,
    /// Where in the message it starts; a piece at 0 carries the head.
    pub offset: usize,
    pub len: usize,
}

/// What an acknowledgement led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Acked {
    /// These messages arrived whole.
    Freed(Vec<SendId>),
    /// The two sides do not mean the same stream: begin again in an epoch above this one.
    Restart(u64),
}

pub struct SendStream {
    pub epoch: u64,
    receiver: Option<u32>,
    queue: VecDeque<Queued>,
    /// How many of the queue, from the front, fit the window.
    accepted: usize,
    tail: u64,
    acked: u64,
    sent: u64,
    /// The furthest position ever sent.
    high: u64,
    credit: u64,
    nonce: u32,
    /// The question that waits for its answer, and the position that was sent before it.
    asked: Option<(u32, u64)>,
    ask_due: bool,
    deadline: Option<Mono>,
    rtt: Option<Duration>,
    /// A piece never sent before, to measure by: its end and when it went.
    sample: Option<(u64, Mono)>,
    silences: u32,
    /// The entry of this stream in the machine's timers.
    pub armed: Option<Mono>,
    /// Is it in the machine's round?
    pub active: bool,
}

impl SendStream {
    pub fn new(epoch: u64) -> SendStream {
        SendStream {
            epoch,
            receiver: None,
            queue: VecDeque::new(),
            accepted: 0,
            tail: 0,
            acked: 0,
            sent: 0,
            high: 0,
            credit: limit::INITIAL_CREDIT as u64,
            nonce: 0,
            asked: None,
            ask_due: false,
            deadline: None,
            rtt: None,
            sample: None,
            silences: 0,
            armed: None,
            active: false,
        }
    }

    /// Nothing queued, nothing unacknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Positions below this may be sent.
    fn edge(&self) -> u64 {
        self.credit.min(self.acked.saturating_add(limit::STREAM_WINDOW as u64))
    }

    /// Would a message of `len` bytes fit the window now?
    pub fn has_room(&self, len: u64) -> bool {
        self.tail.checked_add(cost(len)).is_some_and(|end| end <= self.edge())
    }

    pub fn push(&mut self, now: Now, config: &Config, id: SendId, len: u64) {
        let queued = Queued { id, start: self.tail, len };
        self.tail = queued.end();
        self.queue.push_back(queued);
        self.arm(now, config);
    }

    /// The messages that fit the window since the last call.
    pub fn newly_accepted(&mut self) -> Vec<SendId> {
        let edge = self.edge();
        let fit: Vec<SendId> = self.queue.iter().skip(self.accepted).take_while(|q| q.end() <= edge).map(|q| q.id).collect();
        self.accepted += fit.len();
        fit
    }

    /// Gives up what no window has taken, and tells of each whether it stays queued all the same: whoever has its first pieces
    /// gets the others.
    pub fn give_up(&mut self) -> Vec<(SendId, bool)> {
        let begun = self.queue.get(self.accepted).is_some_and(|q| q.start < self.high);
        let given_up = self.queue.iter().skip(self.accepted).enumerate().map(|(i, q)| (q.id, begun && i == 0)).collect();
        self.accepted += usize::from(begun);
        self.queue.truncate(self.accepted);
        self.tail = self.queue.back().map_or(self.acked, Queued::end);
        given_up
    }

    /// Nobody is there to answer: it waits for a link.
    pub fn park(&mut self) {
        (self.deadline, self.ask_due, self.active) = (None, false, false);
    }

    /// The messages still queued.
    pub fn queued(&self) -> impl Iterator<Item = SendId> {
        self.queue.iter().map(|q| q.id)
    }

    /// All messages still queued; with each whether the window had taken it.
    pub fn drain(&mut self) -> Vec<(SendId, bool)> {
        let accepted = self.accepted;
        self.queue.drain(..).enumerate().map(|(i, q)| (q.id, i < accepted)).collect()
    }

    /// Has it anything to send?
    pub fn wants(&self) -> bool {
        self.ask_due || self.next_piece().is_some()
    }

    pub fn next_piece(&self) -> Option<Piece> {
        if self.sent >= self.tail {
            return None;
        }
        let q = self.queue.get(self.queue.partition_point(|q| q.end() <= self.sent))?;
        let offset = (self.sent.saturating_sub(q.start) / STEP) * limit::CHUNK as u64;
        let len = (limit::CHUNK as u64).min(q.len - offset);
        (self.sent + len + COST <= self.edge()).then_some(Piece { id: q.id, pos: self.sent, offset: offset as usize, len: len as usize })
    }

    /// The piece that [`SendStream::next_piece`] gave went out.
    pub fn piece_sent(&mut self, now: Now, config: &Config, piece: &Piece) {
        self.sent = piece.pos + piece.len as u64 + COST;
        if self.sent > self.high {
            self.high = self.sent;
            self.sample.get_or_insert((self.sent, now.mono));
        }
        self.arm(now, config);
    }

    /// The question to send, if one is due.
    pub fn take_ask(&mut self, now: Now, config: &Config) -> Option<u32> {
        if !core::mem::take(&mut self.ask_due) {
            return None;
        }
        self.nonce = self.nonce.checked_add(1).unwrap_or(1);
        self.asked = Some((self.nonce, self.sent));
        self.deadline = None;
        self.arm(now, config);
        Some(self.nonce)
    }

    pub fn handle_ack(&mut self, now: Now, config: &Config, ack: &Ack) -> Result<Acked, Reject> {
        if ack.epoch != self.epoch {
            return Ok(if ack.epoch > self.epoch { Acked::Restart(ack.epoch) } else { Acked::Freed(Vec::new()) });
        }
        match self.receiver {
            Some(known) if known != ack.receiver => return Ok(Acked::Restart(self.epoch)),
            _ if ack.next > self.high || !self.is_boundary(ack.next) => return Err(Reject::Malformed),
            Some(_) => self.credit = self.credit.max(ack.credit),
            None => {
                self.receiver = Some(ack.receiver);
                self.credit = ack.credit;
            }
        }
        let mut freed = Vec::new();
        if ack.next > self.acked {
            self.acked = ack.next;
            self.sent = self.sent.max(ack.next);
            while self.queue.front().is_some_and(|q| q.end() <= ack.next) {
                freed.extend(self.queue.pop_front().map(|q| q.id));
                self.accepted = self.accepted.saturating_sub(1);
            }
            if let Some((_, at)) = self.sample.take_if(|(end, _)| *end <= ack.next) {
                let measured = now.mono.since(at);
                self.rtt = Some(self.rtt.map_or(measured, |rtt| (rtt * 7 + measured) / 8));
            }
        }
        match self.asked {
            Some((nonce, sent)) if nonce == ack.echo => {
                self.asked = None;
                if ack.next == self.acked && ack.next < sent {
                    self.sent = self.acked;
                    self.sample = None;
                }
            }
            None if ack.gap && self.acked < self.sent => self.ask_due = true,
            _ => {}
        }
        self.silences = 0;
        self.deadline = None;
        self.arm(now, config);
        Ok(Acked::Freed(freed))
    }

    /// Does a piece start or the queue end at this position? True for what was acknowledged before.
    fn is_boundary(&self, pos: u64) -> bool {
        if pos <= self.acked || pos == self.tail {
            return true;
        }
        self.queue.get(self.queue.partition_point(|q| q.end() <= pos)).is_some_and(|q| pos.saturating_sub(q.start).is_multiple_of(STEP))
    }

    /// Begins again: what was not acknowledged whole is sent from its start.
    pub fn restart(&mut self, now: Now, config: &Config, epoch: u64) {
        let (armed, active, accepted) = (self.armed, self.active, self.accepted);
        let queue = core::mem::take(&mut self.queue);
        *self = SendStream { armed, active, accepted, ..SendStream::new(epoch) };
        for q in queue {
            self.push(now, config, q.id, q.len);
        }
    }

    /// A link to the recipient came up: what was under way on another one may be lost.
    pub fn link_up(&mut self) {
        if self.high > 0 && self.tail > self.acked {
            self.ask_due = true;
            self.deadline = None;
            self.asked = None;
            self.silences = 0;
        }
    }

    pub fn deadline(&self) -> Option<Mono> {
        self.deadline
    }

    /// Time passed; harmless when early.
    pub fn on_timeout(&mut self, now: Now) {
        if self.deadline.is_some_and(|at| at <= now.mono) {
            self.deadline = None;
            self.asked = None;
            self.sample = None;
            self.ask_due = true;
            self.silences = self.silences.saturating_add(1);
        }
    }

    /// While anything is unacknowledged there is a deadline, or a question waits for its link.
    fn arm(&mut self, now: Now, config: &Config) {
        if self.tail == self.acked {
            self.deadline = None;
        } else if self.deadline.is_none() && !self.ask_due {
            let base = self.rtt.map_or(config.retry_min, |rtt| rtt * 3).max(config.retry_min);
            self.deadline = Some(now.mono.after((base * (1 << self.silences.min(6))).min(config.retry_max)));
        }
    }
}
