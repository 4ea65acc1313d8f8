//! A record as held, with the state it gives its node.

use core::time::Duration;

use super::machine::KEEP;
use super::query::Status;
use super::record::{Presence, Signed};
use crate::base::Mono;

/// One record held, and what this node makes of it.
pub(super) struct Entry {
    pub(super) signed: Signed,
    pub(super) received: Mono,
    /// What the record's age was when it was received.
    pub(super) age: Duration,
    /// When it shows as down because its link broke.
    pub(super) doubt: Option<Mono>,
    pub(super) shown: Status,
    pub(super) due: Option<Mono>,
}

impl Entry {
    pub(super) fn lease_end(&self) -> Mono {
        self.received.after(self.signed.record().lease.saturating_sub(self.age))
    }
    pub(super) fn drop_at(&self) -> Mono {
        self.received.after((self.signed.record().lease + KEEP).saturating_sub(self.age))
    }
    pub(super) fn status(&self, now: Mono) -> Status {
        match self.signed.record().presence {
            Presence::Left => Status::Left,
            _ if now >= self.lease_end() || self.doubt.is_some_and(|at| now >= at) => Status::Down,
            presence => presence.into(),
        }
    }
    pub(super) fn next_change(&self, now: Mono) -> Mono {
        match self.status(now) {
            Status::Down | Status::Left => self.drop_at(),
            Status::Online | Status::Suspended => self.doubt.map_or(self.lease_end(), |at| at.min(self.lease_end())),
        }
    }
}
