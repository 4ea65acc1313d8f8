//! Machines on a simulated network, driven in the order of a simulated clock.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::time::Duration;

use super::net::{Conditions, Net};
use crate::base::{Mono, NodeId, Now, Rng, Wall};
use crate::crypto::sign::SigningKey;
use crate::peer::{LinkCommand, LinkEvent};

/// The wall clock at the start of every simulation: 2025-01-01, in Unix milliseconds.
pub const START: u64 = 1_735_689_600_000;

/// A machine that is woken so often in a row without doing what is due has a fault.
const RESTLESS: u32 = 20;

/// What the world drives: a node without I/O, with a name for each thing the driver of a real platform does to it.
pub trait Machine {
    /// What it tells its application.
    type Output: core::fmt::Debug;
    /// Something the platform reports.
    fn handle(&mut self, now: Now, event: LinkEvent);
    /// Time passed.
    fn on_timeout(&mut self, now: Now);
    /// The next effect.
    fn poll_output(&mut self) -> Option<Effect<Self::Output>>;
    /// When it wants [`Machine::on_timeout`].
    fn next_timeout(&self) -> Option<Mono>;
}

/// An effect of a [`Machine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// For the platform.
    Link(LinkCommand),
    /// For the application.
    Output(T),
}

struct Host<M: Machine> {
    machine: M,
    /// How far its wall clock is off, in milliseconds.
    skew: i64,
    wake: Option<u64>,
    /// How often in a row it was woken and still wanted to be woken at once.
    restless: u32,
    /// Its timers run at multiples of so many milliseconds only.
    throttle: u64,
    /// While it is frozen: what comes meanwhile.
    held: Option<Vec<LinkEvent>>,
    outputs: Vec<M::Output>,
}

/// A world: nodes, the network between them, and one clock.
pub struct World<M: Machine> {
    net: Net,
    rng: Rng,
    hosts: BTreeMap<NodeId, Host<M>>,
    wakes: BTreeSet<(u64, NodeId)>,
}

impl<M: Machine> World<M> {
    /// An empty world. Everything in it follows from `seed` and what is done to it.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions) -> World<M> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut rng = Rng::from_seed(bytes);
        World { net: Net::new(conditions, rng.fork("net")), rng, hosts: BTreeMap::new(), wakes: BTreeSet::new() }
    }

    /// Adds a node whose wall clock is `skew` milliseconds ahead; `make` builds it from its identity and a seed. Returns its id and
    /// the address at which others can keep it, if it is a relay.
    pub fn add(&mut self, relay: bool, skew: i64, make: impl FnOnce(Now, SigningKey, [u8; 32]) -> M) -> (NodeId, String) {
        let key = SigningKey::generate(&mut self.rng);
        self.bring(key, relay, skew, make)
    }

    /// Adds a node of an identity that is known already, such as one that crashed and is started again.
    pub fn bring(
        &mut self,
        key: SigningKey,
        relay: bool,
        skew: i64,
        make: impl FnOnce(Now, SigningKey, [u8; 32]) -> M,
    ) -> (NodeId, String) {
        let (node, seed) = (key.node_id(), self.rng.bytes());
        let machine = make(clock(self.net.now(), skew), key, seed);
        let address = self.net.add(node, relay);
        self.hosts.insert(node, Host { machine, skew, wake: None, restless: 0, throttle: 1, held: None, outputs: Vec::new() });
        self.settle(node);
        (node, address)
    }

    /// Takes a node away without a word.
    pub fn crash(&mut self, node: NodeId) {
        self.net.crash(node);
        self.remove(node);
    }

    /// Takes a node away so that nobody notices at once: its links stay up until their keep-alive is over.
    pub fn vanish(&mut self, node: NodeId) {
        self.net.vanish(node);
        self.remove(node);
    }

    fn remove(&mut self, node: NodeId) {
        if let Some(at) = self.hosts.remove(&node).and_then(|host| host.wake) {
            self.wakes.remove(&(at, node));
        }
    }

    /// Lets a node's timers run only once in this time, as browsers do to hidden tabs, or every millisecond again. What comes
    /// over its links is not held up.
    pub fn throttle(&mut self, node: NodeId, every: Duration) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.throttle = u64::try_from(every.as_millis()).unwrap_or(1).max(1);
        }
        self.settle(node);
    }

    /// Stops a node's process, as a browser does to a tab and a lid to a laptop, with its links up as far as the network keeps
    /// them. [`World::thaw`] lets it go on.
    pub fn freeze(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.held.get_or_insert_default();
            if let Some(at) = host.wake.take() {
                self.wakes.remove(&(at, node));
            }
        }
    }

    /// Lets a frozen node go on, with all that came meanwhile.
    pub fn thaw(&mut self, node: NodeId) {
        let held = self.hosts.get_mut(&node).and_then(|host| host.held.take());
        for event in held.unwrap_or_default() {
            self.tell(node, event);
        }
        self.settle(node);
    }

    /// The network, to divide, heal or change it.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.net.now()
    }

    /// Every node there is.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    /// Gives a command to a node, and carries out what comes of it.
    ///
    /// # Panics
    /// If there is no such node: the test is wrong.
    pub fn act<T>(&mut self, node: NodeId, command: impl FnOnce(&mut M, Now) -> T) -> T {
        let net = &self.net;
        let host = self.hosts.get_mut(&node).expect("the node is in the world"); // invariant: tests name nodes they added
        let now = clock(net.now(), host.skew);
        let result = command(&mut host.machine, now);
        self.settle(node);
        result
    }

    /// Looks at a node.
    ///
    /// # Panics
    /// If there is no such node: the test is wrong.
    pub fn look<T>(&self, node: NodeId, look: impl FnOnce(&M, Now) -> T) -> T {
        let host = &self.hosts[&node];
        look(&host.machine, clock(self.net.now(), host.skew))
    }

    /// What a node told its application since the last call.
    pub fn outputs(&mut self, node: NodeId) -> Vec<M::Output> {
        self.hosts.get_mut(&node).map(|host| core::mem::take(&mut host.outputs)).unwrap_or_default()
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until `done` holds, which is looked at every 50 ms. Tells whether it came to hold.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut World<M>) -> bool) -> bool {
        let end = self.now() + u64::try_from(time.as_millis()).unwrap_or(0);
        loop {
            if done(self) {
                return true;
            }
            let pause = (self.now() + 50).min(end);
            self.advance(pause);
            if pause == end {
                return done(self);
            }
        }
    }

    /// The hash of every link event, every frame and everything the applications were told.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        self.net.trace()
    }

    fn advance(&mut self, end: u64) {
        loop {
            let wake = self.wakes.first().copied().filter(|(at, _)| *at <= end);
            if let Some((node, event)) = self.net.step(wake.map_or(end, |(at, _)| at)) {
                self.tell(node, event);
            } else if let Some((at, node)) = wake {
                self.wakes.remove(&(at, node));
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.wake = None;
                    let now = clock(self.net.now(), host.skew);
                    host.machine.on_timeout(now);
                    self.settle(node);
                    self.check_rest(node);
                }
            } else {
                return;
            }
        }
    }

    /// A machine does what is due when it is woken: else it would keep a real node's processor busy with nothing.
    fn check_rest(&mut self, node: NodeId) {
        let now = self.net.now();
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let rests = host.machine.next_timeout().is_none_or(|at| at.0 > now);
        host.restless = if rests { 0 } else { host.restless + 1 };
        assert!(host.restless < RESTLESS, "{node} is woken again and again and does not do what is due");
    }

    fn tell(&mut self, node: NodeId, event: LinkEvent) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        if let Some(held) = &mut host.held {
            held.push(event);
            return;
        }
        host.machine.handle(clock(self.net.now(), host.skew), event);
        self.settle(node);
    }

    fn settle(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.held.is_none()) else { return };
        while let Some(output) = host.machine.poll_output() {
            match output {
                Effect::Link(command) => self.net.command(node, command),
                Effect::Output(output) => {
                    self.net.note(&node, &format!("{output:?}"));
                    host.outputs.push(output);
                }
            }
        }
        // A deadline that is past already is met a millisecond later, so that time goes on.
        let wake = host.machine.next_timeout().map(|at| at.0.max(self.net.now() + 1).next_multiple_of(host.throttle));
        if wake != host.wake {
            if let Some(at) = host.wake {
                self.wakes.remove(&(at, node));
            }
            if let Some(at) = wake {
                self.wakes.insert((at, node));
            }
            host.wake = wake;
        }
    }
}

fn clock(now: u64, skew: i64) -> Now {
    Now { mono: Mono(now), wall: Wall((START + now).saturating_add_signed(skew)) }
}

impl<M: Machine> core::fmt::Debug for World<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "World({} ms, {} nodes)", self.now(), self.hosts.len())
    }
}
