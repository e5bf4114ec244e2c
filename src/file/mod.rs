//! Static files: the cache of open files, folder listings and compression.
//!
//! | module | purpose |
//! |---|---|
//! | [`FileHandle`] | one file, from open to close |
//! | [`cache`] | least-recently-used cache with validity times |
//! | [`compress`] | precompressed files, and compression on the fly |
//! | [`store`] | looks files up, opens, reads and compresses them, and caches the results |
//! | [`resource`] | an opened file or folder |
//! | [`listing`] | folder listings |
//!
//! What HTTP says about files, such as ranges and preconditions, is in [`http`](crate::http).

pub mod cache;
pub mod compress;
mod handle;
pub mod listing;
pub mod resource;
pub mod store;

pub use handle::FileHandle;
