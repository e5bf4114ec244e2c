//! Keys of the store's cache: the kind of result, the root folder and the path.

use std::ffi::CStr;

use smallvec::SmallVec;

use super::RootPath;
use crate::file::compress::Level;
use crate::file::listing::Sort;
use crate::http::Coding;

pub(super) type CacheKey = SmallVec<[u8; 160]>;

const PLAIN: u8 = b'p';

/// The kind of result; the first byte of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aspect {
    Plain,
    Folder,
    Coded(Coding, Level),
    /// Not cached: the resource keeps the result.
    Charset,
    /// Not cached: identifies a job.
    Sorted(Sort),
}

pub(super) fn key_of(root_path: &RootPath, aspect: Aspect, path: &CStr) -> CacheKey {
    let mut key = CacheKey::new();
    key.push(match aspect {
        Aspect::Plain => PLAIN,
        Aspect::Folder => b'f',
        Aspect::Coded(Coding::Gzip, _) => b'g',
        Aspect::Coded(Coding::Brotli, _) => b'b',
        Aspect::Coded(Coding::Zstd, _) => b'z',
        Aspect::Charset => b'c',
        Aspect::Sorted(sort) => b'0' + sort.number() as u8,
    });
    key.extend_from_slice(&root_path.number().to_ne_bytes());
    if let Aspect::Coded(_, level) = aspect {
        // Routes of one folder may use different levels.
        key.push(level.number());
    }
    key.extend_from_slice(path.to_bytes());
    key
}

/// The path in a key.
pub(super) fn path_of(key: &[u8]) -> &[u8] {
    let level_bytes = usize::from(matches!(key.first(), Some(b'g' | b'b' | b'z')));
    key.get(1 + size_of::<u64>() + level_bytes..).unwrap_or_default()
}

/// The key of the job that checks a root path. No other key begins with its first byte.
pub(super) fn key_of_look(root_path: &RootPath) -> CacheKey {
    let mut key = CacheKey::new();
    key.push(b'r');
    key.extend_from_slice(&root_path.address().to_ne_bytes());
    key
}

/// Whether a key belongs to the root folder of this number.
pub(super) fn is_beneath(key: &[u8], number: u64) -> bool {
    key.get(1..).is_some_and(|rest| rest.starts_with(&number.to_ne_bytes()))
}

/// The key of the resource that this key's result belongs to.
pub(super) fn plain_key_of(mut key: Box<[u8]>) -> Box<[u8]> {
    if let Some(aspect) = key.first_mut() {
        *aspect = PLAIN;
    }
    key
}
