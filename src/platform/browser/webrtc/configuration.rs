//! What connections from browser to browser are made with: what the page gave, and the relays as STUN servers, so that no third party
//! is asked.

use std::io;
use std::sync::{Mutex, PoisonError};

use js_sys::{Array, JSON, Object, Reflect};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::RtcConfiguration;

use super::thrown;
use crate::platform::links::address;

/// Servers named to a connection: browsers complain of many, and one answer is enough.
const SERVERS: usize = 2;

/// An `RTCConfiguration` that follows the relays in use.
pub struct Configuration {
    /// As JSON.
    given: String,
    /// Relay addresses and the STUN servers behind them.
    relays: Mutex<Vec<(String, String)>>,
}

impl Configuration {
    /// What the page gave, as JSON.
    pub fn new(given: &str) -> Configuration {
        Configuration { given: given.to_owned(), relays: Mutex::default() }
    }

    /// A relay is used from now on.
    pub fn add(&self, address: &str) {
        if let Some(url) = address.parse().ok().and_then(|a| stun(&a)) {
            let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
            relays.retain(|(known, _)| known != address);
            relays.push((address.to_owned(), url));
        }
    }

    /// A relay is not used any more.
    pub fn remove(&self, address: &str) {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != address);
    }

    /// For a connection that is made now. Servers that the page named are the only ones that are asked.
    pub(super) fn get(&self) -> io::Result<RtcConfiguration> {
        let given = JSON::parse(&self.given).map_err(|e| thrown("the WebRTC configuration is no JSON", &e))?;
        let servers = JsValue::from_str("iceServers");
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        if !Reflect::has(&given, &servers).unwrap_or(true) && !relays.is_empty() {
            let urls: Array = relays.iter().rev().take(SERVERS).map(|(_, url)| JsValue::from_str(url)).collect();
            let server = Object::new();
            // Properties of a plain object can be set.
            let _ = Reflect::set(&server, &JsValue::from_str("urls"), &urls);
            let _ = Reflect::set(&given, &servers, &Array::of1(&server));
        }
        Ok(given.unchecked_into())
    }
}

/// Where a relay answers STUN: on the UDP port of its WebTransport.
fn stun(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let host = address::host(&parts.next()?)?;
    match (parts.next()?, parts.next()?, parts.next()?) {
        (Protocol::Udp(port), Protocol::QuicV1, Protocol::WebTransport) => Some(format!("stun:{host}:{port}")),
        _ => None,
    }
}
