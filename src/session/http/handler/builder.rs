//! What every response of the server's own has in common: the fields of its head.
//!
//! A response is a function of the head, the route's settings and the content of the store. If the
//! store has to look something up, the whole function is called again once the result is there.

use super::AllowedMethods;
use super::file_route::FileRoute;
use crate::buffer::Chunk;
use crate::driver::Ops;
use crate::file::store::{Inquiry, Store};
use crate::http::multipart::Boundaries;
use crate::http::{DateLine, HeadBuilder, HeadSink, RequestHead, Status};
use crate::session::http::response::{Body, Response};
use crate::telemetry::metrics::WorkerCounters;

/// The inputs of a response.
#[derive(Debug)]
pub struct ResponseBuilder<'a> {
    pub(crate) file_route: &'a FileRoute,
    pub(crate) head: &'a RequestHead<'a>,
    pub(crate) allowed_methods: AllowedMethods,
    pub(crate) inquiry: Inquiry,
    pub(crate) unix_seconds: u64,
    pub(crate) date: &'a DateLine,
    pub(crate) counters: &'a WorkerCounters,
    pub(crate) store: &'a mut Store,
    pub(crate) boundaries: &'a mut Boundaries,
    pub(crate) ops: &'a mut Ops,
}

impl ResponseBuilder<'_> {
    /// Begins a head: the status and the fields of every response.
    pub(super) fn begin<'v, S: HeadSink>(&'v self, sink: &'v mut S, status: Status) -> HeadBuilder<'v, S> {
        HeadBuilder::new(sink, status)
            .date(self.date)
            .without(if status.is_error() {
                &self.file_route.responses.without
            } else {
                &self.file_route.responses.replaced
            })
            .server(self.file_route.responses.server_name.as_deref())
    }

    /// Adds the fields that the configuration adds to every response but errors.
    pub(super) fn extend<'v, S: HeadSink>(&self, mut head: HeadBuilder<'v, S>) -> HeadBuilder<'v, S> {
        head = self.file_route.add_browser_fields(head);
        for (name, value) in &self.file_route.responses.fields {
            head = head.extra_field(name, value);
        }
        head
    }

    /// A generated text, which is not to be cached.
    pub(super) fn text(
        &mut self,
        content_type: &str,
        text: impl FnOnce() -> String,
        sink: &mut impl HeadSink,
    ) -> Response {
        self.generated_text(content_type, None, text, sink)
    }

    /// The same, for pages of every origin, unless the configuration says for which.
    pub(super) fn text_for_all(
        &mut self,
        content_type: &str,
        text: impl FnOnce() -> String,
        sink: &mut impl HeadSink,
    ) -> Response {
        let origin = self.file_route.responses.cors.is_none().then_some("*");
        self.generated_text(content_type, origin, text, sink)
    }

    fn generated_text(
        &mut self,
        content_type: &str,
        origin: Option<&str>,
        text: impl FnOnce() -> String,
        sink: &mut impl HeadSink,
    ) -> Response {
        if let Some(response) = self.early_response(sink) {
            return response;
        }
        let mut head = self
            .begin(sink, Status::OK)
            .field("Content-Type", content_type)
            .field("X-Content-Type-Options", "nosniff")
            .field("Cache-Control", "no-store");
        if let Some(origin) = origin {
            head = head.field("Access-Control-Allow-Origin", origin);
        }
        self.extend(head);
        Response::new(Status::OK, Body::Memory(Chunk::shared(text().into_bytes())))
    }
}
