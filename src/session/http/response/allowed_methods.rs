//! Which methods a route offers, and what `OPTIONS` is told.

use super::{Body, EncodedResponse, ResponseBuilder};
use crate::buffer::Chunk;
use crate::http::{ErrorResponse, Expect, Method, RequestHead, ResponseHeadWriter, Status};

/// What a route can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session::http) enum AllowedMethods {
    /// Something that can be read.
    Reading,
    /// Something that is elsewhere, whatever is to be done with it.
    Elsewhere,
    /// What upstreams offer, as far as it is passed on.
    Upstreams,
}

impl AllowedMethods {
    /// Whether a request may be made of it at all.
    pub(in crate::session::http) fn check(self, head: &RequestHead<'_>) -> Result<(), ErrorResponse> {
        if head.expect == Expect::Unknown {
            return Err(ErrorResponse::new(Status::EXPECTATION_FAILED, "an expectation that cannot be met"));
        }
        let reason = match (self, head.method) {
            (Self::Upstreams, Method::Connect | Method::Trace) => "this method is not forwarded",
            (Self::Upstreams, _) => return Ok(()),
            (Self::Reading | Self::Elsewhere, Method::Other(_)) => {
                return Err(ErrorResponse::bad_request("no registry knows this method"));
            }
            (Self::Elsewhere, Method::Connect | Method::Trace) => "this method is not redirected",
            (Self::Elsewhere, _) | (Self::Reading, Method::Get | Method::Head | Method::Options) => return Ok(()),
            (Self::Reading, _) => "this resource offers GET and HEAD",
        };
        Err(ErrorResponse::new(Status::METHOD_NOT_ALLOWED, reason))
    }

    /// For `Allow`. Where nearly every method is taken, those of RFC 9110 and RFC 5789 are named.
    const fn allowed(self) -> &'static str {
        match self {
            Self::Reading => "GET, HEAD, OPTIONS",
            Self::Elsewhere | Self::Upstreams => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        }
    }
}

/// How long a browser may rely on what a preflight told it, in seconds.
const PREFLIGHT_AGE_S: &str = "3600";

impl ResponseBuilder<'_> {
    /// The response to what has the same one whatever is there.
    pub(super) fn early_response(&mut self) -> Option<EncodedResponse> {
        match self.head.method {
            Method::Options => Some(self.options()),
            _ => self.allowed_methods.check(self.head).err().map(|error| self.respond_error(error)),
        }
    }

    /// The response to OPTIONS.
    pub(in crate::session::http) fn options(&mut self) -> EncodedResponse {
        if let Err(error) = self.allowed_methods.check(self.head) {
            return self.respond_error(error);
        }
        let mut out = Vec::with_capacity(256);
        let head = self.begin(&mut out, Status::NO_CONTENT).own_field("Allow", self.allowed());
        self.extend(self.permit(head)).end();
        self.response(Status::NO_CONTENT, Chunk::shared(out), Body::Sent, 0)
    }

    /// For `Allow`.
    pub(super) const fn allowed(&self) -> &'static str {
        self.allowed_methods.allowed()
    }

    /// Tells a browser that asks whether a script may send a request (a preflight of the Fetch standard) what that may
    /// be. Which script is not judged here: the one origin that is configured goes with every response, and the browser
    /// compares.
    fn permit<'v>(&self, mut head: ResponseHeadWriter<'v>) -> ResponseHeadWriter<'v> {
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

    /// Says whose scripts may read the response.
    pub(super) fn admit_scripts<'v>(&self, head: ResponseHeadWriter<'v>) -> ResponseHeadWriter<'v> {
        self.file_route.admit_scripts(head)
    }
}
