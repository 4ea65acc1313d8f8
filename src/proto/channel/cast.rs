//! Messages to everybody in a domain too large for a stream to each: pieces numbered per channel, carried by the broadcast,
//! put in order again here. Nobody acknowledges them: the broadcast brings what a link lost, and a gap that stays longer
//! than [`PATIENCE`] is passed over, from the start of the next message.

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::time::Duration;

use super::{
    SendId,
    msg::{Head, Item, Tag},
};
use crate::base::{Map, Mono, NodeId, Now, Reject, Wall, limit};
use crate::wire::bytes::Writer;

/// How long a piece may be missing while later ones are here.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the first that comes from an origin is not its first piece but one of its first so many, those before it may just be late: they
/// are waited for. Who hears only later ones came later.
const FIRST: u64 = 64;
/// How long.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);

struct Out {
    item: Vec<u8>,
    /// The send that ends with this piece.
    ends: Option<SendId>,
    /// Of a value: what a newer one replaces.
    value: Option<(Tag, String)>,
}

/// Pieces and values to cast, in order.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Out>,
    bytes: usize,
    next: Map<Tag, u64>,
}

impl Outbox {
    /// Whether there is room for a message of this length.
    pub fn has_room(&self, len: usize) -> bool {
        self.bytes + len <= limit::CAST_QUEUE
    }

    /// Cuts a message into pieces.
    pub fn message(&mut self, send: SendId, tag: Tag, epoch: u64, now: Wall, key: &str, payload: &[u8]) {
        let mut offset = 0;
        loop {
            let bytes = &payload[offset..payload.len().min(offset + limit::CHUNK)];
            // Bounded by `limit::CAST_MESSAGE`, which fits 32 bits.
            let head = (offset == 0).then_some(Head { total: payload.len() as u32, sent_at: now, key });
            offset += bytes.len();
            let pos = self.next.entry(tag).or_default();
            let item = encode(&Item::Cast { tag, epoch, pos: *pos, head, bytes });
            *pos += 1;
            self.bytes += item.len();
            let last = offset == payload.len();
            self.queue.push_back(Out { item, ends: last.then_some(send), value: None });
            if last {
                return;
            }
        }
    }

    /// A value of a `latest` channel, in the place of an older one under its key that still waits.
    pub fn value(&mut self, tag: Tag, key: &str, item: &Item<'_>) {
        let (item, name) = (encode(item), Some((tag, String::from(key))));
        self.bytes += item.len();
        match self.queue.iter_mut().find(|o| o.value == name) {
            Some(old) => self.bytes -= core::mem::replace(&mut old.item, item).len(),
            None => self.queue.push_back(Out { item, ends: None, value: name }),
        }
    }

    /// The next payload, and the send that ends with it.
    pub fn take(&mut self) -> Option<(Vec<u8>, Option<SendId>)> {
        let out = self.queue.pop_front()?;
        self.bytes -= out.item.len();
        Some((out.item, out.ends))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn encode(item: &Item<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    item.write(&mut w);
    w.finish()
}

struct Early {
    head: Option<(u32, Wall, String)>,
    bytes: Vec<u8>,
}

struct Assembly {
    total: usize,
    sent_at: Wall,
    key: String,
    data: Vec<u8>,
}

/// What one origin casts on one channel.
struct Stream {
    epoch: u64,
    /// The next piece; none before it is known where to begin.
    next: Option<u64>,
    early: Map<u64, Early>,
    early_bytes: usize,
    assembly: Option<Assembly>,
    /// When the gap before the first early piece is passed over.
    due: Option<Mono>,
}

/// A whole message.
pub struct Whole {
    pub sent_at: Wall,
    pub key: Option<String>,
    pub payload: Vec<u8>,
}

/// All that is being put in order.
#[derive(Default)]
pub struct Inbox {
    streams: Map<(NodeId, Tag), Stream>,
    /// Bytes of whole messages the application has not taken, by origin.
    unread: Map<NodeId, usize>,
    /// Messages lost to a gap or to a bound.
    pub lost: u64,
}

impl Inbox {
    /// Takes a piece; gives the messages it completes.
    ///
    /// # Errors
    /// [`Reject::Limit`] when too much is held of this origin, [`Reject::Malformed`] for a piece that contradicts its message,
    /// [`Reject::Stale`] for one of an older process of the origin.
    pub fn piece(
        &mut self,
        now: Now,
        key: (NodeId, Tag),
        (epoch, pos): (u64, u64),
        head: Option<Head<'_>>,
        bytes: &[u8],
    ) -> Result<Vec<Whole>, Reject> {
        if !self.streams.contains_key(&key) && self.streams.len() >= limit::RECEIVE_STREAMS {
            return Err(Reject::Limit);
        }
        if pos > u64::MAX / 2 || head.is_some_and(|h| h.total as usize > limit::CAST_MESSAGE || (h.total as usize) < bytes.len()) {
            return Err(Reject::Malformed);
        }
        let fresh = || Stream { epoch, next: None, early: Map::new(), early_bytes: 0, assembly: None, due: None };
        let stream = self.streams.entry(key).or_insert_with(fresh);
        if epoch < stream.epoch {
            return Err(Reject::Stale);
        }
        if epoch > stream.epoch {
            *stream = fresh();
        }
        if stream.next.is_none() && (pos == 0 || (pos >= FIRST && head.is_some() && stream.early.is_empty())) {
            (stream.next, stream.due) = (Some(pos), None);
        }
        match stream.next {
            Some(next) if pos < next => return Ok(Vec::new()),
            // Who comes in the middle of a message begins with the next one.
            None if head.is_none() && pos >= FIRST && stream.early.is_empty() => return Ok(Vec::new()),
            _ if stream.early.contains_key(&pos) => return Ok(Vec::new()),
            _ => {}
        }
        if stream.early_bytes + bytes.len() > limit::CAST_MESSAGE || stream.early.len() >= limit::CAST_MESSAGE / 1_024 {
            return Err(Reject::Limit);
        }
        stream.early_bytes += bytes.len();
        let head = head.map(|h| (h.total, h.sent_at, h.key.into()));
        stream.early.insert(pos, Early { head, bytes: bytes.to_vec() });
        let whole = stream.join(&mut self.lost);
        let patience = if stream.next.is_some() { PATIENCE } else { FIRST_PATIENCE };
        stream.due = (!stream.early.is_empty()).then(|| stream.due.unwrap_or(now.mono.after(patience)));
        Ok(self.admit(key.0, whole))
    }

    fn admit(&mut self, origin: NodeId, mut whole: Vec<Whole>) -> Vec<Whole> {
        whole.retain(|w| {
            let unread = self.unread.entry(origin).or_default();
            let fits = *unread + w.payload.len() <= 2 * limit::CAST_MESSAGE;
            if fits {
                *unread += w.payload.len().max(64);
            } else {
                self.lost += 1;
            }
            fits
        });
        whole
    }

    /// The application took a message.
    pub fn taken(&mut self, origin: NodeId, len: usize) {
        if let Some(unread) = self.unread.get_mut(&origin) {
            *unread = unread.saturating_sub(len.max(64));
            if *unread == 0 {
                self.unread.remove(&origin);
            }
        }
    }

    /// Passes over gaps that nobody filled; gives the messages behind them.
    pub fn on_timeout(&mut self, now: Now) -> Vec<((NodeId, Tag), Whole)> {
        let due: Vec<(NodeId, Tag)> =
            self.streams.iter().filter(|(_, s)| s.due.is_some_and(|at| now.mono >= at)).map(|(k, _)| *k).collect();
        let mut all = Vec::new();
        for key in due {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            self.lost += u64::from(stream.next.is_some());
            stream.assembly = None;
            while let Some((pos, piece)) = stream.early.first() {
                let pos = *pos;
                if piece.head.is_some() {
                    stream.next = Some(pos);
                    break;
                }
                stream.early_bytes -= piece.bytes.len();
                stream.next = Some(pos + 1);
                stream.early.remove(&pos);
            }
            let whole = stream.join(&mut self.lost);
            stream.due = (!stream.early.is_empty()).then(|| now.mono.after(PATIENCE));
            all.extend(self.admit(key.0, whole).into_iter().map(|w| (key, w)));
        }
        all
    }

    pub fn next_timeout(&self) -> Option<Mono> {
        self.streams.values().filter_map(|s| s.due).min()
    }

    /// Forgets what an origin began.
    pub fn forget(&mut self, node: &NodeId) {
        self.streams.retain(|(n, _), _| n != node);
    }

    pub fn bytes(&self) -> usize {
        let half: usize = self.streams.values().map(|s| s.early_bytes + s.assembly.as_ref().map_or(0, |a| a.data.len())).sum();
        half + self.unread.values().sum::<usize>()
    }
}

impl Stream {
    /// Moves pieces that are in order into their message.
    fn join(&mut self, lost: &mut u64) -> Vec<Whole> {
        let mut whole = Vec::new();
        while let Some(next) = self.next
            && let Some(piece) = self.early.remove(&next)
        {
            self.next = Some(next + 1);
            self.early_bytes -= piece.bytes.len();
            if let Some((total, sent_at, key)) = piece.head {
                // A message that begins inside another one: its origin broke off.
                *lost += u64::from(self.assembly.is_some());
                self.assembly = Some(Assembly { total: total as usize, sent_at, key, data: Vec::new() });
            }
            let Some(assembly) = &mut self.assembly else { continue };
            assembly.data.extend_from_slice(&piece.bytes);
            if assembly.data.len() > assembly.total || (piece.bytes.is_empty() && assembly.total > 0) {
                self.assembly = None;
                *lost += 1;
            } else if assembly.data.len() == assembly.total
                && let Some(a) = self.assembly.take()
            {
                whole.push(Whole { sent_at: a.sent_at, key: (!a.key.is_empty()).then_some(a.key), payload: a.data });
            }
        }
        whole
    }
}
