use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec,
    vec::Vec,
};

use super::msg::PUT;
use super::registry::{IN_FLIGHT, PER_PLACE, RATE, SIGNER_TRIAL, TRY};
use super::*;
use crate::base::{Code, DomainId, Mono, NodeId, Now, Reject, Rng, Wall};
use crate::crypto::{seal::KemKey, sign::SigningKey, tag};

const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);
const SECRET: [u8; 32] = [4; 32];
const START: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(START + ms) }
}
fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}
fn id(n: u8) -> NodeId {
    key(n).node_id()
}
const RELAY: u8 = 200;
const JOINER: u8 = 201;
fn relay() -> BTreeSet<NodeId> {
    [id(RELAY)].into()
}

fn seeker() -> Seeker {
    let rendezvous = *tag::rendezvous_key(&SECRET).public();
    let seek = Seek { domain: DOMAIN, rendezvous, kind: RequestKind::Join, body: b"let me in".to_vec() };
    Seeker::new(at(0), seek, Rng::from_seed([1; 32]))
}

/// A relay, members and one seeker. `tamper` sees every message and gives what is delivered instead.
struct World {
    registry: Registry,
    members: BTreeMap<NodeId, Locator>,
    deaf: BTreeSet<NodeId>,
    asked: Vec<(NodeId, Ask)>,
    seeker: Seeker,
    answer: Option<Answer>,
    relays: BTreeSet<NodeId>,
}

impl World {
    fn new(members: core::ops::Range<u8>) -> World {
        let locator = |n| (id(n), Locator::new(DOMAIN, &SECRET, Rng::from_seed([n; 32])));
        let mut w = World {
            registry: Registry::new(),
            members: members.map(locator).collect(),
            deaf: BTreeSet::new(),
            asked: Vec::new(),
            seeker: seeker(),
            answer: None,
            relays: BTreeSet::new(),
        };
        for n in w.members.keys().copied().collect::<Vec<_>>() {
            let mut out = Vec::new();
            w.members.get_mut(&n).unwrap().on_timeout(at(0), &relay(), &mut out);
            w.run(0, n, out, &mut |m| vec![m]);
        }
        w
    }
    fn run(&mut self, ms: u64, start: NodeId, out: Vec<Effect>, tamper: &mut dyn FnMut(Msg) -> Vec<Msg>) {
        let mut queue: VecDeque<(NodeId, Effect)> = out.into_iter().map(|s| (start, s)).collect();
        while let Some((from, send)) = queue.pop_front() {
            for msg in tamper(send.msg) {
                let Ok(msg) = Msg::decode(&msg.encode()) else { continue };
                let mut out = Vec::new();
                if send.to == id(RELAY) {
                    let _ = self.registry.handle(at(ms), from, msg, &mut out);
                } else if let (Some(locator), Msg::Request(r)) = (self.members.get_mut(&send.to), &msg) {
                    if !self.deaf.contains(&send.to)
                        && let Ok(ask) = locator.open(at(ms), r)
                    {
                        let n = (0..=255).find(|n| id(*n) == send.to).unwrap();
                        let response = locator.respond(&key(n), &ask, b"welcome").unwrap();
                        out.push(Effect { to: from, msg: Msg::Response(response) });
                        self.asked.push((send.to, ask));
                    }
                } else if let (true, Msg::Response(r)) = (send.to == id(JOINER), &msg)
                    && let Ok(Some(answer)) = self.seeker.handle(at(ms), from, r)
                {
                    self.answer = Some(answer);
                }
                queue.extend(out.into_iter().map(|s| (send.to, s)));
            }
        }
    }
    fn seek(&mut self, ms: u64, tamper: &mut dyn FnMut(Msg) -> Vec<Msg>) {
        let mut out = Vec::new();
        self.relays = relay();
        self.seeker.on_timeout(at(ms), &self.relays, &mut out);
        self.run(ms, id(JOINER), out, tamper);
    }
    fn until(&mut self, end: u64, tamper: &mut dyn FnMut(Msg) -> Vec<Msg>) {
        for ms in (0..=end).step_by(100) {
            let mut out = Vec::new();
            self.registry.on_timeout(at(ms), &mut out);
            self.run(ms, id(RELAY), out, tamper);
            let mut out = Vec::new();
            self.seeker.on_timeout(at(ms), &self.relays, &mut out);
            self.run(ms, id(JOINER), out, tamper);
            if self.answer.is_some() || self.seeker.failed().is_some() {
                return;
            }
        }
    }
    fn answered_by(&self) -> Option<NodeId> {
        self.answer.as_ref().map(|a| a.member)
    }
}

fn request(n: u8, place: u8) -> DomainRequest {
    let mut rng = Rng::from_seed([n; 32]);
    let reply = KemKey::generate(&mut rng);
    let rendezvous = tag::rendezvous_key(&SECRET);
    let tag = tag::place_tag(&DOMAIN, tag::slots(at(0).wall)[0], place);
    sealed::request(&DOMAIN, rendezvous.public(), tag, 0, &reply, RequestKind::Find, b"", &mut rng).unwrap()
}

fn put(tag: [u8; 16], signer: u8) -> Msg {
    Msg::Put(vec![Record::sign(tag, at(0).wall.after(record::LIFETIME), b"", &key(signer)).unwrap().into()])
}

#[test]
fn a_request_reaches_one_member_and_its_answer_comes_back() {
    let mut w = World::new(1..4);
    assert_eq!(w.registry.len(), 3 * 8);
    w.seek(0, &mut |m| vec![m]);
    assert_eq!(w.asked.len(), 1);
    let (member, ask) = &w.asked[0];
    assert_eq!((ask.kind, ask.body.as_slice()), (RequestKind::Join, &b"let me in"[..]));
    assert_eq!(w.answer, Some(Answer { member: *member, body: b"welcome".to_vec() }));
}

#[test]
fn members_take_turns_and_the_next_is_asked_when_one_is_silent_or_gone() {
    let mut w = World::new(1..4);
    w.deaf = [id(1), id(2)].into();
    w.seek(0, &mut |m| vec![m]);
    w.until(2 * TRY.as_millis() as u64, &mut |m| vec![m]);
    assert_eq!(w.answered_by(), Some(id(3)));

    let mut w = World::new(1..3);
    let mut out = Vec::new();
    let mut asked = Vec::new();
    for n in 0..4 {
        w.registry.handle(at(0), id(JOINER), Msg::Request(request(n, 0)), &mut out).unwrap();
        asked.push(out.pop().unwrap().to);
    }
    assert!(asked[0] != asked[1] && asked[0] == asked[2] && asked[1] == asked[3], "least recently used");
    w.registry.disconnected(at(0), asked[0], &mut out);
    assert!(out.len() == 2 && out.iter().all(|s| s.to == asked[1]), "what it was to answer goes to the other");
    out.clear();
    w.registry.disconnected(at(0), asked[1], &mut out);
    let lost = |s: &Effect| matches!(&s.msg, Msg::Response(r) if s.to == id(JOINER) && r.status == Status::Lost);
    assert!(out.len() == 4 && out.iter().all(lost));
    assert!(w.registry.is_empty());
}

#[test]
fn a_search_without_an_answer_ends_with_its_reason() {
    let mut w = World::new(0..0);
    w.until(60_000, &mut |m| vec![m]);
    assert_eq!(w.seeker.failed(), Some(Code::NoRelay));
    let mut w = World::new(0..0);
    w.seek(0, &mut |m| vec![m]);
    w.until(60_000, &mut |m| vec![m]);
    assert_eq!(w.seeker.failed(), Some(Code::NoMember));
}

#[test]
fn a_member_that_comes_later_is_found() {
    let mut w = World::new(1..2);
    let records = core::mem::take(&mut w.registry);
    assert!(!records.is_empty());
    w.seek(0, &mut |m| vec![m]);
    assert_eq!(w.answer, None);
    let mut out = Vec::new();
    w.members.get_mut(&id(1)).unwrap().on_timeout(at(2_000), &relay(), &mut out);
    w.run(2_000, id(1), out, &mut |m| vec![m]);
    w.until(4_000, &mut |m| vec![m]);
    assert_eq!(w.answered_by(), Some(id(1)));
}

#[test]
fn a_useless_answer_does_not_end_the_search() {
    let mut w = World::new(1..3);
    w.seek(0, &mut |m| vec![m]);
    let first = w.answer.take().unwrap().member;
    w.until(5_000, &mut |m| vec![m]);
    assert!(w.asked.len() == 2 && w.answered_by().is_some_and(|second| second != first), "the other one is asked next");
}

#[test]
fn a_hostile_relay_can_drop_and_delay_and_nothing_else() {
    // Everything is delivered twice: one member answers, once.
    let mut w = World::new(1..4);
    w.seek(0, &mut |m| vec![m.clone(), m]);
    assert!(w.answered_by().is_some() && w.asked.len() == 1);
    // One message in three is lost.
    let mut w = World::new(1..4);
    let mut chance = Rng::from_seed([6; 32]);
    w.seek(0, &mut |m| vec![m]);
    w.answer = None;
    w.until(45_000, &mut |m| if chance.below(3) == 0 { vec![] } else { vec![m] });
    assert!(w.answer.is_some());
    // Any byte of a request changed, except the hop count: no member opens it.
    let good = request(1, 0);
    let alter: [fn(&mut DomainRequest); 5] = [
        |r| r.id[0] ^= 1,
        |r| r.tag = tag::place_tag(&DOMAIN, tag::slots(at(0).wall)[0], 5),
        |r| r.reply_key[0] ^= 1,
        |r| r.enc[0] ^= 1,
        |r| r.body[9] ^= 1,
    ];
    for change in alter {
        let mut locator = Locator::new(DOMAIN, &SECRET, Rng::from_seed([1; 32]));
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(locator.open(at(0), &bad), Err(Reject::Forged));
    }
    // An altered answer is refused, and the true one after it is taken.
    let mut w = World::new(1..2);
    w.seek(0, &mut |m| match m {
        Msg::Response(r) if r.status == Status::Ok => {
            let mut bad = r.clone();
            bad.body[0] ^= 1;
            vec![Msg::Response(bad), Msg::Response(r)]
        }
        m => vec![m],
    });
    assert_eq!(w.answered_by(), Some(id(1)));
}

#[test]
fn an_answer_holds_for_its_request_and_its_member_only() {
    let mut rng = Rng::from_seed([9; 32]);
    let (reply, other) = (KemKey::generate(&mut rng), KemKey::generate(&mut rng));
    let answer = sealed::answer(&DOMAIN, &[1; 16], reply.public(), &key(1), b"body", &mut rng).unwrap();
    assert_eq!(sealed::open_answer(&DOMAIN, &reply, &answer).unwrap().member, id(1));
    assert_eq!(sealed::open_answer(&DOMAIN, &other, &answer), Err(Reject::Forged));
    assert_eq!(sealed::open_answer(&DomainId::from_bytes([8; 32]), &reply, &answer), Err(Reject::Forged));
    assert_eq!(sealed::open_answer(&DOMAIN, &reply, &DomainResponse { id: [2; 16], ..answer.clone() }), Err(Reject::Forged));
    // A hostile hop re-seals what a member signed for another request: the signature says which request it was.
    let opened =
        reply.open(&crate::crypto::sign::labelled("peerage/1/response", &DOMAIN, &[]), &[1; 16], &answer.enc, &answer.body).unwrap();
    let info = crate::crypto::sign::labelled("peerage/1/response", &DOMAIN, &[]);
    let (enc, body) = crate::crypto::seal::seal(other.public(), &info, &[2; 16], &opened, &mut rng).unwrap();
    let replayed = DomainResponse { id: [2; 16], status: Status::Ok, enc, body };
    assert_eq!(sealed::open_answer(&DOMAIN, &other, &replayed), Err(Reject::Forged));
    assert_eq!(sealed::answer(&DOMAIN, &[1; 16], &[0; 32], &key(1), b"", &mut rng).unwrap_err(), Reject::Forged);
}

#[test]
fn a_lost_request_is_followed_by_others_and_an_answer_to_any_of_them_is_taken() {
    let (mut seeker, mut out, relays) = (seeker(), Vec::new(), BTreeSet::from([id(0)]));
    let mut asked = Vec::new();
    for ms in (0..20_000).step_by(100) {
        seeker.on_timeout(at(ms), &relays, &mut out);
        for sent in out.drain(..) {
            let Msg::Request(request) = sent.msg else { panic!("a seeker asks") };
            asked.push((ms, request));
        }
    }
    let times: Vec<u64> = asked.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times[..3], [0, 3_000, 6_000]);
    assert!((6..=12).contains(&times.len()), "{times:?}");
    let open = asked.iter().filter(|(_, request)| seeker.expects(&request.id)).count();
    assert!((2..=4).contains(&open), "{open} under way");
    let earlier = &asked[asked.len() - 2].1;
    let (mut locator, mut rng) = (Locator::new(DOMAIN, &SECRET, Rng::from_seed([1; 32])), Rng::from_seed([2; 32]));
    let ask = locator.open(at(19_000), earlier).unwrap();
    let answer = sealed::answer(&DOMAIN, &earlier.id, &ask.reply_key, &key(1), b"body", &mut rng).unwrap();
    assert_eq!(seeker.handle(at(20_000), id(0), &answer).unwrap().unwrap().member, id(1));
}

#[test]
fn lengths_on_the_wire_say_little() {
    let mut rng = Rng::from_seed([9; 32]);
    let reply = KemKey::generate(&mut rng);
    let mut len = |n: usize| sealed::answer(&DOMAIN, &[1; 16], reply.public(), &key(1), &vec![7; n], &mut rng).map(|r| r.body.len() - 16);
    assert_eq!([len(0), len(158), len(159), len(900), len(sealed::ANSWER_BODY)], [Ok(256), Ok(256), Ok(1024), Ok(1024), Ok(4096)]);
    assert_eq!(len(sealed::ANSWER_BODY + 1), Err(Reject::TooLarge));
}

#[test]
fn a_member_refuses_replays_other_domains_and_too_many() {
    let mut locator = Locator::new(DOMAIN, &SECRET, Rng::from_seed([1; 32]));
    let first = request(0, 0);
    locator.open(at(0), &first).unwrap();
    assert_eq!(locator.open(at(0), &first), Err(Reject::Stale));
    assert_eq!(locator.open(at(0), &DomainRequest { tag: [0; 16], ..request(1, 0) }), Err(Reject::Misdirected));
    let mut rng = Rng::from_seed([8; 32]);
    let reply = KemKey::generate(&mut rng);
    let mut fresh = || {
        let (rendezvous, tag) = (tag::rendezvous_key(&SECRET), first.tag);
        sealed::request(&DOMAIN, rendezvous.public(), tag, 0, &reply, RequestKind::Find, b"", &mut rng).unwrap()
    };
    let taken = (0..1_100).filter(|_| locator.open(at(0), &fresh()).is_ok()).count();
    assert_eq!(taken, 1_023);
    assert_eq!(locator.open(at(0), &fresh()), Err(Reject::Limit));
    locator.on_timeout(at(60_000), &BTreeSet::new(), &mut Vec::new());
    locator.open(at(60_000), &fresh()).unwrap();
}

#[test]
fn the_next_slot_is_filled_before_the_turn() {
    let turn = (START / 21_600_000 + 1) * 21_600_000;
    let now = |wall| Now { mono: Mono(wall - START), wall: Wall(wall) };
    let mut locator = Locator::new(DOMAIN, &SECRET, Rng::from_seed([1; 32]));
    let mut registry = Registry::new();
    let early = turn - 35 * 60_000;
    let feed = |registry: &mut Registry, t: u64, out: &mut Vec<Effect>| {
        for send in out.drain(..) {
            registry.handle(now(t), id(1), send.msg, &mut Vec::new()).unwrap();
        }
    };
    let mut out = Vec::new();
    locator.on_timeout(now(early), &relay(), &mut out);
    assert_eq!(locator.records(now(early)), 8);
    feed(&mut registry, early, &mut out);
    let mut renew = early;
    for wait in [2_000, 8_000, 32_000, 128_000, 512_000] {
        renew += wait;
        assert_eq!(locator.next_timeout(), Some(now(renew).mono));
        locator.on_timeout(now(renew), &relay(), &mut out);
        feed(&mut registry, renew, &mut out);
    }
    assert_eq!(locator.next_timeout(), Some(now(renew + 10 * 60_000).mono));
    assert_eq!(registry.len(), 16);
    registry.on_timeout(now(renew + 31 * 60_000), &mut out);
    assert!(registry.is_empty(), "expired");
}

#[test]
fn an_outsiders_junk_cannot_fill_a_place() {
    let mut r = Registry::new();
    let tag = [5; 16];
    let give = |r: &mut Registry, ms, n: u8, signer| r.handle(at(ms), id(n), put(tag, signer), &mut Vec::new());
    // One stranger cannot take more than one share, whatever keys it makes up.
    give(&mut r, 0, 1, 101).unwrap();
    assert_eq!(give(&mut r, 0, 1, 102), Err(Reject::Limit));
    assert_eq!(give(&mut r, 0, 1, 101), Ok(()), "renewed");
    // Many strangers fill the place; the domain's own records still get their share.
    for n in 2..=PER_PLACE as u8 {
        give(&mut r, 0, n, 101).unwrap();
    }
    for n in 100..116 {
        assert_eq!(give(&mut r, 0, n, 110), Ok(()), "{n}");
    }
    assert_eq!((give(&mut r, 0, 116, 110), r.len()), (Err(Reject::Limit), PER_PLACE));
    // Four strangers' keys hold the place: one that never brought an answer is replaced after its trial.
    let mut r = Registry::new();
    for n in 1..5 {
        give(&mut r, 0, n, 100 + n).unwrap();
    }
    assert_eq!(give(&mut r, 0, 5, 110), Err(Reject::Limit));
    assert_eq!(give(&mut r, SIGNER_TRIAL.as_millis() as u64, 5, 110), Ok(()));
    assert_eq!(r.len(), 4);
    // Unsigned, altered, expired, far ahead.
    let good = Record::sign(tag, at(0).wall.after(record::LIFETIME), b"x", &key(110)).unwrap();
    let mut bad = good.clone();
    bad[3] ^= 1;
    assert_eq!(Record::verify(&bad, at(0).wall), Err(Reject::Forged));
    assert_eq!(Record::verify(&good, at(0).wall.after(record::LIFETIME)), Err(Reject::Expired));
    assert_eq!(Record::verify(&good, at(0).wall.before(crate::base::limit::CLOCK_SKEW * 2)), Err(Reject::Expired));
}

#[test]
fn a_flood_is_held_to_its_rate_and_told_so() {
    let mut w = World::new(1..2);
    let mut out = Vec::new();
    let sent: Vec<_> = (0..40).map(|n| w.registry.handle(at(0), id(JOINER), Msg::Request(request(n, 0)), &mut out)).collect();
    assert_eq!(sent.iter().filter(|r| r.is_ok()).count(), usize::try_from(RATE.1).unwrap());
    assert_eq!(sent.last(), Some(&Err(Reject::Limit)));
    let busy = |s: &&Effect| matches!(&s.msg, Msg::Response(r) if r.status == Status::Busy);
    assert_eq!(out.iter().filter(busy).count(), 10);
    w.registry.disconnected(at(0), id(JOINER), &mut out);
    let again = |w: &mut World, ms, n| w.registry.handle(at(ms), id(JOINER), Msg::Request(request(n, 0)), &mut Vec::new());
    assert_eq!(again(&mut w, 0, 100), Err(Reject::Limit), "a new link is no new allowance");
    assert_eq!(again(&mut w, 100, 101), Ok(()));
    assert_eq!(again(&mut w, 1_000, 101), Err(Reject::Stale), "an id seen before");
    // Nobody answers: what one neighbour has under way is bounded.
    let mut w = World::new(1..2);
    let under_way = (0..100u8).filter(|n| again(&mut w, u64::from(*n) * 100, *n).is_ok()).count();
    assert_eq!(under_way, IN_FLIGHT.1);
}

#[test]
fn only_who_was_asked_may_answer() {
    let mut w = World::new(1..3);
    let r = request(0, 0);
    let mut out = Vec::new();
    w.registry.handle(at(0), id(JOINER), Msg::Request(r.clone()), &mut out).unwrap();
    let asked = out[0].to;
    let other = if asked == id(1) { id(2) } else { id(1) };
    let response = || Msg::Response(DomainResponse { status: Status::Ok, body: vec![0; 272], ..DomainResponse::without(r.id, Status::Ok) });
    assert_eq!(w.registry.handle(at(0), other, response(), &mut out), Err(Reject::Forbidden));
    out.clear();
    w.registry.handle(at(0), asked, response(), &mut out).unwrap();
    assert_eq!(out[0].to, id(JOINER));
    assert_eq!(w.registry.handle(at(0), asked, response(), &mut out), Err(Reject::Stale));
    let spent = DomainRequest { ttl: 0, ..request(1, 0) };
    assert_eq!(w.registry.handle(at(0), id(JOINER), Msg::Request(spent), &mut out), Err(Reject::Expired));
}

#[test]
fn attack_33_overlay_decoders() {
    let mut rng = Rng::from_seed([5; 32]);
    let messages = [
        put([5; 16], 110),
        Msg::Request(request(0, 0)),
        Msg::Response(DomainResponse::without([1; 16], Status::Busy)),
        Msg::Response(DomainResponse { body: vec![0; 272], ..DomainResponse::without([1; 16], Status::Ok) }),
    ];
    for msg in messages {
        let bytes = msg.encode();
        assert_eq!(Msg::decode(&bytes), Ok(msg));
        assert_eq!(Msg::decode(&[&bytes[..], &[0]].concat()), Err(Reject::Malformed));
        for cut in 0..bytes.len() {
            assert!(Msg::decode(&bytes[..cut]).is_err());
        }
        for _ in 0..5_000 {
            let mut bad = bytes.clone();
            let i = rng.below(bad.len() as u64) as usize;
            bad[i] = rng.bytes::<1>()[0];
            if let Ok(msg) = Msg::decode(&bad) {
                let mut r = Registry::new();
                let _ = r.handle(at(0), id(1), msg, &mut Vec::new());
            }
        }
    }
    let over = Msg::Put(vec![vec![0].into(); PUT + 1]);
    assert_eq!(Msg::decode(&over.encode()), Err(Reject::TooLarge));
    let far = DomainRequest { ttl: 33, ..request(0, 0) };
    assert_eq!(Msg::decode(&Msg::Request(far).encode()), Err(Reject::TooLarge));
    let odd = DomainRequest { body: vec![0; 300], ..request(0, 0) };
    assert_eq!(Msg::decode(&Msg::Request(odd).encode()), Err(Reject::Malformed));
}
