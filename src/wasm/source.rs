//! Bytes from a page, one part after the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, FutureExt};
use js_sys::{Promise, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use super::error;
use crate::base::Code;

#[wasm_bindgen]
extern "C" {
    /// Where bytes come from: `next()` gives a `Uint8Array` that is not empty, or `undefined` at the end.
    pub type JsSource;

    #[wasm_bindgen(method)]
    fn next(this: &JsSource) -> Promise;
}

/// A source as a stream of bytes.
pub(super) struct Source {
    from: SendWrapper<JsSource>,
    waiting: Option<SendWrapper<JsFuture>>,
    rest: Vec<u8>,
    taken: usize,
}

impl From<JsSource> for Source {
    fn from(source: JsSource) -> Source {
        Source { from: SendWrapper::new(source), waiting: None, rest: Vec::new(), taken: 0 }
    }
}

impl AsyncRead for Source {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.taken == self.rest.len() {
            let this = &mut *self;
            let waiting = this.waiting.get_or_insert_with(|| SendWrapper::new(this.from.next().into()));
            let next = ready!(waiting.poll_unpin(cx));
            this.waiting = None;
            let next = next.map_err(|e| io::Error::other(error::thrown(&e, Code::Storage)))?;
            this.rest = next.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec).unwrap_or_default();
            this.taken = 0;
        }
        let n = out.len().min(self.rest.len() - self.taken);
        out[..n].copy_from_slice(&self.rest[self.taken..self.taken + n]);
        self.taken += n;
        Poll::Ready(Ok(n))
    }
}
