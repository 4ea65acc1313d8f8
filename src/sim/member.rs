//! A node of the simulator: the composite [`Peer`] that ships, and in some the will to harm.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

use super::byzantine::Byzantine;
use super::{Effect, Machine};
use crate::base::{DomainId, Mono, Now, Rng};
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, LinkCommand, LinkEvent, Output, Peer};
use crate::wire::frame::{self, Kind};

/// The topic of the detector's messages, as it stands in a sealed frame after the pair tag.
const PROBES: [u8; 2] = [0, 6];

/// A node.
pub struct Member {
    peer: Peer,
    /// Its identity.
    pub key: SigningKey,
    byzantine: Option<Box<Byzantine>>,
    /// Frames of the detector's that it sent, and their bytes.
    pub probes: (u64, u64),
}

impl Member {
    /// A node of this identity that is in no domain yet.
    #[must_use]
    pub fn new(config: Config, key: SigningKey, seed: [u8; 32]) -> Member {
        Member { peer: Peer::new(config, key.clone(), seed), key, byzantine: None, probes: (0, 0) }
    }

    /// From now on it does harm in this domain, as [`Byzantine`] says.
    pub fn corrupt(&mut self, now: Now, domain: DomainId, rng: Rng) {
        self.byzantine = Some(Box::new(Byzantine::new(now, domain, &self.peer, rng)));
    }
}

impl Machine for Member {
    type Output = Output;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        if let Some(byzantine) = &mut self.byzantine {
            byzantine.listen(&event);
        }
        self.peer.handle(now, event);
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
        if let Effect::Link(LinkCommand::Send { frame, .. }) = &effect
            && frame::decode(frame).is_ok_and(|f| f.kind == Kind::Sealed && f.body.get(8..10) == Some(&PROBES))
        {
            self.probes = (self.probes.0 + 1, self.probes.1 + frame.len() as u64);
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
