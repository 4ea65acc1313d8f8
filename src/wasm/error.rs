//! `PeerageError`: code, sentence, whether a retry can help, hint.

use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::base::Error;

#[derive(Serialize)]
struct Thrown<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
    hint: Option<&'a str>,
}

/// The plain object from which the facade makes a `PeerageError`.
pub(super) fn to_js(error: &Error) -> JsValue {
    let code = error.code();
    let thrown = Thrown { code: code.as_str(), message: error.message(), retryable: code.retryable(), hint: error.hint_text() };
    serde_wasm_bindgen::to_value(&thrown).unwrap_or_else(|e| e.into())
}
