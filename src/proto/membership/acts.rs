//! What those with rights do: the statements for it, made from what the set holds. Nothing is changed by asking.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::{
    machine::Membership,
    set::Member,
    statement::{Body, Dates, LAST_RANK, Rights, StatementId, Target, decide, delegate, manager_credential, revoke_keeping},
};
use crate::base::{Code, Error, Gather, NodeId, Now, Wall, limit};
use crate::crypto::{Role, sign::SigningKey};

/// How long a delegation or an appointment may hold.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 3_600);

/// Whether an invitation lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    /// It does.
    Open,
    /// As many came as it allows.
    Used,
    /// Its date is past.
    Expired,
    /// It was closed.
    Revoked,
}

/// An invitation, for showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationInfo {
    /// Its signing key, which names it.
    pub key: [u8; 32],
    /// Its KEM key: what its bearer is to read is sealed to it.
    pub kem: [u8; 32],
    /// How many members came through it, as far as is known here.
    pub uses: u32,
    /// How many may; 0 for no limit.
    pub max_uses: u32,
    /// Whether an issuer has to approve each.
    pub approve: bool,
    /// Until when.
    pub expires: Wall,
    /// Whether it lets anybody in.
    pub state: InvitationState,
}

impl Membership {
    /// Whether a key may sign this, as the root's or an issuer's.
    fn authorised(&self, now: Now, by: &SigningKey, rights: Rights, what: &'static str) -> Result<(), Error> {
        if self.set.may(&by.public(), rights, now.wall) {
            return Ok(());
        }
        Err(Error::new(Code::Forbidden, what).hint("Ask the domain's owner, who can delegate the right"))
    }

    /// The statements that evict a member: its key is revoked, and so is every open invitation it came through, which would
    /// let it in again under another key, and what it issued. Everybody else who rests on any of that is kept.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right, and for managers and issuers if `by` is not the root's; [`Code::NoParticipant`] for
    /// somebody no statement is about.
    pub fn evict(&self, now: Now, by: &SigningKey, node: &NodeId) -> Result<Vec<Vec<u8>>, Error> {
        self.authorised(now, by, Rights::EVICT, "this node may not evict")?;
        let is_root = by.public() == self.genesis().root;
        if self.set.credentials.get(node).is_none_or(BTreeSet::is_empty) {
            return Err(Error::new(Code::NoParticipant, alloc::format!("{node} is no member of this domain")));
        }
        let issuer = self.set.delegations.contains_key(node.as_bytes());
        if !is_root && (issuer || self.member(now, node).is_some_and(|m| m.role == Role::Manager)) {
            return Err(Error::new(Code::Forbidden, "only the domain's owner evicts a manager or somebody with delegated rights"));
        }
        let mut out = revoke_keeping(&self.domain, by, Target::Key(*node.as_bytes()), &self.resting_on_issuer(now, node));
        for key in self.came_through(node) {
            if self.set.invitation_status(&key, now.wall).is_ok() {
                out.extend(revoke_keeping(&self.domain, by, Target::Key(key), &self.through(now, &key, Some(node))));
            }
        }
        Ok(out)
    }

    /// The statements that close an invitation. Who came through it stays.
    ///
    /// # Errors
    /// [`Code::InviteUnknown`]; [`Code::Forbidden`] unless it is the root's, `by` issued it, or may evict.
    pub fn close_invitation(&self, now: Now, by: &SigningKey, key: &[u8; 32]) -> Result<Vec<Vec<u8>>, Error> {
        let issued = |id: &StatementId| self.set.get(id).is_some_and(|e| e.statement.signer == by.public());
        if self.set.invitation(key).next().is_none() {
            return Err(Error::new(Code::InviteUnknown, "nobody issued this invitation"));
        }
        let rights = if self.set.invitation(key).any(issued) { Rights::INVITE } else { Rights::EVICT };
        self.authorised(now, by, rights, "this node may not close that invitation")?;
        Ok(revoke_keeping(&self.domain, by, Target::Key(*key), &self.through(now, key, None)))
    }

    /// The statements with which a member leaves for good. Whom it invited stays.
    #[must_use]
    pub fn farewell(&self, now: Now, by: &SigningKey) -> Vec<Vec<u8>> {
        let node = by.node_id();
        revoke_keeping(&self.domain, by, Target::Key(by.public()), &self.resting_on_issuer(now, &node))
    }

    /// The statement that gives a member rights.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key; [`Code::BadArgument`] for more than 90 days; [`Code::NoParticipant`] for nobody.
    pub fn delegation(&self, now: Now, by: &SigningKey, node: &NodeId, rights: Rights, lifetime: Duration) -> Result<Vec<u8>, Error> {
        if by.public() != self.genesis().root {
            return Err(Error::new(Code::Forbidden, "only the domain's owner delegates rights").hint("Do it where the root key is"));
        }
        if lifetime.is_zero() || lifetime > LONGEST {
            return Err(Error::new(Code::BadArgument, "rights are delegated for more than nothing, and 90 days at most"));
        }
        if self.member(now, node).is_none_or(|m| m.role != Role::Participant) {
            return Err(Error::new(Code::NoParticipant, alloc::format!("{node} is no participant of this domain")));
        }
        let dates = Dates { not_before: now.wall.before(limit::CLOCK_SKEW), expires: now.wall.after(lifetime) };
        Ok(delegate(&self.domain, by, *node.as_bytes(), rights, dates))
    }

    /// The statement that makes a node a manager of this rank, or gives a manager another rank.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, for a participant, and for a node that was evicted or left; [`Code::BadArgument`] for a rank that
    /// there is not, and for more than 90 days.
    pub fn appointment(&self, now: Now, by: &SigningKey, node: &NodeId, rank: u8, lifetime: Duration) -> Result<Vec<u8>, Error> {
        let root = self.genesis().root;
        if by.public() != root {
            return Err(Error::new(Code::Forbidden, "only the domain's owner appoints managers").hint("Do it where the root key is"));
        }
        if rank > LAST_RANK {
            return Err(Error::new(Code::BadArgument, alloc::format!("a rank is 0 to {LAST_RANK}")));
        }
        if lifetime.is_zero() || lifetime > LONGEST {
            return Err(Error::new(Code::BadArgument, "a manager is appointed for more than nothing, and 90 days at most"));
        }
        if self.set.is_participant(node, now.wall) {
            let what = alloc::format!("{node} is a participant: it holds keys that a manager must not have");
            return Err(Error::new(Code::Forbidden, what).hint("Name the id of a manager that takes no part itself"));
        }
        // What is there already may hold longer: it was made for a longer time, or by a clock that was ahead. The set would keep that one.
        let former = self.set.credential(node, &root, Role::Manager).and_then(|id| self.set.get(&id)?.statement.body.dates());
        let outlast = former.map_or(Wall(0), |d| d.expires.after(Duration::from_millis(1)));
        let (not_before, expires) = (now.wall.before(limit::CLOCK_SKEW), now.wall.after(lifetime).max(outlast));
        let body = Body::Credential { member: *node, role: Role::Manager, rank, dates: Dates { not_before, expires } };
        if self.set.would_hold(root, body, now.wall).is_none() {
            let what = alloc::format!("{node} was evicted or left, and both are for good");
            return Err(Error::new(Code::Forbidden, what).hint("Give that manager a new key"));
        }
        Ok(manager_credential(&self.domain, by, node, rank, not_before, expires))
    }

    /// The statement that lets somebody in who waits, or who came after as many others as its invitation allows; or turns it
    /// away.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right to invite.
    pub fn decision(&self, now: Now, by: &SigningKey, node: &NodeId, granted: bool) -> Result<Vec<u8>, Error> {
        self.authorised(now, by, Rights::INVITE, "this node may not decide who comes in")?;
        Ok(decide(&self.domain, by, node, granted))
    }

    /// Every invitation known, those that end first first.
    #[must_use]
    pub fn invitations(&self, now: Now) -> Vec<InvitationInfo> {
        let mut all: Vec<InvitationInfo> = Vec::new();
        for key in self.set.invitations.keys() {
            let specs = self.set.invitation(key).filter_map(|id| match &self.set.get(id)?.statement.body {
                Body::Invitation(spec) => Some(*spec),
                _ => None,
            });
            let Some(spec) = specs.max_by_key(|s| s.expires) else { continue };
            let uses = u32::try_from(self.set.uses(key).len()).unwrap_or(u32::MAX);
            let state = match self.set.invitation_status(key, now.wall) {
                Ok(()) if spec.max_uses > 0 && uses >= spec.max_uses => InvitationState::Used,
                Ok(()) => InvitationState::Open,
                Err(Code::InviteExpired) => InvitationState::Expired,
                Err(_) => InvitationState::Revoked,
            };
            all.push(InvitationInfo {
                key: *key,
                kem: spec.kem_pk,
                uses,
                max_uses: spec.max_uses,
                approve: spec.approve,
                expires: spec.expires,
                state,
            });
        }
        all.sort_by_key(|i| (i.expires, i.key));
        all
    }

    // ---- renewing ---------------------------------------------------------------------------------------------------

    /// Until when a credential signed by this key with these dates would hold for a member.
    #[must_use]
    pub fn would_hold(&self, now: Now, signer: [u8; 32], member: &NodeId, role: Role, dates: Dates) -> Option<Wall> {
        self.set.would_hold(signer, Body::Credential { member: *member, role, rank: 0, dates }, now.wall)
    }

    /// The members whose membership ends before `soon` and who cannot renew it themselves.
    #[must_use]
    pub fn ending(&self, now: Now, soon: Wall) -> Vec<(NodeId, Member)> {
        let due = self.members(now).into_iter().filter(|(_, m)| m.expires < soon);
        due.filter(|(node, m)| !self.renews_itself(now, node, m.expires.max(soon))).collect()
    }

    /// Whether some invitation that a member came through lets it stay past a moment.
    fn renews_itself(&self, now: Now, node: &NodeId, past: Wall) -> bool {
        let dates = Dates { not_before: now.wall, expires: now.wall.after(super::SELF_SIGNED) };
        let reach = |key| self.would_hold(now, key, node, Role::Participant, dates);
        self.came_through(node).into_iter().any(|key| reach(key).is_some_and(|end| end > past))
    }

    // ---- who rests on what ------------------------------------------------------------------------------------------

    /// The invitations a member has a credential by.
    fn came_through(&self, node: &NodeId) -> BTreeSet<[u8; 32]> {
        let signers = self.set.credentials.get(node).into_iter().flatten().filter_map(|id| Some(self.set.get(id)?.statement.signer));
        signers.filter(|key| self.set.invitations.contains_key(key)).gather()
    }

    /// Whether a member has a credential by this invitation that holds. One that an issuer renewed since has one by that issuer instead.
    #[must_use]
    pub fn has_credential_by(&self, now: Now, node: &NodeId, invitation: &[u8; 32]) -> bool {
        let credential = self.set.credential(node, invitation, Role::Participant);
        self.set.invitations.contains_key(invitation) && credential.is_some_and(|id| self.holds(now, &id))
    }

    /// The keys of the members that came through an invitation.
    fn through(&self, now: Now, key: &[u8; 32], but: Option<&NodeId>) -> Vec<StatementId> {
        let members = self.members(now).into_iter().map(|(n, _)| n).filter(|n| Some(n) != but && self.came_through(n).contains(key));
        members.map(|n| StatementId(*n.as_bytes())).collect()
    }

    /// What stays when an issuer goes: the members that came by it, and what it decided about others.
    fn resting_on_issuer(&self, now: Now, node: &NodeId) -> Vec<StatementId> {
        let issuer = node.as_bytes();
        if !self.set.delegations.contains_key(issuer) {
            return Vec::new();
        }
        let by = |id: &StatementId| self.set.get(id).is_some_and(|e| e.statement.signer == *issuer);
        let issued: BTreeSet<[u8; 32]> =
            self.set.invitations.iter().filter(|(_, ids)| ids.iter().any(by)).map(|(key, _)| *key).chain([*issuer]).collect();
        let rests = |n: &NodeId| {
            let signers = self.set.credentials.get(n).into_iter().flatten().filter_map(|id| Some(self.set.get(id)?.statement.signer));
            n != node && signers.into_iter().any(|s| issued.contains(&s))
        };
        let decided = |b: &Body| matches!(b, Body::Revocation { .. } | Body::Approval { .. });
        let decisions = self.set.iter().filter(|(_, e)| e.statement.signer == *issuer && decided(&e.statement.body)).map(|(id, _)| *id);
        self.members(now).into_iter().map(|(n, _)| n).filter(rests).map(|n| StatementId(*n.as_bytes())).chain(decisions).collect()
    }
}
