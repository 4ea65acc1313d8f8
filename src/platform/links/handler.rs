//! One connection's two lanes. The dialler opens both streams; frames go over them with an unsigned-varint length before
//! each. Frames leave this handler one at a time through libp2p's small per-connection channel, so a driver that is behind
//! stops the reading, and with it (through the stream's own flow control) the remote's writing.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use asynchronous_codec::{Bytes, Framed};
use futures::channel::mpsc;
use futures::{FutureExt, Sink, Stream, StreamExt};
use futures_timer::Delay;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{InboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, StreamProtocol, SubstreamProtocol};
use unsigned_varint::codec::UviBytes;

use crate::base::limit;
use crate::peer::{Lane, Side};

/// The control lane's protocol.
pub const CONTROL: StreamProtocol = StreamProtocol::new("/peerage/control/1");
/// The bulk lane's protocol.
pub const BULK: StreamProtocol = StreamProtocol::new("/peerage/bulk/1");

/// How long the remote may take to agree to a lane.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the remote may take to answer our close with its own before the connection is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the swarm's owner asks of a connection. Through a channel of its own, so that order holds and nothing waits.
#[derive(Debug)]
pub enum Order {
    /// Write a frame.
    Send(Lane, Vec<u8>),
    /// Write what is queued on the control lane, then end the link.
    Close,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This side asked for it.
    Ours,
    /// The other side closed its lanes, or the streams broke.
    Theirs,
    /// The other side broke the framing.
    Violation,
}

/// What a connection reports.
#[derive(Debug)]
pub enum Report {
    /// Both lanes are open.
    Open,
    /// The remote does not speak the protocol. The connection stays for other protocols.
    Refused,
    /// A frame arrived.
    Frame(Lane, Vec<u8>),
    /// So many bytes of frames were written.
    Drained(Lane, usize),
    /// The lanes are gone.
    Ended(End),
}

/// Takes either lane as an inbound stream.
#[derive(Clone, Copy, Debug)]
pub struct Lanes;

impl UpgradeInfo for Lanes {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];
    fn protocol_info(&self) -> [StreamProtocol; 2] {
        [CONTROL, BULK]
    }
}

impl InboundUpgrade<libp2p::Stream> for Lanes {
    type Output = (Lane, libp2p::Stream);
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<(Lane, libp2p::Stream), Self::Error>>;
    fn upgrade_inbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        std::future::ready(Ok((if protocol == CONTROL { Lane::Control } else { Lane::Bulk }, stream)))
    }
}

/// One open stream and the frames that wait for it.
struct Wire {
    lane: Lane,
    framed: Framed<libp2p::Stream, UviBytes<Bytes>>,
    queue: VecDeque<Vec<u8>>,
}

impl Wire {
    fn new(lane: Lane, stream: libp2p::Stream) -> Wire {
        let mut codec = UviBytes::default();
        codec.set_max_len(limit::FRAME);
        Wire { lane, framed: Framed::new(stream, codec), queue: VecDeque::new() }
    }

    /// Writes what the stream takes now; the sum of the frames' lengths.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while !self.queue.is_empty() {
            match Pin::new(&mut self.framed).poll_ready(cx)? {
                Poll::Pending => break,
                Poll::Ready(()) => {
                    let Some(frame) = self.queue.pop_front() else { break };
                    written += frame.len();
                    Pin::new(&mut self.framed).start_send(Bytes::from(frame))?;
                }
            }
        }
        match Pin::new(&mut self.framed).poll_flush(cx)? {
            Poll::Ready(()) | Poll::Pending => Ok(written),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        Pin::new(&mut self.framed).poll_next(cx).map_ok(|bytes| bytes.to_vec())
    }
}

enum State {
    /// Waiting for lanes; each comes once.
    Opening(Option<Wire>, Option<Wire>),
    /// Both lanes are open.
    Open(Wire, Wire),
    /// The control lane is being emptied and closed, then read to its end. The bulk lane stays open until then: its end would be the
    /// link's at the other side, and may overtake the last words.
    Closing { control: Box<Wire>, bulk: Box<Wire>, shut: bool, timer: Delay },
    /// No link on this connection (any more).
    Idle,
}

/// The connection handler of the lanes.
pub struct Handler {
    side: Side,
    /// Lanes the dialler has still to request.
    request: Vec<Lane>,
    state: State,
    orders: mpsc::UnboundedReceiver<Order>,
    reports: VecDeque<Report>,
    /// Runs from the first lane on, until the second has come: half a link holds its connection no longer.
    half: Option<Delay>,
}

impl Handler {
    /// A handler that takes its orders from the channel. `foreign` connections (peers without an Ed25519 key) never get lanes.
    pub fn new(side: Side, foreign: bool, orders: mpsc::UnboundedReceiver<Order>) -> Handler {
        let state = if foreign { State::Idle } else { State::Opening(None, None) };
        let request = if foreign || side == Side::Listener { Vec::new() } else { vec![Lane::Bulk, Lane::Control] };
        Handler { side, request, state, orders, reports: VecDeque::new(), half: None }
    }

    fn opened(&mut self, lane: Lane, stream: libp2p::Stream) {
        let State::Opening(control, bulk) = &mut self.state else { return };
        let slot = if lane == Lane::Control { &mut *control } else { &mut *bulk };
        if slot.is_none() {
            *slot = Some(Wire::new(lane, stream));
        }
        if control.is_some()
            && bulk.is_some()
            && let (Some(control), Some(bulk)) = (control.take(), bulk.take())
        {
            self.state = State::Open(control, bulk);
            self.half = None;
            self.reports.push_back(Report::Open);
        } else {
            self.half = Some(Delay::new(OPEN_TIMEOUT));
        }
    }

    fn end(&mut self, end: End) {
        let had_link = matches!(self.state, State::Open(..) | State::Closing { .. });
        self.state = State::Idle;
        self.orders.close();
        self.reports.push_back(if had_link || end == End::Violation { Report::Ended(end) } else { Report::Refused });
    }

    /// Takes the orders that have come in.
    fn take_orders(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(order)) = self.orders.poll_next_unpin(cx) {
            match order {
                Order::Send(lane, frame) => {
                    if let State::Open(control, bulk) = &mut self.state {
                        if lane == Lane::Control { control } else { bulk }.queue.push_back(frame);
                    }
                }
                Order::Close => {
                    self.orders.close();
                    self.state = match std::mem::replace(&mut self.state, State::Idle) {
                        State::Open(control, bulk) => {
                            let (control, bulk) = (Box::new(control), Box::new(bulk));
                            State::Closing { control, bulk, shut: false, timer: Delay::new(CLOSE_TIMEOUT) }
                        }
                        other => other,
                    };
                }
            }
        }
    }

    /// Moves frames; a report, or pending. An error ends the link.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Report, End>> {
        match &mut self.state {
            State::Opening(..) => match &mut self.half {
                Some(half) => half.poll_unpin(cx).map(|()| Err(End::Theirs)),
                None => Poll::Pending,
            },
            State::Idle => Poll::Pending,
            State::Open(control, bulk) => {
                for wire in [&mut *control, &mut *bulk] {
                    let written = wire.write(cx).map_err(|error| {
                        tracing::debug!(lane = ?wire.lane, %error, "writing failed");
                        End::Theirs
                    })?;
                    if written > 0 {
                        return Poll::Ready(Ok(Report::Drained(wire.lane, written)));
                    }
                }
                for wire in [control, bulk] {
                    match wire.read(cx) {
                        Poll::Pending => {}
                        Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Ok(Report::Frame(wire.lane, frame))),
                        Poll::Ready(Some(Err(e))) if is_violation(&e) => return Poll::Ready(Err(End::Violation)),
                        Poll::Ready(Some(Err(error))) => {
                            tracing::debug!(lane = ?wire.lane, %error, "reading failed");
                            return Poll::Ready(Err(End::Theirs));
                        }
                        Poll::Ready(None) => return Poll::Ready(Err(End::Theirs)),
                    }
                }
                Poll::Pending
            }
            State::Closing { control, bulk, shut, timer } => {
                if timer.poll_unpin(cx).is_ready() {
                    return Poll::Ready(Err(End::Ours));
                }
                if !*shut {
                    control.write(cx).map_err(|_| End::Ours)?;
                    if control.queue.is_empty() {
                        ready!(Pin::new(&mut control.framed).poll_close(cx)).map_err(|_| End::Ours)?;
                        *shut = true;
                    }
                }
                // What still arrives is for nobody, but may not stand in the way; its end tells that the other side has read ours.
                while let Poll::Ready(Some(Ok(_))) = bulk.read(cx) {}
                while let Some(Ok(_)) = ready!(control.read(cx)) {}
                Poll::Ready(Err(End::Ours))
            }
        }
    }
}

/// Does the error come from the framing rather than from the stream below?
fn is_violation(error: &io::Error) -> bool {
    // The codec's own words for "longer than the limit" and for a length that is no varint.
    error.kind() == io::ErrorKind::PermissionDenied || error.get_ref().is_some_and(|e| e.is::<unsigned_varint::decode::Error>())
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = Report;
    type InboundProtocol = Lanes;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Lanes> {
        SubstreamProtocol::new(Lanes, ()).with_timeout(OPEN_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        match &self.state {
            State::Opening(..) => self.side == Side::Dialler,
            State::Open(..) | State::Closing { .. } => true,
            State::Idle => false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Lane, Report>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        if let Some(lane) = self.request.pop() {
            let name = if lane == Lane::Control { CONTROL } else { BULK };
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(name), lane).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.take_orders(cx);
        match ready!(self.drive(cx)) {
            Ok(report) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report)),
            Err(end) => {
                self.end(end);
                let report = self.reports.pop_front().unwrap_or(Report::Ended(end));
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report))
            }
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Lanes, Self::OutboundProtocol, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (lane, stream), .. })
                if self.side == Side::Listener =>
            {
                self.opened(lane, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => self.opened(info, protocol),
            ConnectionEvent::DialUpgradeError(_) if matches!(self.state, State::Opening(..)) => self.end(End::Theirs),
            _ => {}
        }
    }
}
