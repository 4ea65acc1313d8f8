//! Native platforms on loopback: frames over every transport, circuits, backpressure, and peers that misbehave.

mod cli;
mod hostile;
mod links;
mod reload;
mod support;
