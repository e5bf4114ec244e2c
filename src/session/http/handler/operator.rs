//! Answers to those who operate the server: whether it lives and is ready, and a page of links.

use std::sync::Arc;

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::http::{ErrorResponse, Status, path};
use crate::session::control::Control;
use crate::session::http::stream::ResponseEncoder;

/// Answers on the listeners of the operator worker.
#[derive(Debug)]
pub struct Operator {
    /// The state of the server.
    pub control: Arc<Control>,
}

/// The page at `/`.
const PAGE: &str = include_str!("operator/index.html");

const TEXT: &str = "text/plain; charset=utf-8";

impl Operator {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "operator";
}

impl Handler for Operator {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Reading
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        let decoded = builder.head.target.path().map(path::decode);
        let path = match &decoded {
            Some(Ok(path)) => path.as_bytes(),
            Some(Err(error)) => return Answer::Response(builder.respond_error(*error, sink)),
            None => b"*",
        };
        Answer::Response(match path {
            b"" | b"*" => builder.text("text/html; charset=utf-8", || PAGE.to_owned(), sink),
            b"livez" => builder.text(TEXT, || "live\n".to_owned(), sink),
            b"readyz" if self.control.is_ready() => builder.text(TEXT, || "ready\n".to_owned(), sink),
            b"readyz" => builder.respond_error(LEAVING, sink),
            _ => builder.respond_error(ErrorResponse::new(Status::NOT_FOUND, "there is nothing at this path"), sink),
        })
    }
}

/// The response of `/readyz` once the server drains or is about to.
const LEAVING: ErrorResponse = ErrorResponse::new(Status::SERVICE_UNAVAILABLE, "the server is about to stop");
