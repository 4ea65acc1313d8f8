//! What those with rights do, and what becomes of the others: evicting, closing, deciding, renewing.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::*;
use crate::base::{Code, DomainId, Mono, NodeId, Now, Reject, Rng, Wall};
use crate::crypto::{Role, sign::SigningKey};

const HOUR: u64 = 3_600_000;

fn at(hours: u64) -> Now {
    Now { mono: Mono(hours * HOUR), wall: Wall(1_800_000_000_000 + hours * HOUR) }
}

fn key(n: u16) -> SigningKey {
    let mut seed = [9; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    SigningKey::from_seed(&seed)
}

fn id(n: u16) -> NodeId {
    key(n).node_id()
}

/// Invitations have keys from 1,000 on.
struct Place {
    m: Membership,
    root: SigningKey,
    d: DomainId,
}

impl Place {
    fn new() -> Place {
        let f = found(&mut Rng::from_seed([1; 32]), at(0), "place", &[], [5; 32]).unwrap();
        Place { m: Membership::new(f.domain, &f.genesis).unwrap(), root: f.root, d: f.domain }
    }
    fn learn(&mut self, now: Now, bytes: &[u8]) -> StatementId {
        self.m.learn(now, None, bytes, &mut Vec::new()).unwrap()
    }
    fn learn_all(&mut self, now: Now, all: &[Vec<u8>]) {
        for bytes in all {
            self.learn(now, bytes);
        }
    }
    fn invite(&mut self, by: &SigningKey, n: u16, max_uses: u32, approve: bool) {
        let spec = InvitationSpec {
            sign_pk: key(n).public(),
            kem_pk: [6; 32],
            max_uses,
            approve,
            not_before: at(0).wall,
            expires: at(24 * 10).wall,
        };
        let statement = issue_invitation(&self.d, by, &spec);
        self.learn(at(0), &statement);
    }
    fn guest(&self, invitation: u16, n: u16, from: u64) -> Vec<u8> {
        self_signed_credential(&self.d, &key(invitation), &id(n), at(from).wall, at(from + 24).wall)
    }
    fn join(&mut self, invitation: u16, n: u16) {
        let credential = self.guest(invitation, n, 0);
        self.learn(at(0), &credential);
    }
    fn delegate(&mut self, n: u16, rights: Rights) {
        let statement = self.m.delegation(at(0), &self.root, &id(n), rights, Duration::from_secs(80 * 24 * 3_600)).unwrap();
        self.learn(at(0), &statement);
    }
    fn here(&self, hours: u64) -> Vec<u16> {
        (0..1_000).filter(|n| self.m.member(at(hours), &id(*n)).is_some()).collect()
    }
    fn statements(&self) -> Vec<Vec<u8>> {
        self.m.set.iter().map(|(_, e)| e.bytes.clone()).collect()
    }
    fn open(&self, invitation: u16) -> Result<(), Code> {
        self.m.invitation_status(at(1), &key(invitation).public())
    }
}

#[test]
fn evicting_closes_the_way_in_and_spares_everybody_else() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    p.invite(&root, 1_001, 0, false);
    for n in 0..900 {
        p.join(1_000, n);
    }
    p.join(1_001, 7);
    p.join(1_001, 950);
    let statements = p.m.evict(at(1), &root, &id(7)).unwrap();
    assert_eq!(statements.len(), 1 + 3 + 1, "its key; the first link in three parts, as a list has 320; the second link");
    // All of it is one message of the tree in a large domain.
    assert!(statements.iter().map(Vec::len).sum::<usize>() < 12_000);
    p.learn_all(at(1), &statements);
    let left: Vec<u16> = (0..900).filter(|n| *n != 7).chain([950]).collect();
    assert_eq!(p.here(1), left);
    assert_eq!((p.open(1_000), p.open(1_001)), (Err(Code::InviteRevoked), Err(Code::InviteRevoked)));
    p.join(1_000, 951);
    let again = p.guest(1_000, 7, 1);
    p.learn(at(1), &again);
    assert_eq!(p.here(1), left, "neither a new key nor the old one comes in");
    // Who was kept is kept by its key: it renews its membership although the link is closed.
    let renewed = p.guest(1_000, 8, 20);
    p.learn(at(20), &renewed);
    assert_eq!(p.here(30), [8]);
    assert_eq!(p.m.gone(at(1), &id(7)), Gone::Evicted);
    assert_eq!(p.m.gone(at(30), &id(9)), Gone::Expired);
}

#[test]
fn keep_lists_of_one_signer_add_up_and_those_of_two_intersect() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    for n in 0..6 {
        p.join(1_000, n);
    }
    p.delegate(0, Rights::EVICT);
    p.delegate(1, Rights::EVICT);
    let (one, other) = (p.m.evict(at(1), &key(0), &id(2)).unwrap(), p.m.evict(at(1), &key(1), &id(3)).unwrap());
    // Both act without knowing of each other: each spared whom the other evicts.
    p.learn_all(at(1), &one);
    p.learn_all(at(1), &other);
    assert_eq!(p.here(1), [0, 1, 4, 5]);
}

#[test]
fn rights_are_needed_and_issuers_do_not_evict_issuers() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    for n in 0..5 {
        p.join(1_000, n);
    }
    p.delegate(0, Rights::INVITE);
    p.delegate(1, Rights::EVICT);
    let manager = root_credential(&p.d, &root, &id(9), Role::Manager, at(0).wall, at(48).wall);
    p.learn(at(0), &manager);
    let evict = |by: u16, node: u16| p.m.evict(at(1), &key(by), &id(node)).map(|_| ()).map_err(|e| e.code());
    assert_eq!(evict(2, 3), Err(Code::Forbidden), "no right");
    assert_eq!(evict(0, 3), Err(Code::Forbidden), "another right");
    assert_eq!(evict(1, 0), Err(Code::Forbidden), "an issuer");
    assert_eq!(evict(1, 9), Err(Code::Forbidden), "a manager");
    assert_eq!(evict(1, 77), Err(Code::NoParticipant));
    assert_eq!(evict(1, 3), Ok(()));
    assert_eq!(p.m.delegation(at(1), &key(0), &id(3), Rights::INVITE, Duration::from_secs(1)).unwrap_err().code(), Code::Forbidden);
    let long = p.m.delegation(at(1), &root, &id(3), Rights::INVITE, Duration::from_secs(91 * 24 * 3_600));
    assert_eq!(long.unwrap_err().code(), Code::BadArgument);
}

#[test]
fn the_owner_ranks_managers_and_the_newest_word_counts() {
    let mut p = Place::new();
    let root = p.root.clone();
    let quarter = Duration::from_secs(90 * 24 * 3_600);
    let appoint = |p: &mut Place, now: u64, n: u16, rank: u8, lifetime: Duration| {
        let statement = p.m.appointment(at(now), &root, &id(n), rank, lifetime).unwrap();
        p.learn(at(now), &statement);
        statement
    };
    let ranks = |p: &Place, now: u64| -> Vec<(NodeId, u8)> { p.m.managers(at(now)).into_iter().map(|(n, m)| (n, m.rank)).collect() };
    let first = root_credential(&p.d, &root, &id(1), Role::Manager, at(0).wall, at(24 * 90).wall);
    p.learn(at(0), &first);
    appoint(&mut p, 1, 2, 7, quarter);
    let former = appoint(&mut p, 1, 3, 1, quarter);
    assert_eq!(ranks(&p, 1), [(id(1), 0), (id(3), 1), (id(2), 7)]);

    // At the same moment, and for an hour only: it still is the one that counts, wherever the two meet.
    appoint(&mut p, 1, 3, 9, quarter);
    let newest = appoint(&mut p, 1, 3, 8, Duration::from_secs(3_600));
    assert_eq!(ranks(&p, 1), [(id(1), 0), (id(2), 7), (id(3), 8)]);
    p.learn(at(1), &former);
    assert_eq!(ranks(&p, 1), [(id(1), 0), (id(2), 7), (id(3), 8)]);
    let mut elsewhere = Place::new();
    elsewhere.learn_all(at(1), &[newest, former]);
    assert_eq!(ranks(&elsewhere, 1), [(id(3), 8)]);

    // Of one rank the lowest id is first, and a renewal keeps the rank.
    appoint(&mut p, 2, 3, 7, quarter);
    let mut alike = [(id(2), 7), (id(3), 7)];
    alike.sort_unstable();
    assert_eq!(ranks(&p, 2)[1..], alike);
    let held = p.m.member(at(2), &id(2)).unwrap();
    let dates = Dates { not_before: at(24 * 80).wall, expires: at(24 * 170).wall };
    let renewed = held.renewed(&p.d, &root, &id(2), dates);
    p.learn(at(24 * 80), &renewed);
    assert_eq!(ranks(&p, 24 * 100), [(id(2), 7)]);
}

#[test]
fn who_may_not_be_a_manager_is_not_appointed() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    p.join(1_000, 0);
    p.join(1_000, 1);
    p.delegate(0, Rights::INVITE.and(Rights::EVICT));
    let day = Duration::from_secs(24 * 3_600);
    let code = |p: &Place, now: u64, by: &SigningKey, n: u16, rank: u8, lifetime: Duration| {
        p.m.appointment(at(now), by, &id(n), rank, lifetime).map(|_| ()).map_err(|e| e.code())
    };
    assert_eq!(code(&p, 1, &root, 5, 15, day * 90), Ok(()));
    assert_eq!(code(&p, 1, &root, 5, 16, day), Err(Code::BadArgument));
    assert_eq!(code(&p, 1, &root, 5, 1, day * 91), Err(Code::BadArgument));
    assert_eq!(code(&p, 1, &root, 5, 1, Duration::ZERO), Err(Code::BadArgument));
    assert_eq!(code(&p, 1, &key(0), 5, 1, day), Err(Code::Forbidden), "no issuer either");
    assert_eq!(code(&p, 1, &root, 1, 1, day), Err(Code::Forbidden), "a participant has keys that no manager has");
    let both = root_credential(&p.d, &root, &id(1), Role::Manager, at(0).wall, at(48).wall);
    p.learn(at(0), &both);
    assert_eq!(code(&p, 1, &root, 1, 1, day), Err(Code::Forbidden), "also if it is a manager as well");

    let manager = p.m.appointment(at(1), &root, &id(5), 1, day).unwrap();
    p.learn(at(1), &manager);
    let evicted = p.m.evict(at(2), &root, &id(5)).unwrap();
    p.learn_all(at(2), &evicted);
    assert_eq!(code(&p, 2, &root, 5, 1, day), Err(Code::Forbidden), "an eviction is for good");
}

#[test]
fn an_evicted_issuer_takes_nobody_along_and_what_it_decided_stays() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    for n in 0..4 {
        p.join(1_000, n);
    }
    p.delegate(0, Rights::INVITE.and(Rights::EVICT));
    let issuer = key(0);
    p.invite(&issuer, 1_001, 0, false);
    p.join(1_001, 10);
    p.join(1_001, 11);
    let evicted = p.m.evict(at(1), &issuer, &id(3)).unwrap();
    p.learn_all(at(1), &evicted);
    let statements = p.m.evict(at(1), &root, &id(0)).unwrap();
    p.learn_all(at(1), &statements);
    assert_eq!(p.here(1), [1, 2, 10, 11], "its guests stay, and whom it evicted does not come back");
    assert_eq!(p.open(1_001), Err(Code::InviteRevoked));
    p.join(1_001, 12);
    let own = root_credential(&p.d, &issuer, &id(13), Role::Participant, at(1).wall, at(9).wall);
    p.learn(at(1), &own);
    assert_eq!(p.here(1), [1, 2, 10, 11], "and it makes no new members");
    // Whoever leaves for good as an issuer spares its guests in the same way.
    p.delegate(1, Rights::INVITE);
    p.invite(&key(1), 1_002, 0, false);
    p.join(1_002, 14);
    let farewell = p.m.farewell(at(1), &key(1));
    p.learn_all(at(1), &farewell);
    assert_eq!(p.here(1), [2, 10, 11, 14]);
    assert_eq!(p.m.gone(at(1), &id(1)), Gone::Left);
}

#[test]
fn an_invitation_that_asks_for_it_lets_in_whom_an_issuer_approves() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, true);
    let admits = |p: &Place, n: u16| p.m.admits(at(1), &key(1_000).public(), &id(n));
    assert_eq!(admits(&p, 1), Ok(false));
    p.join(1_000, 1);
    p.join(1_000, 2);
    assert!(p.here(1).is_empty(), "a credential of its own making is not enough");
    assert_eq!(p.m.decision(at(1), &key(2), &id(2), true).unwrap_err().code(), Code::Forbidden, "nor is its own approval");
    let forged = decide(&p.d, &key(2), &id(2), true);
    let _ = p.m.learn(at(1), None, &forged, &mut Vec::new());
    assert!(p.here(1).is_empty());
    let yes = p.m.decision(at(1), &root, &id(1), true).unwrap();
    p.learn(at(1), &yes);
    assert_eq!((p.here(1), admits(&p, 1)), (vec![1], Ok(true)));
    assert_eq!(p.m.chain(at(1), &id(1)).len(), 3, "the approval belongs to its chain");
    let no = p.m.decision(at(1), &root, &id(1), false).unwrap();
    p.learn(at(1), &no);
    assert_eq!((p.here(1), admits(&p, 1)), (vec![], Err(Code::InviteDenied)), "a no outweighs a yes");
}

#[test]
fn more_than_allowed_are_told_and_an_issuer_settles_it() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 1, false);
    p.join(1_000, 1);
    let mut effects = Vec::new();
    let late = p.guest(1_000, 2, 0);
    p.m.learn(at(0), None, &late, &mut effects).unwrap();
    assert!(effects.contains(&Effect::Surplus { invitation: key(1_000).public(), member: id(2) }));
    assert_eq!(p.here(1), [1]);
    assert_eq!(p.m.admits(at(1), &key(1_000).public(), &id(3)), Err(Code::InviteUsed));
    let info = &p.m.invitations(at(1))[0];
    assert_eq!((info.uses, info.max_uses, info.state), (2, 1, InvitationState::Used));
    // Another replica saw the other one first. A decision about both brings the two together.
    let mut q = Place::new();
    q.invite(&root, 1_000, 1, false);
    q.learn(at(0), &late);
    q.join(1_000, 1);
    assert_eq!(q.here(1), [2]);
    for statement in [decide(&p.d, &root, &id(2), true), decide(&p.d, &root, &id(1), false)] {
        p.learn(at(1), &statement);
        q.learn(at(1), &statement);
    }
    assert_eq!((p.here(1), q.here(1)), (vec![2], vec![2]));
}

#[test]
fn a_use_is_not_forgotten_while_the_invitation_holds() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 1, false);
    p.invite(&root, 1_001, 0, false);
    p.join(1_000, 1);
    p.join(1_001, 2);
    p.m.on_timeout(at(48), &mut Vec::new());
    assert_eq!(p.m.len(), 3, "of an invitation without limit the use is forgotten");
    let mut restored = Membership::restore(p.d, p.m.genesis_bytes(), &p.m.export(), at(48)).unwrap();
    assert_eq!(restored.admits(at(48), &key(1_000).public(), &id(5)), Err(Code::InviteUsed));
    restored.on_timeout(at(24 * 41), &mut Vec::new());
    assert!(restored.is_empty(), "a month after its end nothing of an invitation is left");
}

#[test]
fn the_way_in_is_remembered_while_somebody_is_here_by_another() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    p.join(1_000, 1);
    let by_issuer = root_credential(&p.d, &root, &id(1), Role::Participant, at(20).wall, at(60).wall);
    p.learn(at(20), &by_issuer);
    p.m.on_timeout(at(50), &mut Vec::new());
    let statements = p.m.evict(at(50), &root, &id(1)).unwrap();
    assert_eq!(statements.len(), 2, "its link is closed with it, long after its own credential by it ended");
}

#[test]
fn nobody_fills_anothers_place_or_shortens_its_stay() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    p.join(1_000, 1);
    // Another bearer of the link signs credentials for it: none of them can end its membership.
    let future = self_signed_credential(&p.d, &key(1_000), &id(1), at(3).wall, at(27).wall);
    assert_eq!(p.m.learn(at(1), None, &future, &mut Vec::new()), Err(Reject::Expired));
    for n in 0..60 {
        let other = self_signed_credential(&p.d, &key(1_000), &id(1), Wall(at(0).wall.0 + n), Wall(at(24).wall.0 + n));
        p.learn(at(0), &other);
    }
    for n in 0..60 {
        // Nor by signatures of keys that nobody knows.
        let stray = self_signed_credential(&p.d, &key(2_000 + n), &id(1), at(0).wall, at(24).wall);
        let _ = p.m.learn(at(0), None, &stray, &mut Vec::new());
    }
    let renewed = p.guest(1_000, 1, 12);
    p.learn(at(12), &renewed);
    assert_eq!(p.here(35), [1]);
}

#[test]
fn an_issuer_renews_whom_an_invitation_no_longer_can() {
    let mut p = Place::new();
    let root = p.root.clone();
    p.invite(&root, 1_000, 0, false);
    let last = p.guest(1_000, 1, 24 * 10 - 12);
    p.learn(at(24 * 10 - 12), &last);
    let (now, soon) = (at(24 * 10 - 2), at(24 * 10 + 6).wall);
    assert_eq!(p.m.ending(now, soon).len(), 1, "the invitation ends before that");
    let dates = |now: Now, hours: u64| Dates { not_before: now.wall, expires: Wall(now.wall.0 + hours * HOUR) };
    let end = p.m.would_hold(now, key(1_000).public(), &id(1), Role::Participant, dates(now, 24));
    assert_eq!(end, Some(at(24 * 10).wall));
    let renewed = root_credential(&p.d, &root, &id(1), Role::Participant, now.wall, at(24 * 11).wall);
    p.learn(now, &renewed);
    assert_eq!(p.here(24 * 11 - 1), [1], "past the end of its invitation");
    assert!(p.m.ending(now, soon).is_empty());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    /// Five replicas hear the same statements, each in an order of its own and some twice, with pruning in between: the same
    /// members, the same views, the same sets.
    #[test]
    fn attack_21_replicas_agree_whatever_the_order(orders in proptest::collection::vec(proptest::collection::vec(0usize..400, 0..90), 5), when in 0u64..30) {
        let p = Place::new();
        let (d, root) = (p.d, p.root.clone());
        let mut source = Place::new();
        source.invite(&root, 1_000, 0, false);
        source.invite(&root, 1_001, 0, true);
        let mut all: Vec<Vec<u8>> = source.statements();
        let days = |from: u64, to: u64| Dates { not_before: at(from).wall, expires: at(to).wall };
        all.push(delegate(&d, &root, key(0).public(), Rights::INVITE.and(Rights::EVICT), days(0, 600)));
        all.push(delegate(&d, &root, key(1).public(), Rights::EVICT, days(0, 600)));
        for n in 0..6 {
            // With renewals, of which the longest counts.
            all.extend([0, 6, 12].map(|from| source.guest(1_000, n, from)));
            all.push(source.guest(1_001, n + 10, 0));
        }
        all.push(root_credential(&d, &key(0), &id(20), Role::Participant, at(0).wall, at(40).wall));
        all.push(decide(&d, &key(0), &id(10), true));
        all.push(decide(&d, &root, &id(11), true));
        all.push(decide(&d, &key(0), &id(11), false));
        for s in &all { source.learn(at(12), s); }
        // Three act at once.
        all.extend(source.m.evict(at(12), &key(1), &id(4)).unwrap());
        all.extend(source.m.evict(at(12), &root, &id(5)).unwrap());
        all.extend(source.m.close_invitation(at(12), &key(0), &key(1_001).public()).unwrap());
        all.extend(source.m.farewell(at(12), &key(3)));
        all.extend(source.m.evict(at(12), &root, &id(0)).unwrap());
        let mut replicas = Vec::new();
        for order in orders {
            let mut r = Place::new();
            for i in &order {
                r.learn(at(12), &all[i % all.len()]);
                if i % 17 == 0 { r.m.on_timeout(at(12), &mut Vec::new()); }
            }
            let from = order.first().copied().unwrap_or(0);
            for i in 0..all.len() { r.learn(at(12), &all[(i + from) % all.len()]); }
            // What came before its reason is given once more, as neighbours that compare do.
            for s in &all { r.learn(at(12), s); }
            replicas.push(r);
        }
        for r in &mut replicas {
            r.m.on_timeout(Now { mono: Mono(u64::from(u32::MAX)), ..at(12 + when) }, &mut Vec::new());
        }
        let of = |r: &Place| (r.here(12 + when), r.m.view(), r.m.len());
        for r in &replicas[1..] { proptest::prop_assert_eq!(of(r), of(&replicas[0])); }
        if when == 0 { proptest::prop_assert_eq!(replicas[0].here(12), vec![1, 2, 10, 20]); }
    }
}

#[test]
fn keep_lists_of_both_kinds_are_read_in_order_only_and_mean_the_same() {
    let (d, by) = (DomainId::from_bytes([1; 32]), key(1));
    let ids: Vec<StatementId> = (1..=9).map(|n| StatementId([n; 32])).collect();
    let target = Target::Key([1; 32]);
    for keep in [Keep::Whole(ids.clone()), Keep::these(&ids)] {
        assert!(keep.has(&[3; 32]) && !keep.has(&[10; 32]));
        let body = Body::Revocation { target, keep };
        let signed = body.sign(&d, &by);
        assert_eq!(Statement::verify(&d, &signed).unwrap().body, body);
    }
    let mut odd = ids;
    odd.swap(0, 1);
    let short = odd.iter().map(|id| *id.0.first_chunk().unwrap()).collect();
    for keep in [Keep::Whole(odd), Keep::Short(short)] {
        let signed = Body::Revocation { target, keep }.sign(&d, &by);
        assert_eq!(Statement::verify(&d, &signed), Err(Reject::Malformed));
    }
}
