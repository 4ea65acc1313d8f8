//! The browser's store: records go sealed to the facade, which puts them into IndexedDB (or, for a node that leaves no trace,
//! into memory). What JavaScript holds is ciphertext; the key under which it opens comes from a key that the browser guards.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use zeroize::Zeroizing;

use crate::base::{Code, Error, Rng};
use crate::crypto::rest;
use crate::runtime::store::{Bytes, Changes, Store};

#[wasm_bindgen]
extern "C" {
    /// What the facade gives: named bytes. Its promises are rejected with an `Error`.
    #[derive(Clone)]
    pub type JsStore;

    #[wasm_bindgen(method, catch)]
    async fn get(this: &JsStore, name: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn names(this: &JsStore) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn write(this: &JsStore, names: Vec<String>, values: Array) -> Result<(), JsValue>;
}

/// A store in the browser. Clones are the same store.
#[derive(Clone)]
pub struct BrowserStore {
    records: JsStore,
    key: Rc<Zeroizing<[u8; 32]>>,
    rng: Rc<RefCell<Rng>>,
}

impl BrowserStore {
    /// A store whose records are sealed under this key.
    #[must_use]
    pub fn new(records: JsStore, key: Zeroizing<[u8; 32]>, rng: Rng) -> BrowserStore {
        BrowserStore { records, key: Rc::new(key), rng: Rc::new(RefCell::new(rng)) }
    }
}

impl Store for BrowserStore {
    type Answer<T: Send + 'static> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

    fn get(&self, name: &str) -> Self::Answer<Option<Bytes>> {
        let (store, name) = (self.clone(), name.to_owned());
        Box::pin(async move {
            let found = store.records.get(&name).await.map_err(|e| failed("read", &e))?;
            let Some(sealed) = found.dyn_ref::<Uint8Array>() else { return Ok(None) };
            let opened = rest::open(&store.key, &name, &sealed.to_vec());
            opened.map(Some).map_err(|_| {
                Error::new(Code::Storage, format!("the stored record {name} cannot be read: it is damaged, or its key was deleted"))
                    .hint("Nothing was changed. Forget the domain, or clear this site's data, and join again.")
            })
        })
    }

    fn list(&self) -> Self::Answer<Vec<String>> {
        let store = self.clone();
        Box::pin(async move {
            let names = store.records.names().await.map_err(|e| failed("read", &e))?;
            Ok(Array::from(&names).iter().filter_map(|name| name.as_string()).collect())
        })
    }

    fn write(&self, changes: Changes) -> Self::Answer<()> {
        let store = self.clone();
        Box::pin(async move {
            let (mut names, values) = (Vec::new(), Array::new());
            for (name, bytes) in changes {
                let sealed = bytes.map(|bytes| rest::seal(&store.key, &name, &bytes, &mut store.rng.borrow_mut()));
                values.push(&sealed.map_or(JsValue::UNDEFINED, |sealed| Uint8Array::from(sealed.as_slice()).into()));
                names.push(name);
            }
            store.records.write(names, values).await.map_err(|e| failed("written", &e))
        })
    }
}

fn failed(what: &str, error: &JsValue) -> Error {
    let text = error.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{error:?}"), |e| String::from(e.message()));
    Error::new(Code::Storage, format!("the browser's store cannot be {what}")).caused_by(text)
}
