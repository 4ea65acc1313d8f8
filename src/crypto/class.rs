//! The two classes of traffic, and the roles that hold their keys.

use crate::base::Reject;

/// What a credential makes of a member. One member has one role: with credentials for both, the more restricted one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Stores and serves the domain's data and pairs suppliers with demanders; holds control keys only.
    Manager,
    /// Takes part in everything.
    Participant,
}

impl Role {
    /// The byte under signatures: 1 participant, 2 manager.
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Role::Participant => 1,
            Role::Manager => 2,
        }
    }

    /// Reads [`Role::wire`].
    ///
    /// # Errors
    /// [`Reject::Malformed`] for any other byte.
    pub const fn parse(byte: u8) -> Result<Role, Reject> {
        match byte {
            1 => Ok(Role::Participant),
            2 => Ok(Role::Manager),
            _ => Err(Reject::Malformed),
        }
    }

    /// Whether this role may hold the keys of a class.
    #[must_use]
    pub const fn may_hold(self, class: Class) -> bool {
        matches!((self, class), (Role::Participant, _) | (Role::Manager, Class::Control))
    }
}

/// The two kinds of cluster traffic. Each participant makes a pair of sender keys, one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The directory and what the manager may know.
    Control,
    /// What participants exchange; never for a manager.
    Data,
}

impl Class {
    /// Both, in the order they have in key messages.
    pub const BOTH: [Class; 2] = [Class::Control, Class::Data];

    /// The byte in headers and derivations: 1 control, 2 data. Also the bit in a key message's flags.
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Class::Control => 1,
            Class::Data => 2,
        }
    }

    /// Reads [`Class::wire`].
    ///
    /// # Errors
    /// [`Reject::Malformed`] for any other byte.
    pub const fn parse(byte: u8) -> Result<Class, Reject> {
        match byte {
            1 => Ok(Class::Control),
            2 => Ok(Class::Data),
            _ => Err(Reject::Malformed),
        }
    }
}
