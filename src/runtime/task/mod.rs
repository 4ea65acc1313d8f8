//! Tasks as participants use them: a demander asks for a capability, a supplier does the work, and what they exchange goes over a stream
//! between the two and nobody else.
//!
//! The domain manager pairs, if one is online; else, and if it fails, the demander pairs for itself, over its own copy of the directory,
//! with the same [ledger](crate::proto::task).

mod attempt;
mod audience;
mod demander;
mod flow;
mod job;
mod pairer;
mod shelf;
mod supplier;

use std::time::Duration;

use futures::future::{Either, select};
use futures_timer::Delay;

pub use attempt::Input;
pub use audience::{Audience, FOR, admits};
pub use demander::{Event, Order, Task, Tasks};
pub use job::{JobEvent, JobHandle, JobStep, TaskSpec};
pub use shelf::{Shelf, Spool};
pub use supplier::{Job, Supplier, Work};

use crate::proto::task::message::MESSAGE;
use crate::runtime::streams::{ByteStream, Frames};

/// A supplier that has nothing else to say says so often that it works.
const BEAT: Duration = Duration::from_secs(2);
/// So often the link that a task runs over is wanted anew, or it would be closed where a node is not linked with everybody; and so often
/// it is looked whether the other side was evicted.
const HOLD: Duration = Duration::from_secs(10);
/// Who says nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(10);
/// How long the other side may take to open a stream or to say the first thing on it.
const OPEN: Duration = Duration::from_secs(10);

fn framed(stream: Box<dyn ByteStream>) -> Frames {
    super::streams::framed(stream, MESSAGE)
}

/// What does not take too long.
async fn within<T>(time: Duration, what: impl Future<Output = T> + Unpin) -> Option<T> {
    match select(what, Delay::new(time)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
