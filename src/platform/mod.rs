//! Layer 5: links and time for real, on tokio or in a browser. `links` is shared; the transports are each platform's own.

#[cfg(all(feature = "wasm", target_arch = "wasm32"))]
pub mod browser;
pub mod links;
#[cfg(any(test, all(feature = "wasm", target_arch = "wasm32")))]
mod message;
#[cfg(all(feature = "native", not(target_arch = "wasm32")))]
pub mod native;
