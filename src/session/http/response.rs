//! Builds the server's own response to a request.
//!
//! The response is a function of the head, the file route and the content of the store. If the
//! store has to look something up, the whole function is called again once the result is there.

mod allowed_methods;
mod error;
mod file;
mod plain;

use std::ffi::{CStr, CString};
use std::rc::Rc;

pub(super) use self::allowed_methods::AllowedMethods;
use self::error::error_response_of;
pub(super) use self::error::{Client, error_response};
use super::file_route::{FileRoute, Source};
use crate::buffer::{Chain, Chunk};
use crate::driver::{FileKind, Ops};
use crate::file::listing::{self, Format, Listing, Options, Sort};
use crate::file::store::{Content, Inquiry, Lookup, Resource, Store};
use crate::http::error_page::PageType;
use crate::http::fields::Known;
use crate::http::media_type::MediaType;
use crate::http::multipart::{Boundaries, Multipart};
use crate::http::path::{self, DecodedPath};
use crate::http::range::Span;
use crate::http::redirect::push_query;
use crate::http::{
    DateLine, ErrorResponse, HeadBuilder, HeadEncoder, HeadEnd, HeadSink, Method, RequestHead, ResponseFraming, Status,
    Version,
};

/// The inputs of a response.
pub(super) struct ResponseBuilder<'a> {
    pub(super) file_route: &'a FileRoute,
    pub(super) head: &'a RequestHead<'a>,
    pub(super) allowed_methods: AllowedMethods,
    /// Whether the server keeps the connection open after this exchange.
    pub(super) keep_alive: bool,
    pub(super) inquiry: Inquiry,
    pub(super) unix_seconds: u64,
    pub(super) date: &'a DateLine,
    pub(super) store: &'a mut Store,
    pub(super) boundaries: &'a mut Boundaries,
    pub(super) ops: &'a mut Ops,
}

/// A response, ready to be sent.
pub(super) struct EncodedResponse {
    pub(super) status: Status,
    /// The head, and the body as far as it is in memory.
    pub(super) bytes: Chain,
    /// The rest of the body.
    pub(super) body: Body,
    /// The size of the body, for the access log.
    pub(super) body_bytes: u64,
    /// Whether the connection stays open after the response.
    pub(super) keep_alive: bool,
}

/// The part of a body that is not in memory.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing: the body is in `bytes`.
    Sent,
    /// One range of a file.
    Part(Rc<Resource>, Span),
    /// Several ranges of a file, with the text between them (`multipart/byteranges`).
    Parts(Rc<Resource>, Box<Multipart>),
    /// The listing of a folder, in pieces.
    Listing { stream: Box<listing::Stream>, is_chunked: bool },
}

/// Why there is no response.
pub(super) enum Stop {
    /// The store has to look something up.
    Wait,
    /// The response is an error.
    Error(ErrorResponse),
}

impl From<ErrorResponse> for Stop {
    fn from(error: ErrorResponse) -> Self {
        Self::Error(error)
    }
}

impl ResponseBuilder<'_> {
    /// The response; `None`: the store has to look something up.
    pub(super) fn build(&mut self) -> Option<EncodedResponse> {
        if let Some(response) = self.early_response() {
            return Some(response);
        }
        match self.get() {
            Ok(response) => Some(response),
            Err(Stop::Wait) => None,
            Err(Stop::Error(error)) => Some(self.respond_error(error)),
        }
    }

    fn get(&mut self) -> Result<EncodedResponse, Stop> {
        let raw = self.head.target.path().ok_or(ErrorResponse::bad_request("the request target has no path"))?;
        let path = path::decode(raw)?;
        if self.file_route.hides(&path) {
            return Err(not_found());
        }
        match &self.file_route.source {
            Source::BuiltIn(pages) => self.built_in(pages, &path),
            Source::Folder(_) => match self.find(&path) {
                Err(Stop::Error(error)) if error.status == Status::NOT_FOUND => self.fall_back(error),
                found => found,
            },
        }
    }

    fn find(&mut self, path: &DecodedPath) -> Result<EncodedResponse, Stop> {
        let inner = path.beneath(&self.file_route.prefix);
        let resource = self.resource(inner)?;
        match &resource.content {
            Content::Folder => self.folder(path),
            Content::Special => Err(ErrorResponse::new(Status::FORBIDDEN, "not a file").into()),
            Content::Memory(_) | Content::File(_) if path.ends_with_slash() => Err(not_found()),
            Content::Memory(_) | Content::File(_) => self.file(inner, resource),
        }
    }

    /// Serves the configured fallback file, for single-page applications.
    fn fall_back(&mut self, error: ErrorResponse) -> Result<EncodedResponse, Stop> {
        let Some(fallback) = &self.file_route.fallback else { return Err(error.into()) };
        let resource = self.resource(fallback)?;
        match resource.content {
            Content::Memory(_) | Content::File(_) => self.file(fallback, resource),
            Content::Folder | Content::Special => Err(error.into()),
        }
    }

    fn folder(&mut self, path: &DecodedPath) -> Result<EncodedResponse, Stop> {
        if !path.ends_with_slash() {
            return Ok(self.redirect_to_folder(path));
        }
        for name in &self.file_route.index {
            let index = join(path.beneath(&self.file_route.prefix), name);
            match self.resource(&index) {
                Ok(resource) if resource.info.kind == FileKind::Regular => return self.file(&index, resource),
                Err(Stop::Error(error)) if error.status == Status::NOT_FOUND => {}
                Err(stop) => return Err(stop),
                Ok(_) => {}
            }
        }
        if self.file_route.config.listing {
            self.listing(path)
        } else {
            Err(ErrorResponse::new(self.file_route.config.unlisted, "this folder is not listed").into())
        }
    }

    fn redirect_to_folder(&self, path: &DecodedPath) -> EncodedResponse {
        let mut location = Vec::new();
        path::encode_path(path.as_bytes(), true, &mut location);
        if let Some(query) = self.head.target.query() {
            location.push(b'?');
            push_query(query, &mut location);
        }
        let mut encoder = HeadEncoder::new();
        let head = self.begin(&mut encoder, Status::MOVED_PERMANENTLY).own_field("Location", &location);
        self.extend(head);
        let out = self.end(encoder, ResponseFraming::Length(0));
        self.response(Status::MOVED_PERMANENTLY, Chunk::shared(out), Body::Sent, 0)
    }

    fn listing(&mut self, path: &DecodedPath) -> Result<EncodedResponse, Stop> {
        let Source::Folder(root_path) = &self.file_route.source else { return Err(not_found()) };
        let sort = Sort::from_query(self.head.target.query().unwrap_or_default());
        let listed =
            match self.store.list(root_path, path.beneath(&self.file_route.prefix), sort, self.inquiry, self.ops) {
                Lookup::Found(Ok(listed)) => listed,
                Lookup::Found(Err(fault)) => return Err(error_response_of(fault).into()),
                Lookup::Pending => return Err(Stop::Wait),
            };
        let options =
            Options { shows_dot_files: self.file_route.config.dot_files, style: self.file_route.config.listing_style };
        let format = match PageType::for_accept(self.head.fields.known(Known::Accept)) {
            PageType::Html => Format::Html,
            PageType::Json => Format::Json,
        };
        let mut full_path = Vec::with_capacity(path.as_bytes().len() + 2);
        full_path.push(b'/');
        full_path.extend_from_slice(path.as_bytes());
        if !path.is_root() {
            full_path.push(b'/');
        }
        let mut stream = Box::new(Listing::new(&full_path, listed, sort, options).stream(format));
        let mut page = Vec::new();
        let has_more = stream.write(listing::PIECE_BYTES, &mut page);
        let is_chunked = has_more && self.head.version == Version::Http11;
        // HTTP/1.0 without chunks, and the length is unknown: the end of the connection ends the
        // listing.
        self.keep_alive &= !has_more || is_chunked;
        let mut encoder = HeadEncoder::new();
        let head = self
            .begin(&mut encoder, Status::OK)
            .field("Content-Type", format.content_type(options.style))
            .field("X-Content-Type-Options", "nosniff")
            .vary("Accept")
            .field("Cache-Control", "no-cache")
            .field("Content-Security-Policy", listing::CONTENT_SECURITY_POLICY);
        self.extend(head);
        let framing = match (has_more, is_chunked) {
            (false, _) => ResponseFraming::Length(page.len() as u64),
            (true, true) => ResponseFraming::Chunked,
            (true, false) => ResponseFraming::UntilClose,
        };
        let out = self.end(encoder, framing);
        let mut body_bytes = 0;
        let mut bytes = Chain::from(Chunk::shared(out));
        let mut body = Body::Sent;
        if self.head.method != Method::Head {
            body_bytes = page.len() as u64;
            if is_chunked {
                super::push_chunk(&mut bytes, page);
            } else {
                bytes.push(Chunk::shared(page));
            }
            if has_more {
                body = Body::Listing { stream, is_chunked };
            }
        }
        Ok(self.response(Status::OK, bytes, body, body_bytes))
    }

    fn built_in(&self, pages: &[(&str, &'static str)], path: &DecodedPath) -> Result<EncodedResponse, Stop> {
        let name = match path.beneath(&self.file_route.prefix).to_bytes() {
            b"." => b"index.html",
            name => name,
        };
        let (_, text) = pages.iter().find(|(page, _)| page.as_bytes() == name).ok_or_else(not_found)?;
        let mut encoder = HeadEncoder::new();
        let head = self
            .begin(&mut encoder, Status::OK)
            .field("Content-Type", format!("{}; charset=utf-8", MediaType::of_name(name).as_str()))
            .field("X-Content-Type-Options", "nosniff");
        self.extend(head);
        let out = self.end(encoder, ResponseFraming::Length(text.len() as u64));
        let mut bytes = Chain::from(Chunk::shared(out));
        let mut body_bytes = 0;
        if self.head.method != Method::Head {
            bytes.push(text.as_bytes());
            body_bytes = text.len() as u64;
        }
        Ok(self.response(Status::OK, bytes, Body::Sent, body_bytes))
    }

    fn resource(&mut self, path: &CStr) -> Result<Rc<Resource>, Stop> {
        let Source::Folder(root_path) = &self.file_route.source else { return Err(not_found()) };
        match self.store.get(root_path, path, self.inquiry, self.ops) {
            Lookup::Found(Ok(resource)) => Ok(resource),
            Lookup::Found(Err(fault)) => Err(error_response_of(fault).into()),
            Lookup::Pending => Err(Stop::Wait),
        }
    }

    /// Begins a head: the status and the fields of every response.
    fn begin<'v, S: HeadSink>(&'v self, sink: &'v mut S, status: Status) -> HeadBuilder<'v, S> {
        HeadBuilder::new(sink, status)
            .date(self.date)
            .without(if status.is_error() {
                &self.file_route.responses.without
            } else {
                &self.file_route.responses.replaced
            })
            .server(self.file_route.responses.server_name.as_deref())
    }

    /// Ends a head.
    fn end(&self, encoder: HeadEncoder, framing: ResponseFraming) -> Vec<u8> {
        encoder.end(HeadEnd { framing, keep_alive: self.keep_alive, version: self.head.version })
    }

    /// Adds the fields that the configuration adds to every response but errors.
    fn extend<'v, S: HeadSink>(&self, mut head: HeadBuilder<'v, S>) -> HeadBuilder<'v, S> {
        head = self.admit_scripts(head);
        for (name, value) in &self.file_route.responses.fields {
            head = head.extra_field(name, value);
        }
        head
    }

    fn response(&self, status: Status, bytes: impl Into<Chain>, body: Body, body_bytes: u64) -> EncodedResponse {
        EncodedResponse { status, bytes: bytes.into(), body, body_bytes, keep_alive: self.keep_alive }
    }
}

fn not_found() -> Stop {
    ErrorResponse::new(Status::NOT_FOUND, "there is no file at this path").into()
}

/// The path of a name in a folder.
fn join(folder: &CStr, name: &CStr) -> CString {
    let mut path = Vec::new();
    if folder != c"." {
        path.extend_from_slice(folder.to_bytes());
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    // Neither part contains a NUL.
    CString::new(path).unwrap_or_default()
}
