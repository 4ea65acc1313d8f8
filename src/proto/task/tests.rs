use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use core::time::Duration;

use proptest::prelude::*;

use super::machine::{Due, State};
use super::*;
use crate::base::{Code, DomainId, Map, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::sign::SigningKey;

const DOMAIN: DomainId = DomainId::from_bytes([4; 32]);
const START: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(START + ms) }
}

fn id(n: u8) -> NodeId {
    NodeId::from_public_key([n; 32])
}

fn offer(n: u8) -> Offer {
    Offer { node: id(n), capacity: 1, load: 0, rtt: None, fit: 0 }
}

/// The query is whom the demand takes; all, if empty.
fn demand(task: u8, demander: u8) -> Demand<Vec<NodeId>> {
    Demand {
        task: [task; 16],
        demander: id(demander),
        capability: "map/occupancy".into(),
        query: Vec::new(),
        count: 1,
        deadline: Duration::from_secs(60),
        policy: Policy::Wait,
        preference: Preference::Idle,
    }
}

struct Bench {
    ledger: Ledger<Vec<NodeId>>,
    offers: Vec<Offer>,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(offers: Vec<Offer>) -> Bench {
        Bench { ledger: Ledger::new(Config::default()), offers, effects: Vec::new() }
    }

    /// Calls the ledger with the offers there are; what it wants done.
    fn with(&mut self, call: impl FnOnce(&mut Ledger<Vec<NodeId>>, Offers<'_, Vec<NodeId>>, &mut Vec<Effect>)) -> Vec<Effect> {
        let all = self.offers.clone();
        let offers = move |d: &Demand<Vec<NodeId>>, relaxed: bool| {
            all.iter().filter(|o| relaxed || d.query.is_empty() || d.query.contains(&o.node)).copied().collect::<Vec<Offer>>()
        };
        call(&mut self.ledger, &offers, &mut self.effects);
        self.sound();
        core::mem::take(&mut self.effects)
    }

    fn ask(&mut self, ms: u64, demand: Demand<Vec<NodeId>>) -> Vec<Effect> {
        self.with(|l, offers, effects| l.demand(at(ms), demand, offers, effects).unwrap())
    }

    fn done(&mut self, ms: u64, word: Word) -> Vec<Effect> {
        self.with(|l, offers, effects| l.done(at(ms), word, offers, effects))
    }

    fn failed(&mut self, ms: u64, word: Word, why: Failure) -> Vec<Effect> {
        self.with(|l, offers, effects| l.failed(at(ms), word, why, offers, effects))
    }

    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        self.with(|l, offers, effects| l.on_timeout(at(ms), offers, effects))
    }

    /// What must hold after every call: each list says the same as the tasks do, and nobody has more seats than it offers.
    fn sound(&self) {
        let l = &self.ledger;
        let (mut leases, mut waiting, mut due) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut running, mut served, mut each) = (BTreeMap::new(), Map::new(), Map::new());
        for (task, entry) in &l.tasks {
            let demander = entry.demand.demander;
            due.insert((entry.due, Due::Task(*task)));
            *each.entry(demander).or_insert(0) += 1;
            assert!(entry.end.is_none() || entry.places.is_empty(), "an ended task has no places");
            let mut suppliers = BTreeSet::new();
            for (place, p) in (0..).zip(&entry.places) {
                match p.state {
                    State::Waiting(number) => _ = waiting.insert((demander, number, *task, place)),
                    State::Leased(supplier, until) => {
                        assert!(suppliers.insert(supplier), "the suppliers of a task are different ones");
                        assert_ne!(supplier, demander);
                        leases.insert((supplier, *task, place));
                        due.insert((until, Due::Lease(*task, place)));
                        *running.entry(supplier).or_insert(0) += 1;
                        *served.entry(demander).or_insert(0) += 1;
                    }
                    State::Done(supplier) => assert!(suppliers.insert(supplier)),
                }
            }
        }
        due.extend(l.used.iter().filter_map(|(node, u)| Some((u.shut?, Due::Open(*node)))));
        due.extend(l.barred.iter().map(|((demander, supplier), at)| (*at, Due::Allowed(*demander, *supplier))));
        assert!(l.turns.keys().all(|demander| l.each.contains_key(demander)), "nothing is kept of who asks for nothing");
        let queued = l.waiting.iter().flat_map(|(d, q)| q.iter().map(|(n, t, p)| (*d, *n, *t, *p))).collect::<BTreeSet<_>>();
        let used = l.used.iter().filter(|(_, u)| u.running > 0).map(|(n, u)| (*n, u.running)).collect::<BTreeMap<_, _>>();
        assert_eq!((&l.leases, &queued, &l.due), (&leases, &waiting, &due));
        assert_eq!((&used, &l.served, &l.each), (&running, &served, &each));
    }
}

fn word(from: u8, task: u8, place: u16, attempt: u32) -> Word {
    Word { from: id(from), task: [task; 16], seat: Seat { place, attempt } }
}

fn paired(effects: &[Effect]) -> Vec<(u8, u16, u32, u8)> {
    let paired = |e: &Effect| match e {
        Effect::Paired { task, seat, supplier, .. } => Some((task[0], seat.place, seat.attempt, supplier.as_bytes()[0])),
        _ => None,
    };
    effects.iter().filter_map(paired).collect()
}

fn ended(effects: &[Effect]) -> Vec<(u8, End)> {
    effects.iter().filter_map(|e| if let Effect::Ended { task, end, .. } = e { Some((task[0], *end)) } else { None }).collect()
}

#[test]
fn a_task_is_paired_renewed_and_done_once() {
    let mut b = Bench::new(vec![offer(1)]);
    assert_eq!(paired(&b.ask(0, demand(1, 9))), [(1, 0, 1, 1)]);
    assert_eq!(paired(&b.ask(1, demand(1, 9))), [(1, 0, 1, 1)], "asked again it is the same pair");
    for ms in [9_000, 18_000, 27_000] {
        b.ledger.renew(at(ms), word(1, 1, 0, 1)).unwrap();
        assert_eq!(b.pass(ms), []);
    }
    assert_eq!(b.ledger.renew(at(27_000), word(2, 1, 0, 1)).unwrap_err().code(), Code::Closed, "nobody else renews it");
    assert_eq!(b.done(28_000, word(1, 1, 0, 1)), [], "its supplier does not say that it is done");
    assert_eq!(ended(&b.done(28_000, word(9, 1, 0, 1))), [(1, End::Done)]);
    assert_eq!(b.done(28_000, word(9, 1, 0, 1)), []);
    assert_eq!(ended(&b.ask(28_001, demand(1, 9))), [(1, End::Done)], "asked once more it has ended");
    assert_eq!(b.pass(28_000 + 599_999), []);
    assert_eq!(b.ledger.ended(&[1; 16]), Some(End::Done));
    b.pass(28_000 + 600_000);
    assert_eq!((b.ledger.ended(&[1; 16]), b.ledger.tasks.len(), b.ledger.next_timeout()), (None, 0, None));
}

#[test]
fn a_silent_supplier_is_replaced_and_its_late_word_counts_no_more() {
    let mut b = Bench::new(vec![offer(1), offer(2)]);
    assert_eq!(paired(&b.ask(0, demand(1, 9))), [(1, 0, 1, 1)]);
    let effects = b.pass(10_000);
    assert_eq!(effects[0], Effect::Released { task: [1; 16], seat: Seat { place: 0, attempt: 1 }, supplier: id(1) });
    assert_eq!(paired(&effects), [(1, 0, 2, 2)]);
    assert_eq!(b.ledger.renew(at(10_001), word(1, 1, 0, 1)).unwrap_err().code(), Code::Closed);
    assert_eq!(b.failed(10_002, word(1, 1, 0, 1), Failure::Lost), [], "the first attempt is over");
    assert_eq!(b.done(10_003, word(9, 1, 0, 1)), []);
    assert_eq!(ended(&b.done(10_004, word(9, 1, 0, 2))), [(1, End::Done)]);
}

#[test]
fn a_task_is_given_up_after_so_many_failures_and_at_its_deadline() {
    let mut b = Bench::new(vec![offer(1), offer(2)]);
    b.ask(0, demand(1, 9));
    for attempt in 1..8 {
        let now = u64::from(attempt) * 1_000;
        assert_eq!(paired(&b.failed(now, word(9, 1, 0, attempt), Failure::Lost)).len(), 1, "attempt {attempt}");
    }
    assert_eq!(ended(&b.failed(8_000, word(9, 1, 0, 8), Failure::Lost)), [(1, End::Attempts)]);
    b.ask(0, Demand { query: vec![id(7)], ..demand(2, 9) });
    b.pass(10_000);
    assert_eq!(b.pass(59_999), []);
    assert_eq!(ended(&b.pass(60_000)), [(2, End::Deadline)]);
}

#[test]
fn who_says_that_it_is_busy_has_not_failed_and_is_left_alone_for_a_second() {
    let mut b = Bench::new(vec![offer(1)]);
    b.ask(0, demand(1, 9));
    for attempt in 1..20 {
        let now = u64::from(attempt) * 2_000;
        assert_eq!(paired(&b.failed(now, word(1, 1, 0, attempt), Failure::Busy)), [], "nobody else is there");
        assert_eq!(b.pass(now + 999), []);
        assert_eq!(paired(&b.pass(now + 1_000)), [(1, 0, attempt + 1, 1)]);
    }
}

#[test]
fn a_demander_keeps_a_supplier_from_itself_only_by_its_word() {
    let mut b = Bench::new(vec![offer(1)]);
    b.ask(0, demand(1, 9));
    b.ask(0, demand(2, 8));
    assert_eq!(paired(&b.failed(1, word(9, 1, 0, 1), Failure::Busy)), [(2, 0, 1, 1)]);
    assert_eq!(paired(&b.done(2, word(8, 2, 0, 1))), []);
    assert_eq!(paired(&b.pass(1_000)), []);
    assert_eq!(paired(&b.pass(1_001)), [(1, 0, 2, 1)]);
    for attempt in 2..20 {
        let now = u64::from(attempt) * 2_000;
        assert_eq!(b.failed(now, word(9, 1, 0, attempt), Failure::Busy).len(), 1, "who has no room has not failed");
        assert_eq!(paired(&b.pass(now + 1_000)), [(1, 0, attempt + 1, 1)]);
    }
}

#[test]
fn policies_for_when_nobody_fits() {
    let mut b = Bench::new(vec![offer(1)]);
    let wants = |task, policy| Demand { query: vec![id(7)], policy, ..demand(task, 9) };
    assert_eq!(ended(&b.ask(0, wants(1, Policy::Fail))), [(1, End::NoSupplier)]);
    assert_eq!(b.ask(0, wants(2, Policy::Wait)), []);
    assert_eq!(paired(&b.ask(0, wants(3, Policy::Any))), [(3, 0, 1, 1)]);
    b.offers.push(offer(7));
    assert_eq!(paired(&b.with(|l, offers, effects| l.offered(at(1), offers, effects))), [(2, 0, 1, 7)]);
}

#[test]
fn several_suppliers_of_one_task_are_different_ones() {
    let mut b = Bench::new(vec![Offer { capacity: 9, ..offer(1) }, Offer { capacity: 9, ..offer(2) }, Offer { capacity: 9, ..offer(9) }]);
    let effects = b.ask(0, Demand { count: 3, ..demand(1, 9) });
    assert_eq!(paired(&effects), [(1, 0, 1, 1), (1, 1, 1, 2)], "and the demander is none of them");
    assert_eq!(ended(&b.done(1, word(9, 1, 0, 1))), [], "the first has done it, and does not do it twice");
    b.offers.push(offer(3));
    assert_eq!(paired(&b.with(|l, offers, effects| l.offered(at(2), offers, effects))), [(1, 2, 1, 3)]);
    b.done(3, word(9, 1, 1, 1));
    assert_eq!(ended(&b.done(4, word(9, 1, 2, 1))), [(1, End::Done)]);
}

#[test]
fn fit_counts_most_then_load_then_distance_and_equal_ones_take_turns() {
    let rtt = |ms| Some(Duration::from_millis(ms));
    let pick = |offers: Vec<Offer>, preference| paired(&Bench::new(offers).ask(0, Demand { preference, ..demand(1, 9) }))[0].3;
    let idle = Preference::Idle;
    assert_eq!(pick(vec![offer(1), Offer { fit: 1, load: 90, capacity: 10, ..offer(2) }], idle), 2);
    assert_eq!(pick(vec![Offer { load: 50, capacity: 2, ..offer(1) }, offer(2)], idle), 2);
    assert_eq!(pick(vec![Offer { load: 90, ..offer(1) }, Offer { load: 80, ..offer(2) }], idle), 2, "also of one seat each");
    assert_eq!(pick(vec![Offer { rtt: rtt(100), ..offer(1) }, Offer { rtt: rtt(10), ..offer(2) }], idle), 2);
    let (near, far) = (Offer { rtt: rtt(10), load: 50, capacity: 2, ..offer(1) }, Offer { rtt: rtt(100), ..offer(2) });
    assert_eq!((pick(vec![near, far], idle), pick(vec![near, far], Preference::Near)), (2, 1));
    let mut b = Bench::new((1..=3).map(|n| Offer { capacity: 100, rtt: rtt(9 + u64::from(n)), ..offer(n) }).collect());
    let mut turns = Vec::new();
    for task in 1..=9 {
        turns.extend(paired(&b.ask(0, demand(task, 9))).iter().map(|p| p.3));
        b.done(0, word(9, task, 0, 1));
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    // One that says it is full is not asked, nor one that takes none.
    assert_eq!(Bench::new(vec![Offer { load: 100, ..offer(1) }, Offer { capacity: 0, ..offer(2) }]).ask(0, demand(1, 9)), []);
}

#[test]
fn who_asks_for_much_does_not_keep_others_waiting() {
    let mut b = Bench::new(vec![Offer { capacity: 2, ..offer(1) }]);
    for task in 0..100 {
        b.ask(0, demand(task, 8));
    }
    b.ask(1, demand(200, 9));
    assert_eq!(paired(&b.done(2, word(8, 0, 0, 1))), [(200, 0, 1, 1)], "who holds fewest comes first");
    assert_eq!(paired(&b.done(3, word(9, 200, 0, 1))), [(2, 0, 1, 1)], "then the oldest");
}

#[test]
fn demanders_take_turns_at_a_single_seat() {
    let mut b = Bench::new(vec![offer(1)]);
    for (task, demander) in [(0, 7), (1, 7), (2, 7), (10, 8), (11, 8), (12, 8), (20, 9), (21, 9), (22, 9)] {
        b.ask(0, demand(task, demander));
    }
    let mut turns = vec![7];
    let mut next = b.done(1, word(7, 0, 0, 1));
    while let [(task, 0, 1, 1)] = paired(&next)[..] {
        turns.push(7 + task / 10);
        next = b.done(2, word(7 + task / 10, task, 0, 1));
    }
    assert_eq!(turns, [7, 8, 9, 7, 8, 9, 7, 8, 9]);
}

#[test]
fn nobody_holds_more_seats_than_it_may() {
    let mut b = Bench::new(vec![Offer { capacity: 9, ..offer(1) }]);
    b.ledger = Ledger::new(Config { seats: 2, ..Config::default() });
    assert_eq!((1..=3).map(|task| paired(&b.ask(0, demand(task, 9))).len()).sum::<usize>(), 2);
    assert_eq!(ended(&b.ask(0, Demand { policy: Policy::Fail, ..demand(4, 9) })), [(4, End::NoSupplier)]);
    assert_eq!(paired(&b.ask(0, demand(5, 8))), [(5, 0, 1, 1)], "others do");
    assert_eq!(paired(&b.done(1, word(9, 1, 0, 1))), [(3, 0, 1, 1)]);
}

#[test]
fn a_demander_holds_its_seats_by_its_own_word_where_nobody_hears_its_suppliers() {
    let mut b = Bench::new(vec![offer(1), offer(2)]);
    b.ask(0, Demand { count: 2, ..demand(1, 9) });
    for ms in [9_000, 18_000] {
        b.ledger.hold(at(ms), id(9), [1; 16]);
        b.sound();
        assert_eq!(b.pass(ms), []);
    }
    b.ledger.hold(at(27_000), id(8), [1; 16]);
    assert_eq!(b.pass(28_000).len(), 2, "another's word does not");
}

#[test]
fn a_task_taken_over_goes_on_where_it_was() {
    let mut b = Bench::new(vec![Offer { capacity: 2, ..offer(1) }, Offer { capacity: 2, ..offer(2) }, Offer { capacity: 2, ..offer(3) }]);
    let held = vec![
        Held { attempt: 3, supplier: Some(id(1)), tried: vec![id(2)] },
        Held { attempt: 2, supplier: None, tried: vec![id(2)] },
        Held::default(),
    ];
    let adopt = |b: &mut Bench, held: Vec<Held>| {
        let mut result = Ok(());
        let effects = b.with(|l, offers, effects| result = l.adopt(at(0), Demand { count: 3, ..demand(1, 9) }, held, offers, effects));
        (paired(&effects), result.map_err(|e| e.code()))
    };
    assert_eq!(adopt(&mut b, held[..2].to_vec()), (vec![], Err(Code::BadArgument)));
    assert_eq!(adopt(&mut b, held), (vec![(1, 1, 3, 3), (1, 2, 1, 2)], Ok(())), "who runs is kept, who failed comes last");
    assert_eq!(paired(&b.failed(1, word(9, 1, 0, 3), Failure::Lost)), [], "all others are at it");
    b.offers.push(offer(4));
    assert_eq!(paired(&b.with(|l, offers, effects| l.offered(at(2), offers, effects))), [(1, 0, 4, 4)]);
}

#[test]
fn who_is_gone_has_neither_seats_nor_tasks() {
    let mut b = Bench::new(vec![Offer { capacity: 2, ..offer(1) }]);
    for (task, demander) in [(1, 8), (2, 9), (3, 9), (4, 8)] {
        b.ask(0, demand(task, demander));
    }
    let effects = b.with(|l, offers, effects| l.gone(at(1), id(8), offers, effects));
    assert_eq!((ended(&effects), paired(&effects)), (vec![(1, End::Cancelled), (4, End::Cancelled)], vec![(3, 0, 1, 1)]));
    b.offers = vec![Offer { capacity: 2, ..offer(2) }];
    let effects = b.with(|l, offers, effects| l.gone(at(2), id(1), offers, effects));
    assert_eq!(paired(&effects), [(2, 0, 2, 2), (3, 0, 2, 2)]);
    assert_eq!(b.ledger.used.len(), 1, "nothing is kept of who is gone");
    let cancel = b.with(|l, offers, effects| l.cancel(at(3), id(8), [2; 16], offers, effects));
    assert_eq!(cancel, [], "only its demander cancels a task");
    assert_eq!(ended(&b.with(|l, offers, effects| l.cancel(at(3), id(9), [2; 16], offers, effects))), [(2, End::Cancelled)]);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let mut b = Bench::new(Vec::new());
    b.ledger = Ledger::new(Config { tasks: 3, each: 2, ..Config::default() });
    let code = |b: &mut Bench, demand| {
        let mut code = None;
        b.with(|l, offers, effects| code = l.demand(at(0), demand, offers, effects).err().map(|e| e.code()));
        code
    };
    for wrong in [
        Demand { count: 0, ..demand(1, 9) },
        Demand { count: COUNT + 1, ..demand(1, 9) },
        Demand { capability: "".into(), ..demand(1, 9) },
        Demand { capability: "x".repeat(CAPABILITY + 1), ..demand(1, 9) },
        Demand { deadline: Duration::ZERO, ..demand(1, 9) },
    ] {
        assert_eq!(code(&mut b, wrong), Some(Code::BadArgument));
    }
    assert_eq!(code(&mut b, demand(1, 9)), None);
    assert_eq!(code(&mut b, demand(1, 8)), Some(Code::Conflict), "another's name");
    assert_eq!(code(&mut b, demand(2, 9)), None);
    assert_eq!(code(&mut b, demand(3, 9)), Some(Code::Busy), "of one");
    assert_eq!(code(&mut b, demand(3, 8)), None);
    assert_eq!(code(&mut b, demand(4, 7)), Some(Code::Busy), "of all");
}

#[test]
fn a_ticket_says_what_its_issuer_signed_and_admits_only_the_two() {
    let key = SigningKey::from_seed(&[1; 32]);
    let ticket = Ticket {
        issuer: key.node_id(),
        term: 7,
        task: [5; 16],
        seat: Seat { place: 2, attempt: 3 },
        demander: id(8),
        supplier: id(9),
        until: Wall(START),
        capability: "map/occupancy".into(),
    };
    let bytes = ticket.sign(&DOMAIN, &key).unwrap();
    assert_eq!(Ticket::verify(&DOMAIN, &bytes), Ok(ticket.clone()));
    assert_eq!(Ticket::verify(&DomainId::from_bytes([5; 32]), &bytes), Err(Reject::Forged), "of another domain");
    for i in 0..bytes.len() {
        let mut other = bytes.clone();
        other[i] ^= 1;
        assert!(Ticket::verify(&DOMAIN, &other).is_err(), "byte {i}");
        assert!(Ticket::verify(&DOMAIN, &bytes[..i]).is_err(), "cut at {i}");
    }
    assert_eq!(ticket.sign(&DOMAIN, &SigningKey::from_seed(&[2; 32])), Err(Reject::Forbidden), "with another's key");
    for (length, reject) in [(0, Reject::Malformed), (CAPABILITY + 1, Reject::TooLarge)] {
        assert_eq!(Ticket { capability: "x".repeat(length), ..ticket.clone() }.sign(&DOMAIN, &key), Err(reject));
    }
    let now = Wall(START).after(limit::CLOCK_SKEW);
    assert_eq!(ticket.admits(now, &id(8), &id(9), "map/occupancy"), Ok(()));
    assert_eq!(ticket.admits(now, &id(7), &id(9), "map/occupancy"), Err(Reject::Misdirected), "shown by another demander");
    assert_eq!(ticket.admits(now, &id(8), &id(7), "map/occupancy"), Err(Reject::Misdirected), "shown to another supplier");
    assert_eq!(ticket.admits(now, &id(8), &id(9), "map/reconstruct"), Err(Reject::Misdirected), "for something else");
    assert_eq!(ticket.admits(Wall(now.0 + 1), &id(8), &id(9), "map/occupancy"), Err(Reject::Stale));
}

/// What demanders, suppliers and time do to a ledger.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        task: u8,
        demander: u8,
        count: u16,
        policy: Policy,
    },
    /// The newest attempt at a place ends so; `None`: well.
    Finish {
        task: u8,
        place: u16,
        why: Option<(Failure, bool)>,
    },
    Renew {
        task: u8,
        place: u16,
    },
    Cancel {
        task: u8,
    },
    Gone {
        node: u8,
    },
    Capacity {
        node: u8,
        capacity: u32,
    },
    Pass {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let policy = prop_oneof![Just(Policy::Wait), Just(Policy::Fail), Just(Policy::Any)];
    let why = prop_oneof![
        3 => Just(None),
        2 => (prop_oneof![Just(Failure::Busy), Just(Failure::Lost)], any::<bool>()).prop_map(Some),
    ];
    let step = prop_oneof![
        4 => (0..24u8, 100..104u8, 1..4u16, policy).prop_map(|(task, demander, count, policy)| Step::Ask { task, demander, count, policy }),
        6 => (0..24u8, 0..3u16, why).prop_map(|(task, place, why)| Step::Finish { task, place, why }),
        2 => (0..24u8, 0..3u16).prop_map(|(task, place)| Step::Renew { task, place }),
        1 => (0..24u8).prop_map(|task| Step::Cancel { task }),
        1 => prop_oneof![0..6u8, 100..104u8].prop_map(|node| Step::Gone { node }),
        2 => (0..6u8, 0..4u32).prop_map(|(node, capacity)| Step::Capacity { node, capacity }),
        3 => (0..15_000u64).prop_map(|ms| Step::Pass { ms }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What a careful clerk would have written down.
#[derive(Default)]
struct Model {
    /// Who holds which seat now.
    seats: BTreeMap<([u8; 16], u16), (u32, NodeId)>,
    attempts: BTreeMap<([u8; 16], u16), u32>,
    ended: BTreeMap<[u8; 16], End>,
}

impl Model {
    fn take(&mut self, effects: Vec<Effect>, offers: &[Offer]) {
        for effect in effects {
            match effect {
                Effect::Paired { task, seat, supplier, .. } => {
                    let last = self.attempts.insert((task, seat.place), seat.attempt).unwrap_or_default();
                    if self.seats.insert((task, seat.place), (seat.attempt, supplier)) == Some((seat.attempt, supplier)) {
                        continue;
                    }
                    assert_eq!(seat.attempt, last + 1, "attempts count up by one, and each is told once");
                    let capacity = offers.iter().find(|o| o.node == supplier).map_or(0, |o| o.capacity);
                    let held = self.seats.values().filter(|(_, s)| *s == supplier).count();
                    assert!(held <= capacity as usize, "nobody gets more than it offers");
                    assert!(!self.ended.contains_key(&task));
                }
                Effect::Released { task, seat, supplier } => {
                    assert_eq!(self.seats.remove(&(task, seat.place)), Some((seat.attempt, supplier)), "only who holds a seat loses it");
                }
                Effect::Ended { task, end, .. } => {
                    let before = self.ended.insert(task, end);
                    assert!(before.is_none_or(|e| e == end), "a task ends once");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_ledger_agrees_with_its_tasks_and_all_of_them_end(steps in steps()) {
        let mut b = Bench::new((0..6).map(|n| Offer { capacity: 2, ..offer(n) }).collect());
        let (mut m, mut ms) = (Model::default(), 0);
        let mut asked = BTreeSet::new();
        for step in steps {
            let seat = |task: u8, place| m.seats.get(&([task; 16], place)).copied();
            let owner = |b: &Bench, task: u8| b.ledger.tasks.get(&[task; 16]).map(|t| t.demand.demander);
            let effects = match step {
                Step::Ask { task, demander, count, policy } => {
                    let known = owner(&b, task).is_some_and(|d| d != id(demander));
                    let d = Demand { count, policy, query: vec![id(task % 6), id(1)], ..demand(task, demander) };
                    if !known { asked.insert([task; 16]); }
                    b.with(|l, offers, effects| assert_eq!(l.demand(at(ms), d, offers, effects).is_err(), known))
                }
                Step::Finish { task, place, why } => {
                    let (Some((attempt, supplier)), Some(demander)) = (seat(task, place), owner(&b, task)) else { continue };
                    let from = if why.is_some_and(|(_, by_supplier)| by_supplier) { supplier } else { demander };
                    let word = Word { from, task: [task; 16], seat: Seat { place, attempt } };
                    match why {
                        Some((why, _)) => b.failed(ms, word, why),
                        None => {
                            let effects = b.done(ms, word);
                            m.seats.remove(&([task; 16], place));
                            effects
                        }
                    }
                }
                Step::Renew { task, place } => {
                    let Some((attempt, from)) = seat(task, place) else { continue };
                    b.ledger.renew(at(ms), Word { from, task: [task; 16], seat: Seat { place, attempt } }).unwrap();
                    Vec::new()
                }
                Step::Cancel { task } => {
                    let Some(demander) = owner(&b, task) else { continue };
                    b.with(|l, offers, effects| l.cancel(at(ms), demander, [task; 16], offers, effects))
                }
                Step::Gone { node } => b.with(|l, offers, effects| l.gone(at(ms), id(node), offers, effects)),
                Step::Capacity { node, capacity } => {
                    b.offers[usize::from(node)].capacity = capacity;
                    b.with(|l, offers, effects| l.offered(at(ms), offers, effects))
                }
                Step::Pass { ms: more } => {
                    ms += more;
                    b.pass(ms)
                }
            };
            // Fewer seats than before take effect as those that are held become free.
            let offers: Vec<Offer> = b.offers.iter().map(|o| Offer { capacity: o.capacity.max(3), ..*o }).collect();
            m.take(effects, &offers);
        }
        let offers: Vec<Offer> = b.offers.iter().map(|o| Offer { capacity: 3, ..*o }).collect();
        while b.ledger.next_timeout().is_some_and(|due| due <= Mono(ms + 60_000)) {
            let due = b.ledger.next_timeout().unwrap();
            let effects = b.pass(due.0);
            m.take(effects, &offers);
        }
        prop_assert_eq!(m.ended.keys().copied().collect::<BTreeSet<_>>(), asked, "every task has an end");
        prop_assert!(m.seats.is_empty() && b.ledger.leases.is_empty() && b.ledger.waiting.is_empty());
        b.pass(ms + 60_000 + 600_000);
        prop_assert!(b.ledger.tasks.is_empty() && b.ledger.due.is_empty() && b.ledger.each.is_empty());
    }
}

#[test]
fn a_thousand_tasks_over_a_hundred_suppliers_that_come_and_go_all_end_done() {
    let mut b = Bench::new((0..100).map(|n| Offer { capacity: 1 + u32::from(n % 3), ..offer(n) }).collect());
    let mut rng = Rng::from_seed([3; 32]);
    // When each seat is finished; who is away answers nothing.
    let mut work: BTreeSet<(u64, [u8; 16], Seat)> = BTreeSet::new();
    let mut away: BTreeMap<NodeId, u64> = BTreeMap::new();
    let (mut done, mut attempts) = (0, 0);
    let mut demands: Vec<Demand<Vec<NodeId>>> = (0..1_000u64)
        .map(|n| {
            let mut task = [0; 16];
            task[..8].copy_from_slice(&n.to_be_bytes());
            Demand { task, deadline: Duration::from_secs(3_600), ..demand(0, 200 + (n % 10) as u8) }
        })
        .collect();
    for ms in (0..600_000).step_by(100) {
        let mut effects = Vec::new();
        effects.extend((0..5).filter_map(|_| demands.pop()).flat_map(|d| b.ask(ms, d)).collect::<Vec<_>>());
        if ms % 1_000 == 0 {
            let n = rng.below(100) as u8;
            away.insert(id(n), ms + 30_000);
            // Half of them are noticed, the others' leases run out.
            if rng.below(2) == 0 {
                b.offers[usize::from(n)].capacity = 0;
                effects.extend(b.with(|l, offers, effects| l.gone(at(ms), id(n), offers, effects)));
            }
        }
        away.retain(|_, back| *back > ms);
        for n in (0..100).filter(|n| !away.contains_key(&id(*n))) {
            b.offers[usize::from(n)].capacity = 1 + u32::from(n % 3);
        }
        while let Some((_, task, seat)) = work.first().copied().filter(|(due, ..)| *due <= ms) {
            work.pop_first();
            let Some(entry) = b.ledger.tasks.get(&task) else { continue };
            let (from, place) = (entry.demand.demander, entry.places.get(usize::from(seat.place)));
            if let Some(State::Leased(supplier, _)) = place.filter(|p| p.attempt == seat.attempt).map(|p| p.state)
                && !away.contains_key(&supplier)
            {
                effects.extend(b.done(ms, Word { from, task, seat }));
            }
        }
        effects.extend(b.pass(ms));
        for effect in effects {
            match effect {
                Effect::Paired { task, seat, .. } => {
                    attempts += 1;
                    work.insert((ms + 500 + rng.below(4_000), task, seat));
                }
                Effect::Ended { end, .. } => {
                    assert_eq!(end, End::Done);
                    done += 1;
                }
                Effect::Released { .. } => {}
            }
        }
    }
    assert_eq!(done, 1_000);
    assert!(attempts > 1_000, "{attempts}: some suppliers were lost on the way");
}
