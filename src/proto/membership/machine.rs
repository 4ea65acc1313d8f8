//! The machine: takes statements from anywhere, tells what is new, and brings two members' sets together.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;
use sha2::{Digest, Sha256};

use super::{
    msg::{CHUNK, Msg, ShortId},
    set::{Entry, Inserted, Member, Set},
    statement::{Body, Genesis, Rights, Statement, StatementId, read_genesis, statement_id},
    validity::Gone,
};
use crate::base::{Code, DomainId, Gather, Map, Mono, NodeId, Now, Reject, Wall, limit};
use crate::crypto::sign::labelled;
use crate::wire::bytes::{Reader, Writer};

/// How often neighbours compare their sets.
const ROUND: Duration = Duration::from_secs(30);
/// The least time between two full comparisons that one neighbour gets.
const PAUSE: Duration = Duration::from_millis(500);
/// Up to so many statements are compared as soon as two sets differ. Where there are more, what is new is mostly on its way to
/// both: they are compared if they differ still after [`SETTLE`].
const FEW: usize = 64;
/// How long that is.
const SETTLE: Duration = Duration::from_secs(1);
/// A difference seen this long ago says nothing any more.
const FORGET: Duration = Duration::from_secs(10);

/// Statements in a credential's chain: the credential, the invitation and the delegation it rests on, an approval, and the
/// delegation of who gave it.
pub const CHAIN: usize = 5;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message to one neighbour.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        msg: Msg,
    },
    /// A statement that is new here, for every neighbour but the one it came from.
    Spread {
        /// The signed bytes.
        statement: Vec<u8>,
        /// Whom not.
        except: Option<NodeId>,
        /// Whose credential it is, if it is one: it says the same with or without others. Those that revoke something in several
        /// parts go together.
        credential: Option<NodeId>,
    },
    /// Validity may have changed.
    Changed,
    /// A credential of this node is new: nobody else's validity has changed.
    Credential {
        /// Whose.
        member: NodeId,
    },
    /// Somebody came through an invitation after as many others as it allows. It is no member until an issuer decides.
    Surplus {
        /// The invitation's signing key.
        invitation: [u8; 32],
        /// Who.
        member: NodeId,
    },
}

/// The membership of one domain.
pub struct Membership {
    pub(super) domain: DomainId,
    genesis: Genesis,
    genesis_bytes: Vec<u8>,
    pub(super) set: Set,
    digest: [u8; 32],
    neighbours: Map<NodeId, Neighbour>,
    /// The last full comparison with anybody.
    compared: Option<Mono>,
    round: Mono,
}

/// What is known of a neighbour's set.
#[derive(Debug, Default)]
struct Neighbour {
    /// The two sets were equal once, or compared.
    met: bool,
    /// The last full comparison.
    compared: Option<Mono>,
    /// When it was first seen to differ, since the two were last equal or compared.
    differs: Option<Mono>,
    /// Whether it was asked since.
    asked: bool,
}

impl Membership {
    /// The membership of a domain in which nobody is but the holder of the root key.
    ///
    /// # Errors
    /// [`Reject::Misdirected`] if the genesis is another domain's; [`Reject::Malformed`], [`Reject::Forged`], [`Reject::Version`].
    pub fn new(domain: DomainId, genesis: &[u8]) -> Result<Membership, Reject> {
        let parsed = read_genesis(&domain, genesis)?;
        Ok(Membership {
            domain,
            set: Set::new(parsed.root),
            genesis: parsed,
            genesis_bytes: genesis.to_vec(),
            digest: [0; 32],
            neighbours: Map::new(),
            compared: None,
            round: Mono(0),
        })
    }

    /// The domain's id.
    #[must_use]
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// What its genesis says.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The signed genesis.
    #[must_use]
    pub fn genesis_bytes(&self) -> &[u8] {
        &self.genesis_bytes
    }

    /// How many statements are held, the genesis not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is no statement but the genesis.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.len() == 0
    }

    /// Takes a statement. One that is known already, that another one took the place of, or that ended long ago is fine and
    /// changes nothing.
    ///
    /// # Errors
    /// What [`Statement::verify`] says; [`Reject::Forbidden`] for one that only the root may make; [`Reject::Expired`] for a
    /// credential that begins more than [`limit::CLOCK_SKEW`] from now; [`Reject::Limit`]. The set is unchanged then.
    pub fn learn(&mut self, now: Now, from: Option<NodeId>, bytes: &[u8], out: &mut Vec<Effect>) -> Result<StatementId, Reject> {
        let id = statement_id(&self.domain, bytes);
        if self.set.get(&id).is_some() {
            return Ok(id);
        }
        let statement = Statement::verify(&self.domain, bytes)?;
        let begins =
            statement.body.dates().filter(|_| matches!(statement.body, Body::Credential { .. }) && statement.signer != self.genesis.root);
        if begins.is_some_and(|d| d.not_before > now.wall.after(limit::CLOCK_SKEW)) {
            return Err(Reject::Expired);
        }
        let inserted = self.set.insert(id, bytes.to_vec(), statement.clone())?;
        if inserted == Inserted::Superseded {
            return Ok(id);
        }
        if let Inserted::Renewal(old) = inserted {
            self.mix(&old);
        }
        if self.set.prune_one(&id, now.wall) {
            return Ok(id);
        }
        self.mix(&id);
        let credential = if let Body::Credential { member, .. } = statement.body { Some(member) } else { None };
        out.push(Effect::Spread { statement: bytes.to_vec(), except: from, credential });
        let changed = credential.map_or(Effect::Changed, |member| Effect::Credential { member });
        if !out.contains(&changed) {
            out.push(changed);
        }
        if let Body::Credential { member, .. } = statement.body
            && inserted == Inserted::New
            && self.set.is_surplus(&statement)
        {
            out.push(Effect::Surplus { invitation: statement.signer, member });
        }
        Ok(id)
    }

    fn mix(&mut self, id: &StatementId) {
        self.digest.iter_mut().zip(id.0).for_each(|(d, b)| *d ^= b);
    }

    // ---- who --------------------------------------------------------------------------------------------------------

    /// Whether a node is a member now, and as what.
    #[must_use]
    pub fn member(&self, now: Now, node: &NodeId) -> Option<Member> {
        self.set.member(node, now.wall)
    }

    /// All members now.
    #[must_use]
    pub fn members(&self, now: Now) -> Map<NodeId, Member> {
        self.set.members(now.wall)
    }

    /// The managers now, the one of the first rank first; of one rank that with the lowest id.
    #[must_use]
    pub fn managers(&self, now: Now) -> Vec<(NodeId, Member)> {
        self.set.managers(now.wall)
    }

    /// Whether one statement holds now.
    #[must_use]
    pub fn holds(&self, now: Now, id: &StatementId) -> bool {
        self.set.holds(id, now.wall).is_some()
    }

    /// When validity changes next by the clock alone.
    #[must_use]
    pub fn next_change(&self, now: Now) -> Option<Wall> {
        self.set.next_change(now.wall)
    }

    /// The same of one node's credentials alone.
    #[must_use]
    pub fn next_change_of(&self, now: Now, node: &NodeId) -> Option<Wall> {
        self.set.next_change_of(node, now.wall)
    }

    /// Why a node is no member now.
    #[must_use]
    pub fn gone(&self, now: Now, node: &NodeId) -> Gone {
        self.set.gone(node, now.wall)
    }

    /// Whether a key may do something now.
    #[must_use]
    pub fn may(&self, now: Now, key: &[u8; 32], rights: Rights) -> bool {
        self.set.may(key, rights, now.wall)
    }

    /// The hash of the valid revocations by the root and by issuers: equal at members that know of the same removals.
    #[must_use]
    pub fn view(&self) -> [u8; 32] {
        let sorted: BTreeSet<&StatementId> = self.set.revocations().gather();
        let ids: Vec<u8> = sorted.into_iter().flat_map(|id| id.0).collect();
        Sha256::digest(labelled("peerage/1/view", &self.domain, &ids)).into()
    }

    /// The XOR of the ids of all statements held: equal where the sets are.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// A member's credential and what it rests on, that first; at most [`CHAIN`] statements.
    #[must_use]
    pub fn chain(&self, now: Now, node: &NodeId) -> Vec<Vec<u8>> {
        self.member(now, node).map(|m| self.set.chain(&m.credential)).unwrap_or_default()
    }

    /// An invitation and what it rests on, that first.
    #[must_use]
    pub fn invitation_chain(&self, sign_pk: &[u8; 32]) -> Vec<Vec<u8>> {
        self.set.invitation(sign_pk).next().map(|id| self.set.chain(id)).unwrap_or_default()
    }

    /// Whether an invitation lets anybody in now, its uses aside.
    ///
    /// # Errors
    /// [`Code::InviteUnknown`], [`Code::InviteRevoked`], [`Code::InviteExpired`].
    pub fn invitation_status(&self, now: Now, sign_pk: &[u8; 32]) -> Result<(), Code> {
        self.set.invitation_status(sign_pk, now.wall)
    }

    /// Whether an invitation lets this node in now; `Ok(false)` if it has to wait for an issuer's approval.
    ///
    /// # Errors
    /// As [`Membership::invitation_status`]; [`Code::InviteUsed`], [`Code::InviteDenied`], [`Code::Forbidden`] for an evicted key.
    pub fn admits(&self, now: Now, sign_pk: &[u8; 32], node: &NodeId) -> Result<bool, Code> {
        self.set.invitation_status(sign_pk, now.wall)?;
        self.set.admits(sign_pk, node)
    }

    /// What shows somebody who has nothing but the genesis that an invitation of the root's lets a node in no more: at most so many
    /// statements of so many bytes together, though there may be more. Nothing of an issuer's invitation, or of one that is not known.
    #[must_use]
    pub fn grounds(&self, sign_pk: &[u8; 32], node: &NodeId, most: usize, bytes: usize) -> Vec<Vec<u8>> {
        let mut room = bytes;
        let statements = self.set.grounds(sign_pk, node).into_iter().filter_map(|id| self.set.get(&id)).map(|e| e.bytes.clone());
        let fits = |s: &Vec<u8>| room.checked_sub(s.len()).map(|left| room = left).is_some();
        statements.take(most).take_while(fits).collect()
    }

    /// Why an invitation lets a node in no more, as far as these statements show it by themselves ([`Membership::grounds`]); the rest of
    /// what there may be is withheld by whoever sends them, and does not change it.
    ///
    /// # Errors
    /// As [`Membership::new`] and [`Membership::learn`].
    pub fn shown<'a>(
        domain: DomainId,
        genesis: &[u8],
        statements: impl Iterator<Item = &'a [u8]>,
        now: Now,
        sign_pk: &[u8; 32],
        node: &NodeId,
    ) -> Result<Option<Code>, Reject> {
        let mut membership = Membership::new(domain, genesis)?;
        for bytes in statements {
            let signer = Statement::verify(&domain, bytes)?.signer;
            if signer == membership.genesis().root || signer == *sign_pk {
                membership.learn(now, None, bytes, &mut Vec::new())?;
            }
        }
        Ok(membership.admits(now, sign_pk, node).err().filter(|code| *code != Code::InviteUnknown))
    }

    // ---- storing ----------------------------------------------------------------------------------------------------

    /// All statements, in the order in which they came.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let mut entries: Vec<&Entry> = self.set.iter().map(|(_, e)| e).collect();
        entries.sort_by_key(|e| e.arrival);
        let mut w = Writer::new();
        w.u32(entries.len() as u32);
        for entry in entries {
            w.var(&entry.bytes);
        }
        w.finish()
    }

    /// The membership from a genesis and what [`Membership::export`] gave.
    ///
    /// # Errors
    /// As [`Membership::new`] and [`Membership::learn`].
    pub fn restore(domain: DomainId, genesis: &[u8], export: &[u8], now: Now) -> Result<Membership, Reject> {
        let mut membership = Membership::new(domain, genesis)?;
        let mut r = Reader::new(export);
        for _ in 0..r.u32()? {
            membership.learn(now, None, r.var(limit::STATEMENT)?, &mut Vec::new())?;
        }
        r.end()?;
        Ok(membership)
    }

    // ---- coming together --------------------------------------------------------------------------------------------

    /// Compares with a neighbour: at once, and every 30 seconds from now on.
    pub fn sync_with(&mut self, _now: Now, node: NodeId, out: &mut Vec<Effect>) {
        if self.neighbours.len() < limit::LINKS {
            self.neighbours.entry(node).or_default();
        }
        out.push(Effect::Send { to: node, msg: self.summary() });
    }

    /// The link to a neighbour is gone.
    pub fn link_down(&mut self, node: &NodeId) {
        self.neighbours.remove(node);
    }

    /// Takes a neighbour's message.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] from somebody who is no neighbour; for statements given, the first reason why one was refused: the others were taken.
    pub fn handle(&mut self, now: Now, from: NodeId, msg: Msg, out: &mut Vec<Effect>) -> Result<(), Reject> {
        match msg {
            Msg::Digest { digest, .. } if digest == self.digest => {
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    (neighbour.met, neighbour.differs, neighbour.asked) = (true, None, false);
                }
                Ok(())
            }
            Msg::Digest { count, .. } => self.differ(now, from, usize::try_from(count).unwrap_or(usize::MAX), out),
            Msg::Have { from: first, to: last, ids } => {
                if self.neighbours.contains_key(&from) {
                    self.compared_with(now, from);
                }
                self.compare(from, first, last, &ids, out);
                Ok(())
            }
            Msg::Want(ids) => {
                let wanted: Vec<StatementId> =
                    shorts(&ids).filter_map(|s| self.set.range(low(s), high(s)).next().map(|(id, _)| *id)).collect();
                self.give(from, &wanted, out);
                Ok(())
            }
            Msg::Give(statements) => {
                let mut result = Ok(());
                for bytes in statements {
                    if let Err(reject) = self.learn(now, Some(from), &bytes, out) {
                        result = result.and(Err(reject));
                    }
                }
                result
            }
        }
    }

    /// Lets time pass: a comparison with every neighbour is due every 30 seconds, and soon with those who differed.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        let summary = self.summary();
        for (node, neighbour) in &mut self.neighbours {
            neighbour.differs = neighbour.differs.filter(|since| now.mono.since(*since) < FORGET);
            neighbour.asked &= neighbour.differs.is_some();
            if !neighbour.asked && neighbour.differs.is_some_and(|since| now.mono.since(since) >= SETTLE) {
                neighbour.asked = true;
                out.push(Effect::Send { to: *node, msg: summary.clone() });
            }
        }
        if now.mono < self.round {
            return;
        }
        self.round = now.mono.after(ROUND);
        for id in self.set.prune(now.wall) {
            self.mix(&id);
        }
        out.extend(self.neighbours.keys().map(|to| Effect::Send { to: *to, msg: self.summary() }));
    }

    fn summary(&self) -> Msg {
        Msg::Digest { digest: self.digest, count: self.set.len() as u64 }
    }

    /// A neighbour with so many statements has others than this node. Sets of a few are compared at once. Of large ones a new
    /// neighbour's is, if it is the first one in a while: several would give a newcomer the same.
    fn differ(&mut self, now: Now, from: NodeId, count: usize, out: &mut Vec<Effect>) -> Result<(), Reject> {
        let lately = self.compared.is_some_and(|at| now.mono.since(at) < SETTLE);
        let neighbour = self.neighbours.get_mut(&from).ok_or(Reject::Forbidden)?;
        let differs = *neighbour.differs.get_or_insert(now.mono);
        let first = !neighbour.met && !lately;
        if !first && count.max(self.set.len()) > FEW && now.mono.since(differs) < SETTLE {
            return Ok(());
        }
        if self.set.len() > count {
            out.push(Effect::Send { to: from, msg: self.summary() });
            return Ok(());
        }
        if neighbour.compared.is_none_or(|at| now.mono.since(at) >= PAUSE) {
            self.compared_with(now, from);
            self.tell_ids(from, out);
        }
        Ok(())
    }

    fn compared_with(&mut self, now: Now, node: NodeId) {
        self.neighbours.insert(node, Neighbour { met: true, compared: Some(now.mono), ..Neighbour::default() });
        self.compared = Some(now.mono);
    }

    fn tell_ids(&self, to: NodeId, out: &mut Vec<Effect>) {
        let ids: Vec<ShortId> = self.set.iter().map(|(id, _)| short(id)).collect();
        let mut from = [0; 8];
        let mut chunks = ids.chunks(CHUNK / 8).peekable();
        if ids.is_empty() {
            out.push(Effect::Send { to, msg: Msg::Have { from, to: [255; 8], ids: Vec::new().into() } });
        }
        while let Some(chunk) = chunks.next() {
            let last = if chunks.peek().is_some() { chunk[chunk.len() - 1] } else { [255; 8] };
            out.push(Effect::Send { to, msg: Msg::Have { from, to: last, ids: chunk.concat().into() } });
            from = (u64::from_be_bytes(last).saturating_add(1)).to_be_bytes();
        }
    }

    fn compare(&self, to: NodeId, first: ShortId, last: ShortId, ids: &[u8], out: &mut Vec<Effect>) {
        if first > last {
            return;
        }
        let theirs: BTreeSet<ShortId> = shorts(ids).filter(|s| (first..=last).contains(s)).gather();
        let mine: Map<ShortId, StatementId> = self.set.range(low(first), high(last)).map(|(id, _)| (short(id), *id)).gather();
        let lacking: Vec<u8> = theirs.iter().filter(|s| !mine.contains_key(*s)).flatten().copied().collect();
        if !lacking.is_empty() {
            out.push(Effect::Send { to, msg: Msg::Want(lacking.into()) });
        }
        let giving: Vec<StatementId> = mine.iter().filter(|(s, _)| !theirs.contains(*s)).map(|(_, id)| *id).collect();
        self.give(to, &giving, out);
    }

    fn give(&self, to: NodeId, ids: &[StatementId], out: &mut Vec<Effect>) {
        let mut entries: Vec<&Entry> = ids.iter().filter_map(|id| self.set.get(id)).collect();
        entries.sort_by_key(|e| (e.statement.body.order(), e.arrival));
        let mut chunk = Vec::new();
        let mut size = 0;
        for entry in entries {
            if size + entry.bytes.len() > CHUNK {
                out.push(Effect::Send { to, msg: Msg::Give(core::mem::take(&mut chunk)) });
                size = 0;
            }
            size += entry.bytes.len();
            chunk.push(entry.bytes.clone().into());
        }
        if !chunk.is_empty() {
            out.push(Effect::Send { to, msg: Msg::Give(chunk) });
        }
    }
}

fn short(id: &StatementId) -> ShortId {
    let mut short = [0; 8];
    short.copy_from_slice(&id.0[..8]);
    short
}

fn shorts(ids: &[u8]) -> impl Iterator<Item = ShortId> {
    ids.as_chunks::<8>().0.iter().copied()
}

fn low(short: ShortId) -> StatementId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&short);
    StatementId(id)
}

fn high(short: ShortId) -> StatementId {
    let mut id = [255; 32];
    id[..8].copy_from_slice(&short);
    StatementId(id)
}
