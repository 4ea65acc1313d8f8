//! One sender's chain at a receiver: its keys, its window, and what was skipped.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use crate::base::{Mono, Reject};
use crate::crypto::{
    chain::{ChainKey, MessageKey, Owner},
    frame::Parsed,
};

/// Frames that come more than this many indices late are refused, and so are skipped keys beyond.
pub const WINDOW: u32 = 1_024;
/// Frames more than this many indices ahead are refused before any key is derived.
pub const AHEAD: u32 = 65_536;
/// How long the key of a skipped message is kept, and how long a replaced chain is.
pub const KEEP: Duration = Duration::from_secs(60);

/// A chain received in a key message.
pub struct RecvChain {
    pub owner: Owner,
    pub msg_vk: [u8; 32],
    /// The key of `next`.
    key: ChainKey,
    /// The lowest index not yet derived.
    pub next: u32,
    /// Keys of messages not yet seen below `next`, with the time they were derived.
    skipped: BTreeMap<u32, (MessageKey, Mono)>,
    /// Replaced: nothing from this index on.
    cut: Option<u32>,
    /// Nothing at all from this moment on.
    end: Mono,
}

impl RecvChain {
    pub fn new(owner: Owner, msg_vk: [u8; 32], key: ChainKey, index: u32, end: Mono) -> RecvChain {
        RecvChain { owner, msg_vk, key, next: index, skipped: BTreeMap::new(), cut: None, end }
    }

    /// Whether a key message for this chain agrees with what is held.
    ///
    /// # Errors
    /// [`Reject::Stale`] for an index below the one held, [`Reject::Forged`] for another key, [`Reject::Limit`] for one too
    /// far ahead to check.
    pub fn agrees(&self, key: &ChainKey, index: u32) -> Result<(), Reject> {
        let ahead = index.checked_sub(self.next).ok_or(Reject::Stale)?;
        if ahead > AHEAD {
            return Err(Reject::Limit);
        }
        let mut mine = self.key.clone();
        for _ in 0..ahead {
            mine = mine.step().1;
        }
        if mine == *key { Ok(()) } else { Err(Reject::Forged) }
    }

    /// The chain was replaced: it ends before the index `last`, and is forgotten at `until`.
    pub fn cut(&mut self, last: u32, until: Mono) {
        if self.cut.is_none() {
            (self.cut, self.end) = (Some(last), self.end.min(until));
        }
    }

    pub fn expires(&self) -> Mono {
        self.end
    }

    /// Opens a frame of this chain. Nothing changes unless it opens.
    ///
    /// # Errors
    /// [`Reject::Stale`] for one seen before, too old, or past the cut; [`Reject::Limit`] for one too far ahead;
    /// [`Reject::Forged`].
    pub fn open(&mut self, now: Mono, frame: &Parsed<'_>, topic: u16) -> Result<Vec<u8>, Reject> {
        let index = frame.index;
        if now >= self.end || self.cut.is_some_and(|last| index >= last) {
            return Err(Reject::Stale);
        }
        if index < self.next {
            self.forget(now);
            let (key, _) = self.skipped.get(&index).ok_or(Reject::Stale)?;
            frame.verify(&self.owner, &self.msg_vk)?;
            let plaintext = frame.open(&self.owner, key, topic)?;
            self.skipped.remove(&index);
            return Ok(plaintext);
        }
        let ahead = index - self.next;
        if ahead > AHEAD {
            return Err(Reject::Limit);
        }
        frame.verify(&self.owner, &self.msg_vk)?;
        let (mut chain, mut new) = (self.key.clone(), Vec::new());
        for i in self.next..index {
            let (key, following) = chain.step();
            if index - i <= WINDOW {
                new.push((i, key));
            }
            chain = following;
        }
        let (key, following) = chain.step();
        let plaintext = frame.open(&self.owner, &key, topic)?;
        self.key = following;
        self.next = index.saturating_add(1);
        self.skipped.extend(new.into_iter().map(|(i, key)| (i, (key, now))));
        self.forget(now);
        Ok(plaintext)
    }

    /// Drops keys of messages that will not be taken any more. Higher indices were skipped later: what goes is at the front.
    pub fn forget(&mut self, now: Mono) {
        let oldest = self.next.saturating_sub(WINDOW);
        while let Some(first) = self.skipped.first_entry()
            && (*first.key() < oldest || now.since(first.get().1) >= KEEP)
        {
            first.remove();
        }
    }
}
