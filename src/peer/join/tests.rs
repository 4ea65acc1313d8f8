//! What a joiner believes of what members answer it: two real peers, of which the answers of one are changed on their way.

use alloc::vec::Vec;

use super::*;
use crate::base::Wall;
use crate::crypto::sign::SigningKey;
use crate::peer::{Config, InviteOptions, Output, invitation_of};

const DAY: u64 = 86_400_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(1_800_000_000_000 + ms) }
}

fn peer(n: u8) -> Peer {
    Peer::new(Config::native(), SigningKey::from_seed(&[n; 32]), [n; 32])
}

fn profile() -> Profile {
    Profile { name: "one".into(), capabilities: Vec::new() }
}

fn relay() -> NodeId {
    SigningKey::from_seed(&[9; 32]).node_id()
}

/// An owner, its domain, and a link into it.
fn founded(options: InviteOptions) -> (Peer, DomainId, InviteLink) {
    founded_by(peer(1), options)
}

fn founded_by(mut owner: Peer, options: InviteOptions) -> (Peer, DomainId, InviteLink) {
    owner.use_relay(at(0), &alloc::format!("/ip4/127.0.0.1/tcp/9611/ws/p2p/{}", relay())).unwrap();
    let domain = owner.create_domain(at(0), "place", &[], profile()).unwrap();
    let link = owner.invite(at(0), domain, options).unwrap();
    (owner, domain, link)
}

fn joining(n: u8, now: u64, link: &InviteLink) -> Peer {
    let mut joiner = peer(n);
    assert!(joiner.join(at(now), link.clone(), profile()).unwrap());
    joiner
}

/// What a member says to the joiner's request.
fn answer(member: &mut Peer, joiner: &Peer, now: u64, id: DomainId) -> JoinAnswer {
    let body = cbor::decode(&joiner.joins[&id].request.body).unwrap();
    member.admit(at(now), id, relay(), &body)
}

fn hears(joiner: &mut Peer, member: &Peer, now: u64, id: DomainId, body: &JoinAnswer) {
    let answer = Answer { member: member.me, body: cbor::encode(body) };
    if joiner.enter(at(now), id, &answer) == Err(Reject::Misdirected) {
        joiner.doubt(at(now), id, Code::WrongDomain);
    }
}

/// How the join ended until then, and when.
fn ended(joiner: &mut Peer, from: u64, to: u64) -> Option<(u64, Code)> {
    let mut now = from;
    loop {
        while let Some(output) = joiner.poll_output() {
            if let Output::Joined { result: Err(error), .. } = output {
                return Some((now, error.code()));
            }
        }
        now = joiner.next_timeout().map_or(to + 1, |next| next.0.max(now + 1));
        if now > to {
            return None;
        }
        joiner.on_timeout(at(now));
    }
}

fn bare(code: Code) -> JoinAnswer {
    JoinAnswer { refused: Some(code.as_str().into()), genesis: Vec::new().into(), statements: Vec::new(), contacts: Vec::new() }
}

#[test]
fn who_refuses_without_showing_why_is_not_believed_while_another_may_say_otherwise() {
    let (mut owner, id, link) = founded(InviteOptions::default());
    let codes = [Code::InviteUsed, Code::InviteRevoked, Code::InviteExpired, Code::InviteDenied, Code::Forbidden, Code::Timeout];
    for code in codes {
        let mut joiner = joining(2, 0, &link);
        // Everything that is true beside it shows nothing of the kind.
        let truth = answer(&mut owner, &joiner, 0, id);
        hears(&mut joiner, &owner, 0, id, &JoinAnswer { refused: bare(code).refused, ..truth.clone() });
        assert_eq!(ended(&mut joiner, 0, 3_000), None, "{code:?}");
        assert!(joiner.joins[&id].seeker.is_some(), "another is asked");
        hears(&mut joiner, &owner, 3_000, id, &truth);
        // In, as far as answers go: it has to be reached. Whoever says no now comes too late.
        hears(&mut joiner, &owner, 3_100, id, &bare(code));
        assert_eq!(ended(&mut joiner, 3_100, 20_000), None);
        assert!(joiner.domains.contains_key(&id));
    }
}

#[test]
fn where_nobody_says_otherwise_it_is_believed_after_a_while_however_often_and_differently_it_is_said() {
    let (owner, id, link) = founded(InviteOptions::default());
    let mut joiner = joining(2, 0, &link);
    for (i, code) in [Code::InviteUsed, Code::Forbidden, Code::InviteExpired, Code::InviteUnknown].into_iter().enumerate() {
        let now = 900 * i as u64;
        hears(&mut joiner, &owner, now, id, &bare(code));
        assert_eq!(ended(&mut joiner, now, now + 899), None);
    }
    let (when, code) = ended(&mut joiner, 3_600, 10_000).unwrap();
    assert_eq!((when / 1_000, code), (4, Code::InviteUsed));
}

#[test]
fn what_shows_that_an_invitation_lets_nobody_in_is_believed_at_once() {
    let approve = InviteOptions { approve: true, ..InviteOptions::default() };
    let once = InviteOptions { max_uses: 1, ..InviteOptions::default() };
    let revoke = |owner: &mut Peer, id, link: &InviteLink| owner.revoke_invitation(at(0), id, invitation_of(link)).unwrap();
    let use_up = |owner: &mut Peer, id, link: &InviteLink| {
        let other = joining(3, 0, link);
        assert_eq!(answer(owner, &other, 0, id).refused, None);
    };
    let (me, nothing) = (peer(2).me, |_: &mut Peer, _: DomainId, _: &InviteLink| {});
    let deny = |owner: &mut Peer, id, link: &InviteLink| {
        let knocking = joining(2, 0, link);
        assert_eq!(answer(owner, &knocking, 0, id).refused.as_deref(), Some(Code::InvitePending.as_str()));
        owner.deny(at(0), id, me).unwrap();
    };
    let evict = |owner: &mut Peer, id, link: &InviteLink| {
        let before = joining(2, 0, link);
        assert_eq!(answer(owner, &before, 0, id).refused, None);
        owner.evict(at(0), id, me).unwrap();
    };
    type Act<'a> = &'a dyn Fn(&mut Peer, DomainId, &InviteLink);
    let cases: [(InviteOptions, Act<'_>, u64, Code); 6] = [
        (InviteOptions::default(), &revoke, 0, Code::InviteRevoked),
        (once, &use_up, 0, Code::InviteUsed),
        (InviteOptions { lifetime: Duration::from_secs(60), ..InviteOptions::default() }, &nothing, DAY, Code::InviteExpired),
        (approve, &deny, 0, Code::InviteDenied),
        // Its invitation ends with it.
        (InviteOptions::default(), &evict, 0, Code::InviteRevoked),
        // And under another one it is kept out itself.
        (InviteOptions::default(), &evict, 0, Code::Forbidden),
    ];
    for (options, act, now, code) in cases {
        let (mut owner, id, mut link) = founded(options);
        act(&mut owner, id, &link);
        if code == Code::Forbidden {
            link = owner.invite(at(0), id, InviteOptions::default()).unwrap();
        }
        let mut joiner = joining(2, now, &link);
        let refusal = answer(&mut owner, &joiner, now, id);
        assert_eq!(refusal.refused.as_deref(), Some(code.as_str()));
        hears(&mut joiner, &owner, now, id, &refusal);
        assert_eq!(ended(&mut joiner, now, now), Some((now, code)));
    }
}

#[test]
fn an_issuer_shows_nothing_for_its_right_may_have_been_taken_back() {
    let (mut owner, id, link) = founded(InviteOptions::default());
    let root = SigningKey::from_seed(&owner.export_root(id).unwrap());
    let issuer = SigningKey::from_seed(&[5; 32]);
    let dates = membership::Dates { not_before: at(0).wall, expires: at(30 * DAY).wall };
    let given = membership::delegate(&id, &root, issuer.public(), membership::Rights::INVITE, dates);
    let mut joiner = joining(2, 0, &link);
    let denied = membership::decide(&id, &issuer, &joiner.me, false);
    let mut refusal = answer(&mut owner, &joiner, 0, id);
    refusal.refused = bare(Code::InviteDenied).refused;
    refusal.statements.extend([given, denied].map(Into::into));
    hears(&mut joiner, &owner, 0, id, &refusal);
    assert_eq!(ended(&mut joiner, 0, 3_000), None);
}

#[test]
fn who_bears_no_invitation_of_the_domain_learns_nothing_of_it() {
    let (mut owner, id, link) = founded(InviteOptions::default());
    let made_up = InviteLink { secret: Zeroizing::new([7; 32]), ..link };
    let stranger = joining(2, 0, &made_up);
    assert_eq!(answer(&mut owner, &stranger, 0, id), bare(Code::InviteUnknown));
}

#[test]
fn who_gives_another_genesis_or_lets_in_without_what_it_rests_on_does_not_end_a_join() {
    let (mut owner, id, link) = founded(InviteOptions::default());
    let (mut other, elsewhere, way) = founded_by(peer(8), InviteOptions::default());
    let foreign = answer(&mut other, &joining(2, 0, &way), 0, elsewhere);
    let mut joiner = joining(2, 0, &link);
    let truth = answer(&mut owner, &joiner, 0, id);
    let without = JoinAnswer { statements: Vec::new(), ..truth.clone() };
    for (now, lie) in [(0, &foreign), (500, &without), (1_000, &foreign)] {
        hears(&mut joiner, &owner, now, id, lie);
        assert_eq!(ended(&mut joiner, now, now + 499), None);
    }
    hears(&mut joiner, &owner, 1_500, id, &truth);
    assert!(joiner.domains.contains_key(&id));
    // Where there is nothing else it is said what was wrong.
    let mut joiner = joining(2, 0, &link);
    hears(&mut joiner, &owner, 0, id, &foreign);
    assert_eq!(ended(&mut joiner, 0, 10_000).map(|(_, code)| code), Some(Code::WrongDomain));
}

#[test]
fn a_refusal_with_much_to_show_still_fits_an_answer() {
    let (mut owner, id, link) = founded(InviteOptions { max_uses: 40, ..InviteOptions::default() });
    for n in 3..43 {
        let other = joining(n, 0, &link);
        assert_eq!(answer(&mut owner, &other, 0, id).refused, None);
    }
    let mut joiner = joining(2, 0, &link);
    let refusal = answer(&mut owner, &joiner, 0, id);
    assert_eq!(refusal.refused.as_deref(), Some(Code::InviteUsed.as_str()));
    assert!(cbor::encode(&refusal).len() <= ANSWER_BODY);
    // More than that many credentials: it is no proof, and believed later.
    hears(&mut joiner, &owner, 0, id, &refusal);
    assert_eq!(ended(&mut joiner, 0, 0), None);
    assert_eq!(ended(&mut joiner, 1, 10_000).map(|(_, code)| code), Some(Code::InviteUsed));
}
