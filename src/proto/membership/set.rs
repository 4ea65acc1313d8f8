//! The set of statements: what is held, in which order it came, and what is forgotten. `validity` says what it means.
//!
//! Of the credentials that one signer gives one member in one role only the one that holds longest is kept: a renewal takes
//! the place of what it renews, in whatever order the two come.

use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::statement::{Body, Dates, Statement, StatementId, Target};
use crate::base::{DomainId, Map, NodeId, Reject, Wall, limit};
use crate::crypto::{Role, sign::SigningKey};

/// Statements by one key, at most.
const PER_SIGNER: usize = 8_192;
/// Credentials for one member by signers that are known, at most.
const PER_MEMBER: usize = 16;
/// Statements kept whose signer is not known yet.
const ORPHANS: usize = 256;
/// How long an invitation that ended is remembered, so that its bearers are told why it lets them in no more.
const ENDED_INVITATION: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A valid member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its credential makes it. With valid credentials for both roles it is a manager.
    pub role: Role,
    /// A manager's place among the managers, 0 being the first; 0 for a participant.
    pub rank: u8,
    /// Until when.
    pub expires: Wall,
    /// The credential that says so.
    pub credential: StatementId,
}

impl Member {
    /// A credential that keeps a member what it is: the same role and rank, other dates.
    #[must_use]
    pub fn renewed(&self, domain: &DomainId, by: &SigningKey, member: &NodeId, dates: Dates) -> Vec<u8> {
        Body::Credential { member: *member, role: self.role, rank: self.rank, dates }.sign(domain, by)
    }
}

pub(super) struct Entry {
    pub bytes: Vec<u8>,
    pub statement: Statement,
    /// Counts statements as they came. A renewal has the number of what it renews.
    pub arrival: u64,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is in the set.
    New,
    /// It is in the set, in place of this one.
    Renewal(StatementId),
    /// One is there that holds longer.
    Superseded,
}

#[derive(Default)]
pub(super) struct Set {
    pub(super) root: [u8; 32],
    entries: BTreeMap<StatementId, Entry>,
    arrivals: u64,
    pub(super) delegations: Map<[u8; 32], BTreeSet<StatementId>>,
    pub(super) invitations: Map<[u8; 32], BTreeSet<StatementId>>,
    pub(super) credentials: Map<NodeId, BTreeSet<StatementId>>,
    pub(super) approvals: Map<NodeId, BTreeSet<StatementId>>,
    pub(super) by_statement: Map<StatementId, BTreeSet<StatementId>>,
    pub(super) by_key: Map<[u8; 32], BTreeSet<StatementId>>,
    signed: Map<[u8; 32], usize>,
    orphans: Map<StatementId, [u8; 32]>,
    /// Who came through an invitation, in order of arrival.
    uses: Map<[u8; 32], Vec<NodeId>>,
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

    /// Who came through an invitation, the first first.
    pub fn uses(&self, sign_pk: &[u8; 32]) -> &[NodeId] {
        self.uses.get(sign_pk).map_or(&[], Vec::as_slice)
    }

    pub fn is_root_or_issuer(&self, key: &[u8; 32]) -> bool {
        *key == self.root || self.delegations.contains_key(key)
    }

    fn knows(&self, signer: &[u8; 32]) -> bool {
        self.is_root_or_issuer(signer) || self.invitations.contains_key(signer)
    }

    /// Forgets one statement if it is over and counts for nothing. A farewell may come before what it is about.
    pub fn prune_one(&mut self, id: &StatementId, now: Wall) -> bool {
        let over = |e: &Entry| e.statement.body.dates().is_some() && self.is_over(&e.statement, now) && !self.still_counts(id, e, now);
        let over = self.get(id).is_some_and(over);
        over && self.remove(id).is_some()
    }

    /// Whether a statement ended long ago, or says nothing to anybody.
    fn is_over(&self, statement: &Statement, now: Wall) -> bool {
        let long_ago = now.before(limit::CLOCK_SKEW * 2);
        match &statement.body {
            Body::Credential { dates, .. } => dates.expires < long_ago,
            Body::Invitation(i) => i.expires.after(ENDED_INVITATION) < now,
            Body::Revocation { .. } => self.is_farewell(statement) && !self.is_member_key(&statement.signer),
            Body::Delegation { .. } | Body::Approval { .. } => false,
        }
    }

    /// Whether a member that is no issuer revokes itself.
    fn is_farewell(&self, statement: &Statement) -> bool {
        let own = |target: &Target| matches!(target, Target::Key(key) if *key == statement.signer);
        matches!(&statement.body, Body::Revocation { target, .. } if own(target)) && !self.knows(&statement.signer)
    }

    /// Adds a statement whose signature holds.
    pub fn insert(&mut self, id: StatementId, bytes: Vec<u8>, statement: Statement) -> Result<Inserted, Reject> {
        let signer = statement.signer;
        let is_root = signer == self.root;
        let mut renewed = None;
        match &statement.body {
            Body::Delegation { .. } if !is_root => return Err(Reject::Forbidden),
            Body::Credential { role: Role::Manager, .. } if !is_root => return Err(Reject::Forbidden),
            Body::Credential { member, role, dates, .. } => {
                renewed = self.credential(member, &signer, *role);
                // Whatever their ranks: `appointment` makes its own hold longer than the one it is to replace.
                if renewed.is_some_and(|old| (self.expires(&old), old) > (dates.expires, id)) {
                    return Ok(Inserted::Superseded);
                }
                let of = |member| self.credentials.get(member).into_iter().flatten();
                if renewed.is_none() && of(member).filter(|c| !self.orphans.contains_key(c)).count() >= PER_MEMBER {
                    return Err(Reject::Limit);
                }
            }
            _ => {}
        }
        let stranger = !self.knows(&signer) && !matches!(&statement.body, Body::Revocation { .. } if self.is_member_key(&signer));
        if renewed.is_none()
            && (self.entries.len() >= limit::STATEMENTS
                || (stranger && self.orphans.len() >= ORPHANS)
                || (!is_root && self.signed.get(&signer).is_some_and(|n| *n >= PER_SIGNER)))
        {
            return Err(Reject::Limit);
        }
        let arrival = renewed.and_then(|old| self.remove(&old)).map(|old| old.arrival);
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
            Body::Approval { member, .. } => {
                self.approvals.entry(*member).or_default().insert(id);
            }
        }
        self.arrivals += 1;
        self.entries.insert(id, Entry { bytes, statement, arrival: arrival.unwrap_or(self.arrivals) });
        Ok(renewed.map_or(Inserted::New, Inserted::Renewal))
    }

    /// The credential that this signer gave this member in this role.
    pub fn credential(&self, member: &NodeId, signer: &[u8; 32], role: Role) -> Option<StatementId> {
        let same = |e: &Entry| e.statement.signer == *signer && matches!(e.statement.body, Body::Credential { role: r, .. } if r == role);
        self.credentials.get(member)?.iter().find(|id| self.entries.get(*id).is_some_and(same)).copied()
    }

    fn expires(&self, id: &StatementId) -> Wall {
        self.entries.get(id).and_then(|e| e.statement.body.dates()).map_or(Wall(0), |d: Dates| d.expires)
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
        if !self.is_root_or_issuer(signer) {
            let uses = self.uses.entry(*signer).or_default();
            if uses.len() < PER_SIGNER && !uses.contains(&member) {
                uses.push(member);
            }
        }
    }

    fn remove(&mut self, id: &StatementId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.orphans.remove(id);
        match &entry.statement.body {
            Body::Delegation { issuer, .. } => forget(&mut self.delegations, issuer, id),
            Body::Invitation(i) => forget(&mut self.invitations, &i.sign_pk, id),
            Body::Credential { member, .. } => forget(&mut self.credentials, member, id),
            Body::Approval { member, .. } => forget(&mut self.approvals, member, id),
            Body::Revocation { target: Target::Statement(target), .. } => forget(&mut self.by_statement, target, id),
            Body::Revocation { target: Target::Key(key), .. } => forget(&mut self.by_key, key, id),
        }
        let signer = &entry.statement.signer;
        if let Some(n) = self.signed.get_mut(signer) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.signed.remove(signer);
            }
        }
        Some(entry)
    }

    /// Forgets what ended long ago: credentials, then invitations, and farewells of members nothing else is known of. What
    /// still counts stays: who used up an invitation that holds, and through which one somebody came that is still here.
    pub fn prune(&mut self, now: Wall) -> Vec<StatementId> {
        let over: Vec<StatementId> = self
            .entries
            .iter()
            .filter(|(id, e)| self.is_over(&e.statement, now) && !self.still_counts(id, e, now))
            .map(|(i, _)| *i)
            .collect();
        for id in &over {
            self.remove(id);
        }
        let (invitations, signed) = (&self.invitations, &self.signed);
        self.uses.retain(|key, _| invitations.contains_key(key) || signed.contains_key(key));
        over
    }

    fn still_counts(&self, id: &StatementId, entry: &Entry, now: Wall) -> bool {
        let Body::Credential { member, .. } = &entry.statement.body else { return false };
        let signer = &entry.statement.signer;
        let open = |e: &Entry| match &e.statement.body {
            Body::Invitation(i) if i.expires.after(limit::CLOCK_SKEW) > now => Some(i.max_uses),
            _ => None,
        };
        let about = self.invitations.get(signer).into_iter().flatten().filter_map(|i| self.entries.get(i));
        let Some(max_uses) = about.filter_map(open).max() else { return false };
        let used = max_uses > 0 && self.uses(signer).iter().take(max_uses as usize).any(|m| m == member);
        let others = self.credentials.get(member).into_iter().flatten().filter(|c| *c != id).filter_map(|c| self.entries.get(c));
        used || others.into_iter().any(|e| !self.is_over(&e.statement, now))
    }
}

fn forget<K: Ord>(index: &mut Map<K, BTreeSet<StatementId>>, at: &K, id: &StatementId) {
    if let Some(ids) = index.get_mut(at) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(at);
        }
    }
}
