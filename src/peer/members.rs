//! Who comes in, who goes, and who stays: what those with rights do, and how memberships are renewed.
//!
//! A member that came through an invitation renews its own credential with the invitation's key for as long as that holds.
//! After that, and for those who cannot, the holder of the root key or an issuer does, for whoever is online.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::time::Duration;

use super::{
    Event, Part, Peer,
    command::{ROOT_CREDENTIAL, refused},
    domain::Domain,
    hello,
    link::Lane,
    notice::Notice,
    seal::Topic,
};
use crate::base::{Code, DomainId, Error, Gather, InvitationId, Map, Mono, NodeId, Now, Reject, Wall, limit};
use crate::crypto::{Role, invite, sign::SigningKey};
use crate::proto::directory::Status;
use crate::proto::membership::{self, Body, Dates, Effect, InvitationInfo, Member, Rights, Statement};
use crate::wire::cbor;
use crate::wire::link::InviteLink;

/// How often it is looked whose membership ends soon; a sixteenth of a credential's life if that is less.
const LOOK: Duration = Duration::from_secs(60);
/// A renewal that brings less than this is not made.
const WORTHWHILE: Duration = Duration::from_secs(600);
/// Joiners that wait for an issuer.
const WAITING: usize = 64;
/// How long one is remembered that does not ask again.
const FORGET: Duration = Duration::from_secs(60);
/// How often it is told on that somebody still waits.
const AGAIN: Duration = Duration::from_secs(20);

/// A manager of a domain, as seen from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Who.
    pub node: NodeId,
    /// Its place among the managers, 0 being the first.
    pub rank: u8,
    /// Its state by this node's directory; [`Status::Down`] if it is not in there.
    pub presence: Status,
    /// Whether it is this node.
    pub is_self: bool,
}

impl Manager {
    /// Whether it is another one than this node, and online.
    #[must_use]
    pub fn is_another_online(&self) -> bool {
        !self.is_self && self.presence == Status::Online
    }
}

/// Somebody waits for an issuer's approval.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    name: String,
    heard: Mono,
    told: Mono,
}

/// What a domain keeps for this.
#[derive(Debug, Default)]
pub(super) struct Affairs {
    /// When it is looked next whose membership ends soon.
    due: Mono,
    /// Whom this node means to renew, and when: not all issuers at once.
    planned: Map<NodeId, Mono>,
    waiting: Map<NodeId, Waiting>,
}

impl Domain {
    /// The key with which this node may do something in the domain: the root's, or its own if it was given the right.
    fn authority(&self, now: Now, identity: &SigningKey, rights: Rights) -> Option<SigningKey> {
        self.root.clone().or_else(|| self.membership.may(now, &identity.public(), rights).then(|| identity.clone()))
    }
}

impl Peer {
    pub(super) fn authority(&self, now: Now, id: DomainId, rights: Rights, what: &'static str) -> Result<SigningKey, Error> {
        self.domain(id)?.authority(now, &self.identity, rights).ok_or_else(|| {
            Error::new(Code::Forbidden, what).hint("Ask the domain's owner, who can do it, or delegate the right to this node")
        })
    }

    /// Takes statements of this node's own making as one, so that nobody sees a part of them.
    fn insert_all(&mut self, now: Now, id: DomainId, statements: &[Vec<u8>]) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        let mut effects = Vec::new();
        let learnt: Result<Vec<_>, Reject> =
            statements.iter().map(|bytes| domain.membership.learn(now, None, bytes, &mut effects)).collect();
        self.membership_effects(now, id, effects);
        self.settle(now);
        learnt.map(|_| ()).map_err(|r| refused(r, "the statement"))
    }

    /// Evicts a member for good: it reads nothing that is sent from now on, and neither its key nor an open invitation it came
    /// through lets it in again. Others who came through those stay.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right, [`Code::NoParticipant`], [`Code::BadArgument`] for this node, [`Code::Closed`].
    pub fn evict(&mut self, now: Now, id: DomainId, node: NodeId) -> Result<(), Error> {
        let key = self.authority(now, id, Rights::EVICT, "this node may not evict")?;
        if node == self.me {
            return Err(Error::new(Code::BadArgument, "a node does not evict itself").hint("Leave the domain instead"));
        }
        let statements = self.domain(id)?.membership.evict(now, &key, &node)?;
        self.insert_all(now, id, &statements)
    }

    /// Closes an invitation. Who came through it stays.
    ///
    /// # Errors
    /// [`Code::InviteUnknown`], [`Code::Forbidden`], [`Code::Closed`].
    pub fn revoke_invitation(&mut self, now: Now, id: DomainId, invitation: InvitationId) -> Result<(), Error> {
        let domain = self.domain(id)?;
        let by = domain.root.as_ref().unwrap_or(&self.identity);
        let statements = domain.membership.close_invitation(now, by, invitation.as_bytes())?;
        self.insert_all(now, id, &statements)
    }

    /// Gives a participant rights, for at most 90 days.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::BadArgument`], [`Code::NoParticipant`], [`Code::Closed`].
    pub fn delegate(&mut self, now: Now, id: DomainId, node: NodeId, rights: Rights, lifetime: Duration) -> Result<(), Error> {
        let domain = self.domain(id)?;
        let by = domain.root.as_ref().unwrap_or(&self.identity);
        let statement = domain.membership.delegation(now, by, &node, rights, lifetime)?;
        self.insert_all(now, id, &[statement])
    }

    /// All managers of a domain, the one of the first rank first; of one rank that with the lowest id. Which of them are there is told by
    /// their presence.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn managers(&self, now: Now, id: DomainId) -> Result<Vec<Manager>, Error> {
        let domain = self.domain(id)?;
        let seen = |(node, member): (NodeId, Member)| {
            let row = domain.directory.get(now, &node, &|_| Some(member.role));
            let presence = row.map_or(Status::Down, |row| row.presence);
            Manager { node, rank: member.rank, presence, is_self: node == self.me }
        };
        Ok(domain.membership.managers(now).into_iter().map(seen).collect())
    }

    /// Every invitation known, those that end first first.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn invitations(&self, now: Now, id: DomainId) -> Result<Vec<InvitationInfo>, Error> {
        Ok(self.domain(id)?.membership.invitations(now))
    }

    /// Lets somebody in who waits, or who came after as many others as its invitation allows.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right to invite, [`Code::Closed`].
    pub fn approve(&mut self, now: Now, id: DomainId, node: NodeId) -> Result<(), Error> {
        self.decide(now, id, node, true)
    }

    /// Turns somebody away who waits. A no outweighs every yes, for this key.
    ///
    /// # Errors
    /// As [`Peer::approve`].
    pub fn deny(&mut self, now: Now, id: DomainId, node: NodeId) -> Result<(), Error> {
        self.decide(now, id, node, false)
    }

    fn decide(&mut self, now: Now, id: DomainId, node: NodeId, granted: bool) -> Result<(), Error> {
        let key = self.authority(now, id, Rights::INVITE, "this node may not decide who comes in")?;
        let domain = self.domain_mut(id)?;
        domain.affairs.waiting.remove(&node);
        let statement = domain.membership.decision(now, &key, &node, granted)?;
        self.insert_all(now, id, &[statement])
    }

    /// Who waits for an issuer, with the names they give themselves.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn waiting(&self, id: DomainId) -> Result<Vec<(NodeId, String)>, Error> {
        Ok(self.domain(id)?.affairs.waiting.iter().map(|(node, w)| (*node, w.name.clone())).collect())
    }

    /// Leaves for good: this node's key is no member any more, and coming back needs another one. Whom it invited stays.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn resign(&mut self, now: Now, id: DomainId) -> Result<(), Error> {
        let statements = self.domain(id)?.membership.farewell(now, &self.identity);
        // Told to the linked members before the goodbye; what ends here with it is not an error.
        let mut effects = Vec::new();
        let domain = self.domain_mut(id)?;
        for statement in &statements {
            domain.membership.learn(now, None, statement, &mut effects).map_err(|r| refused(r, "the farewell"))?;
        }
        effects.retain(|e| !matches!(e, Effect::Changed | Effect::Credential { .. }));
        self.membership_effects(now, id, effects);
        self.leave(now, id)
    }

    /// The root key's seed.
    ///
    /// # Errors
    /// [`Code::Forbidden`] if it is not here, [`Code::Closed`].
    pub fn export_root(&self, id: DomainId) -> Result<zeroize::Zeroizing<[u8; 32]>, Error> {
        let root = self.domain(id)?.root.as_ref().map(SigningKey::seed);
        root.ok_or_else(|| Error::new(Code::Forbidden, "the domain's root key is not here"))
    }

    /// Takes the root key of a domain this node is in: from now on it is the owner's.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if it is another domain's, [`Code::Closed`].
    pub fn import_root(&mut self, id: DomainId, seed: &[u8; 32]) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        let root = SigningKey::from_seed(seed);
        if root.public() != domain.membership.genesis().root {
            return Err(Error::new(Code::BadArgument, "this is the root key of another domain"));
        }
        domain.root = Some(root);
        domain.affairs.due = Mono(0);
        self.mark_unsaved(id, Part::Keys);
        Ok(())
    }

    // ---- those who wait ---------------------------------------------------------------------------------------------

    /// A joiner reached this member: whether its invitation lets it in. Nothing is learnt of one that is refused or has to wait.
    pub(super) fn check_joiner(&mut self, now: Now, id: DomainId, body: &hello::JoinBody) -> Result<NodeId, Code> {
        let domain = self.domains.get_mut(&id).ok_or(Code::Closed)?;
        let node = bearer(&id, &body.credential, &body.invitation).ok_or(Code::Forged)?;
        if !domain.membership.admits(now, &body.invitation, &node)? {
            let name = body.name.clone().unwrap_or_default();
            self.knock(now, id, None, Notice::Knock { credential: body.credential.clone(), name });
            return Err(Code::InvitePending);
        }
        let mut effects = Vec::new();
        let learnt = domain.membership.learn(now, Some(node), &body.credential, &mut effects).map_err(|r| r.code());
        let member = domain.membership.member(now, &node).is_some();
        self.membership_effects(now, id, effects);
        learnt.and(if member { Ok(node) } else { Err(Code::Forbidden) })
    }

    /// Somebody waits: whoever may decide is told, and every neighbour, once in a while.
    pub(super) fn knock(&mut self, now: Now, id: DomainId, from: Option<NodeId>, notice: Notice) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let Notice::Knock { credential, name } = &notice else { return };
        let Ok(statement) = Statement::verify(&id, credential) else { return };
        let Body::Credential { member, .. } = statement.body else { return };
        // Only of somebody who bears an invitation that asks for it.
        if domain.membership.admits(now, &statement.signer, &member) != Ok(false) || name.len() > membership::NAME {
            return;
        }
        let fresh = !domain.affairs.waiting.contains_key(&member);
        if fresh && domain.affairs.waiting.len() >= WAITING {
            return;
        }
        let never = Waiting { name: name.clone(), heard: now.mono, told: Mono(0) };
        let waiting = domain.affairs.waiting.entry(member).or_insert(never);
        waiting.heard = now.mono;
        let name = waiting.name.clone();
        let again = fresh || now.mono.since(waiting.told) >= AGAIN;
        if again {
            waiting.told = now.mono;
        }
        let decides = domain.authority(now, &self.identity, Rights::INVITE).is_some();
        let mut to = domain.linked();
        if let Some(from) = from {
            to.remove(&from);
        }
        if again {
            self.send_sealed(now, id, Topic::Notices, &to, Lane::Control, &cbor::encode(&notice));
        }
        if fresh && decides {
            self.emit(Event::Approval { domain: id, node: member, name });
        }
    }

    // ---- renewing ---------------------------------------------------------------------------------------------------

    /// Renews this node's own membership in time, and those of others that this node may renew.
    pub(super) fn renew(&mut self, now: Now, id: DomainId) {
        let life = self.config.credential;
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.affairs.waiting.retain(|_, w| now.mono.since(w.heard) < FORGET);
        if now.mono < domain.affairs.due {
            return;
        }
        domain.affairs.due = now.mono.after(LOOK.min(life / 16));
        if domain.joining {
            return;
        }
        let mut statements: Vec<Vec<u8>> = self.renew_own(now, id, life).into_iter().collect();
        statements.extend(self.renew_others(now, id, life));
        if !statements.is_empty() {
            // Made here and just checked: what is refused all the same (a full set) is tried again at the next look.
            let _ = self.insert_all(now, id, &statements);
        }
    }

    fn renew_own(&self, now: Now, id: DomainId, life: Duration) -> Option<Vec<u8>> {
        let domain = self.domains.get(&id)?;
        let (me, m) = (&self.me, &domain.membership);
        let ends = m.member(now, me).map_or(Wall(0), |member| member.expires);
        let dates = |life| Dates { not_before: now.wall.before(limit::CLOCK_SKEW), expires: now.wall.after(life) };
        if let Some(root) = &domain.root {
            let dates = dates(ROOT_CREDENTIAL);
            let due = ends < now.wall.after(ROOT_CREDENTIAL / 2);
            return due.then(|| match m.member(now, me) {
                Some(member) => member.renewed(&id, root, me, dates),
                None => membership::root_credential(&id, root, me, domain.role, dates.not_before, dates.expires),
            });
        }
        if ends >= now.wall.after(life / 2) || domain.role != Role::Participant {
            return None;
        }
        let bearer = domain.invitation.as_ref().map(|secret| invite::derive(&id, secret).sign);
        let issuer = m.may(now, &self.identity.public(), Rights::INVITE).then(|| self.identity.clone());
        let dates = dates(life);
        let better = |key: &SigningKey| {
            let until = m.would_hold(now, key.public(), me, Role::Participant, dates);
            until.is_some_and(|until| until > ends.after(WORTHWHILE.min(life / 8)))
        };
        let key = [bearer, issuer].into_iter().flatten().find(better)?;
        Some(membership::root_credential(&id, &key, me, Role::Participant, dates.not_before, dates.expires))
    }

    fn renew_others(&mut self, now: Now, id: DomainId, life: Duration) -> Vec<Vec<u8>> {
        let Some(domain) = self.domains.get_mut(&id) else { return Vec::new() };
        let Some(key) = domain.authority(now, &self.identity, Rights::INVITE) else { return Vec::new() };
        let live = |s: Status| matches!(s, Status::Online | Status::Suspended);
        let here: BTreeSet<NodeId> = domain.directory.dialable(now).filter(|(_, s, _)| live(*s)).map(|(n, _, _)| *n).gather();
        let soon = |role| match role {
            Role::Participant => (life / 3, life),
            Role::Manager => (ROOT_CREDENTIAL / 3, ROOT_CREDENTIAL),
        };
        let mut ending = domain.membership.ending(now, now.wall.after(life / 3));
        if domain.root.is_some() {
            let managers = domain.membership.ending(now, now.wall.after(ROOT_CREDENTIAL / 3));
            ending.extend(managers.into_iter().filter(|(_, m)| m.role == Role::Manager));
        }
        let may = |role| role == Role::Participant || domain.root.is_some();
        ending.retain(|(node, m)| *node != self.me && here.contains(node) && may(m.role) && m.expires < now.wall.after(soon(m.role).0));
        let due: BTreeSet<NodeId> = ending.iter().map(|(node, _)| *node).gather();
        domain.affairs.planned.retain(|node, _| due.contains(node));
        let mut statements = Vec::new();
        for (node, member) in ending {
            let wait = Duration::from_millis(self.rng.below(u64::try_from((life / 24).as_millis()).unwrap_or(1).max(1)));
            if *domain.affairs.planned.entry(node).or_insert(now.mono.after(wait)) > now.mono {
                continue;
            }
            domain.affairs.planned.remove(&node);
            let dates = Dates { not_before: now.wall.before(limit::CLOCK_SKEW), expires: now.wall.after(soon(member.role).1) };
            statements.push(member.renewed(&id, &key, &node, dates));
        }
        statements
    }
}

/// Who signed itself a credential with this invitation's key.
pub(super) fn bearer(domain: &DomainId, credential: &[u8], invitation: &[u8; 32]) -> Option<NodeId> {
    let statement = Statement::verify(domain, credential).ok().filter(|s| s.signer == *invitation)?;
    match statement.body {
        Body::Credential { member, role: Role::Participant, .. } => Some(member),
        _ => None,
    }
}

/// The id of the invitation behind a link.
#[must_use]
pub fn invitation_of(link: &InviteLink) -> InvitationId {
    InvitationId::from_bytes(invite::derive(&link.domain, &link.secret).sign.public())
}
