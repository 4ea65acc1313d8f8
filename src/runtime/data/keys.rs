//! The storage keys: where they come from, and how they outlast a process.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::session::{Session, Trouble, astray};
use super::{DomainData, Known, Memory, forged};
use crate::base::{Code, DomainId, Error, NodeId, Reject};
use crate::crypto::object::{Identity, ObjectKey, StorageKey, recipient};
use crate::crypto::{invite, sign::SigningKey};
use crate::peer::storage::{supply, with_policy};
use crate::proto::membership::Rights;
use crate::proto::objects::message::{Answer, Request};
use crate::proto::objects::{Description, Enrolment, GENERATIONS, Header, Keyring, Lockbox, ObjectId};
use crate::runtime::store::Store;
use crate::wire::bytes::{Reader, Writer};

/// Objects whose newest version is remembered.
const SEEN: usize = 65_536;
const FORMAT: u8 = 1;
/// Lockboxes taken from a manager at once.
const LOCKBOXES: usize = GENERATIONS;

/// Its name in a store.
fn record(domain: DomainId) -> String {
    format!("domain/{domain}/storage")
}

pub(super) fn none() -> Error {
    Error::new(Code::Forbidden, "the domain's storage key was not given to this participant")
        .hint("Join with an invitation of the owner's, or let somebody with the right to store come online")
}

/// What a store holds of a domain: `format u8 | u32 length | keyring | seen: object 16, version u64, hash 32`.
pub(super) async fn load<S: Store>(store: &S, domain: DomainId) -> Result<Memory, Error> {
    let mut memory = Memory { keyring: Keyring::new(domain), seen: BTreeMap::new(), stored: None, enrolled: false };
    if let Some(bytes) = store.get(&record(domain)).await? {
        let damaged = |reject| Error::new(Code::Storage, "the stored storage keys are damaged").caused_by(reject);
        memory.read(&bytes).map_err(damaged)?;
        memory.stored = Some(blake3::hash(&bytes));
    }
    Ok(memory)
}

impl Memory {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORMAT {
            return Err(Reject::Version);
        }
        let length = r.u32()? as usize;
        self.keyring.import(r.take(length)?)?;
        while r.remaining() > 0 {
            self.seen.insert(r.array()?, (r.u64()?, r.array()?));
        }
        Ok(())
    }

    fn write(&self) -> Vec<u8> {
        let keyring = Zeroizing::new(self.keyring.export());
        let mut w = Writer::new();
        w.u8(FORMAT).u32(keyring.len() as u32).raw(&keyring);
        for (object, (version, hash)) in &self.seen {
            w.raw(object).u64(*version).raw(hash);
        }
        w.finish()
    }

    pub(super) fn see(&mut self, object: ObjectId, version: u64, hash: [u8; 32]) {
        if self.seen.len() >= SEEN && !self.seen.contains_key(&object) {
            self.seen.pop_first();
        }
        self.seen.insert(object, (version, hash));
    }
}

/// A version to be: its keys, and all of its header that does not depend on the content.
pub(super) struct Draft {
    pub(super) key: ObjectKey,
    identity: Identity,
    previous: [u8; 32],
}

impl Draft {
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn header(&self, description: &Description, size: u64, root: [u8; 32]) -> Result<Header, Error> {
        let description =
            self.key.seal_description(&description.encode()?).map_err(|r| Error::new(r.code(), "its description is too long"))?;
        let commitment = *self.key.commitment();
        Ok(Header { identity: self.identity, commitment, previous: self.previous, size, root, description })
    }
}

impl<S: Store> DomainData<S> {
    /// Keys are there, if there are any.
    pub(super) async fn with_keys(&self) -> Result<(), Error> {
        let (there, enrolled) = {
            let memory = self.memory();
            (memory.keyring.first().is_some() && memory.keyring.is_current(), memory.enrolled)
        };
        if there && enrolled { Ok(()) } else { self.renew_keys().await }
    }

    /// Asks for lockboxes, and makes the one that is missing if this participant may.
    pub(super) async fn renew_keys(&self) -> Result<(), Error> {
        self.patiently(async |session| self.renew_on(session).await).await?;
        self.keep().await?;
        if self.memory().keyring.first().is_some() { Ok(()) } else { Err(none()) }
    }

    async fn renew_on(&self, session: &mut Session) -> Result<(), Trouble> {
        let domain = self.0.domain;
        if !self.memory().enrolled {
            let enrolment =
                self.0.node.look_at_keys(domain, |_, me, _, _| Enrolment::sign(&domain, me, recipient(me, &domain).public()))?;
            done(session.ask(&Request::Enrol(enrolment)).await?)?;
            self.memory().enrolled = true;
        }
        self.take_lockboxes(session).await?;
        let issuer = self.0.node.look_at_keys(domain, |membership, me, root, now| {
            root.cloned().or_else(|| membership.may(now, &me.public(), Rights::STORE).then(|| me.clone()))
        })?;
        if let Some(issuer) = issuer {
            self.supply(session, &issuer).await?;
        }
        Ok(())
    }

    async fn take_lockboxes(&self, session: &mut Session) -> Result<(), Trouble> {
        let mut all = Vec::new();
        for bytes in session.lockboxes(LOCKBOXES).await? {
            let lockbox = Lockbox::verify(&self.0.domain, &bytes).map_err(|r| forged("a lockbox is forged").caused_by(r))?;
            all.push((lockbox.generation.number, bytes));
        }
        // Later keys lead to earlier ones.
        all.sort_by(|a, b| b.cmp(a));
        for (_, bytes) in all {
            self.take(&bytes)?;
        }
        Ok(())
    }

    fn take(&self, lockbox: &[u8]) -> Result<(), Error> {
        let domain = self.0.domain;
        let link = self.0.node.kept_invitation(domain)?;
        let invitation = link.as_ref().map(|link| invite::derive(&domain, &link.secret));
        self.0.node.look_at_keys(domain, |membership, me, root, now| {
            let (own, owner) = (recipient(me, &domain), root.map(|root| (root.public(), recipient(root, &domain))));
            let mut whom = vec![(me.public(), &own)];
            whom.extend(invitation.as_ref().map(|keys| (keys.sign.public(), &keys.kem)));
            whom.extend(owner.as_ref().map(|(id, kem)| (*id, kem)));
            let mut memory = self.memory();
            if let Some(link) = &link {
                memory.keyring.at_least(link.generation);
            }
            if let Err(reject) = with_policy(membership, now, |policy| memory.keyring.take(lockbox, &whom, policy)) {
                // Of somebody who may issue none any more, for instance.
                tracing::debug!(%reject, "a lockbox was passed over");
            }
        })
    }

    /// Makes the lockbox that is missing, if one is, and gives it to the manager.
    async fn supply(&self, session: &mut Session, issuer: &SigningKey) -> Result<(), Trouble> {
        let domain = self.0.domain;
        let Answer::Enrolments(all) = session.ask(&Request::Enrolments).await? else { return Err(astray()) };
        let enrolled = all.iter().filter_map(|bytes| Enrolment::verify(&domain, bytes).ok()).map(|e| (e.node, e.kem)).collect();
        let mut rng = self.0.node.rng();
        let made = self
            .0
            .node
            .look_at_keys(domain, |membership, _, _, now| supply(&self.memory().keyring, membership, &enrolled, now, issuer, &mut rng))?;
        if let Some(lockbox) = made? {
            done(session.ask(&Request::Lockbox(lockbox.clone())).await?)?;
            self.take(&lockbox)?;
        }
        Ok(())
    }

    /// What a new version of a path is written with. `resume` names the content: the same leads to the same keys.
    pub(super) fn draft(&self, path: &str, head: Option<&Known>, resume: Option<&[u8]>) -> Result<Draft, Error> {
        let (domain, mut rng) = (self.0.domain, self.0.node.rng());
        let (version, previous) = head.map_or((0, [0; 32]), |k| (k.header.identity.version, k.hash));
        let version = version.checked_add(1).ok_or_else(|| Error::new(Code::Conflict, "it has too many versions"))?;
        self.0.node.look_at_keys(domain, |membership, me, _, now| {
            let memory = self.memory();
            with_policy(membership, now, |policy| {
                let first = memory.keyring.first().ok_or_else(none)?;
                let object = token(first, &domain, path);
                let (generation, storage) = memory.keyring.writable(policy).ok_or_else(stale)?;
                let salt =
                    resume.map_or_else(|| rng.bytes(), |content| resumable(storage, me.node_id(), &object, version, &previous, content));
                let identity = Identity { domain, object, version, generation: generation.number, author: me.node_id(), salt };
                Ok(Draft { key: storage.object(&identity), identity, previous })
            })
        })?
    }

    /// The generation under which something can be written now.
    fn writable(&self) -> Result<Option<u32>, Error> {
        self.0.node.look_at_keys(self.0.domain, |membership, _, _, now| {
            let memory = self.memory();
            with_policy(membership, now, |policy| memory.keyring.writable(policy).map(|(generation, _)| generation.number))
        })
    }

    /// Whether something can be written now; keys are asked for if not.
    pub(super) async fn with_writable_keys(&self) -> Result<(), Error> {
        if self.writable()?.is_none() {
            self.renew_keys().await?;
        }
        if self.writable()?.is_some() { Ok(()) } else { Err(stale()) }
    }

    /// Whether what was sealed with a draft may still be stored: nobody who has its key was evicted meanwhile.
    pub(super) fn is_fresh(&self, draft: &Draft) -> Result<(), Error> {
        if self.writable()? == Some(draft.identity.generation) {
            return Ok(());
        }
        Err(Error::new(Code::Busy, "the storage key changed while this was being stored").hint("Store it again"))
    }

    pub(super) fn sign(&self, header: &Header) -> Result<Vec<u8>, Error> {
        let signed = self.0.node.look_at_keys(self.0.domain, |_, me, _, _| header.sign(me))?;
        signed.map_err(|r| Error::new(r.code(), "this version cannot be signed"))
    }

    /// Stores the keys and what was seen, if they changed.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        let bytes = Zeroizing::new(self.memory().write());
        let hash = blake3::hash(&bytes);
        if self.memory().stored != Some(hash) {
            self.0.store.write(vec![(record(self.0.domain), Some(bytes))]).await?;
            self.memory().stored = Some(hash);
        }
        Ok(())
    }
}

/// The object of a path: the same for all participants.
pub(super) fn token(first: &StorageKey, domain: &DomainId, path: &str) -> ObjectId {
    first.token(domain, "path", path.as_bytes())
}

fn stale() -> Error {
    Error::new(Code::Busy, "somebody was evicted, and the storage key has not been renewed since")
        .hint("Whoever has the right to store renews it as soon as they come; the owner with any command of peerage invite or evict")
}

fn done(answer: Answer) -> Result<(), Trouble> {
    if answer == Answer::Done { Ok(()) } else { Err(astray()) }
}

/// A salt that is the same when the same participant puts the same content in the same place again, and tells nobody else anything.
fn resumable(storage: &StorageKey, me: NodeId, object: &ObjectId, version: u64, previous: &[u8; 32], content: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("peerage/1 salt of a put that can go on after a restart");
    hasher.update(storage.as_bytes()).update(me.as_bytes()).update(object).update(&version.to_be_bytes()).update(previous).update(content);
    *hasher.finalize().as_bytes()
}
