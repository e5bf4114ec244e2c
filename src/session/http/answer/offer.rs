//! Which methods a route offers, and what `OPTIONS` is told.

use super::{Answer, Body, Exchange};
use crate::buffer::Chunk;
use crate::http::{Expect, Method, Refusal, RequestHead, ResponseHead, Status};

/// What a route can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session::http) enum Offer {
    /// Something that can be read.
    Reading,
    /// Something that is elsewhere, whatever is to be done with it.
    Elsewhere,
    /// What upstreams offer, as far as it is passed on.
    Upstreams,
}

impl Offer {
    /// Whether a request may be made of it at all.
    pub(in crate::session::http) fn check(self, head: &RequestHead<'_>) -> Result<(), Refusal> {
        if head.expect == Expect::Unknown {
            return Err(Refusal::new(Status::EXPECTATION_FAILED, "an expectation that cannot be met"));
        }
        let reason = match (self, head.method) {
            (Self::Upstreams, Method::Connect | Method::Trace) => "this method is not forwarded",
            (Self::Upstreams, _) => return Ok(()),
            (Self::Reading | Self::Elsewhere, Method::Other(_)) => {
                return Err(Refusal::bad_request("no registry knows this method"));
            }
            (Self::Elsewhere, Method::Connect | Method::Trace) => "this method is not redirected",
            (Self::Elsewhere, _) | (Self::Reading, Method::Get | Method::Head | Method::Options) => return Ok(()),
            (Self::Reading, _) => "this resource offers GET and HEAD",
        };
        Err(Refusal::new(Status::METHOD_NOT_ALLOWED, reason))
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

impl Exchange<'_> {
    /// The answer to what has the same one whatever is there.
    pub(super) fn answer_anyhow(&mut self) -> Option<Answer> {
        match self.head.method {
            Method::Options => Some(self.options()),
            _ => self.offer.check(self.head).err().map(|refusal| self.refuse(refusal)),
        }
    }

    /// The answer to OPTIONS.
    pub(in crate::session::http) fn options(&mut self) -> Answer {
        if let Err(refusal) = self.offer.check(self.head) {
            return self.refuse(refusal);
        }
        let mut out = Vec::with_capacity(256);
        let head = self.begin(&mut out, Status::NO_CONTENT).own_field("Allow", self.allowed());
        self.extend(self.permit(head)).end();
        self.answered(Status::NO_CONTENT, Chunk::shared(out), Body::Sent, 0)
    }

    /// For `Allow`.
    pub(super) const fn allowed(&self) -> &'static str {
        self.offer.allowed()
    }

    /// Tells a browser that asks whether a script may send a request (a preflight of the Fetch standard) what that may
    /// be. Which script is not judged here: the one origin that is configured goes with every answer, and the browser
    /// compares.
    fn permit<'v>(&self, mut head: ResponseHead<'v>) -> ResponseHead<'v> {
        let fields = &self.head.fields;
        let is_preflight = fields.get("Origin").is_some() && fields.get("Access-Control-Request-Method").is_some();
        if self.site.answers.cors.is_none() || !is_preflight {
            return head;
        }
        head = head.field("Access-Control-Allow-Methods", self.allowed());
        for names in fields.all("Access-Control-Request-Headers") {
            head = head.field("Access-Control-Allow-Headers", names);
        }
        head.field("Access-Control-Max-Age", PREFLIGHT_AGE_S)
    }

    /// Says whose scripts may read the answer.
    pub(super) fn admit_scripts<'v>(&self, head: ResponseHead<'v>) -> ResponseHead<'v> {
        self.site.admit_scripts(head)
    }
}
