//! From a request's head to an answer: what is looked up, what is decided, what is said.
//!
//! One function of the head, the site and what the store has at hand. When the store has to look
//! something up, the whole function is asked again once that has come.

use std::ffi::{CStr, CString};
use std::rc::Rc;

use super::site::{Site, Source};
use crate::buffer::{Chain, Chunk};
use crate::driver::{Fault, FileKind, Ops};
use crate::file::compress::{self, Coding};
use crate::file::conditional::{self, Conditions, Verdict};
use crate::file::listing::{self, Format, Listing, Options, Sort};
use crate::file::media_type::MediaType;
use crate::file::multipart::{Boundaries, Multipart};
use crate::file::range::{self, Selection, Span};
use crate::file::store::{Content, Inquiry, Lookup, Resource, Store};
use crate::file::validator::Validators;
use crate::http::error_page::{self, PageType};
use crate::http::fields::Known;
use crate::http::path::{self, DecodedPath};
use crate::http::{
    AcceptEncoding, DateLine, Expect, Method, Refusal, RequestHead, ResponseHead, Status, Version, accept,
};

/// Everything an answer is made of.
pub(super) struct Exchange<'a> {
    pub(super) site: &'a Site,
    pub(super) head: &'a RequestHead<'a>,
    /// Whether the connection is to go on after this exchange, as far as the server is concerned.
    pub(super) keep_alive: bool,
    pub(super) inquiry: Inquiry,
    pub(super) unix_seconds: u64,
    pub(super) date: &'a DateLine,
    pub(super) store: &'a mut Store,
    pub(super) boundaries: &'a mut Boundaries,
    pub(super) ops: &'a mut Ops,
}

/// An answer, ready to be sent.
pub(super) struct Answer {
    pub(super) status: Status,
    /// The head, and a body that is in memory.
    pub(super) bytes: Chain,
    /// What follows.
    pub(super) body: Body,
    /// Bytes of the body, as far as known, for the log.
    pub(super) body_bytes: u64,
}

/// A body that is not in memory as a whole.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing more.
    Sent,
    /// One part of a file.
    Part(Rc<Resource>, Span),
    /// Several parts of a file, and text between them.
    Parts(Rc<Resource>, Multipart),
    /// A folder's listing, piece by piece.
    Listing { stream: Box<listing::Stream>, is_chunked: bool },
}

/// Why there is no answer.
pub(super) enum Stop {
    /// The store has to look something up.
    Wait,
    /// It is an error.
    Refuse(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// What a site offers.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

impl Exchange<'_> {
    /// The answer; `None`: it has to wait for the store.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        match self.serve() {
            Ok(answer) => Some(answer),
            Err(Stop::Wait) => None,
            Err(Stop::Refuse(refusal)) => Some(self.refuse(refusal)),
        }
    }

    fn serve(&mut self) -> Result<Answer, Stop> {
        if self.head.expect == Expect::Unknown {
            return Err(Refusal::new(Status::EXPECTATION_FAILED, "an expectation that cannot be met").into());
        }
        match self.head.method {
            Method::Get | Method::Head => self.get(),
            Method::Options => Ok(self.options()),
            method if method.is_registered() => {
                Err(Refusal::new(Status::METHOD_NOT_ALLOWED, "this resource offers GET and HEAD").into())
            }
            _ => Err(Refusal::bad_request("no registry knows this method").into()),
        }
    }

    fn options(&self) -> Answer {
        let mut out = Vec::with_capacity(256);
        self.begin(&mut out, Status::NO_CONTENT).field("Allow", ALLOWED).end();
        Answer { status: Status::NO_CONTENT, bytes: Chunk::shared(out).into(), body: Body::Sent, body_bytes: 0 }
    }

    fn get(&mut self) -> Result<Answer, Stop> {
        let raw = self.head.target.path().ok_or(Refusal::bad_request("this target has no path"))?;
        let path = path::decode(raw)?;
        if !self.site.config.dot_files && is_hidden(&path) {
            return Err(not_found());
        }
        match &self.site.source {
            Source::BuiltIn(pages) => self.built_in(pages, &path),
            Source::Folder(_) => match self.find(&path) {
                Err(Stop::Refuse(refusal)) if refusal.status == Status::NOT_FOUND => self.fall_back(refusal),
                found => found,
            },
        }
    }

    fn find(&mut self, path: &DecodedPath) -> Result<Answer, Stop> {
        let resource = self.resource(path.as_c_str())?;
        match &resource.content {
            Content::Folder => self.folder(path),
            Content::Special => Err(Refusal::new(Status::FORBIDDEN, "not a file").into()),
            Content::Memory(_) | Content::File(_) if path.ends_with_slash() => Err(not_found()),
            Content::Memory(_) | Content::File(_) => self.file(path.as_c_str(), resource),
        }
    }

    /// What a single-page application shows for every path of its own.
    fn fall_back(&mut self, refusal: Refusal) -> Result<Answer, Stop> {
        let Some(fallback) = &self.site.fallback else { return Err(refusal.into()) };
        let resource = self.resource(fallback)?;
        match resource.content {
            Content::Memory(_) | Content::File(_) => self.file(fallback, resource),
            Content::Folder | Content::Special => Err(refusal.into()),
        }
    }

    fn folder(&mut self, path: &DecodedPath) -> Result<Answer, Stop> {
        if !path.ends_with_slash() {
            return Ok(self.redirect_to_folder(path));
        }
        for name in &self.site.index {
            let index = join(path, name);
            match self.resource(&index) {
                Ok(resource) if resource.info.kind == FileKind::Regular => return self.file(&index, resource),
                Err(Stop::Refuse(refusal)) if refusal.status == Status::NOT_FOUND => {}
                Err(stop) => return Err(stop),
                Ok(_) => {}
            }
        }
        if self.site.config.listing {
            self.listing(path)
        } else {
            Err(Refusal::new(Status::FORBIDDEN, "this folder is not listed").into())
        }
    }

    fn redirect_to_folder(&self, path: &DecodedPath) -> Answer {
        let mut location = Vec::new();
        path::encode_path(path.as_bytes(), true, &mut location);
        if let Some(query) = self.head.target.query() {
            location.push(b'?');
            location.extend_from_slice(query.as_bytes());
        }
        let mut out = Vec::with_capacity(256);
        self.begin(&mut out, Status::MOVED_PERMANENTLY).field("Location", &location).length(0).end();
        Answer { status: Status::MOVED_PERMANENTLY, bytes: Chunk::shared(out).into(), body: Body::Sent, body_bytes: 0 }
    }

    fn listing(&mut self, path: &DecodedPath) -> Result<Answer, Stop> {
        let Source::Folder(place) = &self.site.source else { return Err(not_found()) };
        let entries = match self.store.list(place, path.as_c_str(), self.inquiry, self.ops) {
            Lookup::Found(Ok(entries)) => entries,
            Lookup::Found(Err(fault)) => return Err(refusal_of(fault).into()),
            Lookup::Pending => return Err(Stop::Wait),
        };
        let shown = entries.iter().filter_map(|entry| {
            // A link that leads nowhere, or out of the root, cannot be had, so it is not offered.
            let info = entry.info?;
            Some(listing::Entry {
                name: entry.name.clone(),
                kind: info.kind,
                size: info.size,
                modified_ns: info.modified_ns,
            })
        });
        let sort = Sort::from_query(self.head.target.query().unwrap_or_default().as_bytes());
        let options = Options { shows_dot_files: self.site.config.dot_files };
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
        let mut stream = Box::new(Listing::new(&full_path, shown.collect(), sort, options).stream(format));
        let mut page = Vec::new();
        let has_more = stream.write(listing::PIECE_BYTES, &mut page);
        let mut out = Vec::with_capacity(512);
        let head = self
            .begin(&mut out, Status::OK)
            .field("Content-Type", format.content_type())
            .field("Vary", "Accept")
            .field("Cache-Control", "no-cache")
            .field("Content-Security-Policy", listing::CONTENT_SECURITY_POLICY);
        let is_chunked = has_more && self.head.version == Version::Http11;
        match (has_more, is_chunked) {
            (false, _) => head.length(page.len() as u64).end(),
            (true, true) => head.chunked().end(),
            // Until the connection's end, which the session sees to.
            (true, false) => head.end(),
        }
        let body_bytes = page.len() as u64;
        let mut bytes = Chain::from(Chunk::shared(out));
        let mut body = Body::Sent;
        if self.head.method != Method::Head {
            if is_chunked {
                super::push_chunk(&mut bytes, page);
            } else {
                bytes.push(Chunk::shared(page));
            }
            if has_more {
                body = Body::Listing { stream, is_chunked };
            }
        }
        Ok(Answer { status: Status::OK, bytes, body, body_bytes })
    }

    fn built_in(&self, pages: &[(&str, &'static str)], path: &DecodedPath) -> Result<Answer, Stop> {
        let name = if path.is_root() { b"index.html" } else { path.as_bytes() };
        let (_, text) = pages.iter().find(|(page, _)| page.as_bytes() == name).ok_or_else(not_found)?;
        let mut out = Vec::with_capacity(512);
        self.begin(&mut out, Status::OK)
            .field("Content-Type", format!("{}; charset=utf-8", MediaType::of_name(name).as_str()))
            .field("X-Content-Type-Options", "nosniff")
            .length(text.len() as u64)
            .end();
        let mut bytes = Chain::from(Chunk::shared(out));
        if self.head.method != Method::Head {
            bytes.push(text.as_bytes());
        }
        Ok(Answer { status: Status::OK, bytes, body: Body::Sent, body_bytes: text.len() as u64 })
    }

    fn resource(&mut self, path: &CStr) -> Result<Rc<Resource>, Stop> {
        let Source::Folder(place) = &self.site.source else { return Err(not_found()) };
        match self.store.get(place, path, self.inquiry, self.ops) {
            Lookup::Found(Ok(resource)) => Ok(resource),
            Lookup::Found(Err(fault)) => Err(refusal_of(fault).into()),
            Lookup::Pending => Err(Stop::Wait),
        }
    }

    fn file(&mut self, path: &CStr, resource: Rc<Resource>) -> Result<Answer, Stop> {
        let media_type = MediaType::of_name(path.to_bytes());
        let varies = self.site.config.compression && media_type.is_compressible();
        let resource = if varies { self.representation(path, resource, media_type)? } else { resource };
        if let Some(answer) = self.prepared(&resource) {
            return Ok(answer);
        }
        let validators = Validators::new(&resource.info, resource.coding, self.unix_seconds);
        let fields = &self.head.fields;
        let (if_match, if_none_match) = (joined(fields, Known::IfMatch), joined(fields, Known::IfNoneMatch));
        let conditions = Conditions {
            if_match: if_match.as_deref(),
            if_none_match: if_none_match.as_deref(),
            if_modified_since: fields.known(Known::IfModifiedSince),
            if_unmodified_since: fields.known(Known::IfUnmodifiedSince),
            if_range: fields.known(Known::IfRange),
        };
        match conditional::evaluate(&conditions, &validators, true) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Ok(self.not_modified(&resource, &validators, varies)),
            Verdict::PreconditionFailed => {
                return Err(Refusal::new(Status::PRECONDITION_FAILED, "this is not the version you mean").into());
            }
        }
        let size = resource.content_bytes();
        let wants_range = self.head.method == Method::Get && conditional::allows_range(&conditions, &validators);
        let range = if wants_range { fields.known(Known::Range) } else { None };
        let described = Described { resource: &resource, validators: &validators, media_type, varies };
        Ok(match range::select(range, size) {
            Selection::Whole => self.whole(&described),
            Selection::One(span) => self.part(&described, span, size),
            Selection::Several(spans) => {
                let mut content_type = Vec::new();
                media_type.write(self.site.config.charset.as_deref(), &mut content_type);
                let boundary = self.boundaries.next(validators.tag());
                self.parts(&described, Multipart::new(&spans, size, &content_type, boundary))
            }
            Selection::Unsatisfiable => self.unsatisfiable(size),
        })
    }

    /// The file as the client likes it best: a neighbour compressed before, compressed now, or as it is.
    fn representation(
        &mut self,
        path: &CStr,
        plain: Rc<Resource>,
        media_type: MediaType,
    ) -> Result<Rc<Resource>, Stop> {
        let Source::Folder(place) = &self.site.source else { return Ok(plain) };
        if self.head.fields.known(Known::AcceptEncoding).is_none()
            || !compress::is_worth_trying(media_type, plain.info.size)
        {
            return Ok(plain);
        }
        let wanted = AcceptEncoding::parse(self.head.fields.all_known(Known::AcceptEncoding));
        let preference = wanted.choose(&[accept::Coding::Brotli, accept::Coding::Zstd, accept::Coding::Gzip]);
        let Some(coding) = preference.best().and_then(file_coding) else { return Ok(plain) };
        match self.store.coded(place, path, coding, &plain, self.inquiry, self.ops) {
            Lookup::Found(Ok(resource)) => Ok(resource),
            Lookup::Found(Err(_)) => Ok(plain),
            Lookup::Pending => Err(Stop::Wait),
        }
    }

    /// Whether the answer is what nearly every client gets: all of it, on a connection that goes on.
    fn is_plain_get(&self) -> bool {
        let conditional = [
            Known::IfNoneMatch,
            Known::IfModifiedSince,
            Known::Range,
            Known::IfMatch,
            Known::IfUnmodifiedSince,
            Known::IfRange,
        ];
        self.head.method == Method::Get
            && self.head.version == Version::Http11
            && self.keep_alive
            && conditional.iter().all(|known| self.head.fields.known(*known).is_none())
    }

    /// The response made for an earlier request in the same second.
    fn prepared(&self, resource: &Resource) -> Option<Answer> {
        let Content::Memory(bytes) = &resource.content else { return None };
        let prepared = resource.prepared.borrow();
        let (_, chunk) = prepared.as_ref().filter(|(second, _)| *second == self.unix_seconds && self.is_plain_get())?;
        Some(Answer {
            status: Status::OK,
            bytes: chunk.clone().into(),
            body: Body::Sent,
            body_bytes: bytes.len() as u64,
        })
    }

    fn whole(&self, described: &Described<'_>) -> Answer {
        let size = described.resource.content_bytes();
        let mut out = Vec::with_capacity(512);
        self.describe(self.begin(&mut out, Status::OK), described).length(size).end();
        let is_head = self.head.method == Method::Head;
        let answer = |bytes, body| Answer { status: Status::OK, bytes, body, body_bytes: size };
        match &described.resource.content {
            _ if is_head => answer(Chunk::shared(out).into(), Body::Sent),
            Content::Memory(bytes) => {
                // Head and body as one piece of memory: one chunk to send, and to keep for the next request.
                out.extend_from_slice(bytes);
                let chunk = Chunk::shared(out);
                if self.is_plain_get() {
                    described.resource.prepared.replace(Some((self.unix_seconds, chunk.clone())));
                }
                answer(chunk.into(), Body::Sent)
            }
            Content::File(_) | Content::Folder | Content::Special => {
                let whole = Span { offset: 0, length: size };
                answer(Chunk::shared(out).into(), Body::Part(Rc::clone(described.resource), whole))
            }
        }
    }

    fn part(&self, described: &Described<'_>, span: Span, size: u64) -> Answer {
        let mut out = Vec::with_capacity(512);
        self.describe(self.begin(&mut out, Status::PARTIAL_CONTENT), described)
            .field("Content-Range", span.content_range(size).as_bytes())
            .length(span.length)
            .end();
        let body = Body::Part(Rc::clone(described.resource), span);
        Answer { status: Status::PARTIAL_CONTENT, bytes: Chunk::shared(out).into(), body, body_bytes: span.length }
    }

    fn parts(&self, described: &Described<'_>, plan: Multipart) -> Answer {
        let mut out = Vec::with_capacity(512);
        let head = self.begin(&mut out, Status::PARTIAL_CONTENT);
        self.validate(head, described)
            .field("Content-Type", plan.content_type().as_bytes())
            .length(plan.content_length())
            .end();
        let body_bytes = plan.content_length();
        let body = Body::Parts(Rc::clone(described.resource), plan);
        Answer { status: Status::PARTIAL_CONTENT, bytes: Chunk::shared(out).into(), body, body_bytes }
    }

    fn not_modified(&self, resource: &Rc<Resource>, validators: &Validators, varies: bool) -> Answer {
        let mut out = Vec::with_capacity(384);
        let described = Described { resource, validators, media_type: MediaType::UNKNOWN, varies };
        self.validate(self.begin(&mut out, Status::NOT_MODIFIED), &described).end();
        Answer { status: Status::NOT_MODIFIED, bytes: Chunk::shared(out).into(), body: Body::Sent, body_bytes: 0 }
    }

    fn unsatisfiable(&self, size: u64) -> Answer {
        let range = range::unsatisfied_content_range(size);
        self.error(Status::RANGE_NOT_SATISFIABLE, None, Some(("Content-Range", range.as_str())))
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        let field = match refusal.status {
            Status::METHOD_NOT_ALLOWED => Some(("Allow", ALLOWED)),
            Status::SERVICE_UNAVAILABLE => Some(("Retry-After", "1")),
            _ => None,
        };
        self.error(refusal.status, Some(refusal.reason), field)
    }

    fn error(&self, status: Status, detail: Option<&str>, field: Option<(&str, &str)>) -> Answer {
        let mut out = Vec::with_capacity(1024);
        let page_type = PageType::for_accept(self.head.fields.known(Known::Accept));
        let mut head = self.begin(&mut out, status);
        if let Some((name, value)) = field {
            head = head.field(name, value);
        }
        let body_bytes = finish_error(head, status, detail, page_type, self.head.method != Method::Head);
        out.extend_from_slice(&body_bytes);
        let body_bytes = body_bytes.len() as u64;
        Answer { status, bytes: Chunk::shared(out).into(), body: Body::Sent, body_bytes }
    }

    /// The status line and what every answer has.
    fn begin<'v>(&self, out: &'v mut Vec<u8>, status: Status) -> ResponseHead<'v> {
        ResponseHead::new(out, Version::Http11, status)
            .date(self.date)
            .server(self.site.config.server_name.as_deref())
            .connection(self.keep_alive, self.head.version)
    }

    /// The fields that say which version of a file this is.
    fn validate<'v>(&self, head: ResponseHead<'v>, described: &Described<'_>) -> ResponseHead<'v> {
        let mut head = head
            .field("Last-Modified", described.validators.last_modified().as_bytes())
            .field("ETag", described.validators.tag().as_bytes());
        if described.varies {
            head = head.field("Vary", "Accept-Encoding");
        }
        if let Some(origin) = &self.site.config.cors {
            head = head.field("Access-Control-Allow-Origin", origin);
        }
        for (name, value) in &self.site.config.fields {
            head = head.field(name, value);
        }
        head
    }

    /// The fields that say what a file is, and which version.
    fn describe<'v>(&self, head: ResponseHead<'v>, described: &Described<'_>) -> ResponseHead<'v> {
        let head = self.validate(head, described);
        let head = match (&self.site.config.charset, described.media_type.is_text()) {
            (Some(charset), true) => {
                head.field("Content-Type", format!("{}; charset={charset}", described.media_type.as_str()))
            }
            _ => head.field("Content-Type", described.media_type.as_str()),
        };
        let head = head.field("X-Content-Type-Options", "nosniff").field("Accept-Ranges", "bytes");
        match described.resource.coding {
            Some(coding) => head.field("Content-Encoding", coding.name()),
            None => head,
        }
    }
}

/// A file, and what is said of it.
struct Described<'a> {
    resource: &'a Rc<Resource>,
    validators: &'a Validators,
    media_type: MediaType,
    varies: bool,
}

/// The answer to bytes that are not a request, or to a request that never came; the connection ends with it.
pub(super) fn refusal_without_request(site: &Site, date: &DateLine, refusal: Refusal) -> Answer {
    let mut out = Vec::with_capacity(1024);
    let head = ResponseHead::new(&mut out, Version::Http11, refusal.status)
        .date(date)
        .server(site.config.server_name.as_deref())
        .connection(false, Version::Http11);
    let page = finish_error(head, refusal.status, Some(refusal.reason), PageType::Html, true);
    out.extend_from_slice(&page);
    let body_bytes = page.len() as u64;
    Answer { status: refusal.status, bytes: Chunk::shared(out).into(), body: Body::Sent, body_bytes }
}

/// Ends an error's head and returns its page; empty if none is to be sent.
fn finish_error(
    head: ResponseHead<'_>,
    status: Status,
    detail: Option<&str>,
    page_type: PageType,
    has_body: bool,
) -> Vec<u8> {
    let mut page = Vec::with_capacity(768);
    error_page::write(&mut page, status, detail, page_type);
    head.field("Content-Type", page_type.content_type())
        .field("X-Content-Type-Options", "nosniff")
        .length(page.len() as u64)
        .end();
    if !has_body {
        page.clear();
    }
    page
}

fn not_found() -> Stop {
    Refusal::new(Status::NOT_FOUND, "there is nothing here").into()
}

/// What a failed look-up means to a client.
fn refusal_of(fault: Fault) -> Refusal {
    match fault {
        Fault::Os(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => {
            Refusal::new(Status::NOT_FOUND, "there is nothing here")
        }
        Fault::Os(libc::EACCES | libc::EPERM | libc::ELOOP | libc::EXDEV) => {
            Refusal::new(Status::FORBIDDEN, "this may not be read")
        }
        Fault::Os(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
            Refusal::new(Status::SERVICE_UNAVAILABLE, "too much is going on; try again")
        }
        Fault::FileTruncated => Refusal::new(Status::SERVICE_UNAVAILABLE, "the file is being changed; try again"),
        Fault::Os(_) | Fault::Resolver(_) => Refusal::new(Status::INTERNAL_SERVER_ERROR, "the file cannot be read"),
    }
}

/// Whether a path leads to or through a dot file. What `.well-known` holds is meant for everybody (RFC 8615).
fn is_hidden(path: &DecodedPath) -> bool {
    path.has_dot_segment()
        && path
            .segments()
            .enumerate()
            .any(|(index, segment)| segment.starts_with(b".") && !(index == 0 && segment == b".well-known"))
}

/// A name in a folder.
fn join(folder: &DecodedPath, name: &CStr) -> CString {
    let mut path = folder.as_bytes().to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    // Neither part has a NUL.
    CString::new(path).unwrap_or_default()
}

/// All lines of a field as one list; borrowed where there is only one.
fn joined<'b>(fields: &crate::http::Fields<'b>, known: Known) -> Option<std::borrow::Cow<'b, [u8]>> {
    if fields.is_repeated(known) {
        return Some(fields.all_known(known).collect::<Vec<_>>().join(&b", "[..]).into());
    }
    fields.known(known).map(Into::into)
}

const fn file_coding(coding: accept::Coding) -> Option<Coding> {
    match coding {
        accept::Coding::Gzip => Some(Coding::Gzip),
        accept::Coding::Brotli => Some(Coding::Brotli),
        accept::Coding::Zstd => Some(Coding::Zstd),
        accept::Coding::Identity => None,
    }
}
