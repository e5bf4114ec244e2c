//! A report as files for other programs, and back.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Distribution, REPORT_VERSION, Report};

/// Why a text is not a report that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON, or not that of a report.
    #[error("not a report of `xps bench --json`: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A later xps wrote it, and what its fields mean is not known here.
    #[error("the report has version {0}, and this xps knows versions up to {REPORT_VERSION}; use a newer xps")]
    Newer(u64),
}

/// Reads what [`json`] wrote. Unknown fields are ignored: a later xps may add some without another
/// version.
pub fn read(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    // Alone and first: the rest may be of another shape.
    let Version { version } = serde_json::from_str(text)?;
    if version > u64::from(REPORT_VERSION) {
        return Err(ReadError::Newer(version));
    }
    Ok(serde_json::from_str(text)?)
}

/// The report as JSON, on several lines.
pub fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// The JSON schema of [`json`].
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Report)).unwrap_or_default();
    text.push('\n');
    text
}

/// The series: a line of names, and one for each interval (RFC 4180, but with LF). What is not known is
/// empty.
pub fn csv(report: &Report) -> String {
    let mut text = String::from("start_seconds,seconds,requests,errors,requests_per_second,mean_ms,max_ms\n");
    for interval in &report.series {
        let per_second = if interval.seconds > 0.0 {
            (interval.requests as f64 / interval.seconds).to_string()
        } else {
            String::new()
        };
        let or_empty = |millis: Option<f64>| millis.map(|millis| millis.to_string()).unwrap_or_default();
        _ = writeln!(
            text,
            "{},{},{},{},{per_second},{},{}",
            interval.start_seconds,
            interval.seconds,
            interval.requests,
            interval.errors,
            or_empty(interval.mean),
            or_empty(interval.max)
        );
    }
    text
}

/// Of the histograms that `tally::new_histogram` makes: the last line of the format names them.
const BUCKETS: u64 = 32;
const SUB_BUCKETS: u64 = 2048;

/// A distribution in the text format of HdrHistogram's `outputPercentileDistribution`, which its plotter
/// reads. Values are in milliseconds.
pub fn hgrm(distribution: &Distribution) -> String {
    let samples = distribution.samples;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut counted = 0;
    for at in &distribution.curve {
        let part = at.percent / 100.0;
        // Never fewer than before, and the last value is below.
        let count = ((part * samples as f64).ceil() as u64).clamp(1, samples);
        if count >= samples {
            break;
        }
        if count > counted {
            counted = count;
            _ = writeln!(text, "{:>12.3} {part:>2.12} {count:>10} {:>14.2}", at.value, 1.0 / (1.0 - part));
        }
    }
    _ = writeln!(text, "{:>12.3} {:>2.12} {samples:>10}", distribution.max, 1.0);
    let Distribution { mean, deviation, max, .. } = distribution;
    _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {samples:>12}]");
    _ = writeln!(text, "#[Buckets = {BUCKETS:>12}, SubBuckets     = {SUB_BUCKETS:>12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::{sample, table};
    use crate::load::tally::new_histogram;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for report in [sample::closed(), sample::open(), sample::failed()] {
            let read = read(&json(&report)).expect("its own text");
            // The last digit of a number may change.
            assert_eq!(table::text(&read), table::text(&report));
            assert_eq!(csv(&read), csv(&report));
            for (read, report) in [(read.service_time, report.service_time), (read.response_time, report.response_time)]
            {
                assert_eq!(read.as_ref().map(hgrm), report.as_ref().map(hgrm));
            }
            assert_eq!(read.manifest, report.manifest);
        }
    }

    #[test]
    fn a_report_of_a_later_version_is_refused_whatever_else_it_has() {
        let error = read(r#"{"version": 2, "requests": {"by": "target"}}"#).expect_err("later");
        assert_eq!(error.to_string(), "the report has version 2, and this xps knows versions up to 1; use a newer xps");
        for text in ["", "[]", "{}", r#"{"version": "1"}"#, r#"{"version": 1}"#] {
            assert!(matches!(read(text), Err(ReadError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let report = sample::failed();
        let mut value: serde_json::Value = serde_json::from_str(&json(&report)).expect("JSON");
        value["added_later"] = 1.into();
        value["errors"]["added_later"] = 1.into();
        assert_eq!(read(&value.to_string()).expect("a report"), report);
    }

    #[test]
    fn the_series_is_a_row_for_each_interval() {
        let mut report = sample::closed();
        report.series.truncate(1);
        report.series[0].max = None;
        assert_eq!(
            csv(&report),
            "start_seconds,seconds,requests,errors,requests_per_second,mean_ms,max_ms\n0,1,20000,0,20000,0.1,\n"
        );
        assert!(csv(&sample::failed()).ends_with("\n0,1,0,1000,0,,\n"));
    }

    #[test]
    fn the_percentile_format_rises_to_the_greatest_value() {
        let distribution = sample::closed().service_time.expect("values");
        let text = hgrm(&distribution);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 150, "{text}");
        assert!(rows.windows(2).all(|pair| pair[0][..3] <= pair[1][..3] && pair[0][2] < pair[1][2]), "{text}");
        let (last, others) = rows.split_last().expect("rows");
        assert!(others.iter().all(|row| row.len() == 4), "{text}");
        assert_eq!(last.len(), 3);
        assert_eq!((last[1], last[2]), (1.0, 200_000.0));
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("#[") && line.ends_with(']')).count(), 3);
    }

    #[test]
    fn one_value_is_a_distribution_too() {
        let text = hgrm(&sample::distribution(1, 1_000_000, 1).expect("a value"));
        assert!(text.contains("1.000000000000          1\n"), "{text}");
    }

    #[test]
    fn the_percentile_format_names_the_buckets_of_the_histograms() {
        assert_eq!(new_histogram().distinct_values() as u64, (BUCKETS + 1) * SUB_BUCKETS / 2);
    }
}
