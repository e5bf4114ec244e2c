//! What lies in a folder, and the orders in which that has been asked for.

use std::cell::OnceCell;
use std::sync::Arc;

use super::Entry;
use super::order::{ORDERS, Sort};
use crate::driver::FolderEntry;

/// A folder's entries; each order is made once, and kept beside them.
#[derive(Debug)]
pub struct Listed {
    entries: Arc<Vec<FolderEntry>>,
    orders: [OnceCell<Box<[u32]>>; ORDERS],
    /// Bytes, about, with every order.
    memory: usize,
}

impl Listed {
    /// In no order yet.
    pub fn new(entries: Vec<FolderEntry>) -> Self {
        let each = |entry: &FolderEntry| size_of::<FolderEntry>() + 16 + entry.name.len() + ORDERS * size_of::<u32>();
        let memory = entries.iter().map(each).sum();
        Self { entries: Arc::new(entries), orders: Default::default(), memory }
    }

    /// What was found in the folder.
    pub const fn entries(&self) -> &Arc<Vec<FolderEntry>> {
        &self.entries
    }

    /// Whether this order is there.
    pub fn is_sorted(&self, sort: Sort) -> bool {
        self.orders[sort.number()].get().is_some()
    }

    /// Keeps what [`Sort::order_as_bytes`] has made of the same entries.
    pub fn set_order(&self, sort: Sort, bytes: &[u8]) {
        let (numbers, _) = bytes.as_chunks();
        // Whoever was first has made the same.
        let _ = self.orders[sort.number()].set(numbers.iter().map(|number| u32::from_ne_bytes(*number)).collect());
    }

    /// Bytes of memory, about, with every order.
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// The entry at this place of an order, which is made if it is not there.
    pub(super) fn entry(&self, sort: Sort, index: usize) -> Option<Entry<'_>> {
        let order = self.orders[sort.number()].get_or_init(|| sort.order(&self.entries));
        let FolderEntry { name, info } = self.entries.get(*order.get(index)? as usize)?;
        Some(Entry { name, info: info.as_ref()? })
    }
}
