//! By what the store finds a result again: what it is about, under which root, which path.

use std::ffi::CStr;

use smallvec::SmallVec;

use super::Place;
use crate::file::compress::Coding;
use crate::file::listing::Sort;

pub(super) type CacheKey = SmallVec<[u8; 160]>;

/// What a key is about, its first byte.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aspect {
    Plain,
    Folder,
    Coded(Coding),
    /// Not kept by itself, only looked for.
    Sorted(Sort),
}

pub(super) fn key_of(place: &Place, aspect: Aspect, path: &CStr) -> CacheKey {
    let mut key = CacheKey::new();
    key.push(match aspect {
        Aspect::Plain => b'p',
        Aspect::Folder => b'f',
        Aspect::Coded(Coding::Gzip) => b'g',
        Aspect::Coded(Coding::Brotli) => b'b',
        Aspect::Coded(Coding::Zstd) => b'z',
        Aspect::Sorted(sort) => b'0' + sort.number() as u8,
    });
    key.extend_from_slice(&place.number.to_ne_bytes());
    key.extend_from_slice(path.to_bytes());
    key
}

/// The path in a key.
pub(super) fn path_of(key: &[u8]) -> &[u8] {
    key.get(1 + size_of::<u64>()..).unwrap_or_default()
}
