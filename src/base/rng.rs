//! Seeded randomness. A process draws one seed from the operating system at birth; every part gets a fork of its own, so
//! that the same seed gives the same run, whatever order the parts draw in.

use rand_core::{Infallible, SeedableRng, TryCryptoRng, TryRng};
use zeroize::Zeroize;

/// A cryptographic generator (ChaCha20), seeded and forked, never global.
pub struct Rng(rand_chacha::ChaCha20Rng);

impl Rng {
    /// A generator from 32 bytes of entropy.
    #[must_use]
    pub fn from_seed(mut seed: [u8; 32]) -> Rng {
        let rng = Rng(rand_chacha::ChaCha20Rng::from_seed(seed));
        seed.zeroize();
        rng
    }

    /// An independent generator for the part named `label`.
    #[must_use]
    pub fn fork(&mut self, label: &str) -> Rng {
        let mut key = self.bytes::<32>();
        let seed = *blake3::keyed_hash(&key, label.as_bytes()).as_bytes();
        key.zeroize();
        Rng::from_seed(seed)
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let Ok(()) = self.0.try_fill_bytes(&mut out);
        out
    }

    /// A uniform number below `bound` (zero if `bound` is zero), without modulo bias that matters: 64 random bits.
    pub fn below(&mut self, bound: u64) -> u64 {
        let draw = u128::from(u64::from_be_bytes(self.bytes()));
        ((draw * u128::from(bound)) >> 64) as u64
    }
}

impl TryRng for Rng {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(dst)
    }
}

impl TryCryptoRng for Rng {}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng")
    }
}
