//! A session as libp2p's muxer: its bidirectional streams are streams. Its datagrams are told of beside that.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use js_sys::{Array, Object, Reflect, Uint8Array};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::{PeerId, noise};
use send_wrapper::SendWrapper;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::super::webrtc::thrown;
use super::Hashes;
use super::api::{Reader, Session, Waiting, Writer, chunk, let_go, set};
use super::stream::Stream;
use crate::platform::links::datagrams::{Datagrams, Port};

/// Datagrams that the browser keeps for a page that is busy, and for a network that is, each way.
const HIGH_WATER: f64 = 64.0;
/// How long they are of use, in milliseconds.
const MAX_AGE: f64 = 250.0;

struct Inner {
    session: Session,
    incoming: Reader,
    arriving: Waiting,
    opening: Waiting,
    over: Rc<Cell<bool>>,
    /// The stream of the Noise handshake. Broken off, it might take the last message of that with it.
    handshake: Option<noise::Output<Stream>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let_go(self.incoming.cancel());
        self.session.close();
    }
}

/// A session; closed when dropped.
pub struct Connection(SendWrapper<Inner>);

impl Connection {
    /// Opens one to a server with one of these certificates, or with any that the browser trusts if there are none.
    pub(super) async fn open(url: &str, hashes: &Hashes) -> io::Result<Connection> {
        let options = Object::new();
        // Properties of a plain object can be set.
        let put = |object: &Object, name: &str, value: &JsValue| drop(Reflect::set(object, &JsValue::from_str(name), value));
        let list: Array = hashes
            .iter()
            .map(|hash| {
                let entry = Object::new();
                put(&entry, "algorithm", &JsValue::from_str("sha-256"));
                put(&entry, "value", &Uint8Array::from(hash.digest()));
                entry
            })
            .collect();
        if !hashes.is_empty() {
            put(&options, "serverCertificateHashes", &list);
        }
        let session = Session::new(url, &options).map_err(|e| thrown("no WebTransport here", &e))?;
        let over = Rc::new(Cell::new(false));
        let (closed, told) = (session.closed(), over.clone());
        spawn_local(async move {
            drop(JsFuture::from(closed).await);
            told.set(true);
        });
        let incoming = session.incoming().reader().map_err(|e| thrown("no streams", &e))?;
        let (arriving, opening) = (Waiting::default(), Waiting::default());
        let connection = Connection(SendWrapper::new(Inner { session, incoming, arriving, opening, over, handshake: None }));
        JsFuture::from(connection.0.session.ready()).await.map_err(|e| thrown("no WebTransport session", &e))?;
        Ok(connection)
    }

    /// Keeps the stream of the handshake for as long as the session.
    pub(super) fn keep(&mut self, handshake: noise::Output<Stream>) {
        self.0.handshake = Some(handshake);
    }

    pub(super) async fn stream(&mut self) -> io::Result<Stream> {
        std::future::poll_fn(|cx| self.poll_stream(cx)).await
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let Inner { session, opening, .. } = &mut *self.0;
        let opened = ready!(opening.poll(cx, || session.create()))?;
        Poll::Ready(Stream::new(&opened))
    }

    /// Datagrams to and from this node go over this session too.
    pub fn join(&self, peer: PeerId, datagrams: &Datagrams) {
        let duplex = self.0.session.datagrams();
        for name in ["incomingHighWaterMark", "outgoingHighWaterMark"] {
            set(&duplex, name, HIGH_WATER);
        }
        for name in ["incomingMaxAge", "outgoingMaxAge"] {
            set(&duplex, name, MAX_AGE);
        }
        let (Ok(writer), Ok(reader)) = (duplex.outgoing().writer(), duplex.readable().reader()) else { return };
        datagrams.add(peer, Box::new(Outgoing(SendWrapper::new((writer, self.0.over.clone())))));
        let all = datagrams.clone();
        spawn_local(async move {
            // Broken when the session ends.
            while let Ok(read) = JsFuture::from(reader.read()).await
                && let Some(bytes) = chunk(&read)
            {
                all.came(peer, Uint8Array::new(&bytes).to_vec());
            }
        });
    }
}

struct Outgoing(SendWrapper<(Writer, Rc<Cell<bool>>)>);

impl Port for Outgoing {
    fn send(&self, bytes: &[u8]) -> bool {
        let (writer, _) = &*self.0;
        let Some(room) = writer.desired_size().ok().flatten() else { return false };
        // Behind many that wait it would come late.
        if room > 0.0 {
            let_go(writer.write(&Uint8Array::from(bytes)));
        }
        true
    }

    fn is_open(&self) -> bool {
        !self.0.1.get()
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let Inner { incoming, arriving, .. } = &mut *self.0;
        let read = ready!(arriving.poll(cx, || incoming.read()))?;
        let stream = chunk(&read).ok_or(io::ErrorKind::ConnectionReset)?;
        Poll::Ready(Stream::new(&stream))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.poll_stream(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.session.close();
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}
