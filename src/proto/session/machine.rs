//! The machine: who is given keys, whose keys are taken, and when the own ones are made anew.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::{
    keymsg::{Header, KeyMessage},
    prekey::{Prekey, PrekeyId},
    receiver::{KEEP, RecvChain},
    sender::Epoch,
};
use crate::base::{DomainId, Gather, Map, Mono, NodeId, Now, Reject, Rng, Wall, limit};
use crate::crypto::{
    Class, Role,
    chain::{ChainKey, Kid, Owner},
    frame,
    seal::KemKey,
    sign::SigningKey,
};

/// A prekey is replaced after this time …
const PREKEY_RENEW: Duration = Duration::from_secs(3_600);
/// … its private half is wiped this much later …
const PREKEY_KEEP: Duration = Duration::from_secs(3_600);
/// … and its record says it holds this long.
const PREKEY_LIFE: Duration = Duration::from_secs(2 * 3_600);
/// Live prekeys kept per member: one per process of it.
const PREKEYS: usize = 4;
/// How long a key message may be taken.
const MESSAGE_LIFE: Duration = Duration::from_secs(2 * 3_600);
/// No data is sent in an epoch older than this, nor anything else in one in which data was; all other epochs last [`CONTROL_LIFE`].
const DATA_LIFE: Duration = Duration::from_secs(3_600);
const CONTROL_LIFE: Duration = Duration::from_secs(6 * 3_600);
/// Epochs held per sender: one per process of it, and replaced ones for a minute.
const EPOCHS: usize = 8;
/// Replaced epochs remembered per sender, so that their key messages are not taken again.
const RETIRED: usize = 512;
/// A new epoch waits this long, and up to as long again, after a member left.
const LEAVE: Duration = Duration::from_secs(30);
/// The least time between two answers to one member that asks for keys.
pub(super) const RESEND: Duration = Duration::from_millis(200);

/// A message opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub sender: NodeId,
    /// In which class.
    pub class: Class,
    /// What it says.
    pub plaintext: Vec<u8>,
}

/// A prekey of this process.
struct Own {
    id: PrekeyId,
    key: KemKey,
    /// When the private half is wiped; none while it is the current one.
    wipe: Option<Mono>,
}

/// What is known of one other member.
struct Member {
    role: Role,
    /// Newest first.
    prekeys: Vec<Prekey>,
    /// By `msg_vk`, in the order they came: the last key message's number.
    epochs: VecDeque<([u8; 32], u64)>,
    retired: VecDeque<([u8; 32], Wall)>,
    /// Key messages made at or before this date belong to epochs forgotten.
    floor: Wall,
    resent: Option<Mono>,
}

/// All keys of one domain in one process.
pub struct Session {
    domain: DomainId,
    me: NodeId,
    identity: SigningKey,
    role: Role,
    rng: Rng,
    /// Random: the first half of this process' prekey names.
    process: [u8; 4],
    prekeys: Vec<Own>,
    record: Vec<u8>,
    prekey_count: u32,
    prekey_due: Mono,
    members: Map<NodeId, Member>,
    /// By kid and sender: a kid is told in clear, so an insider may register another's as its own at somebody who does not
    /// know it yet; the signature tells whose a frame is.
    chains: BTreeMap<(Kid, NodeId), RecvChain>,
    /// Where chains dropped ahead of their end had come to, as long as a key message for them can still be opened: they are
    /// not taken at a lower index, so that nothing is read twice.
    dropped: Map<(NodeId, Kid), (u32, Mono)>,
    /// Members no more: what is known of their epochs, for as long, should they come back.
    past: Map<NodeId, (Member, Mono)>,
    epoch: Epoch,
    /// Data was sealed in this epoch.
    sent_data: bool,
    /// Somebody who holds the epoch's keys is a member no more.
    lost: bool,
    /// The same, of somebody who left by its own will: when a new epoch is due.
    left: Option<Mono>,
    /// Epochs begun.
    epochs: u64,
    /// Somebody may lack keys.
    owing: bool,
    /// Key messages made and not yet taken.
    ready: Vec<(NodeId, Vec<u8>)>,
    view: [u8; 32],
}

impl Session {
    /// Keys for a process that just started, in a domain where it has this role.
    #[must_use]
    pub fn new(domain: DomainId, identity: SigningKey, role: Role, mut rng: Rng, now: Now) -> Session {
        let me = identity.node_id();
        let epoch = Epoch::new(domain, me, None, now.mono, &mut rng);
        let process = rng.bytes();
        let mut session = Session {
            domain,
            me,
            identity,
            role,
            rng,
            process,
            prekeys: Vec::new(),
            record: Vec::new(),
            prekey_count: 0,
            prekey_due: now.mono,
            members: Map::new(),
            chains: BTreeMap::new(),
            dropped: Map::new(),
            past: Map::new(),
            epoch,
            sent_data: false,
            lost: false,
            left: None,
            epochs: 1,
            owing: false,
            ready: Vec::new(),
            view: [0; 32],
        };
        session.renew_prekey(now);
        session
    }

    // ---- members ----------------------------------------------------------------------------------------------------

    /// Membership says what a node is, this one included. `None`: no member (any more). Its keys are dropped at once, and
    /// if it held this node's, the next [`Session::seal`] begins a new epoch.
    pub fn set_role(&mut self, now: Now, node: NodeId, role: Option<Role>) {
        if node == self.me {
            if let Some(role) = role.filter(|r| *r != self.role) {
                self.role = role;
                self.drop_chains(now, |c| !role.may_hold(c.owner.class));
                // The record tells the role, and others may have given or been given too little or too much.
                (self.prekey_due, self.owing, self.lost) = (now.mono, true, true);
            }
            return;
        }
        let before = self.members.get(&node).map(|m| m.role);
        if before == role {
            return;
        }
        self.owing = true;
        self.lost |= self.epoch.holders.contains(&node) && role != Some(Role::Participant);
        match role {
            None => {
                if let Some(mut member) = self.members.remove(&node) {
                    member.prekeys.clear();
                    self.past.insert(node, (member, now.mono.after(PREKEY_RENEW + PREKEY_KEEP)));
                }
                self.ready.retain(|(to, _)| *to != node);
                self.drop_chains(now, |c| c.owner.sender == node);
            }
            Some(role) => {
                let fresh =
                    Member { role, prekeys: Vec::new(), epochs: VecDeque::new(), retired: VecDeque::new(), floor: Wall(0), resent: None };
                let known = self.past.remove(&node).map_or(fresh, |(member, _)| member);
                let member = self.members.entry(node).or_insert(known);
                member.role = role;
                member.prekeys.retain(|p| p.role == role);
                self.drop_chains(now, |c| c.owner.sender == node && !role.may_hold(c.owner.class));
            }
        }
    }

    /// A member left by its own will. As [`Session::set_role`] with `None`, but the new epoch waits for 30 to 60 seconds, so that
    /// many who go make few of them.
    pub fn depart(&mut self, now: Now, node: NodeId) {
        let (holder, lost) = (self.epoch.holders.contains(&node), self.lost);
        self.set_role(now, node, None);
        self.lost = lost;
        if holder && self.left.is_none() {
            self.left = Some(now.mono.after(LEAVE + Duration::from_millis(self.rng.below(LEAVE.as_millis() as u64))));
        }
    }

    /// How many pairs of sender keys this process made, the present one included.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Wipes chains and remembers where they had come to.
    fn drop_chains(&mut self, now: Now, gone: impl Fn(&RecvChain) -> bool) {
        let until = now.mono.after(PREKEY_RENEW + PREKEY_KEEP);
        let dropped = &mut self.dropped;
        self.chains.retain(|(kid, sender), chain| {
            let keep = !gone(chain);
            if !keep {
                dropped.insert((*sender, *kid), (chain.next, until));
            }
            keep
        });
    }

    /// The hash of the valid revocations, as key messages tell it.
    pub fn set_view(&mut self, view: [u8; 32]) {
        self.view = view;
    }

    /// This process' current prekey record, signed.
    #[must_use]
    pub fn prekey_record(&self) -> &[u8] {
        &self.record
    }

    /// Takes a member's prekey record. One that is known already is fine.
    ///
    /// # Errors
    /// [`Reject::Forged`], [`Reject::Malformed`], [`Reject::Expired`], [`Reject::Forbidden`] (no member, or another role than
    /// its credential gives), [`Reject::Stale`] (older than the process' last one).
    pub fn learn_prekey(&mut self, now: Now, bytes: &[u8]) -> Result<NodeId, Reject> {
        let record = Prekey::verify(&self.domain, bytes)?;
        let life = record.expires.0.saturating_sub(record.created.0);
        if record.expires <= now.wall.before(limit::CLOCK_SKEW)
            || record.created > now.wall.after(limit::CLOCK_SKEW)
            || life > PREKEY_LIFE.as_millis() as u64
        {
            return Err(Reject::Expired);
        }
        let node = record.member;
        let member = self.members.get_mut(&node).ok_or(Reject::Forbidden)?;
        if member.role != record.role {
            return Err(Reject::Forbidden);
        }
        if member.prekeys.contains(&record) {
            return Ok(node);
        }
        if member.prekeys.iter().any(|p| p.same_process(&record) && p.seq >= record.seq) {
            return Err(Reject::Stale);
        }
        member.prekeys.retain(|p| !p.same_process(&record) && p.expires > now.wall.before(limit::CLOCK_SKEW));
        member.prekeys.push(record);
        member.prekeys.sort_by_key(|p| core::cmp::Reverse(p.seq));
        member.prekeys.truncate(PREKEYS);
        self.owing = true;
        Ok(node)
    }

    /// What somebody who broke into this process has.
    #[cfg(test)]
    pub(super) fn leaked_prekeys(&self) -> Vec<&KemKey> {
        self.prekeys.iter().map(|p| &p.key).collect()
    }

    /// As if messages of so many bytes had been sealed in this class: a gibibyte takes a test too long.
    #[cfg(test)]
    pub(super) fn carried(&mut self, class: Class, bytes: u64) {
        self.epoch.carried(class, bytes);
    }

    // ---- giving keys ------------------------------------------------------------------------------------------------

    /// The key messages that are due: for every live prekey of a member that lacks this epoch's keys, as far as its role may
    /// have them. To be sent before any frame sealed earlier in the same turn.
    pub fn take_key_messages(&mut self, now: Now) -> Vec<(NodeId, Vec<u8>)> {
        self.prepare(now);
        core::mem::take(&mut self.ready)
    }

    /// Makes the key messages that are due, at the present index.
    fn prepare(&mut self, now: Now) {
        // Nothing more of an epoch whose keys a former member holds is given out: the next message begins a new one.
        if self.lost || !core::mem::take(&mut self.owing) {
            return;
        }
        let mut due: Vec<(NodeId, PrekeyId, [u8; 32], Vec<Class>)> = Vec::new();
        for (node, member) in &self.members {
            // A manager has no data key to give, and is given none.
            let classes: Vec<Class> = Class::BOTH.into_iter().filter(|c| member.role.may_hold(*c) && self.role.may_hold(*c)).collect();
            let flags = classes.iter().fold(0, |flags, c| flags | c.wire());
            for prekey in member.prekeys.iter().filter(|p| p.expires > now.wall) {
                if self.epoch.given.get(&(*node, prekey.id)) != Some(&flags) {
                    due.push((*node, prekey.id, prekey.spk, classes.clone()));
                }
            }
        }
        for (node, prekey, spk, classes) in due {
            let flags = classes.iter().fold(0, |flags, c| flags | c.wire());
            self.epoch.given.insert((node, prekey), flags);
            // A low-order prekey opens nothing and is not tried again.
            if let Ok(message) = self.key_message(now, node, prekey, &spk, &classes) {
                self.epoch.holders.insert(node);
                self.ready.push((node, message));
            }
        }
    }

    fn key_message(&mut self, now: Now, to: NodeId, prekey: PrekeyId, spk: &[u8; 32], classes: &[Class]) -> Result<Vec<u8>, Reject> {
        self.epoch.seq += 1;
        let (entries, keys) = self.epoch.entries(classes);
        let header = Header {
            domain: self.domain,
            sender: self.me,
            recipient: to,
            prekey,
            seq: self.epoch.seq,
            msg_vk: self.epoch.msg_vk(),
            view: self.view,
            created: now.wall,
            expires: now.wall.after(MESSAGE_LIFE),
            entries,
        };
        header.seal(&self.identity, spk, &keys, &mut self.rng)
    }

    /// A member saw a frame under a key it lacks: it is given the current keys again.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] to a stranger, [`Reject::Limit`] to one that asks too often.
    pub fn resend_keys(&mut self, now: Now, to: NodeId) -> Result<(), Reject> {
        let member = self.members.get_mut(&to).ok_or(Reject::Forbidden)?;
        if member.resent.is_some_and(|at| now.mono.since(at) < RESEND) {
            return Err(Reject::Limit);
        }
        member.resent = Some(now.mono);
        self.epoch.given.retain(|(node, _), _| *node != to);
        self.owing = true;
        Ok(())
    }

    // ---- taking keys ------------------------------------------------------------------------------------------------

    /// Takes a key message that came over the link to `from`; gives the hash of the revocations that its sender knows.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] unless `from` is its sender, a member whose role, like this node's, may hold the classes given;
    /// [`Reject::Misdirected`] for another domain or recipient; [`Reject::Expired`]; [`Reject::UnknownKey`] for a prekey that
    /// is not live here; [`Reject::Stale`] for a message or an epoch seen before; [`Reject::Forged`]. Nothing changes then.
    pub fn accept_key_message(&mut self, now: Now, from: NodeId, bytes: &[u8]) -> Result<[u8; 32], Reject> {
        let message = KeyMessage::verify(bytes)?;
        let h = &message.header;
        if h.domain != self.domain || h.recipient != self.me {
            return Err(Reject::Misdirected);
        }
        if h.sender != from {
            return Err(Reject::Forbidden);
        }
        let member = self.members.get(&from).ok_or(Reject::Forbidden)?;
        if !h.entries.iter().all(|e| member.role.may_hold(e.class) && self.role.may_hold(e.class)) {
            return Err(Reject::Forbidden);
        }
        if h.expires <= now.wall.before(limit::CLOCK_SKEW) || h.created > now.wall.after(limit::CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        if h.created <= member.floor || member.retired.iter().any(|(vk, _)| *vk == h.msg_vk) {
            return Err(Reject::Stale);
        }
        if member.epochs.iter().any(|(vk, seq)| *vk == h.msg_vk && *seq >= h.seq) {
            return Err(Reject::Stale);
        }
        if h.entries.iter().any(|e| self.dropped.get(&(from, e.kid)).is_some_and(|(next, _)| e.index < *next)) {
            return Err(Reject::Stale);
        }
        let live = |p: &&Own| p.id == h.prekey && p.wipe.is_none_or(|at| now.mono < at);
        let own = self.prekeys.iter().find(live).ok_or(Reject::UnknownKey)?;
        let keys = message.open(&own.key)?;
        for (entry, key) in h.entries.iter().zip(&keys) {
            if let Some(held) = self.chains.get(&(entry.kid, from)) {
                if held.owner.class != entry.class || held.msg_vk != h.msg_vk {
                    return Err(Reject::Forged);
                }
                held.agrees(key, entry.index)?;
            }
        }
        self.take(now, from, h, keys);
        Ok(h.view)
    }

    fn take(&mut self, now: Now, from: NodeId, h: &Header, keys: Vec<ChainKey>) {
        let until = now.mono.after(KEEP);
        // No honest sender uses a chain for longer. This also ends one whose replacement was never heard of.
        let end = now.mono.after(CONTROL_LIFE + KEEP);
        for (entry, key) in h.entries.iter().zip(keys) {
            if let Some(old) = self.chains.get_mut(&(entry.prev_kid, from)).filter(|c| c.owner.class == entry.class) {
                old.cut(entry.prev_final, until);
                let (vk, created) = (old.msg_vk, h.created);
                if vk != h.msg_vk {
                    self.retire(from, vk, created);
                }
            }
            let owner = Owner { domain: self.domain, sender: from, class: entry.class };
            self.chains.entry((entry.kid, from)).or_insert_with(|| RecvChain::new(owner, h.msg_vk, key, entry.index, end));
        }
        let Some(member) = self.members.get_mut(&from) else { return };
        match member.epochs.iter_mut().find(|(vk, _)| *vk == h.msg_vk) {
            Some((_, seq)) => *seq = h.seq,
            None => member.epochs.push_back((h.msg_vk, h.seq)),
        }
        if member.epochs.len() > EPOCHS
            && let Some((vk, _)) = member.epochs.front().copied()
        {
            self.retire(from, vk, h.created);
            self.chains.retain(|_, c| c.owner.sender != from || c.msg_vk != vk);
        }
    }

    /// An epoch is over: its key messages are not taken again.
    fn retire(&mut self, from: NodeId, msg_vk: [u8; 32], created: Wall) {
        let Some(member) = self.members.get_mut(&from) else { return };
        member.epochs.retain(|(vk, _)| *vk != msg_vk);
        if !member.retired.iter().any(|(vk, _)| *vk == msg_vk) {
            member.retired.push_back((msg_vk, created));
        }
        if member.retired.len() > RETIRED
            && let Some((_, created)) = member.retired.pop_front()
        {
            member.floor = member.floor.max(created);
        }
    }

    // ---- traffic ----------------------------------------------------------------------------------------------------

    /// Seals one message for everybody who may hold the class' keys. First begins a new epoch where one is due: then, as
    /// after every call, [`Session::take_key_messages`] has what must be sent before the frame.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] for a manager and the data class.
    pub fn seal(&mut self, now: Now, class: Class, topic: u16, plaintext: &[u8]) -> Result<Vec<u8>, Reject> {
        if !self.role.may_hold(class) {
            return Err(Reject::Forbidden);
        }
        let life = if self.sent_data || class == Class::Data { DATA_LIFE } else { CONTROL_LIFE };
        let left = self.left.is_some_and(|at| now.mono >= at);
        if self.lost || left || self.epoch.used_up(class) || now.mono.since(self.epoch.started) >= life {
            self.epochs += 1;
            self.left = None;
            self.epoch = Epoch::new(self.domain, self.me, Some(&self.epoch), now.mono, &mut self.rng);
            (self.lost, self.sent_data, self.owing) = (false, false, true);
            self.ready.clear();
        }
        self.sent_data |= class == Class::Data;
        // Those who come later must not read this message, those who are here must: keys go out at the index before it.
        self.prepare(now);
        self.epoch.seal(class, topic, plaintext, &mut self.rng)
    }

    /// Opens a message.
    ///
    /// # Errors
    /// [`Reject::UnknownKey`] under a key that is not held; [`Reject::Forbidden`] from somebody whose role, or at one whose
    /// role, may not hold the class; [`Reject::Stale`], [`Reject::Limit`], [`Reject::Forged`], [`Reject::Malformed`],
    /// [`Reject::Version`]. Nothing changes then.
    pub fn open(&mut self, now: Now, topic: u16, bytes: &[u8]) -> Result<Opened, Reject> {
        let frame = frame::parse(bytes)?;
        if !self.role.may_hold(frame.class) {
            return Err(Reject::Forbidden);
        }
        // Nearly always one. Only the sender's own signature opens, so whose chain it is needs no trust in who came first.
        let mut refusal = Reject::UnknownKey;
        for (_, chain) in self.chains.range_mut((frame.kid, NodeId::MIN)..=(frame.kid, NodeId::MAX)) {
            let sender = chain.owner.sender;
            refusal = if chain.owner.class != frame.class {
                Reject::Forged
            } else if !self.members.get(&sender).is_some_and(|m| m.role.may_hold(frame.class)) {
                Reject::Forbidden
            } else {
                match chain.open(now.mono, &frame, topic) {
                    Ok(plaintext) => return Ok(Opened { sender, class: frame.class, plaintext }),
                    Err(reject) => reject,
                }
            };
        }
        Err(refusal)
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    /// Lets time pass. True: the prekey record is new, and the linked members want it.
    pub fn on_timeout(&mut self, now: Now) -> bool {
        self.drop_chains(now, |c| now.mono >= c.expires());
        self.dropped.retain(|_, (_, until)| now.mono < *until);
        self.past.retain(|_, (_, until)| now.mono < *until);
        for chain in self.chains.values_mut() {
            chain.forget(now.mono);
        }
        let live: BTreeSet<PrekeyId> = self.members.values().flat_map(|m| &m.prekeys).map(|p| p.id).gather();
        self.epoch.given.retain(|(_, prekey), _| live.contains(prekey));
        self.prekeys.retain(|p| p.wipe.is_none_or(|at| now.mono < at));
        let renew = now.mono >= self.prekey_due;
        if renew {
            self.renew_prekey(now);
        }
        renew
    }

    /// When [`Session::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let wipes = self.prekeys.iter().filter_map(|p| p.wipe);
        wipes.chain(self.chains.values().map(RecvChain::expires)).chain([self.prekey_due]).min()
    }

    fn renew_prekey(&mut self, now: Now) {
        for old in &mut self.prekeys {
            old.wipe.get_or_insert(now.mono.after(PREKEY_KEEP));
        }
        let mut id = [0; 8];
        id[..4].copy_from_slice(&self.process);
        id[4..].copy_from_slice(&self.prekey_count.to_be_bytes());
        let key = KemKey::generate(&mut self.rng);
        let record = Prekey {
            member: self.me,
            id,
            spk: *key.public(),
            role: self.role,
            seq: now.wall.0.saturating_add(u64::from(self.prekey_count)),
            created: now.wall,
            expires: now.wall.after(PREKEY_LIFE),
        };
        self.record = record.sign(&self.domain, &self.identity);
        self.prekeys.push(Own { id, key, wipe: None });
        self.prekey_count += 1;
        self.prekey_due = now.mono.after(PREKEY_RENEW);
    }
}
