//! Configuration of active health checks: plain data, and what passes one.

use std::fmt;
use std::time::Duration;

use crate::http::Status;
use crate::http::forward::{Authority, FieldLine};

/// Active health checks. The workers of a server share them, see [`shared`](crate::upstream::shared).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// What is checked.
    pub kind: CheckKind,
    /// Time from the start of one check to the start of the next, plus or minus up to a tenth, so
    /// that checks spread out.
    pub interval: Duration,
    /// Timeout of each step of a check: look-up, connect to an address, response.
    pub timeout: Duration,
    /// Passed checks in a row that bring an endpoint up again.
    pub rise: u32,
    /// Failed checks in a row that take an endpoint down.
    pub fall: u32,
}

/// What an endpoint has to do to pass a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Accept a connection.
    Connect,
    /// Respond to a request.
    Http(Box<HttpCheck>),
}

/// The request of a check, and the responses that pass it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// The request's target, in origin form (RFC 9112, 3.2.1).
    pub target: String,
    /// The request's method.
    pub method: CheckMethod,
    /// The value of `Host`; `None`: the upstream's address.
    pub host: Option<Authority>,
    /// Further fields. One of the name `User-Agent` replaces that of xps.
    pub fields: Vec<FieldLine>,
    /// The status has to be in one of these.
    pub status: Vec<StatusRange>,
    /// This text has to occur in the first [`CHECK_BODY_BYTES_MAX`] bytes of the body. `None`: the
    /// body does not matter, and is not read.
    pub body: Option<String>,
}

/// Bytes of a response body, without its framing, in which the expected text is looked for.
pub const CHECK_BODY_BYTES_MAX: usize = 64 << 10;

/// The method of a check's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckMethod {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`: the response has no body.
    Head,
}

/// Statuses of final responses, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl HttpCheck {
    /// A GET request for `target`, which a response with 2xx or 3xx passes.
    pub fn get(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            method: CheckMethod::Get,
            host: None,
            fields: Vec::new(),
            status: vec![StatusRange::SUCCESS_OR_REDIRECT],
            body: None,
        }
    }

    /// Whether a response with this status may pass.
    pub fn admits(&self, status: Status) -> bool {
        self.status.iter().any(|range| range.contains(status.code()))
    }
}

impl CheckMethod {
    /// The name, in capitals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

impl StatusRange {
    /// 2xx and 3xx.
    pub const SUCCESS_OR_REDIRECT: Self = Self { first: 200, last: 399 };

    /// The statuses from `first` to `last`. `None` unless both are of final responses, 200 to 599, and
    /// in this order.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first >= 200 && first <= last && last <= 599 { Some(Self { first, last }) } else { None }
    }

    /// Whether it has this status.
    pub const fn contains(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = *self;
        if first == last {
            first.fmt(f)
        } else if first % 100 == 0 && last == first + 99 {
            write!(f, "{}xx", first / 100)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_of_final_responses() {
        for (first, last, shown) in [(200, 200, "200"), (200, 299, "2xx"), (200, 399, "200-399"), (503, 504, "503-504")]
        {
            let range = StatusRange::new(first, last).unwrap();
            assert_eq!(range.to_string(), shown);
            assert!(range.contains(first) && range.contains(last) && !range.contains(last + 1));
        }
        for (first, last) in [(101, 101), (199, 200), (300, 299), (200, 600)] {
            assert_eq!(StatusRange::new(first, last), None);
        }
    }
}
