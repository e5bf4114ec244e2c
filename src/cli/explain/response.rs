//! The response head that the server produced in the dry run.

use super::report::Report;
use crate::cli::failure::Failure;
use crate::http::Status;

/// The response head that a client would get.
pub(super) struct DryRunResponse {
    pub(super) status: u16,
    /// `200 OK`
    status_text: String,
    /// The status line and the fields; over HTTP/2, the fields.
    lines: Vec<String>,
}

impl DryRunResponse {
    /// Parses the bytes of a head.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head = String::from_utf8_lossy(head);
        let lines: Vec<String> = head.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let (_, status_text) = lines.first()?.split_once(' ')?;
        let status = status_text.get(..3)?.parse().ok()?;
        Some(Self { status, status_text: status_text.to_owned(), lines })
    }

    /// A response of HTTP/2, of its fields in their order.
    pub(super) fn of_http2(fields: &[(String, String)]) -> Option<Self> {
        let (_, code) = fields.iter().find(|(name, _)| name == ":status")?;
        let status = code.parse().ok()?;
        let reason = Status::from_code(status).map_or("", Status::reason);
        let lines = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        Some(Self { status, status_text: format!("{code} {reason}"), lines })
    }

    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.lines.iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The whole head except `Date`, which differs each time.
    pub(super) fn without_date(&self) -> String {
        let lines = self.lines.iter().filter(|line| !line.starts_with("Date: ") && !line.starts_with("date: "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Reports status and `Location`, for routes of any kind. An error status is a failure.
    pub(super) fn plainly(&self, report: &mut Report) -> Result<(), Failure> {
        if self.status >= 400 {
            return Err(self.failure(&match self.field("Allow") {
                Some(allowed) => format!("{}; allowed: {allowed}", self.reason()),
                None => self.reason().to_owned(),
            }));
        }
        report.add("to", &*self.status_text);
        if let Some(location) = self.field("Location") {
            report.add("", format!("Location: {location}"));
        }
        Ok(())
    }

    /// A failure with the status and a reason.
    pub(super) fn failure(&self, why: &str) -> Failure {
        Failure::NotServed(format!("{}: {why}", self.status))
    }

    fn reason(&self) -> &str {
        self.status_text.get(4..).unwrap_or_default()
    }
}
