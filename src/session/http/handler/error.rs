//! Error responses: the status of a fault, and the error page.

use std::sync::Arc;

use super::ResponseBuilder;
use super::file_route::FileRoute;
use crate::buffer::Chunk;
use crate::driver::Fault;
use crate::http::error_page::{self, PageType};
use crate::http::fields::Known;
use crate::http::{DateLine, ErrorResponse, HeadBuilder, HeadSink, Status};
use crate::session::http::response::{Body, Response};

impl ResponseBuilder<'_> {
    /// An error response.
    pub(crate) fn respond_error(&self, error: ErrorResponse, sink: &mut impl HeadSink) -> Response {
        let field = match error.status {
            Status::METHOD_NOT_ALLOWED => Some(("Allow", self.allowed())),
            Status::SERVICE_UNAVAILABLE | Status::TOO_MANY_REQUESTS => Some(("Retry-After", "1")),
            _ => None,
        };
        // After a malformed request it is uncertain where the next one begins.
        let must_close = error.status == Status::BAD_REQUEST;
        Response { must_close, ..self.error(error.status, Some(error.reason), field, sink) }
    }

    pub(super) fn error(
        &self,
        status: Status,
        detail: Option<&str>,
        field: Option<(&'static str, &str)>,
        sink: &mut impl HeadSink,
    ) -> Response {
        let page_type = PageType::for_accept(self.head.fields.known(Known::Accept));
        let mut head = self.file_route.add_browser_fields(self.begin(sink, status));
        if let Some((name, value)) = field {
            head = match name {
                // The status requires these fields.
                "Allow" | "Content-Range" => head.own_field(name, value),
                _ => head.field(name, value),
            };
        }
        Response::new(status, page(self.file_route, status, detail, page_type, head))
    }
}

/// An error response without a request head.
pub(crate) fn error_response(
    file_route: &FileRoute,
    date: &DateLine,
    error: ErrorResponse,
    page_type: PageType,
    sink: &mut impl HeadSink,
) -> Response {
    let mut head = HeadBuilder::new(sink, error.status)
        .date(date)
        .without(&file_route.responses.without)
        .server(file_route.responses.server_name.as_deref());
    head = file_route.add_browser_fields(head);
    if error.status == Status::SERVICE_UNAVAILABLE {
        head = head.field("Retry-After", "1");
    }
    Response::new(error.status, page(file_route, error.status, Some(error.reason), page_type, head))
}

/// The body of an error response: the configured page for this status, or else the built-in page.
/// Writes the fields that describe it.
fn page(
    file_route: &FileRoute,
    status: Status,
    detail: Option<&str>,
    page_type: PageType,
    head: HeadBuilder<'_, impl HeadSink>,
) -> Body {
    let (head, content_type, body) = match file_route.error_pages.get(status) {
        Some(page) => (head, page.content_type.as_str(), Chunk::shared(Arc::clone(&page.body))),
        None => {
            let mut body = Vec::with_capacity(768);
            error_page::write(&mut body, status, detail, page_type);
            // Its format depends on the `Accept` field.
            (head.vary("Accept"), page_type.content_type(), Chunk::shared(body))
        }
    };
    head.field("Content-Type", content_type).field("X-Content-Type-Options", "nosniff");
    Body::Memory(body)
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
        Fault::Os(_) | Fault::Resolver(_) | Fault::Tls(_) => {
            ErrorResponse::new(Status::INTERNAL_SERVER_ERROR, "the file cannot be read")
        }
    }
}
