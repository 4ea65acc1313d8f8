//! Native platforms on loopback: frames over every transport, circuits, backpressure, and peers that misbehave.

mod appoint;
mod cli;
mod cluster;
mod credit;
mod data;
mod failover;
mod hostile;
mod job;
mod links;
mod objects;
mod pairing;
mod participant;
mod reload;
mod replica;
mod store_that_lies;
mod support;
mod task;
