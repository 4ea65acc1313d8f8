//! `Node`.

use futures::future::{Either, select};
use js_sys::Promise;
use std::pin::pin;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use super::{domain::DomainCore, error, event::JsEvent, from_js, link::JsLink, participant::JsProfile, to_js};
use crate::base::{Code, Error};
use crate::platform::browser;
use crate::runtime::handle::Node;

/// A running node.
#[wasm_bindgen]
pub struct NodeCore(Node);

#[wasm_bindgen]
impl NodeCore {
    /// Starts a node with a fresh identity and keeps the relays given.
    ///
    /// # Errors
    /// `unsupported` without a secure random source, `bad-argument` for a relay address without `/p2p/<id>`.
    #[wasm_bindgen]
    pub fn start(relays: Vec<String>) -> Result<NodeCore, JsValue> {
        let node = browser::start().map_err(|e| error::to_js(&e))?;
        for relay in relays {
            if let Err(e) = node.use_relay(&relay) {
                node.close();
                return Err(error::to_js(&e));
            }
        }
        Ok(NodeCore(node))
    }

    /// The node's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Founds a domain.
    ///
    /// # Errors
    /// As [`Node::create_domain`].
    #[wasm_bindgen(js_name = createDomain)]
    pub fn create_domain(&self, name: &str, essential: Vec<String>, profile: JsValue) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let domain = self.0.create_domain(name, &essential, profile.into()).map_err(|e| error::to_js(&e))?;
        Ok(DomainCore::new(self.0.clone(), domain))
    }

    /// Joins a domain; settles early with `aborted` once `cancel` does.
    ///
    /// # Errors
    /// As [`Node::join`], and `aborted`.
    pub async fn join(&self, link: String, profile: JsValue, cancel: Promise) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let node = self.0.clone();
        let result = {
            let join = pin!(node.join(&link, profile.into()));
            match select(join, JsFuture::from(cancel)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::new(Code::Aborted, "the join was cancelled")),
            }
        };
        result.map(|domain| DomainCore::new(node, domain)).map_err(|e| error::to_js(&e))
    }

    /// The next event, or `undefined` once the node is closed. One consumer: the facade.
    ///
    /// # Errors
    /// None that happen: plain values always convert.
    #[wasm_bindgen(js_name = nextEvent)]
    pub async fn next_event(&self) -> Result<JsValue, JsValue> {
        match self.0.clone().next_event().await {
            Some(event) => to_js(&JsEvent::from(event)),
            None => Ok(JsValue::UNDEFINED),
        }
    }

    /// Connects to any libp2p node and waits for one round trip.
    ///
    /// # Errors
    /// As [`Node::dial`].
    pub async fn dial(&self, address: String) -> Result<JsValue, JsValue> {
        let link = self.0.clone().dial(&address).await.map_err(|e| error::to_js(&e))?;
        to_js(&JsLink::from(link))
    }

    /// All links of the node.
    ///
    /// # Errors
    /// None that happen.
    pub fn links(&self) -> Result<JsValue, JsValue> {
        to_js(&self.0.links(None).into_iter().map(JsLink::from).collect::<Vec<_>>())
    }

    /// Where others can dial this node now.
    pub fn addresses(&self) -> Vec<String> {
        self.0.addresses()
    }

    /// Leaves every domain and stops.
    pub fn close(&self) {
        self.0.close();
    }
}
