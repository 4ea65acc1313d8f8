//! Tasks are paired with suppliers: who may do what for whom, until when, and what becomes of it when somebody is gone.
//!
//! The [`Ledger`] is the same machine at a domain manager, which pairs for all, and at a demander without one, which pairs for itself.
//! It says who works for whom ([`Ticket`]) and never sees what they exchange. At a supplier a task may begin more than once; its
//! demander sees it end once. `docs/protocol.md` section 17.

mod choice;
pub mod credit;
mod machine;
pub mod message;
pub mod pairing;
#[cfg(test)]
mod tests;
mod ticket;

pub use choice::{Offer, Preference};
pub use machine::{ATTEMPTS, CAPABILITY, COUNT, Config, Demand, Effect, End, Failure, Held, Ledger, Offers, Policy, Seat, Word};
pub use ticket::Ticket;

/// A task's name, random, chosen by its demander: who asks again under it means the same task.
pub type TaskId = [u8; 16];
