//! Time as a value. Nothing below the platform reads a clock: the driver hands a [`Now`] to every call.

use core::time::Duration;

/// Milliseconds on a clock that never goes back. Its zero is arbitrary: compare only values of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Milliseconds since the Unix epoch, as the machine's wall clock tells. It may jump, and other machines disagree with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and intervals.
    pub mono: Mono,
    /// For dates in signed statements and records.
    pub wall: Wall,
}

impl Mono {
    /// The moment `d` later, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(millis(d)))
    }

    /// The time since `earlier`, zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// The moment `d` later, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Wall {
        Wall(self.0.saturating_add(millis(d)))
    }

    /// The moment `d` earlier, saturating at the epoch.
    #[must_use]
    pub fn before(self, d: Duration) -> Wall {
        Wall(self.0.saturating_sub(millis(d)))
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
