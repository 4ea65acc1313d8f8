//! Plumtree: who is pushed to, who is only told, and how what is missing is fetched.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::msg::{CastId, IDS, Msg, cast_id};
use crate::base::{Map, Mono, NodeId, Now, Reject, limit};

/// To how many neighbours a node pushes an urgent cast of its own at least, be they in the tree or not. Behind them others mend what is
/// lost; the first step nobody knows of: a node at the tree's edge pushes to one.
const FIRST: usize = 4;
/// How long an urgent cast waits for company before neighbours outside the tree are told of it.
const SOON: Duration = Duration::from_millis(100);
/// Of two neighbours that would tell each other, one goes first. The other tells this much later what it was not told by then.
const TURN: Duration = Duration::from_millis(200);
/// How long a cast that was told of may take to come along the tree.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a neighbour that was asked for it may take.
const AGAIN: Duration = Duration::from_millis(400);
/// How often a cast that could not be taken yet is asked for again.
const PUT_OFF: u8 = 20;
/// How long a cast is kept for those that ask.
const KEEP: Duration = Duration::from_secs(30);
/// How long ids are remembered, so that a copy that comes late is known for one.
const REMEMBER: Duration = Duration::from_secs(120);
/// What a neighbour is believed that brings what it is asked for: so many claims of its own are waited for at a time. Twice what one
/// message claims, so that a loss of all that one message named shuts nobody out.
const BELIEVED: usize = 2 * IDS;
/// So many claims of each neighbour are waited for even if the others' leave no room.
const OWN: usize = 8;
/// Casts this new are told to a new neighbour.
const RECENT: Duration = Duration::from_secs(10);

/// A message to one neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whom.
    pub to: NodeId,
    /// What.
    pub msg: Msg,
}

/// Whether a cast is taken and handed on, told the cast and what the neighbour knew when it sent it.
pub type Accept<'a> = dyn FnMut(&[u8], [u8; 8]) -> Result<bool, Reject> + 'a;

/// What the machine holds, for tests of its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of casts kept.
    pub bytes: usize,
    /// Ids remembered.
    pub ids: usize,
    /// Ids told of and not here.
    pub missing: usize,
    /// Of these, so many the neighbour says it has that says so of the most.
    pub claims: usize,
}

struct Neighbour {
    /// In the tree: pushed to at once.
    eager: bool,
    /// Ids to tell of.
    owed: Vec<CastId>,
    /// When it is told, if it goes first.
    turn: Option<Mono>,
    /// Ids that it says it has and that are missing here.
    claims: usize,
    /// How many of them are waited for: each that it is asked for takes one, each cast that it brings gives two. So who keeps its word is
    /// believed though half of the questions and answers are lost, and who claims what there is not is soon waited for once at a time.
    belief: usize,
}

impl Neighbour {
    fn new(owed: Vec<CastId>) -> Neighbour {
        Neighbour { eager: true, owed, turn: None, claims: 0, belief: BELIEVED }
    }

    /// A cast came from it, be it known by now.
    fn kept_its_word(&mut self) {
        self.belief = (self.belief + 2).min(BELIEVED);
    }

    /// Asked after the others, and not drawn into the tree by that.
    fn is_doubted(&self) -> bool {
        self.belief < BELIEVED / 2
    }
}

struct Missing {
    /// Who says that it has it, in the order they said so, and whether it was asked, how often.
    holders: Vec<(NodeId, u8)>,
    due: Mono,
    /// How often it was asked for once more.
    again: u8,
    /// How often it came and could not be taken yet.
    put_off: u8,
}

struct Held {
    cast: Vec<u8>,
    hops: u8,
}

/// The tree of one domain at one node.
pub struct Broadcast {
    me: NodeId,
    /// How long ids wait for company before a neighbour is told of them.
    tell_after: Duration,
    /// How many neighbours outside the tree are told.
    lazy: usize,
    /// How often those who have a cast are asked for it once more: the question or the answer may be lost.
    again: u8,
    neighbours: Map<NodeId, Neighbour>,
    /// Casts kept; `None` once only the id is remembered.
    casts: BTreeMap<CastId, Option<Held>>,
    /// By age, for dropping the bytes and then the id.
    fresh: VecDeque<(Mono, CastId)>,
    stale: VecDeque<(Mono, CastId)>,
    bytes: usize,
    missing: BTreeMap<CastId, Missing>,
    due: BTreeSet<(Mono, CastId)>,
    tell: Option<Mono>,
    known: [u8; 8],
}

impl Broadcast {
    /// The machine of node `me`: no neighbour, nothing known. Ids wait for `tell_after` before `lazy` of the neighbours outside the tree
    /// are told of them, so that one message tells of many: the longer and the fewer, the cheaper, and the later is fetched what the tree did not bring.
    /// Each who has a cast is asked for it, and in turn `again` times more before it is given up.
    #[must_use]
    pub fn new(me: NodeId, tell_after: Duration, lazy: usize, again: u8) -> Broadcast {
        Broadcast {
            me,
            tell_after,
            lazy,
            again,
            neighbours: Map::new(),
            casts: BTreeMap::new(),
            fresh: VecDeque::new(),
            stale: VecDeque::new(),
            bytes: 0,
            missing: BTreeMap::new(),
            due: BTreeSet::new(),
            tell: None,
            known: [0; 8],
        }
    }

    /// Says what this node knows of the membership, in 8 bytes that are equal where it is: told with every cast handed on, so
    /// that a neighbour can see whether it knows as much as whoever accepted the cast before it.
    pub fn know(&mut self, known: [u8; 8]) {
        self.known = known;
    }

    /// A neighbour that takes part is linked: it is in the tree until it says otherwise, and told what is new.
    pub fn link_up(&mut self, now: Now, node: NodeId) {
        if self.neighbours.len() >= limit::LINKS || self.neighbours.contains_key(&node) {
            return;
        }
        let since = self.fresh.iter().rev().take_while(|(at, _)| now.mono.since(*at) < RECENT);
        let owed: Vec<CastId> = since.take(IDS).map(|(_, id)| *id).collect();
        if !owed.is_empty() {
            self.tell.get_or_insert(now.mono);
        }
        self.neighbours.insert(node, Neighbour::new(owed));
    }

    /// The last link to a neighbour broke.
    pub fn link_down(&mut self, node: &NodeId) {
        self.neighbours.remove(node);
        for missing in self.missing.values_mut() {
            missing.holders.retain(|(n, _)| n != node);
        }
    }

    /// Sends a cast of this node's own, or one that it has from somebody by another way, who gets none then. `ready` tells to whom more
    /// can be pushed now; the others are told of it, soon if it is `urgent`. One that is known already goes no further.
    pub fn publish(
        &mut self,
        now: Now,
        cast: Vec<u8>,
        urgent: bool,
        from: Option<NodeId>,
        ready: &dyn Fn(&NodeId) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let id = cast_id(&cast);
        if !self.casts.contains_key(&id) {
            self.found(&id);
            self.pass(now, cast, (0, urgent), from, ready, out);
        }
    }

    /// Takes a neighbour's message. `accept` is asked about a cast that is new, told what that neighbour knows, and answers whether it
    /// is urgent. What it refuses goes no further and is not looked at again; [`Reject::UnknownKey`] says that it may be taken
    /// soon, so that it is asked for again a few times.
    ///
    /// # Errors
    /// [`Reject::Forbidden`] from somebody who is no neighbour; what `accept` says.
    pub fn handle(
        &mut self,
        now: Now,
        from: NodeId,
        msg: Msg,
        ready: &dyn Fn(&NodeId) -> bool,
        accept: &mut Accept<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Reject> {
        let neighbour = self.neighbours.get_mut(&from).ok_or(Reject::Forbidden)?;
        match msg {
            Msg::Gossip { hops, known, cast } => {
                let id = cast_id(&cast);
                if self.casts.contains_key(&id) {
                    // Each time: one that was lost would leave a link in the tree for good.
                    neighbour.eager = false;
                    neighbour.kept_its_word();
                    out.push(Effect { to: from, msg: Msg::Prune });
                    return Ok(());
                }
                let urgent = match accept(&cast, known) {
                    Ok(urgent) => urgent,
                    Err(reject) => {
                        if reject == Reject::Stale {
                            neighbour.kept_its_word();
                        }
                        if reject != Reject::UnknownKey || self.is_over(now, from, id) {
                            self.remember(now, id);
                        }
                        return Err(reject);
                    }
                };
                neighbour.eager = true;
                neighbour.kept_its_word();
                self.found(&id);
                self.pass(now, cast, (hops.saturating_add(1), urgent), Some(from), ready, out);
            }
            Msg::Have(ids) => {
                // Who tells has it.
                neighbour.owed.retain(|id| !ids.contains(id));
                neighbour.turn.take_if(|_| neighbour.owed.is_empty());
                for id in ids {
                    self.heard_of(now, from, id);
                }
            }
            Msg::Graft(ids) => {
                neighbour.eager = true;
                for id in ids {
                    if let Some(Some(held)) = self.casts.get(&id) {
                        out.push(Effect { to: from, msg: Msg::Gossip { hops: held.hops, known: self.known, cast: held.cast.clone() } });
                    }
                }
            }
            Msg::Prune => neighbour.eager = false,
        }
        Ok(())
    }

    fn pass(
        &mut self,
        now: Now,
        cast: Vec<u8>,
        (hops, urgent): (u8, bool),
        from: Option<NodeId>,
        ready: &dyn Fn(&NodeId) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let id = cast_id(&cast);
        let tell = now.mono.after(if urgent { self.tell_after.min(SOON) } else { self.tell_after });
        let more = if urgent && from.is_none() { FIRST.saturating_sub(self.eager()) } else { 0 };
        let outside = self.neighbours.iter().cycle().skip(usize::from(id[0])).take(self.neighbours.len());
        let more: Vec<NodeId> = outside.filter(|(_, n)| !n.eager).map(|(node, _)| *node).take(more).collect();
        for (node, neighbour) in self.neighbours.iter_mut().filter(|(n, _)| Some(**n) != from) {
            if (neighbour.eager || more.contains(node)) && ready(node) {
                out.push(Effect { to: *node, msg: Msg::Gossip { hops, known: self.known, cast: cast.clone() } });
            } else if neighbour.owed.len() < IDS {
                neighbour.owed.push(id);
                self.tell = Some(self.tell.map_or(tell, |at| at.min(tell)));
            }
        }
        self.bytes += cast.len();
        self.fresh.push_back((now.mono, id));
        self.casts.insert(id, Some(Held { cast, hops }));
        while self.bytes > limit::CASTS
            && let Some((_, oldest)) = self.fresh.pop_front()
        {
            self.let_go(now, oldest);
        }
    }

    /// A neighbour says that it has a cast. What there is no room for, the tree or others bring.
    fn heard_of(&mut self, now: Now, from: NodeId, id: CastId) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if self.casts.contains_key(&id) || neighbour.claims >= neighbour.belief.max(1) {
            return;
        }
        if let Some(missing) = self.missing.get_mut(&id) {
            if !missing.holders.iter().any(|(n, _)| *n == from) {
                missing.holders.push((from, 0));
                neighbour.claims += 1;
            }
            return;
        }
        // The room is for whoever comes first, but for what each has of its own, whatever the others claim.
        let kept = if neighbour.claims < OWN { 0 } else { OWN * limit::LINKS };
        if self.missing.len() < limit::CASTS_MISSING - kept {
            let due = now.mono.after(PATIENCE);
            self.missing.insert(id, Missing { holders: Vec::from([(from, 0)]), due, again: 0, put_off: 0 });
            self.due.insert((due, id));
            neighbour.claims += 1;
        }
    }

    /// Whether a cast that cannot be taken yet was put off too often. Until then it is asked for again, if there is room to remember that.
    fn is_over(&mut self, now: Now, from: NodeId, id: CastId) -> bool {
        self.heard_of(now, from, id);
        let Some(missing) = self.missing.get_mut(&id) else { return false };
        missing.put_off += 1;
        missing.put_off > PUT_OFF
    }

    /// A cast is here, or nobody brings it.
    fn found(&mut self, id: &CastId) {
        let Some(missing) = self.missing.remove(id) else { return };
        self.due.remove(&(missing.due, *id));
        for (node, _) in missing.holders {
            if let Some(neighbour) = self.neighbours.get_mut(&node) {
                neighbour.claims -= 1;
            }
        }
    }

    /// Whom to ask for a missing cast: in turn, those first that bring what they are asked for, the others once; `None` when all were
    /// asked often enough.
    fn whom(&mut self, id: &CastId) -> Option<NodeId> {
        let missing = self.missing.get_mut(id)?;
        let doubted = |node: &NodeId| self.neighbours.get(node).is_none_or(Neighbour::is_doubted);
        let worth = |(node, asked): &&mut (NodeId, u8)| *asked == 0 || !doubted(node);
        let (node, asked) = missing.holders.iter_mut().filter(worth).min_by_key(|(node, asked)| (*asked, doubted(node)))?;
        if *asked > 0 {
            if missing.again >= self.again {
                return None;
            }
            missing.again += 1;
        }
        let (node, first) = (*node, *asked == 0);
        *asked = asked.saturating_add(1);
        if first && let Some(neighbour) = self.neighbours.get_mut(&node) {
            neighbour.belief = neighbour.belief.saturating_sub(1);
        }
        Some(node)
    }

    fn remember(&mut self, now: Now, id: CastId) {
        self.found(&id);
        self.casts.insert(id, None);
        self.stale.push_back((now.mono, id));
        while self.stale.len() > limit::CASTS_KNOWN
            && let Some((_, oldest)) = self.stale.pop_front()
        {
            self.casts.remove(&oldest);
        }
    }

    /// Drops a cast's bytes; its id stays known.
    fn let_go(&mut self, now: Now, id: CastId) {
        if let Some(Some(held)) = self.casts.remove(&id) {
            self.bytes -= held.cast.len();
            self.remember(now, id);
        }
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.tell.take_if(|at| now.mono >= *at).is_some() {
            self.tell_of(now, out);
        }
        let mut wanted: Map<NodeId, Vec<CastId>> = Map::new();
        while let Some(&(at, id)) = self.due.first()
            && at <= now.mono
        {
            self.due.pop_first();
            let Some(holder) = self.whom(&id) else {
                self.found(&id);
                continue;
            };
            wanted.entry(holder).or_default().push(id);
            if let Some(missing) = self.missing.get_mut(&id) {
                missing.due = now.mono.after(AGAIN);
                self.due.insert((missing.due, id));
            }
        }
        for (to, ids) in wanted {
            // Where the tree did not bring it, this neighbour joins the tree.
            if let Some(neighbour) = self.neighbours.get_mut(&to).filter(|n| !n.is_doubted()) {
                neighbour.eager = true;
            }
            out.extend(ids.chunks(IDS).map(|ids| Effect { to, msg: Msg::Graft(ids.to_vec()) }));
        }
        while let Some(&(at, id)) = self.fresh.front()
            && now.mono.since(at) >= KEEP
        {
            self.fresh.pop_front();
            self.let_go(now, id);
        }
        while let Some(&(at, id)) = self.stale.front()
            && now.mono.since(at) >= REMEMBER
        {
            self.stale.pop_front();
            self.casts.remove(&id);
        }
    }

    /// Tells as many neighbours as are to be told what they may lack, others each time: those whose ids, seen from this node's, are
    /// nearest to what is told. Were it not for its own id, all would choose the same few, and some be told by nobody. Those chosen
    /// choose this node too, so that one of the two can wait for the other's word.
    fn tell_of(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (waiting, mut owing): (Vec<_>, Vec<_>) =
            self.neighbours.iter_mut().filter(|(_, n)| !n.owed.is_empty()).partition(|(_, n)| n.turn.is_some());
        for (to, neighbour) in waiting {
            if neighbour.turn.take_if(|at| now.mono >= *at).is_some() {
                out.push(Effect { to: *to, msg: Msg::Have(core::mem::take(&mut neighbour.owed)) });
            }
        }
        let target = owing.first().and_then(|(_, n)| n.owed.last().copied()).unwrap_or_default();
        let me = self.me;
        let distance = |node: &NodeId| core::array::from_fn::<u8, 16, _>(|i| node.as_bytes()[i] ^ me.as_bytes()[i] ^ target[i]);
        if owing.len() > self.lazy {
            owing.sort_by_cached_key(|(node, _)| distance(node));
        }
        for (i, (to, neighbour)) in owing.into_iter().enumerate() {
            if i >= self.lazy {
                neighbour.owed.clear();
            } else if (me < *to) == (target[0] % 2 == 0) {
                out.push(Effect { to: *to, msg: Msg::Have(core::mem::take(&mut neighbour.owed)) });
            } else {
                neighbour.turn = Some(now.mono.after(TURN));
            }
        }
        self.tell = self.neighbours.values().filter_map(|n| n.turn).chain(self.tell).min();
    }

    /// When [`Broadcast::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let fresh = self.fresh.front().map(|(at, _)| at.after(KEEP));
        let stale = self.stale.front().map(|(at, _)| at.after(REMEMBER));
        [self.tell, self.due.first().map(|(at, _)| *at), fresh, stale].into_iter().flatten().min()
    }

    /// What is held.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let claims = self.neighbours.values().map(|n| n.claims).max().unwrap_or(0);
        Usage { bytes: self.bytes, ids: self.casts.len(), missing: self.missing.len(), claims }
    }

    /// Neighbours in the tree.
    #[must_use]
    pub fn eager(&self) -> usize {
        self.neighbours.values().filter(|n| n.eager).count()
    }
}

impl core::fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Broadcast({} neighbours, {:?})", self.neighbours.len(), self.usage())
    }
}
