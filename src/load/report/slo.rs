//! `--slo`: limits that a run must keep, such as `p99<5ms,errors<0.1%`.

use std::fmt;
use std::str::FromStr;

use super::figure::Figure;
use super::{Report, samples_needed};
use crate::load::statistics::Better;
use crate::nearest::nearest;

/// All of these are to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    conditions: Vec<Condition>,
}

/// A figure and its limit.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    /// As it was written.
    text: String,
    figure: Figure,
    /// Whether the limit itself is allowed: `<=`, `>=`.
    is_inclusive: bool,
    /// In milliseconds, as a part of 1, or in requests a second.
    limit: f64,
}

/// Why a text is not an SLO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// It has no figure that is known.
    #[error("unknown figure `{written}`{}", suggestion(.meant.as_deref()))]
    UnknownFigure {
        /// What stands there.
        written: String,
        /// The most similar figure.
        meant: Option<String>,
    },
    /// There is no comparison in it.
    #[error("`{0}` is no condition; write for example `p99<5ms`, `errors<0.1%` or `rate>=50000`")]
    NoCondition(String),
    /// Only the rate has a lower limit, and nothing else.
    #[error("`{condition}`: {figure} needs {operators}")]
    Direction {
        /// The condition.
        condition: String,
        /// What it is about.
        figure: String,
        /// What is possible.
        operators: &'static str,
    },
    /// The limit is not a number with the unit that the figure has.
    #[error("`{condition}`: `{limit}` is not {expected}")]
    Limit {
        /// The condition.
        condition: String,
        /// What stands for the limit.
        limit: String,
        /// What could.
        expected: &'static str,
    },
}

fn suggestion(meant: Option<&str>) -> String {
    meant.map_or_else(
        || "; known are p50 (any percentile), mean, max, errors and rate".to_owned(),
        |meant| format!("; did you mean `{meant}`?"),
    )
}

/// A condition that was not kept, or that the run cannot show to be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Missed {
    /// The figure is beyond its limit.
    Beyond {
        /// The condition.
        condition: String,
        /// The figure, with its unit.
        found: String,
    },
    /// There was nothing to measure.
    NoResponse {
        /// The condition.
        condition: String,
    },
    /// The run has too few responses for this percentile.
    Unsupported {
        /// The percentile.
        percent: f64,
        /// The responses that it needs.
        needed: u64,
        /// Those that came.
        came: u64,
    },
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond { condition, found } => write!(f, "{condition}: it is {found}"),
            Self::NoResponse { condition } => write!(f, "{condition}: no response came"),
            Self::Unsupported { percent, needed, came } => {
                write!(f, "p{percent} needs {needed} responses, {came} came")
            }
        }
    }
}

impl Slo {
    /// The conditions that this run missed. Times are response times in an open loop, and service times
    /// otherwise.
    pub fn evaluate(&self, report: &Report) -> Vec<Missed> {
        self.conditions.iter().filter_map(|condition| condition.evaluate(report)).collect()
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.conditions.iter().map(|condition| condition.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

impl Condition {
    fn evaluate(&self, report: &Report) -> Option<Missed> {
        let Some(found) = self.figure.value(report) else {
            return Some(match (self.figure, report.times()) {
                (Figure::Percentile(percent), Some(times)) => {
                    Missed::Unsupported { percent, needed: samples_needed(percent), came: times.samples }
                }
                _ => Missed::NoResponse { condition: self.text.clone() },
            });
        };
        let is_kept = match self.figure.better() {
            _ if found == self.limit => self.is_inclusive,
            Better::Higher => found > self.limit,
            Better::Lower => found < self.limit,
        };
        (!is_kept).then(|| Missed::Beyond { condition: self.text.clone(), found: self.figure.show(found) })
    }
}

/// The figure that has this name.
fn parse_figure(written: &str) -> Result<Figure, SloError> {
    /// For suggestions. A percentile is any number.
    const NAMES: [&str; 8] = ["p50", "p90", "p99", "p99.9", "mean", "max", "errors", "rate"];
    match written {
        "mean" => return Ok(Figure::Mean),
        "max" => return Ok(Figure::Max),
        "errors" => return Ok(Figure::Errors),
        "rate" => return Ok(Figure::Rate),
        _ => {}
    }
    let percent = written.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
    percent.filter(|percent| *percent > 0.0 && *percent < 100.0).map(Figure::Percentile).ok_or_else(|| {
        let meant = nearest(written, NAMES).map(str::to_owned);
        SloError::UnknownFigure { written: written.to_owned(), meant }
    })
}

/// A limit of a figure, and what one looks like.
fn parse_limit(figure: Figure, text: &str) -> (Option<f64>, &'static str) {
    match figure {
        Figure::Percentile(_) | Figure::Mean | Figure::Max | Figure::ServerTime => {
            (parse_time(text), "a time such as 300us, 5ms or 1s")
        }
        Figure::Errors => (parse_share(text), "a percentage such as 0.1%"),
        Figure::Rate => (parse_number(text), "a number of requests a second such as 50000"),
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let conditions = text.split(',').map(|condition| condition.trim().parse());
        Ok(Self { conditions: conditions.collect::<Result<_, _>>()? })
    }
}

impl FromStr for Condition {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let at = text.find(['<', '>']).ok_or_else(|| SloError::NoCondition(text.to_owned()))?;
        let (written, rest) = text.split_at(at);
        let figure = parse_figure(written.trim())?;
        let has_lower_limit = figure.better() == Better::Higher;
        let limit = &rest[1..];
        let (is_inclusive, limit) = limit.strip_prefix('=').map_or((false, limit), |limit| (true, limit));
        if rest.starts_with('>') != has_lower_limit {
            return Err(SloError::Direction {
                condition: text.to_owned(),
                figure: written.trim().to_owned(),
                operators: if has_lower_limit { "`>` or `>=`" } else { "`<` or `<=`" },
            });
        }
        match parse_limit(figure, limit.trim()) {
            (Some(limit), _) => Ok(Self { text: text.to_owned(), figure, is_inclusive, limit }),
            (None, expected) => {
                Err(SloError::Limit { condition: text.to_owned(), limit: limit.trim().to_owned(), expected })
            }
        }
    }
}

/// A number that is not negative.
fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)
}

/// A time in milliseconds.
fn parse_time(text: &str) -> Option<f64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let millis = match unit.trim() {
        // Both signs for micro.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(parse_number(digits)? * millis)
}

/// A percentage, as a part of 1.
pub fn parse_share(text: &str) -> Option<f64> {
    Some(parse_number(text.strip_suffix('%')?.trim())? / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::sample;

    fn missed(slo: &str, report: &Report) -> Vec<String> {
        slo.parse::<Slo>().expect(slo).evaluate(report).iter().map(Missed::to_string).collect()
    }

    fn error(slo: &str) -> String {
        slo.parse::<Slo>().expect_err(slo).to_string()
    }

    #[test]
    fn what_is_kept_is_not_missed() {
        let report = sample::closed();
        let slo = "p99<5ms, errors<0.1%,p50<=300us,rate>=19999,max<1s,mean<2ms,p97.5<1ms";
        assert_eq!(missed(slo, &report), [""; 0]);
        assert_eq!(slo.parse::<Slo>().expect("an SLO").to_string(), slo.replace(", ", ","));
    }

    #[test]
    fn what_is_missed_is_named_with_the_figure() {
        let report = sample::closed();
        assert_eq!(
            missed("p99<100us,errors<0.001%,rate>19999,max<=1ms,mean<91µs,p50<1ms", &report),
            [
                "p99<100us: it is 148 µs",
                "errors<0.001%: it is 0.0015 %",
                "rate>19999: it is 19999",
                "max<=1ms: it is 3.62 ms",
                "mean<91µs: it is 91.9 µs",
            ]
        );
    }

    #[test]
    fn an_open_loop_is_held_to_its_response_times() {
        let report = sample::open();
        let service = report.service_time.as_ref().and_then(|times| times.percentile(99.0)).expect("a percentile");
        let response = report.response_time.as_ref().and_then(|times| times.percentile(99.0)).expect("a percentile");
        assert!(service < response);
        assert_eq!(missed(&format!("p99<={response}ms"), &report), [""; 0]);
        assert_eq!(missed(&format!("p99<={service}ms"), &report).len(), 1);
    }

    #[test]
    fn a_percentile_needs_its_responses() {
        let mut report = sample::closed();
        report.service_time = sample::distribution(5000, 90_000, 40);
        assert_eq!(missed("p99.99<1s", &report), ["p99.99 needs 100000 responses, 5000 came"]);
        assert_eq!(missed("p99.8<1s", &report), [""; 0]);
    }

    #[test]
    fn without_a_response_nothing_is_kept() {
        assert_eq!(
            missed("p50<1s,errors<50%,rate>1", &sample::failed()),
            ["p50<1s: no response came", "errors<50%: it is 100 %", "rate>1: it is 0.00"]
        );
    }

    #[test]
    fn errors_say_what_could_stand_there() {
        assert_eq!(error("error<1%"), "unknown figure `error`; did you mean `errors`?");
        assert_eq!(
            error("latency<1ms"),
            "unknown figure `latency`; known are p50 (any percentile), mean, max, errors and rate"
        );
        for percentile in ["p0<1ms", "p100<1ms", "pNaN<1ms", "p-1<1ms"] {
            assert!(error(percentile).starts_with("unknown figure"), "{percentile}");
        }
        assert_eq!(
            error("p99=5ms"),
            "`p99=5ms` is no condition; write for example `p99<5ms`, `errors<0.1%` or `rate>=50000`"
        );
        assert!(error("").contains("is no condition"));
        assert_eq!(error("rate<5"), "`rate<5`: rate needs `>` or `>=`");
        assert_eq!(error("p99>5ms"), "`p99>5ms`: p99 needs `<` or `<=`");
        assert_eq!(error("p99<5"), "`p99<5`: `5` is not a time such as 300us, 5ms or 1s");
        assert_eq!(error("errors<=1"), "`errors<=1`: `1` is not a percentage such as 0.1%");
        assert_eq!(error("rate>x"), "`rate>x`: `x` is not a number of requests a second such as 50000");
        for limit in ["", "ms", "-1ms", "1.2.3ms", "infs", "1 min"] {
            assert!(format!("max<{limit}").parse::<Slo>().is_err(), "{limit}");
        }
    }
}
