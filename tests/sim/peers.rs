//! The real composite machine: found, invite, join through a relay, talk, leave; with a manager, loss and partitions.

use std::time::Duration;

use peerage::base::{Code, DomainId};
use peerage::peer::{InviteOptions, To};
use peerage::proto::channel::Mode;
use peerage::sim::{Conditions, Town};
use peerage::wire::link::InviteLink;

fn scenario(n: usize, conditions: Conditions, seed: u64) -> [u8; 32] {
    let mut town = Town::new(seed, conditions);
    let link = town.link.clone();
    for i in 1..n {
        let skew = (i as i64 * 37 % 9 - 4) * 30_000;
        town.join(&link, skew).unwrap_or_else(|code| panic!("participant {i} of {n}: {code}"));
    }
    talk_and_leave(town)
}

fn talk_and_leave(mut town: Town) -> [u8; 32] {
    assert!(
        town.agree(Duration::from_secs(60)),
        "they agree on who is here: {:?}",
        town.participants.iter().map(|p| town.sees(*p)).collect::<Vec<_>>()
    );
    town.all_talk(1, Duration::from_secs(60));
    let stats = town.world.look(town.manager, |p, now| p.stats(now, town.domain)).unwrap();
    assert!(stats.opened > 0, "the manager reads the control class");
    let leaver = town.participants.pop().unwrap();
    let domain = town.domain;
    town.world.act(leaver, |p, now| p.leave(now, domain)).unwrap();
    assert!(town.agree(Duration::from_secs(20)), "the others see it leave");
    town.all_talk(2, Duration::from_secs(60));
    town.world.trace()
}

#[test]
fn three_join_talk_and_leave() {
    scenario(3, Conditions::default(), 1);
}

#[test]
fn ten_join_talk_and_leave_with_loss_and_reordering() {
    for loss in [0, 5, 20] {
        scenario(10, Conditions { loss: (loss, 0), reorder: 10, ..Conditions::default() }, u64::from(loss));
    }
}

#[test]
fn thirty_join_talk_and_leave() {
    scenario(30, Conditions::default(), 30);
}

#[test]
fn thirty_join_at_once_talk_and_leave() {
    let mut town = Town::new(31, Conditions::default());
    town.crowd(29).unwrap_or_else(|code| panic!("one of the crowd: {code}"));
    talk_and_leave(town);
}

#[test]
fn without_direct_paths_the_relay_carries_everything() {
    scenario(4, Conditions { direct: false, ..Conditions::default() }, 4);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| scenario(5, Conditions { loss: (5, 0), reorder: 5, ..Conditions::default() }, seed);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn wrong_invitations_are_refused_with_their_code() {
    let mut town = Town::new(3, Conditions::default());
    let domain = town.domain;
    let (owner, link) = (town.manager, town.link.clone());
    // Nobody issued this secret.
    let unknown = InviteLink { secret: zeroize::Zeroizing::new([7; 32]), ..link.clone() };
    assert_eq!(town.join(&unknown, 0), Err(Code::InviteUnknown));
    // Another domain's id: no member is found under its places.
    let foreign = InviteLink { domain: DomainId::from_bytes([9; 32]), ..link.clone() };
    assert_eq!(town.join(&foreign, 0), Err(Code::NoMember));
    // Expired a while ago, beyond the skew that is allowed.
    let short = InviteOptions { lifetime: Duration::from_secs(1), ..InviteOptions::default() };
    let short = town.world.act(owner, |p, now| p.invite(now, domain, short)).unwrap();
    town.world.run(Duration::from_secs(400));
    assert_eq!(town.join(&short, 0), Err(Code::InviteExpired));
    // Used as often as it allows.
    let once = InviteOptions { max_uses: 1, ..InviteOptions::default() };
    let once = town.world.act(owner, |p, now| p.invite(now, domain, once)).unwrap();
    town.world.run(Duration::from_secs(2));
    town.join(&once, 0).unwrap();
    town.world.run(Duration::from_secs(2));
    assert_eq!(town.join(&once, 0), Err(Code::InviteUsed));
    // A good one still works after all that.
    town.join(&link, 0).unwrap();
}

#[test]
fn a_partition_heals_and_nothing_acknowledged_is_lost() {
    let mut town = Town::new(11, Conditions::default());
    let link = town.link.clone();
    for _ in 0..5 {
        town.join(&link, 0).unwrap();
    }
    assert!(town.agree(Duration::from_secs(30)));
    town.all_talk(1, Duration::from_secs(30));
    let groups = town.participants.iter().enumerate().map(|(i, n)| (*n, (i % 2) as u32)).collect();
    town.world.net().partition(groups);
    town.world.run(Duration::from_secs(45));
    town.world.net().heal();
    assert!(town.agree(Duration::from_secs(120)), "all see all again");
    town.all_talk(2, Duration::from_secs(60));
}

#[test]
fn the_manager_neither_sends_nor_gets_messages() {
    let mut town = Town::new(5, Conditions::default());
    let link = town.link.clone();
    let guest = town.join(&link, 0).unwrap();
    assert!(town.agree(Duration::from_secs(20)));
    let (domain, manager) = (town.domain, town.manager);
    assert_eq!(town.world.act(manager, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap_err().code(), Code::Forbidden);
    let chat = town.world.act(guest, |p, now| p.channel(now, domain, "chat", Mode::Reliable)).unwrap();
    let to = To::Some(vec![manager]);
    assert_eq!(town.world.act(guest, |p, now| p.send(now, domain, chat, to, b"psst".to_vec(), None)).unwrap_err().code(), Code::Forbidden);
}

#[test]
fn the_shared_state_reaches_all_outlives_a_partition_and_greets_late_joiners() {
    let mut town = Town::new(41, Conditions { loss: (5, 0), ..Conditions::default() });
    let link = town.link.clone();
    // With clocks that agree: which of two concurrent writes is the later one is the clocks' word.
    for _ in 0..5 {
        town.join(&link, 0).unwrap();
    }
    assert!(town.agree(Duration::from_secs(60)));
    let domain = town.domain;
    let write = |town: &mut Town, i: usize, key: &str, value: Option<&str>| {
        let (node, value) = (town.participants[i], value.map(|v| v.as_bytes().to_vec()));
        town.world.act(node, |p, now| p.write_state(now, domain, key, value)).unwrap();
    };
    let value = |town: &Town, node, key: &str| town.world.look(node, |p, _| p.state_entry(domain, key)).unwrap().and_then(|e| e.value);
    let same = |town: &mut Town, within: u64| {
        let nodes = town.participants.clone();
        town.world.run_until(Duration::from_secs(within), |w| {
            let first = w.look(nodes[0], |p, _| p.state_digest(domain)).unwrap();
            nodes.iter().all(|n| w.look(*n, |p, _| p.state_digest(domain)).ok() == Some(first))
        })
    };
    for i in 0..6 {
        write(&mut town, i, &format!("anchor {i}"), Some("here"));
    }
    assert!(same(&mut town, 30));
    assert_eq!(value(&town, town.participants[5], "anchor 0").as_deref(), Some(&b"here"[..]));

    let away: std::collections::BTreeMap<_, _> = town.participants[3..].iter().map(|n| (*n, 1)).collect();
    town.world.net().partition(away);
    town.world.run(Duration::from_secs(30));
    write(&mut town, 0, "anchor 1", Some("moved"));
    town.world.run(Duration::from_secs(10));
    write(&mut town, 4, "anchor 1", Some("moved later"));
    write(&mut town, 3, "anchor 2", None);
    town.world.run(Duration::from_secs(5));
    assert_eq!(value(&town, town.participants[1], "anchor 1").as_deref(), Some(&b"moved"[..]));
    town.world.net().heal();
    assert!(same(&mut town, 60));

    let late = town.join(&link, 0).unwrap();
    assert!(same(&mut town, 30));
    assert_eq!(value(&town, late, "anchor 1").as_deref(), Some(&b"moved later"[..]), "the later write");
    assert_eq!(value(&town, late, "anchor 2"), None);

    // The manager's copy stays empty, and it may not write.
    let refused = town.world.act(town.manager, |p, now| p.write_state(now, domain, "k", None)).unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    assert_eq!(town.world.look(town.manager, |p, _| p.state_entries(domain, "")).unwrap(), []);
}
