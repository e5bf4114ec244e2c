//! Encodes the response to a request, and says what follows it on the connection.

use std::rc::Rc;

use super::body_discard::BodyDiscard;
use super::state::After;
use crate::http::{BodyReader, ErrorResponse, Expect, Method, RequestHead};
use crate::session::Context;
use crate::session::http::conn::request::Request;
use crate::session::http::handler::{Answer, FileRoute, ProxyRoute};
use crate::session::http::response::Response;
use crate::session::http::router::Route;
use crate::session::http::stream::{EncodedResponse, ResponseEncoder};

/// A request on a connection of HTTP/1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Respond<'a> {
    pub(super) request: Request<'a>,
    /// Whether client and limits allow another request on the connection.
    pub(super) may_stay: bool,
}

/// What a handler has made of a request.
pub(super) enum Answered<'r> {
    /// The response, and what follows it.
    Response(EncodedResponse, After),
    /// The store looks something up for this route.
    LookUp(Rc<Route>),
    /// The request is to be forwarded. `keep_alive`: client, route and limits allow another request
    /// on the connection.
    Forward { proxy_route: &'r Rc<ProxyRoute>, keep_alive: bool },
}

impl Respond<'_> {
    /// Gives the request to the handler of its route.
    pub(super) fn respond<'r>(self, route: &'r Rc<Route>, cx: &mut Context<'_>) -> Answered<'r> {
        let keep_alive = self.may_stay && route.keep_alive;
        let body = BodyDiscard::new(BodyReader::from(self.head().framing), cx.limits.http.discard_bytes_max);
        let mut encoder = self.encoder(keep_alive, body.as_ref());
        match self.request.respond(route, &mut encoder, cx) {
            Answer::Response(response) => self.encode(response, encoder, body),
            Answer::LookUp => Answered::LookUp(Rc::clone(route)),
            Answer::Forward(proxy_route) => Answered::Forward { proxy_route, keep_alive },
        }
    }

    /// Responds with an error: the request has no route, or may not use it.
    pub(super) fn respond_error<'r>(
        self,
        error: ErrorResponse,
        file_route: &FileRoute,
        cx: &mut Context<'_>,
    ) -> Answered<'r> {
        let body = BodyDiscard::new(BodyReader::from(self.head().framing), cx.limits.http.discard_bytes_max);
        let mut encoder = self.encoder(self.may_stay, body.as_ref());
        let response = self.request.respond_error(error, file_route, &mut encoder, cx);
        self.encode(response, encoder, body)
    }

    const fn head(&self) -> &RequestHead<'_> {
        self.request.head
    }

    /// An encoder of the response. `body`: the rest of the request body.
    fn encoder(self, keep_alive: bool, body: Option<&BodyDiscard>) -> ResponseEncoder {
        // A client that waits for 100 (Continue) gets the final response instead. It may or may not
        // send its body then (RFC 9110, 10.1.1).
        let is_body_read = body.is_none_or(|body| body.is_short() && self.head().expect == Expect::None);
        ResponseEncoder::new(self.head().version, self.head().method == Method::Head, keep_alive && is_body_read)
    }

    fn encode<'r>(self, response: Response, encoder: ResponseEncoder, body: Option<BodyDiscard>) -> Answered<'r> {
        let response = encoder.finish(response);
        tracing::debug!(method = self.head().method.as_str(), status = response.status.code(), "request");
        let after = After::new(response.keep_alive, body);
        Answered::Response(response, after)
    }
}
