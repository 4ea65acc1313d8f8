//! What the application asks for.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;
use zeroize::Zeroizing;

use super::{
    Event, LinkInfo, Output, Path, Peer, Probe, Profile, SavedDomain, Stats, To,
    dialling::{is_webrtc, told},
    domain::Domain,
    hello::Refuse,
    link::{Lane, LinkCommand},
    seal::{Topic, takes},
};
use crate::base::{Code, DomainId, Error, NodeId, Now, Reject, Rng, limit};
use crate::crypto::{Role, invite, sign::SigningKey, tag};
use crate::proto::{
    broadcast::responsible,
    channel::{ChannelId, Message, Mode, SendId},
    directory::{self, Capability, Participant, Query, Status},
    membership::{self, Dates, InvitationSpec, Membership, Rights},
    overlay::Locator,
};
use crate::wire::cbor;
use crate::wire::frame::Kind;
use crate::wire::link::InviteLink;

/// Bytes of all addresses in a record.
const ADDRESSES: usize = 2_048;
/// How long credentials made with the root key hold: the owner's and the managers'.
pub(super) const ROOT_CREDENTIAL: Duration = Duration::from_secs(90 * 24 * 3600);

/// What an invitation allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// How many may use it; 0 for no limit. Default 0.
    pub max_uses: u32,
    /// How long it holds. Who came through it renews its membership by itself until then, and later where the owner or an
    /// issuer is online at least once a day. Default 30 days.
    pub lifetime: Duration,
    /// Whether an issuer has to approve each bearer. Default no.
    pub approve: bool,
}

impl Default for InviteOptions {
    fn default() -> InviteOptions {
        InviteOptions { max_uses: 0, lifetime: Duration::from_secs(30 * 24 * 3600), approve: false }
    }
}

impl Peer {
    // ---- domains ----------------------------------------------------------------------------------------------------

    /// Founds a domain: this node holds its root key and is its first participant.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a name or capability outside its bounds.
    pub fn create_domain(&mut self, now: Now, name: &str, essential: &[String], profile: Profile) -> Result<DomainId, Error> {
        let saved = found_domain(&mut self.rng, now, name, essential)?;
        self.open_domain(now, &saved, Role::Participant, profile)
    }

    /// Opens a domain again from what [`Peer::save_domain`] gave. If this node has no credential and the root key is there,
    /// it makes itself one with this `role`.
    ///
    /// # Errors
    /// [`Code::Malformed`] for damaged data, [`Code::Forbidden`] if this node is no member.
    pub fn open_domain(&mut self, now: Now, saved: &SavedDomain, role: Role, profile: Profile) -> Result<DomainId, Error> {
        let id = membership::domain_id(&saved.genesis);
        if self.domains.contains_key(&id) {
            return Ok(id);
        }
        let mut membership = if saved.statements.is_empty() {
            Membership::new(id, &saved.genesis)
        } else {
            Membership::restore(id, &saved.genesis, &saved.statements, now)
        }
        .map_err(|r| refused(r, "the stored domain"))?;
        let root = saved.root.as_ref().map(|seed| SigningKey::from_seed(seed));
        let held = membership.member(now, &self.me);
        let soon = now.wall.after(ROOT_CREDENTIAL / 2);
        if let Some(root) = root.as_ref().filter(|_| held.as_ref().is_none_or(|m| m.expires < soon)) {
            let dates = Dates { not_before: now.wall.before(limit::CLOCK_SKEW), expires: now.wall.after(ROOT_CREDENTIAL) };
            let credential = match held {
                Some(member) => member.renewed(&id, root, &self.me, dates),
                None => membership::root_credential(&id, root, &self.me, role, dates.not_before, dates.expires),
            };
            membership.learn(now, None, &credential, &mut Vec::new()).map_err(|r| refused(r, "this node's credential"))?;
        }
        let held = membership.member(now, &self.me);
        if let Some(secret) =
            saved.invitation.as_ref().filter(|_| held.is_none_or(|m| m.expires < now.wall.after(self.config.credential / 2)))
        {
            // One more of this node's own is no further use of the invitation. If it no longer holds, neither does this.
            let (from, until) = (now.wall.before(limit::CLOCK_SKEW), now.wall.after(self.config.credential));
            let renewed = membership::self_signed_credential(&id, &invite::derive(&id, secret).sign, &self.me, from, until);
            membership.learn(now, None, &renewed, &mut Vec::new()).map_err(|r| refused(r, "this node's credential"))?;
        }
        let Some(member) = membership.member(now, &self.me) else {
            return Err(Error::new(Code::Forbidden, "this node is no member of the domain").hint("Join it with an invitation link."));
        };
        let mut domain = self.build_domain(now, membership, profile, member.role);
        domain.locator = Some(Locator::new(id, &saved.secret, self.rng.fork("locator")));
        domain.secret = Some(saved.secret.clone());
        domain.root = root;
        domain.invitation = saved.invitation.clone();
        domain.state.import(now, &saved.state);
        domain.contacts = saved.contacts.iter().filter(|(node, _)| *node != self.me).take(limit::CONTACTS).cloned().collect();
        self.domains.insert(id, domain);
        self.roles_changed(now, id);
        // What is no address any more is not worth failing for.
        let _ = self.offer_relays(now, &saved.relays);
        if let Err(error) = self.publish(now, id) {
            self.domains.remove(&id);
            return Err(error);
        }
        self.relays_changed(now);
        self.mark_all_unsaved(id);
        self.tick_within(now, Duration::ZERO);
        Ok(id)
    }

    /// Adds a signed membership statement from elsewhere, and spreads it.
    ///
    /// # Errors
    /// [`Code::Closed`], or the code of the refusal.
    pub fn insert_statement(&mut self, now: Now, id: DomainId, bytes: &[u8]) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        let mut effects = Vec::new();
        let learnt = domain.membership.learn(now, None, bytes, &mut effects);
        self.membership_effects(now, id, effects);
        self.settle(now);
        learnt.map(|_| ()).map_err(|r| refused(r, "the statement"))
    }

    /// The name in the domain's genesis.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn domain_name(&self, id: DomainId) -> Result<String, Error> {
        Ok(self.domain(id)?.membership.genesis().name.clone())
    }

    /// This node's role in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn role(&self, id: DomainId) -> Result<Role, Error> {
        Ok(self.domain(id)?.role)
    }

    /// Makes an invitation and publishes its public half. The link names relays this node knows, those that are up first.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key or the right to invite.
    pub fn invite(&mut self, now: Now, id: DomainId, options: InviteOptions) -> Result<InviteLink, Error> {
        let key = self.authority(now, id, Rights::INVITE, "this node may not invite")?;
        let secret = Zeroizing::new(self.rng.bytes());
        let relays = self.known_relays();
        let domain = self.domain(id)?;
        let manager = domain.known.iter().find(|(_, role)| **role == Role::Manager).map(|(node, _)| *node);
        let rendezvous = domain.membership.genesis().rendezvous;
        let (link, statement) = make_invitation(now, &id, &key, secret, rendezvous, manager, relays, options);
        self.insert_statement(now, id, &statement)?;
        Ok(link)
    }

    /// Says goodbye to the domain's members and forgets the domain here.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn leave(&mut self, now: Now, id: DomainId) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        let mut effects = Vec::new();
        domain.directory.leave(now, &mut effects);
        let linked = domain.linked();
        // To each directly, not along the tree: nobody is here any more to tell it again.
        for effect in &effects {
            if let directory::Effect::Broadcast { msg, .. } = effect {
                self.send_sealed(now, id, Topic::Directory, &linked, Lane::Control, &msg.encode());
            }
        }
        for node in linked {
            self.send_scoped(&id, &node, Lane::Control, Kind::Goodbye, &[]);
        }
        self.drop_domain(id);
        Ok(())
    }

    /// Leaves every domain and closes every link. They are [down](LinkEvent::Down) once the other side has read their control lanes:
    /// until [`Peer::is_drained`], what is queued there may not have left this process.
    pub fn close(&mut self, now: Now) {
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            // Only a domain that is there is left: this cannot fail.
            let _ = self.leave(now, id);
        }
        self.joins.clear();
        self.spare_relays.clear();
        let relays: Vec<String> = core::mem::take(&mut self.relays).into_iter().map(|(key, _)| key).collect();
        for address in relays {
            self.command_link(LinkCommand::DropRelay { address });
        }
        let links: Vec<_> = self.table.iter().map(|(id, _)| *id).collect();
        for link in links {
            self.table.closing(link);
            self.command_link(LinkCommand::Close { link });
        }
    }

    /// Forgets a domain here; links that no other domain or relay needs are closed.
    pub(super) fn drop_domain(&mut self, id: DomainId) {
        self.joins.remove(&id);
        let Some(domain) = self.domains.remove(&id) else { return };
        for node in domain.greetings.keys() {
            let needed = self.domains.values().any(|d| d.greetings.contains_key(node)) || self.relays.values().any(|r| r.node == *node);
            if !needed {
                let links: Vec<_> = self.table.iter().filter(|(_, l)| l.node == *node).map(|(id, _)| *id).collect();
                for link in links {
                    self.command_link(LinkCommand::Close { link });
                }
            }
        }
        if !domain.joining {
            self.emit(Event::Closed { domain: id });
        }
    }

    // ---- directory --------------------------------------------------------------------------------------------------

    /// How many are online in the directory of a domain, this node included.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn online(&self, now: Now, id: DomainId) -> Result<usize, Error> {
        let domain = self.domain(id)?;
        let others =
            domain.directory.dialable(now).filter(|(node, status, _)| *status == Status::Online && domain.known.contains_key(*node));
        Ok(1 + others.count())
    }

    /// Which `k` of the participants online are responsible for a key, the one of highest rank first.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn responsible(&self, now: Now, id: DomainId, key: &[u8], k: usize) -> Result<Vec<NodeId>, Error> {
        let domain = self.domain(id)?;
        let takes_part = |node: &NodeId| domain.known.get(node) == Some(&Role::Participant);
        let online = domain.directory.dialable(now).filter(|(node, status, _)| *status == Status::Online && takes_part(node));
        let me = (domain.role == Role::Participant && !self.suspended).then_some(self.me);
        Ok(responsible(key, k, online.map(|(node, ..)| *node).chain(me)))
    }

    /// Who is in the directory of a domain, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn participants(&self, now: Now, id: DomainId, query: &Query) -> Result<Vec<Participant>, Error> {
        let domain = self.domain(id)?;
        Ok(domain.directory.participants(now, query, &|n| domain.known.get(n).copied()))
    }

    /// What is known of one node in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn participant(&self, now: Now, id: DomainId, node: &NodeId) -> Result<Option<Participant>, Error> {
        let domain = self.domain(id)?;
        Ok(domain.directory.get(now, node, &|n| domain.known.get(n).copied()))
    }

    /// What this node advertises in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn capabilities(&self, id: DomainId) -> Result<Vec<Capability>, Error> {
        Ok(self.domain(id)?.profile.capabilities.clone())
    }

    /// Replaces what this node offers.
    ///
    /// # Errors
    /// [`Code::TooLarge`] or [`Code::BadArgument`] for capabilities outside their bounds, [`Code::Closed`].
    pub fn advertise(&mut self, now: Now, id: DomainId, capabilities: Vec<Capability>) -> Result<(), Error> {
        let domain = self.domain_mut(id)?;
        let before = core::mem::replace(&mut domain.profile.capabilities, capabilities);
        let result = self.publish(now, id);
        if result.is_err() {
            self.domain_mut(id)?.profile.capabilities = before;
        }
        self.settle(now);
        result
    }

    /// Signs this node's record anew and spreads it.
    pub(super) fn publish(&mut self, now: Now, id: DomainId) -> Result<(), Error> {
        let addresses = told(&self.addresses, (directory::record::ADDRESSES, ADDRESSES));
        let suspended = self.suspended;
        let domain = self.domain_mut(id)?;
        let profile =
            directory::Profile { name: domain.profile.name.clone(), addresses, capabilities: domain.profile.capabilities.clone() };
        let mut effects = Vec::new();
        let result = domain.directory.publish(now, profile, &mut effects);
        domain.directory.suspend(now, suspended, &mut effects);
        self.directory_effects(now, id, effects);
        result.map_err(|r| refused(r, "this node's name or capabilities"))
    }

    pub(super) fn publish_all(&mut self, now: Now) {
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            // The profile was taken before; only addresses changed, and the platform bounds those.
            let _ = self.publish(now, id);
        }
    }

    // ---- channels ---------------------------------------------------------------------------------------------------

    /// Opens a channel; the same name and mode give the same channel.
    ///
    /// # Errors
    /// What [`Channels::open`](crate::proto::channel::Channels::open) says; [`Code::Forbidden`] for a manager; [`Code::Closed`].
    pub fn channel(&mut self, now: Now, id: DomainId, name: &str, mode: Mode) -> Result<ChannelId, Error> {
        let domain = self.domain_mut(id)?;
        if domain.role != Role::Participant {
            return Err(Error::new(Code::Forbidden, "a domain manager takes no part in channels"));
        }
        let channel = domain.channels.open(now, name, mode)?;
        self.channel_effects(id);
        self.settle(now);
        Ok(channel)
    }

    /// Closes a channel.
    pub fn close_channel(&mut self, now: Now, id: DomainId, channel: ChannelId) {
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.channels.close(channel);
            self.channel_effects(id);
            self.settle(now);
        }
    }

    /// Whether the channel is open.
    #[must_use]
    pub fn has_channel(&self, id: DomainId, channel: ChannelId) -> bool {
        self.domains.get(&id).is_some_and(|d| d.channels.is_open(channel))
    }

    /// Queues a message; its end comes as [`Output::Sent`].
    ///
    /// # Errors
    /// What [`Channels::send`](crate::proto::channel::Channels::send) says; [`Code::NoParticipant`], [`Code::Closed`].
    pub fn send(
        &mut self,
        now: Now,
        id: DomainId,
        channel: ChannelId,
        to: To,
        payload: Vec<u8>,
        key: Option<String>,
    ) -> Result<SendId, Error> {
        let everybody = to == To::All;
        let to = self.recipients(now, id, to)?;
        self.want_links(now, id, if everybody { &[] } else { &to });
        let domain = self.domain_mut(id)?;
        let send = if everybody && domain.spread.is_large() {
            domain.channels.send_all(now, channel, &payload, key)?
        } else {
            domain.channels.send(now, channel, &to, payload, key)?
        };
        if !everybody {
            domain.doubt(now, &to);
        }
        self.settle(now);
        Ok(send)
    }

    /// Sends what can be sent now.
    ///
    /// # Errors
    /// What [`Channels::post`](crate::proto::channel::Channels::post) says; [`Code::NoParticipant`], [`Code::Closed`].
    pub fn post(
        &mut self,
        now: Now,
        id: DomainId,
        channel: ChannelId,
        to: To,
        payload: Vec<u8>,
        key: Option<String>,
    ) -> Result<bool, Error> {
        let everybody = to == To::All;
        let to = self.recipients(now, id, to)?;
        self.want_links(now, id, if everybody { &[] } else { &to });
        let domain = self.domain_mut(id)?;
        if !everybody {
            domain.doubt(now, &to);
        }
        let sent = if everybody && domain.spread.is_large() {
            domain.channels.post_all(now, channel, &payload, key)?
        } else if domain.channels.mode(channel) == Some(Mode::Datagram) {
            let domain = self.domains.get_mut(&id).ok_or_else(not_in)?;
            let ready = to.iter().all(|n| takes(&self.table, &domain.greetings, &domain.known, n, Lane::Datagram));
            domain.channels.post(now, channel, &to, payload, key)? && ready
        } else {
            domain.channels.post(now, channel, &to, payload, key)?
        };
        self.settle(now);
        Ok(sent)
    }

    /// The next message of a channel, if one is there. Taking it gives its sender credit.
    pub fn receive(&mut self, now: Now, id: DomainId, channel: ChannelId) -> Option<Message> {
        let message = self.domains.get_mut(&id)?.channels.receive(channel);
        if message.is_some() {
            self.settle(now);
        }
        message
    }

    /// Participants that are online, or the ones named if they are known; never this node, never a manager.
    fn recipients(&self, now: Now, id: DomainId, to: To) -> Result<Vec<NodeId>, Error> {
        let domain = self.domain(id)?;
        let here = |n: &NodeId| *n != self.me && domain.known.get(n) == Some(&Role::Participant);
        let live = |s: Status| matches!(s, Status::Online | Status::Suspended);
        match to {
            To::All => Ok(domain.directory.dialable(now).filter(|(n, s, _)| here(n) && live(*s)).map(|(n, _, _)| *n).collect()),
            To::Some(nodes) => match nodes.iter().find(|n| !here(n)) {
                None => Ok(nodes),
                Some(node) if *node == self.me => Err(Error::new(Code::BadArgument, "a message to oneself")),
                Some(node) if domain.known.get(node) == Some(&Role::Manager) => {
                    Err(Error::new(Code::Forbidden, "the domain manager takes no part in channels"))
                }
                Some(node) => Err(Error::new(Code::NoParticipant, alloc::format!("no participant {node} in this domain"))),
            },
        }
    }

    // ---- links ------------------------------------------------------------------------------------------------------

    /// The links to the members of a domain, or all of this node, one row per node.
    #[must_use]
    pub fn links(&self, now: Now, id: Option<DomainId>) -> Vec<LinkInfo> {
        let mut nodes: Vec<NodeId> = match id.and_then(|id| self.domains.get(&id)) {
            Some(domain) => domain.directory.dialable(now).filter(|(_, s, _)| *s != Status::Left).map(|(n, _, _)| *n).collect(),
            None if id.is_some() => Vec::new(),
            None => self.table.iter().map(|(_, l)| l.node).chain(self.dials.iter().filter(|(_, d)| d.running).map(|(n, _)| *n)).collect(),
        };
        nodes.sort_unstable();
        nodes.dedup();
        nodes.into_iter().filter(|n| *n != self.me).map(|n| self.link_info(&n)).collect()
    }

    fn link_info(&self, node: &NodeId) -> LinkInfo {
        let best = self.table.best(node).map(|(_, link)| link);
        let (sent, received) =
            self.table.iter().filter(|(_, l)| l.node == *node).fold((0, 0), |(s, r), (_, l)| (s + l.sent, r + l.received));
        let address = best.map(|l| l.address.clone()).unwrap_or_default();
        let datagrams = best.is_some_and(|l| l.datagrams);
        LinkInfo { node: *node, path: best.map(|l| l.path), rtt: best.and_then(|l| l.rtt), sent, received, address, datagrams }
    }

    /// What was counted in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn stats(&self, _now: Now, id: DomainId) -> Result<Stats, Error> {
        let domain = self.domain(id)?;
        Ok(Stats {
            sealed: domain.sealed,
            opened: domain.opened,
            rejected: domain.rejected.clone(),
            members: domain.known.len() as u64,
            linked: domain.linked().len() as u64,
            datagrams: domain.linked().iter().filter(|n| self.table.best(n).is_some_and(|(_, l)| l.datagrams)).count() as u64,
            statements: domain.membership.len() as u64,
            epochs: domain.session.epochs(),
        })
    }

    /// Connects to any libp2p node, for diagnosis; [`Peer::probe`] tells how it went.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if the address does not end in `/p2p/<id>`.
    pub fn dial(&mut self, _now: Now, address: &str) -> Result<NodeId, Error> {
        let node = last_node(address)?;
        self.probes.insert(node, Probe { direct: is_webrtc(address), end: None });
        if self.table.best(&node).is_none_or(|(_, l)| l.path == Path::Relayed) {
            self.dials.entry(node).or_default().running = true;
            self.command_link(LinkCommand::Dial { node, addresses: Vec::from([address.to_owned()]) });
        }
        Ok(node)
    }

    /// How a [`Peer::dial`] went: the link once a round trip was measured, the error, or `None` while it is under way.
    pub fn probe(&mut self, node: &NodeId) -> Option<Result<LinkInfo, Error>> {
        let probe = self.probes.get(node)?;
        if probe.end.is_some() {
            return self.probes.remove(node)?.end;
        }
        let info = self.link_info(node);
        let reached = info.rtt.is_some() && (!probe.direct || info.path == Some(Path::Direct));
        reached.then(|| {
            self.probes.remove(node);
            Ok(info)
        })
    }

    /// Tells a node why something of it was refused.
    pub(super) fn tell_refusal(&mut self, node: NodeId, code: Code) {
        self.send_frame(&node, Lane::Control, Kind::Refuse, &cbor::encode(&Refuse::new(code)));
        self.emit(Event::Refused { node, code, by_us: true });
    }

    /// The addresses at which others can dial this node now.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(super) fn domain(&self, id: DomainId) -> Result<&Domain, Error> {
        self.domains.get(&id).ok_or_else(not_in)
    }

    pub(super) fn domain_mut(&mut self, id: DomainId) -> Result<&mut Domain, Error> {
        self.domains.get_mut(&id).ok_or_else(not_in)
    }

    /// Ends a join for whoever waits for it.
    pub(super) fn end_join(&mut self, domain: DomainId, result: Result<(), Error>) {
        self.outputs.push_back(Output::Joined { domain, result });
    }
}

/// A new domain, with nobody in it yet but the holder of its root key.
///
/// # Errors
/// [`Code::BadArgument`] for a name or capability outside its bounds.
pub fn found_domain(rng: &mut Rng, now: Now, name: &str, essential: &[String]) -> Result<SavedDomain, Error> {
    let secret = Zeroizing::new(rng.bytes());
    let founding = membership::found(rng, now, name, essential, *tag::rendezvous_key(&secret).public())?;
    let empty = Membership::new(founding.domain, &founding.genesis).map_err(|r| refused(r, "the new domain"))?;
    let root = Some(founding.root.seed());
    Ok(SavedDomain { genesis: founding.genesis, statements: empty.export(), secret, root, ..SavedDomain::default() })
}

/// An invitation made with the root key or an issuer's: the link for its bearer, and the statement that members must learn.
#[expect(clippy::too_many_arguments, reason = "one per field of the link")]
#[must_use]
pub fn make_invitation(
    now: Now,
    domain: &DomainId,
    issuer: &SigningKey,
    secret: Zeroizing<[u8; 32]>,
    rendezvous: [u8; 32],
    manager: Option<NodeId>,
    relays: Vec<String>,
    options: InviteOptions,
) -> (InviteLink, Vec<u8>) {
    let keys = invite::derive(domain, &secret);
    let spec = InvitationSpec {
        sign_pk: keys.sign.public(),
        kem_pk: *keys.kem.public(),
        max_uses: options.max_uses,
        approve: options.approve,
        not_before: now.wall.before(limit::CLOCK_SKEW),
        expires: now.wall.after(options.lifetime),
    };
    let statement = membership::issue_invitation(domain, issuer, &spec);
    (InviteLink { domain: *domain, secret, generation: 0, manager, rendezvous, relays }, statement)
}

/// The node an address ends at.
pub(super) fn last_node(address: &str) -> Result<NodeId, Error> {
    let id = address.rsplit_once("/p2p/").and_then(|(_, id)| id.parse().ok());
    id.ok_or_else(|| Error::new(Code::BadArgument, "an address ends in /p2p/<node id>".to_string()))
}

pub(super) fn refused(reject: Reject, what: &str) -> Error {
    Error::new(reject.code(), alloc::format!("{what} was refused: {reject}"))
}

pub(super) fn not_in() -> Error {
    Error::new(Code::Closed, "this node is not in that domain")
}
