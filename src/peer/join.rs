//! The way into a domain: from an invitation link to the first member, and the other side of it.
//!
//! The joiner signs its own credential with the invitation's key, asks for any member through a relay, gets the genesis and
//! somebody's addresses, dials them, and is in once a member's Hello holds and the domain secret was given.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::time::Duration;

use super::{
    Event, Peer, Profile,
    domain::Domain,
    find::Finder,
    hello::{Contact, JoinAnswer, JoinBody, Welcome},
    members::{Affairs, bearer},
    signal::{Signals, is_signalled},
    spread::Spread,
    views::Views,
};
use zeroize::Zeroizing;

use crate::base::{Code, DomainId, Error, Map, Mono, NodeId, Now, Reject, limit};
use crate::crypto::{Role, invite, tag};
use crate::proto::{
    channel::{self, Channels},
    detector::Detector,
    directory::{self, Directory},
    membership::{self, Membership},
    overlay::{self, ANSWER_BODY, Answer, DomainRequest, DomainResponse, Locator, RequestKind, Seeker, Status},
    session::Session,
    state::State,
};
use crate::wire::cbor;
use crate::wire::link::InviteLink;

/// For finding a relay, and a member behind it.
const SEEK: Duration = Duration::from_secs(20);
/// For connecting to the member and being let in.
const ENTER: Duration = Duration::from_secs(25);

/// For an issuer's approval.
const APPROVAL: Duration = Duration::from_secs(600);
/// How often a joiner asks again that waits for it, or that no contact it was told of has let in: another member may be easier to reach.
const ASK_AGAIN: Duration = Duration::from_secs(4);

/// Bytes of addresses in an answer.
const CONTACT_BYTES: usize = 1_200;

/// For word of an invitation that was made a moment ago to reach the members; and for another member to say otherwise, where one refuses
/// without showing why.
const WORD: Duration = Duration::from_secs(4);
/// How often others are asked meanwhile.
const ASK_OTHERS: Duration = Duration::from_secs(1);

/// Statements in an answer.
const STATEMENTS: usize = 16;
/// Bytes of them in a refusal, the genesis included.
const GROUNDS: usize = ANSWER_BODY - 256;

/// Nobody let the joiner in yet, for a reason that may pass: it asks again.
#[derive(Clone, Copy)]
struct Wait {
    /// The refusal; [`Code::NoMember`] once a member answered and is not reached.
    code: Code,
    next: Mono,
    every: Duration,
    /// When it gives up.
    end: Mono,
}

/// A join that no member has let in yet.
pub(super) struct Join {
    link: InviteLink,
    profile: Profile,
    credential: Vec<u8>,
    request: overlay::Seek,
    /// `None` until it asks again.
    seeker: Option<Seeker>,
    deadline: Mono,
    /// While an answer may change.
    waiting: Option<Wait>,
    asked: bool,
}

impl Peer {
    /// Begins to join. False if this node is in that domain already; else the end comes as [`Output::Joined`].
    ///
    /// # Errors
    /// [`Code::NoRelay`] if the link names no relay and none is kept.
    pub fn join(&mut self, now: Now, link: InviteLink, profile: Profile) -> Result<bool, Error> {
        let id = link.domain;
        if self.domains.get(&id).is_some_and(|d| !d.joining) {
            return Ok(false);
        }
        if link.relays.is_empty() && self.relays.is_empty() {
            return Err(Error::new(Code::NoRelay, "the invitation names no relay and none is configured"));
        }
        self.offer_relays(now, &link.relays)?;
        let keys = invite::derive(&id, &link.secret);
        let from = now.wall.before(limit::CLOCK_SKEW);
        let credential = membership::self_signed_credential(&id, &keys.sign, &self.me, from, now.wall.after(self.config.credential));
        let body = JoinBody { credential: credential.clone().into(), invitation: keys.sign.public(), name: Some(profile.name.clone()) };
        let request = overlay::Seek { domain: id, rendezvous: link.rendezvous, kind: RequestKind::Join, body: cbor::encode(&body) };
        let seeker = Some(Seeker::new(now, request.clone(), self.rng.fork("seeker")));
        let deadline = now.mono.after(SEEK);
        let join = Join { link, profile, credential, request, seeker, deadline, waiting: None, asked: false };
        self.joins.insert(id, join);
        self.tick_within(now, Duration::ZERO);
        self.join_relays(now);
        Ok(true)
    }

    /// Gives a join up.
    pub fn cancel_join(&mut self, _now: Now, id: DomainId) {
        self.joins.remove(&id);
        if self.domains.get(&id).is_some_and(|d| d.joining) {
            self.drop_domain(id);
        }
    }

    /// Lets seekers ask through the relays that are linked now.
    pub(super) fn join_relays(&mut self, now: Now) {
        let relays = self.relay_links();
        let mut effects = Vec::new();
        for join in self.joins.iter_mut().map(|(_, v)| v) {
            join.asked |= !relays.is_empty();
            join.seeker.iter_mut().for_each(|s| s.on_timeout(now, &relays, &mut effects));
        }
        self.overlay_effects(effects);
    }

    pub(super) fn join_timeouts(&mut self, now: Now) {
        for join in self.joins.iter_mut().map(|(_, v)| v) {
            if let Some(wait) = join.waiting.as_mut().filter(|w| w.next <= now.mono && now.mono < w.end) {
                wait.next = now.mono.after(wait.every);
                join.seeker = Some(Seeker::new(now, join.request.clone(), self.rng.fork("seeker")));
            }
        }
        self.join_relays(now);
        let failed: Vec<(DomainId, Error)> = self.joins.iter().filter_map(|(id, join)| Some((*id, join.failure(now)?))).collect();
        for (id, error) in failed {
            self.fail_join(id, error);
        }
    }

    fn fail_join(&mut self, id: DomainId, error: Error) {
        self.cancel_join(Now::default(), id);
        self.end_join(id, Err(error));
    }

    /// An answer came back through a relay.
    pub(super) fn seeker_response(&mut self, now: Now, from: NodeId, response: &DomainResponse) -> Result<(), Reject> {
        if self.find_response(now, from, response)? {
            return Ok(());
        }
        let mut answer = None;
        for (id, join) in &mut self.joins {
            if let Some(seeker) = join.seeker.as_mut().filter(|s| s.expects(&response.id)) {
                answer = seeker.handle(now, from, response)?.map(|a| (*id, a));
                break;
            }
        }
        let Some((id, answer)) = answer else { return Ok(()) };
        let result = self.enter(now, id, &answer);
        if result == Err(Reject::Misdirected) {
            self.doubt(now, id, Code::WrongDomain);
        }
        result
    }

    /// Checks a member's answer and dials the contacts it names, besides those that others named before.
    fn enter(&mut self, now: Now, id: DomainId, answer: &Answer) -> Result<(), Reject> {
        let body: JoinAnswer = cbor::decode(&answer.body)?;
        if let Some(code) = &body.refused {
            let code = Code::ALL.iter().copied().find(|c| c.as_str() == code).unwrap_or(Code::Forbidden);
            match (self.shown(now, id, &body), code) {
                (Some(code), _) => self.fail_join(id, refusal(code)),
                (None, Code::InvitePending) => self.wait(now, id, code, ASK_AGAIN, APPROVAL),
                (None, _) => self.doubt(now, id, code),
            }
            return Ok(());
        }
        let Some(join) = self.joins.get(&id) else { return Ok(()) };
        let mut membership = Membership::new(id, &body.genesis)?;
        if membership.genesis().rendezvous != join.link.rendezvous {
            return Err(Reject::Misdirected);
        }
        let mut effects = Vec::new();
        for statement in body.statements.iter().take(STATEMENTS) {
            membership.learn(now, None, statement, &mut effects)?;
        }
        membership.learn(now, None, &join.credential, &mut effects)?;
        if membership.member(now, &answer.member).is_none() {
            return Err(Reject::Forbidden);
        }
        if membership.member(now, &self.me).is_none() {
            match self.shown(now, id, &body) {
                Some(code) => self.fail_join(id, refusal(code)),
                None => self.doubt(now, id, Code::Forbidden),
            }
            return Ok(());
        }
        let (profile, secret) = (join.profile.clone(), join.link.secret.clone());
        self.wait(now, id, Code::NoMember, ASK_AGAIN, ENTER);
        if self.domains.contains_key(&id) {
            for statement in body.statements.iter().take(STATEMENTS) {
                self.insert_from(now, id, answer.member, statement)?;
            }
        } else {
            let mut domain = self.build_domain(now, membership, profile, Role::Participant);
            domain.joining = true;
            domain.invitation = Some(secret);
            self.domains.insert(id, domain);
            self.roles_changed(now, id);
            if let Err(error) = self.publish(now, id) {
                self.fail_join(id, error);
                return Ok(());
            }
        }
        for contact in body.contacts.into_iter().take(8) {
            let node = NodeId::from_public_key(contact.node);
            let addresses = contact.addresses.into_iter().take(8).filter(|a| a.len() <= 512).collect();
            let Some(domain) = self.domains.get_mut(&id).filter(|d| node != self.me && d.contacts.len() < limit::CONTACTS) else {
                continue;
            };
            domain.contacts.insert(node, addresses);
            // The answering member learnt of the joiner's credential by the request: no waiting for politeness.
            let dial = self.dials.entry(node).or_default();
            dial.next = now.mono;
            if self.table.best(&node).is_some() {
                self.greet(now, id, node, false);
            }
        }
        self.dial_members(now);
        Ok(())
    }

    /// Why this node cannot be let in, as far as what came with an answer shows it: whoever answers does not have to be believed.
    fn shown(&self, now: Now, id: DomainId, body: &JoinAnswer) -> Option<Code> {
        let key = invite::derive(&id, &self.joins.get(&id)?.link.secret).sign.public();
        let statements = body.statements.iter().take(STATEMENTS).map(|s| &s[..]);
        Membership::shown(id, &body.genesis, statements, now, &key, &self.me).ok()?
    }

    /// A member refuses, and does not show why: it may lie, or not have heard. Others are asked, unless one of them let this node in
    /// already; that it was to wait may be over.
    fn doubt(&mut self, now: Now, id: DomainId, code: Code) {
        match self.joins.get_mut(&id) {
            Some(Join { seeker, waiting: Some(wait), .. }) if wait.code != Code::InvitePending => {
                *seeker = None;
                wait.next = now.mono.after(wait.every);
            }
            _ => self.wait(now, id, code, ASK_OTHERS, WORD),
        }
    }

    /// An issuer has to decide first, word of the invitation is on its way, or who answered has to be reached: the joiner asks again for
    /// a while.
    fn wait(&mut self, now: Now, id: DomainId, code: Code, every: Duration, time: Duration) {
        let Some(join) = self.joins.get_mut(&id) else { return };
        join.seeker = None;
        let before = join.waiting.filter(|w| w.code == code);
        let end = before.map_or(now.mono.after(time), |w| w.end);
        join.waiting = Some(Wait { code, next: now.mono.after(every), every, end });
        if before.is_none() && code == Code::InvitePending {
            self.emit(Event::Waiting { domain: id });
        }
    }

    /// A member gave the domain secret: this node is in.
    pub(super) fn welcome(&mut self, now: Now, id: DomainId, welcome: &Welcome) -> Result<(), Reject> {
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let key = tag::rendezvous_key(&welcome.secret);
        if *key.public() != domain.membership.genesis().rendezvous {
            return Err(Reject::Forged);
        }
        let fresh = domain.secret.is_none();
        if fresh {
            domain.secret = Some(Zeroizing::new(welcome.secret));
            domain.locator = Some(Locator::new(id, &welcome.secret, self.rng.fork("locator")));
        }
        if core::mem::take(&mut domain.joining) {
            domain.finder = Finder::of_newcomer();
            self.joins.remove(&id);
            self.end_join(id, Ok(()));
        }
        if fresh {
            self.mark_all_unsaved(id);
        }
        self.overlay_timeouts(now);
        Ok(())
    }

    /// The other side: a joiner's request reached this member, or another member's.
    pub(super) fn member_request(&mut self, now: Now, relay: NodeId, request: &DomainRequest) -> Result<(), Reject> {
        let result = self.answer(now, relay, request);
        let response = match &result {
            Ok(response) => response.clone(),
            // The relay goes on to the next member at once.
            Err(_) => DomainResponse::without(request.id, Status::Refused),
        };
        self.overlay_effects(Vec::from([overlay::Effect { to: relay, msg: overlay::Msg::Response(response) }]));
        result.map(|_| ())
    }

    fn answer(&mut self, now: Now, relay: NodeId, request: &DomainRequest) -> Result<DomainResponse, Reject> {
        let ours = |d: &&mut Domain| d.locator.as_ref().is_some_and(|l| l.is_ours(now, &request.tag));
        let domain = self.domains.iter_mut().map(|(_, v)| v).find(ours).ok_or(Reject::Misdirected)?;
        let id = domain.id;
        let reachable = self.addresses.iter().any(|a| !is_signalled(a));
        let locator = domain.locator.as_mut().ok_or(Reject::Misdirected)?;
        let ask = locator.open(now, request)?;
        let answer = match ask.kind {
            // The joiner could not dial this member, and would ask nobody else.
            RequestKind::Join if !reachable => return Err(Reject::Limit),
            RequestKind::Join => cbor::encode(&self.admit(now, id, relay, &cbor::decode(&ask.body)?)),
            RequestKind::Find => self.found(now, id, &cbor::decode(&ask.body)?)?,
            RequestKind::Data => return Err(Reject::UnknownKind),
        };
        let locator = self.domains.get_mut(&id).and_then(|d| d.locator.as_mut()).ok_or(Reject::Misdirected)?;
        locator.respond(&self.identity, &ask, &answer)
    }

    fn admit(&mut self, now: Now, id: DomainId, relay: NodeId, body: &JoinBody) -> JoinAnswer {
        let mut answer = JoinAnswer { refused: None, genesis: Vec::new().into(), statements: Vec::new(), contacts: Vec::new() };
        let checked = self.check_joiner(now, id, body);
        let Some(domain) = self.domains.get(&id) else { return answer };
        let joiner = match checked {
            Ok(joiner) => joiner,
            Err(code) => {
                answer.refused = Some(code.as_str().into());
                let (membership, genesis) = (&domain.membership, domain.membership.genesis_bytes());
                if let (Some(node), Some(room)) = (bearer(&id, &body.credential, &body.invitation), GROUNDS.checked_sub(genesis.len())) {
                    answer.statements = membership.grounds(&body.invitation, &node, STATEMENTS, room).into_iter().map(Into::into).collect();
                }
                // Who has no invitation of this domain's learns nothing of it.
                if !answer.statements.is_empty() {
                    answer.genesis = genesis.to_vec().into();
                }
                return answer;
            }
        };
        answer.genesis = domain.membership.genesis_bytes().to_vec().into();
        let mut statements = domain.membership.chain(now, &self.me);
        for statement in domain.membership.invitation_chain(&body.invitation).into_iter().chain(domain.membership.chain(now, &joiner)) {
            if !statements.contains(&statement) {
                statements.push(statement);
            }
        }
        answer.statements = statements.into_iter().map(Into::into).collect();
        // What is left of an answer after genesis and chains.
        let mut room = CONTACT_BYTES;
        let fits = |a: &&String| room.checked_sub(a.len()).map(|left| room = left).is_some();
        // First the way that is known to work: the joiner's word came over this relay.
        let through = alloc::format!("/p2p/{relay}/p2p-circuit");
        let (first, others): (Vec<&String>, Vec<&String>) =
            self.addresses.iter().filter(|a| !is_signalled(a)).partition(|a| a.contains(&through));
        let addresses = first.into_iter().chain(others).filter(fits).take(8).cloned().collect();
        let mine = Contact { node: *self.me.as_bytes(), addresses };
        answer.contacts = Vec::from([mine]);
        answer
    }

    /// Puts the parts of a domain together.
    pub(super) fn build_domain(&mut self, now: Now, membership: Membership, profile: Profile, role: Role) -> Domain {
        let id = membership.domain();
        let session = Session::new(id, self.identity.clone(), role, self.rng.fork("session"), now);
        let config = directory::Config { domain: id, essential: membership.genesis().essential.clone() };
        let directory = Directory::new(now, self.identity.clone(), config, self.rng.fork("directory"));
        let detector = Detector::new(now, id, self.identity.clone(), self.rng.fork("detector"));
        let channels = Channels::new(channel::Config::default(), self.me, self.rng.fork("channels"));
        let state = State::new(now, id, self.identity.clone(), self.rng.fork("state"));
        Domain {
            id,
            membership,
            session,
            directory,
            detector,
            state,
            channels,
            spread: Spread::new(id, self.me, now),
            locator: None,
            secret: None,
            root: None,
            invitation: None,
            affairs: Affairs::default(),
            finder: Finder::default(),
            views: Views::default(),
            signals: Signals::default(),
            role,
            profile,
            greetings: Map::new(),
            contacts: Map::new(),
            lost: Map::new(),
            known: Map::new(),
            joining: false,
            next_change: None,
            sealed: 0,
            opened: 0,
            rejected: Map::new(),
        }
    }
}

impl Join {
    pub fn next_timeout(&self) -> Option<Mono> {
        self.seeker.as_ref()?.next_timeout()
    }

    fn failure(&self, now: Now) -> Option<Error> {
        if let Some(Wait { code, end, .. }) = self.waiting {
            // Whoever answered first may have gone meanwhile: that is no reason to give up.
            return (now.mono >= end).then(|| if code == Code::NoMember { unreached() } else { refusal(code) });
        }
        if let Some(code) = self.seeker.as_ref().and_then(Seeker::failed) {
            return Some(refusal(code));
        }
        (now.mono >= self.deadline).then(|| if self.asked { refusal(Code::NoMember) } else { refusal(Code::NoRelay) })
    }
}

fn unreached() -> Error {
    let hint = "Is the other side still online? Does a firewall block the relay's circuits?";
    Error::new(Code::NoMember, "a member answered, but no connection to it could be made").hint(hint)
}

/// The error a person reads for each way a join can be refused.
fn refusal(code: Code) -> Error {
    let (message, hint): (&str, &str) = match code {
        Code::InviteExpired => ("this invitation has expired", "Ask the person who sent it for a new one."),
        Code::InviteRevoked => ("this invitation was closed by its issuer", "Ask the person who sent it for a new one."),
        Code::InviteUsed => ("this invitation was used as often as it allows", "Ask the person who sent it for a new one."),
        Code::InviteUnknown => {
            ("nobody in the domain knows this invitation", "Was it made just now on a machine that is offline? Ask for a new one.")
        }
        Code::InviteDenied => ("the domain's owner, or somebody in charge, turned this device away", "Ask them why."),
        Code::WrongDomain => (
            "the answer came from another domain than the link names",
            "Ask for a fresh invitation link; somebody between you and the domain may be interfering.",
        ),
        Code::InvitePending => ("nobody in charge has let this device in yet", "Tell the person who sent the invitation, and try again."),
        Code::Timeout => ("this device's clock differs from the domain's by more than five minutes", "Set the clock right."),
        Code::NoRelay => ("no relay of this invitation could be reached", "Check the network; is the relay running?"),
        Code::NoMember => ("no member of this domain is online", "Try again when somebody, or the domain manager, is there."),
        Code::Busy => ("the relay is busy", "Try again in a moment."),
        _ => ("the domain refused this invitation", "Ask the person who sent it for a new one."),
    };
    Error::new(code, Cow::Borrowed(message)).hint(hint)
}

#[cfg(test)]
mod tests;
