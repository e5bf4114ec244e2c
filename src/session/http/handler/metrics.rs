//! The metrics of the server, as a text.

use super::{AllowedMethods, Answer, Handler, ResponseBuilder};
use crate::session::http::stream::ResponseEncoder;
use crate::telemetry::metrics;

/// Responds with the metrics of all workers.
#[derive(Debug)]
pub struct Metrics;

impl Metrics {
    /// Its [`Handler::name`].
    pub const NAME: &'static str = "metrics";
}

impl Handler for Metrics {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn allowed_methods(&self) -> AllowedMethods {
        AllowedMethods::Reading
    }

    fn respond(&self, builder: &mut ResponseBuilder<'_>, sink: &mut ResponseEncoder) -> Answer<'_> {
        let counters = builder.counters;
        Answer::Response(builder.text(metrics::CONTENT_TYPE, || counters.metrics().text(), sink))
    }
}
