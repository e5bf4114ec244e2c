//! HTTP/1.1 messages as bytes: what a peer said, and what is said to it.
//!
//! Pure functions and small values. Nothing here knows sockets, buffers, time or files; the session asks and
//! these modules answer. They emit no operation and, for a request of normal size, allocate nothing.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | a request's head: its line, its fields, how its body is framed |
//! | [`response_head`] | the same of an upstream's response |
//! | [`target`] | the four forms of a request target, and the authority in it or in `Host` |
//! | [`framing`] | how the body is delimited |
//! | [`fields`] | the field lines of a head, and the known ones among them |
//! | `head` | what both kinds of head have in common: limits, versions, field lines |
//! | [`method`] | the registered methods |
//! | [`status`] | the status codes; [`ErrorResponse`]: a status and why |
//! | [`chunked`] | the chunked coding, both ways |
//! | [`body`] | bodies as they pass: finding their data, writing what goes around it |
//! | [`forward`] | the heads that a proxy writes, from those it read |
//! | [`path`] | a target's path as a path beneath a root, and back |
//! | [`accept`] | `Accept-Encoding` and `Accept` |
//! | [`redirect`] | where a redirect leads |
//! | [`response`] | a response's head |
//! | [`date`] | HTTP dates |
//! | [`error_page`] | the small body of a response that is an error |
//! | [`token`] | tokens and lists of them |
//!
//! `request` and `answer` put `target`, `framing`, `fields` and `method` together and are used by none of them;
//! `forward` uses all of these.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod accept;
pub mod body;
pub mod chunked;
pub mod date;
pub mod error_page;
pub mod fields;
pub mod forward;
pub mod framing;
mod head;
pub mod method;
pub mod path;
pub mod redirect;
pub mod request;
pub mod response;
pub mod response_head;
pub mod status;
pub mod target;
pub mod token;

pub use accept::{AcceptEncoding, Coding, Preference, preferred_type};
pub use body::{BodyReader, BodyWriter, Piece};
pub use date::DateLine;
pub use error_page::PageType;
pub use fields::{Field, Fields, Known};
pub use framing::BodyFraming;
pub use head::{HeadLimits, Version, is_own};
pub use method::Method;
pub use path::{DecodedPath, encode_path};
pub use request::{Expect, Parsed, RequestHead};
pub use response::ResponseHeadWriter;
pub use response_head::{BadResponse, ResponseFraming, ResponseHead};
pub use status::{ErrorResponse, Status};
pub use target::Target;
