//! `peerage sim`

use std::time::{Duration, Instant};

use clap::Args;
use peerage::base::{Code, Error};
use peerage::sim::bars;
use peerage::sim::figures::{self, Eviction, Figures, Healing, Plan, seconds};
use peerage::sim::trial::{self, Outcome};

/// Simulate domains of given sizes on bad networks, with the code that ships, and print what they do
///
/// Nothing is sent anywhere. The same seed gives the same figures. Times are seconds of simulated time, half of the participants /
/// 99 of 100 of them.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage sim
  peerage sim --nodes 10,100,300 --loss 0,5,20 --throttled 10
  peerage sim --nodes 100 --loss 5 --latency 20-300
  peerage sim --nodes 100 --loss 5 --check
  peerage sim --nodes 100 --loss 5 --churn 60 --byzantine 10
  peerage sim --nodes 100 --loss 20 --throttled 10 --steady 60 --check

What the columns say:
  links      of a participant, in the mean and at most
  idle       bytes a second that reach a participant while nobody does anything
  renewal    what a record costs all of them together that its owner signs anew, which all together do about once a second
  join       from the end of a join until the others know, and what the join costs all of them together
  message    of 1,000 bytes to all, until they have it
  leave      from a goodbye until the others know
  crash      from a crash that leaves links dangling until the others know
  evict      what an eviction costs all of them together, while one of ten speaks to all each second
  pause      the longest that anybody waited meanwhile for what was said
  healed     from the end of a partition, half and half, until everybody sees everybody for good and all copies are equal, of the
             directory, of the membership and of the shared state, which both halves wrote meanwhile
  false      how often somebody who was there was taken for down

With --churn, all talk while some come and go, one is evicted every other minute and stays to overhear what it can, and in the middle of
it the network is divided for half a minute. With --steady the same, but nobody else comes or goes. The columns say:
  joined     how many joined; refused, left, crashed: how many could not, said goodbye, vanished
  arrived    messages that arrived where they were due; lost: that did not, though they were taken and both ends stayed
  repeated   messages that arrived twice or out of order; misdirected: that somebody opened for whom they were not, such as one
             who had been evicted
  unbounded  how often a participant held more of something than it may
  astray     the longest that one saw somebody who was gone, or did not see somebody who was there; throttled: those whose timers are
  unequal    the longest that the copies of one, of the shared state or the membership, were not those of the others")]
pub struct Sim {
    /// Sizes, in participants
    #[arg(long, value_delimiter = ',', default_value = "10,30,100", value_parser = clap::value_parser!(u16).range(4..=1_000))]
    nodes: Vec<u16>,
    /// Frames lost, in percent
    #[arg(long, value_delimiter = ',', default_value = "0,5", value_parser = clap::value_parser!(u8).range(0..=50))]
    loss: Vec<u8>,
    /// Milliseconds from one node to another, at least and at most: each pair has its own
    #[arg(long, default_value = "10-60", value_name = "FROM-TO", value_parser = range)]
    latency: (Duration, Duration),
    /// Of a hundred participants, those whose timers run once a minute
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    throttled: u8,
    /// Of a hundred participants, those that do harm (with --churn or --steady)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=30), requires = "trial")]
    byzantine: u8,
    /// Instead: let participants come and go for so many minutes, and count what ought not to happen
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u16).range(1..), group = "trial")]
    churn: Option<u16>,
    /// Likewise, with participants that stay
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u16).range(1..), group = "trial")]
    steady: Option<u16>,
    /// End with an error that names each bar that was missed
    #[arg(long)]
    check: bool,
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

fn range(text: &str) -> Result<(Duration, Duration), String> {
    let ends = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let ends = ends.filter(|(from, to): &(u16, u16)| from <= to);
    let (from, to) = ends.ok_or("two whole numbers of milliseconds are wanted, the lesser one first: 20-300")?;
    Ok((Duration::from_millis(from.into()), Duration::from_millis(to.into())))
}

const COLUMNS: [(&str, usize); 15] = [
    ("nodes", 6),
    ("loss", 6),
    ("links", 11),
    ("idle B/s", 9),
    ("renewal KB", 11),
    ("join s", 14),
    ("join KB", 9),
    ("message s", 14),
    ("leave s", 14),
    ("crash s", 16),
    ("evict KB", 10),
    ("pause s", 9),
    ("healed s", 9),
    ("false", 6),
    ("took s", 7),
];

const TRIAL: [(&str, usize); 17] = [
    ("nodes", 6),
    ("loss", 6),
    ("joined", 8),
    ("refused", 9),
    ("left", 6),
    ("crashed", 9),
    ("arrived", 9),
    ("lost", 6),
    ("repeated", 10),
    ("misdirected", 13),
    ("false", 7),
    ("unbounded", 11),
    ("astray s", 10),
    ("throttled s", 13),
    ("unequal s", 11),
    ("throttled s", 13),
    ("took s", 8),
];

impl Sim {
    pub fn run(self) -> Result<(), Error> {
        let minutes = self.churn.or(self.steady);
        let columns = if minutes.is_some() { &TRIAL[..] } else { &COLUMNS };
        let line = |cells: &[String]| -> String { cells.iter().zip(columns).map(|(cell, (_, width))| format!("{cell:>width$}")).collect() };
        println!("{}", line(&columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()));
        let mut missed = Vec::new();
        for nodes in &self.nodes {
            for loss in &self.loss {
                let start = Instant::now();
                let mut tell = |what: &str| eprint!("\r\x1b[K{nodes} participants, {loss} % lost: {what}");
                let mut amiss = |what: &str| eprintln!("\r\x1b[K{what}");
                let done: Result<_, Code> = if let Some(minutes) = minutes {
                    let plan = self.trial(*nodes, *loss, minutes);
                    trial::run(plan, &mut tell, &mut amiss).map(|outcome| (trial_cells(&outcome), bars::missed_in_trial(&plan, &outcome)))
                } else {
                    let plan = self.plan(*nodes, *loss);
                    figures::run(plan, &mut tell).map(|figures| (cells(&figures), bars::missed(&plan, &figures)))
                };
                eprint!("\r\x1b[K");
                let (cells, short) = done.map_err(|code| Error::new(code, format!("one of {nodes} participants could not join")))?;
                let head = [nodes.to_string(), format!("{loss} %")];
                println!("{}", line(&[&head[..], &cells, &[start.elapsed().as_secs().to_string()]].concat()));
                missed.extend(short.into_iter().map(|bar| format!("{nodes} participants, {loss} % lost: {bar}")));
            }
        }
        if self.check && !missed.is_empty() {
            return Err(Error::new(Code::TaskFailed, format!("bars were missed: {}", missed.join("; "))));
        }
        Ok(())
    }

    fn plan(&self, nodes: u16, loss: u8) -> Plan {
        Plan {
            nodes: usize::from(nodes),
            loss,
            latency: self.latency,
            throttled: usize::from(self.throttled),
            repeats: usize::from(self.repeats).min(usize::from(nodes) / 4),
            apart: Duration::from_secs(u64::from(self.apart)),
            seed: self.seed,
        }
    }

    fn trial(&self, nodes: u16, loss: u8, minutes: u16) -> trial::Plan {
        trial::Plan {
            nodes: usize::from(nodes),
            loss,
            latency: self.latency,
            throttled: usize::from(self.throttled),
            byzantine: usize::from(self.byzantine),
            churn: self.steady.is_none(),
            time: Duration::from_secs(60 * u64::from(minutes)),
            seed: self.seed,
        }
    }
}

fn cells(f: &Figures) -> Vec<String> {
    vec![
        format!("{}.{} / {}", f.links.0 / 10, f.links.0 % 10, f.links.1),
        f.idle.to_string(),
        (f.renewal / 1_000).to_string(),
        f.join.to_string(),
        (f.join_bytes / 1_000).to_string(),
        f.message.to_string(),
        f.leave.to_string(),
        f.crash.to_string(),
        (f.eviction.bytes / 1_000).to_string(),
        pause(&f.eviction),
        healed(&f.healing),
        f.false_downs.to_string(),
    ]
}

/// As a [`Spread`](figures::Spread) shows those who never knew.
fn pause(eviction: &Eviction) -> String {
    let missed = if eviction.missed == 0 { String::new() } else { format!(" ({} missed)", eviction.missed) };
    seconds(eviction.pause) + &missed
}

fn healed(healing: &Healing) -> String {
    let lost = if healing.lost == 0 { String::new() } else { format!(" ({} lost)", healing.lost) };
    healing.took.map_or_else(|| "never".to_owned(), seconds) + &lost
}

fn trial_cells(o: &Outcome) -> Vec<String> {
    let counts = [o.joined, o.refused, o.left, o.crashed, o.arrived, o.lost, o.repeated, o.misdirected, o.false_downs, o.unbounded];
    counts.iter().map(ToString::to_string).chain([o.astray, o.astray_throttled, o.unequal.0, o.unequal.1].map(seconds)).collect()
}
