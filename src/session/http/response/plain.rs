//! Responses without a file: redirects, and generated texts.

use super::{Body, Response, ResponseBuilder};
use crate::buffer::Chunk;
use crate::http::redirect::RedirectTemplate;
use crate::http::{ErrorResponse, Status};
use crate::session::http::response_encoder::ResponseSink;

impl ResponseBuilder<'_> {
    /// A redirect to the URL of the template.
    pub(in crate::session::http) fn redirect(
        &mut self,
        status: Status,
        template: &RedirectTemplate,
        sink: &mut impl ResponseSink,
    ) -> Response {
        if let Some(response) = self.early_response(sink) {
            return response;
        }
        let Some(location) = template.expand(self.head) else {
            return self.respond_error(ErrorResponse::bad_request("cannot redirect: the request has no Host"), sink);
        };
        let head = self.begin(sink, status).own_field("Location", &location);
        self.extend(head);
        Response::new(status, Body::Empty)
    }

    /// A generated text, which is not to be cached.
    pub(in crate::session::http) fn text(
        &mut self,
        content_type: &str,
        text: impl FnOnce() -> String,
        sink: &mut impl ResponseSink,
    ) -> Response {
        if let Some(response) = self.early_response(sink) {
            return response;
        }
        let head = self
            .begin(sink, Status::OK)
            .field("Content-Type", content_type)
            .field("X-Content-Type-Options", "nosniff")
            .field("Cache-Control", "no-store");
        self.extend(head);
        Response::new(Status::OK, Body::Memory(Chunk::shared(text().into_bytes())))
    }
}
