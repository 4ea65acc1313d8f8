//! What is to be stored: which parts of which domain changed, and what they are now. The runtime's keeper takes it from here.

use alloc::{string::String, vec::Vec};
use zeroize::Zeroizing;

use super::{Part, Peer, SavedDomain};
use crate::base::{DomainId, Error, NodeId, Now, limit};
use crate::crypto::{Role, sign::SigningKey};
use crate::proto::directory::Status;
use crate::wire::link::InviteLink;

/// Domains that this node was evicted from, of which the end is kept until it is stored.
const LAST_WORDS: usize = 64;

impl Peer {
    /// What must be kept to open the domain again.
    ///
    /// # Errors
    /// [`Code::Closed`](crate::base::Code::Closed) if this node is not in the domain, or not yet.
    pub fn save_domain(&self, now: Now, id: DomainId) -> Result<SavedDomain, Error> {
        self.save(now, id, &Part::ALL)
    }

    /// One part of it, as a record for a store.
    ///
    /// # Errors
    /// As [`Peer::save_domain`].
    pub fn save_part(&self, now: Now, id: DomainId, part: Part) -> Result<Zeroizing<Vec<u8>>, Error> {
        match self.last_words.get(&id) {
            Some(record) if part == Part::Statements && !self.domains.contains_key(&id) => Ok(record.clone()),
            _ => self.save(now, id, &[part]).map(|saved| saved.encode(part)),
        }
    }

    /// This node is no member any more, and is about to drop the domain: what says so is stored, so that it is not opened again.
    pub(super) fn keep_last_words(&mut self, now: Now, id: DomainId) {
        if let Ok(record) = self.save_part(now, id, Part::Statements)
            && self.last_words.len() < LAST_WORDS
        {
            self.last_words.insert(id, record);
            self.unsaved.insert((id, Part::Statements));
        }
    }

    /// Only these parts are filled in.
    fn save(&self, now: Now, id: DomainId, parts: &[Part]) -> Result<SavedDomain, Error> {
        let domain = self.domain(id)?;
        let secret = domain.secret.clone().ok_or_else(super::command::not_in)?;
        let mut saved = SavedDomain { genesis: domain.membership.genesis_bytes().to_vec(), ..SavedDomain::default() };
        for part in parts {
            match part {
                Part::Keys => {
                    saved.secret.clone_from(&secret);
                    saved.root = domain.root.as_ref().map(|root| Zeroizing::new(*root.seed()));
                    saved.invitation.clone_from(&domain.invitation);
                }
                Part::Statements => saved.statements = domain.membership.export(),
                Part::State => saved.state = domain.state.export(),
                Part::Contacts => (saved.relays, saved.contacts) = (self.known_relays(), self.known_contacts(now, id)),
            }
        }
        Ok(saved)
    }

    /// The invitation this node came with, as a link to be passed on; `None` if it came otherwise.
    ///
    /// # Errors
    /// [`Code::Closed`](crate::base::Code::Closed) if this node is not in the domain.
    pub fn kept_invitation(&self, id: DomainId) -> Result<Option<InviteLink>, Error> {
        let domain = self.domain(id)?;
        let manager = domain.known.iter().find(|(_, role)| **role == Role::Manager).map(|(node, _)| *node);
        let rendezvous = domain.membership.genesis().rendezvous;
        let secret = domain.invitation.clone();
        Ok(secret.map(|secret| InviteLink { domain: id, secret, generation: 0, manager, rendezvous, relays: self.known_relays() }))
    }

    /// Whether [`Peer::take_unsaved`] has something.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// What changed since the last call and should be stored.
    pub fn take_unsaved(&mut self) -> Vec<(DomainId, Part)> {
        core::mem::take(&mut self.unsaved).into_iter().collect()
    }

    /// Says that a part of a domain could not be stored: it is given again.
    pub fn mark_unsaved(&mut self, id: DomainId, part: Part) {
        if self.domains.get(&id).map_or(self.last_words.contains_key(&id), |d| d.secret.is_some()) {
            self.unsaved.insert((id, part));
        }
    }

    /// Takes over what a stored domain has and this node came in without, so that storing loses none of it.
    pub fn adopt(&mut self, now: Now, saved: &SavedDomain) {
        let Some(domain) = self.domains.get_mut(&saved.id()) else { return };
        if domain.root.is_none() {
            domain.root = saved.root.as_ref().map(|seed| SigningKey::from_seed(seed));
        }
        if domain.invitation.is_none() {
            domain.invitation.clone_from(&saved.invitation);
        }
        domain.state.import(now, &saved.state);
        self.mark_unsaved(saved.id(), Part::Keys);
    }

    pub(super) fn mark_all_unsaved(&mut self, id: DomainId) {
        for part in Part::ALL {
            self.mark_unsaved(id, part);
        }
    }

    /// Another relay works, or does not: every domain's contacts name relays.
    pub(super) fn mark_contacts_unsaved(&mut self) {
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            self.mark_unsaved(id, Part::Contacts);
        }
    }

    /// Whom to dial after a restart: those online first, then those this node itself was told of and did not reach yet.
    fn known_contacts(&self, now: Now, id: DomainId) -> Vec<(NodeId, Vec<String>)> {
        let Some(domain) = self.domains.get(&id) else { return Vec::new() };
        let listed = domain.directory.dialable(now).filter(|(n, ..)| domain.known.contains_key(n));
        let mut all: Vec<(bool, NodeId, &[String])> =
            listed.map(|(node, status, addresses)| (matches!(status, Status::Down | Status::Left), *node, addresses)).collect();
        let told = domain.contacts.iter().filter(|(n, _)| domain.known.contains_key(n) && !all.iter().any(|(_, node, _)| node == *n));
        let told: Vec<_> = told.map(|(node, addresses)| (true, *node, &addresses[..])).collect();
        all.extend(told);
        all.retain(|(_, node, addresses)| *node != self.me && !addresses.is_empty());
        all.sort_by_key(|(down, node, _)| (*down, *node));
        all.into_iter().take(limit::CONTACTS).map(|(_, node, addresses)| (node, addresses.to_vec())).collect()
    }
}
