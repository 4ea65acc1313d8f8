//! The manager role. It keeps the domain findable, the membership stored and the domain data, which it cannot read, served; it pairs
//! tasks with suppliers. It holds control keys only, and takes no part in channels.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::children::Ready;
use super::domain::{DomainFiles, MANAGING, STORING};
use super::objects::Service;
use super::pairing;
use super::relay::{listeners, wanted};
use super::replica::{Replica, Turn};
use crate::base::{Code, DomainId, Error, NodeId};
use crate::crypto::{Role, sign::SigningKey};
use crate::peer::{Config, Event, Profile, SavedDomain};
use crate::platform::native::objects::{Directory, EmbeddedStore};
use crate::platform::native::{self, NativeConfig, NativePlatform, TlsFiles};
use crate::proto::directory::Capability;
use crate::runtime::handle::Node;
use crate::runtime::objects::{ObjectStore, Quota};

/// How often new statements are looked for, and changed ones stored.
const LOOK: Duration = Duration::from_secs(1);
/// How often the store is rid of what nobody needs.
const COLLECT: Duration = Duration::from_secs(3_600);

/// What a manager is to do.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs told to others besides.
    pub announce: Vec<String>,
    /// The certificate for `/tls/ws`, if it listens on that.
    pub tls: Option<TlsFiles>,
    /// Relays to be found through.
    pub relays: Vec<String>,
    /// The certificate for WebRTC-direct, with its key, as PEM.
    pub certificate: String,
    /// Its name in the directory.
    pub name: String,
    /// The folder of the stored objects.
    pub objects: PathBuf,
    /// How much may be stored.
    pub quota: Quota,
    /// Where everything received is written down, if at all.
    pub record: Option<PathBuf>,
}

/// Runs the manager of a stored domain until `stop` resolves; `ready` is called once, when it listens, and `turned` whenever it comes to lead
/// or not, or another one has caught up with it.
///
/// # Errors
/// What is wrong with the domain's files; [`Code::Forbidden`] if neither the root key is here nor an appointment of this manager;
/// [`Code::AddressInUse`].
pub async fn run(
    key: SigningKey,
    files: &DomainFiles,
    config: ManagerConfig,
    ready: impl FnOnce(&Ready),
    turned: impl FnMut(Turn) + Send + 'static,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let saved = files.existing()?;
    appointed(files, &saved, &key.node_id())?;
    let wanted = wanted(&config.listen, &config.announce);
    let native = NativeConfig {
        listen: config.listen,
        announce: config.announce,
        tls: config.tls,
        reserve: true,
        certificate: Some(config.certificate),
        record: config.record,
        ..NativeConfig::default()
    };
    let platform = NativePlatform::new(&key, &native)?;
    let streams = platform.streams();
    let (data, demands) = (streams.incoming()?, streams.pairing().incoming()?);
    let (node, driver) = native::start_on(platform, key, Config::native(), native::entropy()?.bytes());
    let profile = Profile { name: config.name, capabilities: vec![Capability::new(MANAGING, 1), Capability::new(STORING, 1)] };
    let domain = node.open_domain(&saved, Role::Manager, profile)?;
    let store = EmbeddedStore::open(Directory::open(&config.objects)?, domain, config.quota, &mut native::entropy()?)?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let service = Service::new(node.clone(), Arc::clone(&store), config.quota, files)?;
    for relay in &config.relays {
        node.use_relay(relay)?;
    }
    let driving = tokio::spawn(driver);
    let replica = Replica::new(node.clone(), Arc::clone(&service), Arc::new(streams), config.quota);
    let serving =
        [tokio::spawn(Arc::clone(&service).serve(data)), tokio::spawn(pairing::Service::new(node.clone(), domain)?.serve(demands))];
    let mut replicating = None;
    let mut keeper = Keeper { node: &node, domain, files, statements: files.statements()?, stored: saved };
    keeper.look()?;
    let mut ready = Some((ready, turned));
    let mut clock = tokio::time::interval(LOOK);
    let mut collecting = tokio::time::interval(COLLECT);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = clock.tick() => {
                keeper.look()?;
                service.refresh()?;
            }
            _ = collecting.tick() => {
                let store = Arc::clone(&store);
                tokio::task::spawn_blocking(move || match store.collect(native::clock().wall) {
                    Ok(()) => {}
                    Err(error) => tracing::warn!("what is not needed any more could not be removed: {}", error.one_line()),
                });
            }
            event = node.next_event() => match event {
                Some(Event::Addresses) if listeners(&node.addresses()) >= wanted => if let Some((ready, turned)) = ready.take() {
                    let line = Ready { role: "manager".into(), id: node.id().to_string(), addresses: node.addresses(), http: String::new() };
                    ready(&line);
                    replicating = Some(tokio::spawn(Arc::clone(&replica).run(turned)));
                },
                // The name is a stranger's: quoted, so that it cannot act on the terminal.
                Some(Event::Approval { node, name, .. }) => eprintln!("{name:?} waits to be let in: peerage approve {node}, or peerage deny {node}"),
                Some(_) => {}
                None => break,
            },
        }
    }
    keeper.look()?;
    // It is not to take the lead again.
    replicating.iter().for_each(JoinHandle::abort);
    replica.hand_over().await;
    serving.iter().for_each(JoinHandle::abort);
    node.close();
    // Bounded by the goodbye.
    let _ = driving.await;
    Ok(())
}

/// Whether a manager may open a domain: with the root key it makes itself a credential, without it it has to have one.
fn appointed(files: &DomainFiles, saved: &SavedDomain, me: &NodeId) -> Result<(), Error> {
    let (_, membership) = files.describe(saved)?;
    let manages = membership.member(native::clock(), me).is_some_and(|m| m.role == Role::Manager);
    if manages || saved.root.is_some() {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "this machine's manager was not appointed")
        .hint("Tell the owner the id that `peerage manager --id` prints here, for: peerage domain appoint ID FILE"))
}

/// Keeps the files and the running node in step.
struct Keeper<'a> {
    node: &'a Node,
    domain: DomainId,
    files: &'a DomainFiles,
    statements: super::data::Inbox,
    stored: SavedDomain,
}

impl Keeper<'_> {
    fn look(&mut self) -> Result<(), Error> {
        for statement in self.statements.fresh()? {
            if let Err(error) = self.node.insert_statement(self.domain, &statement) {
                tracing::warn!("a statement in the data directory was refused: {}", error.one_line());
            }
        }
        let saved = self.node.save_domain(self.domain)?;
        if saved.statements != self.stored.statements {
            self.files.store_members(&saved.statements)?;
        }
        if (&saved.contacts, &saved.relays) != (&self.stored.contacts, &self.stored.relays) {
            self.files.store_contacts(&saved)?;
        }
        self.stored = saved;
        Ok(())
    }
}
