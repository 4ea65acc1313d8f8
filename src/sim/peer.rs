//! The composite [`Peer`] as a machine that the world drives.

use super::{Effect, Machine};
use crate::base::{Mono, Now};
use crate::peer::{LinkEvent, Output, Peer};

impl Machine for Peer {
    type Output = Output;

    fn handle(&mut self, now: Now, event: LinkEvent) {
        Peer::handle(self, now, event);
    }

    fn on_timeout(&mut self, now: Now) {
        Peer::on_timeout(self, now);
    }

    fn poll_output(&mut self) -> Option<Effect<Output>> {
        Some(match Peer::poll_output(self)? {
            Output::Link(command) => Effect::Link(command),
            output => Effect::Output(output),
        })
    }

    fn next_timeout(&self) -> Option<Mono> {
        Peer::next_timeout(self)
    }
}
