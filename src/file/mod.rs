//! An open file, from the asking to the closing.

mod handle;

pub use handle::FileHandle;
