//! What the platform reports, and the passing of time.

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Event, LinkInfo, Path, Peer,
    dialling::is_own,
    domain::Greeting,
    hello::{Hello, Keys, Refuse, Welcome},
    link::{Lane, LinkCommand, LinkEvent},
    seal::Topic,
    spread::LINK_ONLY,
};
use crate::base::{DomainId, Error, LinkId, Mono, NodeId, Now, Reject, limit};
use crate::crypto::{Role, sign::SIGNATURE, tag};
use crate::wire::cbor;
use crate::wire::frame::{self, Kind};

/// How often links, dials and joins are looked after.
const TICK: Duration = Duration::from_millis(500);
/// At most this often the same member is asked for its keys.
const ASK: Duration = Duration::from_millis(250);

impl Peer {
    /// Takes one thing the platform reports.
    pub fn handle(&mut self, now: Now, event: LinkEvent) {
        self.notice_sleep(now);
        if matches!(event, LinkEvent::Up { .. } | LinkEvent::Down { .. } | LinkEvent::Relay { .. } | LinkEvent::Addresses(_)) {
            self.tick_within(now, Duration::ZERO);
        }
        match event {
            LinkEvent::Up { link, node, path, side, address, datagrams } => {
                if self.table.len() >= limit::LINKS {
                    self.command_link(LinkCommand::Close { link });
                    return;
                }
                let before = self.table.best(&node).map(|(_, l)| l.path);
                self.table.up(now.mono, link, node, path, side, address);
                if let Some(link) = self.table.get_mut(link) {
                    link.datagrams = datagrams;
                }
                self.dial_succeeded(now, node);
                self.link_up(now, node);
                self.tell_path(node, before);
            }
            LinkEvent::Down { link } => {
                if let Some(old) = self.table.down(link) {
                    self.link_down(now, old.node);
                    self.tell_path(old.node, Some(old.path));
                }
            }
            LinkEvent::Frame { link, lane, frame } => self.frame(now, link, lane, &frame),
            LinkEvent::Drained { link, lane, bytes } => self.table.drained(link, lane, bytes),
            LinkEvent::DialFailed { node, code, reason } => {
                if self.table.best(&node).is_some() && self.domains.values().any(|d| d.is_linked(&node)) {
                    self.emit(Event::DirectFailed { node, code });
                }
                if let Some(probe) = self.probes.get_mut(&node) {
                    probe.end = Some(Err(Error::new(code, reason)));
                }
                self.dial_failed(now, node);
            }
            LinkEvent::Foreign { node, path, address, rtt } => {
                if let Some(probe) = self.probes.get_mut(&node) {
                    probe.end =
                        Some(Ok(LinkInfo { node, path: Some(path), rtt: Some(rtt), sent: 0, received: 0, address, datagrams: false }));
                }
                self.dial_failed(now, node);
            }
            LinkEvent::Addresses(addresses) => {
                let before = core::mem::replace(&mut self.addresses, addresses);
                self.emit(Event::Addresses);
                self.publish_all(now);
                // An address of this machine is gone, and with it what went over it.
                if before.iter().any(|a| is_own(a) && !self.addresses.contains(a)) {
                    self.wake(now);
                }
            }
            LinkEvent::Relay { address, up } => {
                if self.relay_stands(now, &address, up) {
                    if up {
                        self.dial_again(now);
                    }
                    self.emit(Event::Relay { address, up });
                    self.mark_contacts_unsaved();
                    self.relays_changed(now);
                }
            }
            LinkEvent::Signal { node, message } => self.signal(now, node, message),
            LinkEvent::Rtt { link, rtt } => {
                if let Some(link) = self.table.get_mut(link) {
                    link.rtt = Some(rtt);
                }
            }
        }
        // A hidden tab's timers are held back, its links are not: what is due is done here too.
        if self.next_timeout().is_some_and(|due| due <= now.mono) {
            self.on_timeout(now);
        } else {
            self.settle(now);
        }
    }

    /// Lets time pass. Early and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        self.notice_sleep(now);
        // What looks at every member is done at ticks only: the machines below have deadlines much more often.
        let tick = self.tick.is_none_or(|at| at <= now.mono);
        if tick {
            self.tick = Some(now.mono.after(TICK));
            for link in self.table.retire(now.mono) {
                self.command_link(LinkCommand::Close { link });
            }
            self.keep_relays(now);
        }
        self.join_timeouts(now);
        self.overlay_timeouts(now);
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            self.domain_timeouts(now, id, tick);
        }
        if tick {
            self.greet_again(now);
            self.find_members(now);
            self.dial_members(now);
            self.close_spare_links(now);
        }
        self.settle(now);
    }

    /// The next tick comes in this time at the latest: something changed that dials or greetings may follow.
    pub(super) fn tick_within(&mut self, now: Now, time: Duration) {
        let at = now.mono.after(time);
        self.tick = Some(self.tick.map_or(at, |tick| tick.min(at)));
    }

    /// When [`Peer::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let parts = self.domains.values().flat_map(|d| {
            let locator = d.locator.as_ref().and_then(|l| l.next_timeout());
            // The session's turn comes with the tick.
            let machines = [d.directory.next_timeout(), d.detector.next_timeout(), d.channels.next_timeout()];
            machines.into_iter().chain([d.state.next_timeout(), d.spread.next_timeout(), locator])
        });
        let seekers = self.joins.values().filter_map(|j| j.next_timeout());
        let idle = self.domains.is_empty() && self.joins.is_empty() && self.table.len() == 0;
        let tick = if idle && self.registry.is_none() { None } else { Some(self.tick.unwrap_or_default()) };
        parts.flatten().chain(seekers).chain(tick).min()
    }

    /// After every input: what became sendable is sent.
    pub(super) fn settle(&mut self, now: Now) {
        let ids: Vec<DomainId> = self.domains.keys().copied().collect();
        for id in ids {
            self.send_keys(now, id);
            self.send_channels(now, id);
            self.send_casts(now, id);
            self.channel_effects(id);
        }
    }

    fn link_up(&mut self, now: Now, node: NodeId) {
        if self.relays.values().any(|r| r.node == node) {
            self.relays_changed(now);
        }
        let ids: Vec<DomainId> =
            self.domains.iter().filter(|(_, d)| d.known.contains_key(&node) || d.contacts.contains_key(&node)).map(|(id, _)| *id).collect();
        for id in ids {
            self.greet(now, id, node, false);
        }
    }

    fn link_down(&mut self, now: Now, node: NodeId) {
        let gone = self.table.best(&node).is_none();
        if gone {
            self.overlay_disconnected(now, node);
        }
        let ids: Vec<DomainId> = self.domains.iter().filter(|(_, d)| d.is_linked(&node)).map(|(id, _)| *id).collect();
        for id in ids {
            if gone {
                self.unlinked(now, id, node, true);
            } else if let Some(domain) = self.domains.get_mut(&id) {
                // Frames may have been lost with the old link; the other one resumes.
                domain.channels.link_up(now, node);
            }
        }
    }

    fn tell_path(&mut self, node: NodeId, before: Option<Path>) {
        let after = self.table.best(&node).map(|(_, l)| l.path);
        if before != after {
            self.emit(Event::Link { node, path: after });
        }
    }

    /// Sends this node's Hello for a domain.
    pub(super) fn greet(&mut self, now: Now, id: DomainId, node: NodeId, answer: bool) {
        let nonce = self.rng.bytes();
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let hello = Hello {
            chain: domain.membership.chain(now, &self.me).into_iter().map(Into::into).collect(),
            prekey: domain.session.prekey_record().to_vec().into(),
            nonce,
            proof: [0; SIGNATURE],
            answer,
            epoch: domain.spread.epoch(),
        };
        let hello = hello.sign(&self.identity, &id, &node);
        if self.send_scoped(&id, &node, Lane::Control, Kind::Hello, &cbor::encode(&hello))
            && let Some(domain) = self.domains.get_mut(&id)
        {
            let greeting = domain.greetings.entry(node).or_default();
            greeting.tries = if greeting.told { greeting.tries.saturating_add(1) } else { 0 };
            (greeting.told, greeting.told_at) = (true, now.mono);
        }
    }

    fn frame(&mut self, now: Now, link: LinkId, lane: Lane, bytes: &[u8]) {
        let Some(entry) = self.table.get_mut(link) else { return };
        entry.received += bytes.len() as u64;
        let node = entry.node;
        let mut about = None;
        let Err(reject) = self.dispatch(now, link, node, bytes, &mut about) else { return };
        // A datagram may overtake the key that it is sealed under, which is on its way.
        if lane != Lane::Datagram || reject != Reject::UnknownKey {
            self.refuse(now, node, about, reject);
        }
    }

    fn dispatch(&mut self, now: Now, link: LinkId, node: NodeId, bytes: &[u8], about: &mut Option<DomainId>) -> Result<(), Reject> {
        let frame = frame::decode(bytes)?;
        match frame.kind {
            Kind::Overlay => return self.overlay_message(now, node, frame.body),
            Kind::Refuse => {
                let refuse: Refuse = cbor::decode(frame.body)?;
                let code = refuse.code().ok_or(Reject::Malformed)?;
                self.emit(Event::Refused { node, code, by_us: false });
                return Ok(());
            }
            _ => {}
        }
        let (pair, body) = frame.body.split_first_chunk::<8>().ok_or(Reject::Malformed)?;
        let id = self.domains.keys().copied().find(|id| tag::pair_tag(id, &self.me, &node) == *pair).ok_or(Reject::Misdirected)?;
        *about = Some(id);
        if frame.kind == Kind::Hello {
            return self.hello(now, id, link, node, &cbor::decode(body)?);
        }
        let domain = self.domains.get(&id).ok_or(Reject::Misdirected)?;
        if !domain.greetings.get(&node).is_some_and(|g| g.heard) {
            return Err(Reject::Forbidden);
        }
        self.heard(now, id, node);
        match frame.kind {
            Kind::Welcome => self.welcome(now, id, &cbor::decode::<Welcome>(body)?),
            Kind::Membership => self.membership_message(now, id, node, body),
            Kind::Keys => self.keys(now, id, node, cbor::decode(body)?),
            Kind::Goodbye => {
                self.unlinked(now, id, node, body != LINK_ONLY);
                Ok(())
            }
            Kind::Sealed => {
                let (sender, topic, plaintext) = self.open(now, id, body)?;
                match topic {
                    Topic::Directory => self.directory_message(now, id, sender, &plaintext),
                    Topic::Channels => self.channel_message(now, id, sender, &plaintext),
                    Topic::State => self.state_message(now, id, sender, &plaintext),
                    Topic::Notices => self.notice(now, id, sender, &plaintext),
                    Topic::Casts => self.casts_message(now, id, sender, &plaintext),
                    Topic::News => self.news_message(now, id, sender, &plaintext),
                    Topic::Signals => self.signal_message(now, id, sender, &plaintext),
                    Topic::Probes => self.probe_message(now, id, node, sender, &plaintext),
                }
            }
            Kind::Hello | Kind::Overlay | Kind::Refuse => Err(Reject::UnknownKind),
        }
    }

    fn hello(&mut self, now: Now, id: DomainId, link: LinkId, node: NodeId, hello: &Hello) -> Result<(), Reject> {
        hello.verify(&id, &node, &self.me)?;
        for statement in &hello.chain {
            self.insert_from(now, id, node, statement)?;
        }
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        if domain.membership.member(now, &node).is_none() {
            return Err(Reject::Forbidden);
        }
        domain.session.learn_prekey(now, &hello.prekey)?;
        let greeting = domain.greetings.entry(node).or_insert_with(Greeting::default);
        let another = greeting.heard && hello.epoch > greeting.epoch;
        // Who has heard this node and was heard before has all that goes with it.
        let begins = another || !greeting.heard || !hello.answer;
        (greeting.heard, greeting.epoch) = (true, hello.epoch.max(greeting.epoch));
        if another {
            // The process that those links led to is gone, though nobody has closed them: what is sent there is lost.
            for link in self.table.older(link) {
                self.command_link(LinkCommand::Close { link });
            }
        }
        if !hello.answer {
            self.greet(now, id, node, true);
        }
        if begins {
            self.linked(now, id, node);
        }
        Ok(())
    }

    fn keys(&mut self, now: Now, id: DomainId, node: NodeId, keys: Keys) -> Result<(), Reject> {
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        match keys {
            Keys::Prekey(record) => domain.session.learn_prekey(now, &record).map(|_| ()),
            Keys::Message(message) => {
                let view = domain.session.accept_key_message(now, node, &message)?;
                self.view_told(now, id, node, view);
                Ok(())
            }
            Keys::Request => {
                domain.session.resend_keys(now, node)?;
                // What was sent under the keys that it lacks is lost to it.
                let mut effects = Vec::new();
                if domain.is_linked(&node) {
                    domain.directory.link_up(now, node, &mut effects);
                }
                self.directory_effects(now, id, effects);
                Ok(())
            }
        }
    }

    /// Counts what was refused, asks for missing keys, and tells the remote where that helps it.
    fn refuse(&mut self, now: Now, node: NodeId, about: Option<DomainId>, reject: Reject) {
        if let Some(domain) = about.and_then(|id| self.domains.get_mut(&id)) {
            domain.reject(reject);
            if reject == Reject::UnknownKey
                && let Some(greeting) = domain.greetings.get_mut(&node)
                && greeting.asked.is_none_or(|at| now.mono.since(at) >= ASK)
            {
                greeting.asked = Some(now.mono);
                let id = domain.id;
                self.send_scoped(&id, &node, Lane::Control, Kind::Keys, &cbor::encode(&Keys::Request));
                return;
            }
            // It has heard this node, or it would send nothing; its answer was lost, and it does not know.
            if domain.greetings.get(&node).is_some_and(|g| g.told && !g.heard && now.mono.since(g.told_at) >= REFUSAL) {
                let id = domain.id;
                self.greet(now, id, node, false);
                return;
            }
        }
        // These are the ordinary weather of a network; the rest is somebody's mistake or malice.
        if matches!(reject, Reject::Stale | Reject::UnknownKey | Reject::Limit) {
            return;
        }
        if let Some(at) = self.table.refusable(&node, now.mono, REFUSAL) {
            *at = Some(now.mono);
            self.tell_refusal(node, reject.code());
        }
    }
}

/// At most this often one node is told of a refusal, or greeted because of one.
const REFUSAL: Duration = Duration::from_secs(1);

/// Whether a role takes part in channels.
pub(super) fn exchanges_data(role: Role) -> bool {
    role == Role::Participant
}
