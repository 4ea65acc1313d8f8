//! A node of the real directory and overlay machines with nothing in between: no membership and no sealing, so that what these
//! tests show is theirs. Whoever answers hands out the domain secret.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use peerage::base::{DomainId, LinkId, Mono, NodeId, Now, Reject, Rng};
use peerage::crypto::{class::Role, sign::SigningKey, tag};
use peerage::peer::{Lane, LinkCommand, LinkEvent};
use peerage::proto::directory::{self, Directory, Profile, Query, Status};
use peerage::proto::overlay::{self, DomainResponse, Locator, Registry, RequestKind, Seek, Seeker};
use peerage::sim::{Effect, Machine};
use peerage::wire::frame::{self, Kind};

pub const DOMAIN: DomainId = DomainId::from_bytes([8; 32]);
pub const SECRET: [u8; 32] = [9; 32];
/// How often the node looks for somebody to dial.
const TICK: Duration = Duration::from_millis(500);
const REDIAL: Duration = Duration::from_secs(4);

#[derive(Debug, PartialEq)]
pub enum Told {
    Directory(directory::Event),
    Found(NodeId),
    Failed,
}

pub struct Bare {
    me: NodeId,
    key: SigningKey,
    rng: Rng,
    pub directory: Option<Directory>,
    locator: Option<Locator>,
    pub registry: Option<Registry>,
    seeker: Option<Seeker>,
    links: BTreeMap<LinkId, NodeId>,
    relays: Vec<NodeId>,
    addresses: Vec<String>,
    contacts: BTreeMap<NodeId, Vec<String>>,
    dials: BTreeMap<NodeId, Mono>,
    tick: Mono,
    pub rejected: BTreeMap<Reject, u64>,
    outputs: VecDeque<Effect<Told>>,
}

pub fn everybody(_: &NodeId) -> Option<Role> {
    Some(Role::Participant)
}

impl Bare {
    pub fn new(now: Now, key: SigningKey, seed: [u8; 32]) -> Bare {
        Bare {
            me: key.node_id(),
            key,
            rng: Rng::from_seed(seed),
            directory: None,
            locator: None,
            registry: None,
            seeker: None,
            links: BTreeMap::new(),
            relays: Vec::new(),
            addresses: Vec::new(),
            contacts: BTreeMap::new(),
            dials: BTreeMap::new(),
            tick: now.mono,
            rejected: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    pub fn relay(now: Now, key: SigningKey, seed: [u8; 32]) -> Bare {
        Bare { registry: Some(Registry::new()), ..Bare::new(now, key, seed) }
    }

    pub fn use_relay(&mut self, node: NodeId, address: &str) {
        self.relays.push(node);
        self.outputs.push_back(Effect::Link(LinkCommand::UseRelay { address: address.into() }));
    }

    pub fn seek(&mut self, now: Now) {
        let rendezvous = *tag::rendezvous_key(&SECRET).public();
        let seek = Seek { domain: DOMAIN, rendezvous, kind: RequestKind::Join, body: b"invitation".to_vec() };
        self.seeker = Some(Seeker::new(now, seek, self.rng.fork("seeker")));
        self.relays_changed(now);
    }

    pub fn enter(&mut self, now: Now, secret: &[u8; 32]) {
        let config = directory::Config { domain: DOMAIN, essential: Vec::new() };
        self.directory = Some(Directory::new(now, self.key.clone(), config, self.rng.fork("directory")));
        self.locator = Some(Locator::new(DOMAIN, secret, self.rng.fork("locator")));
        self.relays_changed(now);
        self.publish(now);
        let others: Vec<NodeId> = self.links.values().copied().filter(|n| !self.relays.contains(n)).collect();
        self.with_directory(|d, out| others.iter().for_each(|n| d.link_up(now, *n, out)));
    }

    /// The other nodes this one sees online.
    pub fn online(&self, now: Now) -> Vec<NodeId> {
        let query = Query { online: Some(true), ..Query::default() };
        self.directory.iter().flat_map(|d| d.participants(now, &query, &everybody)).filter(|p| !p.is_self).map(|p| p.node).collect()
    }

    fn relays_changed(&mut self, now: Now) {
        let relays: BTreeSet<NodeId> = self.relays.iter().copied().filter(|r| self.links.values().any(|n| n == r)).collect();
        let mut out = Vec::new();
        if let Some(locator) = &mut self.locator {
            locator.on_timeout(now, &relays, &mut out);
        }
        if let Some(seeker) = &mut self.seeker {
            seeker.on_timeout(now, &relays, &mut out);
        }
        self.overlay(out);
    }

    fn publish(&mut self, now: Now) {
        let profile = Profile { name: "bare".into(), addresses: self.addresses.clone(), capabilities: Vec::new() };
        self.with_directory(|d, out| d.publish(now, profile, out).expect("a small profile"));
    }

    fn send(&mut self, to: &NodeId, kind: Kind, body: &[u8]) {
        if let Some((link, _)) = self.links.iter().find(|(_, n)| *n == to) {
            let frame = frame::encode(kind, body);
            self.outputs.push_back(Effect::Link(LinkCommand::Send { link: *link, lane: Lane::Control, frame }));
        }
    }

    fn overlay(&mut self, out: Vec<overlay::Effect>) {
        for send in out {
            self.send(&send.to, Kind::Overlay, &send.msg.encode());
        }
    }

    pub fn with_directory(&mut self, f: impl FnOnce(&mut Directory, &mut Vec<directory::Effect>)) {
        let Some(directory) = &mut self.directory else { return };
        let mut out = Vec::new();
        f(directory, &mut out);
        let neighbours: Vec<NodeId> = self.links.values().copied().filter(|n| !self.relays.contains(n)).collect();
        for effect in out {
            let (to, msg) = match effect {
                directory::Effect::Broadcast { msg, except } => (neighbours.iter().copied().filter(|n| Some(*n) != except).collect(), msg),
                directory::Effect::Send { to, msg } => (vec![to], msg),
                directory::Effect::Event(event) => {
                    self.outputs.push_back(Effect::Output(Told::Directory(event)));
                    continue;
                }
                directory::Effect::Learned { .. } | directory::Effect::Dropped { .. } => continue,
            };
            for to in to {
                let body = [&tag::pair_tag(&DOMAIN, &self.me, &to)[..], &msg.encode()].concat();
                self.send(&to, Kind::Sealed, &body);
            }
        }
    }

    fn frame(&mut self, now: Now, from: NodeId, bytes: &[u8]) -> Result<(), Reject> {
        let frame = frame::decode(bytes)?;
        let mut out = Vec::new();
        if frame.kind == Kind::Sealed {
            let body = frame.body.strip_prefix(&tag::pair_tag(&DOMAIN, &self.me, &from)[..]).ok_or(Reject::Misdirected)?;
            let msg = directory::Msg::decode(body)?;
            let mut result = Ok(());
            self.with_directory(|d, out| result = d.handle(now, from, msg, &everybody, out));
            return result;
        }
        let msg = overlay::Msg::decode(frame.body)?;
        let result = match (&mut self.registry, msg) {
            (Some(registry), msg) => registry.handle(now, from, msg, &mut out),
            (None, overlay::Msg::Request(request)) => self.answer(now, from, &request, &mut out),
            (None, overlay::Msg::Response(response)) => {
                let seeker = self.seeker.as_mut().ok_or(Reject::Stale)?;
                seeker.handle(now, from, &response)?.map_or(Ok(()), |answer| self.found(now, answer))
            }
            (None, overlay::Msg::Put(_)) => Err(Reject::Forbidden),
        };
        self.overlay(out);
        result
    }

    fn answer(&mut self, now: Now, from: NodeId, request: &overlay::DomainRequest, out: &mut Vec<overlay::Effect>) -> Result<(), Reject> {
        let locator = self.locator.as_mut().ok_or(Reject::Misdirected)?;
        let body = [&SECRET[..], self.addresses.join("\n").as_bytes()].concat();
        let made = locator.open(now, request).and_then(|ask| locator.respond(&self.key, &ask, &body));
        let (response, result) = match made {
            Ok(response) => (response, Ok(())),
            Err(reject) => (DomainResponse::without(request.id, overlay::Status::Refused), Err(reject)),
        };
        out.push(overlay::Effect { to: from, msg: overlay::Msg::Response(response) });
        result
    }

    fn found(&mut self, now: Now, answer: overlay::Answer) -> Result<(), Reject> {
        let (secret, addresses) = answer.body.split_first_chunk::<32>().ok_or(Reject::Malformed)?;
        let addresses = String::from_utf8(addresses.to_vec()).map_err(|_| Reject::Malformed)?;
        self.seeker = None;
        self.outputs.push_back(Effect::Output(Told::Found(answer.member)));
        self.contacts.insert(answer.member, addresses.lines().map(String::from).collect());
        self.enter(now, secret);
        Ok(())
    }

    /// Dials whoever is known and not linked: a contact at once, of two others the one with the lower id; those down rarely.
    fn dial(&mut self, now: Now) {
        let Some(directory) = &self.directory else { return };
        let known = directory.dialable(now).filter(|(n, ..)| self.me < **n);
        let known = known.map(|(n, status, a)| (*n, (a.to_vec(), if status == Status::Down { REDIAL * 3 } else { REDIAL })));
        let contacts = self.contacts.iter().map(|(n, a)| (*n, (a.clone(), REDIAL)));
        let mut wanted: BTreeMap<NodeId, (Vec<String>, Duration)> = contacts.chain(known).collect();
        wanted
            .retain(|n, (_, wait)| !self.links.values().any(|l| l == n) && self.dials.get(n).is_none_or(|at| now.mono.since(*at) >= *wait));
        for (node, (addresses, _)) in wanted {
            self.dials.insert(node, now.mono);
            self.outputs.push_back(Effect::Link(LinkCommand::Dial { node, addresses }));
        }
    }
}

impl Machine for Bare {
    type Output = Told;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        let mut out = Vec::new();
        match event {
            LinkEvent::Up { link, node, .. } => {
                let first = !self.links.values().any(|n| *n == node);
                self.links.insert(link, node);
                if self.relays.contains(&node) {
                    self.relays_changed(now);
                } else if first {
                    self.contacts.remove(&node);
                    self.with_directory(|d, out| d.link_up(now, node, out));
                }
            }
            LinkEvent::Down { link } => {
                let Some(node) = self.links.remove(&link) else { return };
                if self.links.values().any(|n| *n == node) {
                    return;
                }
                if let Some(registry) = &mut self.registry {
                    registry.disconnected(now, node, &mut out);
                }
                self.relays_changed(now);
                self.with_directory(|d, _| d.link_down(node));
            }
            LinkEvent::Frame { link, frame, .. } => {
                if let Some(from) = self.links.get(&link).copied()
                    && let Err(reject) = self.frame(now, from, &frame)
                {
                    *self.rejected.entry(reject).or_default() += 1;
                }
            }
            LinkEvent::Addresses(addresses) => {
                self.addresses = addresses;
                self.publish(now);
            }
            LinkEvent::Drained { .. }
            | LinkEvent::DialFailed { .. }
            | LinkEvent::Foreign { .. }
            | LinkEvent::Relay { .. }
            | LinkEvent::Signal { .. }
            | LinkEvent::Rtt { .. } => {}
        }
        self.overlay(out);
    }

    fn on_timeout(&mut self, now: Now) {
        let mut out = Vec::new();
        if let Some(registry) = &mut self.registry {
            registry.on_timeout(now, &mut out);
        }
        self.overlay(out);
        self.relays_changed(now);
        if self.seeker.as_ref().is_some_and(|s| s.failed().is_some()) {
            self.outputs.push_back(Effect::Output(Told::Failed));
            self.seek(now);
        }
        self.with_directory(|d, out| d.on_timeout(now, out));
        if now.mono >= self.tick {
            self.tick = now.mono.after(TICK);
            self.dial(now);
        }
    }

    fn poll_output(&mut self) -> Option<Effect<Told>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Mono> {
        let parts = [
            self.registry.as_ref().and_then(Registry::next_timeout),
            self.locator.as_ref().and_then(Locator::next_timeout),
            self.seeker.as_ref().and_then(Seeker::next_timeout),
            self.directory.as_ref().and_then(Directory::next_timeout),
            self.directory.as_ref().map(|_| self.tick),
        ];
        parts.into_iter().flatten().min()
    }
}
