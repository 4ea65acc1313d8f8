//! Peers that break the framing, speak garbage, or do not speak the protocol at all.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, Swarm, identity, ping};
use peerage::base::limit;
use peerage::peer::{Lane, LinkCommand, LinkEvent};
use peerage::platform::links::{AHEAD, address, secure};
use tokio::io::AsyncWriteExt as _;

use crate::support::{Node, PATIENCE, connect};

/// A stranger that opens both lanes as a dialler does, then writes what it likes on the bulk lane.
mod stranger {
    use super::*;
    use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent, FullyNegotiatedOutbound};
    use libp2p::swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, SubstreamProtocol, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    };
    use libp2p::{PeerId, core::Endpoint, core::transport::PortUse, core::upgrade::DeniedUpgrade};
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    pub struct Behaviour(pub Vec<u8>);
    pub struct Handler {
        ask: Vec<StreamProtocol>,
        words: Vec<u8>,
        task: Vec<futures::future::BoxFuture<'static, ()>>,
    }

    impl ConnectionHandler for Handler {
        type FromBehaviour = Infallible;
        type ToBehaviour = Infallible;
        type InboundProtocol = DeniedUpgrade;
        type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = bool;
        fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
            SubstreamProtocol::new(DeniedUpgrade, ())
        }
        fn connection_keep_alive(&self) -> bool {
            true
        }
        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, bool, Infallible>> {
            self.task.retain_mut(|t| t.as_mut().poll(cx).is_pending());
            match self.ask.pop() {
                Some(name) => {
                    let bulk = name.as_ref().contains("bulk");
                    let protocol = SubstreamProtocol::new(ReadyUpgrade::new(name), bulk);
                    Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
                }
                None => Poll::Pending,
            }
        }
        fn on_behaviour_event(&mut self, event: Infallible) {
            match event {}
        }
        fn on_connection_event(&mut self, event: ConnectionEvent<DeniedUpgrade, Self::OutboundProtocol, (), bool>) {
            if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: mut stream, info: bulk }) = event {
                let words = if bulk { std::mem::take(&mut self.words) } else { Vec::new() };
                self.task.push(Box::pin(async move {
                    // The other side may cut the stream at any moment: that is what is tested.
                    let _ = stream.write_all(&words).await;
                    let _ = stream.flush().await;
                    let _ = stream.read(&mut [0; 1]).await;
                }));
            }
        }
    }

    impl NetworkBehaviour for Behaviour {
        type ConnectionHandler = Handler;
        type ToSwarm = Infallible;
        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<Handler, ConnectionDenied> {
            Ok(Handler { ask: Vec::new(), words: Vec::new(), task: Vec::new() })
        }
        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<Handler, ConnectionDenied> {
            let ask = vec![StreamProtocol::new("/peerage/control/1"), StreamProtocol::new("/peerage/bulk/1")];
            Ok(Handler { ask, words: self.0.clone(), task: Vec::new() })
        }
        fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}
        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
            match event {}
        }
        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
            Poll::Pending
        }
    }
}

fn swarm<B: libp2p::swarm::NetworkBehaviour>(behaviour: B) -> Swarm<B> {
    let key = identity::Keypair::generate_ed25519();
    let tcp = libp2p::tcp::tokio::Transport::new(libp2p::tcp::Config::default());
    let transport = secure(tcp, &key, AHEAD).unwrap();
    Swarm::new(transport, behaviour, key.public().to_peer_id(), libp2p::swarm::Config::with_tokio_executor())
}

/// The victim's view of a stranger saying these words on the bulk lane: the link comes up, and goes down.
async fn says(words: Vec<u8>) {
    let mut victim = Node::listening(&["/ip4/127.0.0.1/tcp/0"]);
    let addresses = victim.addresses(1, |_| true).await;
    let mut stranger = swarm(stranger::Behaviour(words));
    let who = address::node_id(stranger.local_peer_id()).unwrap();
    stranger.dial(addresses[0].parse::<Multiaddr>().unwrap()).unwrap();
    let running = tokio::spawn(async move { while stranger.next().await.is_some() {} });
    let (link, ..) = victim.up(who).await;
    victim
        .wait("the link goes down without a frame", |event| match event {
            LinkEvent::Frame { .. } => panic!("garbage came through as a frame"),
            LinkEvent::Down { link: gone } => (gone == link).then_some(()),
            _ => None,
        })
        .await;
    running.abort();
    // Nothing happened to anybody else.
    let mut friend = Node::listening(&[]);
    let (at_friend, _) = connect(&mut friend, &mut victim, &addresses).await;
    friend.command(LinkCommand::Send { link: at_friend, lane: Lane::Control, frame: b"still there?".to_vec() });
    victim.wait("a frame from a friend", |e| matches!(e, LinkEvent::Frame { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_link() {
    let mut length = unsigned_varint::encode::usize_buffer();
    let mut words = unsigned_varint::encode::usize(limit::FRAME + 1, &mut length).to_vec();
    words.extend(vec![0; limit::FRAME + 1]);
    says(words).await;
}

#[tokio::test]
async fn a_length_of_exabytes_closes_the_link() {
    says(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).await;
}

#[tokio::test]
async fn a_length_that_is_no_varint_closes_the_link() {
    says(vec![0xff; 64]).await;
}

#[tokio::test]
async fn a_node_that_speaks_other_protocols_keeps_its_connection_and_gets_no_link() {
    let mut foreign = swarm(ping::Behaviour::new(ping::Config::new().with_interval(std::time::Duration::from_millis(100))));
    foreign.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let libp2p::swarm::SwarmEvent::NewListenAddr { address, .. } = foreign.select_next_some().await {
            break address;
        }
    };
    let id = address::node_id(foreign.local_peer_id()).unwrap();
    let mut node = Node::listening(&[]);
    node.dial(id, &[address.to_string()]);
    let (pinged, mut answers) = tokio::sync::mpsc::channel(100);
    let running = tokio::spawn(async move {
        loop {
            let event = foreign.select_next_some().await;
            if let libp2p::swarm::SwarmEvent::Behaviour(ping::Event { result, .. }) = event
                && pinged.send(result.is_ok()).await.is_err()
            {
                return;
            }
        }
    });
    let who = node.wait("a foreign node", |e| if let LinkEvent::Foreign { node, .. } = e { Some(node) } else { None }).await;
    assert_eq!(who, id, "it answers pings, and is told as no link");
    while answers.try_recv().is_ok() {}
    let answer = tokio::time::timeout(PATIENCE, answers.recv()).await.unwrap();
    assert_eq!(answer, Some(true), "the connection still answers pings");
    drop(answers);
    running.abort();
}

#[tokio::test]
async fn raw_garbage_on_the_port_harms_nobody() {
    let mut victim = Node::listening(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"]);
    let addresses = victim.addresses(2, |_| true).await;
    for address in &addresses {
        let port = address.split("/tcp/").nth(1).unwrap().split('/').next().unwrap();
        for seed in 0..20u8 {
            let mut socket = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
            let mut garbage: Vec<u8> = (0..2_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
            // What is told apart by the first byte: HTTP, TLS, all else.
            garbage[0] = [b'G', 0x16, seed][usize::from(seed) % 3];
            // The victim may hang up in the middle.
            let _ = socket.write_all(&garbage).await;
        }
    }
    let mut friend = Node::listening(&[]);
    connect(&mut friend, &mut victim, &addresses).await;
}

/// A STUN binding request (RFC 8489) as a browser's first packet on WebRTC-direct: the names are the whole of it.
fn binding_request(n: u16) -> Vec<u8> {
    let name = format!("libp2p+webrtc+v1/stranger{n:06}");
    let user = format!("{name}:{name}");
    let mut padded = user.clone().into_bytes();
    padded.resize(user.len().next_multiple_of(4), 0);
    let mut packet = vec![0, 1];
    packet.extend((4 + padded.len() as u16).to_be_bytes());
    packet.extend([0x21, 0x12, 0xa4, 0x42]);
    packet.extend([[0; 10].as_slice(), &n.to_be_bytes()].concat());
    packet.extend([0, 6]);
    packet.extend((user.len() as u16).to_be_bytes());
    packet.extend(padded);
    packet
}

/// Each first packet from a new address starts a handshake, which takes long to fail: there is a bound, and others come in meanwhile.
#[tokio::test]
async fn strangers_that_begin_handshakes_keep_nobody_out() {
    let mut victim = Node::listening(&["/ip4/127.0.0.1/udp/0/webrtc-direct", "/ip4/127.0.0.1/tcp/0"]);
    let addresses = victim.addresses(2, |_| true).await;
    let (web, plain): (Vec<String>, Vec<String>) = addresses.into_iter().partition(|a| a.contains("webrtc"));
    let port = web[0].split("/udp/").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let mut strangers = Vec::new();
    for n in 0..600 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&binding_request(n), format!("127.0.0.1:{port}")).await.unwrap();
        strangers.push(socket);
    }
    // Those that it takes have come in: each is some tasks.
    let taken = async {
        while metrics.num_alive_tasks() < before + 64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("handshakes begin");
    let mut friend = Node::listening(&[]);
    connect(&mut friend, &mut victim, &plain).await;
    let tasks = metrics.num_alive_tasks() - before;
    assert!(tasks < 300, "{tasks} tasks for 600 handshakes");
}

/// What runs on the runtime is the same before and after a hundred links.
#[tokio::test]
async fn links_leave_no_task_behind() {
    let mut b = Node::listening(&["/ip4/127.0.0.1/tcp/0"]);
    let addresses = b.addresses(1, |_| true).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut a = Node::listening(&[]);
    let before = metrics.num_alive_tasks();
    for _ in 0..20 {
        let (at_a, at_b) = connect(&mut a, &mut b, &addresses).await;
        a.command(LinkCommand::Close { link: at_a });
        a.down(at_a).await;
        b.down(at_b).await;
    }
    let settled = async {
        while metrics.num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("{} tasks, {before} before", metrics.num_alive_tasks()));
}
