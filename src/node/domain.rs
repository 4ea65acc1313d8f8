//! A domain on disk: `domain/` in the data directory. The root key is a file of its own; `statements/` is where other
//! programs leave new ones for a running manager.

pub(super) mod storage;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::data::{DataDir, Inbox};
use crate::base::{Code, DomainId, Error, InvitationId, NodeId, Now};
use crate::crypto::{sign::SigningKey, tag};
use crate::peer::{InviteOptions, Part, SavedDomain, found_domain, make_invitation};
use crate::platform::native;
use crate::proto::membership::{InvitationInfo, Membership, Rights, domain_id};
use crate::wire::link::InviteLink;

const ROOT: &str = "root.key";
const GENESIS: &str = "genesis";
const SECRET: &str = "secret";
const MEMBERS: &str = "members";
const CONTACTS: &str = "contacts";
const INVITE: &str = "invite";
const RELAYS: &str = "relays.json";
/// How long a manager is appointed for. Where the root key is, its membership is renewed in time.
const APPOINTMENT: Duration = Duration::from_secs(90 * 24 * 3_600);
/// An invitation is given again only if it holds this much longer.
const WORTHWHILE: Duration = Duration::from_secs(24 * 3_600);

/// The capability that every domain made here calls essential: its absence is shown to all.
pub const MANAGING: &str = "domain/manager";
/// The capability of whoever keeps domain data.
pub const STORING: &str = "data/store";

/// A domain's files.
#[derive(Clone, Debug)]
pub struct DomainFiles(DataDir);

/// Where relays were reached last, for invitations made while no relay is asked.
#[derive(Default, Serialize, Deserialize)]
struct Relays {
    relays: Vec<String>,
    manager: Option<String>,
}

impl DomainFiles {
    /// The folder in a data directory.
    ///
    /// # Errors
    /// [`Code::Storage`] if it cannot be made or written.
    pub fn open(data: &DataDir) -> Result<DomainFiles, Error> {
        Ok(DomainFiles(data.folder("domain")?))
    }

    /// The domain, if there is one.
    ///
    /// # Errors
    /// [`Code::Storage`] for files that cannot be read or are damaged.
    pub fn load(&self) -> Result<Option<SavedDomain>, Error> {
        let Some(genesis) = self.0.read_secret(GENESIS)? else { return Ok(None) };
        let secret = self.0.read_secret(SECRET)?.and_then(|s| <[u8; 32]>::try_from(s.as_slice()).ok()).map(Zeroizing::new);
        let secret = secret.ok_or_else(|| self.damaged(SECRET))?;
        let root = self.0.existing_key(ROOT)?.map(|key| key.seed());
        let statements = self.0.read_secret(MEMBERS)?.ok_or_else(|| self.damaged(MEMBERS))?.to_vec();
        let mut saved = SavedDomain { genesis: genesis.to_vec(), statements, secret, root, ..SavedDomain::default() };
        if let Some(contacts) = self.0.read_secret(CONTACTS)? {
            saved.read_contacts(&contacts)?;
        }
        Ok(Some(saved))
    }

    /// The domain, or an error that says how to get one.
    ///
    /// # Errors
    /// As [`DomainFiles::load`]; [`Code::Storage`] if there is none.
    pub fn existing(&self) -> Result<SavedDomain, Error> {
        self.load()?.ok_or_else(|| {
            Error::new(Code::Storage, format!("there is no domain in {}", self.0.path().display()))
                .hint("Make one with: peerage domain create NAME")
        })
    }

    /// Founds a domain here. Nothing that exists is replaced.
    ///
    /// # Errors
    /// [`Code::Storage`] if there is one already; [`Code::BadArgument`] for its name.
    pub fn create(&self, name: &str) -> Result<SavedDomain, Error> {
        self.vacant()?;
        let saved = found_domain(&mut native::entropy()?, native::clock(), name, &[MANAGING.to_owned()])?;
        self.write(&saved)?;
        self.supply_lockbox(&saved)?;
        Ok(saved)
    }

    /// Puts a domain here that was backed up elsewhere. Nothing that exists is replaced.
    ///
    /// # Errors
    /// [`Code::Storage`] if there is one already.
    pub fn restore(&self, saved: &SavedDomain) -> Result<(), Error> {
        self.vacant()?;
        self.write(saved)?;
        self.store_contacts(saved)
    }

    /// Puts the root key of the domain here, where it is not.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if it is another domain's, [`Code::Storage`].
    pub fn restore_root(&self, saved: &SavedDomain, seed: &[u8; 32]) -> Result<(), Error> {
        let (_, membership) = self.describe(saved)?;
        let root = SigningKey::from_seed(seed);
        if root.public() != membership.genesis().root {
            return Err(Error::new(Code::BadArgument, "this is the root key of another domain"));
        }
        if saved.root.is_some() { Ok(()) } else { self.0.create_key(ROOT, &root) }
    }

    fn vacant(&self) -> Result<(), Error> {
        if self.load()?.is_none() {
            return Ok(());
        }
        Err(Error::new(Code::Storage, format!("there is a domain in {} already", self.0.path().display()))
            .hint("Name another directory with --data DIR"))
    }

    fn write(&self, saved: &SavedDomain) -> Result<(), Error> {
        if let Some(root) = &saved.root {
            self.0.create_key(ROOT, &SigningKey::from_seed(root))?;
        }
        self.0.create_secret(SECRET, &saved.secret[..])?;
        self.0.create_secret(MEMBERS, &saved.statements)?;
        // Last: a domain without its genesis is none.
        self.0.create_secret(GENESIS, &saved.genesis)
    }

    /// Stores the membership statements.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn store_members(&self, export: &[u8]) -> Result<(), Error> {
        self.0.replace_secret(MEMBERS, export)
    }

    /// Stores whom to dial after a restart.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn store_contacts(&self, saved: &SavedDomain) -> Result<(), Error> {
        self.0.replace_secret(CONTACTS, &saved.encode(Part::Contacts))
    }

    /// The folder for new statements.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn statements(&self) -> Result<Inbox, Error> {
        Inbox::statements(&self.0)
    }

    /// Notes where the relays, and who the manager, are.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn store_relays(&self, relays: &[String], manager: &str) -> Result<(), Error> {
        let noted = Relays { relays: relays.to_vec(), manager: Some(manager.to_owned()) };
        let text = serde_json::to_vec(&noted).map_err(|e| self.damaged(RELAYS).caused_by(e))?;
        self.0.replace_secret(RELAYS, &text)
    }

    /// Where the relays were reached last.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn noted_relays(&self) -> Result<Vec<String>, Error> {
        Ok(self.noted()?.relays)
    }

    fn noted(&self) -> Result<Relays, Error> {
        match self.0.read_secret(RELAYS)? {
            Some(text) => serde_json::from_slice(&text).map_err(|e| self.damaged(RELAYS).caused_by(e)),
            None => Ok(Relays::default()),
        }
    }

    /// Makes an invitation and leaves its statement for the manager. Without `relays` those noted last are named.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::NoRelay`] if no relay is known, [`Code::Storage`].
    pub fn invite(&self, saved: &SavedDomain, relays: &[String], options: InviteOptions) -> Result<InviteLink, Error> {
        self.issue(saved, relays, Zeroizing::new(native::entropy()?.bytes()), native::clock(), options)
    }

    /// The invitation made here before, with these relays, or a new one if it ends within a day.
    ///
    /// # Errors
    /// As [`DomainFiles::invite`].
    pub fn standing_invite(&self, saved: &SavedDomain, relays: &[String]) -> Result<InviteLink, Error> {
        let now = native::clock();
        let kept = self.0.read_secret(INVITE)?;
        if let Some((made, secret)) = kept.as_deref().and_then(|k| k.split_first_chunk::<8>())
            && let Ok(secret) = <[u8; 32]>::try_from(secret)
        {
            let made = Now { wall: crate::base::Wall(u64::from_be_bytes(*made)), ..now };
            if made.wall.after(InviteOptions::default().lifetime) > now.wall.after(WORTHWHILE) {
                return self.issue(saved, relays, Zeroizing::new(secret), made, InviteOptions::default());
            }
        }
        let secret = Zeroizing::new(native::entropy()?.bytes::<32>());
        let link = self.issue(saved, relays, secret.clone(), now, InviteOptions::default())?;
        self.0.replace_secret(INVITE, &Zeroizing::new([&now.wall.0.to_be_bytes()[..], &secret[..]].concat()))?;
        Ok(link)
    }

    fn issue(
        &self,
        saved: &SavedDomain,
        relays: &[String],
        secret: Zeroizing<[u8; 32]>,
        at: Now,
        options: InviteOptions,
    ) -> Result<InviteLink, Error> {
        let noted = self.noted()?;
        let relays = for_invitations(if relays.is_empty() { &noted.relays } else { relays });
        if relays.is_empty() {
            return Err(Error::new(Code::NoRelay, "no relay is known that the invitation could name").hint("Name one with --relay ADDRESS"));
        }
        let root = root(saved)?;
        let domain = domain_id(&saved.genesis);
        let manager = noted.manager.and_then(|m| m.parse::<NodeId>().ok());
        let rendezvous = *tag::rendezvous_key(&saved.secret).public();
        let (mut link, statement) = make_invitation(at, &domain, &root, secret, rendezvous, manager, relays, options);
        self.statements()?.add(&statement)?;
        link.generation = self.supply_lockbox(saved)?;
        Ok(link)
    }

    /// Evicts a member for good, and closes the invitations it came through.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::NoParticipant`], [`Code::Storage`].
    pub fn evict(&self, saved: &SavedDomain, node: NodeId) -> Result<(), Error> {
        self.act(saved, |membership, root| membership.evict(native::clock(), root, &node))
    }

    /// Closes an invitation. Who came through it stays.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::InviteUnknown`], [`Code::Storage`].
    pub fn close(&self, saved: &SavedDomain, invitation: InvitationId) -> Result<(), Error> {
        self.act(saved, |membership, root| membership.close_invitation(native::clock(), root, invitation.as_bytes()))
    }

    /// Gives a participant rights, for at most 90 days.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::BadArgument`], [`Code::NoParticipant`], [`Code::Storage`].
    pub fn delegate(&self, saved: &SavedDomain, node: NodeId, rights: Rights, lifetime: Duration) -> Result<(), Error> {
        self.act(saved, |membership, root| Ok(vec![membership.delegation(native::clock(), root, &node, rights, lifetime)?]))
    }

    /// Appoints a manager of this rank, or gives one another rank. What comes back is what its machine needs to open the domain: all that
    /// is here but the root key.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, for a participant, and for a node that was evicted or left; [`Code::BadArgument`] for a
    /// rank that there is not; [`Code::Storage`].
    pub fn appoint(&self, saved: &SavedDomain, node: NodeId, rank: u8) -> Result<SavedDomain, Error> {
        let (root, now, mut membership) = (root(saved)?, native::clock(), self.current(saved)?);
        let statement = membership.appointment(now, &root, &node, rank, APPOINTMENT)?;
        // It tells no key to anybody, so no lockbox goes stale with it.
        self.statements()?.add(&statement)?;
        let learnt = membership.learn(now, None, &statement, &mut Vec::new());
        learnt.map_err(|r| Error::new(r.code(), "the appointment was refused").caused_by(r))?;
        // First those that the manager here was reached through, then those that invitations name.
        let mut relays = saved.relays.clone();
        relays.extend(for_invitations(&self.noted()?.relays).into_iter().filter(|r| !saved.relays.contains(r)));
        relays.truncate(crate::wire::link::RELAYS);
        Ok(SavedDomain {
            genesis: saved.genesis.clone(),
            statements: membership.export(),
            secret: saved.secret.clone(),
            relays,
            contacts: saved.contacts.iter().filter(|(contact, _)| *contact != node).cloned().collect(),
            ..SavedDomain::default()
        })
    }

    /// Lets somebody in who waits, or turns them away: a no outweighs every yes.
    ///
    /// # Errors
    /// [`Code::Forbidden`] without the root key, [`Code::Storage`].
    pub fn decide(&self, saved: &SavedDomain, node: NodeId, admit: bool) -> Result<(), Error> {
        self.act(saved, |membership, root| Ok(vec![membership.decision(native::clock(), root, &node, admit)?]))
    }

    /// Every invitation known, those that end first first.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn invitations(&self, saved: &SavedDomain) -> Result<Vec<InvitationInfo>, Error> {
        Ok(self.current(saved)?.invitations(native::clock()))
    }

    /// Makes statements with the root key and leaves them for the manager.
    fn act(&self, saved: &SavedDomain, make: impl FnOnce(&Membership, &SigningKey) -> Result<Vec<Vec<u8>>, Error>) -> Result<(), Error> {
        let (root, folder) = (root(saved)?, self.statements()?);
        make(&self.current(saved)?, &root)?.iter().try_for_each(|statement| folder.add(statement))?;
        // Who was thrown out, or may come by a link that was closed, is to read nothing that is stored from now on.
        self.supply_lockbox(saved).map(|_| ())
    }

    /// The membership with what lies there for a manager that has not taken it yet.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn current(&self, saved: &SavedDomain) -> Result<Membership, Error> {
        let (_, mut membership) = self.describe(saved)?;
        for statement in self.statements()?.fresh()? {
            // What is refused here is refused by the manager, which says so.
            let _ = membership.learn(native::clock(), None, &statement, &mut Vec::new());
        }
        Ok(membership)
    }

    /// Id, name and members of a stored domain.
    ///
    /// # Errors
    /// [`Code::Storage`] if it is damaged.
    pub fn describe(&self, saved: &SavedDomain) -> Result<(DomainId, Membership), Error> {
        let id = domain_id(&saved.genesis);
        let membership = Membership::restore(id, &saved.genesis, &saved.statements, native::clock());
        Ok((id, membership.map_err(|r| self.damaged(MEMBERS).caused_by(r))?))
    }

    fn damaged(&self, name: &str) -> Error {
        Error::new(Code::Storage, format!("{} is missing or damaged", self.0.path().join(name).display())).hint("Restore it from a copy")
    }
}

fn root(saved: &SavedDomain) -> Result<SigningKey, Error> {
    let seed = saved
        .root
        .as_ref()
        .ok_or_else(|| Error::new(Code::Forbidden, "the domain's root key is not here").hint("Do it on the machine that has root.key"))?;
    Ok(SigningKey::from_seed(seed))
}

/// Of a relay's addresses those for an invitation: WebSocket, which every platform can dial, then what pages over `https` can:
/// WebTransport, and WebRTC-direct, whose hash stays the same.
fn for_invitations(relays: &[String]) -> Vec<String> {
    let of = |what: &'static str| relays.iter().filter(move |a| a.contains(what) && a.len() <= crate::wire::link::RELAY_ADDRESS);
    let mut chosen: Vec<String> =
        of("/ws").chain(of("/webtransport")).chain(of("/webrtc-direct")).take(crate::wire::link::RELAYS).cloned().collect();
    if chosen.is_empty() {
        chosen = relays.iter().take(crate::wire::link::RELAYS).cloned().collect();
    }
    chosen
}
