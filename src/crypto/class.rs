//! What a credential makes of a member.

/// The role a credential gives. One member has one role: with credentials for both, the more restricted one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Stores and serves the domain's data and pairs suppliers with demanders; holds control keys only.
    Manager,
    /// Takes part in everything.
    Participant,
}
