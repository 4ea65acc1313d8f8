//! The real peer with somebody at its wire: what it sends is kept, and what it is sent may be kept from it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use peerage::base::{LinkId, Mono, NodeId, Now};
use peerage::crypto::sign::SigningKey;
use peerage::peer::{Config, Lane, LinkCommand, LinkEvent, Output, Peer};
use peerage::proto::membership::Msg;
use peerage::sim::{Effect, Machine};

/// The kinds of frames that matter here.
const HELLO: u8 = 0x10;
pub const MEMBERSHIP: u8 = 0x12;
pub const KEYS: u8 = 0x13;
pub const SEALED: u8 = 0x20;

/// What does not reach a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deaf {
    /// Hears all.
    No,
    /// Hears nothing of the membership, such as that it was evicted, nor any news.
    Membership,
    /// Hears no greeting.
    Hellos,
    /// Hears of no revocation, and so hands none on; nor of any news, which may be one.
    Revocations,
}

/// The topics of sealed frames that matter here.
pub const CASTS: u16 = 4;
const NEWS: u16 = 5;

/// Which machine a sealed frame is for.
pub fn topic(frame: &[u8]) -> Option<u16> {
    let bytes = frame.get(10..12).filter(|_| frame[1] == SEALED)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

pub struct Tapped {
    peer: Peer,
    pub deaf: Deaf,
    pub taped: bool,
    pub sent: Vec<Vec<u8>>,
    links: BTreeMap<NodeId, LinkId>,
}

impl Tapped {
    pub fn new(config: Config, key: SigningKey, seed: [u8; 32]) -> Tapped {
        Tapped { peer: Peer::new(config, key, seed), deaf: Deaf::No, taped: false, sent: Vec::new(), links: BTreeMap::new() }
    }

    /// Whether there was a link to a node.
    pub fn knows(&self, node: &NodeId) -> bool {
        self.links.contains_key(node)
    }

    /// A frame as if `from` had sent it.
    pub fn feed(&mut self, now: Now, from: &NodeId, frame: Vec<u8>) {
        let link = self.links[from];
        self.peer.handle(now, LinkEvent::Frame { link, lane: Lane::Control, frame });
    }

    fn keeps_out(&self, frame: &[u8]) -> bool {
        match self.deaf {
            Deaf::Hellos => frame.get(1) == Some(&HELLO),
            Deaf::No => false,
            _ if topic(frame) == Some(NEWS) => true,
            _ if frame.get(1) != Some(&MEMBERSHIP) => false,
            Deaf::Membership => true,
            Deaf::Revocations => {
                matches!(Msg::decode(&frame[10..]), Ok(Msg::Give(list)) if list.iter().any(|s| matches!(s.first(), Some(4 | 6))))
            }
        }
    }
}

impl Deref for Tapped {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Tapped {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

impl Machine for Tapped {
    type Output = Output;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        match &event {
            LinkEvent::Up { link, node, .. } => {
                self.links.insert(*node, *link);
            }
            LinkEvent::Frame { frame, .. } if self.keeps_out(frame) => return,
            // Nor does it give up what it has.
            LinkEvent::Down { .. } if self.deaf == Deaf::Membership => return,
            _ => {}
        }
        self.peer.handle(now, event);
    }

    fn on_timeout(&mut self, now: Now) {
        self.peer.on_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Effect<Output>> {
        Some(match self.peer.poll_output()? {
            Output::Link(command) => {
                if let LinkCommand::Send { frame, .. } = &command
                    && self.taped
                {
                    self.sent.push(frame.clone());
                }
                Effect::Link(command)
            }
            output => Effect::Output(output),
        })
    }

    fn next_timeout(&self) -> Option<Mono> {
        self.peer.next_timeout()
    }
}
