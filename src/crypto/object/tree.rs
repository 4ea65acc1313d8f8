//! The BLAKE3 tree over an object's sealed chunks: whoever holds the subtree hashes can check each chunk against the root alone.

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::CHUNK;
use crate::base::Reject;

/// The hash of a chunk as a subtree; of an object's only chunk it is the root itself.
///
/// # Errors
/// [`Reject::Malformed`] for an empty or too long chunk or an index that no object has.
pub fn leaf(index: u64, only: bool, sealed: &[u8]) -> Result<ChainingValue, Reject> {
    let offset = index.checked_mul(CHUNK as u64).filter(|o| *o < super::LARGEST * 2).ok_or(Reject::Malformed)?;
    if sealed.is_empty() || sealed.len() > CHUNK {
        return Err(Reject::Malformed);
    }
    if only {
        return Ok(*blake3::hash(sealed).as_bytes());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset).update(sealed);
    Ok(hasher.finalize_non_root())
}

/// The root over all leaves, in order: the BLAKE3 hash of the chunks, one after the other.
///
/// # Errors
/// [`Reject::Malformed`] if there is none.
pub fn root(leaves: &[ChainingValue]) -> Result<[u8; 32], Reject> {
    match leaves {
        [] => Err(Reject::Malformed),
        [only] => Ok(*only),
        _ => {
            let (left, right) = leaves.split_at(left(leaves.len()));
            Ok(*merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).as_bytes())
        }
    }
}

fn merged(leaves: &[ChainingValue]) -> ChainingValue {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(left(leaves.len()));
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}

/// The largest power of two below: BLAKE3's left subtree, as all leaves but the last are full.
fn left(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}
