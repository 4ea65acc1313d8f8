use alloc::{
    collections::{BTreeMap, BTreeSet},
    format, vec,
    vec::Vec,
};

use super::*;
use crate::base::{DomainId, Reject, Rng, Wall};
use crate::crypto::object::StorageKey;
use crate::crypto::seal::KemKey;
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([3; 32]);
const NOW: Wall = Wall(5);
/// The owner, who holds the root key.
const ROOT: u8 = 100;

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn id(n: u8) -> [u8; 32] {
    key(n).public()
}

fn kem(n: u8) -> KemKey {
    KemKey::derive(&[n; 32])
}

/// A domain: who is in, who may give storage keys, and the lockboxes that the manager keeps, the newest first.
struct World {
    entitled: BTreeSet<[u8; 32]>,
    issuers: BTreeSet<[u8; 32]>,
    lockboxes: Vec<Vec<u8>>,
    rng: Rng,
}

impl World {
    fn new(members: &[u8]) -> World {
        let mut world = World {
            entitled: members.iter().chain(&[ROOT]).map(|n| id(*n)).collect(),
            issuers: BTreeSet::from([id(ROOT)]),
            lockboxes: Vec::new(),
            rng: Rng::from_seed([1; 32]),
        };
        let mut owner = Keyring::new(DOMAIN);
        assert_eq!(world.rotate(&mut owner, ROOT, members), Ok(()));
        world
    }

    fn with<T>(&self, work: impl FnOnce(&Policy<'_>) -> T) -> T {
        let (may, entitled) = (|k: &[u8; 32]| self.issuers.contains(k), |k: &[u8; 32]| self.entitled.contains(k));
        work(&Policy { root: id(ROOT), may: &may, entitled: &entitled })
    }

    fn rotate(&mut self, ring: &mut Keyring, by: u8, members: &[u8]) -> Result<(), Reject> {
        let recipients: BTreeMap<_, _> = members.iter().chain(&[ROOT]).map(|n| (id(*n), *kem(*n).public())).collect();
        let mut rng = self.rng.fork("rotate");
        let made = self.with(|policy| ring.rotate(NOW, &recipients, &key(by), policy, &mut rng))?;
        self.take(ring, by, &made)?;
        self.lockboxes.insert(0, made);
        Ok(())
    }

    fn take(&self, ring: &mut Keyring, n: u8, lockbox: &[u8]) -> Result<Taken, Reject> {
        self.with(|policy| ring.take(lockbox, &[(id(n), &kem(n))], policy))
    }

    /// The keys of somebody who asks the manager now.
    fn ring(&self, n: u8) -> Keyring {
        let mut ring = Keyring::new(DOMAIN);
        for lockbox in &self.lockboxes {
            self.take(&mut ring, n, lockbox).unwrap();
        }
        ring
    }

    fn writable(&self, ring: &Keyring) -> Option<Generation> {
        self.with(|policy| ring.writable(policy).map(|(generation, _)| generation))
    }

    fn evict(&mut self, n: u8) {
        self.entitled.remove(&id(n));
        self.issuers.remove(&id(n));
    }
}

fn numbers(ring: &Keyring) -> Vec<u32> {
    (0..9).filter(|n| ring.keys(*n).next().is_some()).collect()
}

#[test]
fn a_newcomer_reads_everything_and_somebody_evicted_nothing_new() {
    let mut world = World::new(&[1, 2, 3]);
    let before = world.ring(2);
    assert_eq!(world.writable(&before).unwrap().number, 1);
    world.evict(2);
    let mut owner = world.ring(ROOT);
    assert_eq!(world.writable(&owner), None, "nobody writes for one who is out");
    world.rotate(&mut owner, ROOT, &[1, 3]).unwrap();
    world.entitled.insert(id(4));
    let recipients = BTreeMap::from([(id(4), *kem(4).public())]);
    let more = world.with(|policy| owner.extend(NOW, &recipients, &key(ROOT), policy, &mut Rng::from_seed([7; 32]))).unwrap();
    world.lockboxes.insert(0, more);

    let (one, four, mut evicted) = (world.ring(1), world.ring(4), world.ring(2));
    assert_eq!((numbers(&one), numbers(&four), numbers(&evicted)), (vec![1, 2], vec![1, 2], vec![1]));
    assert_eq!(world.writable(&one), world.writable(&four));
    assert_eq!(world.writable(&one).unwrap().number, 2);
    assert_eq!(world.writable(&evicted), None);
    // With all that it kept and all lockboxes it has no key but the old one.
    evicted.import(&before.export()).unwrap();
    assert_eq!(numbers(&evicted), [1]);
    assert_eq!(world.take(&mut evicted, 2, &world.lockboxes[1]), Ok(Taken::Known));
}

#[test]
fn attack_32_the_old_link_of_somebody_evicted_opens_no_new_lockbox() {
    // 9 is an invitation that 2 came through; it is closed with 2.
    let mut world = World::new(&[1, 2, 9]);
    world.evict(2);
    world.evict(9);
    let mut owner = world.ring(ROOT);
    world.rotate(&mut owner, ROOT, &[1]).unwrap();
    assert_eq!(numbers(&world.ring(9)), [1]);
    assert_eq!(numbers(&world.ring(1)), [1, 2]);
}

#[test]
fn two_that_rotate_at_once_are_both_read_and_merged_by_the_next() {
    let mut world = World::new(&[1, 2, 3, 4]);
    world.issuers.extend([id(1), id(2)]);
    world.evict(4);
    let (mut one, mut two) = (world.ring(1), world.ring(2));
    world.rotate(&mut one, 1, &[1, 2, 3]).unwrap();
    world.rotate(&mut two, 2, &[1, 2, 3]).unwrap();
    let three = world.ring(3);
    assert_eq!((three.keys(2).count(), three.heads().count()), (2, 2));
    let both: Vec<_> = [1, 2, 3].map(|n| world.writable(&world.ring(n))).to_vec();
    assert!(both[0].is_some() && both.iter().all(|g| *g == both[0]), "all write under the same of the two: {both:?}");
    // One that is offline writes under its own until it hears of the other; all can read it.
    let mut one = world.ring(1);
    world.evict(3);
    world.rotate(&mut one, 1, &[1, 2]).unwrap();
    let newcomer = world.ring(2);
    assert_eq!((newcomer.heads().count(), newcomer.keys(2).count(), world.writable(&newcomer).unwrap().number), (1, 2, 3));
}

#[test]
fn attack_27_the_keeper_of_lockboxes_cannot_bring_in_keys_of_its_own() {
    let mut world = World::new(&[1, 2]);
    let (mut ring, rng) = (world.ring(1), &mut Rng::from_seed([4; 32]));
    let honest = ring.heads().next().map(|(g, k)| (g, StorageKey::from_bytes(k.as_bytes()))).unwrap();
    let own = StorageKey::generate(rng);
    let recipients = BTreeMap::from([(id(1), *kem(1).public())]);
    let mut made = |number, previous: &[(Generation, &StorageKey)], by: u8| {
        seal(&DOMAIN, &Contents { number, created: NOW, key: &own, previous, recipients: &recipients }, &key(by), rng).unwrap()
    };
    let attempts = [
        (made(1, &[], 50), Reject::Forbidden),
        (made(2, &[(honest.0, &honest.1)], 50), Reject::Forbidden),
        // A member, even one that may issue, is not the root; and nobody skips numbers.
        (made(1, &[], 2), Reject::Forbidden),
        (made(7, &[(honest.0, &honest.1)], ROOT), Reject::Malformed),
    ];
    world.issuers.insert(id(2));
    for (lockbox, why) in &attempts {
        assert_eq!(world.take(&mut ring, 1, lockbox), Err(*why));
    }
    // The entry of one lockbox in another, or a byte of its history changed: the signature tells.
    let mut owner = world.ring(ROOT);
    world.rotate(&mut owner, ROOT, &[1, 2]).unwrap();
    for at in (0..world.lockboxes[0].len()).step_by(7) {
        let mut changed = world.lockboxes[0].clone();
        changed[at] ^= 1;
        assert!(world.take(&mut ring, 1, &changed).is_err(), "byte {at}");
    }
    assert_eq!(numbers(&ring), [1]);
    assert_eq!(world.take(&mut ring, 1, &world.lockboxes[0]), Ok(Taken::Opened));
}

#[test]
fn attack_29_an_old_state_is_seen_to_be_one() {
    let mut world = World::new(&[1, 2]);
    world.evict(2);
    let mut owner = world.ring(ROOT);
    world.rotate(&mut owner, ROOT, &[1]).unwrap();
    world.lockboxes.remove(0);
    // The manager shows a lone joiner what was before the eviction: its link says that there is more.
    let mut joiner = world.ring(1);
    world.entitled.insert(id(2));
    assert!(joiner.is_current() && world.writable(&joiner).is_some());
    joiner.at_least(2);
    assert!(!joiner.is_current() && world.writable(&joiner).is_none());
    // And who was there before a restart remembers.
    let mut again = Keyring::new(DOMAIN);
    again.import(&owner.export()).unwrap();
    assert!(again.is_current());
    let mut forgetful = Keyring::new(DOMAIN);
    forgetful.import(&[&owner.export()[..5]].concat()).unwrap();
    assert_eq!(world.take(&mut forgetful, 1, &world.lockboxes[0]), Ok(Taken::Opened));
    assert!(!forgetful.is_current());
}

#[test]
fn whoever_lost_the_right_adds_nothing_and_holds_nobody_up() {
    let mut world = World::new(&[1, 2, 3]);
    world.issuers.insert(id(2));
    let mut insider = world.ring(2);
    world.rotate(&mut insider, 2, &[1, 2, 3]).unwrap();
    let mut one = world.ring(1);
    let mut before = world.ring(2);
    world.evict(2);
    // What it makes from now on is taken by nobody; what it made is read, but not written under.
    let mut elsewhere = World {
        issuers: BTreeSet::from([id(ROOT), id(2)]),
        entitled: world.entitled.clone(),
        lockboxes: Vec::new(),
        rng: Rng::from_seed([5; 32]),
    };
    elsewhere.rotate(&mut before, 2, &[1, 2, 3]).unwrap();
    assert_eq!(world.take(&mut one, 1, &elsewhere.lockboxes[0]), Err(Reject::Forbidden));
    assert_eq!((numbers(&one), world.writable(&one)), (vec![1, 2], None));
    let mut owner = Keyring::new(DOMAIN);
    assert_eq!(world.take(&mut owner, ROOT, &world.lockboxes[0]), Err(Reject::Forbidden), "nothing that counts leads to it yet");
    world.rotate(&mut one, 1, &[1, 3]).unwrap_err();
    world.issuers.insert(id(1));
    world.rotate(&mut one, 1, &[1, 3]).unwrap();
    let newcomer = world.ring(3);
    assert_eq!((numbers(&newcomer), world.writable(&newcomer).unwrap().number), (vec![1, 2, 3], 3));
    let three = |policy: &Policy<'_>| newcomer.kem(&id(3), policy);
    assert_eq!(world.with(three), Some(*kem(3).public()), "and knows to what to seal for others");
}

#[test]
fn keys_outlive_a_restart_with_what_follows_what() {
    let mut world = World::new(&[1, 2]);
    let mut owner = world.ring(ROOT);
    for _ in 0..12 {
        world.rotate(&mut owner, ROOT, &[1, 2]).unwrap();
    }
    let mut again = Keyring::new(DOMAIN);
    again.import(&world.ring(1).export()).unwrap();
    assert_eq!((again.heads().count(), again.newest(), numbers(&again).len()), (1, 13, 8));
    world.issuers.insert(id(1));
    world.rotate(&mut again, 1, &[1, 2]).unwrap();
    assert_eq!(world.ring(2).keys(1).count(), 1, "the whole history is reached");
    for bytes in [&b""[..], &[2; 9], &[1, 0, 0, 0, 0, 1]] {
        assert!(Keyring::new(DOMAIN).import(bytes).is_err());
    }
    assert_eq!(format!("{again:?}"), "Keyring(14 generations)");
}
