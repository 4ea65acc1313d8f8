//! Dials over WebSocket (<https://websockets.spec.whatwg.org>). `libp2p-websocket-websys` 0.6 wakes nobody when a socket fails to open
//! or is closed: a relay that is not there held up a dial until its timeout, and one that died was noticed when next written to.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_timer::Delay;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{BinaryType, Event, MessageEvent, WebSocket};

use super::dial::{Dialling, Dials};
use super::inbox::Inbox;
use super::webrtc::thrown;
use crate::platform::links::address;

/// Bytes in the browser's send buffer at which writing waits.
const HIGH_WATER: u32 = 512 * 1024;
/// How soon a full send buffer is looked at again: a socket has no event for it.
const LOOK: Duration = Duration::from_millis(10);

/// The way.
pub(super) struct WebSockets;

impl Dials for WebSockets {
    type Output = SocketStream;

    fn dial(&self, address: &Multiaddr) -> Option<Dialling<Self::Output>> {
        let url = url(address)?;
        let dial = async move {
            let stream = SocketStream::new(&url)?;
            stream.opened().await.map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, format!("no WebSocket at {url}")))?;
            Ok(stream)
        };
        // There is one thread.
        Some(SendWrapper::new(dial).boxed())
    }
}

/// The URL of a WebSocket address; `None` if it is another one.
pub(super) fn url(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter().filter(|p| !matches!(p, Protocol::P2p(_)));
    let host = address::host(&parts.next()?)?;
    let Protocol::Tcp(port) = parts.next()? else { return None };
    let (scheme, path) = match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Ws(path), None, None) => ("ws", path),
        (Protocol::Wss(path), None, None) | (Protocol::Tls, Some(Protocol::Ws(path)), None) => ("wss", path),
        _ => return None,
    };
    Some(format!("{scheme}://{host}:{port}{path}"))
}

/// An open socket as a stream of bytes.
pub(super) struct SocketStream(SendWrapper<Inner>);

struct Inner {
    socket: WebSocket,
    inbox: Rc<Inbox>,
    /// What is left of the message that is being read.
    rest: Vec<u8>,
    read: usize,
    look: Option<Delay>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _change: Closure<dyn FnMut(Event)>,
}

impl SocketStream {
    fn new(url: &str) -> io::Result<SocketStream> {
        let socket = WebSocket::new(url).map_err(|e| thrown("no WebSocket", &e))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let inbox = Rc::new(Inbox::default());
        let own = inbox.clone();
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| own.put(&event));
        let own = inbox.clone();
        let change = Closure::<dyn FnMut(Event)>::new(move |_: Event| own.wakers.wake());
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        let on_change = Some(change.as_ref().unchecked_ref());
        socket.set_onopen(on_change);
        socket.set_onclose(on_change);
        socket.set_onerror(on_change);
        let inner = Inner { socket, inbox, rest: Vec::new(), read: 0, look: None, _message: message, _change: change };
        Ok(SocketStream(SendWrapper::new(inner)))
    }

    async fn opened(&self) -> io::Result<()> {
        poll_fn(|cx| self.0.poll_open(cx)).await
    }
}

impl Inner {
    fn poll_open(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match self.socket.ready_state() {
            WebSocket::OPEN => Poll::Ready(Ok(())),
            WebSocket::CONNECTING => {
                self.inbox.wakers.add(cx);
                Poll::Pending
            }
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0;
        inner.inbox.check()?;
        if inner.read == inner.rest.len() {
            match inner.inbox.take() {
                Some(bytes) => (inner.rest, inner.read) = (bytes, 0),
                // Closed: the end of the stream.
                None if matches!(inner.socket.ready_state(), WebSocket::CLOSING | WebSocket::CLOSED) => return Poll::Ready(Ok(0)),
                None => {
                    inner.inbox.wakers.add(cx);
                    return Poll::Pending;
                }
            }
        }
        let left = &inner.rest[inner.read..];
        let taken = left.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&left[..taken]);
        inner.read += taken;
        Poll::Ready(Ok(taken))
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0;
        inner.inbox.check()?;
        ready!(inner.poll_open(cx))?;
        loop {
            let room = HIGH_WATER.saturating_sub(inner.socket.buffered_amount()) as usize;
            if room > 0 {
                inner.look = None;
                let taken = bytes.len().min(room);
                inner.socket.send_with_u8_array(&bytes[..taken]).map_err(|e| thrown("the browser did not send", &e))?;
                return Poll::Ready(Ok(taken));
            }
            // A socket that closes does not empty its buffer.
            inner.inbox.wakers.add(cx);
            ready!(Pin::new(inner.look.get_or_insert_with(|| Delay::new(LOOK))).poll(cx));
            inner.look = None;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The browser sends what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The browser sends what it was given, and then shakes hands by itself: with somebody who is out of reach for a minute,
        // which nobody who wants another connection should wait for.
        Poll::Ready(self.0.socket.close().map_err(|e| thrown("the socket did not close", &e)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Before the closures go: the browser may still have events for them.
        self.socket.set_onmessage(None);
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        self.socket.set_onerror(None);
        // Sends what is buffered first. There is no status code that it could refuse.
        let _ = self.socket.close();
    }
}
