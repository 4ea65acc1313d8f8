//! One TCP port for all that listens on TCP: libp2p's own streams, WebSocket, and WebSocket in TLS. What a connection speaks, its first
//! byte tells.
//!
//! One socket stands behind up to three *faces*, each a transport of its own that others are built on. A connection belongs to a
//! face once that byte has come, and through TLS once its handshake is over; there is a bound for how many are on the way to that, and
//! for how long, and each is on a task of its own.

mod certificate;
mod wss;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::{BoxFuture, Either, Ready, ready};
use futures::{FutureExt, TryFutureExt};
use futures_rustls::{TlsAcceptor, server::TlsStream};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::tcp::tokio::{TcpStream, Transport as Tcp};
use libp2p::{Multiaddr, Transport, tcp};
use tokio::task::{AbortHandle, JoinSet};

pub use certificate::TlsFiles;
pub(super) use certificate::acceptor;
pub(super) use wss::{Wss, is_wss};

/// Connections that have not said yet what they speak, or are in their TLS handshake. When there are more, the oldest is closed: who sends
/// nothing makes way for who does.
const SILENT: usize = 256;
/// How long a connection may take to say it, its TLS handshake included.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first byte of a TLS record that begins a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// A connection of a face.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

type Event = TransportEvent<Ready<io::Result<Stream>>, io::Error>;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Speaks {
    /// multistream-select, which begins with the length of its first line.
    Libp2p,
    /// WebSocket: HTTP, which begins with a method.
    WebSocket,
    /// WebSocket in TLS.
    Tls,
}

impl Speaks {
    fn by(first: u8) -> Speaks {
        match first {
            HANDSHAKE => Speaks::Tls,
            b'A'..=b'Z' => Speaks::WebSocket,
            _ => Speaks::Libp2p,
        }
    }
}

/// The ports; each face holds the same.
#[derive(Clone)]
pub(super) struct Ports(Arc<Mutex<Inner>>);

struct Inner {
    tcp: Tcp,
    tls: Option<TlsAcceptor>,
    /// By the listener that the first of its faces asked for.
    sockets: HashMap<ListenerId, Socket>,
    /// What faces are to hear.
    events: BTreeMap<Speaks, VecDeque<Event>>,
    waiting: Arc<Waiting>,
    silent: Silent,
}

/// The faces that wait for something. What the sockets wake is all of them: whichever is polled then hears for the others too.
#[derive(Default)]
struct Waiting(Mutex<BTreeMap<Speaks, Waker>>);

struct Socket {
    asked: Multiaddr,
    /// Where it turned out to listen.
    addresses: Vec<Multiaddr>,
    faces: BTreeMap<Speaks, ListenerId>,
}

/// Who has come, and on which socket from where to where.
struct Came {
    socket: ListenerId,
    local: Multiaddr,
    remote: Multiaddr,
    stream: io::Result<(Speaks, Stream)>,
}

/// Connections that have not said yet what they speak.
struct Silent {
    most: usize,
    patience: Duration,
    running: JoinSet<Came>,
    oldest_first: VecDeque<AbortHandle>,
}

/// A transport for the connections of one kind; it dials like any other.
pub(super) struct Face {
    ports: Ports,
    speaks: Speaks,
}

impl Ports {
    pub(super) fn new(tls: Option<TlsAcceptor>) -> Ports {
        let tcp = Tcp::new(tcp::Config::default().nodelay(true));
        let (sockets, events, waiting) = (HashMap::new(), BTreeMap::new(), Arc::default());
        let silent = Silent { most: SILENT, patience: PATIENCE, running: JoinSet::new(), oldest_first: VecDeque::new() };
        Ports(Arc::new(Mutex::new(Inner { tcp, tls, sockets, events, waiting, silent })))
    }

    pub(super) fn face(&self, speaks: Speaks) -> Face {
        Face { ports: self.clone(), speaks }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.0)
    }
}

/// Nothing in here leaves what it locked half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let all = std::mem::take(&mut *locked(&self.0));
        all.into_values().for_each(Waker::wake);
    }
}

impl Inner {
    fn tell(&mut self, speaks: Speaks, event: Event) {
        self.events.entry(speaks).or_default().push_back(event);
        let waker = locked(&self.waiting.0).remove(&speaks);
        waker.into_iter().for_each(Waker::wake);
    }

    fn tell_all(&mut self, socket: ListenerId, event: impl Fn(ListenerId) -> Event) {
        let faces = self.sockets.get(&socket).map(|s| s.faces.clone()).unwrap_or_default();
        for (speaks, listener) in faces {
            self.tell(speaks, event(listener));
        }
    }

    fn listen(&mut self, speaks: Speaks, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        // A socket of its own for port 0: whoever asks twice for a free port gets two.
        let shared = self.sockets.values_mut().find(|s| s.asked == address && !is_any_port(&address));
        if shared.as_ref().is_some_and(|s| s.faces.contains_key(&speaks)) {
            // The system would give one more socket on the same port, as it does to let a port be dialled from.
            return Err(TransportError::Other(io::ErrorKind::AddrInUse.into()));
        }
        let Some(socket) = shared else {
            self.tcp.listen_on(id, address.clone())?;
            self.sockets.insert(id, Socket { asked: address, addresses: Vec::new(), faces: BTreeMap::from([(speaks, id)]) });
            return Ok(());
        };
        socket.faces.insert(speaks, id);
        for listen_addr in socket.addresses.clone() {
            self.tell(speaks, TransportEvent::NewAddress { listener_id: id, listen_addr });
        }
        Ok(())
    }

    fn stop(&mut self, speaks: Speaks, id: ListenerId) -> bool {
        let Some((socket, s)) = self.sockets.iter_mut().find(|(_, s)| s.faces.get(&speaks) == Some(&id)) else { return false };
        let socket = *socket;
        if s.faces.len() == 1 {
            // It says itself that it closed.
            return self.tcp.remove_listener(socket);
        }
        s.faces.remove(&speaks);
        self.tell(speaks, TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        true
    }

    fn poll(&mut self) {
        let waker = Waker::from(self.waiting.clone());
        let cx = &mut Context::from_waker(&waker);
        while let Poll::Ready(event) = Pin::new(&mut self.tcp).poll(cx) {
            self.heard(event);
        }
        while let Poll::Ready(Some(came)) = self.silent.running.poll_join_next(cx) {
            // One that had to make way comes to nothing.
            if let Ok(came) = came {
                self.came(came);
            }
        }
    }

    fn heard(&mut self, event: TransportEvent<<Tcp as Transport>::ListenerUpgrade, io::Error>) {
        match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                if let Some(socket) = self.sockets.get_mut(&listener_id) {
                    socket.addresses.push(listen_addr.clone());
                }
                self.tell_all(listener_id, |id| TransportEvent::NewAddress { listener_id: id, listen_addr: listen_addr.clone() });
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                if let Some(socket) = self.sockets.get_mut(&listener_id) {
                    socket.addresses.retain(|a| *a != listen_addr);
                }
                self.tell_all(listener_id, |id| TransportEvent::AddressExpired { listener_id: id, listen_addr: listen_addr.clone() });
            }
            TransportEvent::ListenerClosed { listener_id, reason } => {
                let again = || reason.as_ref().copied().map_err(alike);
                self.tell_all(listener_id, |id| TransportEvent::ListenerClosed { listener_id: id, reason: again() });
                self.sockets.remove(&listener_id);
            }
            TransportEvent::ListenerError { listener_id, error } => {
                self.tell_all(listener_id, |id| TransportEvent::ListenerError { listener_id: id, error: alike(&error) });
            }
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let takes_tls = self.sockets.get(&listener_id).is_some_and(|s| s.faces.contains_key(&Speaks::Tls));
                let tls = self.tls.clone().filter(|_| takes_tls);
                self.silent.hear(listener_id, local_addr, send_back_addr, upgrade.and_then(|stream| listen_to(stream, tls)));
            }
        }
    }

    /// A connection said what it speaks. One that speaks what this socket is not for is closed by being dropped.
    fn came(&mut self, came: Came) {
        let Ok((speaks, stream)) = came.stream else { return };
        let Some(listener) = self.sockets.get(&came.socket).and_then(|s| s.faces.get(&speaks)) else { return };
        let event = TransportEvent::Incoming {
            listener_id: *listener,
            upgrade: ready(Ok(stream)),
            local_addr: came.local,
            send_back_addr: came.remote,
        };
        self.tell(speaks, event);
    }
}

impl Silent {
    fn hear(
        &mut self,
        socket: ListenerId,
        local: Multiaddr,
        remote: Multiaddr,
        says: impl Future<Output = io::Result<(Speaks, Stream)>> + Send + 'static,
    ) {
        self.oldest_first.retain(|task| !task.is_finished());
        if self.oldest_first.len() >= self.most
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        let said = tokio::time::timeout(self.patience, says);
        let came = async move { Came { socket, local, remote, stream: said.await.unwrap_or_else(|late| Err(late.into())) } };
        self.oldest_first.push_back(self.running.spawn(came));
    }
}

/// What a connection speaks, and what is spoken there: within TLS, if it begins with that.
async fn listen_to(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Speaks, Stream)> {
    let mut first = [0];
    if stream.0.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match (Speaks::by(first[0]), tls) {
        (Speaks::Tls, Some(tls)) => Ok((Speaks::Tls, Either::Right(Box::new(tls.accept(stream).await?)))),
        (Speaks::Tls, None) => Err(io::ErrorKind::Unsupported.into()),
        (speaks, _) => Ok((speaks, Either::Left(stream))),
    }
}

fn alike(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn is_any_port(address: &Multiaddr) -> bool {
    address.iter().any(|p| p == libp2p::multiaddr::Protocol::Tcp(0))
}

impl Transport for Face {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Stream>>;
    type Dial = BoxFuture<'static, io::Result<Stream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.ports.lock().listen(self.speaks, id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.ports.lock().stop(self.speaks, id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Ok(self.ports.lock().tcp.dial(address, options)?.map_ok(Either::Left).boxed())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let mut ports = self.ports.lock();
        // Before it looks: what wakes it meanwhile is not missed.
        locked(&ports.waiting.0).insert(self.speaks, cx.waker().clone());
        ports.poll();
        ports.events.get_mut(&self.speaks).and_then(VecDeque::pop_front).map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests;
