//! The managers that follow one, and how far they are: what is acknowledged is on their disks too, while they keep up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::base::NodeId;
use crate::proto::objects::PutId;

/// A follower that lacks something for so long, and does not come nearer to having it, is not waited for until it has everything.
const PATIENCE: Duration = Duration::from_secs(15);

/// One that follows.
struct Follower {
    /// On which stream: an earlier one may end later.
    stream: u64,
    /// Up to where it has the versions.
    at: u64,
    /// And chunks of puts under way.
    puts: BTreeMap<PutId, u64>,
    /// Whether it has had everything once.
    caught_up: bool,
    /// Since when it has lacked something without having come nearer to it.
    behind: Option<Instant>,
}

impl Follower {
    fn keeps_up(&self, patience: Duration) -> bool {
        self.caught_up && self.behind.is_none_or(|since| since.elapsed() < patience)
    }
}

/// Those that follow a manager.
pub struct Followers {
    all: Mutex<BTreeMap<NodeId, Follower>>,
    streams: Mutex<u64>,
    patience: Duration,
    /// One of them asked, or is gone.
    acknowledged: watch::Sender<()>,
}

/// A stream on which one follows. It is no follower any more when this is dropped.
pub struct Following {
    followers: Arc<Followers>,
    node: NodeId,
    stream: u64,
}

impl Default for Followers {
    fn default() -> Followers {
        Followers { all: Mutex::default(), streams: Mutex::default(), patience: PATIENCE, acknowledged: watch::Sender::new(()) }
    }
}

impl Following {
    /// It asks for what it does not have, as it says: it has versions up to one, and so many chunks of puts under way; `everything` if nothing is
    /// missing.
    pub fn asks(&self, at: u64, puts: BTreeMap<PutId, u64>, everything: bool) {
        let mut all = self.followers.all();
        let former = all.get(&self.node);
        let caught_up = everything || former.is_some_and(|f| f.keeps_up(self.followers.patience));
        let nearer = former.is_none_or(|f| at > f.at || puts.iter().any(|(put, n)| f.puts.get(put).is_none_or(|before| n > before)));
        let since = former.and_then(|f| f.behind).filter(|_| !nearer).unwrap_or_else(Instant::now);
        let behind = (!everything).then_some(since);
        all.insert(self.node, Follower { stream: self.stream, at, puts, caught_up, behind });
        drop(all);
        self.followers.acknowledged.send_replace(());
    }

    /// It was told of something that it does not have.
    pub fn is_told(&self) {
        if let Some(follower) = self.followers.all().get_mut(&self.node).filter(|f| f.stream == self.stream) {
            follower.behind.get_or_insert_with(Instant::now);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut all = self.followers.all();
        if all.get(&self.node).is_some_and(|f| f.stream == self.stream) {
            all.remove(&self.node);
        }
        drop(all);
        self.followers.acknowledged.send_replace(());
    }
}

impl Followers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, Follower>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One follows on a new stream.
    #[must_use]
    pub fn follow(self: &Arc<Self>, node: NodeId) -> Following {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        *streams += 1;
        Following { followers: Arc::clone(self), node, stream: *streams }
    }

    /// Changes whenever one of them has more.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<()> {
        self.acknowledged.subscribe()
    }

    /// Those that keep up.
    #[must_use]
    pub fn keeping_up(&self) -> Vec<NodeId> {
        self.all().iter().filter(|(_, f)| f.keeps_up(self.patience)).map(|(node, _)| *node).collect()
    }

    /// How many chunks of a put are on disk here and on those that keep up, if it is so many here.
    #[must_use]
    pub fn certain(&self, put: &PutId, here: u64) -> u64 {
        let there = |f: &Follower| f.puts.get(put).copied().unwrap_or_default();
        self.all().values().filter(|f| f.keeps_up(self.patience)).map(there).min().unwrap_or(here).min(here)
    }

    /// Waits until all that keep up have the versions up to one.
    pub async fn have(&self, at: u64) {
        let mut acknowledged = self.acknowledged();
        while self.all().values().any(|f| f.keeps_up(self.patience) && f.at < at) {
            // Looked at now and then too: whether one keeps up is also a matter of time.
            let _ = timeout(Duration::from_secs(1), acknowledged.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_comes_no_nearer_is_not_waited_for_and_an_old_stream_takes_nobody_away() {
        let (followers, node) =
            (Arc::new(Followers { patience: Duration::from_millis(300), ..Followers::default() }), NodeId::from_public_key([1; 32]));
        let put = [7; 32];
        let one = followers.follow(node);
        one.asks(5, BTreeMap::new(), false);
        followers.have(9).await;
        assert!(followers.keeping_up().is_empty(), "it has not had everything yet");
        one.asks(9, BTreeMap::new(), true);
        assert_eq!((followers.keeping_up(), followers.certain(&put, 128)), (vec![node], 0));

        // A second stream, before the first one's end is noticed.
        let two = followers.follow(node);
        two.asks(9, BTreeMap::from([(put, 128)]), true);
        one.is_told();
        drop(one);
        assert_eq!((followers.keeping_up(), followers.certain(&put, 256)), (vec![node], 128));

        // It asks again and again, and has no more for it.
        two.is_told();
        while !followers.keeping_up().is_empty() {
            two.asks(9, BTreeMap::from([(put, 128)]), false);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        followers.have(10).await;
        assert_eq!((followers.keeping_up(), followers.certain(&put, 256)), (vec![], 256));
        // With a little more it is still none that has everything.
        two.asks(10, BTreeMap::from([(put, 256)]), false);
        assert!(followers.keeping_up().is_empty());
        two.asks(11, BTreeMap::new(), true);
        assert_eq!(followers.keeping_up(), [node]);
        drop(two);
        assert!(followers.keeping_up().is_empty());
    }
}
