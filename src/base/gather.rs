//! Ordered maps and sets from iterators, without a sort of their own each.

use alloc::collections::BTreeSet;

/// Collects one by one. `collect` into an ordered map or set brings a stable sort for each type of item: three kilobytes each in
/// the browser's file, for collections of a few nodes.
pub trait Gather: Iterator + Sized {
    /// All items, in a collection that is empty at first.
    fn gather<C: Default + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> Gather for I {}

/// A set of one.
pub fn only<T: Ord>(item: T) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.insert(item);
    set
}
