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
    /// Found to be silent, by whoever looks for life: this incarnation of its record and lower ones show as down.
    pub(super) silent: Option<u64>,
    /// It does not show as down for its lease before this moment: this process slept and could hear of no newer record, or the node
    /// is heard of over its link.
    pub(super) spared: Option<Mono>,
    pub(super) shown: Status,
    pub(super) due: Option<Mono>,
}

impl Entry {
    pub(super) fn lease_end(&self) -> Mono {
        let end = self.received.after(self.signed.record().lease.saturating_sub(self.age));
        self.spared.map_or(end, |at| at.max(end))
    }
    pub(super) fn drop_at(&self) -> Mono {
        let end = self.received.after((self.signed.record().lease + KEEP).saturating_sub(self.age));
        self.spared.map_or(end, |at| at.max(end))
    }
    pub(super) fn is_silent(&self) -> bool {
        self.silent.is_some_and(|incarnation| self.signed.record().incarnation <= incarnation)
    }
    pub(super) fn status(&self, now: Mono) -> Status {
        match self.signed.record().presence {
            Presence::Left => Status::Left,
            _ if now >= self.lease_end() || self.is_silent() => Status::Down,
            presence => presence.into(),
        }
    }
    pub(super) fn next_change(&self, now: Mono) -> Mono {
        match self.status(now) {
            Status::Down | Status::Left => self.drop_at(),
            Status::Online | Status::Suspended => self.lease_end(),
        }
    }
}
