//! What the two halves of a domain do while they are apart, and whether all of it is everywhere afterwards.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString as _},
    vec::Vec,
};
use core::time::Duration;

use super::Town;
use crate::base::{InvitationId, NodeId};
use crate::peer::{InviteOptions, invitation_of};
use crate::proto::directory::{Capability, Participant, Query};
use crate::proto::membership::InvitationState;

/// What those offer who change their records meanwhile.
const OFFER: &str = "sim/meanwhile";

/// A domain that is parted into halves, once.
pub(super) struct Halves {
    /// One of each half, whose clocks agree as well as any two do.
    writers: [NodeId; 2],
    /// An invitation that is closed while they are apart.
    invitation: InvitationId,
    /// What every copy of the shared state holds afterwards.
    written: BTreeMap<String, String>,
}

impl Halves {
    /// Makes ready. Some seconds have to pass before they are [parted](Halves::part), so that all know of the invitation.
    pub fn new(town: &mut Town) -> Halves {
        let (domain, manager) = (town.domain, town.manager);
        // The manager holds the root key.
        let link = town.world.act(manager, |p, now| p.invite(now, domain, InviteOptions::default())).unwrap();
        let (west, east) = town.participants.split_at(town.participants.len() / 2);
        let wall = |n: &NodeId| town.world.look(*n, |_, now| now.wall.0);
        // The later of two writes is the one with the later clock: that clocks are wrong is not what is tried here.
        let pairs = west.iter().flat_map(|w| east.iter().map(move |e| [*w, *e]));
        let writers = pairs.min_by_key(|[w, e]| wall(w).abs_diff(wall(e))).expect("there are two halves"); // invariant: four participants
        Halves { writers, invitation: invitation_of(&link), written: BTreeMap::new() }
    }

    /// Parts them for so long. In the middle of it each half writes keys of its own and, one after the other, the same ones, somebody of
    /// each changes its record, and the manager, which one of them has, closes an invitation.
    pub fn part(&mut self, town: &mut Town, apart: Duration) {
        let (domain, manager, invitation) = (town.domain, town.manager, self.invitation);
        let away = town.participants[town.participants.len() / 2..].iter().map(|n| (*n, 1)).collect();
        town.world.net().partition(away);
        town.world.run(apart / 2);
        let [west, east] = self.writers;
        for (key, order) in [("west's", &[west][..]), ("east's", &[east]), ("east's last", &[west, east]), ("west's last", &[east, west])] {
            let mut latest = 0;
            for writer in order {
                let (text, wall) = (writer.to_string(), town.world.look(*writer, |_, now| now.wall.0));
                town.world.act(*writer, |p, now| p.write_state(now, domain, key, Some(text.clone().into_bytes()))).unwrap();
                if wall > latest {
                    latest = wall;
                    self.written.insert(key.to_string(), text);
                }
                town.world.run(Duration::from_secs(1));
            }
        }
        for node in self.writers {
            town.world.act(node, |p, now| p.advertise(now, domain, Vec::from([Capability::new(OFFER, 1)]))).unwrap();
        }
        town.world.act(manager, |p, now| p.revoke_invitation(now, domain, invitation)).unwrap();
        town.world.run((apart / 2).saturating_sub(Duration::from_secs(6)));
        town.world.net().heal();
    }

    /// Whether all copies are equal: those of the shared state, of the membership and of the directory. Renewals of records are under way all
    /// the time, one a second among a hundred, and news that is lost is told again after seconds: the directory is compared in what it says of
    /// those who are there, not in how often they said so.
    pub fn agree(town: &Town) -> bool {
        let domain = town.domain;
        let all = || town.participants.iter().chain([&town.manager]);
        equal(town.participants.iter().map(|n| town.world.look(*n, |p, _| p.state_digest(domain).ok())))
            && equal(all().map(|n| town.world.look(*n, |p, _| p.statements_digest(domain))))
            && equal(all().map(|n| says(town, *n)))
    }

    /// How much of what was done while they were apart is not there, over all copies; an earlier write that won is one.
    pub fn lost(&self, town: &Town) -> usize {
        let (domain, key) = (town.domain, self.invitation.as_bytes());
        let mut lost = 0;
        for node in &town.participants {
            lost += town.world.look(*node, |p, now| {
                let value = |key: &str| p.state_entry(domain, key).ok().flatten().and_then(|e| e.value);
                let unwritten = self.written.iter().filter(|(key, text)| value(key).as_deref() != Some(text.as_bytes())).count();
                let offers = |n: &NodeId| p.participant(now, domain, n).ok().flatten().is_some_and(|row| offers(&row));
                let unchanged = self.writers.iter().filter(|n| !offers(n)).count();
                let open =
                    p.invitations(now, domain).is_ok_and(|all| all.iter().any(|i| i.key == *key && i.state == InvitationState::Open));
                unwritten + unchanged + usize::from(open)
            });
        }
        lost
    }
}

fn offers(row: &Participant) -> bool {
    row.capabilities.iter().any(|c| c.name == OFFER)
}

/// What a node's directory says of those who are there.
fn says(town: &Town, node: NodeId) -> Vec<Participant> {
    let query = Query { online: Some(true), ..Query::default() };
    let mut rows = town.world.look(node, |p, now| p.participants(now, town.domain, &query)).unwrap_or_default();
    for row in &mut rows {
        (row.incarnation, row.is_self) = (0, false);
    }
    rows
}

fn equal<T: PartialEq>(mut all: impl Iterator<Item = T>) -> bool {
    let first = all.next();
    all.all(|other| Some(other) == first)
}
