//! Answers that need no file: redirects, and texts that are made for the occasion.

use super::{Answer, Body, Exchange};
use crate::buffer::Chunk;
use crate::http::{Method, Refusal, Status};

impl Exchange<'_> {
    /// Sends the client elsewhere.
    pub(in crate::session::http) fn redirect(&mut self, status: Status, location: &[u8]) -> Answer {
        if let Err(refusal) = self.check_method() {
            return self.refuse(refusal);
        }
        let mut out = Vec::with_capacity(256);
        let head = self.begin(&mut out, status).field("Location", location);
        self.extend(head).length(0).end();
        self.answered(status, Chunk::shared(out), Body::Sent, 0)
    }

    /// Sends a text.
    pub(in crate::session::http) fn text(&mut self, content_type: &str, text: &str) -> Answer {
        if let Err(refusal) = self.check_method() {
            return self.refuse(refusal);
        }
        let mut out = Vec::with_capacity(256 + text.len());
        let head = self.begin(&mut out, Status::OK).field("Content-Type", content_type);
        self.extend(head.field("Cache-Control", "no-store")).length(text.len() as u64).end();
        let mut body_bytes = 0;
        if self.head.method != Method::Head {
            out.extend_from_slice(text.as_bytes());
            body_bytes = text.len() as u64;
        }
        self.answered(Status::OK, Chunk::shared(out), Body::Sent, body_bytes)
    }

    fn check_method(&self) -> Result<(), Refusal> {
        match self.head.method {
            Method::Get | Method::Head => Ok(()),
            method if method.is_registered() => {
                Err(Refusal::new(Status::METHOD_NOT_ALLOWED, "this resource offers GET and HEAD"))
            }
            _ => Err(Refusal::bad_request("no registry knows this method")),
        }
    }
}
