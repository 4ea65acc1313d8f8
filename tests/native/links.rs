//! Frames over each transport and over a circuit.

use std::time::Duration;

use peerage::base::{Code, LinkId, limit};
use peerage::peer::{Lane, LinkCommand, LinkEvent, Path};
use peerage::platform::native::{NativeConfig, RelayLimits, make_certificate};

use crate::support::{Node, PATIENCE, connect};

fn send(node: &Node, link: LinkId, lane: Lane, frame: Vec<u8>) {
    node.command(LinkCommand::Send { link, lane, frame });
}

/// Frames of many sizes both ways on both lanes; each lane keeps its order, and all of them are told as written.
async fn exchange(a: &mut Node, b: &mut Node, at_a: LinkId, at_b: LinkId) {
    let sizes = [0usize, 1, 127, 128, 1_000, 16_383, 16_384, limit::FRAME];
    let frame = |lane: Lane, n: usize, size: usize| {
        let mut frame = vec![lane as u8 ^ n as u8; size];
        if let Some(first) = frame.first_mut() {
            *first = n as u8;
        }
        frame
    };
    let total: usize = sizes.iter().sum();
    for (node, link) in [(&*a, at_a), (&*b, at_b)] {
        for lane in [Lane::Control, Lane::Bulk] {
            for (n, size) in sizes.into_iter().enumerate() {
                send(node, link, lane, frame(lane, n, size));
            }
        }
    }
    for (node, at) in [(a, at_a), (b, at_b)] {
        let mut seen = [0usize; 2];
        let mut written = [0usize; 2];
        node.wait("all frames both ways", |event| {
            match event {
                LinkEvent::Frame { link, lane, frame: got } if link == at => {
                    let n = seen[lane as usize];
                    assert_eq!(got, frame(lane, n, sizes[n]), "frame {n} of {lane:?}");
                    seen[lane as usize] += 1;
                }
                LinkEvent::Drained { link, lane, bytes } if link == at => written[lane as usize] += bytes,
                LinkEvent::Down { link } if link == at => panic!("the link broke"),
                _ => {}
            }
            (seen == [sizes.len(); 2] && written == [total; 2]).then_some(())
        })
        .await;
    }
}

async fn over(listen: &str) {
    crate::support::trace();
    // WebRTC-direct dials from a listening socket only.
    let own: &[&str] = if listen.contains("webrtc") { &[listen] } else { &[] };
    let (mut a, mut b) = (Node::listening(own), Node::listening(&[listen]));
    let addresses = b.addresses(1, |_| true).await;
    assert!(addresses.iter().all(|a| a.ends_with(&format!("/p2p/{}", b.id))));
    a.dial(b.id, &addresses);
    let (at_a, path, _) = a.up(b.id).await;
    assert_eq!(path, Path::Direct);
    let (at_b, path, _) = b.up(a.id).await;
    assert_eq!(path, Path::Direct);
    exchange(&mut a, &mut b, at_a, at_b).await;
    a.wait("a round trip", |e| matches!(e, LinkEvent::Rtt { link, .. } if link == at_a).then_some(())).await;
    // What is queued on the control lane when a link is closed still arrives.
    send(&a, at_a, Lane::Control, b"goodbye".to_vec());
    a.command(LinkCommand::Close { link: at_a });
    b.wait("the last words", |e| matches!(e, LinkEvent::Frame { link, frame, .. } if link == at_b && frame == b"goodbye").then_some(()))
        .await;
    b.down(at_b).await;
    a.down(at_a).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn tcp_carries_both_lanes() {
    over("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn websocket_carries_both_lanes() {
    over("/ip4/127.0.0.1/tcp/0/ws").await;
}

#[tokio::test]
async fn quic_carries_both_lanes() {
    over("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test]
async fn webtransport_carries_both_lanes() {
    over("/ip4/127.0.0.1/udp/0/quic-v1/webtransport").await;
}

#[tokio::test]
async fn webrtc_direct_carries_both_lanes() {
    over("/ip4/127.0.0.1/udp/0/webrtc-direct").await;
}

#[tokio::test]
async fn wildcards_are_told_as_real_addresses() {
    let mut node = Node::listening(&["/ip4/0.0.0.0/tcp/0"]);
    let addresses = node.addresses(1, |a| a.contains("/127.0.0.1/")).await;
    assert!(addresses.iter().all(|a| !a.contains("0.0.0.0")));
}

#[tokio::test]
async fn the_certificate_hash_survives_a_restart() {
    let config = NativeConfig {
        listen: vec!["/ip4/127.0.0.1/udp/0/webrtc-direct".into()],
        certificate: Some(make_certificate().unwrap()),
        ..NativeConfig::default()
    };
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let mut node = Node::with(config.clone(), 100);
        let address = node.addresses(1, |_| true).await.remove(0);
        hashes.push(address.split("/certhash/").nth(1).unwrap().split('/').next().unwrap().to_owned());
        node.stop().await;
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn a_circuit_carries_five_mebibytes_through_our_relay() {
    let mut relay = Node::relay(RelayLimits::default());
    let relay_address = relay.addresses(1, |a| a.contains("/ws/")).await.remove(0);
    let (mut a, mut b) = (Node::listening(&[]), Node::behind_relay());
    let circuits = b.reserve(&relay_address).await;
    a.dial(b.id, &circuits);
    let (at_a, path, _) = a.up(b.id).await;
    assert_eq!(path, Path::Relayed);
    let (at_b, path, _) = b.up(a.id).await;
    assert_eq!(path, Path::Relayed);
    exchange(&mut a, &mut b, at_a, at_b).await;
    let before = relay.traffic.sent();
    let total = 5 * 1024 * 1024;
    for _ in 0..total / limit::FRAME {
        send(&a, at_a, Lane::Bulk, vec![7; limit::FRAME]);
    }
    let mut received = 0;
    b.wait("5 MiB", |event| {
        if let LinkEvent::Frame { lane: Lane::Bulk, frame, .. } = event {
            received += frame.len();
        }
        (received == total).then_some(())
    })
    .await;
    // The control of the tests that show the relay's counters standing still.
    assert!(relay.traffic.sent() - before >= total as u64);
}

/// Both sides are in the middle of bulk frames, which are given up; the last words are not.
#[tokio::test]
async fn a_goodbye_is_read_whatever_else_is_under_way() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/udp/0/webrtc-direct"] {
        for round in 0..20 {
            // WebRTC-direct dials from a listening socket only.
            let (mut a, mut b) = (Node::listening(&[listen]), Node::listening(&[listen]));
            let addresses = b.addresses(1, |_| true).await;
            let (at_a, at_b) = connect(&mut a, &mut b, &addresses).await;
            for _ in 0..round {
                send(&a, at_a, Lane::Bulk, vec![1; limit::FRAME]);
                send(&b, at_b, Lane::Bulk, vec![2; limit::FRAME]);
            }
            send(&a, at_a, Lane::Control, b"goodbye".to_vec());
            a.command(LinkCommand::Close { link: at_a });
            b.wait("the last words", |event| match event {
                LinkEvent::Frame { lane: Lane::Control, .. } => Some(()),
                LinkEvent::Down { .. } => panic!("the link over {listen} ended without its last words in round {round}"),
                _ => None,
            })
            .await;
            a.down(at_a).await;
            b.down(at_b).await;
        }
    }
}

/// The relay is not connected yet when the dials come, and libp2p's relay client forgets all but the first of them.
#[tokio::test]
async fn several_dials_through_a_relay_not_yet_connected_all_succeed() {
    let mut relay = Node::relay(RelayLimits::default());
    let relay_address = relay.addresses(1, |_| true).await.remove(0);
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = Node::behind_relay();
        let circuits = other.reserve(&relay_address).await;
        others.push((other, circuits));
    }
    let mut a = Node::listening(&[]);
    for (other, circuits) in &others {
        a.dial(other.id, circuits);
    }
    a.command(LinkCommand::UseRelay { address: relay_address });
    let mut missing: Vec<_> = others.iter().map(|(other, _)| other.id).collect();
    a.wait("a link with each", |event| {
        match event {
            LinkEvent::Up { node, .. } => missing.retain(|m| *m != node),
            LinkEvent::DialFailed { reason, .. } => panic!("{reason}"),
            _ => {}
        }
        missing.is_empty().then_some(())
    })
    .await;
}

/// Until its timeout, a relay that does not answer would hold up what another one could have carried.
#[tokio::test]
async fn circuits_of_connected_relays_are_dialled_first_and_others_if_they_fail() {
    let (mut near, mut far) = (Node::relay(RelayLimits::default()), Node::relay(RelayLimits::default()));
    let near_address = near.addresses(1, |_| true).await.remove(0);
    let far_address = far.addresses(1, |_| true).await.remove(0);
    let (mut a, mut b, mut c) = (Node::behind_relay(), Node::behind_relay(), Node::behind_relay());
    a.reserve(&near_address).await;
    let circuits = b.reserve(&near_address).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let absent = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}/p2p-circuit/p2p/{}", c.id, b.id);
    a.dial(b.id, &[vec![absent], circuits].concat());
    a.up(b.id).await;
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    let circuits = c.reserve(&far_address).await;
    let none_held = format!("{near_address}/p2p-circuit/p2p/{}", c.id);
    a.dial(c.id, &[circuits, vec![none_held]].concat());
    a.up(c.id).await;
}

/// The wait before it is dropped grows over the rounds, so that the answer to the reservation comes before, meanwhile and after.
#[tokio::test]
async fn a_relay_may_be_dropped_while_its_answer_is_on_its_way() {
    let mut relay = Node::relay(RelayLimits::default());
    let address = relay.addresses(1, |_| true).await.remove(0);
    let mut other = Node::listening(&["/ip4/127.0.0.1/tcp/0"]);
    let at = other.addresses(1, |_| true).await;
    for round in 0..40 {
        let mut node = Node::behind_relay();
        node.command(LinkCommand::UseRelay { address: address.clone() });
        tokio::time::sleep(Duration::from_micros(250 * round)).await;
        node.command(LinkCommand::DropRelay { address: address.clone() });
        node.dial(other.id, &at);
        node.up(other.id).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_relay_cuts_circuits_at_the_limit_it_is_given() {
    let mut relay = Node::relay(RelayLimits { circuit_bytes: 256 * 1024, ..RelayLimits::default() });
    let relay_address = relay.addresses(1, |_| true).await.remove(0);
    let (mut a, mut b) = (Node::listening(&[]), Node::behind_relay());
    let circuits = b.reserve(&relay_address).await;
    let (at_a, at_b) = connect(&mut a, &mut b, &circuits).await;
    for _ in 0..16 {
        send(&a, at_a, Lane::Bulk, vec![7; limit::FRAME]);
    }
    b.down(at_b).await;
    a.down(at_a).await;
}

#[tokio::test]
async fn relayed_and_direct_links_to_one_node_coexist() {
    let mut relay = Node::relay(RelayLimits::default());
    let relay_address = relay.addresses(1, |_| true).await.remove(0);
    let mut a = Node::listening(&[]);
    let config = NativeConfig { reserve: true, listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..NativeConfig::default() };
    let mut b = Node::with(config, 100_000);
    let direct = b.addresses(1, |_| true).await;
    let circuits = b.reserve(&relay_address).await;
    let (relayed, relayed_b) = connect(&mut a, &mut b, &circuits).await;
    a.dial(b.id, &direct);
    let (straight, path, _) = a.up(b.id).await;
    assert_eq!(path, Path::Direct);
    let (straight_b, ..) = b.up(a.id).await;
    assert_ne!(relayed, straight);
    a.command(LinkCommand::Close { link: relayed });
    b.down(relayed_b).await;
    exchange(&mut a, &mut b, straight, straight_b).await;
}

#[tokio::test]
async fn a_relay_that_comes_back_is_used_again() {
    let mut relay = Node::relay(RelayLimits::default());
    let address = relay.addresses(1, |a| !a.contains("/ws/")).await.remove(0);
    let mut node = Node::listening(&[]);
    // Nobody listens there under this identity yet: the relay is tried again until somebody does.
    let (head, _) = address.rsplit_once("/p2p/").unwrap();
    let wrong = format!("{head}/p2p/{}", node.id);
    node.command(LinkCommand::UseRelay { address: wrong.clone() });
    node.wait("its own id is no relay", |e| matches!(e, LinkEvent::Relay { address, up: false } if address == wrong).then_some(())).await;
    node.command(LinkCommand::UseRelay { address: address.clone() });
    node.wait("up", |e| matches!(e, LinkEvent::Relay { up: true, .. }).then_some(())).await;
    let (link, ..) = relay.up(node.id).await;
    relay.command(LinkCommand::Close { link });
    node.wait("down", |e| matches!(e, LinkEvent::Relay { up: false, .. }).then_some(())).await;
    node.wait("up again", |e| matches!(e, LinkEvent::Relay { up: true, .. }).then_some(())).await;
}

#[tokio::test]
async fn dials_that_cannot_succeed_say_so() {
    let (mut a, b) = (Node::listening(&[]), Node::listening(&[]));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in [format!("/ip4/127.0.0.1/tcp/{gone}"), "/webrtc".into(), "no address".into()] {
        a.dial(b.id, &[address]);
        let code = a.wait("a failed dial", |e| if let LinkEvent::DialFailed { code, .. } = e { Some(code) } else { None }).await;
        assert_eq!(code, Code::Unreachable);
    }
}

/// A reader that stops reading stops the sender's drain after a bounded number of bytes, and loses nothing when it goes on.
#[tokio::test]
async fn a_stalled_reader_holds_the_sender_back() {
    let mut a = Node::listening(&[]);
    let mut b = Node::with(NativeConfig { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..NativeConfig::default() }, 1);
    let addresses = b.addresses(1, |_| true).await;
    let (at_a, _) = connect(&mut a, &mut b, &addresses).await;
    let (frames, total) = (2_048, 2_048 * limit::FRAME);
    for _ in 0..frames {
        send(&a, at_a, Lane::Bulk, vec![1; limit::FRAME]);
    }
    // `b` is not read now. Drained bytes grow until the buffers between are full, then stop.
    let mut drained = 0;
    let stalled = tokio::time::Duration::from_secs(2);
    while let Ok(Some(event)) = tokio::time::timeout(stalled, a.events.recv()).await {
        if let LinkEvent::Drained { bytes, .. } = event {
            drained += bytes;
        }
    }
    assert!(drained < total / 2, "{drained} bytes left the sender though nobody read");
    let mut received = 0;
    let both = async {
        while received < total {
            tokio::select! {
                event = b.events.recv() => match event {
                    Some(LinkEvent::Frame { frame, .. }) => received += frame.len(),
                    Some(LinkEvent::Down { .. }) | None => panic!("the link broke"),
                    _ => {}
                },
                event = a.events.recv() => if let Some(LinkEvent::Drained { bytes, .. }) = event { drained += bytes },
            }
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the rest arrives");
    assert_eq!(received, total);
}
