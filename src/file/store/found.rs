//! Cached results, and the time at which each was obtained.

use std::rc::Rc;

use super::{Content, Resource};
use crate::driver::{Fault, Time};
use crate::file::listing::Listed;

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) found: Found,
    pub(super) since: Time,
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    Resource(Rc<Resource>),
    Folder(Rc<Listed>),
}

/// The cache's entry for a key.
pub(super) enum Cached {
    Good(Found),
    Old(Found),
    Fault(Fault),
    Nothing,
}

impl Found {
    /// Whether it holds a descriptor.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Resource(resource) if matches!(resource.content, Content::File(_)))
    }

    /// Approximate memory in bytes. A small file counts three times its size, since it is also kept
    /// as complete responses.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Resource(resource) => match &resource.content {
                Content::Memory(bytes) => 512 + 3 * bytes.len(),
                Content::File(_) | Content::Folder | Content::Special => 512,
            },
            Self::Folder(listed) => listed.memory(),
        }
    }
}
