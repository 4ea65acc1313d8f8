//! A domain too large for a link to each: with whom to be linked, and what goes to everybody over those links.
//!
//! Two trees. In the data class, among participants, casts: what an application sends to all. In the control class, among all
//! members, the directory's news and the membership's statements. What travels is signed by its origin; each hop seals it for its own neighbours, so that
//! only neighbours need one another's keys.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;
use minicbor::bytes::ByteVec;

use super::{
    Peer,
    domain::Domain,
    link::{Lane, LinkCommand, Side},
    seal::Topic,
};
use crate::base::{DomainId, Gather, Map, Mono, NodeId, Now, Reject, limit};
use crate::crypto::{Class, Role};
use crate::proto::{
    broadcast::{self, Broadcast, Cast, Mesh, Msg, Replays},
    directory::{self, Status},
    membership,
};
use crate::wire::{cbor, frame::Kind};

/// How long a link is sought, and kept, for a message to somebody who is no neighbour.
const WANTED: Duration = Duration::from_secs(60);
/// Members that asked to be dialled, at a time …
const CALLERS: usize = 16;
/// … how often one is, at most, if that leads nowhere: the addresses are its own to choose, and may be a third party's …
const VAIN: u32 = 2;
/// … and when it may ask again then.
const CALLED_AGAIN: Duration = Duration::from_secs(120);
/// How long a link that nothing needs is kept.
const SPARE: Duration = Duration::from_secs(60);
/// How long a cast waits for company before neighbours outside the tree are told of it.
const CASTS_TOLD: Duration = Duration::from_millis(100);
/// News is also found by the directories' comparisons, so that telling of it can wait.
const NEWS_TOLD: Duration = Duration::from_secs(5);
/// So many neighbours are told of it.
const NEWS_LAZY: usize = 3;
/// How often a cast is asked for once more. News that was lost is brought by comparisons.
const CASTS_AGAIN: u8 = 24;
/// The body of a goodbye to a link, and not to the domain.
pub(super) const LINK_ONLY: [u8; 1] = [1];
/// Hashes of revocations remembered.
const VIEWS: usize = 256;
/// Bytes of statements that the tree takes as one piece of news, what is said around each left out.
pub(super) const STATEMENTS: usize = broadcast::BODY - 512;
/// So long after it opened a domain a node hands nothing on that a comparison brought: it is the one that lacked it.
const NEWCOMER: Duration = Duration::from_secs(10);

/// What travels along the control class' tree.
#[derive(minicbor::Encode, minicbor::Decode)]
enum News {
    /// Directory records, with the credentials of those that are new: without them nobody would take their records.
    #[n(0)]
    Records(#[n(0)] Vec<directory::Item>, #[n(1)] Vec<ByteVec>),
    /// Statements that belong together.
    #[n(1)]
    Statements(#[n(0)] Vec<ByteVec>),
}

/// A member that asked to be dialled.
struct Caller {
    at: Mono,
    sought: bool,
}

/// What a domain keeps for this.
pub(super) struct Spread {
    /// The participants online.
    pub live: Mesh,
    /// All that have not left: whom a partition hides is among them.
    listed: Mesh,
    /// Participants that messages are for, though they are no neighbours.
    wanted: Map<NodeId, Mono>,
    /// Members that asked to be dialled lately, and that no link came of yet.
    callers: Map<NodeId, Caller>,
    casts: Broadcast,
    news: Broadcast,
    replays: Replays,
    epoch: u64,
    opened: Mono,
    seq: u64,
    /// The hashes of the revocations this node knew of, the newest last.
    views: VecDeque<[u8; 32]>,
}

impl Spread {
    pub fn new(domain: DomainId, me: NodeId, now: Now) -> Spread {
        Spread {
            live: Mesh::new(domain, me),
            listed: Mesh::new(domain, me),
            wanted: Map::new(),
            callers: Map::new(),
            casts: Broadcast::new(me, CASTS_TOLD, usize::MAX, CASTS_AGAIN),
            news: Broadcast::new(me, NEWS_TOLD, NEWS_LAZY, 0),
            replays: Replays::default(),
            epoch: now.wall.0,
            opened: now.mono,
            seq: 0,
            views: VecDeque::new(),
        }
    }

    /// What the two trees hold.
    #[cfg(feature = "sim")]
    pub fn usage(&self) -> [broadcast::Usage; 2] {
        [self.casts.usage(), self.news.usage()]
    }

    /// When this node opened the domain: what it sends after a restart has a higher one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there are too many for a link to each.
    pub fn is_large(&self) -> bool {
        !self.listed.is_full()
    }

    /// With whom links are sought; `None`: with everybody.
    pub fn sought(&self) -> Option<BTreeSet<NodeId>> {
        self.is_large().then(|| {
            let mut sought = self.live.neighbours();
            sought.append(&mut self.listed.neighbours());
            sought.extend(self.wanted.keys().copied());
            sought.extend(self.callers.iter().filter(|(_, c)| c.sought).map(|(n, _)| *n));
            sought
        })
    }

    /// A member asks to be dialled. False if it did a moment ago and no link came of it, or too many others did.
    pub fn called(&mut self, now: Now, node: NodeId) -> bool {
        let takes = self.callers.len() < CALLERS && !self.callers.contains_key(&node);
        if takes {
            self.callers.insert(node, Caller { at: now.mono, sought: true });
        }
        takes
    }

    /// Whether it asked to be dialled, so that asking it would not help.
    pub fn has_called(&self, node: &NodeId) -> bool {
        self.callers.contains_key(node)
    }

    /// A member was dialled in vain so often: one that asked for it is not sought any longer.
    pub fn dialled_in_vain(&mut self, node: &NodeId, failures: u32) {
        if let Some(caller) = self.callers.get_mut(node).filter(|_| failures >= VAIN) {
            caller.sought = false;
        }
    }

    /// A node's row in the directory changed.
    pub fn row(&mut self, node: NodeId, status: Option<Status>, role: Option<Role>) {
        let status = status.filter(|_| role == Some(Role::Participant));
        match status {
            Some(Status::Online | Status::Suspended) => self.live.insert(node),
            _ => self.live.remove(&node),
        }
        match status {
            Some(s) if s != Status::Left => self.listed.insert(node),
            _ => self.listed.remove(&node),
        }
    }

    /// The membership changed: the hash of the revocations known now, and what is known in all.
    pub fn know(&mut self, view: [u8; 32], digest: &[u8; 32]) {
        if self.views.back() != Some(&view) {
            self.views.push_back(view);
            if self.views.len() > VIEWS {
                self.views.pop_front();
            }
        }
        let mut known = [0; 8];
        known.copy_from_slice(&digest[..8]);
        self.casts.know(known);
        self.news.know(known);
    }

    pub fn forget(&mut self, node: &NodeId) {
        self.row(*node, None, None);
        self.wanted.remove(node);
        self.callers.remove(node);
        self.replays.forget(node);
        self.link_down(node);
    }

    pub fn link_up(&mut self, now: Now, node: NodeId, exchanges_data: bool) {
        // What it called for is about to come; no link that this node wants itself is given up for it.
        if self.callers.remove(&node).is_some() && self.wanted.len() < limit::WANTED {
            self.wanted.insert(node, now.mono.after(WANTED));
        }
        self.news.link_up(now, node);
        if exchanges_data {
            self.casts.link_up(now, node);
        }
    }

    pub fn link_down(&mut self, node: &NodeId) {
        self.news.link_down(node);
        self.casts.link_down(node);
    }

    pub fn next_timeout(&self) -> Option<Mono> {
        self.casts.next_timeout().into_iter().chain(self.news.next_timeout()).min()
    }
}

impl Domain {
    /// Whether this node opened the domain just now: what comparisons bring is news to it alone.
    fn is_new(&self, now: Now) -> bool {
        now.mono.since(self.spread.opened) < NEWCOMER
    }
}

impl Peer {
    /// Seeks a link to a participant for a minute, where this node is not linked with everybody, and keeps one that is there.
    pub fn want_link(&mut self, now: Now, id: DomainId, node: NodeId) {
        self.want_links(now, id, &[node]);
    }

    /// Seeks links to participants that a message is for, where this node is not linked with everybody.
    pub(super) fn want_links(&mut self, now: Now, id: DomainId, nodes: &[NodeId]) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        if !domain.spread.is_large() {
            return;
        }
        for node in nodes {
            domain.spread.wanted.insert(*node, now.mono.after(WANTED));
        }
        while domain.spread.wanted.len() > limit::WANTED {
            let Some(node) = domain.spread.wanted.iter().min_by_key(|(_, at)| **at).map(|(n, _)| *n) else { break };
            domain.spread.wanted.remove(&node);
        }
        self.tick_within(now, Duration::ZERO);
    }

    /// Casts what the channels have for everybody, as far as links take it.
    pub(super) fn send_casts(&mut self, now: Now, id: DomainId) {
        loop {
            let Some(domain) = self.domains.get_mut(&id).filter(|d| d.role == Role::Participant && !d.views.holds(now)) else { return };
            let (table, greetings) = (&self.table, &domain.greetings);
            let room = |node: &NodeId| greetings.get(node).is_some_and(|g| g.done()) && table.has_room(node, Lane::Bulk);
            // With no neighbour it waits; with some, one that has room will hand it on.
            if !domain.known.iter().any(|(n, role)| *role == Role::Participant && room(n)) {
                return;
            }
            let Some(body) = domain.channels.poll_cast() else { return };
            domain.spread.seq += 1;
            let view = domain.membership.view();
            let cast = Cast { origin: self.me, epoch: domain.spread.epoch, seq: domain.spread.seq, view, created: now.wall, body };
            let bytes = cast.sign(&id, &self.identity);
            let mut effects = Vec::new();
            domain.spread.casts.publish(now, bytes, false, None, &room, &mut effects);
            self.spread_effects(now, id, Topic::Casts, effects);
        }
    }

    /// Hands records to the tree that this node signed or has `from` a neighbour by another way; those of `new` members, and its own while
    /// it is one, with their credentials.
    pub(super) fn send_records(&mut self, now: Now, id: DomainId, records: Vec<directory::Item>, new: &[NodeId], from: Option<NodeId>) {
        let Some(domain) = self.domains.get(&id) else { return };
        // To a newcomer all is news, but that somebody came after it is news to the others too.
        if domain.is_new(now) && from.is_some_and(|from| new != [from]) {
            return;
        }
        let own = (from.is_none() && domain.is_new(now)).then_some(&self.me);
        let credential = |node: &NodeId| domain.membership.chain(now, node).pop().map(ByteVec::from);
        let credentials = new.iter().chain(own).filter_map(credential).collect();
        self.send_news(now, id, &News::Records(records, credentials), from);
    }

    /// Hands statements to the tree likewise.
    pub(super) fn send_statements(&mut self, now: Now, id: DomainId, statements: Vec<ByteVec>, from: Option<NodeId>) {
        if from.is_none() || self.domains.get(&id).is_some_and(|d| !d.is_new(now)) {
            self.send_news(now, id, &News::Statements(statements), from);
        }
    }

    fn send_news(&mut self, now: Now, id: DomainId, news: &News, from: Option<NodeId>) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let mut effects = Vec::new();
        domain.spread.news.publish(now, cbor::encode(news), true, from, &|_| true, &mut effects);
        self.spread_effects(now, id, Topic::News, effects);
    }

    /// What several neighbours get alike is sealed once.
    fn spread_effects(&mut self, now: Now, id: DomainId, topic: Topic, effects: Vec<broadcast::Effect>) {
        for alike in effects.chunk_by(|a, b| a.msg == b.msg) {
            let Some(broadcast::Effect { msg, .. }) = alike.first() else { continue };
            let bulk = topic == Topic::Casts && matches!(msg, Msg::Gossip { .. });
            let lane = if bulk { Lane::Bulk } else { Lane::Control };
            let to = alike.iter().map(|e| e.to).gather();
            self.send_sealed(now, id, topic, &to, lane, &msg.encode());
        }
    }

    /// A neighbour's message of the data class' tree.
    pub(super) fn casts_message(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        let message = Msg::decode(plaintext)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let Domain { spread, membership, known, greetings, channels, .. } = domain;
        let Spread { casts, replays, views, .. } = spread;
        let (me, table) = (self.me, &self.table);
        let room = |node: &NodeId| greetings.get(node).is_some_and(|g| g.done()) && table.has_room(node, Lane::Bulk);
        let (mut effects, mut taken, mut behind) = (Vec::new(), Vec::new(), false);
        let mut accept = |bytes: &[u8], told: [u8; 8]| {
            let cast = Cast::parse(bytes)?;
            if cast.origin == me {
                return Err(Reject::Stale);
            }
            match known.get(&cast.origin) {
                Some(Role::Participant) => {}
                Some(Role::Manager) => return Err(Reject::Forbidden),
                // Its credential may be on its way.
                None => return Err(Reject::UnknownKey),
            }
            replays.check(now, &cast)?;
            // Handed on only by those who know of every removal its origin knew of, or know all that the neighbour knows who did.
            if !views.contains(&cast.view) && membership.digest()[..8] != told {
                behind = true;
                return Err(Reject::UnknownKey);
            }
            cast.verify(&id, bytes)?;
            replays.take(&cast);
            taken.push(cast);
            Ok(false)
        };
        let mut result = casts.handle(now, from, message, &room, &mut accept, &mut effects);
        for cast in taken {
            result = result.and(channels.handle(now, cast.origin, &cast.body));
        }
        if behind {
            let mut statements = Vec::new();
            membership.sync_with(now, from, &mut statements);
            self.membership_effects(now, id, statements);
        }
        self.channel_effects(id);
        self.spread_effects(now, id, Topic::Casts, effects);
        result
    }

    /// A neighbour's message of the control class' tree.
    pub(super) fn news_message(&mut self, now: Now, id: DomainId, from: NodeId, plaintext: &[u8]) -> Result<(), Reject> {
        let message = Msg::decode(plaintext)?;
        let domain = self.domains.get_mut(&id).ok_or(Reject::Misdirected)?;
        let Domain { spread, directory, membership, known, .. } = domain;
        let (mut effects, mut records, mut statements) = (Vec::new(), Vec::new(), Vec::new());
        // Only what is news goes on; more than a renewal soon.
        let mut accept = |bytes: &[u8], _: [u8; 8]| match cbor::decode(bytes)? {
            News::Records(items, credentials) => {
                let (before, told) = (directory.digest(), records.len());
                if !credentials.is_empty() {
                    // One that is refused leaves its record refused.
                    let _ = membership.handle(now, from, membership::Msg::Give(credentials), &mut statements);
                }
                let role = |n: &NodeId| known.get(n).copied().or_else(|| membership.member(now, n).map(|m| m.role));
                match directory.handle(now, from, directory::Msg::Records(items), &role, &mut records) {
                    // Its credential may be on its way.
                    Err(Reject::Forbidden) if known.contains_key(&from) => return Err(Reject::UnknownKey),
                    result => result?,
                }
                let more = records[told..].iter().any(directory::Effect::is_more_than_a_renewal);
                if directory.digest() == before { Err(Reject::Stale) } else { Ok(more) }
            }
            News::Statements(list) => {
                let before = membership.digest();
                let result = membership.handle(now, from, membership::Msg::Give(list), &mut statements);
                if membership.digest() == before { result.and(Err(Reject::Stale)) } else { Ok(true) }
            }
        };
        let result = spread.news.handle(now, from, message, &|_| true, &mut accept, &mut effects);
        // The tree hands it on.
        statements.retain(|effect| !matches!(effect, membership::Effect::Spread { .. }));
        if !statements.is_empty() {
            self.membership_effects(now, id, statements);
        }
        self.directory_effects(now, id, records);
        self.spread_effects(now, id, Topic::News, effects);
        result
    }

    pub(super) fn spread_timeouts(&mut self, now: Now, id: DomainId) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        domain.spread.wanted.retain(|node, until| now.mono < *until || domain.channels.owes(node));
        domain.spread.callers.retain(|_, caller| now.mono < caller.at.after(CALLED_AGAIN));
        for (_, caller) in domain.spread.callers.iter_mut() {
            caller.sought &= now.mono < caller.at.after(WANTED);
        }
        let (mut casts, mut news) = (Vec::new(), Vec::new());
        domain.spread.casts.on_timeout(now, &mut casts);
        domain.spread.news.on_timeout(now, &mut news);
        self.spread_effects(now, id, Topic::Casts, casts);
        self.spread_effects(now, id, Topic::News, news);
    }

    /// Closes links that this node dialled and nothing has needed for a while.
    pub(super) fn close_spare_links(&mut self, now: Now) {
        if !self.domains.values().any(|d| d.spread.is_large()) {
            return;
        }
        let needs: Vec<Option<BTreeSet<NodeId>>> = self.domains.values().map(|d| d.spread.sought()).collect();
        let needed = |node: &NodeId| {
            self.relays.values().any(|r| r.node == *node)
                || self.probes.contains_key(node)
                || self.domains.values().zip(&needs).any(|(d, sought)| {
                    d.contacts.contains_key(node)
                        || match sought {
                            Some(sought) => sought.contains(node),
                            None => d.known.contains_key(node),
                        }
                })
        };
        let spare: Vec<NodeId> =
            self.table.iter().filter(|(_, l)| l.side == Side::Dialler && !needed(&l.node)).map(|(_, l)| l.node).collect();
        for link in self.table.spare(now.mono, SPARE, &spare) {
            let Some(node) = self.table.get_mut(link).map(|l| l.node) else { continue };
            // The last one to a node goes with a word, or the other side would doubt that this node is still there.
            if self.table.is_only(link) {
                let ids: Vec<DomainId> = self.domains.iter().filter(|(_, d)| d.is_linked(&node)).map(|(id, _)| *id).collect();
                for id in ids {
                    self.send_scoped(&id, &node, Lane::Control, Kind::Goodbye, &LINK_ONLY);
                    self.unlinked(now, id, node, false);
                }
            }
            self.table.closing(link);
            self.command_link(LinkCommand::Close { link });
        }
    }
}

impl Topic {
    /// Whether messages of this topic are for members of this role.
    pub(super) fn is_for(self, role: Role) -> bool {
        role == Role::Participant || self.class() == Class::Control
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Wall;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000), wall: Wall(1_800_000_000_000) }
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_public_key([n; 32])
    }

    /// One where more members are known than a node is linked with.
    fn large() -> Spread {
        let mut spread = Spread::new(DomainId::from_bytes([7; 32]), node(255), at(0));
        for n in 100..200 {
            spread.row(node(n), Some(Status::Online), Some(Role::Participant));
        }
        spread
    }

    fn is_sought(spread: &Spread, n: u8) -> bool {
        spread.sought().is_some_and(|sought| sought.contains(&node(n)))
    }

    #[test]
    fn who_asks_to_be_dialled_is_sought_for_as_long_as_that_leads_somewhere() {
        let mut spread = large();
        assert!(!is_sought(&spread, 1) && spread.called(at(0), node(1)) && is_sought(&spread, 1));
        assert!(!spread.called(at(1), node(1)), "it is being dialled already");
        spread.dialled_in_vain(&node(1), VAIN - 1);
        assert!(is_sought(&spread, 1));
        spread.dialled_in_vain(&node(1), VAIN);
        assert!(!is_sought(&spread, 1) && spread.has_called(&node(1)));
        assert!(!spread.called(at(60), node(1)), "nor a moment later");

        // A link that came of it is kept for a while, and it may ask again when that is gone.
        assert!(spread.called(at(0), node(2)));
        spread.link_up(at(1), node(2), true);
        assert!(is_sought(&spread, 2) && !spread.has_called(&node(2)));
        spread.link_down(&node(2));
        assert!(spread.called(at(2), node(2)));
    }

    #[test]
    fn attack_many_ask_to_be_dialled_and_nothing_is_given_up_for_them() {
        let mut spread = large();
        for n in 0..limit::WANTED as u8 {
            spread.wanted.insert(node(n), at(60).mono);
        }
        let taken = (100..200).filter(|n| spread.called(at(1), node(*n))).count();
        assert_eq!(taken, CALLERS);
        for n in 100..200 {
            spread.link_up(at(2), node(n), true);
        }
        assert_eq!(spread.wanted.len(), limit::WANTED);
        assert!((0..limit::WANTED as u8).all(|n| is_sought(&spread, n)));
    }
}
