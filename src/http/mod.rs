//! HTTP messages as bytes: parsing received heads and bodies, writing sent ones.
//!
//! Pure functions and small values. They do not depend on sockets, buffers, time or files; the
//! session calls them. They submit no operations and, for a request of normal size, allocate
//! nothing.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | request heads: request line, fields, body framing |
//! | [`response_head`] | response heads of upstreams |
//! | [`target`] | the four forms of a request target, and the authority in it or in `Host` |
//! | [`framing`] | how the body is delimited |
//! | [`fields`] | the field lines of a head, and the known ones among them |
//! | `head` | what both kinds of head share: limits, versions, field lines |
//! | [`method`] | the registered methods |
//! | [`status`] | the status codes; [`ErrorResponse`]: a status with a reason |
//! | [`chunked`] | the chunked coding, both ways |
//! | [`trailers`] | the fields after a body |
//! | [`body`] | forwarded bodies: finding their data, writing the framing around it |
//! | [`forward`] | the heads that a proxy writes, from those it read |
//! | [`path`] | a target's path as a path beneath a root, and back |
//! | [`accept`] | `Accept-Encoding` and `Accept` |
//! | [`coding`] | content codings |
//! | [`media_type`], [`charset`] | `Content-Type` of files |
//! | [`validators`] | entity tag and modification date of a file's version |
//! | [`conditional`] | preconditions such as `If-None-Match` |
//! | [`range`], [`multipart`] | requested ranges, and bodies of several ranges |
//! | [`scheme`] | `http` and `https`, with their ports |
//! | [`host_matcher`] | which host, or which certificate, a name selects |
//! | [`redirect`] | redirect URLs |
//! | [`response`] | writing response heads, for any version |
//! | [`h1`] | the text that only HTTP/1.1 has |
//! | [`h2`] | HTTP/2: frames, compressed fields, the heads in them |
//! | [`date`] | HTTP dates |
//! | [`error_page`] | the body of an error response |
//! | [`token`] | tokens and lists of them |
//! | [`inline_text`] | short text, formatted in place |
//!
//! `request` and `response_head` are built from `target`, `framing`, `fields` and `method`, which
//! do not depend on them. `forward` uses all of these.

#![forbid(unsafe_code)]

pub mod accept;
pub mod body;
pub mod charset;
pub mod chunked;
pub mod coding;
pub mod conditional;
pub mod date;
pub mod error_page;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod h1;
pub mod h2;
mod head;
pub mod host_matcher;
pub mod inline_text;
pub mod media_type;
pub mod method;
pub mod multipart;
pub mod path;
pub mod range;
pub mod redirect;
pub mod request;
pub mod request_id;
pub mod response;
pub mod response_head;
pub mod scheme;
pub mod status;
pub mod target;
pub mod token;
pub mod trailers;
pub mod validators;

pub use accept::{AcceptEncoding, Preference, preferred_type};
pub use body::{BodyReader, BodyWriter, Piece};
pub use coding::Coding;
pub use date::DateLine;
pub use error_page::PageType;
pub use fields::{Field, Fields, Known};
pub use framing::BodyFraming;
pub use h1::{HeadEncoder, HeadEnd};
pub use head::{HeadLimits, Version, is_own};
pub use host_matcher::{HostMatcher, Wildcard};
pub use method::Method;
pub use path::{DecodedPath, encode_path};
pub use request::{Expect, Parsed, RequestHead};
pub use response::{HeadBuilder, HeadSink};
pub use response_head::{BadResponse, ResponseFraming, ResponseHead};
pub use scheme::Scheme;
pub use status::{ErrorResponse, Status};
pub use target::Target;
pub use trailers::Trailers;
