//! Access logs in the configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{AccessTarget, LogFormat};

/// An access log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "AccessLogForm", into = "AccessLogForm")]
pub struct AccessLog {
    pub path: AccessTarget,
    /// Default: `access_format`.
    pub format: Option<LogFormat>,
    /// The share of requests that have a line.
    pub sample: f64,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { path: AccessTarget::default(), format: None, sample: all() }
    }
}

const fn all() -> f64 {
    1.0
}

/// An access log: where it goes, or an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AccessLog")]
pub enum AccessLogForm {
    /// `off`, `-` for standard output, a file, or a syslog daemon.
    Target(AccessTarget),
    /// A log with options.
    Detailed(DetailedAccessLog),
}

/// An access log with options.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailedAccessLog {
    /// The access log: `off`, `-` for standard output, a file, or a syslog daemon.
    pub path: AccessTarget,
    /// Format of its lines: `combined`, `json`, or a template such as `$remote_addr $host $status $reason`,
    /// with the [variables](operation.md#the-access-log) of the log. Values are escaped; `$$` is a `$`.
    /// Default: `access_format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// Share of requests that have a line: `0.1` is one in ten. Requests whose status is 500 or more, and
    /// those whose upstream failed, always have one.
    #[serde(default = "all")]
    #[schemars(range(min = 0, max = 1))]
    pub sample: f64,
}

impl From<AccessLogForm> for AccessLog {
    fn from(form: AccessLogForm) -> Self {
        match form {
            AccessLogForm::Target(path) => Self { path, format: None, sample: all() },
            AccessLogForm::Detailed(DetailedAccessLog { path, format, sample }) => Self { path, format, sample },
        }
    }
}

impl From<AccessLog> for AccessLogForm {
    fn from(log: AccessLog) -> Self {
        let AccessLog { path, format, sample } = log;
        if format.is_none() && sample == all() {
            Self::Target(path)
        } else {
            Self::Detailed(DetailedAccessLog { path, format, sample })
        }
    }
}
