//! For the simulator: what a node holds, so that copies can be compared. Nothing here changes anything.

use alloc::vec::Vec;

use super::Peer;
use crate::base::DomainId;

impl Peer {
    /// The records of the directory, signed as they came.
    pub(crate) fn records(&self, id: DomainId) -> Vec<Vec<u8>> {
        self.domains.get(&id).map(|d| d.directory.records().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    /// Equal where the same statements of the membership are held, and so the same ones revoked.
    pub(crate) fn statements_digest(&self, id: DomainId) -> Option<[u8; 32]> {
        self.domains.get(&id).map(|d| d.membership.digest())
    }
}
