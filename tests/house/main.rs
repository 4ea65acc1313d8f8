//! Reads the source and says which rule of the house it breaks: layers, parts, platforms, where a target may be named.
//! `docs/architecture.md` has the map.

mod paths;

use std::{collections::BTreeSet, fs, path::Path};

use paths::{code_only, module_of, named_paths};

/// Layer of each top module; a module names itself and lower layers only, so neighbours in one layer never see each other.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("wire", 1),
    ("crypto", 1),
    ("work", 1),
    ("proto", 2),
    ("peer", 3),
    ("runtime", 4),
    ("platform", 5),
    ("sim", 5),
    ("node", 6),
    ("wasm", 6),
    ("bin", 7),
];

/// Crates that layers 0 to 3 do not name: they read clocks, do I/O, or exist on one target only.
const OUTSIDE: &[&str] =
    &["tokio", "libp2p", "libp2p_webrtc", "futures", "futures_timer", "web_sys", "js_sys", "wasm_bindgen", "getrandom", "axum"];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The rules that one file breaks. `file` is relative to `src`, with `/`.
fn broken(file: &str, source: &str) -> Vec<String> {
    let code = code_only(source);
    let module = module_of(file);
    let mut out = BTreeSet::new();
    let at_home = ["lib.rs", "platform/mod.rs"].contains(&file);
    if code.contains("target_arch") && !at_home {
        out.insert(format!("{file}: `cfg(target_arch)` belongs in lib.rs and platform/mod.rs"));
    }
    let Some((own, own_layer)) = module.first().and_then(|m| Some((m.as_str(), layer(m)?))) else {
        if file != "lib.rs" {
            out.insert(format!("{file}: not in a module of the map"));
        }
        return out.into_iter().collect();
    };
    for path in named_paths(&module, &code) {
        let Some(target) = path.first() else { continue };
        let Some(target_layer) = layer(target) else { continue };
        if target != own && target_layer >= own_layer {
            out.insert(format!("{file}: `{own}` (layer {own_layer}) names `{target}` (layer {target_layer})"));
        }
        let inner = |of: &str, path: &[String]| (path.first().is_some_and(|p| p == of)).then(|| path.get(1).cloned()).flatten();
        for (of, parts) in [("proto", None), ("platform", Some(["native", "browser"]))] {
            if let (Some(a), Some(b)) = (inner(of, &module), inner(of, &path))
                && a != b
                && b.starts_with(|c: char| c.is_ascii_lowercase())
                && parts.is_none_or(|p| p.contains(&a.as_str()) && p.contains(&b.as_str()))
            {
                out.insert(format!("{file}: `{of}::{a}` names `{of}::{b}`"));
            }
        }
    }
    if own_layer <= 3 {
        for name in OUTSIDE.iter().filter(|name| paths::names_crate(&code, name)) {
            out.insert(format!("{file}: layer {own_layer} names the crate `{name}`"));
        }
        if code.contains("async fn") || code.contains(".await") {
            out.insert(format!("{file}: layer {own_layer} is not async"));
        }
    }
    out.into_iter().collect()
}

fn each_file(dir: &Path, root: &Path, visit: &mut dyn FnMut(&str, &str)) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            each_file(&path, root, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            visit(&name, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_source_keeps_the_rules_of_the_house() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut all) = (0, Vec::new());
    each_file(&src, &src, &mut |file, source| {
        files += 1;
        all.extend(broken(file, source));
    });
    assert!(files > 20, "found the source");
    assert!(all.is_empty(), "rules broken:\n{}", all.join("\n"));
}

#[test]
fn the_lower_layers_deny_what_clippy_toml_lists() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |file: &str| fs::read_to_string(src.join(file)).unwrap();
    let lint = "deny(clippy::disallowed_types, clippy::disallowed_methods)]";
    for root in ["base", "wire", "crypto", "work", "proto"] {
        assert!(read(&format!("{root}/mod.rs")).contains(&format!("#![{lint}")), "{root}/mod.rs lacks #![{lint}");
    }
    assert!(read("lib.rs").contains(&format!("#[{lint}\npub mod peer;")), "lib.rs lacks #[{lint} on `peer`");
}

#[test]
fn a_planted_violation_is_found() {
    let cases = [
        ("base/id.rs", "use crate::wire::bytes::Reader;", "`base` (layer 0) names `wire`"),
        ("wire/frame.rs", "use crate::{base::Reject, crypto::sign};", "`wire` (layer 1) names `crypto`"),
        ("crypto/seal.rs", "fn f() { crate::wire::bytes::Writer::new(); }", "`crypto` (layer 1) names `wire`"),
        ("work/occupancy/mod.rs", "use crate::wire::bytes::Reader;", "`work` (layer 1) names `wire`"),
        ("proto/channel/machine.rs", "use crate::peer::Lane;", "`proto` (layer 2) names `peer`"),
        ("proto/channel/machine.rs", "use crate::{base::Now, proto::{directory::Directory}};", "`proto::channel` names `proto::directory`"),
        ("proto/channel/machine.rs", "use super::super::directory::Directory;", "`proto::channel` names `proto::directory`"),
        ("proto/overlay/mod.rs", "use super::directory::Directory;", "`proto::overlay` names `proto::directory`"),
        ("peer/mod.rs", "use crate::runtime::Node;", "`peer` (layer 3) names `runtime`"),
        ("platform/native/links.rs", "use crate::platform::browser::Store;", "`platform::native` names `platform::browser`"),
        ("sim/net.rs", "use crate::platform::native::Store;", "`sim` (layer 5) names `platform`"),
        ("wasm/node.rs", "use crate::node::relay;", "`wasm` (layer 6) names `node`"),
        ("peer/mod.rs", "use tokio::sync::mpsc;", "names the crate `tokio`"),
        ("peer/mod.rs", "pub async fn f() {}", "is not async"),
        ("peer/mod.rs", "#[cfg(target_arch = \"wasm32\")] fn f() {}", "belongs in lib.rs"),
        ("other/mod.rs", "", "not in a module of the map"),
    ];
    for (file, source, expected) in cases {
        let found = broken(file, source);
        assert!(found.len() == 1 && found[0].contains(expected), "{file}: {source}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let cases = [
        ("proto/channel/machine.rs", "use super::{msg, receiver::RecvStream};\nuse crate::{base::Now, crypto::sign, wire::frame::Lane};"),
        ("proto/channel/tests.rs", "use crate::proto::channel::Mode;"),
        ("proto/channel/msg.rs", "mod tests { use super::super::Mode; use super::*; }"),
        ("base/id.rs", "//! See `crate::peer::Peer`.\n/* crate::node */ const A: &str = \"crate::wasm::x tokio::y\";"),
        ("platform/native/mod.rs", "use crate::{platform::links::Swarm, runtime::port::Platform, peer::Lane};\nuse tokio::sync;"),
        ("lib.rs", "#[cfg(target_arch = \"wasm32\")] pub mod wasm;"),
    ];
    for (file, source) in cases {
        assert_eq!(broken(file, source), Vec::<String>::new(), "{file}");
    }
}

/// The labels named in a source, each behind a quote.
fn labels(source: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '/' | '-');
    let found = source.split("\"peerage/1/").skip(1).map(|rest| &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())]);
    found.filter(|thing| !thing.is_empty()).map(|thing| format!("peerage/1/{thing}")).collect()
}

#[test]
fn every_label_is_in_the_table_that_is_tested_against_confusion() {
    const TABLE: &str = "peer/labels_tests.rs";
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut used, mut listed) = (BTreeSet::new(), BTreeSet::new());
    each_file(&src, &src, &mut |file, source| if file == TABLE { listed.extend(labels(source)) } else { used.extend(labels(source)) });
    assert!(used.len() > 40, "found the labels");
    let new: Vec<_> = used.difference(&listed).collect();
    assert!(new.is_empty(), "in neither list of {TABLE}: {new:?}");
    let old: Vec<_> = listed.difference(&used).collect();
    assert!(old.is_empty(), "no longer used, but in {TABLE}: {old:?}");
}
