//! The ordered map of this crate for what is small or rarely changed.

/// A map in the order of its keys, on a sorted vector: of the standard library's B-tree every kind of map makes seven kilobytes of a
/// browser's download. Inserting and removing move what is behind: it is for a few thousand entries at most.
pub type Map<K, V> = litemap::LiteMap<K, V>;
