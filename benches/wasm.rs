//! The operations of `seal.rs` in wasm under node, one JSON line each: its name, nanoseconds, and what it is compared with.
//! `npm run bench` builds it with the profile that ships and reads the lines.

#![cfg(target_arch = "wasm32")]

mod ops;

use core::hint::black_box;
use js_sys::{Function, Reflect, global};
use wasm_bindgen_test::{console_log, wasm_bindgen_test};

/// Milliseconds, with a fraction.
fn now() -> f64 {
    let performance = Reflect::get(&global(), &"performance".into()).unwrap();
    let now: Function = Reflect::get(&performance, &"now".into()).unwrap().into();
    now.call0(&performance).unwrap().as_f64().unwrap()
}

/// The fastest of twenty samples of at least ten milliseconds each: what other work on the machine disturbs least.
fn nanoseconds(op: &mut ops::Op) -> f64 {
    let mut sample = |n: usize| {
        let inputs: Vec<_> = (0..n).map(|_| (op.setup)()).collect();
        let start = now();
        for input in inputs {
            black_box((op.run)(input));
        }
        (now() - start) / n as f64
    };
    let mut n = 1;
    while sample(n) * (n as f64) < 10.0 {
        n *= 2;
    }
    (0..20).map(|_| sample(n)).fold(f64::INFINITY, f64::min) * 1e6
}

#[wasm_bindgen_test]
fn measure() {
    for mut op in ops::ops() {
        let ns = nanoseconds(&mut op);
        console_log!("{}", serde_json::json!({ "name": op.name, "ns": ns, "against": op.against }));
    }
}
