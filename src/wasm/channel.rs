//! `Channel`.

use js_sys::Uint8Array;
use serde::Serialize;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::{error, to_js};
use crate::base::{Code, DomainId, Error, NodeId};
use crate::peer::To;
use crate::proto::channel::{ChannelId, Message, Mode};
use crate::runtime::handle::Node;

/// A channel opened by a node.
#[wasm_bindgen]
pub struct ChannelCore {
    node: Node,
    domain: DomainId,
    id: ChannelId,
}

/// The mode of this name.
pub(super) fn mode(name: &str) -> Result<Mode, Error> {
    match name {
        "reliable" => Ok(Mode::Reliable),
        "latest" => Ok(Mode::Latest),
        "datagram" => Ok(Mode::Datagram),
        _ => Err(Error::new(Code::BadArgument, "a channel's mode is reliable, latest or datagram")),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    from: String,
    sent_at: f64,
    key: Option<String>,
}

fn message_to_js(message: &Message) -> Result<JsValue, JsValue> {
    let head = Head { from: message.from.to_string(), sent_at: message.sent_at.0 as f64, key: message.key.clone() };
    let object = to_js(&head)?;
    js_sys::Reflect::set(&object, &"payload".into(), &Uint8Array::from(message.payload.as_slice()))?;
    Ok(object)
}

fn recipients(to: Option<Vec<String>>) -> Result<To, JsValue> {
    let Some(ids) = to else { return Ok(To::All) };
    let ids: Result<Vec<NodeId>, Error> = ids.iter().map(|id| id.parse()).collect();
    ids.map(To::Some).map_err(|e| error::to_js(&e))
}

impl ChannelCore {
    pub(super) fn new(node: Node, domain: DomainId, id: ChannelId) -> ChannelCore {
        ChannelCore { node, domain, id }
    }
}

#[wasm_bindgen]
impl ChannelCore {
    /// Sends and waits for credit.
    ///
    /// # Errors
    /// As [`Node::send`].
    pub async fn send(&self, payload: Vec<u8>, to: Option<Vec<String>>, key: Option<String>) -> Result<(), JsValue> {
        let to = recipients(to)?;
        let (node, domain, id) = (self.node.clone(), self.domain, self.id);
        node.send(domain, id, to, payload, key).await.map_err(|e| error::to_js(&e))
    }

    /// Sends what can be sent now; `false` tells that it was dropped for a recipient.
    ///
    /// # Errors
    /// As [`Node::post`].
    pub fn post(&self, payload: Vec<u8>, to: Option<Vec<String>>, key: Option<String>) -> Result<bool, JsValue> {
        self.node.post(self.domain, self.id, recipients(to)?, payload, key).map_err(|e| error::to_js(&e))
    }

    /// The next message, or `undefined` once the channel is closed.
    ///
    /// # Errors
    /// None that happen.
    pub async fn receive(&self) -> Result<JsValue, JsValue> {
        let (node, domain, id) = (self.node.clone(), self.domain, self.id);
        node.receive(domain, id).await.map_or(Ok(JsValue::UNDEFINED), |message| message_to_js(&message))
    }

    /// The next message if one is there, else `undefined`.
    ///
    /// # Errors
    /// None that happen.
    #[wasm_bindgen(js_name = tryReceive)]
    pub fn try_receive(&self) -> Result<JsValue, JsValue> {
        self.node.try_receive(self.domain, self.id).map_or(Ok(JsValue::UNDEFINED), |message| message_to_js(&message))
    }

    /// Closes the channel.
    pub fn close(&self) {
        self.node.close_channel(self.domain, self.id);
    }
}
