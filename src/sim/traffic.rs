//! Bytes by what they are for, so that what one event costs can be told from what goes on anyway.

use core::ops::Sub;

use crate::peer::Topic;
use crate::wire::frame::{self, Kind};

/// Bytes of frames that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The tree of the control class: records and statements.
    pub news: u64,
    /// What applications say.
    pub talk: u64,
    /// Everything else.
    pub rest: u64,
}

impl Traffic {
    /// Counts one frame, by the kind and topic that it shows.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        let topic = match frame::decode(bytes) {
            // After the pair tag.
            Ok(frame) if frame.kind == Kind::Sealed => {
                frame.body.get(8..10).and_then(|t| Topic::parse(u16::from_be_bytes([t[0], t[1]])).ok())
            }
            _ => None,
        };
        let class = match topic {
            Some(Topic::News) => &mut self.news,
            Some(Topic::Casts | Topic::Channels | Topic::State) => &mut self.talk,
            _ => &mut self.rest,
        };
        *class += bytes.len() as u64;
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    fn sub(self, before: Traffic) -> Traffic {
        Traffic { news: self.news - before.news, talk: self.talk - before.talk, rest: self.rest - before.rest }
    }
}
