//! A node of a village: the real peer, what its detector sends counted, and in some a member that lies.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use peerage::base::{DomainId, LinkId, Mono, NodeId, Now, Rng, Wall};
use peerage::crypto::sign::SigningKey;
use peerage::peer::{Config, Lane, LinkCommand, LinkEvent, Output, Peer};
use peerage::proto::detector::{Accusation, Msg};
use peerage::proto::directory::Query;
use peerage::sim::{Effect, Machine};
use peerage::wire::frame::{self, Kind};

/// How often a liar does its work.
const WORK: Duration = Duration::from_secs(1);
/// The topic of the detector's messages, as it stands in a sealed frame after the pair tag.
const PROBES: [u8; 2] = [0, 6];

pub struct Actor {
    peer: Peer,
    pub key: SigningKey,
    liar: Option<Liar>,
    /// Frames of the detector's that it sent, and their bytes.
    pub probes: (u64, u64),
}

/// A member with a valid credential that does what it can to have others taken for down: it says that they are silent, in its own
/// name and with words in the names of others, and sends old frames again.
struct Liar {
    domain: DomainId,
    rng: Rng,
    links: BTreeMap<LinkId, NodeId>,
    heard: VecDeque<(LinkId, Vec<u8>)>,
    next: Mono,
    outputs: VecDeque<LinkCommand>,
}

fn is_probe(bytes: &[u8]) -> bool {
    frame::decode(bytes).is_ok_and(|f| f.kind == Kind::Sealed && f.body.get(8..10) == Some(&PROBES))
}

impl Actor {
    pub fn new(config: Config, key: SigningKey, seed: [u8; 32]) -> Actor {
        Actor { peer: Peer::new(config, key.clone(), seed), key, liar: None, probes: (0, 0) }
    }

    /// From now on it lies, in this domain.
    pub fn lie(&mut self, domain: DomainId) {
        let (rng, links) = (Rng::from_seed([9; 32]), BTreeMap::new());
        self.liar = Some(Liar { domain, rng, links, heard: VecDeque::new(), next: Mono(0), outputs: VecDeque::new() });
    }
}

impl Liar {
    fn listen(&mut self, event: &LinkEvent) {
        match event {
            LinkEvent::Up { link, node, .. } => {
                self.links.insert(*link, *node);
            }
            LinkEvent::Down { link } => {
                self.links.remove(link);
            }
            LinkEvent::Frame { link, frame, .. } => {
                self.heard.push_back((*link, frame.clone()));
                if self.heard.len() > 500 {
                    self.heard.pop_front();
                }
            }
            _ => {}
        }
    }

    fn work(&mut self, now: Now, peer: &mut Peer, key: &SigningKey) {
        if now.mono < self.next {
            return;
        }
        self.next = now.mono.after(WORK);
        let me = peer.id();
        let members = peer.participants(now, self.domain, &Query::default()).unwrap_or_default();
        // All liars aim at the same member for a while, so that their words add up.
        let Some(target) = members.get((now.mono.0 / 20_000) as usize % members.len().max(1)).filter(|p| p.node != me) else { return };
        let (suspect, incarnation) = (target.node, target.incarnation);
        let say = |accuser: NodeId, created: Wall| Accusation { accuser, suspect, incarnation, created }.sign(&self.domain, key);
        let own = say(me, Wall(now.wall.0 - self.rng.below(60_000)));
        let other = members[self.rng.below(members.len() as u64) as usize].node;
        let forged = say(other, now.wall);
        for to in members.iter().map(|p| p.node).filter(|n| *n != me && *n != suspect) {
            for word in [own, forged] {
                peer.send_probe(now, self.domain, to, &Msg::Accuse(vec![word]));
            }
        }
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for _ in 0..5 {
            let old = self.rng.below(self.heard.len() as u64) as usize;
            let to = self.rng.below(links.len() as u64) as usize;
            if let (Some((from, bytes)), Some(other)) = (self.heard.get(old), links.get(to)) {
                // Back to where it came from, and to somebody else.
                for link in [*from, *other] {
                    self.outputs.push_back(LinkCommand::Send { link, lane: Lane::Control, frame: bytes.clone() });
                }
            }
        }
    }
}

impl Machine for Actor {
    type Output = Output;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        if let Some(liar) = &mut self.liar {
            liar.listen(&event);
        }
        self.peer.handle(now, event);
    }

    fn on_timeout(&mut self, now: Now) {
        self.peer.on_timeout(now);
        if let Some(liar) = &mut self.liar {
            liar.work(now, &mut self.peer, &self.key);
        }
    }

    fn poll_output(&mut self) -> Option<Effect<Output>> {
        if let Some(command) = self.liar.as_mut().and_then(|l| l.outputs.pop_front()) {
            return Some(Effect::Link(command));
        }
        let output = Machine::poll_output(&mut self.peer)?;
        if let Effect::Link(LinkCommand::Send { frame, .. }) = &output
            && is_probe(frame)
        {
            self.probes = (self.probes.0 + 1, self.probes.1 + frame.len() as u64);
        }
        Some(output)
    }

    fn next_timeout(&self) -> Option<Mono> {
        self.peer.next_timeout()
    }
}

impl Deref for Actor {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Actor {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}
