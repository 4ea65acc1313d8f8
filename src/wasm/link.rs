//! `Link` and `Stats`.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::peer::{LinkInfo, Path, Stats};

/// How a path is called in JavaScript.
pub(super) const fn path_name(path: Path) -> &'static str {
    match path {
        Path::Relayed => "relayed",
        Path::Direct => "direct",
    }
}

/// The JavaScript form of a [`LinkInfo`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JsLink {
    peer: String,
    path: &'static str,
    rtt_ms: Option<f64>,
    sent: f64,
    received: f64,
    address: String,
    datagrams: bool,
}

impl From<LinkInfo> for JsLink {
    fn from(link: LinkInfo) -> JsLink {
        JsLink {
            peer: link.node.to_string(),
            path: link.path.map_or("connecting", path_name),
            rtt_ms: link.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            sent: link.sent as f64,
            received: link.received as f64,
            address: link.address,
            datagrams: link.datagrams,
        }
    }
}

/// The JavaScript form of [`Stats`].
#[derive(Serialize)]
pub(super) struct JsStats {
    sealed: f64,
    opened: f64,
    rejected: BTreeMap<String, f64>,
    members: f64,
    linked: f64,
    datagrams: f64,
    statements: f64,
    epochs: f64,
}

impl From<Stats> for JsStats {
    fn from(stats: Stats) -> JsStats {
        JsStats {
            sealed: stats.sealed as f64,
            opened: stats.opened as f64,
            rejected: stats.rejected.into_iter().map(|(reject, count)| (format!("{reject:?}").to_lowercase(), count as f64)).collect(),
            members: stats.members as f64,
            linked: stats.linked as f64,
            datagrams: stats.datagrams as f64,
            statements: stats.statements as f64,
            epochs: stats.epochs as f64,
        }
    }
}
