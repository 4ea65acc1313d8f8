//! The set of statements, and what is valid in it.
//!
//! A revocation *hits* what it targets, if its signer may revoke that, and everything that rests on what it hits except the
//! statements in its keep-list. A statement is valid if along some path to the root nothing hits it and every date holds.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::statement::{Body, Dates, InvitationSpec, Rights, Statement, StatementId, Target};
use crate::base::{Code, NodeId, Reject, Wall, limit};
use crate::crypto::Role;

/// Statements by one key, at most.
const PER_SIGNER: usize = 8_192;
/// Credentials for one member, at most.
const PER_MEMBER: usize = 16;
/// Statements kept whose signer is not known yet.
const ORPHANS: usize = 256;

/// A valid member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its credential makes it. With valid credentials for both roles it is a manager.
    pub role: Role,
    /// Until when.
    pub expires: Wall,
    /// The credential that says so.
    pub credential: StatementId,
}

pub(super) struct Entry {
    pub bytes: Vec<u8>,
    pub statement: Statement,
    /// Counts statements as they came.
    pub arrival: u64,
}

#[derive(Default)]
pub(super) struct Set {
    root: [u8; 32],
    entries: BTreeMap<StatementId, Entry>,
    arrivals: u64,
    delegations: BTreeMap<[u8; 32], BTreeSet<StatementId>>,
    invitations: BTreeMap<[u8; 32], BTreeSet<StatementId>>,
    credentials: BTreeMap<NodeId, BTreeSet<StatementId>>,
    by_statement: BTreeMap<StatementId, BTreeSet<StatementId>>,
    by_key: BTreeMap<[u8; 32], BTreeSet<StatementId>>,
    signed: BTreeMap<[u8; 32], usize>,
    orphans: BTreeMap<StatementId, [u8; 32]>,
    /// Who came through an invitation that is limited, in order of arrival.
    uses: BTreeMap<[u8; 32], Vec<NodeId>>,
}

/// One way from a statement to the root.
struct Path {
    hits: BTreeSet<StatementId>,
    dates: bool,
    expires: Wall,
}

impl Set {
    pub fn new(root: [u8; 32]) -> Set {
        Set { root, ..Set::default() }
    }

    pub fn get(&self, id: &StatementId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&StatementId, &Entry)> {
        self.entries.iter()
    }

    pub fn range(&self, from: StatementId, to: StatementId) -> impl Iterator<Item = (&StatementId, &Entry)> {
        self.entries.range(from..=to)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn knows(&self, signer: &[u8; 32]) -> bool {
        *signer == self.root || self.delegations.contains_key(signer) || self.invitations.contains_key(signer)
    }

    /// Adds a statement whose signature holds.
    pub fn insert(&mut self, id: StatementId, bytes: Vec<u8>, statement: Statement) -> Result<(), Reject> {
        let signer = statement.signer;
        let is_root = signer == self.root;
        match &statement.body {
            Body::Delegation { .. } if !is_root => return Err(Reject::Forbidden),
            Body::Credential { role: Role::Manager, .. } if !is_root => return Err(Reject::Forbidden),
            Body::Credential { member, .. } if self.credentials.get(member).is_some_and(|c| c.len() >= PER_MEMBER) => {
                return Err(Reject::Limit);
            }
            _ => {}
        }
        let stranger = !self.knows(&signer) && !matches!(&statement.body, Body::Revocation { .. } if self.is_member_key(&signer));
        if self.entries.len() >= limit::STATEMENTS
            || (stranger && self.orphans.len() >= ORPHANS)
            || (!is_root && self.signed.get(&signer).is_some_and(|n| *n >= PER_SIGNER))
        {
            return Err(Reject::Limit);
        }
        if stranger {
            self.orphans.insert(id, signer);
        }
        *self.signed.entry(signer).or_default() += 1;
        match &statement.body {
            Body::Delegation { issuer, .. } => {
                self.delegations.entry(*issuer).or_default().insert(id);
                self.adopt(issuer);
            }
            Body::Invitation(i) => {
                self.invitations.entry(i.sign_pk).or_default().insert(id);
                let sign_pk = i.sign_pk;
                self.adopt(&sign_pk);
            }
            Body::Credential { member, .. } => {
                self.credentials.entry(*member).or_default().insert(id);
                self.count_use(&signer, *member);
                self.adopt(member.as_bytes());
            }
            Body::Revocation { target: Target::Statement(target), .. } => {
                self.by_statement.entry(*target).or_default().insert(id);
            }
            Body::Revocation { target: Target::Key(key), .. } => {
                self.by_key.entry(*key).or_default().insert(id);
            }
        }
        self.arrivals += 1;
        self.entries.insert(id, Entry { bytes, statement, arrival: self.arrivals });
        Ok(())
    }

    /// Statements by this key have somebody behind them now.
    fn adopt(&mut self, signer: &[u8; 32]) {
        self.orphans.retain(|_, by| by != signer);
    }

    fn is_member_key(&self, key: &[u8; 32]) -> bool {
        self.credentials.contains_key(&NodeId::from_public_key(*key))
    }

    fn count_use(&mut self, signer: &[u8; 32], member: NodeId) {
        // Uses are counted for every invitation key, as its limit may be learnt after its uses; as many as could matter.
        if *signer != self.root && !self.delegations.contains_key(signer) {
            let uses = self.uses.entry(*signer).or_default();
            if uses.len() < PER_SIGNER && !uses.contains(&member) {
                uses.push(member);
            }
        }
    }

    /// Forgets credentials that ended long ago.
    pub fn prune(&mut self, now: Wall) -> Vec<StatementId> {
        let long_ago = now.before(limit::CLOCK_SKEW * 2);
        let over = |e: &Entry| matches!(&e.statement.body, Body::Credential { dates, .. } if dates.expires < long_ago);
        let ended: Vec<StatementId> = self.entries.iter().filter(|(_, e)| over(e)).map(|(id, _)| *id).collect();
        for id in &ended {
            let Some(entry) = self.entries.remove(id) else { continue };
            self.orphans.remove(id);
            if let Some(n) = self.signed.get_mut(&entry.statement.signer) {
                *n = n.saturating_sub(1);
            }
            if let Body::Credential { member, .. } = &entry.statement.body
                && let Some(ids) = self.credentials.get_mut(member)
            {
                ids.remove(id);
                if ids.is_empty() {
                    self.credentials.remove(member);
                }
            }
        }
        ended
    }

    // ---- validity ---------------------------------------------------------------------------------------------------

    /// The revocations that target a statement and may.
    fn direct(&self, id: &StatementId, s: &Statement) -> BTreeSet<StatementId> {
        let key = match &s.body {
            Body::Delegation { issuer, .. } => issuer,
            Body::Invitation(i) => &i.sign_pk,
            Body::Credential { member, .. } => member.as_bytes(),
            Body::Revocation { .. } => return BTreeSet::new(),
        };
        let about = self.by_statement.get(id).into_iter().chain(self.by_key.get(key)).flatten();
        about.filter(|r| self.entries.get(r).is_some_and(|r| self.may_revoke(&r.statement.signer, s))).copied().collect()
    }

    fn may_revoke(&self, by: &[u8; 32], s: &Statement) -> bool {
        if *by == self.root {
            return true;
        }
        match &s.body {
            Body::Credential { member, .. } if member.as_bytes() == by => true,
            Body::Credential { role: Role::Participant, .. } => {
                self.issuer(by, Rights::EVICT) || (s.signer == *by && self.issuer(by, Rights::INVITE))
            }
            Body::Invitation(_) => self.issuer(by, Rights::EVICT) || (s.signer == *by && self.issuer(by, Rights::INVITE)),
            Body::Delegation { issuer, .. } => issuer == by,
            _ => false,
        }
    }

    /// Whether a key was given rights that the root did not take back. Its dates do not matter: what an issuer revoked stays so.
    fn issuer(&self, key: &[u8; 32], rights: Rights) -> bool {
        self.delegations.get(key).into_iter().flatten().any(|id| {
            self.entries.get(id).is_some_and(|e| {
                matches!(&e.statement.body, Body::Delegation { rights: given, .. } if given.has(rights)) && !self.root_revoked(id, key)
            })
        })
    }

    fn root_revoked(&self, id: &StatementId, key: &[u8; 32]) -> bool {
        let about = self.by_statement.get(id).into_iter().chain(self.by_key.get(key)).flatten();
        about.filter_map(|r| self.entries.get(r)).any(|r| r.statement.signer == self.root)
    }

    fn paths(&self, id: &StatementId, entry: &Entry, now: Wall) -> Vec<Path> {
        let s = &entry.statement;
        let direct = self.direct(id, s);
        let dates = match &s.body {
            Body::Delegation { dates, .. } | Body::Credential { dates, .. } => *dates,
            Body::Invitation(i) => Dates { not_before: i.not_before, expires: i.expires },
            Body::Revocation { .. } => return Vec::new(),
        };
        let own = |mut path: Path| {
            path.hits.retain(|r| !self.keeps(r, id));
            path.hits.extend(&direct);
            path.dates &= dates.hold(now);
            path.expires = path.expires.min(dates.expires);
            path
        };
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
            let Some(p) = self.entries.get(parent) else { continue };
            match &p.statement.body {
                Body::Delegation { rights, .. } if !rights.has(Rights::INVITE) => continue,
                Body::Invitation(i) if !self.counts(i, &s.body) => continue,
                _ => {}
            }
            paths.extend(self.paths(parent, p, now).into_iter().map(own));
        }
        paths
    }

    fn keeps(&self, revocation: &StatementId, id: &StatementId) -> bool {
        let keep = self.entries.get(revocation).map(|r| &r.statement.body);
        matches!(keep, Some(Body::Revocation { keep, .. }) if keep.binary_search(id).is_ok())
    }

    /// Whether a credential is among those that its invitation allows.
    fn counts(&self, invitation: &InvitationSpec, credential: &Body) -> bool {
        let Body::Credential { member, .. } = credential else { return false };
        let uses = self.uses.get(&invitation.sign_pk);
        invitation.max_uses == 0 || uses.is_some_and(|u| u.iter().take(invitation.max_uses as usize).any(|m| m == member))
    }

    /// Until when a statement holds, if it does now.
    pub fn holds(&self, id: &StatementId, now: Wall) -> Option<Wall> {
        let entry = self.entries.get(id)?;
        self.paths(id, entry, now).into_iter().filter(|p| p.dates && p.hits.is_empty()).map(|p| p.expires).max()
    }

    pub fn member(&self, node: &NodeId, now: Wall) -> Option<Member> {
        let mut best: Option<Member> = None;
        for id in self.credentials.get(node)? {
            let Some(Body::Credential { role, .. }) = self.entries.get(id).map(|e| &e.statement.body) else { continue };
            let Some(expires) = self.holds(id, now) else { continue };
            let better = best.is_none_or(|b| (*role == Role::Manager, expires) > (b.role == Role::Manager, b.expires));
            if better {
                best = Some(Member { role: *role, expires, credential: *id });
            }
        }
        best
    }

    pub fn members(&self, now: Wall) -> BTreeMap<NodeId, Member> {
        self.credentials.keys().filter_map(|n| self.member(n, now).map(|m| (*n, m))).collect()
    }

    /// When some credential, or what it rests on, begins or ceases to hold.
    pub fn next_change(&self, now: Wall) -> Option<Wall> {
        let dates = self.entries.values().filter_map(|e| match &e.statement.body {
            Body::Delegation { dates, .. } | Body::Credential { dates, .. } => Some(*dates),
            Body::Invitation(i) => Some(Dates { not_before: i.not_before, expires: i.expires }),
            Body::Revocation { .. } => None,
        });
        dates.flat_map(|d| [d.not_before.before(limit::CLOCK_SKEW), d.expires.after(limit::CLOCK_SKEW)]).filter(|at| *at > now).min()
    }

    /// The revocations that are by somebody who may revoke what they target.
    pub fn revocations(&self) -> impl Iterator<Item = &StatementId> {
        self.entries.iter().filter(|(_, e)| self.is_valid_revocation(&e.statement)).map(|(id, _)| id)
    }

    fn is_valid_revocation(&self, s: &Statement) -> bool {
        let Body::Revocation { target, .. } = &s.body else { return false };
        if s.signer == self.root {
            return true;
        }
        let mut targets: Vec<&StatementId> = Vec::new();
        match target {
            Target::Statement(id) => targets.push(id),
            Target::Key(key) => {
                let node = NodeId::from_public_key(*key);
                targets.extend(
                    self.credentials.get(&node).into_iter().chain(self.invitations.get(key)).chain(self.delegations.get(key)).flatten(),
                );
            }
        }
        targets.into_iter().filter_map(|id| self.entries.get(id)).any(|e| self.may_revoke(&s.signer, &e.statement))
    }

    // ---- for others -------------------------------------------------------------------------------------------------

    /// What a key's statements rest on, and the statement itself last.
    pub fn chain(&self, id: &StatementId) -> Vec<Vec<u8>> {
        let mut chain = Vec::new();
        let mut at = Some(*id);
        while let Some(entry) = at.and_then(|id| self.entries.get(&id)).filter(|_| chain.len() < 4) {
            chain.push(entry.bytes.clone());
            let signer = &entry.statement.signer;
            let parents = self.invitations.get(signer).or_else(|| self.delegations.get(signer));
            at = parents.and_then(|p| p.first().copied()).filter(|_| *signer != self.root);
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
            let Some(entry) = self.entries.get(id) else { continue };
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
