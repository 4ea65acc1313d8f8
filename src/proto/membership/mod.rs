//! Who is in a domain: signed statements in a grow-only set; validity is a pure function of the set and the clock, and
//! removal wins. `docs/protocol.md` section 4.

mod machine;
mod msg;
mod set;
mod statement;
#[cfg(test)]
mod tests;

pub use machine::{Effect, Membership};
pub use msg::Msg;
pub use set::Member;
pub use statement::{
    Body, Dates, Founding, Genesis, InvitationSpec, KEEP, Rights, Statement, StatementId, Target, delegate, domain_id, found,
    issue_invitation, revoke, root_credential, self_signed_credential, statement_id,
};
