//! The bars that a domain has to clear, at a size that a test affords; `peerage sim` shows more.

use std::time::Duration;

use peerage::sim::figures::{Plan, run};
use peerage::sim::{LATENCY, bars};

#[test]
fn thirty_with_one_frame_in_twenty_lost() {
    let plan = Plan { nodes: 30, loss: 5, latency: LATENCY, throttled: 0, repeats: 8, apart: Duration::from_secs(30), seed: 7 };
    let figures = run(plan, &mut |_| ()).unwrap();
    println!("{figures:?}");
    let known = [figures.join, figures.leave, figures.crash, figures.message];
    assert!(known.iter().all(|s| s.never == 0), "{known:?}");
    assert!(figures.message.p99 <= 1_000, "{:?}", figures.message);
    assert!(figures.join.median <= 1_000 && figures.leave.median <= 1_000, "{known:?}");
    assert!(figures.leave.p99 <= 2_000, "{known:?}");
    assert_eq!(bars::missed(&plan, &figures), [""; 0]);
    assert!(figures.join_bytes < 500_000, "{} bytes a join", figures.join_bytes);
}

/// Fewer of them, for longer: whoever is not seen for ten minutes is forgotten by those who have not heard of it.
#[test]
fn halves_that_were_apart_for_ten_minutes_agree_within_seconds() {
    let plan = Plan { nodes: 12, loss: 5, latency: LATENCY, throttled: 0, repeats: 0, apart: Duration::from_secs(600), seed: 11 };
    let figures = run(plan, &mut |_| ()).unwrap();
    println!("{:?}", figures.healing);
    assert_eq!(bars::missed(&plan, &figures), [""; 0]);
}
