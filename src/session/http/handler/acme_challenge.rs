//! The answers to validations by an authority of certificates.

use std::sync::Arc;

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::http::{ErrorResponse, Status};
use crate::session::http::stream::ResponseEncoder;
use crate::tls::ChallengeTokens;

/// Responds with the key authorization of a token (`http-01`; RFC 8555, 8.3).
#[derive(Debug)]
pub struct AcmeChallenge {
    /// The pending tokens.
    pub tokens: Arc<ChallengeTokens>,
}

impl Handler for AcmeChallenge {
    fn name(&self) -> &'static str {
        "acme_challenge"
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Reading
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        Answer::Response(match self.tokens.answer(builder.head.target.path()) {
            Some(answer) => builder.text("application/octet-stream", || answer, sink),
            // The validation has just ended.
            None => builder.respond_error(ErrorResponse::new(Status::NOT_FOUND, "no such token"), sink),
        })
    }
}
