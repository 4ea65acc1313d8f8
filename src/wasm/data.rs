//! `DomainData`.

use std::pin::pin;

use futures::future::{Either, select};
use js_sys::{Function, Promise, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use super::source::{JsSource, Source};
use super::{error, from_js, to_js};
use crate::base::{Code, Error};
use crate::platform::browser::BrowserStore;
use crate::proto::objects::Cursor;
use crate::runtime::data::{Body, DomainData, Entry, PutOptions};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JsPut {
    r#type: String,
    meta: String,
    /// 0 for none.
    expected: Option<f64>,
    /// Names the content.
    resume: Option<String>,
}

#[derive(Serialize)]
struct JsEntry {
    path: String,
    version: f64,
    deleted: bool,
    r#type: String,
    length: f64,
    /// Milliseconds since the Unix epoch.
    written: f64,
    author: String,
    /// JSON, as far as its author keeps to it.
    meta: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<String>,
}

impl From<Entry> for JsEntry {
    fn from(e: Entry) -> JsEntry {
        JsEntry {
            path: e.path,
            version: e.version as f64,
            deleted: e.deleted,
            r#type: e.media,
            length: e.length as f64,
            written: e.written.0 as f64,
            author: e.author.to_string(),
            meta: e.meta,
            conflict: e.conflict,
        }
    }
}

#[derive(Serialize)]
struct JsChanges {
    entries: Vec<JsEntry>,
    cursor: String,
    more: bool,
}

#[derive(Serialize)]
struct JsQuota {
    used: f64,
    quota: f64,
    own: f64,
    #[serde(rename = "ownQuota")]
    own_quota: f64,
}

fn js_entry(entry: Entry) -> Result<JsValue, JsValue> {
    to_js(&JsEntry::from(entry))
}

fn js_entries(entries: Vec<Entry>) -> Result<JsValue, JsValue> {
    to_js(&entries.into_iter().map(JsEntry::from).collect::<Vec<_>>())
}

fn thrown(error: Error) -> JsValue {
    error::to_js(&error)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the facade gives whole numbers below 2^53")]
fn whole(n: f64) -> u64 {
    n as u64
}

/// `epoch.at.floor` in decimals.
fn cursor(text: &str) -> Result<Cursor, JsValue> {
    if text.is_empty() {
        return Ok(Cursor::default());
    }
    let numbers: Vec<u64> = text.split('.').map_while(|n| n.parse().ok()).collect();
    match numbers[..] {
        [epoch, at, floor] => Ok(Cursor { epoch, at, floor }),
        _ => Err(thrown(Error::new(Code::BadArgument, "no cursor of this package"))),
    }
}

/// The data of a domain.
#[wasm_bindgen]
pub struct DataCore(DomainData<BrowserStore>);

/// An object being read.
#[wasm_bindgen]
pub struct BodyCore(Option<Body<BrowserStore>>);

impl DataCore {
    pub(super) fn new(data: DomainData<BrowserStore>) -> DataCore {
        DataCore(data)
    }
}

#[wasm_bindgen]
impl DataCore {
    /// Stores an object; settles early with `aborted` once `cancel` does. `told` is called with the bytes that are on the manager's disk.
    ///
    /// # Errors
    /// As [`DomainData::put`], and `aborted`.
    pub async fn put(&self, path: String, source: JsSource, options: JsValue, told: Function, cancel: Promise) -> Result<JsValue, JsValue> {
        let JsPut { r#type: media, meta, expected, resume } = from_js(options)?;
        let options = PutOptions { media, meta, expected: expected.map(whole), resume: resume.map(String::into_bytes) };
        let (data, source) = (self.0.clone(), Source::from(source));
        let told = |done: u64| {
            // What the page's function throws is the page's.
            let _ = told.call1(&JsValue::NULL, &JsValue::from_f64(done as f64));
        };
        let put = pin!(data.put(&path, source, options, told));
        match select(put, JsFuture::from(cancel)).await {
            Either::Left((stored, _)) => js_entry(stored.map_err(thrown)?),
            Either::Right(_) => Err(thrown(Error::new(Code::Aborted, "the put was cancelled"))),
        }
    }

    /// An object's newest version, or this one, to be read from the byte `from` up to `to`.
    ///
    /// # Errors
    /// As [`DomainData::get`], or with `conflict` [`DomainData::conflicting`].
    pub async fn get(
        &self,
        path: String,
        version: Option<f64>,
        conflict: Option<String>,
        from: f64,
        to: Option<f64>,
    ) -> Result<BodyCore, JsValue> {
        let data = self.0.clone();
        let body = match conflict {
            Some(name) => data.conflicting(&path, &name).await,
            None => data.get(&path, version.map(whole)).await,
        };
        let body = body.map_err(thrown)?;
        Ok(BodyCore(Some(body.range(whole(from)..to.map_or(u64::MAX, whole)))))
    }

    /// As [`DomainData::list`].
    ///
    /// # Errors
    /// The same.
    pub async fn list(&self, prefix: String) -> Result<JsValue, JsValue> {
        let data = self.0.clone();
        js_entries(data.list(&prefix).await.map_err(thrown)?)
    }

    /// As [`DomainData::changes`], waiting.
    ///
    /// # Errors
    /// The same; `bad-argument` for a cursor that is none.
    pub async fn changes(&self, since: String) -> Result<JsValue, JsValue> {
        let data = self.0.clone();
        let (entries, Cursor { epoch, at, floor }, more) = data.changes(cursor(&since)?, true).await.map_err(thrown)?;
        to_js(&JsChanges { entries: entries.into_iter().map(JsEntry::from).collect(), cursor: format!("{epoch}.{at}.{floor}"), more })
    }

    /// As [`DomainData::history`].
    ///
    /// # Errors
    /// The same.
    pub async fn history(&self, path: String) -> Result<JsValue, JsValue> {
        let data = self.0.clone();
        js_entries(data.history(&path).await.map_err(thrown)?)
    }

    /// As [`DomainData::delete`].
    ///
    /// # Errors
    /// The same.
    pub async fn delete(&self, path: String, expected: Option<f64>) -> Result<(), JsValue> {
        let data = self.0.clone();
        data.delete(&path, expected.map(whole)).await.map_err(thrown)
    }

    /// As [`DomainData::quota`].
    ///
    /// # Errors
    /// The same.
    pub async fn quota(&self) -> Result<JsValue, JsValue> {
        let data = self.0.clone();
        let (used, quota) = data.quota().await.map_err(thrown)?;
        let js = JsQuota { used: used.total as f64, quota: quota.total as f64, own: used.member as f64, own_quota: quota.member as f64 };
        to_js(&js)
    }
}

#[wasm_bindgen]
impl BodyCore {
    /// What is read.
    ///
    /// # Errors
    /// `busy` while [`BodyCore::next`] runs.
    pub fn entry(&self) -> Result<JsValue, JsValue> {
        js_entry(self.0.as_ref().ok_or_else(busy)?.entry())
    }

    /// The next bytes, or `undefined` at the end. One call at a time: the facade's stream.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub async fn next(&mut self) -> Result<Option<Uint8Array>, JsValue> {
        let mut body = self.0.take().ok_or_else(busy)?;
        let next = body.next().await;
        self.0 = Some(body);
        Ok(next.map_err(thrown)?.map(|bytes| Uint8Array::from(&bytes[..])))
    }
}

fn busy() -> JsValue {
    thrown(Error::new(Code::Busy, "this body is being read"))
}
