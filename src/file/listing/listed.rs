//! [`Listed`]: the entries of a folder, and their sort orders.

use std::cell::OnceCell;
use std::sync::Arc;

use super::Entry;
use super::order::{ORDERS, Sort};
use crate::driver::FolderEntry;

/// The entries of a folder. Each sort order is computed once and kept.
#[derive(Debug)]
pub struct Listed {
    entries: Arc<Vec<FolderEntry>>,
    orders: [OnceCell<Box<[u32]>>; ORDERS],
    /// Approximate memory with all orders. Bytes.
    memory: usize,
}

impl Listed {
    /// Entries without a sort order.
    pub fn new(entries: Vec<FolderEntry>) -> Self {
        let each = |entry: &FolderEntry| size_of::<FolderEntry>() + 16 + entry.name.len() + ORDERS * size_of::<u32>();
        let memory = entries.iter().map(each).sum();
        Self { entries: Arc::new(entries), orders: Default::default(), memory }
    }

    /// The entries, unsorted.
    pub const fn entries(&self) -> &Arc<Vec<FolderEntry>> {
        &self.entries
    }

    /// Whether this order has been computed.
    pub fn is_sorted(&self, sort: Sort) -> bool {
        self.orders[sort.number()].get().is_some()
    }

    /// Stores the result of [`Sort::order`] for these entries.
    pub fn set_order(&self, sort: Sort, order: Box<[u32]>) {
        // If it is set already, it is the same.
        let _ = self.orders[sort.number()].set(order);
    }

    /// Approximate memory with all orders. Bytes.
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// The entry at this index of an order, which is computed if needed.
    pub(super) fn entry(&self, sort: Sort, index: usize) -> Option<Entry<'_>> {
        let order = self.orders[sort.number()].get_or_init(|| sort.order(&self.entries));
        let FolderEntry { name, info } = self.entries.get(*order.get(index)? as usize)?;
        Some(Entry { name, info: info.as_ref()? })
    }
}
