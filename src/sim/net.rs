//! Links between simulated nodes: what a libp2p platform does, with latency, loss, reordering, partitions and crashes.
//!
//! Addresses are `/memory/<n>/p2p/<relay>` for a relay, and through it `…/p2p-circuit/p2p/<node>` (relayed) and
//! `…/p2p-circuit/webrtc/p2p/<node>` (direct, signalled through the relay). `/webrtc/p2p/<node>` is direct and signalled by whoever is
//! linked to both: the nodes carry [`OFFER`] and [`ANSWER`]. A node that listens, as native ones do, has an address of its own like a
//! relay's, and none that is signalled.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::time::Duration;

use super::Traffic;
use crate::base::{Code, LinkId, NodeId, Rng};
use crate::peer::{Lane, LinkCommand, LinkEvent, Path, Side};

/// How long an attempt to connect to somebody who does not answer takes, in milliseconds.
const DIAL_TIMEOUT: u64 = 3_000;
/// The time between two attempts to reach a relay that is kept, in milliseconds.
const RELAY_RETRY: u64 = 1_000;

/// What a node that dials tells the other one first, and what that one says to it.
const OFFER: &[u8] = b"offer";
const ANSWER: &[u8] = b"answer";

/// One way between two nodes on a good network.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(60));

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// One way between two nodes, from and to; each pair has its own within these.
    pub latency: (Duration, Duration),
    /// Added to each frame's latency, at most.
    pub jitter: Duration,
    /// Frames lost, in percent: on the bulk lane, where channels make up for it, and on the control lane.
    pub loss: (u8, u8),
    /// Frames that are overtaken by later ones, in percent.
    pub reorder: u8,
    /// Bytes per millisecond in each direction of a link.
    pub rate: u64,
    /// Whether two nodes that both have a relay can connect directly.
    pub direct: bool,
    /// How long a link lives whose frames do not get through.
    pub keep_alive: Duration,
}

impl Default for Conditions {
    /// A good network: 10 to 60 ms, no loss, 1 MB/s, direct.
    fn default() -> Conditions {
        Conditions {
            latency: LATENCY,
            jitter: Duration::from_millis(3),
            loss: (0, 0),
            reorder: 0,
            rate: 1_000,
            direct: true,
            keep_alive: Duration::from_secs(5),
        }
    }
}

#[derive(Debug)]
struct Host {
    relay: bool,
    listens: bool,
    /// Relays kept, by address; whether each is reported as up.
    kept: BTreeMap<String, bool>,
    addresses: Vec<String>,
}

#[derive(Debug)]
struct Link {
    /// Dialler and listener, each with its own number for the link.
    ends: [(NodeId, LinkId); 2],
    path: Path,
    through: Option<NodeId>,
    /// Per direction and lane: when the sender is free again, when the last frame arrives.
    lanes: BTreeMap<(NodeId, Lane), (u64, u64)>,
    closing: bool,
    /// One end is gone without the other knowing.
    dead: bool,
}

#[derive(Debug)]
enum Step {
    Deliver(NodeId, LinkEvent),
    Open { from: NodeId, to: NodeId, path: Path, through: Option<NodeId>, relay_address: Option<String> },
    Unanswered { from: NodeId, to: NodeId },
    RetryRelay(NodeId, String),
    CutOff(u64),
    Close(u64),
}

/// The network.
pub struct Net {
    conditions: Conditions,
    rng: Rng,
    now: u64,
    hosts: BTreeMap<NodeId, Host>,
    links: BTreeMap<u64, Link>,
    by_id: BTreeMap<LinkId, u64>,
    /// How many direct links join two nodes.
    joined: BTreeMap<(NodeId, NodeId), usize>,
    next: u64,
    queue: BTreeMap<(u64, u64), Step>,
    /// Who waits for whose answer to an offer.
    offers: BTreeSet<(NodeId, NodeId)>,
    /// Nodes of different groups hear nothing of each other.
    groups: BTreeMap<NodeId, u32>,
    trace: blake3::Hasher,
    /// Frames that reached a node, and their bytes.
    frames: BTreeMap<NodeId, (u64, u64)>,
    traffic: Traffic,
}

impl Net {
    /// A network without nodes.
    #[must_use]
    pub fn new(conditions: Conditions, rng: Rng) -> Net {
        Net {
            conditions,
            rng,
            now: 0,
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            by_id: BTreeMap::new(),
            joined: BTreeMap::new(),
            next: 0,
            queue: BTreeMap::new(),
            offers: BTreeSet::new(),
            groups: BTreeMap::new(),
            trace: blake3::Hasher::new(),
            frames: BTreeMap::new(),
            traffic: Traffic::default(),
        }
    }

    /// Adds a node, or brings back one that crashed. Returns its address, which others can use if it is a relay.
    pub fn add(&mut self, node: NodeId, relay: bool) -> String {
        self.hosts.insert(node, Host { relay, listens: false, kept: BTreeMap::new(), addresses: Vec::new() });
        relay_address(&node)
    }

    /// Lets a node be dialled at an address of its own, which it is told.
    pub fn listen(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.listens = true;
        }
        self.tell_addresses(node);
    }

    /// Takes a node off the network: its links break, and those that go through it.
    pub fn crash(&mut self, node: NodeId) {
        for link in self.remove(node) {
            self.break_link(link);
        }
    }

    /// Takes a node out; the links that it was an end of, or that went through it.
    fn remove(&mut self, node: NodeId) -> Vec<u64> {
        self.hosts.remove(&node);
        self.links.iter().filter(|(_, l)| l.through == Some(node) || l.ends.iter().any(|(n, _)| *n == node)).map(|(i, _)| *i).collect()
    }

    /// Takes a node off the network as a power cut does: those at the other ends of its links notice nothing until
    /// [`Conditions::keep_alive`] is over.
    pub fn vanish(&mut self, node: NodeId) {
        for link in self.remove(node) {
            if let Some(l) = self.links.get_mut(&link).filter(|l| !l.dead) {
                l.dead = true;
                if l.path == Path::Direct {
                    let [(a, _), (b, _)] = l.ends;
                    self.unjoin(&a, &b);
                }
            }
            self.at(self.now + millis(self.conditions.keep_alive), Step::CutOff(link));
        }
    }

    /// Divides the network: nodes with different numbers (0 unless named) hear nothing of each other until [`Net::heal`].
    pub fn partition(&mut self, groups: BTreeMap<NodeId, u32>) {
        self.groups = groups;
        let cut: Vec<u64> = self.links.iter().filter(|(_, l)| self.is_cut(l)).map(|(i, _)| *i).collect();
        for link in cut {
            self.at(self.now + millis(self.conditions.keep_alive), Step::CutOff(link));
        }
    }

    /// The direct way between two nodes is gone: their direct links carry nothing more, which both notice when
    /// [`Conditions::keep_alive`] is over. New ones come up unless [`Conditions::direct`] says otherwise.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        let joins = |l: &Link| l.path == Path::Direct && pair(&l.ends[0].0, &l.ends[1].0) == pair(&a, &b);
        let cut: Vec<u64> = self.links.iter().filter(|(_, l)| joins(l) && !l.dead).map(|(i, _)| *i).collect();
        for link in cut {
            if let Some(l) = self.links.get_mut(&link) {
                l.dead = true;
            }
            self.unjoin(&a, &b);
            self.at(self.now + millis(self.conditions.keep_alive), Step::CutOff(link));
        }
    }

    /// Ends the division. Links that broke meanwhile stay broken.
    pub fn heal(&mut self) {
        self.groups.clear();
    }

    /// Changes what the network is like, for frames sent and dials made from now on. Who can be reached directly, or no longer, has
    /// other addresses; links stay.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        let before = core::mem::replace(&mut self.conditions, conditions);
        if before.direct != conditions.direct {
            for node in self.hosts.keys().copied().collect::<Vec<_>>() {
                self.tell_addresses(node);
            }
        }
    }

    /// The hash of all that happened so far.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// Adds something that happened above the links to the trace.
    pub fn note(&mut self, node: &NodeId, what: &str) {
        self.trace.update(&self.now.to_be_bytes()).update(node.as_bytes()).update(what.as_bytes());
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Frames that reached a node so far.
    #[must_use]
    pub fn frames(&self, node: &NodeId) -> u64 {
        self.frames.get(node).map_or(0, |(frames, _)| *frames)
    }

    /// Bytes of frames that reached a node so far.
    #[must_use]
    pub fn bytes(&self, node: &NodeId) -> u64 {
        self.frames.get(node).map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes of frames that reached anybody so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// When the next thing happens by itself.
    #[must_use]
    pub fn next_step(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets time pass to `to` milliseconds, at most to the next step, and takes that step. Returns what it tells a node.
    pub fn step(&mut self, to: u64) -> Option<(NodeId, LinkEvent)> {
        while let Some((&(at, seq), _)) = self.queue.first_key_value()
            && at <= to
        {
            self.now = self.now.max(at);
            let Some(step) = self.queue.remove(&(at, seq)) else { break };
            if let Some(told) = self.take(step) {
                return Some(told);
            }
        }
        self.now = self.now.max(to);
        None
    }

    /// Carries out what a node's [`Peer`](crate::peer) asks for.
    pub fn command(&mut self, node: NodeId, command: LinkCommand) {
        if !self.hosts.contains_key(&node) {
            return;
        }
        match command {
            LinkCommand::UseRelay { address } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.kept.insert(address.clone(), false);
                }
                self.at(self.now, Step::RetryRelay(node, address));
            }
            LinkCommand::DropRelay { address } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.kept.remove(&address);
                }
                self.tell_addresses(node);
            }
            LinkCommand::Signal { node: other, message } if message == OFFER => {
                self.at(self.now, Step::Deliver(node, LinkEvent::Signal { node: other, message: ANSWER.to_vec() }));
            }
            LinkCommand::Signal { node: other, .. } => self.answered(node, other),
            // It tries them every second as it is.
            LinkCommand::NetworkChanged => {}
            LinkCommand::Dial { node: to, addresses } => self.dial(node, to, &addresses),
            LinkCommand::Send { link, lane, frame } => self.send(node, link, lane, frame),
            LinkCommand::Close { link } => {
                if let Some((&index, l)) = self.by_id.get(&link).and_then(|i| self.links.get_mut(i).map(|l| (i, l))) {
                    l.closing = true;
                    // What was written arrives; then the other side hears of the end.
                    let last = l.lanes.get(&(node, Lane::Control)).map_or(0, |(free, last)| *free.max(last));
                    self.at(last.max(self.now), Step::Close(index));
                }
            }
        }
    }

    fn at(&mut self, at: u64, step: Step) {
        self.next += 1;
        self.queue.insert((at, self.next), step);
    }

    /// The way from one node to another, in milliseconds: fixed for a pair, the same both ways.
    fn latency(&self, a: &NodeId, b: &NodeId) -> u64 {
        let (low, high) = pair(a, b);
        let mut hash = blake3::Hasher::new();
        let hash = hash.update(low.as_bytes()).update(high.as_bytes()).finalize();
        let (from, to) = (millis(self.conditions.latency.0), millis(self.conditions.latency.1));
        from + hash.as_bytes().first_chunk::<4>().map_or(0, |h| u64::from(u32::from_be_bytes(*h))) % (to.saturating_sub(from) + 1)
    }

    fn way(&self, a: &NodeId, b: &NodeId, through: Option<&NodeId>) -> u64 {
        through.map_or_else(|| self.latency(a, b), |r| self.latency(a, r) + self.latency(r, b))
    }

    fn group(&self, node: &NodeId) -> u32 {
        self.groups.get(node).copied().unwrap_or(0)
    }

    fn is_cut(&self, link: &Link) -> bool {
        let group = self.group(&link.ends[0].0);
        link.dead || group != self.group(&link.ends[1].0) || link.through.is_some_and(|r| self.group(&r) != group)
    }

    /// Whether a direct link joins the two.
    fn has_link(&self, a: &NodeId, b: &NodeId) -> bool {
        self.joined.contains_key(&pair(a, b))
    }

    fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.below(100) < u64::from(percent)
    }

    fn dial(&mut self, from: NodeId, to: NodeId, addresses: &[String]) {
        for address in addresses {
            if address.starts_with("/webrtc/") && self.conditions.direct {
                self.offers.insert((from, to));
                self.at(self.now, Step::Deliver(from, LinkEvent::Signal { node: to, message: OFFER.to_vec() }));
                self.at(self.now + DIAL_TIMEOUT, Step::Unanswered { from, to });
                return;
            }
            let parsed = parse(address);
            let Some(Target { relay, circuit, webrtc }) = parsed else { continue };
            if !circuit {
                if relay == to && self.reaches(&from, &to) {
                    let open = Step::Open { from, to, path: Path::Direct, through: None, relay_address: None };
                    self.at(self.now + 2 * self.latency(&from, &to), open);
                    return;
                }
                continue;
            }
            let signalled = self.reaches(&from, &relay) && self.reaches(&relay, &to) && self.has_link(&relay, &to);
            if !signalled || (webrtc && !(self.conditions.direct && self.reaches(&from, &to))) {
                continue;
            }
            let way = self.way(&from, &to, Some(&relay));
            let (path, through, takes) = if webrtc { (Path::Direct, None, 6 * way) } else { (Path::Relayed, Some(relay), 2 * way) };
            self.at(self.now + takes, Step::Open { from, to, path, through, relay_address: None });
            return;
        }
        self.fail(from, to, addresses.iter().any(|a| a.contains("/webrtc")));
    }

    /// The other side answered an offer, in time or not.
    fn answered(&mut self, from: NodeId, to: NodeId) {
        if self.offers.remove(&(from, to)) && self.reaches(&from, &to) {
            let open = Step::Open { from, to, path: Path::Direct, through: None, relay_address: None };
            self.at(self.now + 2 * self.latency(&from, &to), open);
        }
    }

    fn fail(&mut self, from: NodeId, to: NodeId, ice: bool) {
        let code = if ice { Code::IceFailed } else { Code::Unreachable };
        let failed = LinkEvent::DialFailed { node: to, code, reason: "no address led there".to_string() };
        self.at(self.now + DIAL_TIMEOUT, Step::Deliver(from, failed));
    }

    fn reaches(&self, a: &NodeId, b: &NodeId) -> bool {
        self.hosts.contains_key(a) && self.hosts.contains_key(b) && self.group(a) == self.group(b)
    }

    fn send(&mut self, node: NodeId, id: LinkId, lane: Lane, frame: Vec<u8>) {
        let Some((index, link)) = self.by_id.get(&id).and_then(|i| self.links.get(i).map(|l| (*i, l))) else { return };
        let Some(other) = link.ends.iter().find(|(n, _)| *n != node).copied() else { return };
        let way = self.way(&node, &other.0, link.through.as_ref());
        let cut = self.is_cut(link);
        let bytes = frame.len();
        let loss = if lane == Lane::Control { self.conditions.loss.1 } else { self.conditions.loss.0 };
        let (lost, late) = (self.chance(loss), self.chance(self.conditions.reorder));
        let jitter = self.rng.below(millis(self.conditions.jitter) + 1);
        let rate = self.conditions.rate.max(1);
        let now = self.now;
        let Some(link) = self.links.get_mut(&index) else { return };
        let (free, last) = link.lanes.entry((node, lane)).or_default();
        *free = (*free).max(now) + (bytes as u64).div_ceil(rate);
        let (written, in_order) = (*free, (*free + way + jitter).max(*last));
        // A frame that is overtaken comes three ways later and holds nobody up.
        let arrives = if late { in_order + 3 * way } else { in_order };
        if !late && !lost {
            *last = in_order;
        }
        self.at(written, Step::Deliver(node, LinkEvent::Drained { link: id, lane, bytes }));
        if !lost && !cut {
            self.at(arrives, Step::Deliver(other.0, LinkEvent::Frame { link: other.1, lane, frame }));
        }
    }

    fn take(&mut self, step: Step) -> Option<(NodeId, LinkEvent)> {
        match step {
            Step::Unanswered { from, to } => {
                if self.offers.remove(&(from, to)) {
                    self.fail(from, to, true);
                }
                None
            }
            Step::Deliver(node, event) => {
                // A link that is down says nothing more.
                let of = match &event {
                    LinkEvent::Frame { link, .. } | LinkEvent::Drained { link, .. } => Some(*link),
                    _ => None,
                };
                if !self.hosts.contains_key(&node) || of.is_some_and(|id| !self.by_id.contains_key(&id)) {
                    return None;
                }
                self.record(&node, &event);
                Some((node, event))
            }
            Step::Open { from, to, path, through, relay_address } => {
                let reached = self.reaches(&from, &to) && through.is_none_or(|r| self.reaches(&from, &r));
                if !reached {
                    if let Some(address) = relay_address {
                        self.at(self.now + RELAY_RETRY, Step::RetryRelay(from, address));
                    } else {
                        let failed = LinkEvent::DialFailed { node: to, code: Code::Unreachable, reason: "gone meanwhile".to_string() };
                        self.at(self.now, Step::Deliver(from, failed));
                    }
                    return None;
                }
                self.open(from, to, path, through);
                if relay_address.is_some() {
                    self.relay_state(from, to, true);
                }
                None
            }
            Step::RetryRelay(node, address) => {
                let kept = self.hosts.get(&node).is_some_and(|h| h.kept.contains_key(&address));
                if let Some(relay) = parse(&address).map(|t| t.relay).filter(|_| kept) {
                    if !self.reaches(&node, &relay) || !self.hosts.get(&relay).is_some_and(|h| h.relay) {
                        self.at(self.now + RELAY_RETRY, Step::RetryRelay(node, address));
                    } else if self.has_link(&node, &relay) {
                        self.relay_state(node, relay, true);
                    } else {
                        let open = Step::Open { from: node, to: relay, path: Path::Direct, through: None, relay_address: Some(address) };
                        self.at(self.now + 2 * self.latency(&node, &relay), open);
                    }
                }
                None
            }
            Step::CutOff(index) => {
                if self.links.get(&index).is_some_and(|l| self.is_cut(l)) {
                    self.break_link(index);
                }
                None
            }
            Step::Close(index) => {
                self.break_link(index);
                None
            }
        }
    }

    fn open(&mut self, from: NodeId, to: NodeId, path: Path, through: Option<NodeId>) {
        self.next += 2;
        let ends = [(from, LinkId(self.next - 1)), (to, LinkId(self.next))];
        let index = self.next;
        self.links.insert(index, Link { ends, path, through, lanes: BTreeMap::new(), closing: false, dead: false });
        if path == Path::Direct {
            *self.joined.entry(pair(&from, &to)).or_default() += 1;
        }
        for ((node, link), (other, _), side) in [(ends[0], ends[1], Side::Dialler), (ends[1], ends[0], Side::Listener)] {
            self.by_id.insert(link, index);
            let address = format!("/memory/0/p2p/{other}");
            let up = LinkEvent::Up { link, node: other, path, side, address, datagrams: path == Path::Direct };
            self.at(self.now, Step::Deliver(node, up));
        }
    }

    fn break_link(&mut self, index: u64) {
        let Some(link) = self.links.remove(&index) else { return };
        for (node, id) in link.ends {
            self.by_id.remove(&id);
            self.at(self.now, Step::Deliver(node, LinkEvent::Down { link: id }));
        }
        let [(a, _), (b, _)] = link.ends;
        if link.path == Path::Direct {
            if !link.dead {
                self.unjoin(&a, &b);
            }
            if !self.has_link(&a, &b) {
                self.relay_state(a, b, false);
                self.relay_state(b, a, false);
            }
        }
    }

    /// One direct link less joins the two.
    fn unjoin(&mut self, a: &NodeId, b: &NodeId) {
        if let Some(n) = self.joined.get_mut(&pair(a, b)) {
            *n -= 1;
            if *n == 0 {
                self.joined.remove(&pair(a, b));
            }
        }
    }

    /// Reports a kept relay as usable or not, and what that makes of the node's addresses.
    fn relay_state(&mut self, node: NodeId, relay: NodeId, up: bool) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let changed: Vec<String> =
            host.kept.iter().filter(|(a, was)| **was != up && parse(a).is_some_and(|t| t.relay == relay)).map(|(a, _)| a.clone()).collect();
        for address in changed {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.kept.insert(address.clone(), up);
            }
            self.at(self.now, Step::Deliver(node, LinkEvent::Relay { address: address.clone(), up }));
            self.tell_addresses(node);
            if !up {
                self.at(self.now + RELAY_RETRY, Step::RetryRelay(node, address));
            }
        }
    }

    fn tell_addresses(&mut self, node: NodeId) {
        let direct = self.conditions.direct;
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let relays: BTreeSet<&String> = host.kept.iter().filter(|(_, up)| **up).map(|(a, _)| a).collect();
        let signals = direct && !host.listens;
        let own = host.listens.then(|| relay_address(&node));
        let webrtc = relays.iter().filter(|_| signals).map(|r| format!("{r}/p2p-circuit/webrtc/p2p/{node}"));
        let circuits = relays.iter().map(|r| format!("{r}/p2p-circuit/p2p/{node}"));
        let signalled = signals.then(|| format!("/webrtc/p2p/{node}"));
        let addresses: Vec<String> = own.into_iter().chain(webrtc).chain(circuits).chain(signalled).collect();
        if host.addresses != addresses {
            host.addresses.clone_from(&addresses);
            self.at(self.now, Step::Deliver(node, LinkEvent::Addresses(addresses)));
        }
    }

    fn record(&mut self, node: &NodeId, event: &LinkEvent) {
        self.trace.update(&self.now.to_be_bytes()).update(node.as_bytes());
        if let LinkEvent::Frame { link, lane, frame } = event {
            let (frames, bytes) = self.frames.entry(*node).or_default();
            (*frames, *bytes) = (*frames + 1, *bytes + frame.len() as u64);
            self.traffic.count(frame);
            self.trace.update(&link.0.to_be_bytes()).update(&[*lane as u8]).update(frame);
        } else {
            self.trace.update(format!("{event:?}").as_bytes());
        }
    }
}

struct Target {
    relay: NodeId,
    circuit: bool,
    webrtc: bool,
}

fn relay_address(node: &NodeId) -> String {
    format!("/memory/1/p2p/{node}")
}

fn parse(address: &str) -> Option<Target> {
    let rest = address.strip_prefix("/memory/1/p2p/")?;
    let (relay, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let circuit = rest.starts_with("p2p-circuit");
    Some(Target { relay: relay.parse().ok()?, circuit, webrtc: rest.contains("/webrtc") })
}

fn pair(a: &NodeId, b: &NodeId) -> (NodeId, NodeId) {
    if a <= b { (*a, *b) } else { (*b, *a) }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl core::fmt::Debug for Net {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Net({} ms, {} nodes, {} links)", self.now, self.hosts.len(), self.links.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_public_key([n; 32])
    }

    fn run(net: &mut Net, to: u64) -> Vec<(u64, NodeId, LinkEvent)> {
        let mut told = Vec::new();
        while let Some((node, event)) = net.step(to) {
            told.push((net.now(), node, event));
        }
        told
    }

    /// A relay and two nodes that keep it; the second dials the first.
    fn three(conditions: Conditions, webrtc: bool) -> (Net, LinkId, LinkId) {
        let mut net = Net::new(conditions, Rng::from_seed([1; 32]));
        let address = net.add(id(1), true);
        for n in [2, 3] {
            net.add(id(n), false);
            net.command(id(n), LinkCommand::UseRelay { address: address.clone() });
        }
        let told = run(&mut net, 1_000);
        let listed =
            told.iter().find_map(|(_, n, e)| if let (true, LinkEvent::Addresses(a)) = (*n == id(2), e) { Some(a.clone()) } else { None });
        let address = listed.unwrap().into_iter().find(|a| a.contains("/webrtc") == webrtc).unwrap();
        net.command(id(3), LinkCommand::Dial { node: id(2), addresses: Vec::from([address]) });
        let told = run(&mut net, 2_000);
        let up = |n| {
            told.iter().find_map(|(_, to, e)| if let (true, LinkEvent::Up { link, .. }) = (*to == id(n), e) { Some(*link) } else { None })
        };
        (net, up(3).unwrap(), up(2).unwrap())
    }

    #[test]
    fn frames_keep_their_order_in_a_lane_and_are_reported_written() {
        let (mut net, a, b) = three(Conditions::default(), true);
        for i in 0..50u8 {
            net.command(id(3), LinkCommand::Send { link: a, lane: Lane::Bulk, frame: Vec::from([i; 3_000]) });
        }
        net.command(id(3), LinkCommand::Send { link: a, lane: Lane::Control, frame: Vec::from([99]) });
        let told = run(&mut net, 3_000);
        let order: Vec<u8> = told
            .iter()
            .filter_map(|(_, _, e)| if let LinkEvent::Frame { link, frame, .. } = e { (*link == b).then(|| frame[0]) } else { None })
            .collect();
        assert_eq!((order.len(), order[0]), (51, 99), "control does not wait behind bulk");
        assert!(order[1..].is_sorted());
        let drained: usize = told.iter().map(|(_, _, e)| if let LinkEvent::Drained { bytes, .. } = e { *bytes } else { 0 }).sum();
        assert_eq!(drained, 50 * 3_000 + 1);
    }

    #[test]
    fn a_relayed_link_breaks_with_its_relay_and_a_direct_one_does_not() {
        for (webrtc, breaks) in [(false, true), (true, false)] {
            let (mut net, a, _) = three(Conditions::default(), webrtc);
            net.crash(id(1));
            let told = run(&mut net, 4_000);
            assert_eq!(told.iter().any(|(_, _, e)| *e == LinkEvent::Down { link: a }), breaks);
            assert!(told.iter().any(|(_, n, e)| *n == id(2) && matches!(e, LinkEvent::Relay { up: false, .. })));
            net.add(id(1), true);
            let told = run(&mut net, 8_000);
            assert!(told.iter().any(|(_, n, e)| *n == id(2) && matches!(e, LinkEvent::Relay { up: true, .. })), "kept");
        }
    }

    #[test]
    fn a_partition_silences_then_breaks_and_loss_is_as_told() {
        let (mut net, a, b) = three(Conditions::default(), true);
        net.partition(BTreeMap::from([(id(3), 1)]));
        net.command(id(3), LinkCommand::Send { link: a, lane: Lane::Bulk, frame: Vec::from([1]) });
        let told = run(&mut net, 9_000);
        assert!(!told.iter().any(|(_, _, e)| matches!(e, LinkEvent::Frame { .. })));
        assert!(told.iter().any(|(t, _, e)| *t >= 7_000 && *e == LinkEvent::Down { link: b }));
        let (mut net, a, _) = three(Conditions { loss: (20, 0), ..Conditions::default() }, true);
        for _ in 0..1_000 {
            net.command(id(3), LinkCommand::Send { link: a, lane: Lane::Bulk, frame: Vec::from([1]) });
        }
        let arrived = run(&mut net, 9_000).iter().filter(|(_, _, e)| matches!(e, LinkEvent::Frame { .. })).count();
        assert!((740..860).contains(&arrived), "{arrived}");
    }

    #[test]
    fn nobody_is_reached_who_is_not_there_and_the_trace_is_the_seeds() {
        let trace = |seed| {
            let mut net = Net::new(Conditions::default(), Rng::from_seed([seed; 32]));
            let address = net.add(id(1), true);
            net.add(id(2), false);
            net.command(id(2), LinkCommand::UseRelay { address: address.clone() });
            net.command(id(2), LinkCommand::Dial { node: id(9), addresses: Vec::from([format!("{address}/p2p-circuit/p2p/{}", id(9))]) });
            let told = run(&mut net, 5_000);
            assert!(told.iter().any(|(_, _, e)| matches!(e, LinkEvent::DialFailed { code: Code::Unreachable, .. })));
            net.trace()
        };
        assert_eq!(trace(1), trace(1));
    }
}
