//! The metrics of the server as eXpServer's JSON object.

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::session::http::stream::ResponseEncoder;
use crate::telemetry::metrics;

/// Responds with the object that the page of eXpServer polls. That page may have another origin, so the
/// response has `Access-Control-Allow-Origin: *`, unless the route configures another value.
#[derive(Debug)]
pub struct Api;

impl Api {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "api";
}

impl Handler for Api {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Reading
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        let counters = builder.counters;
        let text = || counters.metrics().api_json();
        Answer::Response(builder.text_for_all(metrics::API_CONTENT_TYPE, text, sink))
    }
}
