//! `Domain`.

use core::time::Duration;

use serde::Deserialize;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::{
    channel::{ChannelCore, mode},
    error, from_js,
    link::{JsLink, JsStats},
    participant::{JsCapability, JsParticipant, JsQuery},
    to_js,
};
use crate::base::DomainId;
use crate::peer::InviteOptions;
use crate::runtime::handle::Node;

/// A domain that a node is in.
#[wasm_bindgen]
pub struct DomainCore {
    node: Node,
    id: DomainId,
}

impl DomainCore {
    pub(super) fn new(node: Node, id: DomainId) -> DomainCore {
        DomainCore { node, id }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsInviteOptions {
    uses: Option<u32>,
    /// Milliseconds since the Unix epoch.
    expires: Option<f64>,
    /// The page's address, before the `#`.
    base: String,
}

#[wasm_bindgen]
impl DomainCore {
    /// The domain's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// The name in its genesis.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn name(&self) -> Result<String, JsValue> {
        self.node.domain_name(self.id).map_err(|e| error::to_js(&e))
    }

    /// Who is in the directory.
    ///
    /// # Errors
    /// `bad-argument` for a malformed query, `closed` after leaving.
    pub fn participants(&self, query: JsValue) -> Result<JsValue, JsValue> {
        let query: JsQuery = if query.is_undefined() { JsQuery::default() } else { from_js(query)? };
        let found = self.node.participants(self.id, &query.into()).map_err(|e| error::to_js(&e))?;
        to_js(&found.into_iter().map(JsParticipant::from).collect::<Vec<_>>())
    }

    /// Replaces what this node offers.
    ///
    /// # Errors
    /// As [`Node::advertise`].
    pub fn advertise(&self, capabilities: JsValue) -> Result<(), JsValue> {
        let capabilities: Vec<JsCapability> = from_js(capabilities)?;
        let capabilities = capabilities.into_iter().map(Into::into).collect();
        self.node.advertise(self.id, capabilities).map_err(|e| error::to_js(&e))
    }

    /// Makes an invitation; the answer is its link.
    ///
    /// # Errors
    /// As [`Node::invite`].
    pub fn invite(&self, options: JsValue) -> Result<String, JsValue> {
        let options: JsInviteOptions = from_js(options)?;
        let mut wanted = InviteOptions::default();
        if let Some(uses) = options.uses {
            wanted.max_uses = uses;
        }
        if let Some(expires) = options.expires {
            // An invitation of the past is made, and refused as expired.
            wanted.lifetime = Duration::from_millis((expires - js_sys::Date::now()).max(0.0) as u64);
        }
        let link = self.node.invite(self.id, wanted).map_err(|e| error::to_js(&e))?;
        Ok(link.to_url(&options.base))
    }

    /// The link of the invitation this node came with, if it did.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn invitation(&self, base: &str) -> Result<Option<String>, JsValue> {
        let link = self.node.kept_invitation(self.id).map_err(|e| error::to_js(&e))?;
        Ok(link.map(|link| link.to_url(base)))
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// As [`Node::channel`]; `bad-argument` for an unknown mode.
    pub fn channel(&self, name: &str, mode_name: &str) -> Result<ChannelCore, JsValue> {
        let id = mode(mode_name).and_then(|mode| self.node.channel(self.id, name, mode)).map_err(|e| error::to_js(&e))?;
        Ok(ChannelCore::new(self.node.clone(), self.id, id))
    }

    /// The links to members.
    ///
    /// # Errors
    /// None that happen.
    pub fn links(&self) -> Result<JsValue, JsValue> {
        to_js(&self.node.links(Some(self.id)).into_iter().map(JsLink::from).collect::<Vec<_>>())
    }

    /// What was counted.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn stats(&self) -> Result<JsValue, JsValue> {
        to_js(&JsStats::from(self.node.stats(self.id).map_err(|e| error::to_js(&e))?))
    }

    /// Says goodbye and forgets the domain here.
    ///
    /// # Errors
    /// `closed` if that was done before.
    pub fn leave(&self) -> Result<(), JsValue> {
        self.node.leave(self.id).map_err(|e| error::to_js(&e))
    }
}
