//! Error responses: the status of a fault, and the error page.

use std::borrow::Cow;

use super::{Body, EncodedResponse, ResponseBuilder};
use crate::buffer::Chunk;
use crate::driver::Fault;
use crate::http::error_page::{self, PageType};
use crate::http::fields::Known;
use crate::http::{
    DateLine, ErrorResponse, HeadBuilder, HeadEncoder, HeadEnd, HeadSink, Method, ResponseFraming, Status, Version,
};
use crate::session::http::file_route::FileRoute;

impl ResponseBuilder<'_> {
    pub(in crate::session::http) fn respond_error(&mut self, error: ErrorResponse) -> EncodedResponse {
        // After a malformed request it is uncertain where the next one begins.
        self.keep_alive &= error.status != Status::BAD_REQUEST;
        let field = match error.status {
            Status::METHOD_NOT_ALLOWED => Some(("Allow", self.allowed())),
            Status::SERVICE_UNAVAILABLE | Status::TOO_MANY_REQUESTS => Some(("Retry-After", "1")),
            _ => None,
        };
        self.error(error.status, Some(error.reason), field)
    }

    pub(super) fn error(
        &self,
        status: Status,
        detail: Option<&str>,
        field: Option<(&'static str, &str)>,
    ) -> EncodedResponse {
        let mut encoder = HeadEncoder::new();
        let page_type = PageType::for_accept(self.head.fields.known(Known::Accept));
        let mut head = self.admit_scripts(self.begin(&mut encoder, status));
        if let Some((name, value)) = field {
            head = match name {
                // The status requires these fields.
                "Allow" | "Content-Range" => head.own_field(name, value),
                _ => head.field(name, value),
            };
        }
        let mut page = Page::new(self.file_route, status, detail, page_type);
        let framing = page.describe(head, self.head.method != Method::Head);
        let mut out = self.end(encoder, framing);
        out.extend_from_slice(&page.body);
        let body_bytes = page.body.len() as u64;
        self.response(status, Chunk::shared(out), Body::Sent, body_bytes)
    }
}

/// What an error response needs to know of the client if there is no request head.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::http) struct Client {
    pub(in crate::session::http) version: Version,
    pub(in crate::session::http) keep_alive: bool,
    pub(in crate::session::http) wants_body: bool,
    pub(in crate::session::http) page_type: PageType,
}

impl Client {
    /// The sender of a malformed request; the connection is closed.
    pub(in crate::session::http) const UNKNOWN: Self =
        Self { version: Version::Http11, keep_alive: false, wants_body: true, page_type: PageType::Html };
}

/// An error response without a request head.
pub(in crate::session::http) fn error_response(
    file_route: &FileRoute,
    date: &DateLine,
    error: ErrorResponse,
    client: &Client,
) -> EncodedResponse {
    let mut encoder = HeadEncoder::new();
    let mut head = HeadBuilder::new(&mut encoder, error.status)
        .date(date)
        .without(&file_route.responses.without)
        .server(file_route.responses.server_name.as_deref());
    head = file_route.admit_scripts(head);
    if error.status == Status::SERVICE_UNAVAILABLE {
        head = head.field("Retry-After", "1");
    }
    let mut page = Page::new(file_route, error.status, Some(error.reason), client.page_type);
    let framing = page.describe(head, client.wants_body);
    let mut out = encoder.end(HeadEnd { framing, keep_alive: client.keep_alive, version: client.version });
    out.extend_from_slice(&page.body);
    let body_bytes = page.body.len() as u64;
    let bytes = Chunk::shared(out).into();
    EncodedResponse { status: error.status, bytes, body: Body::Sent, body_bytes, keep_alive: client.keep_alive }
}

/// The body of an error response.
struct Page<'s> {
    content_type: &'s str,
    /// Whether the format depends on the `Accept` field.
    varies: bool,
    body: Cow<'s, [u8]>,
}

impl<'s> Page<'s> {
    /// The configured page for this status, or else the built-in page.
    fn new(file_route: &'s FileRoute, status: Status, detail: Option<&str>, page_type: PageType) -> Self {
        if let Some(page) = file_route.error_pages.get(status) {
            return Self { content_type: &page.content_type, varies: false, body: Cow::Borrowed(&page.body) };
        }
        let mut body = Vec::with_capacity(768);
        error_page::write(&mut body, status, detail, page_type);
        Self { content_type: page_type.content_type(), varies: true, body: Cow::Owned(body) }
    }

    /// Writes the fields that describe the page. Drops the page unless `is_sent`.
    fn describe(&mut self, head: HeadBuilder<'_, impl HeadSink>, is_sent: bool) -> ResponseFraming {
        let head = if self.varies { head.vary("Accept") } else { head };
        head.field("Content-Type", self.content_type).field("X-Content-Type-Options", "nosniff");
        let framing = ResponseFraming::Length(self.body.len() as u64);
        if !is_sent {
            self.body = Cow::Borrowed(&[]);
        }
        framing
    }
}

/// The error response to a failed look-up.
pub(super) fn error_response_of(fault: Fault) -> ErrorResponse {
    match fault {
        Fault::Os(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => {
            ErrorResponse::new(Status::NOT_FOUND, "there is no file at this path")
        }
        // ENXIO, ENODEV: a socket, or a device file without a device (open(2)).
        Fault::Os(libc::EACCES | libc::EPERM | libc::ELOOP | libc::EXDEV | libc::ENXIO | libc::ENODEV) => {
            ErrorResponse::new(Status::FORBIDDEN, "this file may not be read")
        }
        // EAGAIN: concurrent renames disturbed the look-up repeatedly (openat2(2)).
        Fault::Os(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EAGAIN
            | libc::EINTR
            | libc::ESTALE
            | libc::ECANCELED,
        ) => ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "server is out of resources; retry later"),
        Fault::FileTruncated => {
            ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the file is being changed; retry later")
        }
        Fault::RootLost(_) => {
            ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the served folder is not available; retry later")
        }
        Fault::Os(_) | Fault::Resolver(_) => {
            ErrorResponse::new(Status::INTERNAL_SERVER_ERROR, "the file cannot be read")
        }
    }
}
