//! Static files: the cache of open files, and the HTTP header fields derived from a file.
//!
//! | module | purpose |
//! |---|---|
//! | [`FileHandle`] | one file, from open to close |
//! | [`cache`] | least-recently-used cache with validity times |
//! | [`validator`] | entity tag and modification date |
//! | [`conditional`] | preconditions such as `If-None-Match` |
//! | [`range`], [`multipart`] | requested ranges, and bodies of several ranges |
//! | [`media_type`], [`charset`] | `Content-Type` |
//! | [`compress`] | content codings |
//! | [`listing`] | folder listings |
//!
//! All modules above but [`FileHandle`] are functions of their arguments: no operations, no clock, no
//! HTTP messages, only field values.

pub mod cache;
pub mod charset;
pub mod compress;
pub mod conditional;
mod handle;
pub mod listing;
pub mod media_type;
pub mod multipart;
pub mod range;
pub mod resource;
pub mod store;
pub mod validator;

pub use handle::FileHandle;
