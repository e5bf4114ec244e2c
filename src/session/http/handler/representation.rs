//! The representation of a file that a request asks for: content coding, preconditions and ranges.

use std::ffi::{CStr, CString};
use std::rc::Rc;

use super::ResponseBuilder;
use super::error::error_response_of;
use super::file_route::Source;
use super::files::Stop;
use crate::driver::FileKind;
use crate::file::compress::suffix;
use crate::file::store::{Content, Lookup, Resource};
use crate::http::charset::Charset;
use crate::http::conditional::{self, Conditions, PreconditionResult};
use crate::http::fields::Known;
use crate::http::media_type::MediaType;
use crate::http::multipart::Multipart;
use crate::http::range::{self, Selection, Span};
use crate::http::validators::Validators;
use crate::http::{AcceptEncoding, Coding, ErrorResponse, HeadBuilder, HeadSink, Method, Status};
use crate::session::http::response::{Body, Response};
use crate::session::http::stream::{PreparedKey, ResponseSink};

/// A file, or a compressed form of it.
struct Representation {
    resource: Rc<Resource>,
    /// The content coding of the bytes. A precompressed file on disk does not record it itself.
    coding: Option<Coding>,
}

impl<'a> ResponseBuilder<'a> {
    pub(super) fn file(
        &mut self,
        path: &CStr,
        plain: Rc<Resource>,
        sink: &mut impl ResponseSink,
    ) -> Result<Response, Stop> {
        let media_type = plain.media_type(path.to_bytes());
        let config = &self.file_route.config;
        let varies = match &config.compression {
            Some(compression) => compression.covers(media_type),
            None => config.precompressed && media_type.is_compressible(),
        };
        let chosen = if varies { self.representation(path, &plain, media_type)? } else { None };
        let (resource, coding) = match &chosen {
            Some(Representation { resource, coding }) => (resource, *coding),
            None => (&plain, None),
        };
        let key = PreparedKey { route: self.file_route.number, unix_second: self.unix_seconds, coding };
        let usual = self.usual();
        if let Some(response) = usual.and_then(|usual| prepared(resource, &key, usual, sink)) {
            return Ok(response);
        }
        let validators = Validators::new(resource.version(), coding, self.unix_seconds).of_several(varies);
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
            PreconditionResult::Proceed => {}
            PreconditionResult::NotModified => {
                let tag = *validators.tag();
                if matches!(usual, Some(Usual::NotModified(asked_for)) if asked_for == tag.as_bytes()) {
                    sink.keep(resource, key, Some(tag));
                }
                return Ok(self.not_modified(resource, &validators, varies, sink));
            }
            PreconditionResult::PreconditionFailed => {
                return Err(
                    ErrorResponse::new(Status::PRECONDITION_FAILED, "this version fails the precondition").into()
                );
            }
        }
        let charset = self.charset(path, &plain, media_type)?;
        let size = resource.content_bytes();
        let wants_range = self.head.method == Method::Get && conditional::allows_range(&conditions, &validators);
        let range = if wants_range { fields.known(Known::Range) } else { None };
        let described = Described { resource, coding, validators: &validators, media_type, charset, varies };
        Ok(match range::select(range, size) {
            Selection::Whole => {
                if matches!((usual, &resource.content), (Some(Usual::Whole), Content::Memory(_))) {
                    sink.keep(resource, key, None);
                }
                self.whole(&described, sink)
            }
            // The parts would be coded, but the multipart body is not: no field can say so.
            Selection::Several(_) if coding.is_some() => self.whole(&described, sink),
            Selection::One(span) => self.part(&described, span, size, sink),
            Selection::Several(spans) => {
                let mut content_type = Vec::new();
                media_type.write(charset, &mut content_type);
                let boundary = self.boundaries.next(validators.tag());
                self.parts(&described, Multipart::new(&spans, size, &content_type, boundary), sink)
            }
            Selection::Unsatisfiable => self.unsatisfiable(size, sink),
        })
    }

    /// The coded representation that the client prefers to the plain file: a precompressed file, or
    /// the file compressed by the store.
    fn representation(
        &mut self,
        path: &CStr,
        plain: &Rc<Resource>,
        media_type: MediaType,
    ) -> Result<Option<Representation>, Stop> {
        let Source::Folder(root_path) = &self.file_route.source else { return Ok(None) };
        if self.head.fields.known(Known::AcceptEncoding).is_none() || plain.content_bytes() == 0 {
            return Ok(None);
        }
        let wanted = AcceptEncoding::parse(self.head.fields.all_known(Known::AcceptEncoding));
        let preference = wanted.choose(&Coding::ALL);
        if self.file_route.config.precompressed {
            for coding in preference.codings() {
                if let Some(neighbour) = self.neighbour(path, coding, plain)? {
                    return Ok(Some(neighbour));
                }
            }
        }
        let size = plain.info.size;
        let compression =
            self.file_route.config.compression.as_ref().filter(|how| how.is_worth_trying(media_type, size));
        let (Some(how), Some(coding)) = (compression, preference.codings().next()) else { return Ok(None) };
        match self.store.coded(root_path, path, (coding, how.level(coding)), plain, self.inquiry, self.ops) {
            Lookup::Found(Ok(resource)) => Ok(Some(Representation { coding: resource.coding, resource })),
            // The file cannot be read, or is shorter than before: the plain response would fail,
            // too.
            Lookup::Found(Err(fault)) => Err(error_response_of(fault).into()),
            Lookup::Pending => Err(Stop::Wait),
        }
    }

    /// The charset parameter of `Content-Type`, determined from the plain file.
    fn charset(&mut self, path: &CStr, plain: &Rc<Resource>, media_type: MediaType) -> Result<Option<&'a str>, Stop> {
        let file_route = self.file_route;
        let Source::Folder(root_path) = &file_route.source else { return Ok(None) };
        if !media_type.is_text() {
            return Ok(None);
        }
        match &file_route.config.charset {
            Charset::Off => Ok(None),
            Charset::Named(name) => Ok(Some(name)),
            Charset::Auto => match self.store.is_utf8(root_path, path, plain, self.inquiry, self.ops) {
                Lookup::Found(is_utf8) => Ok(is_utf8.unwrap_or(false).then_some("utf-8")),
                Lookup::Pending => Err(Stop::Wait),
            },
        }
    }

    /// The precompressed file in this coding; `None` if it does not exist or is older than the
    /// file.
    fn neighbour(&mut self, path: &CStr, coding: Coding, plain: &Resource) -> Result<Option<Representation>, Stop> {
        let name = [path.to_bytes(), suffix(coding).as_bytes()].concat();
        // Neither part contains a NUL.
        let resource = match self.resource(&CString::new(name).unwrap_or_default()) {
            Ok(resource) => resource,
            Err(Stop::Error(_)) => return Ok(None),
            Err(Stop::Wait) => return Err(Stop::Wait),
        };
        let is_current = resource.info.kind == FileKind::Regular
            && resource.info.modified_ns >= plain.info.modified_ns
            // The coded form of a file that is not empty is not empty either.
            && resource.info.size > 0;
        Ok(is_current.then_some(Representation { resource, coding: Some(coding) }))
    }

    /// Which of the responses that are kept for a second the request may be for.
    fn usual(&self) -> Option<Usual<'a>> {
        let fields = &self.head.fields;
        let lacks = |known: &Known| fields.known(*known).is_none();
        let conditions = [Known::Range, Known::IfMatch, Known::IfUnmodifiedSince, Known::IfRange];
        if self.head.method != Method::Get || !conditions.iter().all(lacks) {
            return None;
        }
        match fields.known(Known::IfNoneMatch) {
            None => lacks(&Known::IfModifiedSince).then_some(Usual::Whole),
            // `If-Modified-Since` is ignored beside it (RFC 9110, 13.1.3).
            Some(tag) => (!fields.is_repeated(Known::IfNoneMatch)).then_some(Usual::NotModified(tag)),
        }
    }

    fn whole(&self, described: &Described<'_>, sink: &mut impl ResponseSink) -> Response {
        self.describe(self.begin(sink, Status::OK), described);
        let whole = Span { offset: 0, length: described.resource.content_bytes() };
        Response::new(Status::OK, Body::File(Rc::clone(described.resource), whole))
    }

    fn part(&self, described: &Described<'_>, span: Span, size: u64, sink: &mut impl ResponseSink) -> Response {
        let head = self.begin(sink, Status::PARTIAL_CONTENT);
        let head = head.own_field("Content-Range", span.content_range(size).as_bytes());
        self.describe(head, described);
        Response::new(Status::PARTIAL_CONTENT, Body::File(Rc::clone(described.resource), span))
    }

    fn parts(&self, described: &Described<'_>, plan: Multipart, sink: &mut impl ResponseSink) -> Response {
        let head = self.begin(sink, Status::PARTIAL_CONTENT);
        let head = head.own_field("Content-Type", plan.content_type().as_bytes());
        self.validate(head, described).field("X-Content-Type-Options", "nosniff").field("Accept-Ranges", "bytes");
        Response::new(Status::PARTIAL_CONTENT, Body::Parts(Rc::clone(described.resource), Box::new(plan)))
    }

    fn not_modified(
        &self,
        resource: &Rc<Resource>,
        validators: &Validators,
        varies: bool,
        sink: &mut impl ResponseSink,
    ) -> Response {
        let media_type = MediaType::UNKNOWN;
        let described = Described { resource, coding: None, validators, media_type, charset: None, varies };
        self.validate(self.begin(sink, Status::NOT_MODIFIED), &described);
        Response::new(Status::NOT_MODIFIED, Body::Empty)
    }

    fn unsatisfiable(&self, size: u64, sink: &mut impl ResponseSink) -> Response {
        let range = range::unsatisfied_content_range(size);
        self.error(Status::RANGE_NOT_SATISFIABLE, None, Some(("Content-Range", range.as_str())), sink)
    }

    /// Adds the validators: the fields that identify the version of the file.
    fn validate<'v, S: HeadSink>(&self, head: HeadBuilder<'v, S>, described: &Described<'_>) -> HeadBuilder<'v, S> {
        let mut head = head
            .field("Last-Modified", described.validators.last_modified().as_bytes())
            .field("ETag", described.validators.tag().as_bytes());
        if described.varies {
            head = head.vary("Accept-Encoding");
        }
        self.extend(head)
    }

    /// Adds the fields that describe the file, and its validators.
    fn describe<'v, S: HeadSink>(&self, head: HeadBuilder<'v, S>, described: &Described<'_>) -> HeadBuilder<'v, S> {
        let head = match described.coding {
            Some(coding) => head.own_field("Content-Encoding", coding.name()),
            None => head,
        };
        let head = self.validate(head, described);
        let head = match described.charset {
            Some(charset) => {
                head.field("Content-Type", format!("{}; charset={charset}", described.media_type.as_str()))
            }
            None => head.field("Content-Type", described.media_type.as_str()),
        };
        head.field("X-Content-Type-Options", "nosniff").field("Accept-Ranges", "bytes")
    }
}

/// A request that many clients make in the same form.
#[derive(Clone, Copy)]
enum Usual<'b> {
    /// The whole file.
    Whole,
    /// The whole file, unless its tag is this one: the value of the only condition.
    NotModified(&'b [u8]),
}

/// The response made for an earlier request in the same second.
fn prepared(
    resource: &Resource,
    key: &PreparedKey,
    usual: Usual<'_>,
    sink: &mut impl ResponseSink,
) -> Option<Response> {
    let (status, tag, body_bytes) = match usual {
        Usual::Whole => (Status::OK, None, resource.content_bytes()),
        Usual::NotModified(tag) => (Status::NOT_MODIFIED, Some(tag), 0),
    };
    let response = sink.prepared(resource, key, tag)?;
    Some(Response::new(status, Body::Prepared { response, body_bytes }))
}

/// A file, and the values of the fields that describe it.
struct Described<'a> {
    resource: &'a Rc<Resource>,
    coding: Option<Coding>,
    validators: &'a Validators,
    media_type: MediaType,
    /// `None` if the file is not a text, or its charset is unknown.
    charset: Option<&'a str>,
    varies: bool,
}

/// All lines of a field joined to one list; borrowed if there is only one.
fn joined<'b>(fields: &crate::http::Fields<'b>, known: Known) -> Option<std::borrow::Cow<'b, [u8]>> {
    if fields.is_repeated(known) {
        return Some(fields.all_known(known).collect::<Vec<_>>().join(&b", "[..]).into());
    }
    fields.known(known).map(Into::into)
}
