//! `PeerageError`: code, sentence, whether a retry can help, hint.

use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::base::{Code, Error};

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

/// What a page's function threw: a `PeerageError`'s code and sentence, or of anything else what it says.
pub(super) fn thrown(value: &JsValue, otherwise: Code) -> Error {
    let text = |name: &str| Reflect::get(value, &name.into()).ok().and_then(|v| v.as_string());
    let code = text("code").and_then(|code| Code::named(&code)).unwrap_or(otherwise);
    Error::new(code, text("message").or_else(|| value.as_string()).unwrap_or_else(|| "something was thrown".to_owned()))
}
