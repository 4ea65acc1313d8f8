//! WebRTC in a browser: data channels as streams, a peer connection as a muxer, and the two ways to get one. `direct` dials a
//! native node, `private` another browser, signalled through a relay.

mod channel;
pub(super) mod configuration;
mod connection;
pub(super) mod direct;
mod exchange;
pub(super) mod private;
pub(super) mod signaling;
mod stream;
mod unreliable;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures_timer::Delay;
use js_sys::{Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit};

use crate::platform::links;
use stream::Kind;

/// How long a connection may take from the first message to the last.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Room for the framing in a message, bytes.
const FRAMING: usize = 192;
/// Streams to a native node.
const DIRECT: Kind = Kind { most: links::RTC_DIRECT_MESSAGE - FRAMING, acknowledge: false };
/// Streams to a browser: messages of the 16 KiB that every implementation takes.
const PRIVATE: Kind = Kind { most: 16 * 1024 - FRAMING, acknowledge: true };

/// Does this scope have WebRTC? Workers have not, in most browsers.
pub(super) fn is_available() -> bool {
    Reflect::has(&js_sys::global(), &JsValue::from_str("RTCPeerConnection")).unwrap_or(false)
}

/// What JavaScript threw, as an error.
pub(super) fn thrown(what: &str, value: &JsValue) -> io::Error {
    let text = value.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{value:?}"), |e| String::from(e.message()));
    io::Error::other(format!("{what}: {text}"))
}

async fn within<T>(limit: Duration, late: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match select(pin!(work), Delay::new(limit)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, late.to_owned())),
    }
}

async fn settled(what: &str, promise: Promise) -> io::Result<JsValue> {
    JsFuture::from(promise).await.map_err(|e| thrown(what, &e))
}

/// The SDP text of what `createOffer` or `createAnswer` promises.
async fn described(promise: Promise) -> io::Result<String> {
    let made = settled("no session description", promise).await?;
    Reflect::get(&made, &JsValue::from_str("sdp"))
        .ok()
        .and_then(|sdp| sdp.as_string())
        .ok_or_else(|| io::Error::other("a session description without text"))
}

async fn set_local(connection: &RtcPeerConnection, kind: RtcSdpType, sdp: &str) -> io::Result<()> {
    settled("the local description was refused", connection.set_local_description(&description(kind, sdp))).await.map(drop)
}

async fn set_remote(connection: &RtcPeerConnection, kind: RtcSdpType, sdp: &str) -> io::Result<()> {
    settled("the remote description was refused", connection.set_remote_description(&description(kind, sdp))).await.map(drop)
}

fn description(kind: RtcSdpType, sdp: &str) -> RtcSessionDescriptionInit {
    let made = RtcSessionDescriptionInit::new(kind);
    made.set_sdp(sdp);
    made
}
