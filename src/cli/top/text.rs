//! Numbers as people read them: three digits and a unit.

/// A number with three digits; `-` if it is not a number.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match value.abs() {
        size if size >= 9_999_500.0 => format!("{:.0}M", value / 1e6),
        size if size >= 99_950.0 => format!("{:.0}k", value / 1e3),
        size if size >= 99.95 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number of bytes.
pub(super) fn bytes(value: f64) -> String {
    let (mut value, mut unit) = (value, 0);
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(value), UNITS[unit])
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A time in seconds; `-` if it is not known.
pub(super) fn seconds(value: impl Into<Option<f64>>) -> String {
    match value.into() {
        Some(value) if !value.is_finite() => "-".to_owned(),
        Some(value) if value < 1e-3 => format!("{} us", number(value * 1e6)),
        Some(value) if value < 1.0 => format!("{} ms", number(value * 1e3)),
        Some(value) => format!("{} s", number(value)),
        None => "-".to_owned(),
    }
}

/// A part of a whole, 1 being all of it.
pub(super) fn percent(part: f64) -> String {
    if part.is_finite() { format!("{} %", number(part * 100.0)) } else { "-".to_owned() }
}

/// A long time.
pub(super) fn age(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_have_three_digits_or_all_of_an_integer() {
        let cases =
            [(0.0, "0"), (0.1234, "0.12"), (12.34, "12.3"), (123.4, "123"), (4567.0, "4567"), (123_456.0, "123k")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "-");
        assert_eq!(number(12_345_678.0), "12M");
    }

    #[test]
    fn units_fit_the_value() {
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(bytes(3.0), "3 B");
        assert_eq!([seconds(0.000_25), seconds(0.25), seconds(2.5)], ["250 us", "250 ms", "2.50 s"]);
        assert_eq!([seconds(None), seconds(f64::NAN), percent(f64::NAN)], ["-", "-", "-"]);
        assert_eq!(percent(0.125), "12.5 %");
        let ages = [59, 61, 3_700, 90_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}
