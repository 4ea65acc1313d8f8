//! Who comes in, who goes and who stays, with the real peer: evicting, withholding, renewing, approving, and storms of joins.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage::base::{Code, DomainId, NodeId, Reject};
use peerage::crypto::{Role, sign::SigningKey, tag};
use peerage::peer::{Config, Event, Flag, InviteOptions, Manager, Output, Profile, To};
use peerage::proto::channel::{ChannelId, Mode};
use peerage::proto::directory::Status;
use peerage::proto::membership::{self, Rights, Target};
use peerage::sim::{Conditions, World};
use peerage::wire::link::InviteLink;

use crate::tapped::{CASTS, Deaf, KEYS, SEALED, Tapped, topic};

pub const MINUTE: Duration = Duration::from_secs(60);

/// A domain whose owner is a participant.
pub struct Place {
    pub world: World<Tapped>,
    relay: String,
    pub domain: DomainId,
    pub owner: NodeId,
    pub root: SigningKey,
    life: Duration,
    chats: BTreeMap<NodeId, ChannelId>,
    /// Everybody's identity: what a thief of it has.
    pub keys: BTreeMap<NodeId, SigningKey>,
}

fn profile(name: &str) -> Profile {
    Profile { name: name.into(), capabilities: Vec::new() }
}

impl Place {
    /// With credentials that hold for `life`.
    pub fn new(seed: u64, life: Duration) -> Place {
        let mut world = World::new(seed, Conditions::default());
        let (_, relay) = world.add(true, 0, |_, key, seed| Tapped::new(Config::relay(), key, seed));
        let config = Config { credential: life, ..Config::browser() };
        let mut keys = BTreeMap::new();
        let (owner, _) = world.add(false, 0, |_, key, seed| {
            keys.insert(key.node_id(), key.clone());
            Tapped::new(config, key, seed)
        });
        world.act(owner, |p, now| p.use_relay(now, &relay)).unwrap();
        let domain = world.act(owner, |p, now| p.create_domain(now, "place", &[], profile("owner"))).unwrap();
        let root = SigningKey::from_seed(&world.look(owner, |p, _| p.export_root(domain)).unwrap());
        let mut place = Place { world, relay, domain, owner, root, life, chats: BTreeMap::new(), keys };
        place.settle_in(owner);
        place.wait(2);
        place
    }
    pub fn wait(&mut self, seconds: u64) {
        self.world.run(Duration::from_secs(seconds));
    }
    fn settle_in(&mut self, node: NodeId) {
        let domain = self.domain;
        let chat = self.world.act(node, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
        self.chats.insert(node, chat);
    }
    pub fn invite(&mut self, by: NodeId, options: InviteOptions) -> InviteLink {
        let domain = self.domain;
        let link = self.world.act(by, |p, now| p.invite(now, domain, options)).unwrap();
        self.wait(1);
        link
    }
    fn stranger(&mut self, skew: i64) -> NodeId {
        let config = Config { credential: self.life, ..Config::browser() };
        let keys = &mut self.keys;
        let make = |_, key: SigningKey, seed| {
            keys.insert(key.node_id(), key.clone());
            Tapped::new(config, key, seed)
        };
        self.world.add(false, skew, make).0
    }
    fn begin(&mut self, node: NodeId, link: &InviteLink, name: &str) {
        self.world.act(node, |p, now| p.join(now, link.clone(), profile(name))).unwrap();
    }
    /// How a join ended, if it did within the time.
    fn end(&mut self, node: NodeId, within: u64) -> Option<Result<(), Code>> {
        let mut end = None;
        self.world.run_until(Duration::from_secs(within), |w| {
            for output in w.outputs(node) {
                if let Output::Joined { result, .. } = output {
                    end = Some(result.map_err(|e| e.code()));
                }
            }
            end.is_some()
        });
        end
    }
    pub fn join(&mut self, link: &InviteLink, skew: i64) -> Result<NodeId, Code> {
        let node = self.stranger(skew);
        self.begin(node, link, "guest");
        self.end(node, 90).expect("a join ends")?;
        self.settle_in(node);
        Ok(node)
    }
    /// A manager without the root key.
    pub fn manager(&mut self) -> NodeId {
        let (domain, manager) = (self.domain, self.stranger(0));
        let now = self.world.look(self.owner, |_, now| now.wall);
        let until = now.after(Duration::from_secs(60 * 24 * 3_600));
        let credential = membership::root_credential(&domain, &self.root, &manager, Role::Manager, now, until);
        self.world.act(self.owner, |p, now| p.insert_statement(now, domain, &credential)).unwrap();
        let mut saved = self.world.look(self.owner, |p, now| p.save_domain(now, domain)).unwrap();
        saved.root = None;
        let relay = self.relay.clone();
        let home = self.world.look(self.owner, |p, _| p.addresses().to_vec());
        saved.contacts.push((self.owner, home));
        self.world.act(manager, |p, now| {
            p.use_relay(now, &relay).unwrap();
            p.open_domain(now, &saved, Role::Manager, profile("manager")).unwrap();
        });
        self.wait(3);
        manager
    }
    pub fn members(&self, node: NodeId) -> u64 {
        self.world.look(node, |p, now| p.stats(now, self.domain)).map_or(0, |s| s.members)
    }
    pub fn epochs(&self, node: NodeId) -> u64 {
        self.world.look(node, |p, now| p.stats(now, self.domain)).unwrap().epochs
    }
    pub fn opened(&self, node: NodeId) -> u64 {
        self.world.look(node, |p, now| p.stats(now, self.domain)).unwrap().opened
    }
    /// Frames that it had no key for.
    fn keyless(&self, node: NodeId) -> u64 {
        let refused = self.world.look(node, |p, now| p.stats(now, self.domain)).unwrap().rejected;
        refused.get(&Reject::UnknownKey).copied().unwrap_or_default()
    }
    /// How many messages a node refused, whatever the reason.
    fn refused(&self, node: NodeId) -> u64 {
        self.world.look(node, |p, now| p.stats(now, self.domain)).unwrap().rejected.values().sum()
    }
    pub fn evict(&mut self, by: NodeId, node: NodeId) -> Result<(), Code> {
        let domain = self.domain;
        self.world.act(by, |p, now| p.evict(now, domain, node)).map_err(|e| e.code())
    }
    pub fn delegate(&mut self, node: NodeId, rights: Rights) {
        let domain = self.domain;
        self.world.act(self.owner, |p, now| p.delegate(now, domain, node, rights, 24 * 60 * MINUTE)).unwrap();
        self.wait(1);
    }
    pub fn say(&mut self, from: NodeId, text: &str) {
        let (domain, chat) = (self.domain, self.chats[&from]);
        self.world.act(from, |p, now| p.send(now, domain, chat, To::All, text.into(), None)).unwrap();
    }
    pub fn heard(&mut self, node: NodeId) -> Vec<String> {
        let (domain, chat) = (self.domain, self.chats[&node]);
        let mut all = Vec::new();
        while let Some(m) = self.world.act(node, |p, now| p.receive(now, domain, chat)) {
            all.push(String::from_utf8(m.payload).unwrap());
        }
        all
    }
    fn told(&mut self, node: NodeId, what: impl Fn(&Event) -> bool) -> bool {
        self.world.outputs(node).iter().any(|o| matches!(o, Output::Event(e) if what(e)))
    }
}

#[test]
fn attack_01_a_manager_adds_nobody() {
    let mut p = Place::new(101, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (guest, issuer, manager) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.manager());
    p.delegate(issuer, Rights::INVITE);
    let (domain, before) = (p.domain, p.members(guest));
    assert_eq!((before, p.members(manager)), (4, 4));
    // Keys the manager holds or stole: its own, a guest's, that of an issuer the owner took the rights from.
    let former = p.join(&link, 0).unwrap();
    p.delegate(former, Rights::INVITE);
    let taken_back = membership::revoke(&domain, &p.root, Target::Key(*former.as_bytes()), &[]);
    p.world.act(p.owner, |o, now| o.insert_statement(now, domain, &taken_back)).unwrap();
    p.wait(5);
    assert_eq!(p.members(guest), before, "the former issuer is out");
    let now = p.world.look(p.owner, |_, now| now.wall);
    let until = now.after(Duration::from_secs(3_600));
    let credential = |by: &SigningKey, node: &NodeId, role| membership::root_credential(&domain, by, node, role, now, until);
    let thief = SigningKey::from_seed(&[77; 32]).node_id();
    for signer in [manager, guest, former].map(|n| p.keys[&n].clone()) {
        for node in [thief, former] {
            for role in [Role::Participant, Role::Manager] {
                let forged = credential(&signer, &node, role);
                // It hands it to everybody, and nobody has to hear it from the manager.
                for at in [manager, p.owner, guest, issuer] {
                    let _ = p.world.act(at, |n, now| n.insert_statement(now, domain, &forged));
                }
            }
        }
    }
    p.wait(40);
    for node in [p.owner, guest, issuer, manager] {
        assert_eq!(p.members(node), before, "nobody knows a member more");
    }
    // The same by a key that may: it is the signer that counted.
    let real = credential(&p.keys[&issuer], &thief, Role::Participant);
    p.world.act(manager, |m, now| m.insert_statement(now, domain, &real)).unwrap();
    p.wait(40);
    for node in [p.owner, guest, issuer, manager] {
        assert_eq!(p.members(node), before + 1);
    }
}

#[test]
fn managers_are_listed_by_rank_with_whether_they_are_there() {
    let mut p = Place::new(109, 60 * MINUTE);
    let (one, other) = (p.manager(), p.manager());
    let absent = SigningKey::from_seed(&[78; 32]).node_id();
    for (node, rank) in [(one, 2), (absent, 1)] {
        let now = p.world.look(p.owner, |_, now| now.wall);
        let until = now.after(Duration::from_secs(90 * 24 * 3_600));
        let ranked = membership::manager_credential(&p.domain, &p.root, &node, rank, now, until);
        p.world.act(p.owner, |o, now| o.insert_statement(now, p.domain, &ranked)).unwrap();
    }
    p.wait(5);
    let row = |at: NodeId, node, rank, presence| Manager { node, rank, presence, is_self: node == at };
    let listed = |p: &Place, at: NodeId| p.world.look(at, |peer, now| peer.managers(now, p.domain)).unwrap();
    let rows = |at, last| [row(at, other, 0, Status::Online), row(at, absent, 1, Status::Down), row(at, one, 2, last)];
    for node in [p.owner, one, other] {
        assert_eq!(listed(&p, node), rows(node, Status::Online));
    }
    p.world.crash(one);
    p.wait(60);
    for node in [p.owner, other] {
        assert_eq!(listed(&p, node), rows(node, Status::Down));
    }
    p.evict(p.owner, one).unwrap();
    p.wait(5);
    assert_eq!(listed(&p, other), rows(other, Status::Down)[..2]);
}

#[test]
fn attack_31_an_evicted_member_opens_nothing_sent_after() {
    let mut p = Place::new(131, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (a, b, x) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.wait(8);
    for node in [p.owner, a, b, x] {
        p.say(node, "before");
    }
    p.wait(3);
    assert_eq!(p.heard(x), ["before"; 3]);
    assert_eq!(p.heard(b), ["before"; 3]);
    let (epochs, links) = (p.epochs(a), p.world.look(a, |peer, now| peer.links(now, Some(p.domain)).len()));
    // It keeps all its state and does not take its eviction; every frame of the others from now on is given to it.
    p.world.act(x, |peer, _| peer.deaf = Deaf::Membership);
    for node in [p.owner, a, b] {
        p.world.act(node, |peer, _| peer.taped = true);
    }
    p.evict(p.owner, x).unwrap();
    p.wait(1);
    let (opened, keyless) = (p.opened(x), p.keyless(x));
    for node in [p.owner, a, b] {
        p.say(node, "after");
    }
    p.wait(5);
    assert_eq!(p.heard(b), ["after"; 2], "the others go on at once");
    assert_eq!((p.members(a), p.epochs(a)), (3, epochs + 1), "one new pair of keys");
    assert_eq!(p.world.look(a, |peer, now| peer.links(now, Some(p.domain)).len()), links - 1, "and no link of the others was touched");
    let (domain, mut sealed) = (p.domain, 0);
    for node in [p.owner, a, b] {
        let frames = p.world.act(node, |peer, _| core::mem::take(&mut peer.sent));
        for mut frame in frames.into_iter().filter(|f| matches!(f[1], KEYS | SEALED)) {
            sealed += u64::from(topic(&frame).is_some());
            frame[2..10].copy_from_slice(&tag::pair_tag(&domain, &node, &x));
            p.world.act(x, |peer, now| peer.feed(now, &node, frame));
        }
    }
    assert!(sealed > 10, "{sealed} frames");
    assert_eq!((p.opened(x), p.heard(x).len()), (opened, 0));
    assert_eq!(p.keyless(x) - keyless, sealed, "each was looked at, and none has a key that it knows");
}

/// In a large domain statements and what is for all go along trees.
#[test]
fn attack_31_among_many_an_evicted_member_opens_nothing_sent_after() {
    let mut p = Place::new(1_031, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let mut all: Vec<NodeId> = (0..16).map(|_| p.join(&link, 0).unwrap()).collect();
    let x = all.pop().unwrap();
    all.push(p.owner);
    p.wait(30);
    p.say(p.owner, "before");
    p.wait(3);
    assert_eq!(p.heard(x), ["before"]);
    // It keeps all its state and does not take its eviction.
    p.world.act(x, |peer, _| peer.deaf = Deaf::Membership);
    p.evict(p.owner, x).unwrap();
    p.wait(3);
    assert!(all.iter().all(|node| p.members(*node) == 16), "all know");
    assert_eq!(p.members(x), 17, "but for the evicted");
    let (opened, keyless) = (p.opened(x), p.keyless(x));
    for node in &all {
        p.heard(*node);
        p.world.act(*node, |peer, _| peer.taped = true);
    }
    for node in &all {
        p.say(*node, "after");
    }
    p.wait(4);
    assert!(all.iter().all(|node| p.heard(*node).len() == 15), "all others hear all others");
    let (domain, mut casts, mut sealed) = (p.domain, 0, 0);
    for node in &all {
        // Whoever had no link to it has none to show it a frame on.
        if !p.world.look(x, |peer, _| peer.knows(node)) {
            continue;
        }
        let frames = p.world.act(*node, |peer, _| core::mem::take(&mut peer.sent));
        for mut frame in frames.into_iter().filter(|f| matches!(f[1], KEYS | SEALED)) {
            casts += u64::from(topic(&frame) == Some(CASTS));
            sealed += u64::from(topic(&frame).is_some());
            frame[2..10].copy_from_slice(&tag::pair_tag(&domain, node, &x));
            p.world.act(x, |peer, now| peer.feed(now, node, frame));
        }
    }
    assert!(casts > 50, "{casts} frames of casts");
    assert_eq!((p.opened(x), p.heard(x).len()), (opened, 0));
    assert_eq!(p.keyless(x) - keyless, sealed, "each was looked at, and none has a key that it knows");
}

#[test]
fn attack_22_among_many_data_waits_while_neighbours_know_of_another_eviction() {
    let mut p = Place::new(1_022, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let all: Vec<NodeId> = (0..16).map(|_| p.join(&link, 0).unwrap()).collect();
    let (b, c, x) = (all[0], all[1], all[2]);
    p.wait(30);
    p.world.act(b, |peer, _| peer.deaf = Deaf::Revocations);
    p.evict(p.owner, x).unwrap();
    p.wait(1);
    assert_eq!((p.members(b), p.members(c)), (17, 16), "it is kept from one");
    p.say(b, "held");
    p.wait(6);
    assert_eq!(p.heard(c), [""; 0]);
    p.world.act(b, |peer, _| peer.deaf = Deaf::No);
    p.wait(6);
    assert_eq!((p.members(b), p.heard(c), p.heard(x)), (16, vec!["held".to_owned()], vec![]), "it goes on when it knows");
}

#[test]
fn who_is_talked_to_by_a_member_whose_greeting_it_lost_greets_it_again_at_once() {
    let mut p = Place::new(31, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let b = p.join(&link, 0).unwrap();
    p.wait(5);
    p.world.act(b, |peer, _| peer.deaf = Deaf::Hellos);
    p.world.net().partition(BTreeMap::from([(b, 1)]));
    p.wait(60);
    p.world.net().heal();
    // Long enough for the pauses between its own greetings to grow to a minute and a half.
    p.wait(120);
    let at = p.opened(b);
    p.world.act(b, |peer, _| peer.deaf = Deaf::No);
    let (domain, back) = (p.domain, |w: &World<Tapped>, d| w.look(b, |peer, now| peer.stats(now, d)).unwrap().opened > at);
    assert!(p.world.run_until(Duration::from_secs(15), |w| back(w, domain)));
    p.wait(2);
    p.say(p.owner, "there?");
    p.wait(2);
    assert_eq!(p.heard(b), ["there?"]);
}

#[test]
fn attack_32_the_old_link_lets_nobody_back_in() {
    let mut p = Place::new(132, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (a, x) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.wait(3);
    p.evict(p.owner, x).unwrap();
    p.wait(2);
    assert!(p.told(x, |e| matches!(e, Event::Closed { .. })), "it hears that it is out");
    assert_eq!(p.join(&link, 0), Err(Code::InviteRevoked), "under a new key");
    p.begin(x, &link, "again");
    assert_eq!(p.end(x, 90), Some(Err(Code::InviteRevoked)), "under the old one");
    let fresh = p.invite(p.owner, InviteOptions::default());
    p.begin(x, &fresh, "again");
    assert_eq!(p.end(x, 90), Some(Err(Code::Forbidden)), "with another link, under the old key");
    assert_eq!(p.members(a), 2, "who came through the link before stays");
    p.say(p.owner, "still here?");
    p.wait(2);
    assert_eq!(p.heard(a), ["still here?"]);
    p.join(&fresh, 0).unwrap();
}

#[test]
fn attack_22_a_manager_withholds_an_eviction() {
    let mut p = Place::new(122, 30 * MINUTE);
    let link = p.invite(p.owner, InviteOptions { lifetime: 60 * MINUTE, ..InviteOptions::default() });
    let manager = p.manager();
    let (a, b, c, x) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.delegate(a, Rights::EVICT);
    p.wait(5);
    let all = p.members(b);
    assert_eq!(all, 6);
    p.world.act(manager, |m, _| m.deaf = Deaf::Revocations);
    p.world.act(x, |m, _| m.deaf = Deaf::Revocations);
    // B is away with the manager and X while A evicts X.
    let away = |p: &mut Place| p.world.net().partition([(b, 1), (x, 1), (manager, 1)].into());
    away(&mut p);
    p.wait(30);
    p.evict(a, x).unwrap();
    p.wait(5);
    assert_eq!((p.members(a), p.members(c), p.members(b)), (all - 1, all - 1, all), "B does not know");
    p.world.net().heal();
    let told = p.world.run_until(2 * MINUTE, |w| w.look(b, |n, now| n.stats(now, p.domain)).is_ok_and(|s| s.members == all - 1));
    assert!(told, "any other member tells it");
    // Who keeps differing is flagged, and held for no longer than ten seconds.
    p.world.outputs(c);
    p.wait(40);
    let mut flagged = p.told(c, |e| matches!(e, Event::Flagged { node, why: Flag::View, .. } if *node == manager));
    flagged |= p.told(a, |e| matches!(e, Event::Flagged { node, why: Flag::View, .. } if *node == manager));
    assert!(flagged, "the manager is flagged");
    p.heard(c);
    p.say(a, "on we go");
    p.wait(12);
    assert_eq!(p.heard(c), ["on we go"]);
}

#[test]
fn attack_22_alone_with_it_a_member_stops_when_the_invitation_ends() {
    let mut p = Place::new(123, 30 * MINUTE);
    let (short, long) = (60 * MINUTE, 10 * 24 * 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions { lifetime: short, ..InviteOptions::default() });
    let other = p.invite(p.owner, InviteOptions { lifetime: long, ..InviteOptions::default() });
    let manager = p.manager();
    // X's clock is slow: it takes itself for a member for some minutes longer than B does, and goes on.
    let (b, c, x) = (p.join(&other, 0).unwrap(), p.join(&other, 0).unwrap(), p.join(&link, -240_000).unwrap());
    p.wait(20);
    for node in [manager, x] {
        p.world.act(node, |m, _| m.deaf = Deaf::Revocations);
    }
    p.world.net().partition([(b, 1), (c, 1), (x, 1), (manager, 1)].into());
    p.evict(p.owner, x).unwrap();
    p.world.run(40 * MINUTE);
    assert_eq!(p.members(b), 5, "X is not known to be out, and renewed itself");
    p.say(b, "are you there?");
    p.say(x, "still here");
    p.wait(2);
    assert_eq!((p.heard(x), p.heard(b)), (vec!["are you there?".to_owned()], vec!["still here".to_owned()]), "until then they talk");
    p.heard(c);
    let domain = p.domain;
    let over = |w: &World<Tapped>, by| w.look(by, |n, now| n.stats(now, domain)).is_ok_and(|s| s.members == 4);
    let ended = p.world.run_until(30 * MINUTE, |w| over(w, b) && over(w, c));
    assert!(ended, "X could renew itself no longer than its invitation holds");
    p.world.act(b, |n, _| n.taped = true);
    let refused = p.refused(b);
    for i in 0..12 {
        p.say(b, "only for who is in");
        if i < 3 {
            p.say(x, "and I?");
        }
        p.wait(10);
    }
    // Neither a key nor a frame went to X, in any class, and what X sent was not read.
    let to_x = tag::pair_tag(&p.domain, &b, &x);
    let sent = p.world.act(b, |n, _| core::mem::take(&mut n.sent));
    assert!(sent.len() > 12, "{} frames", sent.len());
    assert!(!sent.iter().any(|f| matches!(f[1], KEYS | SEALED) && f[2..10] == to_x));
    assert_eq!((p.heard(x).len(), p.heard(b).len(), p.heard(c)), (0, 0, vec!["only for who is in".to_owned(); 12]));
    assert!(p.refused(b) > refused, "it reached B");
    p.world.run(90 * MINUTE);
    assert_eq!((p.members(b), p.members(c)), (4, 4), "B renews itself by its own");
}

#[test]
fn attack_24_joining_and_leaving_is_no_rotation_storm() {
    let mut p = Place::new(124, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let a = p.join(&link, 0).unwrap();
    p.wait(5);
    let (domain, before, start) = (p.domain, [p.epochs(p.owner), p.epochs(a)], p.world.now());
    let (mut here, mut gone, mut leavers) = (std::collections::VecDeque::new(), None, 0);
    for i in 0..100 {
        let node = p.stranger(0);
        p.begin(node, &link, "passing");
        here.push_back(node);
        p.world.run(Duration::from_millis(600));
        if i % 5 == 0 {
            p.say(a, "news");
        }
        if here.len() > 8
            && let Some(node) = here.pop_front()
        {
            // For good, so that its key is out. Who is not in yet after five seconds gives up.
            let left = p.world.act(node, |n, now| n.resign(now, domain));
            leavers += u32::from(left.is_ok());
            if let Some(node) = gone.replace(node) {
                p.world.crash(node);
            }
        }
    }
    // A new pair is made with a message, at most a minute after the first of them left.
    for _ in 0..6 {
        p.wait(10);
        p.say(a, "still here");
        let owner = p.owner;
        p.say(owner, "so am I");
    }
    let minutes = (p.world.now() - start).div_ceil(60_000);
    let made = [p.epochs(p.owner) - before[0], p.epochs(a) - before[1]];
    println!("{leavers} left; {made:?} new pairs of keys in {minutes} minutes");
    assert!(leavers > 80, "{leavers}");
    assert!(made.iter().all(|n| *n >= 1 && *n <= 2 * minutes), "{made:?}");
}

#[test]
fn memberships_are_renewed_and_the_set_does_not_grow() {
    let mut p = Place::new(200, 30 * MINUTE);
    let link = p.invite(p.owner, InviteOptions { lifetime: 60 * MINUTE, ..InviteOptions::default() });
    // Clocks almost five minutes apart.
    let (a, b) = (p.join(&link, 145_000).unwrap(), p.join(&link, -145_000).unwrap());
    let statements = |p: &Place| p.world.look(a, |n, now| n.stats(now, p.domain)).unwrap().statements;
    for _ in 0..18 {
        p.world.run(10 * MINUTE);
        assert_eq!((p.members(a), p.members(b), p.members(p.owner)), (3, 3, 3));
        assert!(statements(&p) <= 8, "{}", statements(&p));
    }
    // Without anybody who renews them they end, their own time and the clocks' difference later.
    let owner = p.owner;
    p.world.crash(owner);
    p.world.run(50 * MINUTE);
    assert_eq!((p.members(a), p.members(b)), (0, 0));
    assert!(p.told(a, |e| matches!(e, Event::Closed { .. })));
}

#[test]
fn an_issuer_approves_or_turns_away() {
    let mut p = Place::new(300, 60 * MINUTE);
    let domain = p.domain;
    let link = p.invite(p.owner, InviteOptions::default());
    let (issuer, other) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.delegate(issuer, Rights::INVITE);
    let asked = p.invite(issuer, InviteOptions { approve: true, ..InviteOptions::default() });
    for node in [p.owner, issuer, other] {
        p.world.outputs(node);
    }
    let (ada, mallory) = (p.stranger(0), p.stranger(0));
    p.begin(ada, &asked, "Ada");
    p.begin(mallory, &asked, "Mallory");
    assert_eq!(p.end(ada, 15), None, "it waits");
    for (node, decides) in [(p.owner, true), (issuer, true), (other, false)] {
        let asks = |e: &Event| matches!(e, Event::Approval { node, name, .. } if *node == ada && name == "Ada");
        assert_eq!(p.told(node, asks), decides);
    }
    assert!(p.told(mallory, |e| matches!(e, Event::Waiting { .. })));
    let waiting = p.world.look(issuer, |n, _| n.waiting(domain)).unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!(p.world.act(other, |n, now| n.approve(now, domain, ada)).unwrap_err().code(), Code::Forbidden);
    p.world.act(issuer, |n, now| n.approve(now, domain, ada)).unwrap();
    p.world.act(p.owner, |n, now| n.deny(now, domain, mallory)).unwrap();
    assert_eq!(p.end(ada, 30), Some(Ok(())));
    assert_eq!(p.end(mallory, 30), Some(Err(Code::InviteDenied)));
    p.settle_in(ada);
    p.wait(8);
    p.say(ada, "thanks");
    p.wait(3);
    assert_eq!((p.heard(other), p.members(other)), (vec!["thanks".to_owned()], 4));
}

#[test]
fn links_are_listed_closed_and_used_as_often_as_they_allow() {
    let mut p = Place::new(400, 60 * MINUTE);
    let domain = p.domain;
    let once = p.invite(p.owner, InviteOptions { max_uses: 1, ..InviteOptions::default() });
    let open = p.invite(p.owner, InviteOptions::default());
    let (a, b) = (p.join(&once, 0).unwrap(), p.join(&open, 0).unwrap());
    assert_eq!(p.join(&once, 0), Err(Code::InviteUsed));
    let list = p.world.look(b, |n, now| n.invitations(now, domain)).unwrap();
    assert_eq!(list.iter().map(|i| (i.uses, i.max_uses)).collect::<std::collections::BTreeSet<_>>(), [(1, 1), (1, 0)].into());
    let id = peerage::peer::invitation_of(&open);
    assert_eq!(p.world.act(a, |n, now| n.revoke_invitation(now, domain, id)).unwrap_err().code(), Code::Forbidden);
    p.world.act(p.owner, |n, now| n.revoke_invitation(now, domain, id)).unwrap();
    p.wait(2);
    assert_eq!(p.join(&open, 0), Err(Code::InviteRevoked));
    assert_eq!((p.members(a), p.members(b)), (3, 3), "who is in stays in");
}
