//! The fuzz targets, on changed seeds: `fuzz/src/tests.rs`. Here they need nothing built that the other tests do not need.

#[path = "../../fuzz/src/lib.rs"]
mod targets;
