//! Whom a capability is for.
//!
//! Whoever offers one may restrict it to members that show a certain credential. It says so in an attribute of the offer, so that others are
//! not paired with it in vain, and looks itself, by its own copy of the statements, before it begins anything.

use crate::base::{Code, DomainId, Error, InvitationId, NodeId, Now};
use crate::proto::directory::{Capability, TEXT, Value};
use crate::proto::membership::{Membership, Rights};
use crate::runtime::handle::Node;

/// The attribute of a capability that says whom it is for: text of what an [`Audience`] is parsed from.
pub const FOR: &str = "for";

/// One thing that a member may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer {
    /// Its own key.
    Member(NodeId),
    /// A credential by this invitation that holds.
    Through(InvitationId),
    /// A delegation of this right that holds, or the root key.
    Right(Rights),
}

/// Members that show one of several things: their own id, a credential by an invitation, a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(Vec<Bearer>);

impl Audience {
    /// Takes apart words with spaces between them: node ids, ids of invitations, and the rights `invite`, `evict` and `store`.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for anything else, for nothing, and for more than fits an attribute (256 bytes).
    pub fn parse(text: &str) -> Result<Audience, Error> {
        let wrong = |what: String| Error::new(Code::BadArgument, what).hint("Name node ids, ids of invitations, or invite, evict, store");
        if text.len() > TEXT {
            return Err(wrong(format!("whom a capability is for has at most {TEXT} bytes"))
                .hint("Name an invitation instead of all who came with it"));
        }
        // A link has a secret, which is not repeated.
        let nobody = |word: &str| format!("nobody is named by {}", word.split_once('#').map_or(word, |_| "a link"));
        let bearer = |word: &str| {
            let right = Rights::named(word).map(Bearer::Right);
            let member = || word.parse().map(Bearer::Member);
            let through = || word.parse().map(Bearer::Through);
            right.or_else(|_| member()).or_else(|_| through()).map_err(|_: Error| wrong(nobody(word)))
        };
        let all = text.split_whitespace().map(bearer).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(wrong("a capability that is for nobody".into())) } else { Ok(Audience(all)) }
    }

    /// Whom a capability is for; none: for every member.
    ///
    /// # Errors
    /// As [`Audience::parse`].
    pub fn of(capability: &Capability) -> Result<Option<Audience>, Error> {
        match capability.attributes.get(FOR) {
            None => Ok(None),
            Some(Value::Text(text)) => Audience::parse(text).map(Some),
            Some(_) => Err(Error::new(Code::BadArgument, "whom a capability is for is said in text")),
        }
    }

    /// Whether a member is among them now.
    #[must_use]
    pub fn has(&self, membership: &Membership, now: Now, node: &NodeId) -> bool {
        let shows = |bearer: &Bearer| match bearer {
            Bearer::Member(member) => member == node,
            Bearer::Through(invitation) => membership.has_credential_by(now, node, invitation.as_bytes()),
            Bearer::Right(right) => membership.may(now, node.as_bytes(), *right),
        };
        membership.member(now, node).is_some() && self.0.iter().any(shows)
    }
}

/// Whether a member may have this done, by the statements that `node` knows of. A capability of which nobody can tell whom it is for is for
/// nobody.
#[must_use]
pub fn admits(node: &Node, domain: DomainId, capability: &Capability, demander: &NodeId) -> bool {
    match Audience::of(capability) {
        Ok(None) => true,
        Ok(Some(audience)) => node.look_at_keys(domain, |membership, _, _, now| audience.has(membership, now, demander)).unwrap_or(false),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Mono, Rng, Wall};
    use crate::crypto::sign::SigningKey;
    use crate::proto::membership::{self, Dates, InvitationSpec, Target};
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32])
    }

    #[test]
    fn who_shows_what_is_asked_for_is_among_them_as_long_as_it_holds() {
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let membership::Founding { genesis, domain, root } =
            membership::found(&mut Rng::from_seed([1; 32]), now, "place", &[], [5; 32]).unwrap();
        let mut m = Membership::new(domain, &genesis).unwrap();
        let learn = |m: &mut Membership, statement: &[u8]| m.learn(now, None, statement, &mut Vec::new()).map(drop).unwrap();
        let (not_before, expires) = (now.wall, now.wall.after(DAY));
        for invitation in [20, 21] {
            let sign_pk = key(invitation).public();
            let spec = InvitationSpec { sign_pk, kem_pk: [0; 32], max_uses: 0, approve: false, not_before, expires };
            learn(&mut m, &membership::issue_invitation(&domain, &root, &spec));
        }
        for (invitation, member) in [(20, 2), (20, 3), (21, 4)] {
            let by = key(invitation);
            learn(&mut m, &membership::self_signed_credential(&domain, &by, &key(member).node_id(), not_before, now.wall.after(DAY / 2)));
        }
        learn(&mut m, &membership::delegate(&domain, &root, key(4).public(), Rights::STORE, Dates { not_before, expires }));
        let through = InvitationId::from_bytes(key(20).public()).to_string();
        let among = |m: &Membership, text: &str, n: u8| Audience::parse(text).unwrap().has(m, now, &key(n).node_id());
        let of = |m: &Membership, text: &str| (2..6).filter(|n| among(m, text, *n)).collect::<Vec<u8>>();
        assert_eq!(of(&m, &through), [2, 3]);
        assert_eq!(of(&m, "store"), [4]);
        assert_eq!(of(&m, "evict"), [0; 0]);
        assert_eq!(of(&m, &format!("store {}", key(3).node_id())), [3, 4]);
        assert_eq!(of(&m, &key(5).node_id().to_string()), [0; 0], "no member");
        // A right that was taken back, and an invitation that was closed without keeping anybody.
        learn(&mut m, &membership::revoke(&domain, &root, Target::Key(key(4).public()), &[]));
        learn(&mut m, &membership::revoke(&domain, &root, Target::Key(key(20).public()), &[]));
        assert_eq!((of(&m, "store"), of(&m, &through)), (vec![], vec![]));
    }

    #[test]
    fn what_names_nobody_is_refused_and_admits_nobody() {
        for text in ["", "  ", "everybody", "store, evict", &"store ".repeat(60)] {
            assert_eq!(Audience::parse(text).map_err(|e| e.code()), Err(Code::BadArgument), "{text}");
        }
        let mut capability = Capability::new("a", 1);
        assert_eq!(Audience::of(&capability).unwrap(), None);
        capability.attributes.insert(FOR.into(), Value::Bool(true));
        assert!(Audience::of(&capability).is_err());
    }
}
