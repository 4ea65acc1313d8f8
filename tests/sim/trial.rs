//! What ought to hold all the time, while participants come and go, some do harm and some are slow; `peerage sim --churn` shows more.

use std::time::Duration;

use peerage::sim::bars;
use peerage::sim::trial::{Outcome, Plan, run};

fn trial(plan: Plan) -> Outcome {
    let outcome = run(plan, &mut |_| (), &mut |what| println!("{what}")).unwrap();
    println!("{plan:?}\n{outcome:?}");
    assert_eq!(bars::missed_in_trial(&plan, &outcome), [""; 0]);
    outcome
}

#[test]
fn a_dozen_of_whom_one_does_harm_and_others_come_and_go() {
    let latency = (Duration::from_millis(20), Duration::from_millis(300));
    let plan = Plan { nodes: 12, loss: 5, latency, throttled: 10, byzantine: 10, churn: true, time: Duration::from_secs(480), seed: 3 };
    let outcome = trial(plan);
    assert!(outcome.joined > 1 && outcome.left + outcome.crashed > 1 && outcome.arrived > 1_000);
    // Those who were evicted, and the manager, were given all that the others said.
    assert!(outcome.evicted >= 3 && outcome.overheard > 1_000, "{} evicted, {} overheard", outcome.evicted, outcome.overheard);
}
