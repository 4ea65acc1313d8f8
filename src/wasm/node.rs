//! `Node`.

use futures::future::{Either, select};
use js_sys::Promise;
use serde::Serialize;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use zeroize::Zeroizing;

use super::{
    data::DataCore, domain::DomainCore, error, event::JsEvent, from_js, link::JsLink, participant::JsProfile, task::Exchange, to_js,
};
use crate::base::{Code, DomainId, Error};
use crate::crypto::Role;
use crate::peer::SavedDomain;
use crate::platform::browser::{self, BrowserStore, JsStore, Started};
use crate::platform::links::streams::LinkStreams;
use crate::runtime::{data::DomainData, handle::Node, keeper::Keeper};

/// A running node.
#[wasm_bindgen]
pub struct NodeCore {
    node: Node,
    keeper: Keeper<BrowserStore>,
    store: BrowserStore,
    streams: Arc<LinkStreams>,
    exchange: Rc<Exchange>,
}

/// A domain in the store.
#[derive(Serialize)]
struct JsStored {
    id: String,
    /// Absent if its records cannot be read.
    name: Option<String>,
}

#[wasm_bindgen]
impl NodeCore {
    /// Starts a node with the identity in the store, or a new one, and keeps the relays given. The store's records are sealed
    /// under `key`, 32 bytes. `rtc`: an `RTCConfiguration` as JSON.
    ///
    /// # Errors
    /// `unsupported` without a secure random source, `bad-argument` for a relay address without `/p2p/<id>`, `storage`.
    #[wasm_bindgen]
    pub async fn start(relays: Vec<String>, store: JsStore, key: Vec<u8>, rtc: String) -> Result<NodeCore, JsValue> {
        let key = Zeroizing::new(key);
        let key = <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new);
        let key = key.map_err(|_| error::to_js(&Error::new(Code::BadArgument, "the store's key has 32 bytes")))?;
        let started = browser::start(store, key, &rtc).await.map_err(|e| error::to_js(&e))?;
        let Started { node, keeper, store, streams } = started;
        for relay in relays {
            if let Err(e) = node.use_relay(&relay) {
                node.close();
                return Err(error::to_js(&e));
            }
        }
        let exchange = Rc::new(Exchange::new(node.clone(), &streams));
        Ok(NodeCore { node, keeper, store, streams: Arc::new(streams), exchange })
    }

    /// The node's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.node.id().to_string()
    }

    /// Founds a domain.
    ///
    /// # Errors
    /// As [`Node::create_domain`].
    #[wasm_bindgen(js_name = createDomain)]
    pub fn create_domain(&self, name: &str, essential: Vec<String>, profile: JsValue) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let domain = self.node.create_domain(name, &essential, profile.into()).map_err(|e| error::to_js(&e))?;
        Ok(DomainCore::new(self.exchange.clone(), domain))
    }

    /// Joins a domain; settles early with `aborted` once `cancel` does.
    ///
    /// # Errors
    /// As [`Node::join`], and `aborted`.
    pub async fn join(&self, link: String, profile: JsValue, cancel: Promise) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let (exchange, keeper) = (self.exchange.clone(), self.keeper.clone());
        let result = {
            let join = pin!(keeper.join(&link, profile.into()));
            match select(join, JsFuture::from(cancel)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::new(Code::Aborted, "the join was cancelled")),
            }
        };
        result.map(|domain| DomainCore::new(exchange, domain)).map_err(|e| error::to_js(&e))
    }

    /// Opens a stored domain again.
    ///
    /// # Errors
    /// As [`Keeper::reopen`]; `bad-id`.
    pub async fn reopen(&self, id: String, profile: JsValue) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let (exchange, keeper) = (self.exchange.clone(), self.keeper.clone());
        let id = parse(&id)?;
        keeper.reopen(id, Role::Participant, profile.into()).await.map_err(|e| error::to_js(&e))?;
        Ok(DomainCore::new(exchange, id))
    }

    /// Opens a domain from a backup that was unsealed, and stores it.
    ///
    /// # Errors
    /// As [`Keeper::restore`].
    pub async fn restore(&self, bundle: Vec<u8>, profile: JsValue) -> Result<DomainCore, JsValue> {
        let profile: JsProfile = from_js(profile)?;
        let (exchange, keeper, bundle) = (self.exchange.clone(), self.keeper.clone(), Zeroizing::new(bundle));
        let saved = SavedDomain::from_bundle(&bundle).map_err(|e| error::to_js(&e))?;
        let id = keeper.restore(&saved, profile.into()).await.map_err(|e| error::to_js(&e))?;
        Ok(DomainCore::new(exchange, id))
    }

    /// The data of a domain that this node is in.
    ///
    /// # Errors
    /// `storage`, `bad-id`.
    pub async fn data(&self, id: String) -> Result<DataCore, JsValue> {
        let (node, streams, store) = (self.node.clone(), self.streams.clone(), self.store.clone());
        let data = DomainData::open(node, parse(&id)?, streams, store).await.map_err(|e| error::to_js(&e))?;
        Ok(DataCore::new(data))
    }

    /// The domains in the store.
    ///
    /// # Errors
    /// `storage`.
    pub async fn domains(&self) -> Result<JsValue, JsValue> {
        let keeper = self.keeper.clone();
        let mut stored = Vec::new();
        for id in keeper.domains().await.map_err(|e| error::to_js(&e))? {
            let name = keeper.load(id).await.ok().flatten().and_then(|saved| saved.name());
            stored.push(JsStored { id: id.to_string(), name });
        }
        to_js(&stored)
    }

    /// Leaves a domain if this node is in it, and deletes it from the store.
    ///
    /// # Errors
    /// `storage`, `bad-id`.
    pub async fn forget(&self, id: String) -> Result<(), JsValue> {
        let keeper = self.keeper.clone();
        keeper.forget(parse(&id)?).await.map_err(|e| error::to_js(&e))
    }

    /// Stores everything that has changed until now.
    ///
    /// # Errors
    /// `storage`.
    pub async fn flush(&self) -> Result<(), JsValue> {
        let keeper = self.keeper.clone();
        keeper.flush().await.map_err(|e| error::to_js(&e))
    }

    /// The next event, or `undefined` once the node is closed. One consumer: the facade.
    ///
    /// # Errors
    /// None that happen: plain values always convert.
    #[wasm_bindgen(js_name = nextEvent)]
    pub async fn next_event(&self) -> Result<JsValue, JsValue> {
        match self.node.clone().next_event().await {
            Some(event) => to_js(&JsEvent::from(event)),
            None => Ok(JsValue::UNDEFINED),
        }
    }

    /// Connects to any libp2p node and waits for one round trip.
    ///
    /// # Errors
    /// As [`Node::dial`].
    pub async fn dial(&self, address: String) -> Result<JsValue, JsValue> {
        let link = self.node.clone().dial(&address).await.map_err(|e| error::to_js(&e))?;
        to_js(&JsLink::from(link))
    }

    /// All links of the node.
    ///
    /// # Errors
    /// None that happen.
    pub fn links(&self) -> Result<JsValue, JsValue> {
        to_js(&self.node.links(None).into_iter().map(JsLink::from).collect::<Vec<_>>())
    }

    /// The relays that this node uses or would use.
    pub fn relays(&self) -> Vec<String> {
        self.node.relays()
    }

    /// Where others can dial this node now.
    pub fn addresses(&self) -> Vec<String> {
        self.node.addresses()
    }

    /// Says in every domain that this node goes to sleep, or is awake again.
    pub fn suspend(&self, suspended: bool) {
        self.node.suspend(suspended);
    }

    /// The network changed: links are probed, whoever is missing is dialled.
    pub fn wake(&self) {
        self.node.wake();
    }

    /// Leaves every domain and stops.
    pub fn close(&self) {
        self.node.close();
    }
}

fn parse(id: &str) -> Result<DomainId, JsValue> {
    id.parse().map_err(|e| error::to_js(&e))
}
