//! Redirects to another URL.

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::http::redirect::RedirectTemplate;
use crate::http::{ErrorResponse, Status};
use crate::session::http::response::{Body, Response};
use crate::session::http::stream::ResponseEncoder;

/// Redirects every request.
#[derive(Debug)]
pub struct Redirect {
    /// The status of the responses (3xx).
    pub status: Status,
    /// The URL, in which parts of the request may be used.
    pub template: RedirectTemplate,
}

impl Redirect {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "redirect";
}

impl Handler for Redirect {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Elsewhere
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        if let Some(response) = builder.early_response(sink) {
            return Answer::Response(response);
        }
        let Some(location) = self.template.expand(builder.head) else {
            let error = ErrorResponse::bad_request("cannot redirect: the request has no Host");
            return Answer::Response(builder.respond_error(error, sink));
        };
        let head = builder.begin(sink, self.status).own_field("Location", &location);
        builder.extend(head);
        Answer::Response(Response::new(self.status, Body::Empty))
    }
}
