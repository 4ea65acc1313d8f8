//! What arrives from the browser and was not read yet. A browser has no way to stop a remote that sends, so it is queued up to a bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Waker};

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::JsCast;
use web_sys::MessageEvent;

/// Received bytes that may wait to be read; beyond, the stream fails.
const INBOUND: usize = 16 * 1024 * 1024;
/// What a message costs beside its bytes.
const MESSAGE: usize = 64;

/// Everybody who waits for something to change.
#[derive(Default)]
pub(super) struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// Wakes this task once as well.
    pub(super) fn add(&self, cx: &Context<'_>) {
        let mut all = self.0.borrow_mut();
        if !all.iter().any(|w| w.will_wake(cx.waker())) {
            all.push(cx.waker().clone());
        }
    }

    /// Something changed.
    pub(super) fn wake(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }
}

/// What the event handlers of a data channel or socket and its stream share.
#[derive(Default)]
pub(super) struct Inbox {
    queue: RefCell<VecDeque<Vec<u8>>>,
    queued: Cell<usize>,
    failed: Cell<Option<&'static str>>,
    /// Those who wait for a message or another state.
    pub(super) wakers: Wakers,
}

impl Inbox {
    /// Queues a message.
    pub(super) fn put(&self, event: &MessageEvent) {
        self.queue(event);
        self.wakers.wake();
    }

    fn queue(&self, event: &MessageEvent) {
        let Ok(buffer) = event.data().dyn_into::<ArrayBuffer>() else {
            return self.failed.set(Some("a message that is not binary"));
        };
        let bytes = Uint8Array::new(&buffer).to_vec();
        let queued = self.queued.get() + bytes.len() + MESSAGE;
        if queued > INBOUND {
            self.queue.borrow_mut().clear();
            return self.failed.set(Some("more arrived than was read"));
        }
        if !bytes.is_empty() && self.failed.get().is_none() {
            self.queued.set(queued);
            self.queue.borrow_mut().push_back(bytes);
        }
    }

    /// The oldest message.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let bytes = self.queue.borrow_mut().pop_front()?;
        self.queued.set(self.queued.get() - bytes.len() - MESSAGE);
        Some(bytes)
    }

    /// Fails if too much arrived, or what no libp2p node sends.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.failed.get() {
            Some(reason) => Err(io::Error::new(io::ErrorKind::ConnectionReset, reason)),
            None => Ok(()),
        }
    }
}
