//! Between domains: how a node that knows only a domain's id finds one of its members through nodes that must not learn the id.
//!
//! Members leave a [`Record`] under rotating place tags at their relays ([`Locator`]); a seeker's sealed [`DomainRequest`]
//! ([`Seeker`]) is handed to one of them by the relay ([`Registry`]), and the answer comes back the same way.
//! `docs/protocol.md` section 8.

pub mod advert;
mod locator;
pub mod msg;
pub mod record;
mod registry;
pub mod sealed;
mod seeker;
#[cfg(test)]
mod tests;

pub use advert::NodeAdvert;
pub use locator::{Ask, Locator};
pub use msg::{DomainRequest, DomainResponse, Msg, RequestId, Status};
pub use record::Record;
pub use registry::Registry;
pub use sealed::{ANSWER_BODY, Answer, RequestKind};
pub use seeker::{Seek, Seeker};

use alloc::vec::Vec;

use crate::base::{DomainId, NodeId, Now, Reject};

/// Stands for "no domain" under the signatures of things between domains.
const NOWHERE: DomainId = DomainId::from_bytes([0; 32]);

/// A relay's side, which is the [`Registry`], whose methods these are.
pub trait Relay: Send {
    /// As [`Registry::handle`].
    ///
    /// # Errors
    /// The same.
    fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject>;
    /// As [`Registry::disconnected`].
    fn disconnected(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>);
    /// As [`Registry::on_timeout`].
    fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>);
}

impl Relay for Registry {
    fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject> {
        self.handle(now, from, msg, out)
    }
    fn disconnected(&mut self, now: Now, node: NodeId, out: &mut Vec<Effect>) {
        self.disconnected(now, node, out);
    }
    fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.on_timeout(now, out);
    }
}

/// One message to one neighbour: the only effect the machines here share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whom.
    pub to: NodeId,
    /// What.
    pub msg: Msg,
}
