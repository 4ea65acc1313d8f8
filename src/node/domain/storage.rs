//! The storage keys of a domain on disk, as its owner has them: lockboxes and participants' enrolments, which a running manager serves
//! from here and adds to. Only commands of the owner open a lockbox; the manager never does.

use std::collections::BTreeMap;

use super::{DomainFiles, root};
use crate::base::{DomainId, Error, NodeId};
use crate::crypto::object::recipient;
use crate::node::data::Inbox;
use crate::peer::SavedDomain;
use crate::peer::storage::{supply, with_policy};
use crate::platform::native;
use crate::proto::objects::message::MESSAGE;
use crate::proto::objects::{Enrolment, Keyring, Lockbox};

/// Lockboxes kept.
pub(in crate::node) const LOCKBOXES: usize = 4_096;
/// Enrolments kept.
const ENROLMENTS: usize = 16_384;

impl DomainFiles {
    /// The folder of lockboxes.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    pub fn lockboxes(&self) -> Result<Inbox, Error> {
        Inbox::open(&self.0, "lockboxes", MESSAGE, LOCKBOXES)
    }

    /// The folder of enrolments.
    ///
    /// # Errors
    /// [`Code::Storage`](crate::base::Code::Storage).
    pub fn enrolments(&self) -> Result<Inbox, Error> {
        Inbox::open(&self.0, "enrolments", Enrolment::LENGTH, ENROLMENTS)
    }

    /// Makes the lockbox that is missing, if one is: the first, one for invitations and participants that came since, or one with a new
    /// key after an eviction. Tells the number of the newest generation.
    ///
    /// # Errors
    /// [`Code::Forbidden`](crate::base::Code::Forbidden) without the root key, [`Code::Storage`](crate::base::Code::Storage).
    pub(super) fn supply_lockbox(&self, saved: &SavedDomain) -> Result<u32, Error> {
        let (root, membership, now) = (root(saved)?, self.current(saved)?, native::clock());
        let (domain, kem) = (membership.domain(), recipient(&root, &membership.domain()));
        let mut keyring = Keyring::new(domain);
        let mut folder = self.lockboxes()?;
        let take =
            |keyring: &mut Keyring, bytes: &[u8]| with_policy(&membership, now, |p| keyring.take(bytes, &[(root.public(), &kem)], p));
        for lockbox in newest_first(&domain, folder.fresh()?) {
            // One that does not count here counts nowhere.
            if let Err(reject) = take(&mut keyring, &lockbox) {
                tracing::warn!(%reject, "a lockbox in the data directory was passed over");
            }
        }
        let enrolled: BTreeMap<NodeId, [u8; 32]> =
            self.enrolments()?.fresh()?.iter().filter_map(|e| Enrolment::verify(&domain, e).ok()).map(|e| (e.node, e.kem)).collect();
        let made = supply(&keyring, &membership, &enrolled, now, &root, &mut native::entropy()?)?;
        if let Some(lockbox) = made {
            folder.add(&lockbox)?;
            return Ok(Lockbox::verify(&domain, &lockbox).map_or(0, |l| l.generation.number));
        }
        Ok(keyring.newest())
    }
}

/// Lockboxes in the order in which a keyring takes them.
pub(in crate::node) fn newest_first(domain: &DomainId, all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut numbered: Vec<(u32, Vec<u8>)> =
        all.into_iter().filter_map(|bytes| Some((Lockbox::verify(domain, &bytes).ok()?.generation.number, bytes))).collect();
    numbered.sort_by(|a, b| b.cmp(a));
    numbered.into_iter().map(|(_, bytes)| bytes).collect()
}
