//! What meets bytes from elsewhere, each as a function of those bytes that must not panic, and in which what was decoded and is
//! encoded again is the same. `tests/fuzz` feeds each its seeds, changed in ways that do not vary. To search one of them, here:
//!
//! ```text
//! cargo run                                                # writes the seeds to corpus/
//! cargo +nightly fuzz run --features fuzz directory
//! ```

use std::time::Duration;

use peerage::base::{DomainId, LinkId, Mono, NodeId, Now, Rng, Wall};
use peerage::crypto::{Role, sign::SigningKey};
use peerage::peer::{Config, Lane, LinkCommand, LinkEvent, Output, Path, Peer, Profile, SavedDomain, Side};
use peerage::proto::channel::{Channels, Mode};
use peerage::proto::membership::Membership;
use peerage::proto::overlay::Registry;
use peerage::proto::session::{Session, keymsg::KeyMessage, prekey::Prekey};
use peerage::proto::{broadcast, channel, detector, directory, membership, objects, overlay, state, task};
use peerage::wire::frame::{self as link_frame, Kind};
use peerage::wire::link::InviteLink;

#[cfg(test)]
mod tests;

const DOMAIN: DomainId = DomainId::from_bytes([7; 32]);

fn now() -> Now {
    Now { mono: Mono(1_000_000), wall: Wall(1_800_000_000_000) }
}

fn later(now: Now, by: Duration) -> Now {
    Now { mono: now.mono.after(by), wall: now.wall.after(by) }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn id(n: u8) -> NodeId {
    key(n).node_id()
}

fn rng() -> Rng {
    Rng::from_seed([3; 32])
}

/// The frames of a link.
pub fn frame(data: &[u8]) {
    if let Ok(frame) = link_frame::decode(data) {
        assert_eq!(link_frame::encode(frame.kind, frame.body), data);
    }
}

/// Invitation links: what a person pastes.
pub fn invitation(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(link) = InviteLink::parse(text) {
        let again = InviteLink::parse(&link.to_url("https://example.test/")).expect("a link that was read can be read again");
        assert_eq!(again.to_fragment(), link.to_fragment());
    }
}

/// What is signed for long: a statement, a membership message, an export from a store, an object's header.
pub fn statement(data: &[u8]) {
    let founding = membership::found(&mut rng(), now(), "fuzz", &[], [6; 32]).expect("a domain");
    let mut machine = Membership::new(founding.domain, &founding.genesis).expect("its own genesis");
    let _ = membership::Statement::verify(&founding.domain, data);
    let mut out = Vec::new();
    let _ = machine.learn(now(), Some(id(1)), data, &mut out);
    let _ = Membership::new(DOMAIN, data);
    let _ = objects::Header::verify(&DOMAIN, data);
    let _ = objects::Lockbox::verify(&DOMAIN, data);
    let _ = Membership::restore(founding.domain, &founding.genesis, data, now());
    if let Ok(msg) = membership::Msg::decode(data) {
        assert_eq!(membership::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
        let _ = machine.handle(now(), id(1), msg, &mut out);
    }
}

/// What is said on the streams of data and tasks, and what is signed in it.
pub fn stream(data: &[u8]) {
    if let Ok(request) = objects::message::Request::decode(data) {
        assert_eq!(objects::message::Request::decode(&request.encode()), Ok(request));
    }
    // An error's text is made fit for a terminal: read once more it may be another.
    if let Ok(answer) = objects::message::Answer::decode(data) {
        assert!(objects::message::Answer::decode(&answer.encode()).is_ok());
    }
    if let Ok(request) = task::message::Request::decode(data) {
        assert_eq!(task::message::Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = task::message::Reply::decode(data) {
        assert!(task::message::Reply::decode(&reply.encode()).is_ok());
    }
    if let Ok(call) = task::pairing::Call::decode(data) {
        assert_eq!(task::pairing::Call::decode(&call.encode()).as_ref(), Ok(&call));
        if let task::pairing::Call::Demand { query, .. } = call
            && let Ok(predicates) = directory::decode_predicates(&query)
        {
            assert_eq!(directory::encode_predicates(&predicates).as_ref(), Ok(&query));
        }
    }
    if let Ok(answer) = task::pairing::Answer::decode(data) {
        assert!(task::pairing::Answer::decode(&answer.encode()).is_ok());
    }
    let _ = task::Ticket::verify(&DOMAIN, data);
    let _ = objects::Enrolment::verify(&DOMAIN, data);
}

/// Prekey records, key messages and sealed frames, at a session that knows the sender as a member.
pub fn session(data: &[u8]) {
    let mut session = Session::new(DOMAIN, key(1), Role::Participant, rng(), now());
    session.set_role(now(), id(2), Some(Role::Participant));
    let _ = Prekey::verify(&DOMAIN, data);
    let _ = KeyMessage::verify(data);
    let _ = session.learn_prekey(now(), data);
    let _ = session.accept_key_message(now(), id(2), data);
    let _ = session.open(now(), 2, data);
    let _ = session.on_timeout(now());
}

/// Messages of directories that compare, and the records in them.
pub fn directory(data: &[u8]) {
    let _ = directory::Signed::parse(data).map(|signed| signed.verify(&DOMAIN));
    let Ok(msg) = directory::Msg::decode(data) else { return };
    assert_eq!(directory::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
    let config = directory::Config { domain: DOMAIN, essential: Vec::new() };
    let mut machine = directory::Directory::new(now(), key(1), config, rng());
    let mut out = Vec::new();
    machine.publish(now(), directory::Profile::default(), &mut out).expect("an empty profile is valid");
    machine.link_up(now(), id(2), &mut out);
    let _ = machine.handle(now(), id(2), msg, &|_| Some(Role::Participant), &mut out);
    machine.on_timeout(later(now(), Duration::from_secs(10)), &mut out);
}

/// Payloads of channels, one after the other: each begins with its length in two bytes.
pub fn channel(data: &[u8]) {
    let mut machine = Channels::new(channel::Config::default(), id(1), rng());
    for (name, mode) in [("chat", Mode::Reliable), ("pose", Mode::Latest)] {
        machine.open(now(), name, mode).expect("a valid name");
    }
    machine.link_up(now(), id(2));
    for payload in parts(data) {
        let _ = machine.handle(now(), id(2), payload);
        machine.on_timeout(later(now(), Duration::from_secs(1)));
    }
}

/// Messages of the failure detector.
pub fn detector(data: &[u8]) {
    let Ok(msg) = detector::Msg::decode(data) else { return };
    assert_eq!(detector::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
    let mut machine = detector::Detector::new(now(), DOMAIN, key(1), rng());
    let mut out = Vec::new();
    for n in 1..4 {
        machine.learn(now(), id(n), 1, true);
    }
    machine.link_up(now(), id(2), &mut out);
    let _ = machine.handle(now(), id(2), msg, &mut out);
    machine.on_timeout(later(now(), Duration::from_secs(1)), &mut out);
}

/// Messages of the broadcast trees, and the casts in them.
pub fn broadcast(data: &[u8]) {
    let _ = broadcast::Cast::parse(data).map(|cast| cast.verify(&DOMAIN, data));
    let Ok(msg) = broadcast::Msg::decode(data) else { return };
    assert_eq!(broadcast::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
    let mut machine = broadcast::Broadcast::new(id(1), Duration::from_secs(1), 4, 2);
    machine.link_up(now(), id(2));
    let mut out = Vec::new();
    let _ = machine.handle(now(), id(2), msg, &|_| true, &mut |bytes, _| broadcast::Cast::parse(bytes).map(|_| false), &mut out);
}

/// What nodes say outside any domain, at a relay.
pub fn overlay(data: &[u8]) {
    let _ = overlay::Record::verify(data, now().wall);
    let _ = overlay::NodeAdvert::verify(data, now().wall);
    let Ok(msg) = overlay::Msg::decode(data) else { return };
    assert_eq!(overlay::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
    let mut out = Vec::new();
    let _ = Registry::new().handle(now(), id(2), msg, &mut out);
}

/// Messages of copies of the shared state that compare, and the entries in them.
pub fn state(data: &[u8]) {
    let _ = state::Entry::verify(&DOMAIN, data);
    let mut machine = state::State::new(now(), DOMAIN, key(1), rng());
    let mut out = Vec::new();
    machine.import(now(), data);
    machine.write(now(), "door", Some(b"open".to_vec()), &mut out).expect("a valid key");
    machine.link_up(id(2), &mut out);
    let Ok(msg) = state::Msg::decode(data) else { return };
    assert_eq!(state::Msg::decode(&msg.encode()).as_ref(), Ok(&msg));
    let _ = machine.handle(now(), id(2), msg, &mut out);
    machine.on_timeout(later(now(), Duration::from_secs(10)), &mut out);
}

/// Records of a store: a file may be damaged, or somebody else's.
pub fn saved(data: &[u8]) {
    let _ = peerage::peer::saved::decode_identity(data);
    let records = parts(data).zip(peerage::peer::Part::ALL).map(|(bytes, part)| (part, bytes.to_vec().into())).collect();
    let _ = SavedDomain::decode(DOMAIN, &records);
}

/// A node in a domain, linked with a member and with a stranger, hears frames from both: a byte says from whom, of what kind, and
/// whether the tag that only members can make stands in front.
pub fn peer(data: &[u8]) {
    let mut scene = Scene::new();
    for part in parts(data) {
        let [choice, body @ ..] = part else { continue };
        scene.hear(*choice, body);
    }
}

/// Pieces of at most 64 KiB, each after its length.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        data = rest;
        Some(part)
    })
}

const KINDS: [Kind; 8] =
    [Kind::Refuse, Kind::Hello, Kind::Welcome, Kind::Membership, Kind::Keys, Kind::Goodbye, Kind::Sealed, Kind::Overlay];

struct Scene {
    peer: Peer,
    now: Now,
    domain: DomainId,
    member: NodeId,
}

impl Scene {
    /// The links by number: 1 leads to the member, 2 to the stranger.
    fn new() -> Scene {
        let mut peer = Peer::new(Config::native(), key(1), [1; 32]);
        let mut member = Peer::new(Config::native(), key(2), [2; 32]);
        let profile = || Profile { name: "fuzz".into(), capabilities: Vec::new() };
        let domain = peer.create_domain(now(), "fuzz", &[], profile()).expect("a domain");
        let saved = peer.save_domain(now(), domain).expect("its records");
        member.open_domain(now(), &saved, Role::Participant, profile()).expect("made a member by the root key");
        let mut scene = Scene { peer, now: now(), domain, member: id(2) };
        for (link, node) in [(1, id(2)), (2, id(3))] {
            scene.peer.handle(scene.now, up(link, node));
        }
        member.handle(scene.now, up(1, id(1)));
        // The two greet each other, and give each other keys.
        for _ in 0..20 {
            for (from, to) in [(true, false), (false, true)] {
                let frames = if from { sent(&mut scene.peer) } else { sent(&mut member) };
                let heard: &mut Peer = if to { &mut scene.peer } else { &mut member };
                for (link, lane, frame) in frames {
                    if link == LinkId(1) {
                        heard.handle(scene.now, LinkEvent::Frame { link, lane, frame });
                    }
                }
            }
        }
        let linked = scene.peer.stats(scene.now, domain).expect("a member").linked;
        assert_eq!(linked, 1, "the member is linked");
        scene
    }

    fn hear(&mut self, choice: u8, body: &[u8]) {
        let kind = KINDS[usize::from(choice & 7)];
        let link = LinkId(1 + u64::from(choice >> 3 & 1));
        let tag = peerage::crypto::tag::pair_tag(&self.domain, &id(1), &if link == LinkId(1) { self.member } else { id(3) });
        let frame = match choice >> 4 & 3 {
            0 => body.to_vec(),
            1 => link_frame::encode(kind, body),
            _ => link_frame::encode(kind, &[&tag[..], body].concat()),
        };
        self.peer.handle(self.now, LinkEvent::Frame { link, lane: Lane::Control, frame });
        self.now = later(self.now, Duration::from_millis(u64::from(choice >> 6) * 500));
        self.peer.on_timeout(self.now);
        sent(&mut self.peer);
        assert!(self.peer.stats(self.now, self.domain).is_ok(), "no frame throws this node out of its domain");
    }
}

fn up(link: u64, node: NodeId) -> LinkEvent {
    LinkEvent::Up { link: LinkId(link), node, path: Path::Direct, side: Side::Listener, address: String::new(), datagrams: true }
}

fn sent(peer: &mut Peer) -> Vec<(LinkId, Lane, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(output) = peer.poll_output() {
        if let Output::Link(LinkCommand::Send { link, lane, frame }) = output {
            frames.push((link, lane, frame));
        }
    }
    frames
}

/// A target: its name, itself, its seeds.
pub type Target = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

/// All of them, by name, with inputs that get far.
pub fn targets() -> Vec<Target> {
    let founding = membership::found(&mut rng(), now(), "fuzz", &[], [6; 32]).expect("a domain");
    let root = SigningKey::from_seed(&founding.root.seed());
    let (link, statement_seed) = peerage::peer::make_invitation(
        now(),
        &founding.domain,
        &root,
        [5; 32].into(),
        [6; 32],
        Some(id(2)),
        vec!["/ip4/127.0.0.1/tcp/1/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".into()],
        peerage::peer::InviteOptions::default(),
    );
    let prekey = Session::new(DOMAIN, key(2), Role::Participant, rng(), now()).prekey_record().to_vec();
    let record = {
        let config = directory::Config { domain: DOMAIN, essential: Vec::new() };
        let mut machine = directory::Directory::new(now(), key(2), config, rng());
        let mut out = Vec::new();
        machine.publish(now(), directory::Profile { name: "Ann".into(), ..Default::default() }, &mut out).expect("valid");
        out.into_iter().find_map(|e| if let directory::Effect::Broadcast { msg, .. } = e { Some(msg.encode()) } else { None })
    };
    let probes = [
        detector::Msg::Ping { nonce: 1 }.encode(),
        detector::Msg::Ask { nonce: 1, target: id(3) }.encode(),
        detector::Msg::Proof { nonce: 1, asker: id(1), target: id(2), signature: [5; 64] }.encode(),
        detector::Msg::Accuse(vec![
            detector::Accusation { accuser: id(2), suspect: id(3), incarnation: 1, created: now().wall }.sign(&DOMAIN, &key(2)),
        ])
        .encode(),
    ];
    let shared = {
        let mut machine = state::State::new(now(), DOMAIN, key(2), rng());
        let mut out = Vec::new();
        machine.link_up(id(1), &mut out);
        machine.write(now(), "door", Some(b"shut".to_vec()), &mut out).expect("a valid key");
        let said = out.iter().filter_map(|e| if let state::Effect::Send { msg, .. } = e { Some(msg.encode()) } else { None });
        let summaries = state::Msg::Summaries { buckets: vec![0, 7], list: Vec::new(), more: true };
        said.chain([machine.export(), state::Msg::Digest(7).encode(), summaries.encode()]).collect()
    };
    let heard = {
        let mut scene = Scene::new();
        let mut stranger = Peer::new(Config::native(), key(3), [3; 32]);
        stranger.create_domain(now(), "other", &[], Profile { name: String::new(), capabilities: Vec::new() }).expect("a domain");
        scene.now = later(scene.now, Duration::from_secs(30));
        scene.peer.on_timeout(scene.now);
        // What this node says itself is what it understands.
        sent(&mut scene.peer).into_iter().map(|(_, _, frame)| part(&[&[0x00], &frame[..]].concat())).collect::<Vec<_>>()
    };
    let ticket = task::Ticket {
        issuer: id(2),
        term: 0,
        task: [1; 16],
        seat: task::Seat { place: 0, attempt: 1 },
        demander: id(2),
        supplier: id(1),
        until: now().wall,
        capability: "count".into(),
    };
    let ticket = ticket.sign(&DOMAIN, &key(2)).expect("its issuer's key");
    let answer = objects::message::Answer::Error { code: peerage::base::Code::Busy, message: "no room".into() };
    let predicates = [
        directory::Predicate { key: "memory".into(), test: directory::Test::Ge(directory::Value::Int(16)) },
        directory::Predicate { key: "place".into(), test: directory::Test::In(vec![directory::Value::Text("hall".into())]) },
    ];
    let demand = task::pairing::Call::Demand {
        domain: DOMAIN,
        task: [1; 16],
        time: Duration::from_secs(1),
        count: 1,
        policy: task::Policy::Any,
        preference: task::Preference::Near,
        capability: "count".into(),
        query: directory::encode_predicates(&predicates).expect("few and short"),
    };
    let failed = task::pairing::Call::Failed { seat: task::Seat { place: 0, attempt: 1 }, why: task::Failure::Lost };
    let name = task::message::ResultKey([9; 32]);
    let kept = task::message::Kept { holder: id(1), key: name, size: 10, hash: [8; 32] };
    let streams = vec![
        task::message::Request::From(kept).encode(),
        task::message::Request::Take { domain: DOMAIN, key: name }.encode(),
        task::message::Reply::Kept { size: 10, hash: [8; 32] }.encode(),
        demand.encode(),
        failed.encode(),
        task::pairing::Answer::Paired(ticket.clone()).encode(),
        task::message::Request::Begin { domain: DOMAIN, time: Duration::from_secs(1), keep: None, ticket: ticket.clone() }.encode(),
        ticket,
        objects::message::Request::Changes { since: objects::Cursor::default(), wait: true }.encode(),
        answer.encode(),
    ];
    let tagged = (0..8).map(|kind| part(&[0x20 | kind, 0, 1, 2, 3, 4, 5, 6, 7, 8])).collect::<Vec<_>>();
    vec![
        ("frame", frame, vec![link_frame::encode(Kind::Sealed, b"body")]),
        ("invitation", invitation, vec![link.to_url("https://a.test/").into_bytes(), link.to_fragment().into_bytes()]),
        ("statement", statement, vec![statement_seed, founding.genesis.clone()]),
        ("session", session, vec![prekey]),
        ("stream", stream, streams),
        ("directory", directory, record.into_iter().collect()),
        ("channel", channel, vec![part(&[0; 40]), part(&[1, 1, 4, 99, 104, 97, 116, 0, 0, 0, 0, 0, 0, 0, 1])]),
        ("detector", detector, probes.to_vec()),
        ("broadcast", broadcast, vec![broadcast::Msg::Prune.encode()]),
        ("overlay", overlay, vec![vec![0x82, 0, 0x81, 0x40]]),
        ("state", state, shared),
        ("saved", saved, vec![part(&peerage::peer::saved::encode_identity(&key(1)))]),
        ("peer", peer, vec![heard.concat(), tagged.concat()]),
    ]
}

fn part(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], &bytes[..usize::from(length)]].concat()
}
