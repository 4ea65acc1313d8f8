//! What is used of the browser's interface, which `web-sys` still calls unstable.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use js_sys::{Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::super::webrtc::thrown;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = WebTransport)]
    pub(super) type Session;
    #[wasm_bindgen(constructor, catch, js_class = WebTransport)]
    pub(super) fn new(url: &str, options: &Object) -> Result<Session, JsValue>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn ready(this: &Session) -> Promise;
    #[wasm_bindgen(method, getter)]
    pub(super) fn closed(this: &Session) -> Promise;
    #[wasm_bindgen(method)]
    pub(super) fn close(this: &Session);
    #[wasm_bindgen(method, js_name = createBidirectionalStream)]
    pub(super) fn create(this: &Session) -> Promise;
    #[wasm_bindgen(method, getter, js_name = incomingBidirectionalStreams)]
    pub(super) fn incoming(this: &Session) -> Readable;
    #[wasm_bindgen(method, getter)]
    pub(super) fn datagrams(this: &Session) -> Duplex;

    /// A bidirectional stream, or the datagrams of a session.
    pub(super) type Duplex;
    #[wasm_bindgen(method, getter)]
    pub(super) fn readable(this: &Duplex) -> Readable;
    #[wasm_bindgen(method, getter)]
    pub(super) fn writable(this: &Duplex) -> Writable;
    /// What has taken the place of [`writable`] for datagrams.
    #[wasm_bindgen(method, js_name = createWritable)]
    pub(super) fn create_writable(this: &Duplex) -> Writable;

    pub(super) type Readable;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    pub(super) fn reader(this: &Readable) -> Result<Reader, JsValue>;
    pub(super) type Writable;
    #[wasm_bindgen(method, catch, js_name = getWriter)]
    pub(super) fn writer(this: &Writable) -> Result<Writer, JsValue>;

    pub(super) type Reader;
    #[wasm_bindgen(method)]
    pub(super) fn read(this: &Reader) -> Promise;
    #[wasm_bindgen(method)]
    pub(super) fn cancel(this: &Reader) -> Promise;
    pub(super) type Writer;
    #[wasm_bindgen(method, getter)]
    pub(super) fn ready(this: &Writer) -> Promise;
    #[wasm_bindgen(method, getter, catch, js_name = desiredSize)]
    pub(super) fn desired_size(this: &Writer) -> Result<Option<f64>, JsValue>;
    #[wasm_bindgen(method)]
    pub(super) fn write(this: &Writer, bytes: &Uint8Array) -> Promise;
    #[wasm_bindgen(method)]
    pub(super) fn close(this: &Writer) -> Promise;
}

/// A promise that is waited for by polling.
#[derive(Default)]
pub(super) struct Waiting(Option<JsFuture>);

impl Waiting {
    /// Polls what was begun, or begins it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, begin: impl FnOnce() -> Promise) -> Poll<io::Result<JsValue>> {
        let future = self.0.get_or_insert_with(|| JsFuture::from(begin()));
        let result = ready!(Pin::new(future).poll(cx));
        self.0 = None;
        Poll::Ready(result.map_err(|e| thrown("WebTransport", &e)))
    }

    pub(super) fn is_begun(&self) -> bool {
        self.0.is_some()
    }
}

/// What a reader read; `None` at the end.
pub(super) fn chunk(result: &JsValue) -> Option<JsValue> {
    let get = |name: &str| Reflect::get(result, &JsValue::from_str(name)).ok();
    let done = get("done").is_some_and(|done| done.is_truthy());
    get("value").filter(|value| !done && !value.is_undefined())
}

/// Lets a promise go its way: that it is broken is shown elsewhere, or to nobody.
pub(super) fn let_go(promise: Promise) {
    spawn_local(async move { drop(JsFuture::from(promise).await) });
}

/// Sets a property of an object that has it in this browser.
pub(super) fn set(object: &JsValue, name: &str, value: f64) {
    let name = JsValue::from_str(name);
    if Reflect::has(object, &name).unwrap_or(false) {
        // Another value than the one wanted does no harm.
        let _ = Reflect::set(object, &name, &JsValue::from_f64(value));
    }
}

impl Duplex {
    /// Where datagrams are written.
    pub(super) fn outgoing(&self) -> Writable {
        let this: &JsValue = self.unchecked_ref();
        if Reflect::has(this, &JsValue::from_str("createWritable")).unwrap_or(false) { self.create_writable() } else { self.writable() }
    }
}
