//! Layer 6: the JavaScript surface, one file per noun. It converts and decides nothing. The classes here are internal to the
//! npm package: the facade in `pkg/src` wraps them, and no application ever holds one.

mod channel;
mod data;
mod domain;
mod error;
mod event;
mod invite;
mod link;
mod node;
mod participant;
mod source;
mod task;

use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::base::{Code, Error};

/// Runs when the module is loaded. A panic is a bug that ends the node; without this the page hears only `unreachable` of it.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// A Rust value as plain JavaScript: maps as objects, absent values as `undefined`.
fn to_js<T: Serialize>(value: &T) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible().serialize_missing_as_null(false);
    value.serialize(&serializer).map_err(|e| error::to_js(&Error::new(Code::Malformed, e.to_string())))
}

/// A plain JavaScript value as Rust; what does not fit is a `bad-argument` naming the field.
fn from_js<T: DeserializeOwned>(value: JsValue) -> Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value).map_err(|e| error::to_js(&Error::new(Code::BadArgument, e.to_string())))
}

/// A task's id as text, 32 digits.
fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}
