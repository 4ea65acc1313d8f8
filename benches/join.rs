//! What it costs to simulate nodes that find one another through a relay until all of them see all the others.

#[path = "../tests/sim/bare.rs"]
mod bare;

use core::time::Duration;

use bare::{Bare, SECRET};
use criterion::{Criterion, criterion_group, criterion_main};
use peerage::sim::{Conditions, World};

fn joined(n: usize) -> u64 {
    let mut world: World<Bare> = World::new(1, Conditions::default());
    let (relay, address) = world.add(true, 0, Bare::relay);
    let mut nodes = Vec::new();
    for i in 0..n {
        let (node, _) = world.add(false, 0, Bare::new);
        world.act(node, |m, now| {
            m.use_relay(relay, &address);
            if i == 0 { m.enter(now, &SECRET) } else { m.seek(now) }
        });
        nodes.push(node);
    }
    let all = |w: &mut World<Bare>| nodes.iter().all(|m| w.look(*m, Bare::online).len() == n - 1);
    assert!(world.run_until(Duration::from_secs(60), all), "all find each other");
    world.now()
}

fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join in the simulator");
    group.sample_size(10);
    for n in [10, 100] {
        println!("{n} nodes: all see all after {} simulated ms", joined(n));
        group.bench_function(format!("{n} nodes"), |b| b.iter(|| joined(n)));
    }
    group.finish();
}

criterion_group!(benches, join);
criterion_main!(benches);
