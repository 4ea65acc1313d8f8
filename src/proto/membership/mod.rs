//! Who is in a domain: signed statements in a grow-only set; validity is a pure function of the set and the clock, and
//! removal wins. `docs/protocol.md` section 4.

mod acts;
#[cfg(test)]
mod acts_tests;
mod machine;
mod msg;
mod set;
mod statement;
#[cfg(test)]
mod tests;
mod validity;

pub use acts::{InvitationInfo, InvitationState};
pub use machine::{CHAIN, Effect, Membership};
pub use msg::{CHUNK, Msg};
pub use set::Member;
pub use statement::{
    Body, Dates, Founding, Genesis, ISSUED, InvitationSpec, KEEP, Keep, Kept, LAST_RANK, NAME, Rights, SELF_SIGNED, Statement, StatementId,
    Target, decide, delegate, domain_id, found, issue_invitation, manager_credential, revoke, revoke_keeping, root_credential,
    self_signed_credential, statement_id,
};
pub use validity::Gone;
