//! Events, as plain objects with a `type`.

use serde::Serialize;

use super::link::path_name;
use crate::peer::{Change, Event};

/// The JavaScript form of an [`Event`]: `type` first, then what belongs to it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub(super) enum JsEvent {
    Participant {
        domain: String,
        id: String,
        change: &'static str,
    },
    Link {
        id: String,
        path: Option<&'static str>,
    },
    Degraded {
        domain: String,
        capability: String,
    },
    Restored {
        domain: String,
        capability: String,
    },
    /// A key of the shared state changed.
    State {
        domain: String,
        key: String,
    },
    Addresses {},
    Relay {
        address: String,
        up: bool,
    },
    Refused {
        id: String,
        code: &'static str,
        by_us: bool,
    },
    #[serde(rename = "directfailed")]
    DirectFailed {
        id: String,
        code: &'static str,
    },
    Unsaved {
        reason: String,
    },
    Approval {
        domain: String,
        id: String,
        name: String,
    },
    /// Told by the node: the domain is not there yet.
    Waiting {
        id: String,
    },
    Flagged {
        domain: String,
        id: String,
        why: &'static str,
    },
    Closed {
        domain: String,
    },
}

impl From<Event> for JsEvent {
    fn from(event: Event) -> JsEvent {
        match event {
            Event::Participant { domain, node, change } => {
                let change = match change {
                    Change::Joined => "joined",
                    Change::Updated => "updated",
                    Change::Down => "down",
                    Change::Left => "left",
                };
                JsEvent::Participant { domain: domain.to_string(), id: node.to_string(), change }
            }
            Event::Link { node, path } => JsEvent::Link { id: node.to_string(), path: path.map(path_name) },
            Event::Degraded { domain, capability } => JsEvent::Degraded { domain: domain.to_string(), capability },
            Event::Restored { domain, capability } => JsEvent::Restored { domain: domain.to_string(), capability },
            Event::State { domain, key } => JsEvent::State { domain: domain.to_string(), key },
            Event::Addresses => JsEvent::Addresses {},
            Event::Relay { address, up } => JsEvent::Relay { address, up },
            Event::Refused { node, code, by_us } => JsEvent::Refused { id: node.to_string(), code: code.as_str(), by_us },
            Event::DirectFailed { node, code } => JsEvent::DirectFailed { id: node.to_string(), code: code.as_str() },
            Event::Unsaved { reason } => JsEvent::Unsaved { reason },
            Event::Approval { domain, node, name } => JsEvent::Approval { domain: domain.to_string(), id: node.to_string(), name },
            Event::Waiting { domain } => JsEvent::Waiting { id: domain.to_string() },
            Event::Flagged { domain, node, why } => {
                JsEvent::Flagged { domain: domain.to_string(), id: node.to_string(), why: why.as_str() }
            }
            Event::Closed { domain } => JsEvent::Closed { domain: domain.to_string() },
        }
    }
}
