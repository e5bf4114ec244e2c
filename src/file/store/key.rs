//! By what the store finds a result again: what it is about, under which root, which path.

use std::ffi::CStr;

use smallvec::SmallVec;

use super::Place;
use crate::file::compress::Coding;
use crate::file::listing::Sort;

pub(super) type CacheKey = SmallVec<[u8; 160]>;

const PLAIN: u8 = b'p';

/// What a key is about, its first byte.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aspect {
    Plain,
    Folder,
    Coded(Coding),
    /// Not kept by itself: the resource has it.
    Charset,
    /// Not kept by itself, only looked for.
    Sorted(Sort),
}

pub(super) fn key_of(place: &Place, aspect: Aspect, path: &CStr) -> CacheKey {
    let mut key = CacheKey::new();
    key.push(match aspect {
        Aspect::Plain => PLAIN,
        Aspect::Folder => b'f',
        Aspect::Coded(Coding::Gzip) => b'g',
        Aspect::Coded(Coding::Brotli) => b'b',
        Aspect::Coded(Coding::Zstd) => b'z',
        Aspect::Charset => b'c',
        Aspect::Sorted(sort) => b'0' + sort.number() as u8,
    });
    key.extend_from_slice(&place.number.to_ne_bytes());
    key.extend_from_slice(path.to_bytes());
    key
}

/// The key by which the resource itself is found to which this key's result belongs.
pub(super) fn plain_key_of(mut key: Box<[u8]>) -> Box<[u8]> {
    if let Some(aspect) = key.first_mut() {
        *aspect = PLAIN;
    }
    key
}
