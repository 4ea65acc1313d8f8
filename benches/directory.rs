//! How long a question to the local copy of the directory takes, among 1,000 records.

use core::hint::black_box;
use criterion::{Criterion, criterion_group, criterion_main};
use peerage::base::{DomainId, Mono, NodeId, Now, Rng, Wall};
use peerage::crypto::{class::Role, sign::SigningKey};
use peerage::proto::directory::{
    Capability, Config, Directory, Msg, Predicate, Presence, Profile, Query, Record, Signed, Test, Value, msg::Item,
};

const DOMAIN: DomainId = DomainId::from_bytes([1; 32]);
const NOW: Now = Now { mono: Mono(0), wall: Wall(1_735_689_600_000) };

fn everybody(_: &NodeId) -> Option<Role> {
    Some(Role::Participant)
}

fn record(rng: &mut Rng, n: usize) -> Item {
    let key = SigningKey::generate(rng);
    let mut capability = Capability::new(if n.is_multiple_of(10) { "map/reconstruct" } else { "pose/share" }, 1);
    capability.attributes.insert("memory".into(), Value::Int((n % 64) as i64));
    let profile = Profile { name: format!("node {n}"), addresses: vec!["/memory/1".into()], capabilities: vec![capability] };
    let record = Record {
        node: key.node_id(),
        incarnation: 1,
        sequence: 1,
        created: NOW.wall,
        lease: std::time::Duration::from_secs(30),
        presence: Presence::Online,
        profile,
    };
    Item { age: 0, record: Signed::sign(record, &key, &DOMAIN).expect("within bounds").bytes().to_vec() }
}

fn query(c: &mut Criterion) {
    let mut rng = Rng::from_seed([1; 32]);
    let key = SigningKey::generate(&mut rng);
    let mut directory = Directory::new(NOW, key, Config { domain: DOMAIN, essential: Vec::new() }, rng.fork("directory"));
    let from = SigningKey::generate(&mut rng).node_id();
    let items: Vec<Item> = (0..1_000).map(|n| record(&mut rng, n)).collect();
    c.bench_function("directory: take one record", |b| {
        b.iter_batched(
            || {
                (
                    Directory::new(
                        NOW,
                        SigningKey::from_seed(&[2; 32]),
                        Config { domain: DOMAIN, essential: Vec::new() },
                        Rng::from_seed([2; 32]),
                    ),
                    items[0].clone(),
                )
            },
            |(mut d, item)| d.handle(NOW, from, Msg::Records(vec![item]), &everybody, &mut Vec::new()),
            criterion::BatchSize::SmallInput,
        );
    });
    directory.handle(NOW, from, Msg::Records(items), &everybody, &mut Vec::new()).expect("good records");
    let at_least = Predicate { key: "memory".into(), test: Test::Ge(Value::Int(32)) };
    let narrow = Query { capability: Some("map/reconstruct".into()), predicates: vec![at_least], online: Some(true) };
    for (name, query) in [("capability and attribute", narrow), ("everybody", Query::default())] {
        c.bench_function(&format!("directory: query 1000, {name}"), |b| {
            b.iter(|| black_box(directory.participants(NOW, black_box(&query), &everybody)).len());
        });
    }
}

criterion_group!(benches, query);
criterion_main!(benches);
