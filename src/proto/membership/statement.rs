//! The statements: their fields, bytes and signatures. `docs/protocol.md` section 4.
//!
//! `type u8 | signer's public key | fields | signature 64`, times in Unix milliseconds. Each type signs under a label of its
//! own, so that none can stand for another.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;
use sha2::{Digest, Sha256};

use crate::base::{Code, DomainId, Error, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::{
    Role,
    sign::{self, SIGNATURE, SigningKey, labelled},
};
use crate::wire::bytes::{Reader, Writer};

/// A domain's name, in bytes.
pub const NAME: usize = 64;
/// Essential capabilities of a domain.
pub const ESSENTIAL: usize = 16;
/// Entries in one keep-list. Revocations of one target by one signer count as one, with all their entries.
pub const KEEP: usize = 320;
/// The same where entries are whole.
const KEEP_WHOLE: usize = 120;
/// The longest a credential may hold that its own member signed with an invitation's key.
pub const SELF_SIGNED: Duration = Duration::from_secs(24 * 3_600 + 2 * 300);
/// The longest that issuers, and what they sign for members, may hold.
pub const ISSUED: Duration = Duration::from_secs(90 * 24 * 3_600 + 2 * 300);
/// The last rank of a manager; the first is 0.
pub const LAST_RANK: u8 = 15;
/// In an invitation's role: its bearers come in only once an issuer approved them.
const APPROVE: u8 = 0x80;
const SUITE: u8 = 1;
/// Stands where a domain id cannot be yet: under the genesis, whose hash it is.
const NOWHERE: DomainId = DomainId::from_bytes([0; 32]);

/// A statement's name: the hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub [u8; 32]);

impl core::fmt::Debug for StatementId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "statement:{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2])
    }
}

/// Where a domain begins. Its hash is the domain's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The key above all others.
    pub root: [u8; 32],
    /// Random, so that no two domains are alike.
    pub nonce: [u8; 32],
    /// For people.
    pub name: String,
    /// Capabilities whose absence every participant is told of.
    pub essential: Vec<String>,
    /// The public half of the key to which join requests are sealed.
    pub rendezvous: [u8; 32],
    /// When.
    pub created: Wall,
}

/// A domain just founded.
#[derive(Debug)]
pub struct Founding {
    /// The signed genesis.
    pub genesis: Vec<u8>,
    /// Its hash.
    pub domain: DomainId,
    /// The root key.
    pub root: SigningKey,
}

/// What a delegation allows, as bits of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// None of them.
    pub const NONE: Rights = Rights(0);
    /// To issue invitations and credentials for participants.
    pub const INVITE: Rights = Rights(1);
    /// To revoke participants and invitations.
    pub const EVICT: Rights = Rights(2);
    /// To renew the storage key.
    pub const STORE: Rights = Rights(4);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn has(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// The right of this name.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for another name than `invite`, `evict` or `store`.
    pub fn named(name: &str) -> Result<Rights, Error> {
        match name {
            "invite" => Ok(Rights::INVITE),
            "evict" => Ok(Rights::EVICT),
            "store" => Ok(Rights::STORE),
            _ => Err(Error::new(Code::BadArgument, "a right is invite, evict or store")),
        }
    }
}

/// From when until when something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// From.
    pub not_before: Wall,
    /// Until.
    pub expires: Wall,
}

impl Dates {
    /// Whether they hold at a moment, give or take [`limit::CLOCK_SKEW`].
    #[must_use]
    pub fn hold(&self, at: Wall) -> bool {
        self.not_before <= at.after(limit::CLOCK_SKEW) && at < self.expires.after(limit::CLOCK_SKEW)
    }

    /// Whether they span no more than this.
    #[must_use]
    pub fn within(&self, longest: Duration) -> bool {
        self.expires <= self.not_before.after(longest)
    }
}

/// What a revocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One statement.
    Statement(StatementId),
    /// Every statement for this key: credentials of a member, an invitation, a delegation.
    Key([u8; 32]),
}

/// The first bytes of a statement's id, or of the key that statements are about. Who was thrown out would have to find a key that
/// begins as one of a thousand kept ones: 2^86 attempts.
pub type Kept = [u8; 12];

/// What rests on a revoked statement or key and stays all the same, in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Ids of statements, or the keys they are about. No longer made: an eviction from a large domain names nearly everybody, to everybody.
    Whole(Vec<StatementId>),
    /// The beginnings of them.
    Short(Vec<Kept>),
}

impl Keep {
    /// Keeps these.
    #[must_use]
    pub fn these(ids: &[StatementId]) -> Keep {
        let mut short: Vec<Kept> = ids.iter().map(|id| beginning(&id.0)).collect();
        short.sort_unstable();
        short.dedup();
        Keep::Short(short)
    }

    /// Whether a statement with this id, or about this key, is among them.
    #[must_use]
    pub fn has(&self, id: &[u8; 32]) -> bool {
        match self {
            Keep::Whole(ids) => ids.binary_search(&StatementId(*id)).is_ok(),
            Keep::Short(short) => short.binary_search(&beginning(id)).is_ok(),
        }
    }
}

fn beginning(id: &[u8; 32]) -> Kept {
    let mut kept = [0; 12];
    kept.copy_from_slice(&id[..12]);
    kept
}

/// What an invitation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvitationSpec {
    /// The public half of the key with which bearers sign their credentials.
    pub sign_pk: [u8; 32],
    /// The public half of the key to which issuers seal for its bearers.
    pub kem_pk: [u8; 32],
    /// How many members may come through it; 0 for no limit.
    pub max_uses: u32,
    /// Whether an issuer has to approve each of them.
    pub approve: bool,
    /// From when.
    pub not_before: Wall,
    /// Until when, the credentials made with it included.
    pub expires: Wall,
}

/// A statement's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The root lets an issuer act.
    Delegation {
        /// The issuer's key.
        issuer: [u8; 32],
        /// What it may do.
        rights: Rights,
        /// When.
        dates: Dates,
    },
    /// Bearers of a link may become participants.
    Invitation(InvitationSpec),
    /// Somebody is a member.
    Credential {
        /// Who.
        member: NodeId,
        /// As what.
        role: Role,
        /// A manager's place among the managers, 0 to [`LAST_RANK`]; 0 for a participant.
        rank: u8,
        /// When.
        dates: Dates,
    },
    /// Something holds no more, for ever.
    Revocation {
        /// What.
        target: Target,
        /// What stays.
        keep: Keep,
    },
    /// An issuer decided about somebody who bears an invitation that needs it, or that others used up.
    Approval {
        /// Who.
        member: NodeId,
        /// Whether it may come in. A no outweighs every yes.
        granted: bool,
    },
}

/// A statement whose form and signature hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Who signed it.
    pub signer: [u8; 32],
    /// What it says.
    pub body: Body,
}

impl Body {
    fn kind(&self) -> (u8, &'static str) {
        match self {
            Body::Delegation { .. } => (1, "peerage/1/delegation"),
            Body::Invitation(_) => (2, "peerage/1/invitation"),
            Body::Credential { .. } => (3, "peerage/1/credential"),
            Body::Revocation { keep: Keep::Whole(_), .. } => (4, "peerage/1/revocation"),
            Body::Revocation { keep: Keep::Short(_), .. } => (6, "peerage/1/revocation-short"),
            Body::Approval { .. } => (5, "peerage/1/approval"),
        }
    }

    /// Its place in a transfer: what others rest on goes first.
    pub(super) fn order(&self) -> u8 {
        match self {
            Body::Approval { .. } => 0,
            Body::Revocation { .. } => 4,
            _ => self.kind().0,
        }
    }

    /// The key that a statement is about, by which it can be revoked and kept.
    pub(super) fn key(&self) -> Option<&[u8; 32]> {
        match self {
            Body::Delegation { issuer, .. } => Some(issuer),
            Body::Invitation(i) => Some(&i.sign_pk),
            Body::Credential { member, .. } => Some(member.as_bytes()),
            Body::Revocation { .. } | Body::Approval { .. } => None,
        }
    }

    /// When it holds, if that is limited.
    pub(super) fn dates(&self) -> Option<Dates> {
        match self {
            Body::Delegation { dates, .. } | Body::Credential { dates, .. } => Some(*dates),
            Body::Invitation(i) => Some(Dates { not_before: i.not_before, expires: i.expires }),
            Body::Revocation { .. } | Body::Approval { .. } => None,
        }
    }

    /// Signs the statement.
    #[must_use]
    pub fn sign(&self, domain: &DomainId, key: &SigningKey) -> Vec<u8> {
        let (kind, label) = self.kind();
        let mut w = Writer::new();
        w.u8(kind).raw(&key.public());
        match self {
            Body::Delegation { issuer, rights, dates } => {
                w.raw(issuer).u8(rights.0).u64(dates.not_before.0).u64(dates.expires.0);
            }
            Body::Invitation(i) => {
                let role = Role::Participant.wire() | if i.approve { APPROVE } else { 0 };
                w.raw(&i.sign_pk).raw(&i.kem_pk).u8(role).u32(i.max_uses).u64(i.not_before.0).u64(i.expires.0);
            }
            Body::Credential { member, role, rank, dates } => {
                // Never a higher place than was meant: a rank that does not fit is the last one.
                w.raw(member.as_bytes()).u8(role.wire() | (*rank).min(LAST_RANK) << 4).u64(dates.not_before.0).u64(dates.expires.0);
            }
            Body::Revocation { target, keep } => {
                match target {
                    Target::Statement(id) => w.u8(1).raw(&id.0),
                    Target::Key(key) => w.u8(2).raw(key),
                };
                match keep {
                    Keep::Whole(ids) => {
                        w.u8(ids.len().min(KEEP_WHOLE) as u8);
                        for id in ids.iter().take(KEEP_WHOLE) {
                            w.raw(&id.0);
                        }
                    }
                    Keep::Short(short) => {
                        w.u16(short.len().min(KEEP) as u16);
                        for kept in short.iter().take(KEEP) {
                            w.raw(kept);
                        }
                    }
                }
            }
            Body::Approval { member, granted } => {
                w.raw(member.as_bytes()).u8(u8::from(*granted));
            }
        }
        let signature = key.sign(label, domain, w.as_slice());
        w.raw(&signature);
        w.finish()
    }
}

impl Statement {
    /// Reads a statement and checks its signature and everything that needs no other statement.
    ///
    /// # Errors
    /// [`Reject::Malformed`], [`Reject::TooLarge`], [`Reject::UnknownKind`]; [`Reject::Forged`] for a signature that does not
    /// hold or a key that is a weak point.
    pub fn verify(domain: &DomainId, bytes: &[u8]) -> Result<Statement, Reject> {
        if bytes.len() > limit::STATEMENT {
            return Err(Reject::TooLarge);
        }
        let (content, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
        let mut r = Reader::new(content);
        let kind = r.u8()?;
        let signer = r.array()?;
        let body = match kind {
            1 => Body::Delegation { issuer: key(&mut r)?, rights: rights(&mut r)?, dates: dates(&mut r)? },
            2 => {
                let (sign_pk, kem_pk, role) = (key(&mut r)?, r.array()?, r.u8()?);
                if Role::parse(role & !APPROVE)? != Role::Participant {
                    return Err(Reject::Malformed);
                }
                let max_uses = r.u32()?;
                let Dates { not_before, expires } = dates(&mut r)?;
                Body::Invitation(InvitationSpec { sign_pk, kem_pk, max_uses, approve: role & APPROVE != 0, not_before, expires })
            }
            3 => {
                let member = NodeId::from_public_key(key(&mut r)?);
                let (role, rank) = ranked(r.u8()?)?;
                Body::Credential { member, role, rank, dates: dates(&mut r)? }
            }
            4 => Body::Revocation { target: target(&mut r)?, keep: keep_whole(&mut r)? },
            6 => Body::Revocation { target: target(&mut r)?, keep: keep_short(&mut r)? },
            5 => Body::Approval { member: NodeId::from_public_key(key(&mut r)?), granted: verdict(&mut r)? },
            _ => return Err(Reject::UnknownKind),
        };
        r.end()?;
        sign::verify(&signer, body.kind().1, domain, content, signature)?;
        Ok(Statement { signer, body })
    }
}

fn key(r: &mut Reader<'_>) -> Result<[u8; 32], Reject> {
    let key = r.array()?;
    if sign::is_usable(&key) { Ok(key) } else { Err(Reject::Forged) }
}

/// A role, and above it a manager's rank.
fn ranked(byte: u8) -> Result<(Role, u8), Reject> {
    let (role, rank) = (Role::parse(byte & 0x0f)?, byte >> 4);
    if role == Role::Manager || rank == 0 { Ok((role, rank)) } else { Err(Reject::Malformed) }
}

fn rights(r: &mut Reader<'_>) -> Result<Rights, Reject> {
    match r.u8()? {
        bits @ 1..=7 => Ok(Rights(bits)),
        _ => Err(Reject::Malformed),
    }
}

fn dates(r: &mut Reader<'_>) -> Result<Dates, Reject> {
    let dates = Dates { not_before: Wall(r.u64()?), expires: Wall(r.u64()?) };
    if dates.not_before < dates.expires { Ok(dates) } else { Err(Reject::Malformed) }
}

fn target(r: &mut Reader<'_>) -> Result<Target, Reject> {
    match r.u8()? {
        1 => Ok(Target::Statement(StatementId(r.array()?))),
        2 => Ok(Target::Key(r.array()?)),
        _ => Err(Reject::Malformed),
    }
}

fn verdict(r: &mut Reader<'_>) -> Result<bool, Reject> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Reject::Malformed),
    }
}

fn keep_whole(r: &mut Reader<'_>) -> Result<Keep, Reject> {
    let n = usize::from(r.u8()?);
    Ok(Keep::Whole(rising(r, n, KEEP_WHOLE)?.into_iter().map(StatementId).collect()))
}

fn keep_short(r: &mut Reader<'_>) -> Result<Keep, Reject> {
    let n = usize::from(r.u16()?);
    Ok(Keep::Short(rising(r, n, KEEP)?))
}

fn rising<const N: usize>(r: &mut Reader<'_>, n: usize, most: usize) -> Result<Vec<[u8; N]>, Reject> {
    if n > most {
        return Err(Reject::TooLarge);
    }
    let list = (0..n).map(|_| r.array()).collect::<Result<Vec<[u8; N]>, _>>()?;
    if list.is_sorted_by(|a, b| a < b) { Ok(list) } else { Err(Reject::Malformed) }
}

/// The id of a statement: `SHA256(statement label | bytes)`.
#[must_use]
pub fn statement_id(domain: &DomainId, bytes: &[u8]) -> StatementId {
    StatementId(Sha256::digest(labelled("peerage/1/statement", domain, bytes)).into())
}

/// The id of the domain that a signed genesis begins.
#[must_use]
pub fn domain_id(genesis: &[u8]) -> DomainId {
    DomainId::from_bytes(Sha256::digest(labelled("peerage/1/domain", &NOWHERE, genesis)).into())
}

/// Founds a domain: a new root key and the genesis it signs.
///
/// # Errors
/// [`Code::BadArgument`] for a name of 0 or more than [`NAME`] bytes, more than [`ESSENTIAL`] capabilities, or one of 0 or more
/// than 64 bytes.
pub fn found(rng: &mut Rng, now: Now, name: &str, essential: &[String], rendezvous: [u8; 32]) -> Result<Founding, Error> {
    if name.is_empty() || name.len() > NAME {
        return Err(Error::new(Code::BadArgument, "a domain's name has 1 to 64 bytes"));
    }
    if essential.len() > ESSENTIAL || essential.iter().any(|c| c.is_empty() || c.len() > 64) {
        return Err(Error::new(Code::BadArgument, "a domain has at most 16 essential capabilities, each of 1 to 64 bytes"));
    }
    let root = SigningKey::generate(rng);
    let mut w = Writer::new();
    w.u8(0).u8(SUITE).raw(&root.public()).raw(&rng.bytes::<32>()).var(name.as_bytes()).u8(essential.len() as u8);
    for capability in essential {
        w.var(capability.as_bytes());
    }
    w.raw(&rendezvous).u64(now.wall.0);
    let signature = root.sign("peerage/1/genesis", &NOWHERE, w.as_slice());
    w.raw(&signature);
    let genesis = w.finish();
    Ok(Founding { domain: domain_id(&genesis), genesis, root })
}

/// Reads a genesis, and checks that it is this domain's.
pub(super) fn read_genesis(domain: &DomainId, bytes: &[u8]) -> Result<Genesis, Reject> {
    if bytes.len() > limit::STATEMENT {
        return Err(Reject::TooLarge);
    }
    if domain_id(bytes) != *domain {
        return Err(Reject::Misdirected);
    }
    let (content, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(Reject::Malformed)?;
    let mut r = Reader::new(content);
    if r.u8()? != 0 {
        return Err(Reject::Malformed);
    }
    if r.u8()? != SUITE {
        return Err(Reject::Version);
    }
    let (root, nonce, name) = (key(&mut r)?, r.array()?, r.text(NAME)?);
    let n = usize::from(r.u8()?);
    if n > ESSENTIAL {
        return Err(Reject::TooLarge);
    }
    let essential = (0..n).map(|_| r.text(64)).collect::<Result<_, _>>()?;
    let genesis = Genesis { root, nonce, name: name.to_string(), essential, rendezvous: r.array()?, created: Wall(r.u64()?) };
    r.end()?;
    sign::verify(&genesis.root, "peerage/1/genesis", &NOWHERE, content, signature)?;
    Ok(genesis)
}

/// A credential that its member signs with an invitation's key.
#[must_use]
pub fn self_signed_credential(domain: &DomainId, invitation: &SigningKey, member: &NodeId, not_before: Wall, expires: Wall) -> Vec<u8> {
    root_credential(domain, invitation, member, Role::Participant, not_before, expires)
}

/// A credential by the root key, or by an issuer for a participant. A manager's is of the first rank.
#[must_use]
pub fn root_credential(domain: &DomainId, by: &SigningKey, member: &NodeId, role: Role, not_before: Wall, expires: Wall) -> Vec<u8> {
    Body::Credential { member: *member, role, rank: 0, dates: Dates { not_before, expires } }.sign(domain, by)
}

/// A manager's credential by the root key, with a rank of 0 to [`LAST_RANK`].
#[must_use]
pub fn manager_credential(domain: &DomainId, root: &SigningKey, member: &NodeId, rank: u8, not_before: Wall, expires: Wall) -> Vec<u8> {
    Body::Credential { member: *member, role: Role::Manager, rank, dates: Dates { not_before, expires } }.sign(domain, root)
}

/// An invitation by the root key or an issuer.
#[must_use]
pub fn issue_invitation(domain: &DomainId, issuer: &SigningKey, spec: &InvitationSpec) -> Vec<u8> {
    Body::Invitation(*spec).sign(domain, issuer)
}

/// A delegation by the root key.
#[must_use]
pub fn delegate(domain: &DomainId, root: &SigningKey, issuer: [u8; 32], rights: Rights, dates: Dates) -> Vec<u8> {
    Body::Delegation { issuer, rights, dates }.sign(domain, root)
}

/// What an issuer decided about a member.
#[must_use]
pub fn decide(domain: &DomainId, by: &SigningKey, member: &NodeId, granted: bool) -> Vec<u8> {
    Body::Approval { member: *member, granted }.sign(domain, by)
}

/// Revocations of one target that keep all of `keep`, as many as that takes.
#[must_use]
pub fn revoke_keeping(domain: &DomainId, by: &SigningKey, target: Target, keep: &[StatementId]) -> Vec<Vec<u8>> {
    if keep.is_empty() {
        return Vec::from([revoke(domain, by, target, keep)]);
    }
    keep.chunks(KEEP).map(|part| revoke(domain, by, target, part)).collect()
}

/// A revocation. What rests on the target and is in `keep` (at most [`KEEP`]), by its id or its key, stays.
#[must_use]
pub fn revoke(domain: &DomainId, by: &SigningKey, target: Target, keep: &[StatementId]) -> Vec<u8> {
    Body::Revocation { target, keep: Keep::these(keep) }.sign(domain, by)
}
