//! Shared state: what the application writes and reads, and how copies meet. Participants only; held back, like all of the data class,
//! while members' views differ.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{Event, Part, Peer, input::exchanges_data, link::Lane, seal::Topic};
use crate::base::{Code, DomainId, Error, NodeId, Now, Reject};
use crate::proto::state;

impl Peer {
    /// Writes a value into the shared state, or with `None` deletes its key.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a key of 0 or more than 128 bytes; [`Code::TooLarge`] for a value of more than 8 KiB, or when the map is full;
    /// [`Code::Forbidden`] for a manager; [`Code::Closed`].
    pub fn write_state(&mut self, now: Now, id: DomainId, key: &str, value: Option<Vec<u8>>) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        if !exchanges_data(domain.role) {
            return Err(Error::new(Code::Forbidden, "only participants write the shared state"));
        }
        let mut effects = Vec::new();
        domain.state.write(now, key, value, &mut effects)?;
        self.state_effects(now, id, effects);
        self.settle(now);
        Ok(())
    }

    /// The entry under a key, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn state_entry(&self, id: DomainId, key: &str) -> Result<Option<state::Entry>, Error> {
        Ok(self.domain(id)?.state.get(key).cloned())
    }

    /// Every entry whose key begins so, by key, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn state_entries(&self, id: DomainId, prefix: &str) -> Result<Vec<state::Entry>, Error> {
        Ok(self.domain(id)?.state.entries(prefix).into_iter().cloned().collect())
    }

    /// A digest of this node's copy: equal copies have equal ones.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn state_digest(&self, id: DomainId) -> Result<u64, Error> {
        Ok(self.domain(id)?.state.digest())
    }

    pub(super) fn state_message(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        let message = state::Msg::decode(plaintext)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let mut effects = Vec::new();
        let result = domain.state.handle(now, from, message, &mut effects);
        self.state_effects(now, id, effects);
        result
    }

    pub(super) fn state_effects(&mut self, now: Now, id: DomainId, effects: Vec<state::Effect>) {
        let mut changed = BTreeSet::new();
        for effect in effects {
            match effect {
                // What is not said now is found by a later comparison.
                state::Effect::Send { .. } if self.domains.get_mut(&id).is_none_or(|d| d.views.holds(now)) => {}
                state::Effect::Send { to, msg } => self.send_sealed(now, id, Topic::State, &to, Lane::Bulk, &msg.encode()),
                state::Effect::Changed { key } => {
                    changed.insert(key);
                }
            }
        }
        if !changed.is_empty() {
            self.mark_unsaved(id, Part::State);
        }
        for key in changed {
            self.emit(Event::State { domain: id, key });
        }
    }
}
