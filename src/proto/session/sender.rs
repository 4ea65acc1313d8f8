//! This process' own epoch: the pair of sender chains, the key that signs their messages, and who was given them.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{keymsg::Entry, prekey::PrekeyId};
use crate::base::{DomainId, Map, Mono, NodeId, Reject, Rng};
use crate::crypto::{
    Class,
    chain::{self, ChainKey, Kid, Owner},
    frame,
    sign::SigningKey,
};

/// A new epoch after this many messages of one class …
pub const MESSAGES: u32 = 10_000;
/// … or this many plaintext bytes of one class.
pub const BYTES: u64 = 1 << 30;

struct Chain {
    owner: Owner,
    kid: Kid,
    key: ChainKey,
    index: u32,
    bytes: u64,
    prev: (Kid, u32),
}

/// One epoch.
pub struct Epoch {
    signer: SigningKey,
    chains: [Chain; 2],
    /// Key messages made.
    pub seq: u64,
    pub started: Mono,
    /// Which prekeys were given which classes, by flag bits.
    pub given: Map<(NodeId, PrekeyId), u8>,
    /// Who holds keys of this epoch.
    pub holders: BTreeSet<NodeId>,
}

impl Epoch {
    pub fn new(domain: DomainId, sender: NodeId, before: Option<&Epoch>, now: Mono, rng: &mut Rng) -> Epoch {
        let signer = SigningKey::generate(rng);
        let msg_vk = signer.public();
        let chains = Class::BOTH.map(|class| {
            let owner = Owner { domain, sender, class };
            let seed = zeroize::Zeroizing::new(rng.bytes());
            let kid = chain::kid(&owner, &msg_vk, &seed);
            let prev = before.map_or(([0; 16], 0), |e| (e.chain(class).kid, e.chain(class).index));
            Chain { owner, kid, key: ChainKey::first(&owner, &kid, &seed), index: 0, bytes: 0, prev }
        });
        Epoch { signer, chains, seq: 0, started: now, given: Map::new(), holders: BTreeSet::new() }
    }

    fn chain(&self, class: Class) -> &Chain {
        &self.chains[usize::from(class == Class::Data)]
    }

    pub fn msg_vk(&self) -> [u8; 32] {
        self.signer.public()
    }

    /// Whether this class' chain has carried its share.
    pub fn used_up(&self, class: Class) -> bool {
        self.chain(class).index >= MESSAGES || self.chain(class).bytes >= BYTES
    }

    /// As if messages of so many bytes had been sealed.
    #[cfg(test)]
    pub fn carried(&mut self, class: Class, bytes: u64) {
        self.chains[usize::from(class == Class::Data)].bytes += bytes;
    }

    /// What a key message says of these classes, and the keys.
    pub fn entries(&self, classes: &[Class]) -> (Vec<Entry>, Vec<ChainKey>) {
        let entry = |class: &Class| {
            let c = self.chain(*class);
            (Entry { class: *class, kid: c.kid, index: c.index, prev_kid: c.prev.0, prev_final: c.prev.1 }, c.key.clone())
        };
        classes.iter().map(entry).unzip()
    }

    /// Seals one message and moves the chain on.
    pub fn seal(&mut self, class: Class, topic: u16, plaintext: &[u8], rng: &mut Rng) -> Result<Vec<u8>, Reject> {
        let chain = &mut self.chains[usize::from(class == Class::Data)];
        let next = chain.index.checked_add(1).ok_or(Reject::Limit)?;
        let (key, following) = chain.key.step();
        let place = frame::Place { kid: chain.kid, index: chain.index, salt: rng.bytes() };
        let frame = frame::seal(&chain.owner, &key, &self.signer, place, topic, plaintext);
        (chain.key, chain.index) = (following, next);
        chain.bytes += plaintext.len() as u64;
        Ok(frame)
    }
}
