//! The sort order of a listing, and the query that selects it.

use std::cmp::Ordering;

use super::Entry;
use crate::driver::{FileKind, FolderEntry};

/// Number of sort orders.
pub(super) const ORDERS: usize = 6;

/// The sort order of a listing. Folders always come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// The column to sort by.
    pub column: Column,
    /// The direction.
    pub direction: Direction,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// By name, ignoring ASCII case.
    #[default]
    Name,
    /// By size.
    Size,
    /// By modification time.
    Modified,
}

/// Sort direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

impl Sort {
    /// Parses the query of a URL: `sort=name|size|modified` and `order=asc|desc`. Anything else is
    /// ignored.
    pub fn from_query(query: &[u8]) -> Self {
        let mut sort = Self::default();
        for pair in query.split(|byte| *byte == b'&') {
            match pair {
                b"sort=name" => sort.column = Column::Name,
                b"sort=size" => sort.column = Column::Size,
                b"sort=modified" => sort.column = Column::Modified,
                b"order=asc" => sort.direction = Direction::Ascending,
                b"order=desc" => sort.direction = Direction::Descending,
                _ => {}
            }
        }
        sort
    }

    /// The order that a click on a column's title selects: by that column, or reversed if it is the
    /// current one.
    pub(super) fn after_click(self, column: Column) -> Self {
        let direction = match self.direction {
            Direction::Ascending if self.column == column => Direction::Descending,
            Direction::Ascending | Direction::Descending => Direction::Ascending,
        };
        Self { column, direction }
    }

    /// Index of the order, below 6.
    pub const fn number(self) -> usize {
        2 * self.column as usize + self.direction as usize
    }

    /// The indices of the visible entries, in this order. A symbolic link that is broken, or leads
    /// out of the root, cannot be requested, so it is not listed.
    pub fn order(self, entries: &[FolderEntry]) -> Box<[u32]> {
        let entry = |index: u32| {
            let FolderEntry { name, info } = entries.get(index as usize)?;
            Some(Entry { name, info: info.as_ref()? })
        };
        let mut order: Vec<u32> = (0..entries.len() as u32).filter(|index| entry(*index).is_some()).collect();
        order.sort_unstable_by(|a, b| match (entry(*a), entry(*b)) {
            (Some(a), Some(b)) => self.compare(a, b),
            _ => Ordering::Equal,
        });
        order.into()
    }

    /// Compares two entries; no two entries of one folder are equal.
    fn compare(self, a: Entry<'_>, b: Entry<'_>) -> Ordering {
        let is_folder = |entry: Entry<'_>| entry.info.kind == FileKind::Directory;
        is_folder(b).cmp(&is_folder(a)).then_with(|| {
            let by_column = match self.column {
                Column::Name => compare_names(a, b),
                Column::Size => shown_size(a).cmp(&shown_size(b)),
                Column::Modified => a.info.modified_ns.cmp(&b.info.modified_ns),
            };
            let by_column = match self.direction {
                Direction::Ascending => by_column,
                Direction::Descending => by_column.reverse(),
            };
            by_column.then_with(|| compare_names(a, b))
        })
    }
}

impl Column {
    /// The name in a query.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Modified => "modified",
        }
    }
}

impl Direction {
    /// The name in a query.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "asc",
            Self::Descending => "desc",
        }
    }
}

/// The size that is shown; only a regular file has one.
fn shown_size(entry: Entry<'_>) -> Option<u64> {
    (entry.info.kind == FileKind::Regular).then_some(entry.info.size)
}

fn compare_names(a: Entry<'_>, b: Entry<'_>) -> Ordering {
    let (lower_a, lower_b) = (a.name.iter().map(u8::to_ascii_lowercase), b.name.iter().map(u8::to_ascii_lowercase));
    lower_a.cmp(lower_b).then_with(|| a.name.cmp(b.name))
}
