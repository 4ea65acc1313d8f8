//! A peer connection as libp2p's muxer: every data channel is a stream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use js_sys::Reflect;
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use send_wrapper::SendWrapper;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, RtcConfiguration, RtcDataChannelEvent, RtcPeerConnection, RtcPeerConnectionState};

use super::super::inbox::Wakers;
use super::channel::DataChannel;
use super::stream::{Kind, RtcStream};
use super::thrown;
use super::unreliable::Unreliable;
use crate::base::Code;
use crate::platform::links::datagrams::Datagrams;

/// Streams the remote opened that may wait to be taken; beyond, they are closed.
const INBOUND: usize = 256;
/// How long ICE may look for a lost path before the connection counts as dead.
const LOST: Duration = Duration::from_secs(5);
/// The channel that is there only for the offer to have a data section.
pub(super) const INIT: &str = "init";

#[derive(Default)]
struct Shared {
    inbound: RefCell<VecDeque<DataChannel>>,
    wakers: Wakers,
}

/// The browser's peer connection with its handlers; closed when dropped.
pub(super) struct Peer {
    pub(super) raw: RtcPeerConnection,
    shared: Rc<Shared>,
    _channel: Closure<dyn FnMut(RtcDataChannelEvent)>,
    change: Closure<dyn FnMut(Event)>,
    /// Between browsers.
    pub(super) unreliable: Option<Unreliable>,
}

impl Peer {
    /// A new one, not connected.
    pub(super) fn new(rtc: &RtcConfiguration) -> io::Result<Peer> {
        let raw = RtcPeerConnection::new_with_configuration(rtc).map_err(|e| thrown("no WebRTC here", &e))?;
        let shared = Rc::new(Shared::default());
        let own = shared.clone();
        let mut begun = false;
        let channel = Closure::<dyn FnMut(RtcDataChannelEvent)>::new(move |event: RtcDataChannelEvent| {
            let channel = event.channel();
            // Who offered closes it. Closed here, it could be closed before the other side saw it open, and js-libp2p waits for that.
            if channel.label() == INIT && !std::mem::replace(&mut begun, true) {
                return;
            }
            let mut inbound = own.inbound.borrow_mut();
            if inbound.len() >= INBOUND {
                return channel.close();
            }
            inbound.push_back(DataChannel::new(channel));
            drop(inbound);
            own.wakers.wake();
        });
        let own = shared.clone();
        let change = Closure::<dyn FnMut(Event)>::new(move |_: Event| own.wakers.wake());
        raw.set_ondatachannel(Some(channel.as_ref().unchecked_ref()));
        raw.set_onconnectionstatechange(Some(change.as_ref().unchecked_ref()));
        Ok(Peer { raw, shared, _channel: channel, change, unreliable: None })
    }

    /// Another one, with a channel for datagrams.
    pub(super) fn with_datagrams(rtc: &RtcConfiguration) -> io::Result<Peer> {
        let mut peer = Peer::new(rtc)?;
        peer.unreliable = Some(Unreliable::new(&peer.raw));
        Ok(peer)
    }

    /// Ready once connected, or once that cannot be hoped for.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match self.raw.connection_state() {
            RtcPeerConnectionState::Connected => Poll::Ready(Ok(())),
            RtcPeerConnectionState::Failed | RtcPeerConnectionState::Closed => Poll::Ready(Err(ice_failed("no path was found"))),
            _ => {
                self.shared.wakers.add(cx);
                Poll::Pending
            }
        }
    }

    /// Works until done or until the connection fails.
    pub(super) async fn while_alive<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            match self.poll_connected(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => {
                    self.shared.wakers.add(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The association below the data channels, once there is one. It ends as soon as the remote closes; the connection's own
    /// state takes many seconds to show it.
    fn association(&self) -> Option<JsValue> {
        Reflect::get(&self.raw, &JsValue::from_str("sctp")).ok().filter(JsValue::is_object)
    }

    fn watch_association(&self, handler: &JsValue) {
        if let Some(association) = self.association() {
            // Without it the connection's state still tells, later.
            let _ = Reflect::set(&association, &JsValue::from_str("onstatechange"), handler);
        }
    }

    fn is_over(&self) -> bool {
        let state = self.association().and_then(|a| Reflect::get(&a, &JsValue::from_str("state")).ok());
        matches!(self.raw.connection_state(), RtcPeerConnectionState::Failed | RtcPeerConnectionState::Closed)
            || state.and_then(|s| s.as_string()).is_some_and(|s| s == "closed")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.watch_association(&JsValue::NULL);
        self.raw.set_ondatachannel(None);
        self.raw.set_onconnectionstatechange(None);
        self.unreliable = None;
        self.raw.close();
    }
}

/// What the links look for in a dial error to tell [`Code::IceFailed`].
pub(super) fn ice_failed(reason: &str) -> io::Error {
    io::Error::other(format!("{}: {reason}", Code::IceFailed.as_str()))
}

/// A connected peer connection.
pub struct Connection {
    peer: SendWrapper<Peer>,
    kind: Kind,
    lost: Option<Delay>,
    /// A channel whose number is not to be used again.
    _kept: Option<DataChannel>,
}

impl Connection {
    pub(super) fn new(peer: Peer, kind: Kind, kept: Option<DataChannel>) -> Connection {
        peer.watch_association(peer.change.as_ref());
        Connection { peer: SendWrapper::new(peer), kind, lost: None, _kept: kept }
    }

    /// Datagrams to and from this node go over this connection too, if it has a channel for them.
    pub fn join(&self, peer: PeerId, datagrams: &Datagrams) {
        if let Some(unreliable) = &self.peer.unreliable {
            unreliable.join(peer, datagrams);
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.peer.is_over() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl StreamMuxer for Connection {
    type Substream = RtcStream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<RtcStream>> {
        let next = self.peer.shared.inbound.borrow_mut().pop_front();
        if let Some(channel) = next {
            return Poll::Ready(Ok(RtcStream::new(channel, self.kind)));
        }
        self.check()?;
        self.peer.shared.wakers.add(cx);
        Poll::Pending
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<RtcStream>> {
        self.check()?;
        let channel = DataChannel::new(self.peer.raw.create_data_channel(""));
        Poll::Ready(Ok(RtcStream::new(channel, self.kind)))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.peer.raw.close();
        self.peer.shared.wakers.wake();
        Poll::Ready(Ok(()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.check()?;
        self.peer.shared.wakers.add(cx);
        if self.peer.raw.connection_state() != RtcPeerConnectionState::Disconnected {
            self.lost = None;
            return Poll::Pending;
        }
        ready!(self.lost.get_or_insert_with(|| Delay::new(LOST)).poll_unpin(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
