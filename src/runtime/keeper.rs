//! Keeps a store in step with a running node, and opens domains again from it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::lock::Mutex as Turn;
use futures_timer::Delay;

use super::handle::Node;
use super::store::{Bytes, Changes, Store, domain_of, name};
use crate::base::{Code, DomainId, Error, Gather, Map};
use crate::crypto::Role;
use crate::peer::{Event, Part, Profile, SavedDomain};
use crate::wire::link::InviteLink;

/// Changes are collected for so long before they are written.
const SETTLE: Duration = Duration::from_millis(500);
/// The wait after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// A node with a store. Clones are the same keeper. Its [`Keeper::run`] has to be driven.
#[derive(Clone)]
pub struct Keeper<S> {
    node: Node,
    store: S,
    /// Hashes of the records as they are in the store, by name: what is equal is not written again, and what was never read or
    /// written here is looked at before it is replaced.
    stored: Arc<Mutex<Map<String, blake3::Hash>>>,
    /// One at a time reads and writes.
    turn: Arc<Turn<()>>,
}

impl<S: Store> Keeper<S> {
    /// A keeper for a node that has just started.
    pub fn new(node: Node, store: S) -> Keeper<S> {
        Keeper { node, store, stored: Arc::default(), turn: Arc::default() }
    }

    /// The domains in the store, open or not.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub async fn domains(&self) -> Result<Vec<DomainId>, Error> {
        let ids: BTreeSet<DomainId> = self.store.list().await?.iter().filter_map(|name| domain_of(name)).gather();
        Ok(ids.into_iter().collect())
    }

    /// What is stored of a domain.
    ///
    /// # Errors
    /// [`Code::Storage`], also for damaged records. Nothing is changed then.
    pub async fn load(&self, id: DomainId) -> Result<Option<SavedDomain>, Error> {
        let _turn = self.turn.lock().await;
        self.read(id).await
    }

    /// Opens a stored domain, without an invitation. With the root key at hand and no credential yet, this node gets `role`.
    ///
    /// # Errors
    /// [`Code::Storage`] if it is not there or damaged; [`Code::Forbidden`] if this node is no longer a member.
    pub async fn reopen(&self, id: DomainId, role: Role, profile: Profile) -> Result<DomainId, Error> {
        // What was learnt last, an eviction for instance, counts.
        self.flush().await?;
        let Some(saved) = self.load(id).await? else {
            return Err(Error::new(Code::Storage, format!("domain {id} is not in the store")).hint("Join it with an invitation link."));
        };
        self.node.open_domain(&saved, role, profile)?;
        self.flush().await?;
        Ok(id)
    }

    /// Opens a domain from a backup of its owner's, and stores it. With the root key in it this node is the owner's.
    ///
    /// # Errors
    /// [`Code::Forbidden`] if this node is no member and the root key is not in it; [`Code::Storage`].
    pub async fn restore(&self, saved: &SavedDomain, profile: Profile) -> Result<DomainId, Error> {
        self.flush().await?;
        let id = self.node.open_domain(saved, Role::Participant, profile)?;
        if let Some(root) = &saved.root {
            // It may have been open without.
            self.node.import_root(id, root)?;
        }
        self.flush().await?;
        Ok(id)
    }

    /// Joins the domain that a link names; if it is in the store already, opens it from there. What came of it is stored
    /// before this returns.
    ///
    /// # Errors
    /// As [`Node::join`] and [`Keeper::reopen`].
    pub async fn join(&self, link: &str, profile: Profile) -> Result<DomainId, Error> {
        let parsed = InviteLink::parse(link)?;
        self.flush().await?;
        let stored = self.load(parsed.domain).await?;
        match stored.as_ref().map(|saved| self.node.open_domain(saved, Role::Participant, profile.clone())) {
            Some(Ok(_)) => self.node.offer_relays(&parsed.relays)?,
            Some(Err(error)) if error.code() != Code::Forbidden => return Err(error),
            // Not there, or its membership ran out: the link may be newer.
            _ => {
                self.node.join(link, profile).await?;
                if let Some(saved) = &stored {
                    self.node.adopt(saved);
                }
            }
        }
        self.flush().await?;
        Ok(parsed.domain)
    }

    /// Deletes a domain from the store, its root key included if it is there. An open domain is left first.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub async fn forget(&self, id: DomainId) -> Result<(), Error> {
        // Not being in it is fine.
        let _ = self.node.leave(id);
        let _turn = self.turn.lock().await;
        let names: Vec<String> = self.store.list().await?.into_iter().filter(|name| domain_of(name) == Some(id)).collect();
        self.note(|stored| stored.retain(|name, _| !names.contains(name)));
        self.store.write(names.into_iter().map(|name| (name, None)).collect()).await
    }

    /// Stores everything that has changed until now.
    ///
    /// # Errors
    /// [`Code::Storage`]; what could not be stored is tried again.
    pub async fn flush(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let marked = self.node.take_unsaved();
        let result = self.save(&marked).await;
        if result.is_err() {
            self.node.mark_unsaved(&marked);
        }
        result
    }

    /// Stores what changes, until the node is closed.
    pub async fn run(self) {
        let mut failing = false;
        while self.node.unsaved().await {
            Delay::new(SETTLE).await;
            match self.flush().await {
                Ok(()) => failing = false,
                Err(error) => {
                    tracing::warn!("not stored: {}", error.one_line());
                    if !failing {
                        self.node.tell(Event::Unsaved { reason: error.one_line() });
                    }
                    failing = true;
                    Delay::new(RETRY).await;
                }
            }
        }
    }

    async fn save(&self, marked: &[(DomainId, Part)]) -> Result<(), Error> {
        let mut changes = Changes::new();
        for (id, part) in marked {
            let name = name(id, *part);
            if *part == Part::Keys && self.note(|stored| !stored.contains_key(&name)) {
                // Keys that lie there and were not the ones that this process began with: none of them is lost.
                if let Some(before) = self.read(*id).await? {
                    self.node.adopt(&before);
                }
            }
            // A domain that was left meanwhile stays as it is.
            let Ok(bytes) = self.node.save_part(*id, *part) else { continue };
            if self.note(|stored| stored.get(&name) != Some(&blake3::hash(&bytes))) {
                changes.push((name, Some(bytes)));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let hashes: Vec<_> = changes.iter().filter_map(|(name, bytes)| Some((name.clone(), blake3::hash(bytes.as_ref()?)))).collect();
        self.store.write(changes).await?;
        self.note(|stored| stored.extend(hashes));
        Ok(())
    }

    async fn read(&self, id: DomainId) -> Result<Option<SavedDomain>, Error> {
        let mut records: Map<Part, Bytes> = Map::new();
        for part in Part::ALL {
            if let Some(bytes) = self.store.get(&name(&id, part)).await? {
                records.insert(part, bytes);
            }
        }
        let saved = SavedDomain::decode(id, &records)?;
        self.note(|stored| stored.extend(records.iter().map(|(part, bytes)| (name(&id, *part), blake3::hash(bytes)))));
        Ok(saved)
    }

    fn note<T>(&self, with: impl FnOnce(&mut Map<String, blake3::Hash>) -> T) -> T {
        with(&mut self.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
