//! The async face of a node: what the command line, the JavaScript surface and Rust applications hold.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use futures::{channel::oneshot, future::poll_fn, task::AtomicWaker};
use std::task::Poll;
use zeroize::Zeroizing;

use crate::base::{Code, DomainId, Error, InvitationId, Map, NodeId, Now, Rng};
use crate::crypto::{Role, sign::SigningKey};
use crate::peer::{Event, InviteOptions, LinkCommand, LinkInfo, Manager, Output, Part, Peer, Profile, SavedDomain, Stats, To};
use crate::proto::channel::{ChannelId, Message, Mode, SendId};
use crate::proto::directory::{Capability, Participant, Query};
use crate::proto::membership::{InvitationInfo, Membership, Rights};
use crate::proto::state::Entry;
use crate::wire::link::InviteLink;

/// Events kept for an application that does not take them; beyond, the oldest are dropped.
const EVENTS: usize = 4_096;

/// State shared by all clones of a [`Node`] and its driver.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    driver: AtomicWaker,
}

/// How a send ended: who was gone before it was handed over, and whether anybody took it.
struct Handed {
    missed: Vec<NodeId>,
    taken: bool,
}

pub(crate) struct Inner {
    pub(crate) peer: Peer,
    /// As the driver last read it: commands between two turns of the loop use it.
    pub(crate) now: Now,
    pub(crate) closed: bool,
    closing: bool,
    clock: fn() -> Now,
    events: VecDeque<Event>,
    event_waker: Option<Waker>,
    keeper_waker: Option<Waker>,
    joins: Map<DomainId, oneshot::Sender<Result<(), Error>>>,
    sends: Map<(DomainId, SendId), oneshot::Sender<Handed>>,
    readers: Map<(DomainId, ChannelId), Vec<Waker>>,
    probes: Vec<(NodeId, oneshot::Sender<Result<LinkInfo, Error>>)>,
}

impl Shared {
    pub(crate) fn new(peer: Peer, clock: fn() -> Now) -> Arc<Shared> {
        let inner = Inner {
            peer,
            now: clock(),
            closed: false,
            closing: false,
            clock,
            events: VecDeque::new(),
            event_waker: None,
            keeper_waker: None,
            joins: Map::new(),
            sends: Map::new(),
            readers: Map::new(),
            probes: Vec::new(),
        };
        Arc::new(Shared { inner: Mutex::new(inner), driver: AtomicWaker::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held is a bug that ends the process or the tab's node anyway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register_driver(&self, waker: &Waker) {
        self.driver.register(waker);
    }
}

impl Inner {
    /// Hands out what the peer produced: answers to waiting callers, events to the queue. Returns the next command for
    /// the platform.
    pub(crate) fn distribute(&mut self) -> Option<LinkCommand> {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Link(command) => return Some(command),
                Output::Event(event) => self.event(event),
                Output::Joined { domain, result } => {
                    if let Some(waiting) = self.joins.remove(&domain) {
                        let _ = waiting.send(result);
                    }
                }
                Output::Sent { domain, id, missed, taken } => {
                    if let Some(waiting) = self.sends.remove(&(domain, id)) {
                        let _ = waiting.send(Handed { missed, taken });
                    }
                }
                Output::Readable { domain, channel } => self.wake_readers(domain, channel),
            }
        }
        self.answer_probes();
        if self.peer.has_unsaved()
            && let Some(waker) = self.keeper_waker.take()
        {
            waker.wake();
        }
        if self.closing && self.peer.is_drained() {
            self.close();
        }
        None
    }

    /// Ends everything that waits.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.joins.clear();
        self.sends.clear();
        self.probes.clear();
        for waker in std::mem::take(&mut self.readers).into_iter().flat_map(|(_, wakers)| wakers) {
            waker.wake();
        }
        for waker in [self.event_waker.take(), self.keeper_waker.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Closed { domain } = event {
            self.joins.remove(&domain);
            let keys: Vec<_> = self.readers.keys().filter(|(d, _)| *d == domain).copied().collect();
            for (domain, channel) in keys {
                self.wake_readers(domain, channel);
            }
        }
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
        if let Some(waker) = self.event_waker.take() {
            waker.wake();
        }
    }

    fn wake_readers(&mut self, domain: DomainId, channel: ChannelId) {
        for waker in self.readers.remove(&(domain, channel)).unwrap_or_default() {
            waker.wake();
        }
    }

    fn answer_probes(&mut self) {
        for (node, waiting) in std::mem::take(&mut self.probes) {
            match self.peer.probe(&node) {
                Some(result) => drop(waiting.send(result)),
                None if !waiting.is_canceled() => self.probes.push((node, waiting)),
                None => {}
            }
        }
    }
}

/// A running node. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Shared>);

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({:?})", self.id())
    }
}

impl Node {
    pub(crate) fn new(shared: Arc<Shared>) -> Node {
        Node(shared)
    }

    /// Runs a command of the peer, then wakes the driver to carry out its effects.
    fn with<T>(&self, command: impl FnOnce(&mut Peer, Now) -> T) -> T {
        let mut inner = self.0.lock();
        let now = (inner.clock)();
        inner.now = now;
        let result = command(&mut inner.peer, now);
        drop(inner);
        self.0.driver.wake();
        result
    }

    /// Looks without waking anybody.
    fn look<T>(&self, look: impl FnOnce(&Peer, Now) -> T) -> T {
        let inner = self.0.lock();
        look(&inner.peer, (inner.clock)())
    }

    /// Looks at what the storage keys of a domain depend on, as [`Peer::look_at_keys`]. Nobody else is served meanwhile.
    pub(crate) fn look_at_keys<T>(
        &self,
        domain: DomainId,
        look: impl FnOnce(&Membership, &SigningKey, Option<&SigningKey>, Now) -> T,
    ) -> Result<T, Error> {
        self.look(|peer, now| peer.look_at_keys(domain, |membership, me, root| look(membership, me, root, now)))
    }

    /// Wants a link to a participant, as [`Peer::want_link`].
    pub(crate) fn want_link(&self, domain: DomainId, node: NodeId) {
        self.with(|peer, now| peer.want_link(now, domain, node));
    }

    /// Both clocks, now.
    pub(crate) fn now(&self) -> Now {
        (self.0.lock().clock)()
    }

    /// A generator for one use.
    pub(crate) fn rng(&self) -> Rng {
        self.with(|peer, _| peer.fork_rng("handle"))
    }

    /// Whether somebody is a member of a domain that this node is in.
    #[must_use]
    pub fn is_member(&self, domain: DomainId, node: NodeId) -> bool {
        self.look_at_keys(domain, |membership, _, _, now| membership.member(now, &node).is_some()).unwrap_or(false)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.look(|peer, _| peer.id())
    }

    /// Founds a domain: this node holds its root key and is its first participant.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a name or capability outside its bounds.
    pub fn create_domain(&self, name: &str, essential: &[String], profile: Profile) -> Result<DomainId, Error> {
        self.with(|peer, now| peer.create_domain(now, name, essential, profile))
    }

    /// Opens a domain again from what [`Node::save_domain`] gave. With the root key at hand a credential with this `role` is
    /// made for this node if it has none.
    ///
    /// # Errors
    /// [`Code::Malformed`] for damaged data, [`Code::Forbidden`] if this node is no member.
    pub fn open_domain(&self, saved: &SavedDomain, role: Role, profile: Profile) -> Result<DomainId, Error> {
        self.with(|peer, now| peer.open_domain(now, saved, role, profile))
    }

    /// What must be kept to open the domain again.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn save_domain(&self, domain: DomainId) -> Result<SavedDomain, Error> {
        self.look(|peer, now| peer.save_domain(now, domain))
    }

    /// Adds a signed membership statement from elsewhere, and spreads it.
    ///
    /// # Errors
    /// [`Code::Closed`], or the code of the refusal.
    pub fn insert_statement(&self, domain: DomainId, bytes: &[u8]) -> Result<(), Error> {
        self.with(|peer, now| peer.insert_statement(now, domain, bytes))
    }

    /// Joins the domain that an invitation link names, through the relays it names. Dropping the future cancels the join.
    ///
    /// # Errors
    /// [`Code::InviteGarbled`], [`Code::Version`], [`Code::NoRelay`], [`Code::NoMember`], [`Code::WrongDomain`],
    /// [`Code::InviteExpired`], [`Code::InviteRevoked`], [`Code::InviteUnknown`], [`Code::InviteUsed`], [`Code::Timeout`],
    /// [`Code::Closed`].
    pub async fn join(&self, link: &str, profile: Profile) -> Result<DomainId, Error> {
        let link = InviteLink::parse(link)?;
        let domain = link.domain;
        let (tell, told) = oneshot::channel();
        {
            let mut inner = self.0.lock();
            let now = (inner.clock)();
            if !inner.peer.join(now, link, profile)? {
                return Ok(domain);
            }
            inner.joins.insert(domain, tell);
        }
        self.0.driver.wake();
        let mut cancel = CancelJoin { node: self, domain: Some(domain) };
        let result = told.await.unwrap_or_else(|_| Err(closed()));
        cancel.domain = None;
        result.map(|()| domain)
    }

    /// The name in the domain's genesis.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn domain_name(&self, domain: DomainId) -> Result<String, Error> {
        self.look(|peer, _| peer.domain_name(domain))
    }

    /// This node's role in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn role(&self, domain: DomainId) -> Result<Role, Error> {
        self.look(|peer, _| peer.role(domain))
    }

    /// Makes an invitation and publishes its public half.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key or the right to invite.
    pub fn invite(&self, domain: DomainId, options: InviteOptions) -> Result<InviteLink, Error> {
        self.with(|peer, now| peer.invite(now, domain, options))
    }

    /// Evicts a member for good, and closes the invitations it came through. Everybody else stays.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right, [`Code::NoParticipant`], [`Code::BadArgument`] for this node, [`Code::Closed`].
    pub fn evict(&self, domain: DomainId, node: NodeId) -> Result<(), Error> {
        self.with(|peer, now| peer.evict(now, domain, node))
    }

    /// Closes an invitation. Who came through it stays.
    ///
    /// # Errors
    /// [`Code::InviteUnknown`], [`Code::Forbidden`], [`Code::Closed`].
    pub fn revoke_invitation(&self, domain: DomainId, invitation: InvitationId) -> Result<(), Error> {
        self.with(|peer, now| peer.revoke_invitation(now, domain, invitation))
    }

    /// Gives a participant rights, for at most 90 days.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::BadArgument`], [`Code::NoParticipant`], [`Code::Closed`].
    pub fn delegate(&self, domain: DomainId, node: NodeId, rights: Rights, lifetime: Duration) -> Result<(), Error> {
        self.with(|peer, now| peer.delegate(now, domain, node, rights, lifetime))
    }

    /// Every invitation known, those that end first first.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn invitations(&self, domain: DomainId) -> Result<Vec<InvitationInfo>, Error> {
        self.look(|peer, now| peer.invitations(now, domain))
    }

    /// Lets somebody in who waits, or who came after as many others as its invitation allows.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right to invite, [`Code::Closed`].
    pub fn approve(&self, domain: DomainId, node: NodeId) -> Result<(), Error> {
        self.with(|peer, now| peer.approve(now, domain, node))
    }

    /// Turns somebody away who waits, or came after as many others as its invitation allows.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the right to invite, [`Code::Closed`].
    pub fn deny(&self, domain: DomainId, node: NodeId) -> Result<(), Error> {
        self.with(|peer, now| peer.deny(now, domain, node))
    }

    /// Who waits for an issuer, with the names they give themselves.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn waiting(&self, domain: DomainId) -> Result<Vec<(NodeId, String)>, Error> {
        self.look(|peer, _| peer.waiting(domain))
    }

    /// Leaves for good: coming back needs another key.
    ///
    /// # Errors
    /// [`Code::Closed`].
    pub fn resign(&self, domain: DomainId) -> Result<(), Error> {
        self.with(|peer, now| peer.resign(now, domain))
    }

    /// The root key's seed, for keeping it elsewhere.
    ///
    /// # Errors
    /// [`Code::Forbidden`] if it is not here, [`Code::Closed`].
    pub fn export_root(&self, domain: DomainId) -> Result<Zeroizing<[u8; 32]>, Error> {
        self.look(|peer, _| peer.export_root(domain))
    }

    /// Takes the root key of a domain this node is in.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if it is another domain's, [`Code::Closed`].
    pub fn import_root(&self, domain: DomainId, seed: &[u8; 32]) -> Result<(), Error> {
        self.with(|peer, _| peer.import_root(domain, seed))
    }

    /// Says in every domain that this node goes to sleep, as a hidden tab does, or is awake again.
    pub fn suspend(&self, suspended: bool) {
        self.with(|peer, now| peer.suspend(now, suspended));
    }

    /// The network changed, or this process was asleep: links are probed, whoever is missing is dialled.
    pub fn wake(&self) {
        self.with(|peer, now| peer.wake(now));
    }

    /// The invitation this node came with, as a link to be passed on; `None` if it came otherwise.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn kept_invitation(&self, domain: DomainId) -> Result<Option<InviteLink>, Error> {
        self.look(|peer, _| peer.kept_invitation(domain))
    }

    /// Which `k` of the participants online are responsible for a key, the one of highest rank first: the same wherever the
    /// directory is the same, and when one comes or goes only its own share moves.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn responsible(&self, domain: DomainId, key: &[u8], k: usize) -> Result<Vec<NodeId>, Error> {
        self.look(|peer, now| peer.responsible(now, domain, key, k))
    }

    /// Who is in the directory of a domain, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn participants(&self, domain: DomainId, query: &Query) -> Result<Vec<Participant>, Error> {
        self.look(|peer, now| peer.participants(now, domain, query))
    }

    /// What is known of one node in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in it.
    pub fn participant(&self, domain: DomainId, node: NodeId) -> Result<Option<Participant>, Error> {
        self.look(|peer, now| peer.participant(now, domain, &node))
    }

    /// All managers of a domain, the one of the first rank first; of one rank that with the lowest id. Which of them are there is told by
    /// their presence.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn managers(&self, domain: DomainId) -> Result<Vec<Manager>, Error> {
        self.look(|peer, now| peer.managers(now, domain))
    }

    /// What this node advertises in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in it.
    pub fn capabilities(&self, domain: DomainId) -> Result<Vec<Capability>, Error> {
        self.look(|peer, _| peer.capabilities(domain))
    }

    /// Replaces what this node offers.
    ///
    /// # Errors
    /// [`Code::TooLarge`] or [`Code::BadArgument`] for capabilities outside their bounds, [`Code::Closed`].
    pub fn advertise(&self, domain: DomainId, capabilities: Vec<Capability>) -> Result<(), Error> {
        self.with(|peer, now| peer.advertise(now, domain, capabilities))
    }

    /// Opens a channel; the same name and mode give the same channel.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a name in use with another mode or too long, [`Code::Busy`] beyond the bound,
    /// [`Code::Forbidden`] for a manager, [`Code::Closed`].
    pub fn channel(&self, domain: DomainId, name: &str, mode: Mode) -> Result<ChannelId, Error> {
        self.with(|peer, now| peer.channel(now, domain, name, mode))
    }

    /// Closes a channel; its readers end.
    pub fn close_channel(&self, domain: DomainId, channel: ChannelId) {
        self.with(|peer, now| peer.close_channel(now, domain, channel));
        self.0.lock().wake_readers(domain, channel);
    }

    /// Sends, and waits until every recipient's window has taken all of it.
    ///
    /// # Errors
    /// [`Code::TooLarge`], [`Code::Busy`] (the queue of the domain is full), [`Code::Closed`]; [`Code::NoParticipant`] if one of those
    /// named, or everybody, was gone before that.
    pub async fn send(&self, domain: DomainId, channel: ChannelId, to: To, payload: Vec<u8>, key: Option<String>) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        // Who goes is not among all any more.
        let by_name = to != To::All;
        {
            let mut inner = self.0.lock();
            let now = (inner.clock)();
            let id = inner.peer.send(now, domain, channel, to, payload, key)?;
            inner.sends.insert((domain, id), tell);
        }
        self.0.driver.wake();
        let Handed { missed, taken } =
            told.await.map_err(|_| Error::new(Code::Closed, "the domain was closed before the message was handed over"))?;
        if taken && (missed.is_empty() || !by_name) {
            return Ok(());
        }
        let names: Vec<String> = missed.iter().map(NodeId::to_string).collect();
        let text = format!("gone before it was handed over: {}", names.join(", "));
        Err(Error::new(Code::NoParticipant, text).hint(if taken { "The other recipients have it" } else { "Nobody has it" }))
    }

    /// Sends what can be sent now, never waits; `false` tells that it was dropped for a recipient.
    ///
    /// # Errors
    /// [`Code::TooLarge`], [`Code::Closed`], [`Code::NoParticipant`] for a recipient that is not in the directory.
    pub fn post(&self, domain: DomainId, channel: ChannelId, to: To, payload: Vec<u8>, key: Option<String>) -> Result<bool, Error> {
        self.with(|peer, now| peer.post(now, domain, channel, to, payload, key))
    }

    /// The next message of a channel, or `None` once it is closed.
    pub async fn receive(&self, domain: DomainId, channel: ChannelId) -> Option<Message> {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            let now = (inner.clock)();
            if let Some(message) = inner.peer.receive(now, domain, channel) {
                drop(inner);
                self.0.driver.wake();
                return Poll::Ready(Some(message));
            }
            if inner.closed || !inner.peer.has_channel(domain, channel) {
                return Poll::Ready(None);
            }
            let waiting = inner.readers.entry((domain, channel)).or_default();
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The next message of a channel if one is there.
    #[must_use]
    pub fn try_receive(&self, domain: DomainId, channel: ChannelId) -> Option<Message> {
        self.with(|peer, now| peer.receive(now, domain, channel))
    }

    /// The links to the members of a domain, or all links of the node.
    #[must_use]
    pub fn links(&self, domain: Option<DomainId>) -> Vec<LinkInfo> {
        self.look(|peer, now| peer.links(now, domain))
    }

    /// Writes a value into the shared state, or with `None` deletes its key. Every participant's copy gets it, sooner or later.
    ///
    /// # Errors
    /// [`Code::BadArgument`], [`Code::TooLarge`], [`Code::Forbidden`], [`Code::Closed`], as [`Peer::write_state`].
    pub fn write_state(&self, domain: DomainId, key: &str, value: Option<Vec<u8>>) -> Result<(), Error> {
        self.with(|peer, now| peer.write_state(now, domain, key, value))
    }

    /// The entry under a key of the shared state, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn state_entry(&self, domain: DomainId, key: &str) -> Result<Option<Entry>, Error> {
        self.look(|peer, _| peer.state_entry(domain, key))
    }

    /// Every entry of the shared state whose key begins so, by key, from this node's own copy.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn state_entries(&self, domain: DomainId, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.look(|peer, _| peer.state_entries(domain, prefix))
    }

    /// What was counted in a domain.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn stats(&self, domain: DomainId) -> Result<Stats, Error> {
        self.look(|peer, now| peer.stats(now, domain))
    }

    /// Connects to any libp2p node and waits for one round trip, for diagnosis.
    ///
    /// # Errors
    /// [`Code::BadArgument`] without `/p2p/<id>` at the end, [`Code::Unreachable`], [`Code::IceFailed`], [`Code::Closed`].
    pub async fn dial(&self, address: &str) -> Result<LinkInfo, Error> {
        let (tell, told) = oneshot::channel();
        {
            let mut inner = self.0.lock();
            let now = (inner.clock)();
            let node = inner.peer.dial(now, address)?;
            inner.probes.push((node, tell));
        }
        self.0.driver.wake();
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Keeps a relay connected besides those that invitation links name.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if the address does not end in `/p2p/<id>`.
    pub fn use_relay(&self, address: &str) -> Result<(), Error> {
        self.with(|peer, now| peer.use_relay(now, address))
    }

    /// Names relays to use when those in use are down, or too few.
    ///
    /// # Errors
    /// As [`Node::use_relay`], if none of the addresses is one.
    pub fn offer_relays(&self, addresses: &[String]) -> Result<(), Error> {
        self.with(|peer, now| peer.offer_relays(now, addresses))
    }

    /// The relays that this node uses or would use, those first that are up.
    #[must_use]
    pub fn relays(&self) -> Vec<String> {
        self.look(|peer, _| peer.known_relays())
    }

    /// The addresses at which others can dial this node now.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.look(|peer, _| peer.addresses().to_vec())
    }

    /// The next event; `None` once the node is closed. One consumer.
    pub async fn next_event(&self) -> Option<Event> {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            match inner.events.pop_front() {
                Some(event) => Poll::Ready(Some(event)),
                None if inner.closed => Poll::Ready(None),
                None => {
                    inner.event_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    // ---- for the keeper ---------------------------------------------------------------------------------------------

    /// Waits until something is to be stored; false once the node is closed.
    pub(super) async fn unsaved(&self) -> bool {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            if inner.closed {
                return Poll::Ready(false);
            }
            if inner.peer.has_unsaved() {
                return Poll::Ready(true);
            }
            inner.keeper_waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(super) fn take_unsaved(&self) -> Vec<(DomainId, Part)> {
        self.0.lock().peer.take_unsaved()
    }

    pub(super) fn mark_unsaved(&self, parts: &[(DomainId, Part)]) {
        let mut inner = self.0.lock();
        parts.iter().for_each(|(id, part)| inner.peer.mark_unsaved(*id, *part));
    }

    pub(super) fn save_part(&self, domain: DomainId, part: Part) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        self.look(|peer, now| peer.save_part(now, domain, part))
    }

    pub(super) fn adopt(&self, saved: &SavedDomain) {
        self.with(|peer, now| peer.adopt(now, saved));
    }

    pub(super) fn tell(&self, event: Event) {
        self.0.lock().event(event);
    }

    /// Says goodbye to the domain's members and forgets the domain here.
    ///
    /// # Errors
    /// [`Code::Closed`] if this node is not in the domain.
    pub fn leave(&self, domain: DomainId) -> Result<(), Error> {
        self.with(|peer, now| peer.leave(now, domain))
    }

    /// Leaves every domain, writes what is queued and stops the driver.
    pub fn close(&self) {
        self.with(Peer::close);
        self.0.lock().closing = true;
        self.0.driver.wake();
    }
}

struct CancelJoin<'a> {
    node: &'a Node,
    domain: Option<DomainId>,
}

impl Drop for CancelJoin<'_> {
    fn drop(&mut self) {
        if let Some(domain) = self.domain {
            self.node.0.lock().joins.remove(&domain);
            self.node.with(|peer, now| peer.cancel_join(now, domain));
        }
    }
}

fn closed() -> Error {
    Error::new(Code::Closed, "the node was closed")
}
