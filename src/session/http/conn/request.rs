//! Gives a request to the handler of its route, or makes its error response.

use std::rc::Rc;

use crate::driver::Time;
use crate::file::store::Inquiry;
use crate::http::{ErrorResponse, RequestHead};
use crate::session::Context;
use crate::session::http::handler::{AllowedMethods, Answer, FileRoute, ResponseBuilder};
use crate::session::http::response::Response;
use crate::session::http::router::Route;
use crate::session::http::stream::ResponseEncoder;
use crate::waiter::Waiter;

/// A request whose head is complete. It may be given to its handler several times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead<'a>,
    /// When its exchange began.
    pub(super) since: Time,
    /// What is resumed when a look-up is complete.
    pub(super) waiter: Waiter,
}

impl<'a> Request<'a> {
    /// Gives the request to the handler of its route.
    pub(super) fn respond<'r>(
        self,
        route: &'r Rc<Route>,
        encoder: &mut ResponseEncoder,
        cx: &mut Context<'_>,
    ) -> Answer<'r> {
        let mut builder = self.builder(&route.file_route, route.handler.allowed_methods(), cx);
        route.handler.respond(&mut builder, encoder)
    }

    /// Responds with an error: the request has no route, or may not use it.
    pub(super) fn respond_error(
        self,
        error: ErrorResponse,
        file_route: &FileRoute,
        encoder: &mut ResponseEncoder,
        cx: &mut Context<'_>,
    ) -> Response {
        self.builder(file_route, AllowedMethods::Upstreams, cx).respond_error(error, encoder)
    }

    fn builder<'b>(
        self,
        file_route: &'b FileRoute,
        allowed_methods: AllowedMethods,
        cx: &'b mut Context<'_>,
    ) -> ResponseBuilder<'b>
    where
        'a: 'b,
    {
        ResponseBuilder {
            file_route,
            head: self.head,
            allowed_methods,
            inquiry: Inquiry { waiter: self.waiter, now: cx.now, since: self.since },
            unix_seconds: cx.unix_seconds,
            date: cx.date,
            counters: cx.counters,
            store: cx.store,
            boundaries: cx.boundaries,
            ops: cx.ops,
        }
    }
}
