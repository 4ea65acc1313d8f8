//! Who makes the others take new keys, with the real peer: who is evicted, whose membership ends, and those that rest on them; who is
//! merely away does not.

use std::time::Duration;

use peerage::base::NodeId;
use peerage::crypto::tag;
use peerage::peer::InviteOptions;
use peerage::proto::membership::{self, Rights, Target};

use crate::members::{MINUTE, Place};
use crate::tapped::{KEYS, SEALED};

/// Key messages and sealed frames among these that are for a node.
fn addressed(p: &Place, from: NodeId, to: NodeId, frames: &[Vec<u8>]) -> [usize; 2] {
    let tag = tag::pair_tag(&p.domain, &from, &to);
    // A prekey record is a frame of keys too, and a short one.
    let is_key_message = |f: &&Vec<u8>| f[1] == KEYS && f.len() > 300;
    let theirs: Vec<&Vec<u8>> = frames.iter().filter(|f| f.len() > 10 && f[2..10] == tag).collect();
    [theirs.iter().filter(|f| is_key_message(f)).count(), theirs.iter().filter(|f| f[1] == SEALED).count()]
}

/// What a node sends while it says something.
fn frames_of_a_word(p: &mut Place, from: NodeId) -> Vec<Vec<u8>> {
    p.world.act(from, |peer, _| {
        peer.taped = true;
        peer.sent.clear();
    });
    p.say(from, "word");
    p.world.act(from, |peer, _| core::mem::take(&mut peer.sent))
}

#[test]
fn who_is_away_makes_no_new_keys_until_its_membership_ends_and_then_at_once() {
    let mut p = Place::new(701, 30 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (a, b, x) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.wait(8);
    for node in [p.owner, a, b, x] {
        p.say(node, "before");
    }
    p.wait(3);
    assert_eq!(p.heard(b), ["before"; 3]);
    let epochs = [p.owner, a, b].map(|n| p.epochs(n));
    let all = p.members(a);
    p.world.crash(x);
    let mut minutes = 0;
    while p.members(a) == all {
        assert_eq!([p.owner, a, b].map(|n| p.epochs(n)), epochs, "after {minutes} minutes");
        minutes += 1;
        assert!(minutes < 40, "its membership ends");
        p.world.run_until(MINUTE, |w| w.look(a, |n, now| n.stats(now, p.domain)).unwrap().members < all);
        if p.members(a) == all {
            p.say(a, "all the while");
        }
    }
    assert!(minutes > 10, "it was away for long: {minutes}");
    let frames = frames_of_a_word(&mut p, a);
    assert_eq!(p.epochs(a), epochs[1] + 1, "the next message, whatever the time");
    assert_eq!(addressed(&p, a, b, &frames), [1, 1]);
    assert_eq!(addressed(&p, a, x, &frames), [0, 0]);
    p.wait(3);
    assert_eq!(p.heard(b).last().map(String::as_str), Some("word"));
}

#[test]
fn those_who_rest_on_an_issuer_go_with_it_and_the_next_message_is_under_new_keys() {
    let mut p = Place::new(702, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (a, b, issuer) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.delegate(issuer, Rights::INVITE);
    let other = p.invite(issuer, InviteOptions::default());
    let guests = [p.join(&other, 0).unwrap(), p.join(&other, 0).unwrap()];
    p.wait(8);
    let frames = frames_of_a_word(&mut p, a);
    for node in [b, issuer, guests[0], guests[1]] {
        assert_eq!(addressed(&p, a, node, &frames)[1], 1, "all hear it");
    }
    p.wait(3);
    let (domain, epochs, all) = (p.domain, p.epochs(a), p.members(a));
    // Without a word about who stays: all that it signed goes.
    let revocation = membership::revoke(&domain, &p.root, Target::Key(*issuer.as_bytes()), &[]);
    p.world.act(a, |peer, _| peer.taped = true);
    p.world.act(p.owner, |o, now| o.insert_statement(now, domain, &revocation)).unwrap();
    assert!(p.world.run_until(Duration::from_secs(2), |w| w.look(a, |n, now| n.stats(now, domain)).unwrap().members == all - 3));
    // News of the directory may have been the first that was sent under the new ones.
    let before = p.world.act(a, |peer, _| core::mem::take(&mut peer.sent));
    let frames = frames_of_a_word(&mut p, a);
    assert_eq!(p.epochs(a), epochs + 1, "one new pair for all three, at once");
    let keys = |to| addressed(&p, a, to, &before)[0] + addressed(&p, a, to, &frames)[0];
    assert_eq!((keys(b), addressed(&p, a, b, &frames)[1]), (1, 1));
    for node in [issuer, guests[0], guests[1]] {
        assert_eq!((keys(node), addressed(&p, a, node, &frames)[1]), (0, 0));
    }
    frames_of_a_word(&mut p, a);
    assert_eq!(p.epochs(a), epochs + 1, "and no other for those who went with it");
}

#[test]
fn who_leaves_is_waited_for() {
    let mut p = Place::new(703, 60 * MINUTE);
    let link = p.invite(p.owner, InviteOptions::default());
    let (a, b, x) = (p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap(), p.join(&link, 0).unwrap());
    p.wait(8);
    p.say(a, "before");
    p.wait(1);
    let (domain, epochs, all) = (p.domain, p.epochs(a), p.members(a));
    p.world.act(x, |n, now| n.resign(now, domain)).unwrap();
    assert!(p.world.run_until(Duration::from_secs(2), |w| w.look(a, |n, now| n.stats(now, domain)).unwrap().members == all - 1));
    let start = p.world.now();
    while p.epochs(a) == epochs {
        p.say(a, "word");
        p.wait(1);
        assert!(p.world.now() - start <= 62_000, "at most a minute");
    }
    assert!(p.world.now() - start >= 29_000, "and half a minute at least: others may leave too");
    assert!(p.heard(b).len() > 25);
}
