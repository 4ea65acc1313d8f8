//! The managers that follow one, and how far they are: what is acknowledged is on their disks too, while they keep up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::base::NodeId;
use crate::proto::objects::PutId;

/// A follower that has been told of something and does not ask further for so long is not waited for until it has caught up.
const PATIENCE: Duration = Duration::from_secs(15);

/// One that follows.
struct Follower {
    /// Up to where it has the versions.
    at: u64,
    /// And chunks of puts under way.
    puts: BTreeMap<PutId, u64>,
    /// Whether it has had everything once.
    caught_up: bool,
    /// Since when it has been busy with what it was told.
    busy: Option<Instant>,
}

impl Follower {
    fn keeps_up(&self) -> bool {
        self.caught_up && self.busy.is_none_or(|since| since.elapsed() < PATIENCE)
    }
}

/// Those that follow a manager.
pub struct Followers {
    all: Mutex<BTreeMap<NodeId, Follower>>,
    /// One of them asked, or is gone.
    acknowledged: watch::Sender<()>,
}

impl Default for Followers {
    fn default() -> Followers {
        Followers { all: Mutex::default(), acknowledged: watch::Sender::new(()) }
    }
}

impl Followers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Follower>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever one of them has more.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<()> {
        self.acknowledged.subscribe()
    }

    /// One asks for what it does not have; `everything` if that is nothing.
    pub fn asked(&self, node: NodeId, at: u64, puts: BTreeMap<PutId, u64>, everything: bool) {
        let mut all = self.all();
        let caught_up = everything || all.get(&node).is_some_and(Follower::keeps_up);
        all.insert(node, Follower { at, puts, caught_up, busy: None });
        drop(all);
        self.acknowledged.send_replace(());
    }

    /// It was answered.
    pub fn told(&self, node: NodeId) {
        if let Some(follower) = self.all().get_mut(&node) {
            follower.busy = Some(Instant::now());
        }
    }

    /// It follows no more.
    pub fn gone(&self, node: NodeId) {
        self.all().remove(&node);
        self.acknowledged.send_replace(());
    }

    /// Those that keep up.
    #[must_use]
    pub fn keeping_up(&self) -> Vec<NodeId> {
        self.all().iter().filter(|(_, f)| f.keeps_up()).map(|(node, _)| *node).collect()
    }

    /// How many chunks of a put are on disk here and on those that keep up, if it is so many here.
    #[must_use]
    pub fn certain(&self, put: &PutId, here: u64) -> u64 {
        let there = |f: &Follower| f.puts.get(put).copied().unwrap_or_default();
        self.all().values().filter(|f| f.keeps_up()).map(there).min().unwrap_or(here).min(here)
    }

    /// Waits until all that keep up have the versions up to one.
    pub async fn have(&self, at: u64) {
        let mut acknowledged = self.acknowledged();
        while self.all().values().any(|f| f.keeps_up() && f.at < at) {
            // Looked at now and then too: whether one keeps up is also a matter of time.
            let _ = timeout(Duration::from_secs(1), acknowledged.changed()).await;
        }
    }
}
