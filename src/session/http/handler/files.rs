//! Files of a folder: looks up what a path leads to, and responds with a file, a listing, a redirect
//! to the folder, or an error.

use std::ffi::{CStr, CString};
use std::rc::Rc;

use super::error::error_response_of;
use super::file_route::Source;
use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::buffer::Chunk;
use crate::driver::FileKind;
use crate::file::listing::{self, Format, Listing, Options, Sort};
use crate::file::store::{Content, Lookup, Resource};
use crate::http::error_page::PageType;
use crate::http::fields::Known;
use crate::http::media_type::MediaType;
use crate::http::path::{self, DecodedPath};
use crate::http::redirect::push_query;
use crate::http::{ErrorResponse, Status};
use crate::session::http::response::{Body, Response};
use crate::session::http::stream::{ResponseEncoder, ResponseSink};

/// Serves the folder, or the built-in pages, of the route's [`FileRoute`](super::FileRoute).
#[derive(Debug)]
pub struct Files;

impl Files {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "files";
}

impl Handler for Files {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Reading
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        builder.file_at_path(sink)
    }
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
    /// Responds with what the path of the request leads to.
    fn file_at_path(&mut self, sink: &mut impl ResponseSink) -> Answer<'static> {
        if let Some(response) = self.early_response(sink) {
            return Answer::Response(response);
        }
        match self.get(sink) {
            Ok(response) => Answer::Response(response),
            Err(Stop::Wait) => Answer::LookUp,
            Err(Stop::Error(error)) => Answer::Response(self.respond_error(error, sink)),
        }
    }

    fn get(&mut self, sink: &mut impl ResponseSink) -> Result<Response, Stop> {
        let raw = self.head.target.path().ok_or(ErrorResponse::bad_request("the request target has no path"))?;
        let mut path = DecodedPath::unset();
        path.set(raw)?;
        if self.file_route.hides(&path) {
            return Err(not_found());
        }
        match &self.file_route.source {
            Source::BuiltIn(pages) => self.built_in(pages, &path, sink),
            Source::Folder(_) => match self.find(&path, sink) {
                Err(Stop::Error(error)) if error.status == Status::NOT_FOUND => self.fall_back(error, sink),
                found => found,
            },
        }
    }

    fn find(&mut self, path: &DecodedPath, sink: &mut impl ResponseSink) -> Result<Response, Stop> {
        let inner = path.beneath(&self.file_route.prefix);
        let resource = self.resource(inner)?;
        match &resource.content {
            Content::Folder => self.folder(path, sink),
            Content::Special => Err(ErrorResponse::new(Status::FORBIDDEN, "not a file").into()),
            Content::Memory(_) | Content::File(_) if path.ends_with_slash() => Err(not_found()),
            Content::Memory(_) | Content::File(_) => self.file(inner, resource, sink),
        }
    }

    /// Serves the configured fallback file, for single-page applications.
    fn fall_back(&mut self, error: ErrorResponse, sink: &mut impl ResponseSink) -> Result<Response, Stop> {
        let Some(fallback) = &self.file_route.fallback else { return Err(error.into()) };
        let resource = self.resource(fallback)?;
        match resource.content {
            Content::Memory(_) | Content::File(_) => self.file(fallback, resource, sink),
            Content::Folder | Content::Special => Err(error.into()),
        }
    }

    fn folder(&mut self, path: &DecodedPath, sink: &mut impl ResponseSink) -> Result<Response, Stop> {
        if !path.ends_with_slash() {
            return Ok(self.redirect_to_folder(path, sink));
        }
        for name in &self.file_route.index {
            let index = join(path.beneath(&self.file_route.prefix), name);
            match self.resource(&index) {
                Ok(resource) if resource.info.kind == FileKind::Regular => return self.file(&index, resource, sink),
                Err(Stop::Error(error)) if error.status == Status::NOT_FOUND => {}
                Err(stop) => return Err(stop),
                Ok(_) => {}
            }
        }
        if self.file_route.config.listing {
            self.listing(path, sink)
        } else {
            Err(ErrorResponse::new(self.file_route.config.unlisted, "this folder is not listed").into())
        }
    }

    fn redirect_to_folder(&self, path: &DecodedPath, sink: &mut impl ResponseSink) -> Response {
        let mut location = Vec::new();
        path::encode_path(path.as_bytes(), true, &mut location);
        if let Some(query) = self.head.target.query() {
            location.push(b'?');
            push_query(query, &mut location);
        }
        let head = self.begin(sink, Status::MOVED_PERMANENTLY).own_field("Location", &location);
        self.extend(head);
        Response::new(Status::MOVED_PERMANENTLY, Body::Empty)
    }

    fn listing(&mut self, path: &DecodedPath, sink: &mut impl ResponseSink) -> Result<Response, Stop> {
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
        let mut others = Box::new(Listing::new(&full_path, listed, sort, options).stream(format));
        let mut first = Vec::new();
        let has_more = others.write(listing::PIECE_BYTES, &mut first);
        let head = self
            .begin(sink, Status::OK)
            .field("Content-Type", format.content_type(options.style))
            .field("X-Content-Type-Options", "nosniff")
            .vary("Accept")
            .field("Cache-Control", "no-cache")
            .field("Content-Security-Policy", listing::CONTENT_SECURITY_POLICY);
        self.extend(head);
        let body = if has_more { Body::Listing { first, others } } else { Body::Memory(Chunk::shared(first)) };
        Ok(Response::new(Status::OK, body))
    }

    fn built_in(
        &self,
        pages: &[(&str, &'static str)],
        path: &DecodedPath,
        sink: &mut impl ResponseSink,
    ) -> Result<Response, Stop> {
        let name = match path.beneath(&self.file_route.prefix).to_bytes() {
            b"." => b"index.html",
            name => name,
        };
        let (_, text) = pages.iter().find(|(page, _)| page.as_bytes() == name).ok_or_else(not_found)?;
        let head = self
            .begin(sink, Status::OK)
            .field("Content-Type", format!("{}; charset=utf-8", MediaType::of_name(name).as_str()))
            .field("X-Content-Type-Options", "nosniff");
        self.extend(head);
        Ok(Response::new(Status::OK, Body::Memory(text.as_bytes().into())))
    }

    pub(super) fn resource(&mut self, path: &CStr) -> Result<Rc<Resource>, Stop> {
        let Source::Folder(root_path) = &self.file_route.source else { return Err(not_found()) };
        match self.store.get(root_path, path, self.inquiry, self.ops) {
            Lookup::Found(Ok(resource)) => Ok(resource),
            Lookup::Found(Err(fault)) => Err(error_response_of(fault).into()),
            Lookup::Pending => Err(Stop::Wait),
        }
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
