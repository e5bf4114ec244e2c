//! Files as a server gives them out: an open one from the asking to the closing, and what HTTP says about them.
//!
//! | module | answers |
//! |---|---|
//! | [`FileHandle`] | is the file open? |
//! | [`cache`] | have we just had it? |
//! | [`validator`] | which version is it? |
//! | [`conditional`] | does the client want that version? |
//! | [`range`], [`multipart`] | which parts of it, and how are several laid out? |
//! | [`media_type`], [`charset`] | what is it? |
//! | [`compress`] | can it be made smaller? |
//! | [`listing`] | what is in the folder? |
//!
//! All but the handle are functions of their arguments: no operation, no clock, no message of HTTP, only values of fields.

pub mod cache;
pub mod charset;
pub mod compress;
pub mod conditional;
mod handle;
pub mod inline_text;
pub mod listing;
pub mod media_type;
pub mod multipart;
mod ows;
pub mod range;
pub mod resource;
pub mod store;
pub mod validator;

pub use handle::FileHandle;
