//! Forwards requests to upstreams.

mod balance_key;
mod forward;
mod forward_step;
mod upload;
mod upstream_failure;

use std::rc::Rc;
use std::time::Duration;

pub(crate) use self::forward::Forward;
pub(crate) use self::forward_step::ForwardStep;
use self::upload::TOO_LARGE;
use super::{AllowedMethods, Answer, FileRoute, Handler, ResponseBuilder};
use crate::http::forward::{Authority, RequestRules, ResponseRules, forwards_left};
use crate::http::{BodyReader, ErrorResponse, RequestHead};
use crate::session::http::stream::ResponseEncoder;
use crate::upstream::{ConnectPolicy, KeepAlive, UpstreamGroup};

/// Forwards every request that the route can forward.
#[derive(Debug)]
pub struct Proxy(pub Rc<ProxyRoute>);

impl Proxy {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "proxy";
}

impl Handler for Proxy {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Upstreams
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        // With `Max-Forwards` at 0, this server is the one that is asked.
        if forwards_left(builder.head) == Some(0) {
            return Answer::Response(builder.options(sink));
        }
        match self.0.check(builder.head) {
            Ok(()) => Answer::Forward(&self.0),
            Err(error) => Answer::Response(builder.respond_error(error, sink)),
        }
    }

    fn proxy_route(&self) -> Option<&Rc<ProxyRoute>> {
        Some(&self.0)
    }
}

/// How requests are forwarded to upstreams.
#[derive(Debug)]
pub struct ProxyRoute {
    /// The path prefix of the route, for logs.
    pub name: Rc<str>,
    pub group: Rc<UpstreamGroup>,
    /// Timeout and number of tries of a connect.
    pub connect_policy: ConnectPolicy,
    /// How request heads are changed.
    pub request: RequestRules,
    /// How response heads are changed.
    pub response: ResponseRules,
    /// The `Host` of requests that have none: the name of an upstream.
    pub authority: Authority,
    /// How idle upstream connections are kept.
    pub keep_alive: KeepAlive,
    /// How long an upstream may be silent while it has to act; zero: no limit.
    pub response_timeout: Duration,
    /// Whether protocol upgrades are forwarded.
    pub upgrades: bool,
    /// The largest request body that is forwarded, in bytes; 0: no limit.
    pub body_bytes_max: u64,
    /// Makes the error responses if no upstream responds.
    pub file_route: Rc<FileRoute>,
}

impl ProxyRoute {
    /// Checks the method, expectation and body size of a request to be forwarded.
    ///
    /// # Errors
    /// The request cannot be forwarded.
    pub fn check(&self, head: &RequestHead<'_>) -> Result<(), ErrorResponse> {
        AllowedMethods::Upstreams.check(head)?;
        let length = BodyReader::from(head.framing).data_left().unwrap_or(0);
        if self.body_bytes_max != 0 && length > self.body_bytes_max { Err(TOO_LARGE) } else { Ok(()) }
    }
}
