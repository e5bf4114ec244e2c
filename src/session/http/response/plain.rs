//! Responses without a file: redirects, and generated texts.

use super::{Body, EncodedResponse, ResponseBuilder};
use crate::buffer::Chunk;
use crate::http::redirect::RedirectTemplate;
use crate::http::{ErrorResponse, HeadEncoder, Method, ResponseFraming, Status};

impl ResponseBuilder<'_> {
    /// A redirect to the URL of the template.
    pub(in crate::session::http) fn redirect(
        &mut self,
        status: Status,
        template: &RedirectTemplate,
    ) -> EncodedResponse {
        if let Some(response) = self.early_response() {
            return response;
        }
        let Some(location) = template.expand(self.head) else {
            return self.respond_error(ErrorResponse::bad_request("cannot redirect: the request has no Host"));
        };
        let mut encoder = HeadEncoder::new();
        let head = self.begin(&mut encoder, status).own_field("Location", &location);
        self.extend(head);
        let out = self.end(encoder, ResponseFraming::Length(0));
        self.response(status, Chunk::shared(out), Body::Sent, 0)
    }

    /// A generated text, which is not to be cached.
    pub(in crate::session::http) fn text(
        &mut self,
        content_type: &str,
        text: impl FnOnce() -> String,
    ) -> EncodedResponse {
        if let Some(response) = self.early_response() {
            return response;
        }
        let text = text();
        let mut encoder = HeadEncoder::new();
        let head = self
            .begin(&mut encoder, Status::OK)
            .field("Content-Type", content_type)
            .field("X-Content-Type-Options", "nosniff")
            .field("Cache-Control", "no-store");
        self.extend(head);
        let mut out = self.end(encoder, ResponseFraming::Length(text.len() as u64));
        let mut body_bytes = 0;
        if self.head.method != Method::Head {
            out.extend_from_slice(text.as_bytes());
            body_bytes = text.len() as u64;
        }
        self.response(Status::OK, Chunk::shared(out), Body::Sent, body_bytes)
    }
}
