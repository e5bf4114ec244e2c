//! The methods that a route allows, and the response to `OPTIONS`.

use super::ResponseBuilder;
use crate::http::{ErrorResponse, Expect, HeadBuilder, HeadSink, Method, RequestHead, Status};
use crate::session::http::response::{Body, Response};

/// The set of methods that a route allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedMethods {
    /// A readable resource: GET, HEAD and OPTIONS.
    Reading,
    /// Questions and commands of operators: as a readable resource, and POST.
    Commands,
    /// A redirect: any method but CONNECT and TRACE.
    Elsewhere,
    /// An upstream: any method but CONNECT and TRACE, also an unknown one.
    Upstreams,
}

impl AllowedMethods {
    /// Checks the method and the expectation of a request.
    pub(super) fn check(self, head: &RequestHead<'_>) -> Result<(), ErrorResponse> {
        if head.expect == Expect::Unknown {
            return Err(ErrorResponse::new(Status::EXPECTATION_FAILED, "unknown expectation in the Expect field"));
        }
        let reason = match (self, head.method) {
            // An extended one is a GET that asks for an upgrade (RFC 8441, 5).
            (Self::Upstreams, Method::Connect) if head.protocol.is_some() => return Ok(()),
            (Self::Upstreams, Method::Connect | Method::Trace) => "this method is not forwarded",
            (Self::Upstreams, _) => return Ok(()),
            (Self::Reading | Self::Commands | Self::Elsewhere, Method::Other(_)) => {
                return Err(ErrorResponse::bad_request("unknown method"));
            }
            (Self::Elsewhere, Method::Connect | Method::Trace) => "this method is not redirected",
            (Self::Elsewhere, _)
            | (Self::Reading | Self::Commands, Method::Get | Method::Head | Method::Options)
            | (Self::Commands, Method::Post) => return Ok(()),
            (Self::Reading, _) => "only GET and HEAD are allowed here",
            (Self::Commands, _) => "only GET, HEAD and POST are allowed here",
        };
        Err(ErrorResponse::new(Status::METHOD_NOT_ALLOWED, reason))
    }

    /// The value of `Allow`. If nearly every method is allowed, it lists those of RFC 9110 and RFC
    /// 5789.
    const fn allowed(self) -> &'static str {
        match self {
            Self::Reading => "GET, HEAD, OPTIONS",
            Self::Commands => "GET, HEAD, POST, OPTIONS",
            Self::Elsewhere | Self::Upstreams => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        }
    }
}

/// How long a browser may cache the result of a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "3600";

impl ResponseBuilder<'_> {
    /// The response that does not depend on the resource: to OPTIONS, or to a method that is not
    /// allowed.
    pub(super) fn early_response(&mut self, sink: &mut impl HeadSink) -> Option<Response> {
        match self.head.method {
            Method::Options => Some(self.options(sink)),
            _ => self.allowed_methods.check(self.head).err().map(|error| self.respond_error(error, sink)),
        }
    }

    /// The response to OPTIONS.
    pub(super) fn options(&self, sink: &mut impl HeadSink) -> Response {
        if let Err(error) = self.allowed_methods.check(self.head) {
            return self.respond_error(error, sink);
        }
        let head = self.begin(sink, Status::NO_CONTENT).own_field("Allow", self.allowed());
        self.extend(self.permit(head));
        Response::new(Status::NO_CONTENT, Body::Empty)
    }

    /// The value of `Allow`.
    pub(super) const fn allowed(&self) -> &'static str {
        self.allowed_methods.allowed()
    }

    /// Adds the allowed methods and fields to the response to a CORS preflight (Fetch standard).
    /// The origin is not checked here: every response has the one configured origin, and the
    /// browser compares it.
    fn permit<'v, S: HeadSink>(&self, mut head: HeadBuilder<'v, S>) -> HeadBuilder<'v, S> {
        let fields = &self.head.fields;
        let is_preflight = fields.get("Origin").is_some() && fields.get("Access-Control-Request-Method").is_some();
        if self.file_route.responses.cors.is_none() || !is_preflight {
            return head;
        }
        head = head.field("Access-Control-Allow-Methods", self.allowed());
        for names in fields.all("Access-Control-Request-Headers") {
            head = head.field("Access-Control-Allow-Headers", names);
        }
        head.field("Access-Control-Max-Age", PREFLIGHT_AGE_S)
    }
}
