//! The bars that a domain has to clear, in one table: the tests hold what they simulate to it, and `peerage sim --check` what it does.

use alloc::{format, string::String, vec::Vec};

use super::figures::{self, Figures, Spread, seconds};
use super::trial::{self, Outcome};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Bytes,
    Times,
}

/// A figure and what it may be.
struct Bar<T> {
    /// What it says, with what is said of it in front.
    what: &'static str,
    unit: Unit,
    /// It may be this and not more.
    most: u64,
    /// For domains of up to so many participants …
    nodes: usize,
    /// … on networks that lose up to so many of a hundred frames.
    loss: u8,
    /// Also where the timers of some run once a minute.
    throttled: bool,
    of: fn(&T) -> u64,
}

/// Somebody who never knew, or never came together again, is beyond every bar.
fn unless_never(spread: &Spread, value: u64) -> u64 {
    if spread.never == 0 { value } else { u64::MAX }
}

const fn time<T>(what: &'static str, most: u64, of: fn(&T) -> u64) -> Bar<T> {
    Bar { what, unit: Unit::Milliseconds, most, nodes: 100, loss: 5, throttled: false, of }
}

const fn cost<T>(what: &'static str, most: u64, of: fn(&T) -> u64) -> Bar<T> {
    Bar { what, unit: Unit::Bytes, most, nodes: 1_000, loss: 5, throttled: false, of }
}

const fn fault<T>(what: &'static str, of: fn(&T) -> u64) -> Bar<T> {
    Bar { what, unit: Unit::Times, most: 0, nodes: 1_000, loss: 20, throttled: true, of }
}

/// What one event after the other does.
const FIGURES: [Bar<Figures>; 10] = [
    time("a join was known to 99 of 100 after", 2_000, |f| unless_never(&f.join, f.join.p99)),
    time("a crash was known to all after", 15_000, |f| unless_never(&f.crash, f.crash.last)),
    time("after a partition all copies were equal after", 5_000, |f| f.healing.took.unwrap_or(u64::MAX)),
    fault("what was done during a partition was lost", |f| f.healing.lost as u64),
    fault("somebody who was there was taken for down", |f| f.false_downs as u64),
    cost("a second of idling cost each", 1_999, |f| f.idle),
    cost("a join cost all together", 1_999_999, |f| f.join_bytes),
    cost("an eviction cost all together", 59_999_999, |f| f.eviction.bytes),
    Bar { nodes: 1_000, ..time("during an eviction somebody waited", 9_999, |f| f.eviction.pause) },
    Bar { loss: 5, ..fault("during an eviction what was said was not heard", |f| f.eviction.missed as u64) },
];

/// What goes on for long. Copies may differ for a while after a division, and whose timers run once a minute learn what they missed that
/// much later.
const OUTCOMES: [Bar<Outcome>; 9] = [
    fault("a message was lost", |o| o.lost as u64),
    fault("a message came twice or too early", |o| o.repeated as u64),
    fault("a message was read by somebody for whom it was not", |o| o.misdirected as u64),
    fault("somebody who was there was taken for down", |o| o.false_downs as u64),
    fault("a bound was exceeded", |o| o.unbounded as u64),
    Bar { throttled: true, ..time("one saw another wrongly for", 30_000, |o| o.astray) },
    Bar { throttled: true, ..time("one whose timers are held back saw another wrongly for", 90_000, |o| o.astray_throttled) },
    Bar { throttled: true, ..time("one's copies differed for", 30_000, |o| o.unequal.0) },
    Bar { throttled: true, ..time("the copies of one whose timers are held back differed for", 90_000, |o| o.unequal.1) },
];

impl<T> Bar<T> {
    fn missed(&self, nodes: usize, loss: u8, throttled: bool, by: &T) -> Option<String> {
        let applies = nodes <= self.nodes && loss <= self.loss && (self.throttled || !throttled);
        let is = (self.of)(by);
        let shown = |value: u64| match self.unit {
            _ if value == u64::MAX => String::from("for ever"),
            Unit::Milliseconds => format!("{} s", seconds(value)),
            Unit::Bytes => format!("{value} bytes"),
            Unit::Times => format!("{value} times"),
        };
        (applies && is > self.most).then(|| format!("{} {}, and {} is the most", self.what, shown(is), shown(self.most)))
    }
}

/// Each bar for such an experiment that was missed, in words.
#[must_use]
pub fn missed(plan: &figures::Plan, figures: &Figures) -> Vec<String> {
    FIGURES.iter().filter_map(|bar| bar.missed(plan.nodes, plan.loss, plan.throttled > 0, figures)).collect()
}

/// Each bar for such a trial that was missed, in words.
#[must_use]
pub fn missed_in_trial(plan: &trial::Plan, outcome: &Outcome) -> Vec<String> {
    let missed = OUTCOMES.iter().filter_map(|bar| bar.missed(plan.nodes, plan.loss, plan.throttled > 0, outcome));
    missed.chain(outcome.heavy.map(|what| format!("the first thing that somebody held too much of: {what}"))).collect()
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::super::LATENCY;
    use super::super::figures::{Eviction, Healing};
    use super::*;

    type Worse<T> = (fn(&mut T), &'static str);

    fn plan(nodes: usize, loss: u8, throttled: usize) -> figures::Plan {
        figures::Plan { nodes, loss, latency: LATENCY, throttled, repeats: 1, apart: Duration::ZERO, seed: 1 }
    }

    fn trial(nodes: usize, loss: u8) -> trial::Plan {
        trial::Plan { nodes, loss, latency: LATENCY, throttled: 10, byzantine: 0, churn: false, time: Duration::ZERO, seed: 1 }
    }

    /// All as high as the bars.
    fn figures() -> Figures {
        Figures {
            idle: 1_999,
            join: Spread { p99: 2_000, last: 90_000, ..Spread::default() },
            join_bytes: 1_999_999,
            crash: Spread { last: 15_000, ..Spread::default() },
            eviction: Eviction { bytes: 59_999_999, pause: 9_999, missed: 0 },
            healing: Healing { took: Some(5_000), lost: 0 },
            ..Figures::default()
        }
    }

    #[test]
    fn each_bar_is_missed_by_one_more_and_named() {
        assert!(missed(&plan(100, 5, 0), &figures()).is_empty());
        let worse: [Worse<Figures>; 12] = [
            (|f| f.join.p99 += 10, "a join was known to 99 of 100 after 2.01 s, and 2.00 s is the most"),
            (|f| f.join.never = 1, "a join was known to 99 of 100 after for ever, and 2.00 s is the most"),
            (|f| f.crash.last += 10, "a crash was known to all after 15.01 s, and 15.00 s is the most"),
            (|f| f.healing.took = Some(5_010), "after a partition all copies were equal after 5.01 s, and 5.00 s is the most"),
            (|f| f.healing.took = None, "after a partition all copies were equal after for ever, and 5.00 s is the most"),
            (|f| f.healing.lost = 1, "what was done during a partition was lost 1 times, and 0 times is the most"),
            (|f| f.false_downs = 2, "somebody who was there was taken for down 2 times, and 0 times is the most"),
            (|f| f.idle += 1, "a second of idling cost each 2000 bytes, and 1999 bytes is the most"),
            (|f| f.join_bytes += 1, "a join cost all together 2000000 bytes, and 1999999 bytes is the most"),
            (|f| f.eviction.bytes += 1, "an eviction cost all together 60000000 bytes, and 59999999 bytes is the most"),
            (|f| f.eviction.pause = 10_000, "during an eviction somebody waited 10.00 s, and 9.99 s is the most"),
            (|f| f.eviction.missed = 1, "during an eviction what was said was not heard 1 times, and 0 times is the most"),
        ];
        for (worsen, told) in worse {
            let mut figures = figures();
            worsen(&mut figures);
            assert_eq!(missed(&plan(100, 5, 0), &figures), [told]);
        }
    }

    #[test]
    fn a_bar_is_for_domains_up_to_its_size_on_networks_up_to_its_loss() {
        let slow = Figures { join: Spread { p99: 60_000, ..Spread::default() }, idle: 3_000, false_downs: 1, ..figures() };
        let count = |nodes, loss, throttled| missed(&plan(nodes, loss, throttled), &slow).len();
        assert_eq!([count(100, 5, 0), count(101, 5, 0), count(1_000, 5, 0), count(1_000, 6, 0), count(1_000, 21, 0)], [3, 2, 2, 1, 0]);
        assert_eq!(count(100, 5, 10), 1, "of those that are slow by themselves only what must never be is counted");
    }

    #[test]
    fn each_bar_of_a_trial_is_missed_by_one_more_and_named() {
        let best = Outcome { astray: 30_000, astray_throttled: 90_000, unequal: (30_000, 90_000), ..Outcome::default() };
        assert!(missed_in_trial(&trial(100, 5), &best).is_empty());
        let worse: [Worse<Outcome>; 10] = [
            (|o| o.lost = 1, "a message was lost"),
            (|o| o.repeated = 1, "a message came twice or too early"),
            (|o| o.misdirected = 1, "a message was read by somebody"),
            (|o| o.false_downs = 1, "somebody who was there was taken for down"),
            (|o| o.unbounded = 1, "a bound was exceeded"),
            (|o| o.heavy = Some("probes"), "the first thing that somebody held too much of: probes"),
            (|o| o.astray += 1, "one saw another wrongly"),
            (|o| o.astray_throttled += 1, "one whose timers are held back saw"),
            (|o| o.unequal.0 += 1, "one's copies differed"),
            (|o| o.unequal.1 += 1, "the copies of one whose timers"),
        ];
        for (worsen, told) in worse {
            let mut outcome = best;
            worsen(&mut outcome);
            let missed = missed_in_trial(&trial(100, 5), &outcome);
            assert!(missed.len() == 1 && missed[0].starts_with(told), "{missed:?}");
        }
        let lossy = Outcome { false_downs: 1, astray: 60_000, ..best };
        assert_eq!(missed_in_trial(&trial(100, 20), &lossy).len(), 1, "no living one is taken for down, but what is told takes longer");
    }
}
