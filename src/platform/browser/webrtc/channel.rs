//! A data channel. What is sent waits while the browser's own buffer is full.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use super::super::inbox::Inbox;
use super::thrown;

/// Bytes in the browser's send buffer at which writing waits.
const HIGH_WATER: u32 = 256 * 1024;
/// Bytes in it at which writing goes on.
const LOW_WATER: u32 = 128 * 1024;

struct Inner {
    channel: RtcDataChannel,
    inbox: Rc<Inbox>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _change: Closure<dyn FnMut(Event)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Before the closures go: the browser may still have events for them.
        self.channel.set_onmessage(None);
        self.channel.set_onopen(None);
        self.channel.set_onclose(None);
        self.channel.set_onerror(None);
        self.channel.set_onbufferedamountlow(None);
        // Sends what is buffered first.
        self.channel.close();
    }
}

/// A data channel; clones are the same one, and the last to go closes it.
#[derive(Clone)]
pub(super) struct DataChannel(SendWrapper<Rc<Inner>>);

impl DataChannel {
    /// Attaches to a channel. At once when it comes, or messages are lost.
    pub(super) fn new(channel: RtcDataChannel) -> DataChannel {
        let inbox = Rc::new(Inbox::default());
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(LOW_WATER);
        let own = inbox.clone();
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| own.put(&event));
        let own = inbox.clone();
        let change = Closure::<dyn FnMut(Event)>::new(move |_: Event| own.wakers.wake());
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        let on_change = Some(change.as_ref().unchecked_ref());
        channel.set_onopen(on_change);
        channel.set_onclose(on_change);
        channel.set_onerror(on_change);
        channel.set_onbufferedamountlow(on_change);
        DataChannel(SendWrapper::new(Rc::new(Inner { channel, inbox, _message: message, _change: change })))
    }

    /// Waits until the channel is open, or will never be.
    pub(super) async fn opened(&self) {
        self.past(RtcDataChannelState::Connecting).await;
    }

    /// Closes the channel and waits until the other side has, too.
    pub(super) async fn closed(&self) {
        self.0.channel.close();
        self.past(RtcDataChannelState::Closing).await;
    }

    async fn past(&self, state: RtcDataChannelState) {
        poll_fn(|cx| {
            if self.0.channel.ready_state() != state {
                return Poll::Ready(());
            }
            self.0.inbox.wakers.add(cx);
            Poll::Pending
        })
        .await;
    }

    /// The next message, in the order sent; `None` once the channel is closed and all were taken.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        let inbox = &self.0.inbox;
        inbox.check()?;
        if let Some(bytes) = inbox.take() {
            return Poll::Ready(Ok(Some(bytes)));
        }
        match self.0.channel.ready_state() {
            RtcDataChannelState::Closing | RtcDataChannelState::Closed => Poll::Ready(Ok(None)),
            _ => {
                inbox.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    /// Ready when the channel takes a message.
    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.0.inbox.check()?;
        let channel = &self.0.channel;
        match channel.ready_state() {
            RtcDataChannelState::Closing | RtcDataChannelState::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            RtcDataChannelState::Open if channel.buffered_amount() < HIGH_WATER => Poll::Ready(Ok(())),
            _ => {
                self.0.inbox.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    /// Sends a message, after [`DataChannel::poll_ready`].
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if self.0.channel.ready_state() != RtcDataChannelState::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.channel.send_with_u8_array(bytes).map_err(|e| thrown("the browser did not send", &e))
    }
}
