//! The figures of a report that have a limit, or are compared.

use super::Report;
use super::units::{rate, share, time};
use crate::load::statistics::Better;

/// One figure of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Correct responses a second.
    Rate,
    /// The part of the requests that failed.
    Errors,
    /// Processor time of the server for a request, in milliseconds.
    ServerTime,
    /// The mean of the times, in milliseconds: response times in an open loop, and service times otherwise.
    Mean,
    /// A percentile of the same times.
    Percentile(f64),
    /// The longest.
    Max,
}

impl Figure {
    /// In the order of a table.
    pub const COMPARED: [Self; 10] = [
        Self::Rate,
        Self::Errors,
        Self::ServerTime,
        Self::Mean,
        Self::Percentile(50.0),
        Self::Percentile(90.0),
        Self::Percentile(99.0),
        Self::Percentile(99.9),
        Self::Percentile(99.99),
        Self::Max,
    ];

    /// Its name in a table.
    pub fn name(self) -> String {
        match self {
            Self::Rate => "requests/s".to_owned(),
            Self::Errors => "errors".to_owned(),
            Self::ServerTime => "server cpu".to_owned(),
            Self::Mean => "mean".to_owned(),
            Self::Percentile(percent) => format!("{percent} %"),
            Self::Max => "max".to_owned(),
        }
    }

    /// Which values are the good ones.
    pub const fn better(self) -> Better {
        match self {
            Self::Rate => Better::Higher,
            Self::Errors | Self::ServerTime | Self::Mean | Self::Percentile(_) | Self::Max => Better::Lower,
        }
    }

    /// Its value. `None` if it was not measured, or if the run has too few responses for it.
    pub fn value(self, report: &Report) -> Option<f64> {
        match self {
            Self::Rate => Some(report.requests_per_second),
            Self::Errors => report.error_share(),
            Self::ServerTime => report.server.as_ref().map(|server| server.microseconds_per_request / 1e3),
            Self::Mean => report.times().map(|times| times.mean),
            Self::Percentile(percent) => report.times()?.quantile(percent),
            Self::Max => report.times().map(|times| times.max),
        }
    }

    /// A value of it with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Rate => rate(value),
            Self::Errors => share(value),
            Self::ServerTime | Self::Mean | Self::Percentile(_) | Self::Max => time(value),
        }
    }
}
