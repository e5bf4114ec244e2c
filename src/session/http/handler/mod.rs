//! What responds to requests: files, an upstream, a redirect, metrics, the state of the server for those who
//! operate it, or the token of a validation; and errors.
//!
//! A [`Handler`] is chosen by the route. It writes the head of its response to a sink and returns
//! the body, or says what has to happen first ([`Answer`]). It knows neither the version of HTTP nor
//! what else is on the connection.

mod acme_challenge;
mod allowed_methods;
mod api;
mod builder;
mod error;
mod file_route;
mod files;
mod metrics;
mod operator;
mod proxy;
mod redirect;
mod representation;
mod welcome;

use std::fmt;
use std::rc::Rc;

pub use self::acme_challenge::AcmeChallenge;
pub(crate) use self::allowed_methods::AllowedMethods;
pub use self::api::Api;
pub use self::builder::ResponseBuilder;
pub(crate) use self::error::error_response;
pub use self::file_route::{FileRoute, FileRouteConfig, ResponseConfig, Source};
pub use self::files::Files;
pub use self::metrics::Metrics;
pub use self::operator::Operator;
pub(crate) use self::proxy::{Forward, ForwardStep};
pub use self::proxy::{Proxy, ProxyRoute};
pub use self::redirect::Redirect;
pub use self::welcome::WELCOME_PAGES;
use super::response::Response;
use super::stream::ResponseEncoder;

/// What responds to the requests of a route.
///
/// A handler keeps nothing of a request, so one serves all connections of a worker. A request that
/// has to wait for the store is given to it again, from the beginning.
pub trait Handler: fmt::Debug {
    /// What it is, in one word.
    fn name(&self) -> &'static str;

    /// The methods that it allows, for `OPTIONS` and `Allow`.
    fn allowed_methods(&self) -> AllowedMethods;

    /// Responds to the request of `builder`: writes the head to `sink` and returns the body, or says
    /// what has to happen first.
    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_>;

    /// The route, if requests are forwarded.
    fn proxy_route(&self) -> Option<&Rc<ProxyRoute>> {
        None
    }
}

/// What a handler makes of a request.
pub enum Answer<'h> {
    /// The response.
    Response(Response),
    /// The store looks something up. The request is to be given to the handler again after that.
    LookUp,
    /// The request is to be forwarded.
    Forward(&'h Rc<ProxyRoute>),
}
