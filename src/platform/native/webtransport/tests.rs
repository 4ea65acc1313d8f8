//! Over real sockets of loopback.

use std::future::poll_fn;
use std::sync::atomic::AtomicU64;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerExt};
use libp2p::core::transport::PortUse;
use tokio::sync::mpsc;

use super::*;
use crate::platform::native::{clock, install_crypto};

/// A listener that sends back what it gets on each stream, the addresses it tells, and the time that it goes by.
struct Scene {
    peer: PeerId,
    told: mpsc::UnboundedReceiver<(bool, Multiaddr)>,
    time: Arc<AtomicU64>,
}

fn identity() -> identity::Keypair {
    identity::Keypair::generate_ed25519()
}

/// A listener whose certificates follow from this secret, by a clock that says this time.
fn listen(secret: [u8; 32], now: Wall) -> Scene {
    let bounds = Bounds { look: Duration::from_millis(20), ..Bounds::default() };
    listen_within(bounds, secret, now)
}

fn listen_within(bounds: Bounds, secret: [u8; 32], now: Wall) -> Scene {
    install_crypto();
    let key = identity();
    let peer = key.public().to_peer_id();
    let time = Arc::new(AtomicU64::new(now.0));
    let clock = { time.clone() };
    let transport = WebTransport::new(key, &secret, Arc::new(move || Wall(clock.load(Ordering::Relaxed))));
    let mut transport = WebTransport { bounds, ..transport }.boxed();
    transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/udp/0/quic-v1/webtransport".parse().unwrap()).unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            match transport.select_next_some().await {
                TransportEvent::NewAddress { listen_addr, .. } => drop(tell.send((true, listen_addr))),
                TransportEvent::AddressExpired { listen_addr, .. } => drop(tell.send((false, listen_addr))),
                TransportEvent::Incoming { upgrade, .. } => drop(tokio::spawn(echo(upgrade))),
                other => panic!("{other:?}"),
            }
        }
    });
    Scene { peer, told, time }
}

async fn echo(upgrade: Upgrade) {
    let Ok((_, mut connection)) = upgrade.await else { return };
    while let Ok(stream) = poll_fn(|cx| connection.poll_inbound_unpin(cx)).await {
        tokio::spawn(async move {
            let (read, mut write) = stream.split();
            let _ = futures::io::copy(read, &mut write).await;
            let _ = write.close().await;
        });
    }
}

impl Scene {
    async fn new_address(&mut self) -> Multiaddr {
        loop {
            if let (true, address) = self.told.recv().await.unwrap() {
                return address;
            }
        }
    }
}

async fn dial(address: Multiaddr) -> io::Result<(PeerId, Connection)> {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let mut transport = WebTransport::new(identity(), &[0; 32], Arc::new(|| clock().wall));
    transport.dial(address, options).map_err(io::Error::other)?.await
}

async fn open(connection: &mut Connection) -> connection::Stream {
    poll_fn(|cx| Pin::new(&mut *connection).poll_outbound(cx)).await.unwrap()
}

async fn comes_back(stream: &mut connection::Stream, size: usize) {
    let bytes: Vec<u8> = (0..size).map(|i| i as u8).collect();
    let (mut read, mut write) = stream.split();
    let mut got = vec![0; size];
    let (sent, received) = futures::join!(
        async {
            write.write_all(&bytes).await?;
            write.flush().await
        },
        read.read_exact(&mut got)
    );
    sent.unwrap();
    received.unwrap();
    assert_eq!(got, bytes);
}

/// A secret whose certificates change within the next hours, and when: both certificates are valid by the real clock, which diallers go by.
fn about_to_change() -> ([u8; 32], Wall) {
    let now = clock().wall;
    let hours = 20 * 60 * 60 * 1_000;
    (0u8..=255)
        .map(|seed| ([seed; 32], Certificates::new(&[seed; 32])))
        .find_map(|(secret, all)| {
            let next = all.start(all.period(now) + 1);
            (next.0 - now.0 < hours).then_some((secret, next))
        })
        .expect("one in a dozen does")
}

#[tokio::test]
async fn streams_go_on_and_diallers_come_in_while_the_certificate_changes() {
    let (secret, change) = about_to_change();
    let mut scene = listen(secret, Wall(change.0 - 1));
    let old = scene.new_address().await;
    let (peer, mut before) = dial(old.clone()).await.unwrap();
    assert_eq!(peer, scene.peer);
    let mut stream = open(&mut before).await;
    comes_back(&mut stream, 300_000).await;

    scene.time.store(change.0, Ordering::Relaxed);
    let new = scene.new_address().await;
    assert_eq!(scene.told.recv().await.unwrap(), (false, old.clone()));
    let hashes = |a: &Multiaddr| a.iter().filter(|p| matches!(p, Protocol::Certhash(_))).map(|p| p.to_string()).collect::<Vec<_>>();
    assert_eq!(hashes(&old)[1], hashes(&new)[0], "the next became the current one");
    assert_ne!(hashes(&old)[0], hashes(&new)[1]);

    // What was under way, and what begins on it.
    comes_back(&mut stream, 300_000).await;
    comes_back(&mut open(&mut before).await, 300_000).await;
    // By the address from before and by the new one.
    for address in [old, new] {
        let (peer, mut connection) = dial(address).await.unwrap();
        assert_eq!(peer, scene.peer);
        comes_back(&mut open(&mut connection).await, 10_000).await;
    }
}

#[tokio::test]
async fn only_the_certificate_and_the_node_of_the_address_are_taken() {
    let mut scene = listen([7; 32], clock().wall);
    let address = scene.new_address().await;
    let whole = |peer: PeerId| address.clone().with(Protocol::P2p(peer));
    assert!(dial(whole(scene.peer)).await.is_ok());
    let error = dial(whole(identity().public().to_peer_id())).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let other = served(&Certificates::new(&[8; 32]), 1).unwrap();
    let head: Multiaddr = address.iter().take(4).collect();
    assert!(dial(head.clone().with(Protocol::Certhash(other.hashes[0]))).await.is_err());
    // A hash that is not among those which the listener vouches for, beside one that is: somebody mixed it in.
    let mixed = address.clone().with(Protocol::Certhash(other.hashes[0]));
    let error = dial(mixed).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("certhashes"), "{error}");
    for not_ours in [head, "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap(), "/dns/localhost/udp/1/quic-v1/webtransport".parse().unwrap()] {
        assert!(target(&not_ours).is_none(), "{not_ours}");
    }
}

/// A session to some path of the listener, without Noise.
async fn session(address: &Multiaddr, path: &str) -> Result<wtransport::Connection, wtransport::error::ConnectingError> {
    let Target { socket, hashes, .. } = target(address).unwrap();
    let digests = hashes.iter().map(|h| Sha256Digest::new(h.digest().try_into().unwrap()));
    let config = wtransport::ClientConfig::builder()
        .with_bind_address((Ipv4Addr::LOCALHOST, 0).into())
        .with_server_certificate_hashes(digests)
        .build();
    wtransport::Endpoint::client(config).unwrap().connect(format!("https://{socket}{path}")).await
}

#[tokio::test]
async fn what_is_no_libp2p_is_turned_away_and_others_are_served() {
    let mut scene = listen([9; 32], clock().wall);
    let address = scene.new_address().await;
    assert!(session(&address, "/").await.is_err());
    // Nonsense where the handshake should be.
    let connection = session(&address, PATH).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap().await.unwrap();
    send.write_all(&[0xff; 4_096]).await.unwrap();
    connection.closed().await;
    // And for QUIC.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for size in [1, 20, 1_200, 1_500] {
        socket.send_to(&vec![0xc3; size], target(&address).unwrap().socket).unwrap();
    }
    assert!(dial(address).await.is_ok());
}

#[tokio::test]
async fn streams_without_end_are_not_taken() {
    let mut scene = listen([10; 32], clock().wall);
    let (_, mut connection) = dial(scene.new_address().await).await.unwrap();
    // The session and the handshake have one each.
    let mut open_streams = Vec::new();
    for _ in 0..STREAMS - 2 {
        open_streams.push(open(&mut connection).await);
    }
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll_outbound(cx).is_pending())).await);
    comes_back(&mut open_streams[0], 10_000).await;
    // Those that end make room: the other side says so an eighth of them at a time.
    for mut ended in open_streams.drain(..STREAMS as usize / 4) {
        ended.close().await.unwrap();
        assert_eq!(ended.read(&mut [0]).await.unwrap(), 0);
    }
    comes_back(&mut open(&mut connection).await, 10_000).await;
}

#[tokio::test]
async fn handshakes_that_stall_are_bounded_and_make_room_when_they_end() {
    let under_way = 6;
    let mut scene = listen_within(Bounds { under_way, ..Bounds::default() }, [11; 32], clock().wall);
    let address = scene.new_address().await;
    let mut stalled = Vec::new();
    // They have a session, and begin no handshake on it. From the third on they are asked first whether they are where they say.
    while stalled.len() < under_way {
        stalled.push(session(&address, PATH).await.unwrap());
    }
    assert!(session(&address, PATH).await.is_err(), "one more is refused");
    for one in stalled.drain(..) {
        one.close(0u32.into(), b"");
    }
    while dial(address.clone()).await.is_err() {}
}
