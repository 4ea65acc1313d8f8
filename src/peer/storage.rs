//! Storage keys as the membership has them: who may give one, who may have one, and what is missing.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Peer, command::refused};
use crate::base::{Code, DomainId, Error, NodeId, Now, Reject, Rng};
use crate::crypto::object::recipient;
use crate::crypto::{Role, sign::SigningKey};
use crate::proto::membership::{Gone, InvitationState, Membership, Rights};
use crate::proto::objects::{Keyring, Policy};

/// What the membership says of keys. An invitation that ended, or was used as often as it may be, makes nobody a stranger who had the
/// storage key through it; one that was closed does, and so does an eviction.
pub fn with_policy<T>(membership: &Membership, now: Now, f: impl FnOnce(&Policy<'_>) -> T) -> T {
    let root = membership.genesis().root;
    let entitled = |id: &[u8; 32]| {
        let node = NodeId::from_public_key(*id);
        *id == root
            || match (membership.member(now, &node), membership.invitation_status(now, id)) {
                (Some(member), _) => member.role == Role::Participant,
                (None, Err(Code::InviteRevoked)) => false,
                // What is not known any more ended long ago.
                (None, Err(Code::InviteUnknown)) => membership.gone(now, &node) == Gone::Expired,
                (None, _) => true,
            }
    };
    f(&Policy { root, may: &|key| membership.may(now, key, Rights::STORE), entitled: &entitled })
}

/// The lockbox that is missing, if one is: of a new generation where somebody has the key who is to have it no more, else for those
/// who came since. `enrolled` are participants' KEM keys, as they say themselves; where one is not known its lockbox before is asked.
///
/// # Errors
/// [`Code::Forbidden`] if `issuer` may not give storage keys, the code of what [`Keyring::rotate`] and [`Keyring::extend`] refuse.
pub fn supply(
    keyring: &Keyring,
    membership: &Membership,
    enrolled: &BTreeMap<NodeId, [u8; 32]>,
    now: Now,
    issuer: &SigningKey,
    rng: &mut Rng,
) -> Result<Option<Vec<u8>>, Error> {
    with_policy(membership, now, |policy| {
        let participants = membership.members(now).into_iter().filter(|(_, member)| member.role == Role::Participant);
        let known = |id: [u8; 32]| Some((id, keyring.kem(&id, policy)?));
        let mut all: BTreeMap<[u8; 32], [u8; 32]> = participants
            .filter_map(|(node, _)| match enrolled.get(&node) {
                Some(kem) => Some((*node.as_bytes(), *kem)),
                None => known(*node.as_bytes()),
            })
            .chain(membership.invitations(now).into_iter().filter(|i| i.state == InvitationState::Open).map(|i| (i.key, i.kem)))
            .collect();
        if issuer.public() == policy.root {
            all.insert(policy.root, *recipient(issuer, &membership.domain()).public());
        } else {
            all.extend(known(policy.root));
        }
        let made = match keyring.lacking(&all, policy) {
            Some(missing) if missing.is_empty() => return Ok(None),
            Some(missing) => match keyring.extend(now.wall, &missing, issuer, policy, rng) {
                // Too many came since: time for another key.
                Err(Reject::Limit) => keyring.rotate(now.wall, &all, issuer, policy, rng),
                made => made,
            },
            None => keyring.rotate(now.wall, &all, issuer, policy, rng),
        };
        made.map(Some).map_err(|reject| refused(reject, "a new storage key"))
    })
}

impl Peer {
    /// Looks at what storage keys of a domain depend on: the membership, this node's identity, and the root key if it is here.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn look_at_keys<T>(&self, id: DomainId, look: impl FnOnce(&Membership, &SigningKey, Option<&SigningKey>) -> T) -> Result<T, Error> {
        let domain = self.domain(id)?;
        Ok(look(&domain.membership, &self.identity, domain.root.as_ref()))
    }

    /// A generator of its own for some use outside.
    pub fn fork_rng(&mut self, label: &str) -> Rng {
        self.rng.fork(label)
    }
}
