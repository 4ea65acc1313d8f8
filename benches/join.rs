//! What it costs to simulate whole nodes, the `Peer` that ships, from a relay and a manager until so many participants joined
//! through an invitation, all at once, and each sees all. The manager, the relay and every key, link and record are simulated too.

use core::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use peerage::sim::{Conditions, Town};

fn joined(n: usize) -> u64 {
    let mut town = Town::new(1, Conditions::default());
    let start = town.world.now();
    town.crowd(n - 1).expect("all are let in");
    assert!(town.agree(Duration::from_secs(60)), "all see all");
    town.world.now() - start
}

fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join in the simulator");
    group.sample_size(10);
    for n in [10, 100] {
        println!("{n} participants: all see all after {} simulated ms", joined(n));
        group.bench_function(format!("{n} participants"), |b| b.iter(|| joined(n)));
    }
    group.finish();
}

criterion_group!(benches, join);
criterion_main!(benches);
