//! What is valid in the set: a pure function of the statements and the clock.
//!
//! A revocation *hits* what it targets, if its signer may revoke that, and everything that rests on what it hits except what
//! it keeps. Revocations of one target by one signer are one with all their keep-lists; those of different signers each keep
//! for themselves. A statement is valid if along some path to the root nothing hits it and every date holds.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{
    set::{Entry, Member, Set},
    statement::{Body, ISSUED, InvitationSpec, Rights, SELF_SIGNED, Statement, StatementId, Target},
};
use crate::base::{Code, Gather, Map, NodeId, Wall, limit};
use crate::crypto::Role;

/// Why somebody is no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Somebody else revoked its key, or what its membership rests on.
    Evicted,
    /// It revoked its own key.
    Left,
    /// Its credentials ended, or it never had one.
    Expired,
}

/// One way from a statement to the root.
struct Path {
    hits: BTreeSet<StatementId>,
    dates: bool,
    expires: Wall,
}

impl Set {
    fn about(&self, id: &StatementId, key: &[u8; 32]) -> impl Iterator<Item = (&StatementId, &Entry)> {
        let ids = self.by_statement.get(id).into_iter().chain(self.by_key.get(key)).flatten();
        ids.filter_map(|r| self.get(r).map(|e| (r, e)))
    }

    /// The revocations that target a statement and may.
    fn direct(&self, id: &StatementId, s: &Statement) -> BTreeSet<StatementId> {
        let Some(key) = s.body.key() else { return BTreeSet::new() };
        self.about(id, key).filter(|(r, e)| self.may_revoke(r, &e.statement.signer, s)).map(|(r, _)| *r).gather()
    }

    fn may_revoke(&self, revocation: &StatementId, by: &[u8; 32], s: &Statement) -> bool {
        let issuer = |rights| self.stands(by, rights, revocation, None);
        match &s.body {
            _ if *by == self.root => true,
            Body::Credential { member, .. } if member.as_bytes() == by => true,
            Body::Credential { role: Role::Participant, .. } | Body::Invitation(_) => {
                issuer(Rights::EVICT) || (s.signer == *by && issuer(Rights::INVITE))
            }
            Body::Delegation { issuer, .. } => issuer == by,
            _ => false,
        }
    }

    /// Whether what a key decided counts: it is the root's, or was given these rights and the root did not take them back, or
    /// did and kept this. Dates do not matter: what an issuer revoked stays so.
    fn stands(&self, key: &[u8; 32], rights: Rights, what: &StatementId, about: Option<&[u8; 32]>) -> bool {
        *key == self.root
            || self.delegations.get(key).into_iter().flatten().any(|id| {
                let given = |e: &Entry| matches!(&e.statement.body, Body::Delegation { rights: given, .. } if given.has(rights));
                let mut taken_back = self.about(id, key).filter(|(_, r)| r.statement.signer == self.root);
                self.get(id).is_some_and(given) && taken_back.all(|(r, _)| self.keeps(r, what, about))
            })
    }

    /// Whether a key may do something now.
    pub fn may(&self, key: &[u8; 32], rights: Rights, now: Wall) -> bool {
        let given = |id: &&StatementId| {
            let body = self.get(id).map(|e| &e.statement.body);
            matches!(body, Some(Body::Delegation { rights: given, .. }) if given.has(rights)) && self.holds(id, now).is_some()
        };
        *key == self.root || self.delegations.get(key).into_iter().flatten().any(|id| given(&id))
    }

    fn paths(&self, id: &StatementId, entry: &Entry, now: Wall) -> Vec<Path> {
        let s = &entry.statement;
        let (Some(key), Some(dates)) = (s.body.key(), s.body.dates()) else { return Vec::new() };
        let direct = self.direct(id, s);
        let own = |mut path: Path| {
            path.hits.retain(|r| !self.keeps(r, id, Some(key)));
            path.hits.extend(&direct);
            path.dates &= dates.hold(now);
            path.expires = path.expires.min(dates.expires);
            path
        };
        if matches!(s.body, Body::Delegation { .. }) && !dates.within(ISSUED) {
            return Vec::new();
        }
        if s.signer == self.root {
            return Vec::from([own(Path { hits: BTreeSet::new(), dates: true, expires: Wall(u64::MAX) })]);
        }
        let mut parents: Vec<&StatementId> = Vec::new();
        parents.extend(self.delegations.get(&s.signer).into_iter().flatten());
        if matches!(s.body, Body::Credential { .. }) {
            parents.extend(self.invitations.get(&s.signer).into_iter().flatten());
        }
        let mut paths = Vec::new();
        for parent in parents {
            let Some(p) = self.get(parent) else { continue };
            let counts = match &p.statement.body {
                Body::Delegation { rights, .. } => {
                    rights.has(Rights::INVITE) && (dates.within(ISSUED) || matches!(s.body, Body::Invitation(_)))
                }
                Body::Invitation(i) => dates.within(SELF_SIGNED) && self.counts(i, &s.body),
                _ => false,
            };
            if counts {
                paths.extend(self.paths(parent, p, now).into_iter().map(own));
            }
        }
        paths
    }

    /// Whether a revocation, or another of the same target by the same signer, keeps a statement or the key it is about.
    fn keeps(&self, revocation: &StatementId, id: &StatementId, key: Option<&[u8; 32]>) -> bool {
        let Some(r) = self.get(revocation) else { return false };
        let Body::Revocation { target, .. } = &r.statement.body else { return false };
        let same = match target {
            Target::Statement(id) => self.by_statement.get(id),
            Target::Key(key) => self.by_key.get(key),
        };
        let lists = same.into_iter().flatten().filter_map(|id| self.get(id)).filter(|e| e.statement.signer == r.statement.signer);
        lists.into_iter().any(|e| {
            let Body::Revocation { keep, .. } = &e.statement.body else { return false };
            keep.has(&id.0) || key.is_some_and(|k| keep.has(k))
        })
    }

    /// What issuers decided about somebody: a no outweighs every yes.
    pub fn decided(&self, member: &NodeId) -> Option<bool> {
        let all = self.approvals.get(member).into_iter().flatten().filter_map(|id| self.get(id).map(|e| (id, e)));
        let counting = all.filter(|(id, e)| self.stands(&e.statement.signer, Rights::INVITE, id, Some(member.as_bytes())));
        counting.filter_map(|(_, e)| matches!(e.statement.body, Body::Approval { granted, .. } if granted).into()).min()
    }

    /// Whether a credential is among those that its invitation allows.
    fn counts(&self, invitation: &InvitationSpec, credential: &Body) -> bool {
        let Body::Credential { member, .. } = credential else { return false };
        match self.decided(member) {
            Some(granted) => granted,
            None if invitation.approve => false,
            None => {
                let mut first = self.uses(&invitation.sign_pk).iter().take(invitation.max_uses as usize);
                invitation.max_uses == 0 || first.any(|m| m == member)
            }
        }
    }

    /// Whether the bearer of an invitation that lets somebody in would be let in: `false` if it has to wait for an issuer.
    pub fn admits(&self, key: &[u8; 32], member: &NodeId) -> Result<bool, Code> {
        let evicts = |r: &StatementId| self.get(r).is_some_and(|e| self.stands(&e.statement.signer, Rights::EVICT, r, None));
        if self.by_key.get(member.as_bytes()).into_iter().flatten().any(evicts) {
            return Err(Code::Forbidden);
        }
        let mut result = Err(Code::InviteUnknown);
        for id in self.invitation(key) {
            let Some(Body::Invitation(i)) = self.get(id).map(|e| &e.statement.body) else { continue };
            let uses = self.uses(key);
            let first = uses.iter().take(i.max_uses as usize).any(|m| m == member);
            result = match self.decided(member) {
                Some(true) => Ok(true),
                Some(false) => Err(Code::InviteDenied),
                None if i.max_uses > 0 && !first && uses.len() >= i.max_uses as usize => Err(Code::InviteUsed),
                None => Ok(!i.approve),
            };
        }
        result
    }

    /// What of an invitation by the root shows that it lets a member in no more, to somebody who knows nothing of it yet: what the root
    /// said of either, or the credentials that used it up. An issuer's word shows nothing by itself: it may have been taken back.
    pub fn grounds(&self, key: &[u8; 32], member: &NodeId) -> Vec<StatementId> {
        let by_root = |id: &&StatementId| self.get(id).is_some_and(|e| e.statement.signer == self.root);
        let mut grounds: Vec<StatementId> = self.invitation(key).filter(by_root).copied().collect();
        let Some(Body::Invitation(i)) = grounds.first().and_then(|id| self.get(id)).map(|e| &e.statement.body) else { return Vec::new() };
        let said = self.about(&grounds[0], key).map(|(id, _)| id).chain(self.by_key.get(member.as_bytes()).into_iter().flatten());
        let said = said.chain(self.approvals.get(member).into_iter().flatten()).filter(by_root).copied();
        let used = self.uses(key).iter().filter_map(|m| self.credential(m, key, Role::Participant)).take(i.max_uses as usize);
        let all: Vec<StatementId> = said.chain(used).collect();
        grounds.extend(all);
        grounds
    }

    /// Whether a credential came after as many others as its invitation allows, and nobody decided about it.
    pub fn is_surplus(&self, statement: &Statement) -> bool {
        let Body::Credential { member, .. } = &statement.body else { return false };
        let limited = |id: &StatementId| match self.get(id).map(|e| &e.statement.body) {
            Some(Body::Invitation(i)) => i.max_uses > 0 && !i.approve && !self.counts(i, &statement.body),
            _ => false,
        };
        self.decided(member).is_none() && self.invitation(&statement.signer).any(limited)
    }

    /// Until when a statement holds, if it does now.
    pub fn holds(&self, id: &StatementId, now: Wall) -> Option<Wall> {
        let entry = self.get(id)?;
        self.paths(id, entry, now).into_iter().filter(|p| p.dates && p.hits.is_empty()).map(|p| p.expires).max()
    }

    /// Until when a credential that is not there would hold, were it there.
    pub fn would_hold(&self, signer: [u8; 32], body: Body, now: Wall) -> Option<Wall> {
        let entry = Entry { bytes: Vec::new(), statement: Statement { signer, body }, arrival: 0 };
        let paths = self.paths(&StatementId([0; 32]), &entry, now).into_iter();
        paths.filter(|p| p.dates && p.hits.is_empty()).map(|p| p.expires).max()
    }

    pub fn member(&self, node: &NodeId, now: Wall) -> Option<Member> {
        let mut best: Option<Member> = None;
        for id in self.credentials.get(node)? {
            let Some(Body::Credential { role, rank, .. }) = self.get(id).map(|e| &e.statement.body) else { continue };
            let Some(expires) = self.holds(id, now) else { continue };
            let better = best.is_none_or(|b| (*role == Role::Manager, expires) > (b.role == Role::Manager, b.expires));
            if better {
                best = Some(Member { role: *role, rank: *rank, expires, credential: *id });
            }
        }
        best
    }

    pub fn members(&self, now: Wall) -> Map<NodeId, Member> {
        self.credentials.keys().filter_map(|n| self.member(n, now).map(|m| (*n, m))).gather()
    }

    /// The managers, the one of the first rank first; of one rank that with the lowest id.
    pub fn managers(&self, now: Wall) -> Vec<(NodeId, Member)> {
        let manages = |id: &StatementId| {
            let body = self.get(id).map(|e| &e.statement.body);
            matches!(body, Some(Body::Credential { role: Role::Manager, .. }))
        };
        let named = self.credentials.iter().filter(|(_, ids)| ids.iter().any(manages));
        let valid = named.filter_map(|(node, _)| self.member(node, now).map(|m| (*node, m)));
        let mut managers: Vec<_> = valid.filter(|(_, m)| m.role == Role::Manager).collect();
        managers.sort_by_key(|(node, m)| (m.rank, *node));
        managers
    }

    /// Whether a participant's credential of this node holds, whatever else it is.
    pub fn is_participant(&self, node: &NodeId, now: Wall) -> bool {
        self.credentials.get(node).into_iter().flatten().any(|id| {
            let body = self.get(id).map(|e| &e.statement.body);
            matches!(body, Some(Body::Credential { role: Role::Participant, .. })) && self.holds(id, now).is_some()
        })
    }

    /// Why a node is no member.
    pub fn gone(&self, node: &NodeId, now: Wall) -> Gone {
        let paths = self.credentials.get(node).into_iter().flatten().filter_map(|id| Some(self.paths(id, self.get(id)?, now)));
        let hits: BTreeSet<StatementId> = paths.flatten().flat_map(|p| p.hits).gather();
        let own = |id: &StatementId| self.get(id).is_some_and(|r| r.statement.signer == *node.as_bytes());
        match (hits.is_empty(), hits.iter().all(own)) {
            (true, _) => Gone::Expired,
            (false, true) => Gone::Left,
            (false, false) => Gone::Evicted,
        }
    }

    /// When some credential, or what it rests on, begins or ceases to hold.
    pub fn next_change(&self, now: Wall) -> Option<Wall> {
        next_of(self.iter().map(|(_, e)| e), now)
    }

    /// The same of one node's credentials alone.
    pub fn next_change_of(&self, node: &NodeId, now: Wall) -> Option<Wall> {
        next_of(self.credentials.get(node)?.iter().filter_map(|id| self.get(id)), now)
    }

    /// The revocations by the root and by issuers. Farewells are not among them: nobody has to wait for them.
    pub fn revocations(&self) -> impl Iterator<Item = &StatementId> {
        self.by_statement.values().chain(self.by_key.values()).flatten().filter(|id| self.is_valid_revocation(id))
    }

    fn is_valid_revocation(&self, id: &StatementId) -> bool {
        let Some(r) = self.get(id) else { return false };
        [Rights::INVITE, Rights::EVICT].into_iter().any(|rights| self.stands(&r.statement.signer, rights, id, None))
    }

    // ---- for others -------------------------------------------------------------------------------------------------

    /// What a key's statements rest on, and the statement itself last.
    pub fn chain(&self, id: &StatementId) -> Vec<Vec<u8>> {
        let mut chain = Vec::new();
        let mut at = Some(*id);
        while let Some(entry) = at.and_then(|id| self.get(&id)).filter(|_| chain.len() < 3) {
            chain.push(entry.bytes.clone());
            let signer = &entry.statement.signer;
            let parents = self.invitations.get(signer).or_else(|| self.delegations.get(signer));
            at = parents.and_then(|p| p.first().copied()).filter(|_| *signer != self.root);
        }
        // An invitation that asks for it is no path without the approval, nor that without who may give it.
        let member = self.get(id).and_then(|e| e.statement.body.key()).map(|key| NodeId::from_public_key(*key));
        let approvals = member.and_then(|m| self.approvals.get(&m)).into_iter().flatten();
        let granted = |e: &&Entry| matches!(e.statement.body, Body::Approval { granted: true, .. });
        if let Some(approval) = approvals.filter_map(|id| self.get(id)).find(granted) {
            chain.push(approval.bytes.clone());
            let by = self.delegations.get(&approval.statement.signer).and_then(|d| d.first());
            chain.extend(by.and_then(|id| self.get(id)).map(|e| e.bytes.clone()).filter(|d| !chain.contains(d)));
        }
        chain.reverse();
        chain
    }

    pub fn invitation(&self, key: &[u8; 32]) -> impl Iterator<Item = &StatementId> {
        self.invitations.get(key).into_iter().flatten()
    }

    /// Why an invitation lets nobody in now.
    pub fn invitation_status(&self, key: &[u8; 32], now: Wall) -> Result<(), Code> {
        let mut status = Err(Code::InviteUnknown);
        for id in self.invitation(key) {
            let Some(entry) = self.get(id) else { continue };
            for path in self.paths(id, entry, now) {
                if !path.hits.is_empty() {
                    status = Err(Code::InviteRevoked);
                } else if path.dates {
                    return Ok(());
                } else {
                    status = Err(Code::InviteExpired);
                }
            }
        }
        status
    }
}

fn next_of<'a>(entries: impl Iterator<Item = &'a Entry>, now: Wall) -> Option<Wall> {
    let dates = entries.filter_map(|e| e.statement.body.dates());
    dates.flat_map(|d| [d.not_before.before(limit::CLOCK_SKEW), d.expires.after(limit::CLOCK_SKEW)]).filter(|at| *at > now).min()
}
