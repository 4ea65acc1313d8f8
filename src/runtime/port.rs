//! What a platform gives: clocks, entropy and links. Nothing else of the outside reaches the protocol.

use core::task::{Context, Poll};

use crate::base::Now;
use crate::peer::{LinkCommand, LinkEvent};

/// A source of links and time: native (tokio), browser, or a test.
pub trait Platform {
    /// Both clocks, now.
    fn now(&self) -> Now;

    /// Carries out a command; never blocks.
    fn command(&mut self, command: LinkCommand);

    /// The next thing that happened, or registers for a wake-up. `None`: the platform has stopped for good.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>>;
}
