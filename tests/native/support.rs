//! A node made of a bare platform: a task drives it, a test sends commands and reads events.

use std::future::poll_fn;
use std::time::Duration;

use peerage::base::{LinkId, NodeId};
use peerage::crypto::sign::SigningKey;
use peerage::peer::{LinkCommand, LinkEvent, Path, Side};
use peerage::platform::native::{NativeConfig, NativePlatform, RelayLimits, entropy};
use peerage::runtime::port::Platform;
use tokio::sync::mpsc;

/// How long anything in these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One node under test.
pub struct Node {
    pub id: NodeId,
    commands: mpsc::UnboundedSender<LinkCommand>,
    pub events: mpsc::Receiver<LinkEvent>,
    pub task: tokio::task::JoinHandle<()>,
    pub traffic: std::sync::Arc<peerage::platform::native::Traffic>,
}

impl Node {
    /// A node whose driver takes at most `ahead` events more than the test reads, and stops polling then.
    pub fn with(config: NativeConfig, ahead: usize) -> Node {
        let key = SigningKey::generate(&mut entropy().unwrap());
        let mut platform = NativePlatform::new(&key, &config).unwrap();
        let traffic = platform.traffic();
        let (commands, mut inbox) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel(ahead);
        let task = tokio::spawn(async move {
            loop {
                let permit = tokio::select! {
                    permit = sender.reserve() => permit,
                    command = inbox.recv() => match command {
                        Some(command) => {
                            platform.command(command);
                            continue;
                        }
                        None => return,
                    },
                };
                let Ok(permit) = permit else { return };
                tokio::select! {
                    event = poll_fn(|cx| platform.poll_event(cx)) => match event {
                        Some(event) => permit.send(event),
                        None => return,
                    },
                    command = inbox.recv() => match command {
                        Some(command) => platform.command(command),
                        None => return,
                    },
                }
            }
        });
        Node { id: key.node_id(), commands, events, task, traffic }
    }

    /// A node that listens on these addresses.
    pub fn listening(addresses: &[&str]) -> Node {
        Node::with(NativeConfig { listen: addresses.iter().map(ToString::to_string).collect(), ..NativeConfig::default() }, 100_000)
    }

    /// A relay on TCP and WebSocket.
    pub fn relay(limits: RelayLimits) -> Node {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".into(), "/ip4/127.0.0.1/tcp/0/ws".into()];
        Node::with(NativeConfig { listen, serve: Some(limits), ..NativeConfig::default() }, 100_000)
    }

    /// A node that only a relay makes reachable.
    pub fn behind_relay() -> Node {
        Node::with(NativeConfig { reserve: true, ..NativeConfig::default() }, 100_000)
    }

    pub fn command(&self, command: LinkCommand) {
        self.commands.send(command).unwrap();
    }

    /// The first event that `pick` takes; others are passed over.
    pub async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(LinkEvent) -> Option<T>) -> T {
        let found = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = pick(event) {
                    return found;
                }
            }
            panic!("the node stopped before: {what}");
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("not seen in time: {what}"))
    }

    /// Waits until the node tells this many addresses that `wanted` likes, and gives them.
    pub async fn addresses(&mut self, count: usize, wanted: fn(&str) -> bool) -> Vec<String> {
        self.wait("addresses", |event| match event {
            LinkEvent::Addresses(all) => {
                let liked: Vec<String> = all.into_iter().filter(|a| wanted(a)).collect();
                (liked.len() >= count).then_some(liked)
            }
            _ => None,
        })
        .await
    }

    /// The next link with this node.
    pub async fn up(&mut self, with: NodeId) -> (LinkId, Path, Side) {
        self.wait("link up", |event| match event {
            LinkEvent::Up { link, node, path, side, .. } if node == with => Some((link, path, side)),
            LinkEvent::DialFailed { node, reason, .. } if node == with => panic!("dial failed: {reason}"),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self, gone: LinkId) {
        self.wait("link down", |event| matches!(event, LinkEvent::Down { link } if link == gone).then_some(())).await;
    }

    pub fn dial(&self, node: NodeId, addresses: &[String]) {
        self.command(LinkCommand::Dial { node, addresses: addresses.to_vec() });
    }

    /// Reserves on the relay; the circuit addresses it gives.
    pub async fn reserve(&mut self, relay: &str) -> Vec<String> {
        self.command(LinkCommand::UseRelay { address: relay.into() });
        let mut circuits = Vec::new();
        let mut up = false;
        self.wait("reservation", |event| {
            match event {
                LinkEvent::Relay { address, up: now } => {
                    assert_eq!(address, relay);
                    up = now;
                }
                LinkEvent::Addresses(all) => circuits = all.into_iter().filter(|a| a.contains("p2p-circuit")).collect(),
                _ => {}
            }
            (up && !circuits.is_empty()).then(|| circuits.clone())
        })
        .await
    }

    /// Stops the node and waits for its task.
    pub async fn stop(self) {
        drop(self.commands);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the driver stops").unwrap();
    }
}

/// Links two nodes over one address of `b`'s; the link as `a` and as `b` number it.
pub async fn connect(a: &mut Node, b: &mut Node, addresses: &[String]) -> (LinkId, LinkId) {
    a.dial(b.id, addresses);
    let (at_a, _, side) = a.up(b.id).await;
    assert_eq!(side, Side::Dialler);
    let (at_b, _, side) = b.up(a.id).await;
    assert_eq!(side, Side::Listener);
    (at_a, at_b)
}
/// Shows what libp2p does, with RUST_LOG set.
pub fn trace() {
    let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init();
}
