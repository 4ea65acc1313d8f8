//! Frames and key messages, natively, beside the primitives they are made of. `npm run bench` shows the ratios, in wasm too.

mod ops;

use core::{hint::black_box, time::Duration};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("ops");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(50);
    for op in ops::ops() {
        let (mut setup, mut run) = (op.setup, op.run);
        group.bench_function(op.name, |b| b.iter_batched(&mut setup, |input| black_box(run(input)), BatchSize::SmallInput));
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
