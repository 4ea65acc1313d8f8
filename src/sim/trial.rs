//! A domain in which participants come and go while everybody talks and writes, some do harm, some are slow, one is evicted every other
//! minute and, in the middle of it, the network is divided for a while: what ought to hold all the time is looked at every second, and what
//! does not is counted. `peerage sim --churn` prints the counts, the tests want them to be zero.

mod evict;
mod look;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::time::Duration;

use super::{Conditions, Town};
use crate::base::{Code, NodeId, Rng};
use crate::peer::To;
use crate::proto::channel::SendId;
use evict::Guests;
use look::Looks;

/// Milliseconds between two looks.
const TICK: u64 = 1_000;
/// A participant who does not stay to the end stays so many milliseconds, at least and at most.
const SESSION: (u64, u64) = (60_000, 600_000);
/// Messages to one that are sent each tick.
const TO_ONE: usize = 3;
/// Ticks between two messages to all.
const TO_ALL: u64 = 5;
/// Ticks between two writes into the shared state, and how many keys are written in turn.
const WRITE: u64 = 10;
const KEYS: u64 = 20;
/// For how many ticks the network is divided, half and half.
const APART: u64 = 30;
/// After so many milliseconds a message that was taken has arrived: those whose timers run once a minute send again that late.
const PATIENCE: u64 = 180_000;
/// Who is in for so many milliseconds is known to all, and gets what is for all.
const SETTLED: u64 = 30_000;
/// How far wall clocks are off, in milliseconds.
const SKEW: u64 = 120_000;

/// A trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Participants at any time.
    pub nodes: usize,
    /// Frames lost, in percent, on both lanes.
    pub loss: u8,
    /// One way between two nodes, from and to.
    pub latency: (Duration, Duration),
    /// Participants of a hundred whose timers run once a minute, as a hidden tab's do.
    pub throttled: usize,
    /// Participants of a hundred that do [harm](super::Byzantine).
    pub byzantine: usize,
    /// Whether half of the others come and go, in sessions of one to ten minutes; every second one ends in a crash.
    pub churn: bool,
    /// How long it lasts.
    pub time: Duration,
    /// Everything follows from it.
    pub seed: u64,
}

/// What came out. Only what honest participants did and saw counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many joined.
    pub joined: usize,
    /// How many could not.
    pub refused: usize,
    /// How many said goodbye.
    pub left: usize,
    /// How many crashed.
    pub crashed: usize,
    /// Messages that were due to somebody who was there, and arrived.
    pub arrived: usize,
    /// Messages that were taken and did not arrive, though both ends stayed.
    pub lost: usize,
    /// Messages that arrived twice, or, to one, before an earlier one.
    pub repeated: usize,
    /// Messages that somebody opened for whom they were not, such as one evicted before, or the manager; or that nobody sent.
    pub misdirected: usize,
    /// How often somebody who was there was taken for down.
    pub false_downs: usize,
    /// The longest that somebody saw one as there who was not, or not one who was, in milliseconds; by those whose timers run.
    pub astray: u64,
    /// The same by those whose timers run once a minute.
    pub astray_throttled: u64,
    /// The longest that two copies, of the shared state or of the membership, were not the same, in milliseconds; of those whose timers run,
    /// and of the others.
    pub unequal: (u64, u64),
    /// How often a participant held more than it may of something.
    pub unbounded: usize,
    /// What that was first.
    pub heavy: Option<&'static str>,
    /// How many were evicted, and stayed.
    pub evicted: usize,
    /// Frames that were given to those who were evicted and to the manager, who must not read them.
    pub overheard: usize,
}

struct Resident {
    since: u64,
    until: Option<u64>,
    throttled: bool,
}

struct Spoken {
    from: NodeId,
    to: Option<NodeId>,
    at: u64,
    /// The network was divided, or not yet as it was before: only those on the same side have to get it, if it is for all.
    apart: bool,
    heard: BTreeSet<NodeId>,
}

struct Trial {
    plan: Plan,
    rng: Rng,
    town: Town,
    residents: BTreeMap<NodeId, Resident>,
    byzantine: BTreeSet<NodeId>,
    joining: Vec<NodeId>,
    /// When somebody ceased to be there, and how.
    gone: BTreeMap<NodeId, (u64, &'static str)>,
    spoken: BTreeMap<u64, Spoken>,
    /// Sends that were not settled yet.
    sends: BTreeMap<(NodeId, SendId), u64>,
    /// Of whom who heard last.
    last: BTreeMap<(NodeId, NodeId), u64>,
    looks: Looks,
    guests: Guests,
    /// When the network is divided, from and to, and who is on the other side.
    apart: (u64, u64),
    away: BTreeSet<NodeId>,
    count: u64,
    outcome: Outcome,
    /// What was noticed since the last look that ought not to be, in words.
    amiss: Vec<String>,
}

/// Carries out a trial. `told` hears what is being done, `amiss` each thing that ought not to happen, with when and whom.
///
/// # Errors
/// The code if one of the first participants could not join.
///
/// # Panics
/// As [`Town`] does.
pub fn run(plan: Plan, told: &mut dyn FnMut(&str), amiss: &mut dyn FnMut(&str)) -> Result<Outcome, Code> {
    let good = Conditions { latency: plan.latency, keep_alive: Duration::from_secs(60), ..Conditions::default() };
    told("they join");
    let mut town = Town::new(plan.seed, good);
    while town.participants.len() < plan.nodes {
        town.crowd((plan.nodes - town.participants.len()).min(50))?;
    }
    town.agree(Duration::from_secs(120));
    town.world.run(Duration::from_secs(60));
    town.world.net().set_conditions(Conditions { loss: (plan.loss, plan.loss), ..good });

    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&plan.seed.to_be_bytes());
    let mut trial = Trial {
        plan,
        rng: Rng::from_seed(bytes),
        residents: BTreeMap::new(),
        byzantine: BTreeSet::new(),
        joining: Vec::new(),
        gone: BTreeMap::new(),
        spoken: BTreeMap::new(),
        sends: BTreeMap::new(),
        last: BTreeMap::new(),
        looks: Looks::default(),
        guests: Guests::default(),
        apart: (0, 0),
        away: BTreeSet::new(),
        count: 0,
        outcome: Outcome::default(),
        amiss: Vec::new(),
        town,
    };
    trial.cast_parts();
    let (start, length) = (trial.town.world.now(), u64::try_from(plan.time.as_millis()).unwrap_or(u64::MAX));
    let middle = start + length / 2 / TICK * TICK;
    trial.apart = (middle - APART / 2 * TICK, middle + APART / 2 * TICK);
    for tick in 0..length / TICK {
        if tick % 60 == 0 {
            told(&format!("minute {} of {}", tick / 60, length / 60_000));
        }
        trial.divide();
        trial.come_and_go();
        trial.have_guests(tick);
        trial.talk(tick);
        trial.town.world.run(Duration::from_millis(start + (tick + 1) * TICK - trial.town.world.now()));
        trial.look();
        trial.amiss.drain(..).for_each(|what| amiss(&format!("second {}: {what}", tick + 1)));
    }
    told("what is under way arrives");
    for _ in 0..PATIENCE / TICK {
        trial.town.world.run(Duration::from_millis(TICK));
        trial.look();
        trial.amiss.drain(..).for_each(|what| amiss(&what));
    }
    Ok(trial.outcome)
}

impl Trial {
    /// Decides who does harm, who is slow and who stays.
    fn cast_parts(&mut self) {
        let (now, domain) = (self.town.world.now(), self.town.domain);
        let share = |percent: usize| self.plan.nodes * percent / 100;
        let (byzantine, throttled) = (share(self.plan.byzantine), share(self.plan.throttled));
        // The first one is none of them: it holds nothing the others do not, but somebody has to be honest.
        for (i, node) in self.town.participants.clone().into_iter().enumerate() {
            if (1..=byzantine).contains(&i) {
                let rng = self.rng.fork("byzantine");
                self.town.world.act(node, |m, now| m.corrupt(now, domain, rng));
                self.byzantine.insert(node);
                continue;
            }
            let throttled = (1..=throttled).contains(&i.saturating_sub(byzantine));
            if throttled {
                self.town.world.throttle(node, Duration::from_secs(60));
            }
            let until = (self.plan.churn && i % 2 == 1).then(|| self.session(now));
            self.residents.insert(node, Resident { since: now, until, throttled });
            self.town.world.outputs(node);
        }
    }

    /// Divides the network when it is time, and ends that.
    fn divide(&mut self) {
        let now = self.town.world.now();
        if now == self.apart.0 {
            self.away = self.town.participants[self.town.participants.len() / 2..].iter().copied().collect();
            self.town.world.net().partition(self.away.iter().map(|n| (*n, 1)).collect());
        } else if now == self.apart.1 {
            self.town.world.net().heal();
        }
    }

    /// Whether two are on different sides of a division that lasts, or ended less than `since` milliseconds ago.
    fn parted(&self, a: &NodeId, b: &NodeId, since: u64) -> bool {
        let now = self.town.world.now();
        (self.apart.0..self.apart.1 + since).contains(&now) && self.away.contains(a) != self.away.contains(b)
    }

    fn session(&mut self, now: u64) -> u64 {
        now + SESSION.0 + self.rng.below(SESSION.1 - SESSION.0)
    }

    fn come_and_go(&mut self) {
        let (now, domain) = (self.town.world.now(), self.town.domain);
        let over: Vec<NodeId> = self.residents.iter().filter(|(_, r)| r.until.is_some_and(|at| at <= now)).map(|(n, _)| *n).collect();
        for node in over {
            self.residents.remove(&node);
            self.town.participants.retain(|n| *n != node);
            let crashes = self.rng.below(2) == 0;
            self.gone.insert(node, (now, if crashes { "crashed" } else { "left" }));
            if crashes {
                self.outcome.crashed += 1;
                self.town.world.vanish(node);
            } else {
                self.outcome.left += 1;
                // Whoever is in may leave.
                let _ = self.town.world.act(node, |m, now| m.leave(now, domain));
            }
            let skew = self.rng.below(2 * SKEW) as i64 - SKEW as i64;
            let link = self.town.link.clone();
            match self.town.set_out(&link, skew) {
                Ok(node) => self.joining.push(node),
                Err(_) => self.outcome.refused += 1,
            }
        }
    }

    fn talk(&mut self, tick: u64) {
        let now = self.town.world.now();
        let here: Vec<NodeId> = self.residents.iter().filter(|(_, r)| r.since + SETTLED <= now).map(|(n, _)| *n).collect();
        let pick = |rng: &mut Rng| here.get(rng.below(here.len().max(1) as u64) as usize).copied();
        for _ in 0..TO_ONE {
            if let (Some(from), Some(to)) = (pick(&mut self.rng), pick(&mut self.rng))
                && from != to
            {
                self.say(from, Some(to));
            }
        }
        if tick.is_multiple_of(TO_ALL)
            && let Some(from) = pick(&mut self.rng)
        {
            self.say(from, None);
        }
        if tick.is_multiple_of(WRITE)
            && let Some(writer) = pick(&mut self.rng)
        {
            let (domain, key, value) = (self.town.domain, format!("key {}", tick / WRITE % KEYS), tick.to_be_bytes().to_vec());
            // Participants may write, and there is room.
            let _ = self.town.world.act(writer, |p, now| p.write_state(now, domain, &key, Some(value)));
        }
    }

    fn say(&mut self, from: NodeId, to: Option<NodeId>) {
        self.count += 1;
        let whom = to.map_or(To::All, |to| To::Some(Vec::from([to])));
        // Not sent: to somebody who is taken for gone.
        if let Ok(id) = self.town.try_say(from, whom, &self.count.to_string()) {
            let at = self.town.world.now();
            let apart = at + SETTLED >= self.apart.0 && at < self.apart.1 + SETTLED;
            self.spoken.insert(self.count, Spoken { from, to, at, apart, heard: BTreeSet::new() });
            self.sends.insert((from, id), self.count);
        }
    }
}
