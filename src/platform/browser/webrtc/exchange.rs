//! The talk on a `/webrtc-signaling/0.0.1` stream: an offer, an answer, and candidates both ways until the browsers are
//! connected (libp2p specifications, `webrtc/webrtc.md`).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use asynchronous_codec::{Bytes, BytesMut, Framed};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};
use futures_timer::Delay;
use js_sys::JSON;
use unsigned_varint::codec::UviBytes;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{RtcIceCandidateInit, RtcIceGatheringState, RtcPeerConnection, RtcPeerConnectionIceEvent, RtcSdpType};

use super::channel::DataChannel;
use super::configuration::Configuration;
use super::connection::{Connection, INIT, Peer, ice_failed};
use super::{PRIVATE, TIMEOUT, described, set_local, set_remote, settled, within};
use crate::platform::message::{self, invalid};

/// The longest message, bytes.
const MESSAGE: usize = 16 * 1024;
/// Candidates taken from the remote and told to it.
const CANDIDATES: usize = 128;
/// How long the other side may take to close a channel or stream that has served.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long candidates are waited for that have to go along with a description, and how often they are looked for.
const GATHER: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

const OFFER: u64 = 0;
const ANSWER: u64 = 1;
const CANDIDATE: u64 = 2;

/// Where messages go and come from.
pub(super) enum Wire {
    /// A stream to the other side: candidates go as they are found.
    Stream(Framed<libp2p::Stream, UviBytes<Bytes>>),
    /// Somebody carries one description there, with its candidates, and one back.
    Carried {
        /// Has a description carried.
        say: Box<dyn Fn(&str)>,
        /// The other side's.
        heard: oneshot::Receiver<String>,
    },
}

impl Wire {
    pub(super) fn stream(stream: libp2p::Stream) -> Wire {
        let mut codec = UviBytes::default();
        codec.set_max_len(MESSAGE);
        Wire::Stream(Framed::new(stream, codec))
    }

    /// Sets and sends the local description.
    async fn describe(&mut self, raw: &RtcPeerConnection, kind: RtcSdpType, sdp: &str) -> io::Result<()> {
        set_local(raw, kind, sdp).await?;
        match self {
            Wire::Stream(stream) => stream.send(message(if kind == RtcSdpType::Offer { OFFER } else { ANSWER }, sdp)).await,
            Wire::Carried { say, .. } => {
                say(&gathered(raw).await?);
                Ok(())
            }
        }
    }

    async fn expect(&mut self, wanted: u64) -> io::Result<String> {
        match self {
            Wire::Stream(stream) => {
                let bytes = stream.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
                let (kind, data) = parse(&bytes)?;
                if kind == wanted { Ok(data.to_owned()) } else { Err(invalid("a message out of turn")) }
            }
            Wire::Carried { heard, .. } => heard.await.map_err(io::Error::other),
        }
    }

    /// The next message with a candidate; `None` when there are no more.
    fn poll_candidate(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self {
            Wire::Stream(stream) => stream.poll_next_unpin(cx).map(|next| next.and_then(Result::ok).map(BytesMut::freeze)),
            Wire::Carried { .. } => Poll::Ready(None),
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self {
            Wire::Stream(stream) => stream.close().await,
            Wire::Carried { .. } => Ok(()),
        }
    }
}

/// Offers a connection.
pub(super) async fn offer(mut wire: Wire, rtc: Arc<Configuration>) -> io::Result<Connection> {
    let peer = Peer::with_datagrams(&rtc.get()?)?;
    let init = DataChannel::new(peer.raw.create_data_channel(INIT));
    let mut own = Candidates::of(&peer.raw);
    let talk = async {
        let sdp = described(peer.raw.create_offer()).await?;
        wire.describe(&peer.raw, RtcSdpType::Offer, &sdp).await?;
        let answer = wire.expect(ANSWER).await?;
        set_remote(&peer.raw, RtcSdpType::Answer, &answer).await
    };
    within(TIMEOUT, "no answer to the offer", talk).await?;
    within_ice(connect(&peer, &mut own, &mut wire)).await?;
    drop(own);
    // Closed on both sides before the connection is used, else its number could be given out again too early.
    init.opened().await;
    drop(within(FAREWELL, "", init.closed().map(Ok)).await);
    drop(within(FAREWELL, "", wire.close()).await);
    Ok(Connection::new(peer, PRIVATE, None))
}

/// Answers an offer.
pub(super) async fn answer(mut wire: Wire, rtc: Arc<Configuration>) -> io::Result<Connection> {
    let offer = within(TIMEOUT, "no offer came", wire.expect(OFFER)).await?;
    let peer = Peer::with_datagrams(&rtc.get()?)?;
    let mut own = Candidates::of(&peer.raw);
    set_remote(&peer.raw, RtcSdpType::Offer, &offer).await?;
    let sdp = described(peer.raw.create_answer()).await?;
    let talk = async {
        wire.describe(&peer.raw, RtcSdpType::Answer, &sdp).await?;
        connect(&peer, &mut own, &mut wire).await
    };
    within_ice(talk).await?;
    drop(own);
    drop(within(FAREWELL, "", wire.close()).await);
    Ok(Connection::new(peer, PRIVATE, None))
}

/// The local description once the browser found its candidates, or those it found in time.
async fn gathered(raw: &RtcPeerConnection) -> io::Result<String> {
    let complete = async {
        while raw.ice_gathering_state() != RtcIceGatheringState::Complete {
            Delay::new(LOOK).await;
        }
        Ok(())
    };
    drop(within(GATHER, "", complete).await);
    raw.local_description().map(|d| d.sdp()).ok_or_else(|| io::Error::other("no local description"))
}

async fn within_ice(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    within(TIMEOUT, "", work)
        .await
        .map_err(|e| if e.kind() == io::ErrorKind::TimedOut { ice_failed("no path was found in time") } else { e })
}

enum Step {
    Done(io::Result<()>),
    Own(String),
    Theirs(Bytes),
    Silent,
}

/// Exchanges candidates until the browsers are connected. The stream may end before: they may know enough by then.
async fn connect(peer: &Peer, own: &mut Candidates, wire: &mut Wire) -> io::Result<()> {
    let mut listening = true;
    let mut taken = 0;
    loop {
        let step = poll_fn(|cx| {
            if let Poll::Ready(result) = peer.poll_connected(cx) {
                return Poll::Ready(Step::Done(result));
            }
            if let Poll::Ready(Some(text)) = own.found.poll_next_unpin(cx) {
                return Poll::Ready(Step::Own(text));
            }
            if !listening {
                return Poll::Pending;
            }
            wire.poll_candidate(cx).map(|next| next.map_or(Step::Silent, Step::Theirs))
        })
        .await;
        match step {
            Step::Done(result) => return result,
            Step::Own(text) => {
                if let Wire::Stream(stream) = wire {
                    listening &= stream.send(message(CANDIDATE, &text)).await.is_ok();
                }
            }
            Step::Theirs(bytes) => {
                let (kind, data) = parse(&bytes)?;
                if kind != CANDIDATE {
                    return Err(invalid("a message that is no candidate"));
                }
                taken += 1;
                if taken <= CANDIDATES {
                    add(&peer.raw, data).await;
                }
            }
            Step::Silent => listening = false,
        }
    }
}

// Candidates.

/// The browser's own candidates as it finds them; detached when dropped.
struct Candidates {
    raw: RtcPeerConnection,
    found: mpsc::UnboundedReceiver<String>,
    _closure: Closure<dyn FnMut(RtcPeerConnectionIceEvent)>,
}

impl Candidates {
    fn of(raw: &RtcPeerConnection) -> Candidates {
        let (tell, found) = mpsc::unbounded();
        let mut count = 0;
        let closure = Closure::<dyn FnMut(RtcPeerConnectionIceEvent)>::new(move |event: RtcPeerConnectionIceEvent| {
            // None and an empty one say that there are no more, which needs no telling.
            if let Some(found) = event.candidate().filter(|c| !c.candidate().is_empty())
                && count < CANDIDATES
            {
                count += 1;
                if let Ok(text) = JSON::stringify(&found.to_json()) {
                    // Nobody listens once connected.
                    drop(tell.unbounded_send(text.into()));
                }
            }
        });
        raw.set_onicecandidate(Some(closure.as_ref().unchecked_ref()));
        Candidates { raw: raw.clone(), found, _closure: closure }
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        self.raw.set_onicecandidate(None);
    }
}

/// Gives a remote candidate to the browser. One that it cannot use does no harm.
async fn add(raw: &RtcPeerConnection, text: &str) {
    // What is no object is an empty text, `null` or `""`: the end of the candidates.
    let Some(theirs) = JSON::parse(text).ok().filter(JsValue::is_object) else { return };
    let init: &RtcIceCandidateInit = theirs.unchecked_ref();
    if let Err(error) = settled("candidate", raw.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(init))).await {
        tracing::debug!(%error, "not taken");
    }
}

// Messages.

fn message(kind: u64, data: &str) -> Bytes {
    message::write(Some(kind), Some(data.as_bytes())).into()
}

/// Kind and data.
fn parse(bytes: &[u8]) -> io::Result<(u64, &str)> {
    let (kind, data) = message::read(bytes)?;
    let data = std::str::from_utf8(&bytes[data]).map_err(|_| invalid("data that is no text"))?;
    Ok((kind.unwrap_or(OFFER), data))
}
