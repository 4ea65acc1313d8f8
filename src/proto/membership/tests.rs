//! Validity, and the attacks of the design's list that concern membership, each named after its number.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::*;
use crate::base::{Code, DomainId, Mono, NodeId, Now, Reject, Rng, Wall};
use crate::crypto::{Role, sign::SigningKey};

const DAY: u64 = 86_400_000;

fn at(days: u64) -> Now {
    Now { mono: Mono(days * DAY), wall: Wall(1_800_000_000_000 + days * DAY) }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn id(n: u8) -> NodeId {
    key(n).node_id()
}

fn days(from: u64, to: u64) -> Dates {
    Dates { not_before: at(from).wall, expires: at(to).wall }
}

/// A domain, its root key, and an invitation by the root whose key is `key(200)`.
struct Fixture {
    m: Membership,
    root: SigningKey,
    d: DomainId,
    invitation: StatementId,
}

impl Fixture {
    fn new() -> Fixture {
        let f = found(&mut Rng::from_seed([1; 32]), at(0), "lab", &["domain/manager".into()], [5; 32]).unwrap();
        let mut fixture =
            Fixture { m: Membership::new(f.domain, &f.genesis).unwrap(), root: f.root, d: f.domain, invitation: StatementId([0; 32]) };
        let invitation = fixture.invite(0);
        fixture.invitation = fixture.learn(&invitation).unwrap();
        fixture
    }
    fn invite(&self, max_uses: u32) -> Vec<u8> {
        issue_invitation(&self.d, &self.root, &spec(max_uses))
    }
    fn learn(&mut self, bytes: &[u8]) -> Result<StatementId, Reject> {
        self.m.learn(at(0), None, bytes, &mut Vec::new())
    }
    fn guest(&self, n: u8) -> Vec<u8> {
        self_signed_credential(&self.d, &key(200), &id(n), at(0).wall, at(1).wall)
    }
    fn role(&self, n: u8, day: u64) -> Option<Role> {
        self.m.member(at(day), &id(n)).map(|m| m.role)
    }
    fn by_root(&self, n: u8, role: Role) -> Vec<u8> {
        root_credential(&self.d, &self.root, &id(n), role, at(0).wall, at(20).wall)
    }
}

fn spec(max_uses: u32) -> InvitationSpec {
    InvitationSpec { sign_pk: key(200).public(), kem_pk: [6; 32], max_uses, approve: false, not_before: at(0).wall, expires: at(10).wall }
}

#[test]
fn a_bearer_of_the_invitation_is_a_participant_until_it_ends() {
    let mut f = Fixture::new();
    f.learn(&f.guest(1)).unwrap();
    assert_eq!(f.role(1, 0), Some(Role::Participant));
    assert_eq!((f.role(1, 1), f.role(1, 2)), (Some(Role::Participant), None), "a credential is short");
    assert_eq!(f.m.chain(at(1), &id(1)).len(), 2);
    // Renewed by itself as long as the invitation holds, and no longer.
    for day in 1..20 {
        let renewed = self_signed_credential(&f.d, &key(200), &id(1), at(day).wall, at(day + 1).wall);
        f.m.learn(at(day), None, &renewed, &mut Vec::new()).unwrap();
        assert_eq!(f.role(1, day).is_some(), day <= 10, "day {day}");
        assert_eq!(f.m.len(), 2, "a renewal takes the place of what it renews");
    }
    // Nobody gives itself more than a day.
    let long = self_signed_credential(&f.d, &key(200), &id(2), at(0).wall, at(2).wall);
    f.learn(&long).unwrap();
    assert_eq!(f.role(2, 0), None);
}

#[test]
fn attack_01_nobody_else_adds_members() {
    let mut f = Fixture::new();
    f.learn(&f.by_root(9, Role::Manager)).unwrap();
    f.learn(&f.by_root(8, Role::Participant)).unwrap();
    for signer in [9, 8] {
        let forged = root_credential(&f.d, &key(signer), &id(3), Role::Participant, at(0).wall, at(9).wall);
        f.learn(&forged).unwrap();
        assert_eq!(f.role(3, 1), None, "a member's signature makes nobody a member");
        let manager = root_credential(&f.d, &key(signer), &id(3), Role::Manager, at(0).wall, at(9).wall);
        assert_eq!(f.learn(&manager), Err(Reject::Forbidden));
    }
    f.learn(&delegate(&f.d, &f.root, key(50).public(), Rights::INVITE, days(0, 9))).unwrap();
    f.learn(&root_credential(&f.d, &key(50), &id(4), Role::Participant, at(0).wall, at(9).wall)).unwrap();
    assert_eq!(f.role(4, 1), Some(Role::Participant));
    f.learn(&revoke(&f.d, &f.root, Target::Key(key(50).public()), &[])).unwrap();
    assert_eq!(f.role(4, 1), None, "a revoked issuer's members go with it");
}

#[test]
fn a_rank_is_the_roots_word_and_a_managers_alone() {
    let mut f = Fixture::new();
    f.learn(&manager_credential(&f.d, &f.root, &id(9), LAST_RANK, at(0).wall, at(20).wall)).unwrap();
    assert_eq!(f.m.member(at(1), &id(9)).map(|m| (m.role, m.rank)), Some((Role::Manager, 15)));
    // It does not raise itself, nor does it as somebody else.
    for signer in [9, 200] {
        let raised = manager_credential(&f.d, &key(signer), &id(9), 0, at(0).wall, at(30).wall);
        assert_eq!(f.learn(&raised), Err(Reject::Forbidden));
    }
    let raised = Body::Credential { member: id(1), role: Role::Participant, rank: 1, dates: days(0, 9) };
    assert_eq!(f.learn(&raised.sign(&f.d, &f.root)), Err(Reject::Malformed), "a participant has none");
    // What does not fit is the last rank, not the first.
    let beyond = manager_credential(&f.d, &f.root, &id(8), 16, at(0).wall, at(20).wall);
    f.learn(&beyond).unwrap();
    assert_eq!(f.m.member(at(1), &id(8)).map(|m| m.rank), Some(15));
}

#[test]
fn attack_03_no_statement_stands_for_another_type() {
    let f = Fixture::new();
    let dates = days(0, 9);
    let all = [
        delegate(&f.d, &f.root, key(50).public(), Rights::INVITE, dates),
        f.invite(0),
        f.by_root(1, Role::Participant),
        revoke(&f.d, &f.root, Target::Key(key(1).public()), &[]),
        Body::Revocation { target: Target::Key(key(1).public()), keep: Keep::Whole(vec![f.invitation]) }.sign(&f.d, &f.root),
        decide(&f.d, &f.root, &id(1), true),
        f.m.genesis_bytes().to_vec(),
    ];
    let mut kinds: Vec<u8> = all.iter().map(|s| s[0]).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6], "one of each");
    for (i, statement) in all.iter().enumerate() {
        for kind in 0..=7u8 {
            let mut dressed = statement.clone();
            if dressed[0] == kind {
                continue;
            }
            dressed[0] = kind;
            assert!(Statement::verify(&f.d, &dressed).is_err(), "statement {i} as type {kind}");
        }
        assert!(Statement::verify(&DomainId::from_bytes([3; 32]), statement).is_err(), "statement {i} in another domain");
    }
}

#[test]
fn attack_13_weak_identities_are_no_members() {
    let mut f = Fixture::new();
    let mut small = [0; 32];
    small[0] = 1;
    for weak in [[0; 32], small] {
        let credential = root_credential(&f.d, &f.root, &NodeId::from_public_key(weak), Role::Participant, at(0).wall, at(9).wall);
        assert_eq!(f.learn(&credential), Err(Reject::Forged));
    }
}

#[test]
fn attack_19_with_both_roles_the_manager_counts() {
    let mut f = Fixture::new();
    f.learn(&f.guest(1)).unwrap();
    f.learn(&f.by_root(1, Role::Manager)).unwrap();
    f.learn(&f.by_root(1, Role::Participant)).unwrap();
    assert_eq!(f.role(1, 1), Some(Role::Manager));
}

#[test]
fn attack_20_backdating_does_not_help_a_revoked_issuer() {
    let mut f = Fixture::new();
    f.learn(&delegate(&f.d, &f.root, key(50).public(), Rights::INVITE, days(0, 9))).unwrap();
    f.learn(&revoke(&f.d, &f.root, Target::Key(key(50).public()), &[])).unwrap();
    f.learn(&root_credential(&f.d, &key(50), &id(4), Role::Participant, Wall(at(0).wall.0 - DAY), at(9).wall)).unwrap();
    assert_eq!(f.role(4, 1), None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn attack_21_any_order_gives_the_same_members_and_removal_wins(order in proptest::collection::vec(0usize..9, 0..30)) {
        let f = Fixture::new();
        let d = f.d;
        let kept = statement_id(&d, &f.guest(2));
        let all = [
            f.guest(1), f.guest(2), f.by_root(3, Role::Participant), f.by_root(4, Role::Manager),
            delegate(&d, &f.root, key(50).public(), Rights::INVITE.and(Rights::EVICT), days(0, 15)),
            root_credential(&d, &key(50), &id(5), Role::Participant, at(0).wall, at(12).wall),
            revoke(&d, &key(50), Target::Key(key(1).public()), &[]),
            revoke(&d, &f.root, Target::Statement(f.invitation), &[kept]),
            revoke(&d, &key(3), Target::Key(key(3).public()), &[]),
        ];
        let mut expected = Fixture::new();
        for s in &all { expected.learn(s).unwrap(); }
        let names = |m: &Membership| m.members(at(1)).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        let mut right = vec![id(2), id(4), id(5)];
        right.sort();
        proptest::prop_assert_eq!(names(&expected.m), right);
        for replica in 0..5usize {
            let mut g = Fixture::new();
            // Some of them in any order and more than once, then the rest, from another end at each replica.
            for i in &order { g.learn(&all[*i]).unwrap(); }
            for i in 0..all.len() { g.learn(&all[(i * 2 + replica) % all.len()]).unwrap(); }
            proptest::prop_assert_eq!(names(&g.m), names(&expected.m));
            proptest::prop_assert_eq!(g.m.view(), expected.m.view());
        }
    }

    #[test]
    fn attack_33_decoders_take_anything(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let f = Fixture::new();
        let _ = Statement::verify(&f.d, &bytes);
        let _ = Membership::new(f.d, &bytes);
        if let Ok(msg) = Msg::decode(&bytes) { proptest::prop_assert_eq!(Msg::decode(&msg.encode()).unwrap(), msg); }
        let _ = Membership::restore(f.d, f.m.genesis_bytes(), &bytes, at(0));
    }
}

#[test]
fn attack_26_another_genesis_is_refused() {
    let f = Fixture::new();
    let other = found(&mut Rng::from_seed([2; 32]), at(0), "lab", &[], [5; 32]).unwrap();
    assert_eq!(Membership::new(f.d, &other.genesis).err(), Some(Reject::Misdirected));
}

#[test]
fn attack_32_an_evicted_member_does_not_come_back_through_its_link() {
    let mut f = Fixture::new();
    f.learn(&f.guest(1)).unwrap();
    let other = f.learn(&f.guest(2)).unwrap();
    f.learn(&revoke(&f.d, &f.root, Target::Key(key(1).public()), &[])).unwrap();
    f.learn(&revoke(&f.d, &f.root, Target::Statement(f.invitation), &[other])).unwrap();
    f.learn(&f.guest(77)).unwrap();
    assert_eq!((f.role(1, 1), f.role(77, 1)), (None, None));
    assert_eq!(f.role(2, 1), Some(Role::Participant), "who is kept stays");
    assert_eq!(f.m.invitation_status(at(1), &key(200).public()), Err(Code::InviteRevoked));
}

#[test]
fn invitations_say_why_they_let_nobody_in() {
    let mut f = Fixture::new();
    assert_eq!(f.m.invitation_status(at(1), &key(200).public()), Ok(()));
    assert_eq!(f.m.invitation_status(at(11), &key(200).public()), Err(Code::InviteExpired));
    assert_eq!(f.m.invitation_status(at(1), &key(201).public()), Err(Code::InviteUnknown));
    f.learn(&revoke(&f.d, &f.root, Target::Key(key(200).public()), &[])).unwrap();
    assert_eq!(f.m.invitation_status(at(1), &key(200).public()), Err(Code::InviteRevoked));
}

#[test]
fn only_as_many_as_allowed_and_the_first_to_come() {
    let f = found(&mut Rng::from_seed([1; 32]), at(0), "lab", &[], [5; 32]).unwrap();
    let mut m = Membership::new(f.domain, &f.genesis).unwrap();
    let mut learn = |bytes: &[u8]| m.learn(at(0), None, bytes, &mut Vec::new()).unwrap();
    learn(&issue_invitation(&f.domain, &f.root, &spec(2)));
    let guests = [1, 2, 3].map(|n| self_signed_credential(&f.domain, &key(200), &id(n), at(0).wall, at(1).wall));
    let ids = guests.each_ref().map(|g| learn(g));
    assert_eq!(ids.map(|i| m.holds(at(1), &i)), [true, true, false]);
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let mut f = Fixture::new();
    f.learn(&root_credential(&f.d, &f.root, &id(1), Role::Participant, at(1).wall, at(2).wall)).unwrap();
    let shifted = |days: u64, minutes: i64| Now { wall: Wall(at(days).wall.0.saturating_add_signed(minutes * 60_000)), ..at(days) };
    assert!(f.m.member(shifted(1, -4), &id(1)).is_some());
    assert!(f.m.member(shifted(1, -6), &id(1)).is_none());
    assert!(f.m.member(shifted(2, 4), &id(1)).is_some());
    assert!(f.m.member(shifted(2, 6), &id(1)).is_none());
}

#[test]
fn two_sets_come_together_and_survive_storing() {
    let (mut a, mut b) = (Fixture::new(), Fixture::new());
    for n in 1..40 {
        a.learn(&a.guest(n)).unwrap();
        b.learn(&b.guest(n + 20)).unwrap();
    }
    let (one, two) = (id(101), id(102));
    let mut to_b = Vec::new();
    a.m.sync_with(at(0), two, &mut to_b);
    let mut to_a = Vec::new();
    b.m.sync_with(at(0), one, &mut to_a);
    for _ in 0..6 {
        let pass = |from: NodeId, effects: &mut Vec<Effect>, m: &mut Membership| {
            let mut out = Vec::new();
            for effect in effects.drain(..) {
                if let Effect::Send { msg, .. } = effect {
                    let msg = Msg::decode(&msg.encode()).unwrap();
                    let _ = m.handle(at(0), from, msg, &mut out);
                }
            }
            out
        };
        let answers = pass(one, &mut to_b, &mut b.m);
        let more = pass(two, &mut to_a, &mut a.m);
        to_a.extend(answers);
        to_b.extend(more);
    }
    assert_eq!(a.m.members(at(1)), b.m.members(at(1)));
    assert_eq!(a.m.members(at(1)).len(), 59);
    let restored = Membership::restore(a.d, a.m.genesis_bytes(), &a.m.export(), at(1)).unwrap();
    assert_eq!(restored.members(at(1)), a.m.members(at(1)));
    let mut later = restored;
    later.on_timeout(Now { mono: Mono(1).after(Duration::from_secs(60)), ..at(40) }, &mut Vec::new());
    assert_eq!(later.len(), 1, "credentials long over are forgotten, invitations are not");
}

#[test]
fn large_sets_are_compared_once_they_have_differed_for_a_while() {
    let (mut a, mut b) = (Fixture::new(), Fixture::new());
    for n in 1..100 {
        let credential = a.guest(n);
        a.learn(&credential).unwrap();
        b.learn(&credential).unwrap();
    }
    let (one, two) = (id(101), id(102));
    let later = |ms: u64| Now { mono: Mono(1).after(Duration::from_millis(ms)), ..at(1) };
    // Gives what a asks, and says how many bytes went either way.
    let ask = |a: &mut Membership, b: &mut Membership, ms: u64| {
        let (mut sent, mut size) = (Vec::new(), 0);
        a.sync_with(later(ms), two, &mut sent);
        b.sync_with(later(ms), one, &mut Vec::new());
        b.on_timeout(later(ms), &mut Vec::new());
        // By turns, a's messages first.
        for by_a in [true, false].into_iter().cycle() {
            let (from, to) = if by_a { (one, &mut *b) } else { (two, &mut *a) };
            for effect in core::mem::take(&mut sent) {
                if let Effect::Send { msg, .. } = effect {
                    size += msg.encode().len();
                    to.handle(later(ms), from, msg, &mut sent).unwrap();
                }
            }
            if sent.is_empty() {
                break;
            }
        }
        size
    };
    let newcomer = a.guest(100);
    a.learn(&newcomer).unwrap();
    assert!(ask(&mut a.m, &mut b.m, 1_000) > 100 * 8, "a new neighbour's set is compared at once");
    assert_eq!(a.m.members(at(1)), b.m.members(at(1)));
    assert!(ask(&mut a.m, &mut b.m, 3_000) < 100, "equal");

    let newcomer = a.guest(101);
    a.learn(&newcomer).unwrap();
    assert!(ask(&mut a.m, &mut b.m, 5_000) < 100, "it is on its way");
    b.learn(&newcomer).unwrap();
    assert!(ask(&mut a.m, &mut b.m, 6_500) < 100, "it came");

    let newcomer = a.guest(102);
    a.learn(&newcomer).unwrap();
    assert!(ask(&mut a.m, &mut b.m, 9_000) < 100, "it is on its way");
    let mut due = Vec::new();
    b.m.on_timeout(later(10_000), &mut due);
    let digest = Msg::Digest { digest: b.m.digest(), count: b.m.len() as u64 };
    assert!(due.contains(&Effect::Send { to: one, msg: digest }), "it asks by itself: {due:?}");
    assert!(ask(&mut a.m, &mut b.m, 10_001) > 100 * 8, "it is not");
    assert_eq!(a.m.members(at(1)), b.m.members(at(1)));
}
