//! What one part says and who hears it. The only module that names two parts; it reads like a table:
//!
//! | when | then |
//! |---|---|
//! | membership changes | session learns roles; directory, channels and greetings forget who is out; own role is kept |
//! | a statement is new | it goes to every linked member except the one it came from, along the tree in a large domain |
//! | both Hellos hold | membership, directory and shared state start to compare; channels resume; the domain secret is given |
//! | the last link to a member breaks | directory, detector and channels hear it |
//! | the directory has news | it is sealed in the control class and sent; the application hears it |
//! | a relay comes up | the locator leaves its records there; seekers ask through it |

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;
use minicbor::bytes::ByteVec;

use super::{
    Change, Event, Flag, Output, Part, Peer,
    domain::Domain,
    hello::{self, Welcome},
    input::exchanges_data,
    link::Lane,
    seal::Topic,
    spread::STATEMENTS,
};
use crate::base::{DomainId, NodeId, Now, Reject, only};
use crate::crypto::Role;
use crate::proto::{channel, directory, membership, overlay};
use crate::wire::cbor;
use crate::wire::frame::Kind;

/// How soon a changed directory is looked at for whom to dial: news often comes together.
const NEWS: Duration = Duration::from_millis(100);
/// What waits for somebody who was taken for down is given up after this time: a tab that is reloaded, or a verdict that was
/// wrong, takes less.
pub(super) const GIVE_UP: Duration = Duration::from_secs(10);

impl Peer {
    // ---- membership -------------------------------------------------------------------------------------------------

    pub(super) fn membership_message(&mut self, now: Now, id: DomainId, from: NodeId, body: &[u8]) -> Result<(), Reject> {
        let message = membership::Msg::decode(body)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let mut effects = Vec::new();
        let result = domain.membership.handle(now, from, message, &mut effects);
        self.membership_effects(now, id, effects);
        result
    }

    /// A statement that came with a Hello or from the application.
    pub(super) fn insert_from(&mut self, now: Now, id: DomainId, from: NodeId, bytes: &[u8]) -> Result<(), Reject> {
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let mut effects = Vec::new();
        let result = domain.membership.learn(now, Some(from), bytes, &mut effects);
        self.membership_effects(now, id, effects);
        result.map(|_| ())
    }

    pub(super) fn membership_effects(&mut self, now: Now, id: DomainId, effects: Vec<membership::Effect>) {
        let (mut changed, mut credentials) = (false, BTreeSet::new());
        let large = self.domains.get(&id).is_some_and(|d| d.spread.is_large());
        if effects.iter().any(|e| !matches!(e, membership::Effect::Send { .. })) {
            self.mark_unsaved(id, Part::Statements);
        }
        let together = if large { STATEMENTS } else { membership::CHUNK };
        let mut news: Vec<(Option<NodeId>, Vec<ByteVec>)> = Vec::new();
        for effect in effects {
            match effect {
                membership::Effect::Send { to, msg } => {
                    self.send_scoped(&id, &to, Lane::Control, Kind::Membership, &msg.encode());
                }
                // Goes with its member's first record.
                membership::Effect::Spread { except: Some(from), credential: Some(member), .. } if large && from == member => {}
                membership::Effect::Spread { statement, except, credential } => match news.last_mut() {
                    // As one message, so that a revocation in several parts is seen whole: with what it keeps of 1,190 members at most.
                    Some((to, list))
                        if !(credential.is_some() && large)
                            && *to == except
                            && list.iter().map(|s| s.len()).sum::<usize>() + statement.len() <= together =>
                    {
                        list.push(statement.into());
                    }
                    _ => news.push((except, Vec::from([statement.into()]))),
                },
                membership::Effect::Changed => changed = true,
                membership::Effect::Credential { member } => {
                    credentials.insert(member);
                }
                membership::Effect::Surplus { member, .. } => {
                    self.emit(Event::Flagged { domain: id, node: member, why: Flag::Surplus });
                }
            }
        }
        for (except, statements) in news {
            if large {
                self.send_statements(now, id, statements, except);
                continue;
            }
            let body = membership::Msg::Give(statements).encode();
            let linked = self.domains.get(&id).map(Domain::linked).unwrap_or_default();
            for node in linked.iter().filter(|n| Some(**n) != except) {
                self.send_scoped(&id, node, Lane::Control, Kind::Membership, &body);
            }
        }
        if changed {
            self.roles_changed(now, id);
        } else if !credentials.is_empty() {
            self.credentials_changed(now, id, &credentials);
        }
    }

    /// Tells every part who is a member now, and in which role.
    pub(super) fn roles_changed(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let members = domain.membership.members(now);
        domain.next_change = domain.membership.next_change(now);
        let out = domain.known.keys().filter(|n| !members.contains_key(n)).map(|n| (*n, None));
        let roles = out.chain(members.iter().map(|(n, m)| (*n, Some(m.role)))).collect();
        self.tell_roles(now, id, roles);
    }

    /// Likewise where only these nodes' credentials are new: the others need not be looked at.
    fn credentials_changed(&mut self, now: Now, id: DomainId, nodes: &BTreeSet<NodeId>) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let membership = &domain.membership;
        domain.next_change = nodes.iter().filter_map(|n| membership.next_change_of(now, n)).chain(domain.next_change).min();
        let roles = nodes.iter().map(|n| (*n, membership.member(now, n).map(|m| m.role))).collect();
        self.tell_roles(now, id, roles);
    }

    fn tell_roles(&mut self, now: Now, id: DomainId, roles: Vec<(NodeId, Option<Role>)>) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.session.set_view(domain.membership.view());
        domain.spread.know(domain.membership.view(), &domain.membership.digest());
        let (mut new, mut out) = (Vec::new(), Vec::new());
        for (node, role) in roles {
            match role {
                Some(role) => {
                    let before = domain.known.insert(node, role);
                    if before != Some(role) {
                        domain.session.set_role(now, node, Some(role));
                    }
                    if before.is_none() {
                        new.push(node);
                    }
                }
                None if domain.known.remove(&node).is_some() => out.push(node),
                None => {}
            }
        }
        let mut effects = Vec::new();
        for node in &out {
            // Only who leaves by itself is waited for: nothing is known against it, and others may go with it.
            match domain.membership.gone(now, node) {
                membership::Gone::Evicted | membership::Gone::Expired => domain.session.set_role(now, *node, None),
                membership::Gone::Left => domain.session.depart(now, *node),
            }
            domain.views.unlinked(node);
            domain.directory.forget(now, *node, &mut effects);
            domain.detector.forget(node);
            domain.state.link_down(node);
            domain.channels.peer_gone(now, *node);
            domain.spread.forget(node);
            domain.greetings.remove(node);
            domain.contacts.remove(node);
            domain.lost.remove(node);
            domain.signals.forget(node);
        }
        match domain.known.get(&self.me) {
            Some(role) => domain.role = *role,
            None if !domain.joining => {
                self.keep_last_words(now, id);
                self.drop_domain(id);
                return;
            }
            None => {}
        }
        self.directory_effects(now, id, effects);
        self.channel_effects(id);
        self.view_changed(now, id);
        // Members that were linked before they were known to be members are greeted now.
        new.retain(|n| self.table.best(n).is_some());
        for node in new {
            if self.domains.get(&id).is_some_and(|d| !d.greetings.get(&node).is_some_and(|g| g.told)) {
                self.greet(now, id, node, false);
            }
        }
    }

    // ---- links ------------------------------------------------------------------------------------------------------

    /// Both Hellos hold on a link to this member.
    pub(super) fn linked(&mut self, now: Now, id: DomainId, node: NodeId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        if !domain.is_linked(&node) {
            return;
        }
        let (mut statements, mut records) = (Vec::new(), Vec::new());
        domain.membership.sync_with(now, node, &mut statements);
        domain.views.linked(now, node);
        domain.directory.link_up(now, node, &mut records);
        let mut probes = Vec::new();
        domain.detector.link_up(now, node, &mut probes);
        let data = domain.known.get(&node).copied().is_some_and(exchanges_data) && exchanges_data(domain.role);
        let mut shared = Vec::new();
        if data {
            domain.channels.link_up(now, node);
            domain.state.link_up(node, &mut shared);
        }
        domain.spread.link_up(now, node, data);
        let secret = domain.secret.clone();
        self.membership_effects(now, id, statements);
        if let Some(secret) = secret {
            self.send_scoped(&id, &node, Lane::Control, Kind::Welcome, &cbor::encode(&Welcome { secret: *secret }));
        }
        self.send_keys(now, id);
        self.tell_view_to(now, id, &only(node));
        self.directory_effects(now, id, records);
        self.detector_effects(now, id, probes);
        self.state_effects(now, id, shared);
    }

    /// The last link to a member broke, or it said goodbye on it; `doubt`: it may be gone, not only the link.
    pub(super) fn unlinked(&mut self, now: Now, id: DomainId, node: NodeId, doubt: bool) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.greetings.remove(&node);
        domain.membership.link_down(&node);
        domain.views.unlinked(&node);
        domain.spread.link_down(&node);
        domain.directory.link_down(node);
        domain.state.link_down(&node);
        domain.detector.link_down(now, node, doubt);
    }

    // ---- directory --------------------------------------------------------------------------------------------------

    pub(super) fn directory_message(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        let message = directory::Msg::decode(plaintext)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let known = &domain.known;
        let mut effects = Vec::new();
        let result = domain.directory.handle(now, from, message, &|n| known.get(n).copied(), &mut effects);
        if domain.spread.is_large() && effects.iter().any(directory::Effect::is_more_than_a_renewal) {
            // What a comparison brought did not come along the tree: if it is more than a renewal, a newcomer's first record above
            // all, it goes on from here.
            let joined = |e: &directory::Effect| match e {
                directory::Effect::Event(directory::Event::Joined { node }) => Some(*node),
                _ => None,
            };
            let new: Vec<NodeId> = effects.iter().filter_map(joined).collect();
            for effect in &mut effects {
                if let directory::Effect::Broadcast { msg: directory::Msg::Records(records), .. } = effect {
                    self.send_records(now, id, core::mem::take(records), &new, Some(from));
                }
            }
        }
        self.directory_effects(now, id, effects);
        if result == Err(Reject::Forbidden)
            && let Some(domain) = self.domains.get_mut(&id)
        {
            // A record of somebody whose credential this node lacks, most likely.
            let mut statements = Vec::new();
            domain.membership.sync_with(now, from, &mut statements);
            self.membership_effects(now, id, statements);
        }
        result
    }

    pub(super) fn directory_effects(&mut self, now: Now, id: DomainId, effects: Vec<directory::Effect>) {
        for effect in effects {
            match effect {
                directory::Effect::Broadcast { msg: directory::Msg::Records(records), except }
                    if self.domains.get(&id).is_some_and(|d| d.spread.is_large()) =>
                {
                    // The tree hands others' news on by itself.
                    if except.is_none() {
                        self.send_records(now, id, records, &[], None);
                    }
                }
                directory::Effect::Broadcast { msg, except } => {
                    let mut to = self.domains.get(&id).map(Domain::linked).unwrap_or_default();
                    if let Some(node) = except {
                        to.remove(&node);
                    }
                    self.send_sealed(now, id, Topic::Directory, &to, Lane::Control, &msg.encode());
                }
                directory::Effect::Send { to, msg } => {
                    self.send_sealed(now, id, Topic::Directory, &only(to), Lane::Control, &msg.encode());
                }
                directory::Effect::Learned { node, incarnation, presence } => {
                    if let Some(domain) = self.domains.get_mut(&id) {
                        domain.detector.learn(now, node, incarnation, presence == directory::Presence::Online);
                    }
                }
                directory::Effect::Dropped { node } => {
                    if let Some(domain) = self.domains.get_mut(&id) {
                        domain.detector.unlearn(&node);
                    }
                }
                directory::Effect::Event(event) => self.directory_event(now, id, event),
            }
        }
    }

    fn directory_event(&mut self, now: Now, domain: DomainId, event: directory::Event) {
        self.tick_within(now, NEWS);
        let (node, change) = match event {
            directory::Event::Degraded { capability } => return self.emit(Event::Degraded { domain, capability }),
            directory::Event::Restored { capability } => return self.emit(Event::Restored { domain, capability }),
            directory::Event::Joined { node } => (node, Change::Joined),
            directory::Event::Updated { node } => (node, Change::Updated),
            directory::Event::Down { node } => (node, Change::Down),
            directory::Event::Left { node } => (node, Change::Left),
        };
        if let Some(d) = self.domains.get_mut(&domain) {
            let role = d.known.get(&node).copied();
            let status = d.directory.get(now, &node, &|_| role).map(|p| p.presence);
            d.spread.row(node, status, role);
        }
        if change == Change::Joined {
            self.dial_soon(now, node);
        }
        if change == Change::Left || change == Change::Down {
            if let Some(d) = self.domains.get_mut(&domain) {
                d.contacts.remove(&node);
                if change == Change::Left {
                    d.lost.remove(&node);
                    d.channels.peer_gone(now, node);
                } else {
                    d.lost.insert(node, now.mono.after(GIVE_UP));
                }
            }
            self.channel_effects(domain);
        } else if let Some(d) = self.domains.get_mut(&domain) {
            d.lost.remove(&node);
        }
        if node != self.me {
            self.mark_unsaved(domain, Part::Contacts);
            self.emit(Event::Participant { domain, node, change });
        }
    }

    // ---- channels ---------------------------------------------------------------------------------------------------

    pub(super) fn channel_message(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let result = domain.channels.handle(now, from, plaintext);
        self.channel_effects(id);
        result
    }

    pub(super) fn channel_effects(&mut self, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        while let Some(effect) = domain.channels.poll_effect() {
            self.outputs.push_back(match effect {
                channel::Effect::SendDone { id: send, missed, taken } => Output::Sent { domain: id, id: send, missed, taken },
                channel::Effect::Readable { channel } => Output::Readable { domain: id, channel },
            });
        }
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    pub(super) fn domain_timeouts(&mut self, now: Now, id: DomainId, tick: bool) {
        self.renew(now, id);
        let Some(domain) = self.domains.get_mut(&id) else { return };
        if domain.next_change.is_some_and(|at| at <= now.wall) {
            self.roles_changed(now, id);
        }
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let (mut statements, mut records) = (Vec::new(), Vec::new());
        domain.membership.on_timeout(now, &mut statements);
        for node in domain.directory.expiring(now) {
            if domain.detector.hears(now, &node) {
                domain.directory.spare(now, node);
            }
        }
        domain.directory.on_timeout(now, &mut records);
        let mut probes = Vec::new();
        domain.detector.on_timeout(now, &mut probes);
        let mut shared = Vec::new();
        domain.state.on_timeout(now, &mut shared);
        let lost: Vec<NodeId> = domain.lost.iter().filter(|(_, at)| **at <= now.mono).map(|(node, _)| *node).collect();
        for node in lost {
            // Whoever is linked was taken for down wrongly, or will be unlinked.
            if domain.is_linked(&node) {
                domain.lost.insert(node, now.mono.after(GIVE_UP));
            } else {
                domain.lost.remove(&node);
                domain.channels.peer_lost(now, node);
            }
        }
        domain.channels.on_timeout(now);
        let renewed = tick && domain.session.on_timeout(now);
        self.spread_timeouts(now, id);
        self.membership_effects(now, id, statements);
        self.views_timeouts(now, id);
        if renewed {
            self.send_prekey(id);
        }
        self.directory_effects(now, id, records);
        self.detector_effects(now, id, probes);
        self.state_effects(now, id, shared);
        self.channel_effects(id);
    }

    /// This node's prekey record is new: every linked member gets it.
    fn send_prekey(&mut self, id: DomainId) {
        let Some(domain) = self.domains.get(&id) else { return };
        let body = cbor::encode(&hello::Keys::Prekey(domain.session.prekey_record().to_vec().into()));
        for node in domain.linked() {
            self.send_scoped(&id, &node, Lane::Control, Kind::Keys, &body);
        }
    }

    // ---- overlay ----------------------------------------------------------------------------------------------------

    pub(super) fn overlay_message(&mut self, now: Now, from: NodeId, body: &[u8]) -> Result<(), Reject> {
        let message = overlay::Msg::decode(body)?;
        match message {
            // To a relay, from a member or a joiner.
            overlay::Msg::Put(_) => self.registry_message(now, from, message),
            overlay::Msg::Request(ref request) => {
                if self.registry.is_some() {
                    return self.registry_message(now, from, message);
                }
                self.member_request(now, from, request)
            }
            // To a relay from the member that was asked, or to who asked.
            overlay::Msg::Response(ref response) => {
                if self.registry.is_some() {
                    return self.registry_message(now, from, message);
                }
                self.seeker_response(now, from, response)
            }
        }
    }

    fn registry_message(&mut self, now: Now, from: NodeId, message: overlay::Msg) -> Result<(), Reject> {
        let registry = self.registry.as_mut().ok_or(Reject::Forbidden)?;
        let mut effects = Vec::new();
        let result = registry.handle(now, from, message, &mut effects);
        self.overlay_effects(effects);
        result
    }

    pub(super) fn overlay_effects(&mut self, effects: Vec<overlay::Effect>) {
        for overlay::Effect { to, msg } in effects {
            self.send_frame(&to, Lane::Control, Kind::Overlay, &msg.encode());
        }
    }

    pub(super) fn overlay_disconnected(&mut self, now: Now, node: NodeId) {
        let mut effects = Vec::new();
        if let Some(registry) = &mut self.registry {
            registry.disconnected(now, node, &mut effects);
        }
        self.overlay_effects(effects);
    }

    pub(super) fn overlay_timeouts(&mut self, now: Now) {
        let mut effects = Vec::new();
        if let Some(registry) = &mut self.registry {
            registry.on_timeout(now, &mut effects);
        }
        let relays = self.relay_links();
        for domain in self.domains.iter_mut().map(|(_, v)| v) {
            if let Some(locator) = &mut domain.locator {
                locator.on_timeout(now, &relays, &mut effects);
            }
        }
        self.overlay_effects(effects);
    }

    /// A relay came or went: records are left there, seekers ask through it.
    pub(super) fn relays_changed(&mut self, now: Now) {
        self.overlay_timeouts(now);
        self.join_relays(now);
        self.find_again(now);
    }
}
