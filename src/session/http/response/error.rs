//! Responses that are errors: which status a fault becomes, and the page that says so.

use std::borrow::Cow;

use super::{Body, EncodedResponse, ResponseBuilder};
use crate::buffer::Chunk;
use crate::driver::Fault;
use crate::http::error_page::{self, PageType};
use crate::http::fields::Known;
use crate::http::{DateLine, ErrorResponse, Method, ResponseHeadWriter, Status, Version};
use crate::session::http::file_route::FileRoute;

impl ResponseBuilder<'_> {
    pub(in crate::session::http) fn respond_error(&mut self, error: ErrorResponse) -> EncodedResponse {
        // Who sends what is no request cannot be trusted to mean the next one.
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
        let mut out = Vec::with_capacity(1024);
        let page_type = PageType::for_accept(self.head.fields.known(Known::Accept));
        let mut head = self.admit_scripts(self.begin(&mut out, status));
        if let Some((name, value)) = field {
            head = match name {
                // The status means nothing without them.
                "Allow" | "Content-Range" => head.own_field(name, value),
                _ => head.field(name, value),
            };
        }
        let mut page = Page::new(self.file_route, status, detail, page_type);
        page.describe(head, self.head.method != Method::Head);
        out.extend_from_slice(&page.body);
        let body_bytes = page.body.len() as u64;
        self.response(status, Chunk::shared(out), Body::Sent, body_bytes)
    }
}

/// What must be known of a client whose request's head is gone, or never was one.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::http) struct Client {
    pub(in crate::session::http) version: Version,
    pub(in crate::session::http) keep_alive: bool,
    pub(in crate::session::http) wants_body: bool,
    pub(in crate::session::http) page_type: PageType,
}

impl Client {
    /// Who sent what was not a request; the connection ends.
    pub(in crate::session::http) const UNKNOWN: Self =
        Self { version: Version::Http11, keep_alive: false, wants_body: true, page_type: PageType::Html };
}

/// An error that is answered without a head to look at.
pub(in crate::session::http) fn error_response(
    file_route: &FileRoute,
    date: &DateLine,
    error: ErrorResponse,
    client: &Client,
) -> EncodedResponse {
    let mut out = Vec::with_capacity(1024);
    let mut head = ResponseHeadWriter::new(&mut out, Version::Http11, error.status)
        .date(date)
        .without(&file_route.responses.without)
        .server(file_route.responses.server_name.as_deref())
        .connection(client.keep_alive, client.version);
    head = file_route.admit_scripts(head);
    if error.status == Status::SERVICE_UNAVAILABLE {
        head = head.field("Retry-After", "1");
    }
    let mut page = Page::new(file_route, error.status, Some(error.reason), client.page_type);
    page.describe(head, client.wants_body);
    out.extend_from_slice(&page.body);
    let body_bytes = page.body.len() as u64;
    let bytes = Chunk::shared(out).into();
    EncodedResponse {
        status: error.status,
        bytes,
        body: Body::Sent,
        body_bytes,
        keep_alive: client.keep_alive,
        log_entry: None,
    }
}

/// The body of a response that is an error.
struct Page<'s> {
    content_type: &'s str,
    /// Whether its form depends on what the client accepts.
    varies: bool,
    body: Cow<'s, [u8]>,
}

impl<'s> Page<'s> {
    /// The one that is configured for this status, or else ours.
    fn new(file_route: &'s FileRoute, status: Status, detail: Option<&str>, page_type: PageType) -> Self {
        if let Some(page) = file_route.responses.error_pages.get(status) {
            return Self { content_type: &page.content_type, varies: false, body: Cow::Borrowed(&page.body) };
        }
        let mut body = Vec::with_capacity(768);
        error_page::write(&mut body, status, detail, page_type);
        Self { content_type: page_type.content_type(), varies: true, body: Cow::Owned(body) }
    }

    /// Ends the head, with what it says of the page, which is then forgotten if it is not to be sent.
    fn describe(&mut self, head: ResponseHeadWriter<'_>, is_sent: bool) {
        let head = if self.varies { head.vary("Accept") } else { head };
        head.field("Content-Type", self.content_type)
            .field("X-Content-Type-Options", "nosniff")
            .length(self.body.len() as u64)
            .end();
        if !is_sent {
            self.body = Cow::Borrowed(&[]);
        }
    }
}

/// What a failed look-up means to a client.
pub(super) fn error_response_of(fault: Fault) -> ErrorResponse {
    match fault {
        Fault::Os(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => {
            ErrorResponse::new(Status::NOT_FOUND, "there is nothing here")
        }
        // ENXIO, ENODEV: a socket, or a device that nobody drives (open(2)).
        Fault::Os(libc::EACCES | libc::EPERM | libc::ELOOP | libc::EXDEV | libc::ENXIO | libc::ENODEV) => {
            ErrorResponse::new(Status::FORBIDDEN, "this may not be read")
        }
        // EAGAIN: a rename beside the look-up confused it again and again (openat2(2)).
        Fault::Os(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EAGAIN
            | libc::EINTR
            | libc::ESTALE
            | libc::ECANCELED,
        ) => ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "too much is going on; try again"),
        Fault::FileTruncated => ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the file is being changed; try again"),
        Fault::RootLost(_) => {
            ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the folder that is served is not there; try again later")
        }
        Fault::Os(_) | Fault::Resolver(_) => {
            ErrorResponse::new(Status::INTERNAL_SERVER_ERROR, "the file cannot be read")
        }
    }
}
