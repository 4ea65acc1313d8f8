//! Datagrams of WebTransport sessions.

use libp2p::PeerId;
use wtransport::Connection;

use crate::platform::links::datagrams::{Datagrams, Port};

struct Outgoing(Connection);

impl Port for Outgoing {
    fn send(&self, bytes: &[u8]) -> bool {
        // Not if it is too long for this path, or the session is over. Of those that wait the oldest goes.
        self.0.send_datagram(bytes).is_ok()
    }

    fn is_open(&self) -> bool {
        self.0.quic_connection().close_reason().is_none()
    }
}

/// Datagrams to and from the node at the other end of a session go over it, until it ends.
pub(super) fn join(peer: PeerId, session: Connection, datagrams: &Datagrams) {
    datagrams.add(peer, Box::new(Outgoing(session.clone())));
    let all = datagrams.clone();
    tokio::spawn(async move {
        while let Ok(datagram) = session.receive_datagram().await {
            all.came(peer, datagram.payload().to_vec());
        }
    });
}
