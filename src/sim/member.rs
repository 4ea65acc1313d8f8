//! A node of the simulator: the composite [`Peer`] that ships, and in some the will to harm.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::ops::{Deref, DerefMut};

use super::byzantine::Byzantine;
use super::{Effect, Machine};
use crate::base::{DomainId, Mono, NodeId, Now, Rng};
use crate::crypto::{Class, sign::SigningKey};
use crate::peer::{Config, LinkCommand, LinkEvent, Output, Peer, Topic};
use crate::wire::frame::{self, Kind};

/// Where what is for whom begins to be of no account: after version, kind and pair tag.
const BODY: usize = 10;
/// Frames of which copies to others are known.
const COPIES: usize = 64;

/// A node.
pub struct Member {
    peer: Peer,
    /// Its identity.
    pub key: SigningKey,
    byzantine: Option<Box<Byzantine>>,
    /// Frames of the detector's that it sent, and their bytes.
    pub probes: (u64, u64),
    /// It does not hear that it was evicted, and gives nothing up that it has.
    pub deaf: bool,
    tape: Option<Tape>,
    /// Frames of the data class that it opened.
    pub read: u64,
}

/// What somebody with a wire to a node has of it: each frame of the data class and each of keys, once.
#[derive(Default)]
struct Tape {
    frames: Vec<Vec<u8>>,
    last: VecDeque<Vec<u8>>,
}

impl Tape {
    fn record(&mut self, frame: &[u8]) {
        let body = frame.get(BODY..).unwrap_or_default();
        if !self.last.iter().any(|known| known == body) {
            self.frames.push(frame.to_vec());
            self.last.push_back(body.to_vec());
            if self.last.len() > COPIES {
                self.last.pop_front();
            }
        }
    }
}

/// The topic of a sealed frame, which stands after the pair tag.
fn topic(frame: &[u8]) -> Option<Topic> {
    let frame = frame::decode(frame).ok().filter(|f| f.kind == Kind::Sealed)?;
    frame.body.get(8..10).and_then(|t| Topic::parse(u16::from_be_bytes([t[0], t[1]])).ok())
}

fn is_data(frame: &[u8]) -> bool {
    topic(frame).is_some_and(|t| t.class() == Class::Data)
}

fn kind(frame: &[u8]) -> Option<Kind> {
    frame::decode(frame).ok().map(|f| f.kind)
}

impl Member {
    /// A node of this identity that is in no domain yet.
    #[must_use]
    pub fn new(config: Config, key: SigningKey, seed: [u8; 32]) -> Member {
        let peer = Peer::new(config, key.clone(), seed);
        Member { peer, key, byzantine: None, probes: (0, 0), deaf: false, tape: None, read: 0 }
    }

    /// From now on it does harm in this domain, as [`Byzantine`] says.
    pub fn corrupt(&mut self, now: Now, domain: DomainId, rng: Rng) {
        self.byzantine = Some(Box::new(Byzantine::new(now, domain, &self.peer, rng)));
    }

    /// What it sent of the data class, and of keys, since the last call. Nothing at the first one.
    pub(super) fn tapped(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.tape.get_or_insert_default().frames)
    }

    /// Gets a frame that somebody sent to another, as [`Peer::overhear`] says.
    pub(super) fn overhear(&mut self, now: Now, domain: DomainId, from: &NodeId, frame: &[u8]) -> bool {
        let before = self.peer.opened();
        let heard = self.peer.overhear(now, domain, from, frame);
        self.read += if is_data(frame) { self.peer.opened().saturating_sub(before) } else { 0 };
        heard
    }

    /// What one does not hear who is deaf to its eviction: news and statements, goodbyes, and that links end.
    fn keeps_out(event: &LinkEvent) -> bool {
        match event {
            LinkEvent::Down { .. } => true,
            LinkEvent::Frame { frame, .. } => {
                matches!(kind(frame), Some(Kind::Membership | Kind::Goodbye)) || topic(frame) == Some(Topic::News)
            }
            _ => false,
        }
    }
}

impl Machine for Member {
    type Output = Output;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        if let Some(byzantine) = &mut self.byzantine {
            byzantine.listen(&event);
        }
        if self.deaf && Member::keeps_out(&event) {
            return;
        }
        let before = match &event {
            LinkEvent::Frame { frame, .. } if is_data(frame) => Some(self.peer.opened()),
            _ => None,
        };
        self.peer.handle(now, event);
        self.read += before.map_or(0, |before| self.peer.opened().saturating_sub(before));
    }

    fn on_timeout(&mut self, now: Now) {
        self.peer.on_timeout(now);
        if let Some(byzantine) = &mut self.byzantine {
            byzantine.on_timeout(now, &mut self.peer, &self.key);
        }
    }

    fn poll_output(&mut self) -> Option<Effect<Output>> {
        if let Some(command) = self.byzantine.as_mut().and_then(|b| b.poll_command()) {
            return Some(Effect::Link(command));
        }
        let effect = Machine::poll_output(&mut self.peer)?;
        if let Effect::Link(LinkCommand::Send { frame, .. }) = &effect {
            if topic(frame) == Some(Topic::Probes) {
                self.probes = (self.probes.0 + 1, self.probes.1 + frame.len() as u64);
            }
            if let Some(tape) = &mut self.tape
                && (is_data(frame) || kind(frame) == Some(Kind::Keys))
            {
                tape.record(frame);
            }
        }
        Some(effect)
    }

    fn next_timeout(&self) -> Option<Mono> {
        self.peer.next_timeout().into_iter().chain(self.byzantine.as_ref().map(|b| b.next_timeout())).min()
    }
}

impl Deref for Member {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}
