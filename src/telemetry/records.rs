//! Records of the server's log on their way to its writer: what stands before each line, and the records
//! that the log itself adds.

use std::io::{self, Write};

use serde_json::{Value, json};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::line_writer::LineWriter;
use super::syslog::Severity;
use super::{LogFormat, timestamp};

/// How records are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordForm {
    pub(super) format: LogFormat,
    /// Each line begins with its severity, and has no time: the journal and syslog note the time themselves.
    pub(super) has_severity: bool,
}

impl RecordForm {
    /// A warning of the log itself. `text`: with the values, for `human`; `fields`: for `json`.
    pub(super) fn warning(self, text: &str, fields: &Value, target: &str) -> Vec<u8> {
        let level = Level::WARN;
        let time = (!self.has_severity).then(timestamp);
        let line = match self.format {
            LogFormat::Human => match time {
                Some(time) => format!("{time}  {level} {text}\n"),
                None => format!(" {level} {text}\n"),
            },
            LogFormat::Json => {
                let mut record = json!({ "level": level.as_str(), "fields": fields, "target": target });
                if let Some(time) = time {
                    record["timestamp"] = time.into();
                }
                format!("{record}\n")
            }
        };
        if self.has_severity { with_severity(level, line.as_bytes()) } else { line.into_bytes() }
    }
}

/// Puts the severity before each line, as in sd-daemon(3).
pub(super) fn with_severity(level: Level, lines: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.len() + 3);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        // Writing to a vector cannot fail.
        let _ = write!(bytes, "{}", Severity::of(level));
        bytes.extend_from_slice(line);
    }
    bytes
}

/// Passes formatted records to the line writer.
#[derive(Clone, Debug)]
pub(super) struct RecordWriter {
    pub(super) writer: LineWriter,
    pub(super) form: RecordForm,
}

impl<'w> MakeWriter<'w> for RecordWriter {
    type Writer = Record<'w>;

    fn make_writer(&'w self) -> Record<'w> {
        Record { log: self, level: Level::INFO }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Record<'w> {
        Record { log: self, level: *metadata.level() }
    }
}

/// A record that is being written.
pub(super) struct Record<'w> {
    log: &'w RecordWriter,
    level: Level,
}

impl Write for Record<'_> {
    /// The subscriber writes each record in one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let RecordWriter { writer, form } = self.log;
        if form.has_severity {
            writer.line(&with_severity(self.level, bytes));
        } else {
            writer.line(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_record_has_its_severity() {
        let with = |level, text: &str| String::from_utf8(with_severity(level, text.as_bytes())).unwrap();
        assert_eq!(with(Level::ERROR, "a\nb\n"), "<3>a\n<3>b\n");
        assert_eq!(with(Level::WARN, "a\n"), "<4>a\n");
        assert_eq!(with(Level::INFO, "a\n"), "<6>a\n");
        assert_eq!(with(Level::DEBUG, "a\n"), "<7>a\n");
        assert_eq!(with(Level::TRACE, "a\n"), "<7>a\n");
    }

    #[test]
    fn a_warning_of_the_log_has_the_form_of_its_records() {
        let warning = |format, has_severity| {
            let form = RecordForm { format, has_severity };
            String::from_utf8(form.warning("lost lost=3", &json!({ "message": "lost", "lost": 3 }), "xps")).unwrap()
        };
        assert_eq!(warning(LogFormat::Human, true), "<4> WARN lost lost=3\n");
        assert!(warning(LogFormat::Human, false).ends_with("Z  WARN lost lost=3\n"));
        let record: Value = serde_json::from_str(&warning(LogFormat::Json, false)).unwrap();
        assert_eq!(
            (&record["level"], &record["fields"]["lost"], record["timestamp"].is_string()),
            (&"WARN".into(), &3.into(), true)
        );
        let record: Value = serde_json::from_str(warning(LogFormat::Json, true).strip_prefix("<4>").unwrap()).unwrap();
        assert!(record.get("timestamp").is_none());
    }
}
