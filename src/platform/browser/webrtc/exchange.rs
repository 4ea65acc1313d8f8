//! The talk on a `/webrtc-signaling/0.0.1` stream: an offer, an answer, and candidates both ways until the browsers are
//! connected (libp2p specifications, `webrtc/webrtc.md`).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use asynchronous_codec::{Bytes, Framed};
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use unsigned_varint::codec::UviBytes;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{RtcIceCandidateInit, RtcPeerConnection, RtcPeerConnectionIceEvent, RtcSdpType};

use super::channel::DataChannel;
use super::connection::{Connection, INIT, Peer, ice_failed};
use super::{PRIVATE, TIMEOUT, described, set_local, set_remote, settled, within};
use crate::platform::message::{self, invalid};

/// The longest message, bytes.
const MESSAGE: usize = 16 * 1024;
/// Candidates taken from the remote and told to it.
const CANDIDATES: usize = 128;
/// How long the other side may take to close a channel or stream that has served.
const FAREWELL: Duration = Duration::from_secs(2);

const OFFER: u64 = 0;
const ANSWER: u64 = 1;
const CANDIDATE: u64 = 2;

type Wire = Framed<libp2p::Stream, UviBytes<Bytes>>;

/// Offers a connection.
pub(super) async fn offer(stream: libp2p::Stream, rtc: Arc<str>) -> io::Result<Connection> {
    let mut wire = framed(stream);
    let peer = Peer::new(&rtc)?;
    let init = DataChannel::new(peer.raw.create_data_channel(INIT));
    let mut own = Candidates::of(&peer.raw);
    let talk = async {
        let sdp = described(peer.raw.create_offer()).await?;
        wire.send(message(OFFER, &sdp)).await?;
        set_local(&peer.raw, RtcSdpType::Offer, &sdp).await?;
        let answer = expect(&mut wire, ANSWER).await?;
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
pub(super) async fn answer(stream: libp2p::Stream, rtc: Arc<str>) -> io::Result<Connection> {
    let mut wire = framed(stream);
    let offer = within(TIMEOUT, "no offer came", expect(&mut wire, OFFER)).await?;
    let peer = Peer::new(&rtc)?;
    let mut own = Candidates::of(&peer.raw);
    set_remote(&peer.raw, RtcSdpType::Offer, &offer).await?;
    let sdp = described(peer.raw.create_answer()).await?;
    let talk = async {
        wire.send(message(ANSWER, &sdp)).await?;
        set_local(&peer.raw, RtcSdpType::Answer, &sdp).await?;
        connect(&peer, &mut own, &mut wire).await
    };
    within_ice(talk).await?;
    drop(own);
    drop(within(FAREWELL, "", wire.close()).await);
    Ok(Connection::new(peer, PRIVATE, None))
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
            wire.poll_next_unpin(cx).map(|next| next.and_then(Result::ok).map_or(Step::Silent, |bytes| Step::Theirs(bytes.freeze())))
        })
        .await;
        match step {
            Step::Done(result) => return result,
            Step::Own(text) => listening &= wire.send(message(CANDIDATE, &text)).await.is_ok(),
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

fn framed(stream: libp2p::Stream) -> Wire {
    let mut codec = UviBytes::default();
    codec.set_max_len(MESSAGE);
    Framed::new(stream, codec)
}

async fn expect(wire: &mut Wire, wanted: u64) -> io::Result<String> {
    let bytes = wire.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    let (kind, data) = parse(&bytes)?;
    if kind == wanted { Ok(data.to_owned()) } else { Err(invalid("a message out of turn")) }
}

// Candidates.

/// A candidate as `RTCIceCandidate.toJSON()` writes it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    candidate: String,
    sdp_mid: Option<String>,
    sdp_m_line_index: Option<u16>,
}

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
                let found =
                    Candidate { candidate: found.candidate(), sdp_mid: found.sdp_mid(), sdp_m_line_index: found.sdp_m_line_index() };
                if let Ok(text) = serde_json::to_string(&found) {
                    // Nobody listens once connected.
                    drop(tell.unbounded_send(text));
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
    // What does not parse is an empty text, `null` or `""`: the end of the candidates.
    let Ok(theirs) = serde_json::from_str::<Candidate>(text) else { return };
    let init = RtcIceCandidateInit::new(&theirs.candidate);
    init.set_sdp_mid(theirs.sdp_mid.as_deref());
    init.set_sdp_m_line_index(theirs.sdp_m_line_index);
    if let Err(error) = settled("candidate", raw.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&init))).await {
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
