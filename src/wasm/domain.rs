//! `Domain`.

use core::time::Duration;
use std::rc::Rc;

use js_sys::Function;
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use zeroize::Zeroizing;

use super::{
    channel::{ChannelCore, mode},
    error, from_js,
    link::{JsLink, JsStats},
    participant::{JsCapability, JsParticipant, JsQuery},
    task::{Exchange, JobHandleCore, TaskCore, order},
    to_js,
};
use crate::base::{Code, DomainId, Error, InvitationId, NodeId};
use crate::peer::{InviteOptions, invitation_of};
use crate::proto::membership::{InvitationInfo, InvitationState, Rights};
use crate::proto::state::Entry;
use crate::runtime::handle::Node;
use crate::wire::link::InviteLink;

/// A domain that a node is in.
#[wasm_bindgen]
pub struct DomainCore {
    node: Node,
    id: DomainId,
    exchange: Rc<Exchange>,
}

impl DomainCore {
    pub(super) fn new(exchange: Rc<Exchange>, id: DomainId) -> DomainCore {
        DomainCore { node: exchange.node().clone(), id, exchange }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsInviteOptions {
    uses: Option<u32>,
    approve: bool,
    /// Milliseconds since the Unix epoch.
    expires: Option<f64>,
    /// The page's address, before the `#`.
    base: String,
}

/// An invitation, for showing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsInvitation {
    id: String,
    used: u32,
    /// Absent: no limit.
    uses: Option<u32>,
    approve: bool,
    /// Milliseconds since the Unix epoch.
    expires: f64,
    state: &'static str,
}

impl From<InvitationInfo> for JsInvitation {
    fn from(info: InvitationInfo) -> JsInvitation {
        JsInvitation {
            id: InvitationId::from_bytes(info.key).to_string(),
            used: info.uses,
            uses: (info.max_uses > 0).then_some(info.max_uses),
            approve: info.approve,
            expires: info.expires.0 as f64,
            state: match info.state {
                InvitationState::Open => "open",
                InvitationState::Used => "used",
                InvitationState::Expired => "expired",
                InvitationState::Revoked => "revoked",
            },
        }
    }
}

/// An entry of the shared state.
#[derive(Serialize)]
struct JsEntry {
    key: String,
    /// JSON, as far as its writer keeps to it.
    value: String,
    by: String,
    /// Milliseconds since the Unix epoch.
    at: f64,
}

impl From<Entry> for JsEntry {
    fn from(entry: Entry) -> JsEntry {
        let value = String::from_utf8(entry.value.unwrap_or_default()).unwrap_or_default();
        JsEntry { key: entry.key, value, by: entry.writer.to_string(), at: entry.stamp.wall().0 as f64 }
    }
}

/// Somebody who waits to be let in.
#[derive(Serialize)]
struct JsWaiting {
    id: String,
    name: String,
}

fn node_id(text: &str) -> Result<NodeId, JsValue> {
    text.parse().map_err(|e| error::to_js(&e))
}

fn rights(names: &[String]) -> Result<Rights, Error> {
    names.iter().try_fold(Rights::NONE, |all, name| {
        Ok(all.and(match name.as_str() {
            "invite" => Rights::INVITE,
            "evict" => Rights::EVICT,
            "store" => Rights::STORE,
            _ => return Err(Error::new(Code::BadArgument, "a right is invite, evict or store")),
        }))
    })
}

#[wasm_bindgen]
impl DomainCore {
    /// The domain's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// The name in its genesis.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn name(&self) -> Result<String, JsValue> {
        self.node.domain_name(self.id).map_err(|e| error::to_js(&e))
    }

    /// Who is in the directory.
    ///
    /// # Errors
    /// `bad-argument` for a malformed query, `closed` after leaving.
    pub fn participants(&self, query: JsValue) -> Result<JsValue, JsValue> {
        let query: JsQuery = if query.is_undefined() { JsQuery::default() } else { from_js(query)? };
        let found = self.node.participants(self.id, &query.into()).map_err(|e| error::to_js(&e))?;
        to_js(&found.into_iter().map(JsParticipant::from).collect::<Vec<_>>())
    }

    /// Replaces what this node offers, but for what it serves.
    ///
    /// # Errors
    /// As [`Node::advertise`].
    pub fn advertise(&self, capabilities: JsValue) -> Result<(), JsValue> {
        let capabilities: Vec<JsCapability> = from_js(capabilities)?;
        let capabilities = capabilities.into_iter().map(Into::into).collect();
        self.exchange.supplier().advertise(self.id, capabilities).map_err(|e| error::to_js(&e))
    }

    /// Does something for others: `handler` is called with a `JobCore` and gives a promise.
    ///
    /// # Errors
    /// As [`Node::advertise`].
    pub fn serve(&self, capability: JsValue, handler: Function) -> Result<(), JsValue> {
        let capability: JsCapability = from_js(capability)?;
        self.exchange.serve(self.id, capability.into(), handler).map_err(|e| error::to_js(&e))
    }

    /// Does it no longer.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn withdraw(&self, name: &str) -> Result<(), JsValue> {
        self.exchange.supplier().withdraw(self.id, name).map_err(|e| error::to_js(&e))
    }

    /// Has something done: by whom `query` names, within so many milliseconds. `open` gives the input from its beginning, for each attempt.
    ///
    /// # Errors
    /// As [`Tasks::request`](crate::runtime::task::Tasks::request).
    pub fn request(&self, query: JsValue, policy: &str, prefer: &str, milliseconds: f64, open: Function) -> Result<TaskCore, JsValue> {
        self.exchange.request(self.id, order(query, policy, prefer, milliseconds)?, open).map_err(|e| error::to_js(&e))
    }

    /// A job without tasks.
    pub fn job(&self) -> JobHandleCore {
        JobHandleCore::new(self.exchange.tasks(self.id))
    }

    /// Makes an invitation; the answer is its link.
    ///
    /// # Errors
    /// As [`Node::invite`].
    pub fn invite(&self, options: JsValue) -> Result<String, JsValue> {
        let options: JsInviteOptions = from_js(options)?;
        let mut wanted = InviteOptions::default();
        if let Some(uses) = options.uses {
            wanted.max_uses = uses;
        }
        wanted.approve = options.approve;
        if let Some(expires) = options.expires {
            // An invitation of the past is made, and refused as expired.
            wanted.lifetime = Duration::from_millis((expires - js_sys::Date::now()).max(0.0) as u64);
        }
        let link = self.node.invite(self.id, wanted).map_err(|e| error::to_js(&e))?;
        Ok(link.to_url(&options.base))
    }

    /// The link of the invitation this node came with, if it did.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn invitation(&self, base: &str) -> Result<Option<String>, JsValue> {
        let link = self.node.kept_invitation(self.id).map_err(|e| error::to_js(&e))?;
        Ok(link.map(|link| link.to_url(base)))
    }

    /// Writes JSON into the shared state, or without a value deletes the key.
    ///
    /// # Errors
    /// As [`Node::write_state`].
    #[wasm_bindgen(js_name = writeState)]
    pub fn write_state(&self, key: &str, value: Option<String>) -> Result<(), JsValue> {
        self.node.write_state(self.id, key, value.map(String::into_bytes)).map_err(|e| error::to_js(&e))
    }

    /// The entries of the shared state whose keys begin so.
    ///
    /// # Errors
    /// `closed` after leaving.
    #[wasm_bindgen(js_name = stateEntries)]
    pub fn state_entries(&self, prefix: &str) -> Result<JsValue, JsValue> {
        let all = self.node.state_entries(self.id, prefix).map_err(|e| error::to_js(&e))?;
        to_js(&all.into_iter().map(JsEntry::from).collect::<Vec<_>>())
    }

    /// One entry of the shared state, or `undefined`.
    ///
    /// # Errors
    /// `closed` after leaving.
    #[wasm_bindgen(js_name = stateEntry)]
    pub fn state_entry(&self, key: &str) -> Result<JsValue, JsValue> {
        let found = self.node.state_entry(self.id, key).map_err(|e| error::to_js(&e))?;
        found.map_or(Ok(JsValue::UNDEFINED), |entry| to_js(&JsEntry::from(entry)))
    }

    /// Every invitation known.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn invitations(&self) -> Result<JsValue, JsValue> {
        let all = self.node.invitations(self.id).map_err(|e| error::to_js(&e))?;
        to_js(&all.into_iter().map(JsInvitation::from).collect::<Vec<_>>())
    }

    /// Closes an invitation, named by its id.
    ///
    /// # Errors
    /// As [`Node::revoke_invitation`]; `bad-id`.
    #[wasm_bindgen(js_name = revokeInvitation)]
    pub fn revoke_invitation(&self, id: &str) -> Result<(), JsValue> {
        id.parse().and_then(|id| self.node.revoke_invitation(self.id, id)).map_err(|e| error::to_js(&e))
    }

    /// The id of the invitation that a link is for.
    ///
    /// # Errors
    /// `bad-link`.
    #[wasm_bindgen(js_name = invitationId)]
    pub fn invitation_id(&self, link: &str) -> Result<String, JsValue> {
        InviteLink::parse(link).map(|link| invitation_of(&link).to_string()).map_err(|e| error::to_js(&e))
    }

    /// What an owner backs up, not sealed yet.
    ///
    /// # Errors
    /// `forbidden` where the root key is not, `closed` after leaving.
    pub fn bundle(&self) -> Result<Vec<u8>, JsValue> {
        self.root()?;
        self.node.save_domain(self.id).map(|saved| saved.bundle().to_vec()).map_err(|e| error::to_js(&e))
    }

    /// The root key's seed, 32 bytes.
    ///
    /// # Errors
    /// As [`Node::export_root`].
    pub fn root(&self) -> Result<Vec<u8>, JsValue> {
        self.node.export_root(self.id).map(|seed| seed.to_vec()).map_err(|e| error::to_js(&e))
    }

    /// Takes the root key, 32 bytes.
    ///
    /// # Errors
    /// As [`Node::import_root`]; `bad-argument` for another length.
    #[wasm_bindgen(js_name = restoreRoot)]
    pub fn restore_root(&self, seed: Vec<u8>) -> Result<(), JsValue> {
        let seed = <[u8; 32]>::try_from(Zeroizing::new(seed).as_slice()).map(Zeroizing::new);
        let seed = seed.map_err(|_| Error::new(Code::BadArgument, "a root key has 32 bytes"));
        seed.and_then(|seed| self.node.import_root(self.id, &seed)).map_err(|e| error::to_js(&e))
    }

    /// Who of the participants online is responsible for a key.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn responsible(&self, key: &str, k: usize) -> Result<Vec<String>, JsValue> {
        let nodes = self.node.responsible(self.id, key.as_bytes(), k).map_err(|e| error::to_js(&e))?;
        Ok(nodes.iter().map(ToString::to_string).collect())
    }

    /// Evicts a member for good.
    ///
    /// # Errors
    /// As [`Node::evict`]; `bad-id`.
    pub fn evict(&self, id: &str) -> Result<(), JsValue> {
        self.node.evict(self.id, node_id(id)?).map_err(|e| error::to_js(&e))
    }

    /// Gives a participant rights for so many milliseconds.
    ///
    /// # Errors
    /// As [`Node::delegate`]; `bad-id`, `bad-argument` for an unknown right.
    pub fn delegate(&self, id: &str, names: Vec<String>, milliseconds: f64) -> Result<(), JsValue> {
        let lifetime = Duration::from_millis(milliseconds.max(0.0) as u64);
        let node = node_id(id)?;
        rights(&names).and_then(|rights| self.node.delegate(self.id, node, rights, lifetime)).map_err(|e| error::to_js(&e))
    }

    /// Who waits for an issuer.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn waiting(&self) -> Result<JsValue, JsValue> {
        let all = self.node.waiting(self.id).map_err(|e| error::to_js(&e))?;
        to_js(&all.into_iter().map(|(node, name)| JsWaiting { id: node.to_string(), name }).collect::<Vec<_>>())
    }

    /// Lets somebody in who waits, or turns them away.
    ///
    /// # Errors
    /// As [`Node::approve`]; `bad-id`.
    pub fn decide(&self, id: &str, admit: bool) -> Result<(), JsValue> {
        let node = node_id(id)?;
        let done = if admit { self.node.approve(self.id, node) } else { self.node.deny(self.id, node) };
        done.map_err(|e| error::to_js(&e))
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// As [`Node::channel`]; `bad-argument` for an unknown mode.
    pub fn channel(&self, name: &str, mode_name: &str) -> Result<ChannelCore, JsValue> {
        let id = mode(mode_name).and_then(|mode| self.node.channel(self.id, name, mode)).map_err(|e| error::to_js(&e))?;
        Ok(ChannelCore::new(self.node.clone(), self.id, id))
    }

    /// The links to members.
    ///
    /// # Errors
    /// None that happen.
    pub fn links(&self) -> Result<JsValue, JsValue> {
        to_js(&self.node.links(Some(self.id)).into_iter().map(JsLink::from).collect::<Vec<_>>())
    }

    /// What was counted.
    ///
    /// # Errors
    /// `closed` after leaving.
    pub fn stats(&self) -> Result<JsValue, JsValue> {
        to_js(&JsStats::from(self.node.stats(self.id).map_err(|e| error::to_js(&e))?))
    }

    /// Says goodbye and forgets the domain here.
    ///
    /// # Errors
    /// `closed` if that was done before.
    pub fn leave(&self) -> Result<(), JsValue> {
        self.node.leave(self.id).map_err(|e| error::to_js(&e))
    }
}
