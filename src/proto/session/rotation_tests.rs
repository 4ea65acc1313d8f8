//! When a sender's keys are made anew, and when they are not: by volume, by time, by who goes, and only with a message.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::testing::{A, B, C, DOMAIN, P, at, id, key};
use super::*;
use crate::base::{NodeId, Now, Reject, Rng};
use crate::crypto::{Class, chain::Kid, frame};

const HOUR: u64 = 3_600;

fn process(n: u8) -> Session {
    Session::new(DOMAIN, key(n), P, Rng::from_seed([n; 32]), at(0))
}

/// A, which knows these others and whose keys they were given.
fn given_to(others: &[u8]) -> Session {
    let mut a = process(A);
    for n in others {
        a.set_role(at(0), id(*n), Some(P));
        a.learn_prekey(at(0), process(*n).prekey_record()).unwrap();
    }
    assert_eq!(a.take_key_messages(at(0)).len(), others.len());
    a
}

/// Seals a message; the chain it is under.
fn say(a: &mut Session, now: Now, class: Class, length: usize) -> Kid {
    frame::parse(&a.seal(now, class, 2, &vec![0; length]).unwrap()).unwrap().kid
}

/// Whom the keys go to that are due.
fn told(a: &mut Session, now: Now) -> Vec<NodeId> {
    let mut to: Vec<NodeId> = a.take_key_messages(now).into_iter().map(|(node, _)| node).collect();
    to.sort();
    to
}

fn sorted(nodes: &[u8]) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = nodes.iter().map(|n| id(*n)).collect();
    ids.sort();
    ids
}

#[test]
fn after_a_gibibyte_of_a_class_its_next_message_is_under_new_keys() {
    for class in Class::BOTH {
        let mut a = given_to(&[B]);
        let first = say(&mut a, at(1), class, 1_000);
        a.carried(class, BYTES - 2_000);
        // What was said before and after counts by its length.
        assert_eq!(say(&mut a, at(1), class, 999), first);
        assert_eq!(say(&mut a, at(1), class, 1), first, "one byte less than a gibibyte went before");
        assert_eq!((a.epochs(), told(&mut a, at(1)).len()), (1, 0));
        assert_ne!(say(&mut a, at(1), class, 1), first);
        assert_eq!((a.epochs(), told(&mut a, at(1))), (2, sorted(&[B])));
        say(&mut a, at(1), class, 1_000);
        assert_eq!(a.epochs(), 2, "and the new ones count from zero");
    }
}

#[test]
fn keys_of_data_last_an_hour_and_those_of_control_alone_six() {
    for (class, life) in [(Class::Data, HOUR), (Class::Control, 6 * HOUR)] {
        let mut a = given_to(&[B]);
        let first = say(&mut a, at(0), class, 1);
        assert_eq!(say(&mut a, at(life - 1), class, 1), first);
        assert_ne!(say(&mut a, at(life), class, 1), first);
        assert_eq!(a.epochs(), 2);
    }
    // The pair is one: where data was sent, the control class has new keys after an hour as well.
    let mut a = given_to(&[B]);
    say(&mut a, at(10), Class::Data, 1);
    let first = say(&mut a, at(HOUR - 1), Class::Control, 1);
    assert_ne!(say(&mut a, at(HOUR), Class::Control, 1), first);
}

#[test]
fn no_data_is_sent_under_keys_older_than_an_hour_be_it_the_first() {
    let mut a = given_to(&[B]);
    say(&mut a, at(1), Class::Control, 1);
    say(&mut a, at(HOUR), Class::Control, 1);
    assert_eq!(a.epochs(), 1);
    say(&mut a, at(HOUR), Class::Data, 1);
    assert_eq!(a.epochs(), 2);
}

#[test]
fn without_a_message_there_are_no_new_keys() {
    let mut a = given_to(&[B, C]);
    let first = say(&mut a, at(1), Class::Data, 1);
    told(&mut a, at(1));
    // An eviction, then hours, then another departure: nothing comes of them by themselves.
    a.set_role(at(2), id(C), None);
    for seconds in [2, 60, HOUR, 2 * HOUR - 1] {
        a.on_timeout(at(seconds));
        assert_eq!((a.epochs(), told(&mut a, at(seconds)).len()), (1, 0), "at {seconds} s");
    }
    // Nor is who comes meanwhile given keys that somebody evicted has.
    let late = Session::new(DOMAIN, key(4), P, Rng::from_seed([4; 32]), at(2 * HOUR - 1));
    a.set_role(at(2 * HOUR - 1), id(4), Some(P));
    a.learn_prekey(at(2 * HOUR - 1), late.prekey_record()).unwrap();
    assert_eq!((a.epochs(), told(&mut a, at(2 * HOUR - 1)).len()), (1, 0));
    assert_ne!(say(&mut a, at(2 * HOUR - 1), Class::Data, 1), first);
    assert_eq!((a.epochs(), told(&mut a, at(2 * HOUR - 1))), (2, sorted(&[B, 4])), "one new pair, with the message, for all three reasons");
}

#[test]
fn who_is_evicted_ends_the_keys_it_holds_at_once_and_no_others() {
    let mut a = given_to(&[B, C]);
    let first = say(&mut a, at(1), Class::Data, 1);
    // A member that was never given these keys, as it was never here, takes none with it.
    a.set_role(at(1), id(9), Some(P));
    a.set_role(at(2), id(9), None);
    assert_eq!(say(&mut a, at(2), Class::Data, 1), first);
    a.set_role(at(3), id(C), None);
    assert_ne!(say(&mut a, at(3), Class::Control, 1), first);
    assert_eq!((a.epochs(), told(&mut a, at(3))), (2, sorted(&[B])));
    say(&mut a, at(4), Class::Data, 1);
    assert_eq!(a.epochs(), 2, "once");
}

#[test]
fn those_who_leave_within_a_while_make_one_new_pair_thirty_to_sixty_seconds_after_the_first() {
    let others: Vec<u8> = (2..=9).collect();
    let mut waits = Vec::new();
    for seed in 1..=20 {
        let mut a = given_to(&others);
        // Another stretch of its randomness.
        (0..seed).for_each(|_| drop(a.seal(at(0), Class::Control, 2, b"")));
        let start = a.epochs();
        let mut new = None;
        for second in 0..120 {
            if second < 4 {
                a.depart(at(second), id(second as u8 + 2));
            }
            say(&mut a, at(second), Class::Data, 1);
            if a.epochs() > start && new.is_none() {
                assert_eq!(told(&mut a, at(second)), sorted(&[6, 7, 8, 9]));
                new = Some(second);
            }
        }
        assert_eq!(a.epochs(), start + 1);
        waits.extend(new);
    }
    assert!(waits.iter().all(|s| (30..=60).contains(s)), "{waits:?}");
    assert!(waits.iter().max() > waits.iter().min(), "not all at once: {waits:?}");
    // An eviction meanwhile does not wait with them, and serves for them.
    let mut a = given_to(&others);
    a.depart(at(0), id(B));
    say(&mut a, at(1), Class::Data, 1);
    a.set_role(at(2), id(C), None);
    say(&mut a, at(2), Class::Data, 1);
    assert_eq!(a.epochs(), 2);
    say(&mut a, at(90), Class::Data, 1);
    assert_eq!(a.epochs(), 2);
    // And who leaves meanwhile does not make one wait that was evicted.
    a.set_role(at(91), id(4), None);
    a.depart(at(91), id(5));
    say(&mut a, at(91), Class::Data, 1);
    assert_eq!(a.epochs(), 3);
}

#[test]
fn who_is_merely_offline_makes_no_new_keys_and_falls_out_of_those_that_time_makes() {
    let mut a = given_to(&[B, C]);
    let mut b = process(B);
    let first = say(&mut a, at(1), Class::Data, 1);
    // B goes on and renews its prekey; C is not heard of again, and stays a member.
    for minute in 1..60 {
        a.on_timeout(at(minute * 60));
        assert_eq!(say(&mut a, at(minute * 60), Class::Data, 1), first);
    }
    assert_eq!((a.epochs(), told(&mut a, at(59 * 60)).len()), (1, 0));
    let mut expected = vec![(HOUR, sorted(&[B, C])), (2 * HOUR, sorted(&[B])), (3 * HOUR, sorted(&[B]))].into_iter();
    for hour in 1..=3 {
        assert!(b.on_timeout(at(hour * HOUR)));
        a.learn_prekey(at(hour * HOUR), b.prekey_record()).unwrap();
        say(&mut a, at(hour * HOUR), Class::Data, 1);
        let (when, to) = expected.next().unwrap();
        let mut got = told(&mut a, at(hour * HOUR));
        got.dedup();
        assert_eq!((hour * HOUR, got), (when, to), "C's last prekey holds for two hours");
    }
    // Back, it is given the present ones, and nothing begins anew for it.
    let epochs = a.epochs();
    let mut back = Session::new(DOMAIN, key(C), P, Rng::from_seed([33; 32]), at(3 * HOUR + 60));
    a.learn_prekey(at(3 * HOUR + 60), back.prekey_record()).unwrap();
    let messages = a.take_key_messages(at(3 * HOUR + 60));
    assert_eq!((a.epochs(), messages.len()), (epochs, 1));
    back.set_role(at(3 * HOUR + 60), id(A), Some(P));
    back.accept_key_message(at(3 * HOUR + 60), id(A), &messages[0].1).unwrap();
    let sealed = a.seal(at(3 * HOUR + 61), Class::Data, 2, b"welcome back").unwrap();
    assert_eq!(back.open(at(3 * HOUR + 61), 2, &sealed).unwrap().plaintext, b"welcome back");
}

#[test]
fn who_joins_makes_no_new_keys() {
    let mut a = given_to(&[B]);
    let first = say(&mut a, at(1), Class::Data, 1);
    a.set_role(at(2), id(C), Some(P));
    a.learn_prekey(at(2), process(C).prekey_record()).unwrap();
    assert_eq!(told(&mut a, at(2)), sorted(&[C]));
    assert_eq!((say(&mut a, at(2), Class::Data, 1), a.epochs()), (first, 1));
}

#[test]
fn a_chain_ends_at_its_receiver_a_minute_after_the_longest_an_honest_sender_uses_it() {
    let (mut a, mut b) = (given_to(&[B]), process(B));
    a.resend_keys(at(0), id(B)).unwrap();
    b.set_role(at(0), id(A), Some(P));
    b.accept_key_message(at(0), id(A), &a.take_key_messages(at(0)).remove(0).1).unwrap();
    let frames: Vec<Vec<u8>> = (0..2).map(|_| a.seal(at(1), Class::Control, 2, b"old").unwrap()).collect();
    let end = Duration::from_secs(6 * HOUR) + KEEP;
    let (before, after) = (at(end.as_secs() - 1), at(end.as_secs()));
    assert!(b.open(before, 2, &frames[0]).is_ok());
    assert_eq!(b.open(after, 2, &frames[1]).unwrap_err(), Reject::Stale);
}
