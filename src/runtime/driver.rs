//! The event loop: takes what the platform reports to the [`Peer`](crate::peer::Peer), what the peer asks for to the
//! platform, and wakes whoever waits on the handle. One future, on tokio or in a browser.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt as _;
use futures_timer::Delay;

use super::{handle::Shared, port::Platform};
use crate::base::Mono;

/// How many link events are handled before others on the same executor get a turn.
const BATCH: usize = 64;

/// Runs a node. Ends when the node was closed and its last frames were written, or when the platform stopped.
#[must_use = "a node does nothing until its driver runs"]
pub struct Driver<P> {
    shared: Arc<Shared>,
    platform: P,
    timer: Delay,
    /// What `timer` is set to.
    due: Option<Mono>,
}

impl<P: Platform + Unpin> Driver<P> {
    pub(crate) fn new(shared: Arc<Shared>, platform: P) -> Driver<P> {
        Driver { shared, platform, timer: Delay::new(Duration::from_secs(3600)), due: None }
    }
}

impl<P: Platform + Unpin> Future for Driver<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.shared.register_driver(cx.waker());
        for _ in 0..BATCH {
            let now = this.platform.now();
            let mut inner = this.shared.lock();
            inner.now = now;
            if inner.peer.next_timeout().is_some_and(|due| due <= now.mono) {
                inner.peer.on_timeout(now);
            }
            while let Some(command) = inner.distribute() {
                this.platform.command(command);
            }
            if inner.closed {
                return Poll::Ready(());
            }
            let next = inner.peer.next_timeout();
            drop(inner);
            match this.platform.poll_event(cx) {
                Poll::Ready(Some(event)) => this.shared.lock().peer.handle(this.platform.now(), event),
                Poll::Ready(None) => {
                    this.shared.lock().close();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    if this.due != next {
                        this.due = next;
                        this.timer.reset(next.map_or(Duration::from_secs(3600), |due| due.since(now.mono)));
                    }
                    if this.timer.poll_unpin(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.due = None;
                    this.timer.reset(Duration::from_secs(3600));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
