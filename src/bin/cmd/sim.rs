//! `peerage sim`

use std::time::{Duration, Instant};

use clap::Args;
use peerage::base::{Code, Error};
use peerage::sim::figures::{self, Figures, Plan, seconds};

/// Simulate domains of given sizes on bad networks, with the code that ships, and print what they do
///
/// Nothing is sent anywhere. The same seed gives the same figures. One way between two nodes takes 10 to 60 ms; times are seconds of
/// simulated time, half of the participants / 99 of 100 of them.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage sim
  peerage sim --nodes 10,100,300 --loss 0,5,20 --throttled 10

What the columns say:
  links      of a participant, in the mean and at most
  idle       bytes a second that reach a participant while nobody does anything
  join       from the end of a join until the others know, and what the join costs all of them together
  message    of 1,000 bytes to all, until they have it
  leave      from a goodbye until the others know
  crash      from a crash that leaves links dangling until the others know
  healed     from the end of a partition, half and half, until everybody sees everybody
  false      how often somebody who was there was taken for down")]
pub struct Sim {
    /// Sizes, in participants
    #[arg(long, value_delimiter = ',', default_value = "10,30,100", value_parser = clap::value_parser!(u16).range(4..=1_000))]
    nodes: Vec<u16>,
    /// Frames lost, in percent
    #[arg(long, value_delimiter = ',', default_value = "0,5", value_parser = clap::value_parser!(u8).range(0..=50))]
    loss: Vec<u8>,
    /// Of a hundred participants, those whose timers run once a minute
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    throttled: u8,
    /// How often each event is repeated
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    repeats: u8,
    /// Seconds that a partition lasts
    #[arg(long, default_value_t = 60)]
    apart: u32,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const COLUMNS: [(&str, usize); 12] = [
    ("nodes", 6),
    ("loss", 6),
    ("links", 11),
    ("idle B/s", 9),
    ("join s", 14),
    ("join KB", 9),
    ("message s", 14),
    ("leave s", 14),
    ("crash s", 16),
    ("healed s", 9),
    ("false", 6),
    ("took s", 7),
];

impl Sim {
    pub fn run(self) -> Result<(), Error> {
        let head: String = COLUMNS.iter().map(|(name, width)| format!("{name:>width$}")).collect();
        println!("{head}");
        for nodes in &self.nodes {
            for loss in &self.loss {
                let plan = Plan {
                    nodes: usize::from(*nodes),
                    loss: *loss,
                    throttled: usize::from(self.throttled),
                    repeats: usize::from(self.repeats).min(usize::from(*nodes) / 4),
                    apart: Duration::from_secs(u64::from(self.apart)),
                    seed: self.seed,
                };
                let start = Instant::now();
                let mut tell = |what: &str| eprint!("\r\x1b[K{nodes} participants, {loss} % lost: {what}");
                let figures = figures::run(plan, &mut tell);
                eprint!("\r\x1b[K");
                let figures = figures.map_err(|code: Code| Error::new(code, format!("one of {nodes} participants could not join")))?;
                println!("{}", row(plan, &figures, start.elapsed()));
            }
        }
        Ok(())
    }
}

fn row(plan: Plan, f: &Figures, took: Duration) -> String {
    let cells = [
        plan.nodes.to_string(),
        format!("{} %", plan.loss),
        format!("{}.{} / {}", f.links.0 / 10, f.links.0 % 10, f.links.1),
        f.idle.to_string(),
        f.join.to_string(),
        (f.join_bytes / 1_000).to_string(),
        f.message.to_string(),
        f.leave.to_string(),
        f.crash.to_string(),
        f.healed.map_or_else(|| "never".to_owned(), seconds),
        f.false_downs.to_string(),
        took.as_secs().to_string(),
    ];
    cells.iter().zip(COLUMNS).map(|(cell, (_, width))| format!("{cell:>width$}")).collect()
}
