//! The circuit relay v2 server's limits and counters.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libp2p::relay;
use serde::Deserialize;

/// What a relay gives at most. The stock limits (128 KiB and 2 minutes per circuit, 16 circuits) are made for hole
/// punching and cut applications off.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayLimits {
    /// Reservations held at a time.
    pub reservations: usize,
    /// How long a reservation lasts without renewal, seconds.
    pub reservation_secs: u64,
    /// Circuits open at a time.
    pub circuits: usize,
    /// Circuits open at a time to or from one peer.
    pub circuits_per_peer: usize,
    /// How long a circuit lasts, seconds.
    pub circuit_secs: u32,
    /// Bytes one circuit carries, both directions together.
    pub circuit_bytes: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        RelayLimits {
            reservations: 1_024,
            reservation_secs: 60 * 60,
            circuits: 1_024,
            circuits_per_peer: 32,
            circuit_secs: 24 * 60 * 60,
            circuit_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// Reservations and circuits one peer may ask for at once, before [`RATE`] holds.
const BURST: NonZeroU32 = NonZeroU32::new(120).unwrap();
/// One more request per peer after so long.
const RATE: Duration = Duration::from_secs(1);

impl RelayLimits {
    pub(super) fn config(&self) -> relay::Config {
        let stock = relay::Config {
            max_reservations: self.reservations,
            max_reservations_per_peer: 4,
            reservation_duration: Duration::from_secs(self.reservation_secs),
            reservation_rate_limiters: Vec::new(),
            max_circuits: self.circuits,
            max_circuits_per_peer: self.circuits_per_peer,
            max_circuit_duration: Duration::from_secs(u64::from(self.circuit_secs)),
            max_circuit_bytes: self.circuit_bytes,
            circuit_src_rate_limiters: Vec::new(),
        };
        stock.reservation_rate_per_peer(BURST, RATE).circuit_src_per_peer(BURST, RATE)
    }
}

/// What a relay did since its start, and how it stands.
#[derive(Debug, Default)]
pub struct Served {
    reservations: AtomicU64,
    circuits: AtomicU64,
    circuits_total: AtomicU64,
    denied: AtomicU64,
    connections: AtomicU64,
}

impl Served {
    pub(super) fn on_event(&self, event: &relay::Event) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let take = |counter: &AtomicU64| {
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(1)));
        };
        match event {
            relay::Event::ReservationReqAccepted { renewed: false, .. } => add(&self.reservations),
            relay::Event::ReservationTimedOut { .. } | relay::Event::ReservationClosed { .. } => take(&self.reservations),
            relay::Event::CircuitReqAccepted { .. } => {
                add(&self.circuits);
                add(&self.circuits_total);
            }
            relay::Event::CircuitClosed { .. } => take(&self.circuits),
            relay::Event::ReservationReqDenied { .. } | relay::Event::CircuitReqDenied { .. } => add(&self.denied),
            _ => {}
        }
    }

    pub(super) fn set_connections(&self, n: usize) {
        self.connections.store(n as u64, Ordering::Relaxed);
    }

    /// Reservations held now.
    #[must_use]
    pub fn reservations(&self) -> u64 {
        self.reservations.load(Ordering::Relaxed)
    }

    /// Circuits open now.
    #[must_use]
    pub fn circuits(&self) -> u64 {
        self.circuits.load(Ordering::Relaxed)
    }

    /// Circuits opened since the start.
    #[must_use]
    pub fn circuits_total(&self) -> u64 {
        self.circuits_total.load(Ordering::Relaxed)
    }

    /// Reservations and circuits refused since the start.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}
