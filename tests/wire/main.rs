//! Test vectors, official and our own, natively and in wasm:
//!
//! ```text
//! cargo test --no-default-features --test wire
//! cargo test --no-default-features --test wire --target wasm32-unknown-unknown     (with wasm-bindgen-test-runner)
//! ```

mod frozen;
mod independent;
mod official;

/// Thirty-two bytes from hexadecimal text.
fn array<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}
