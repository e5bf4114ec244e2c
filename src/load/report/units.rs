//! Figures as text: the unit is chosen by the size.

/// A time, in a unit that leaves one to three digits before the point: `12.3 µs`.
pub fn time(millis: f64) -> String {
    let (value, unit) = scaled_time(millis);
    format!("{value} {unit}")
}

/// The same, ten columns wide, so that points of a column's values and units stand below each other as far as
/// their digits allow.
pub(super) fn time_column(millis: f64) -> String {
    let (value, unit) = scaled_time(millis);
    format!("{value:>7} {unit:<2}")
}

fn scaled_time(millis: f64) -> (String, &'static str) {
    // A value that rounding would give a fourth digit takes the next unit.
    const ROUNDED_UP: f64 = 0.9995;
    if millis < ROUNDED_UP {
        (three_digits(millis * 1e3), "µs")
    } else if millis < ROUNDED_UP * 1e3 {
        (three_digits(millis), "ms")
    } else {
        (three_digits(millis / 1e3), "s")
    }
}

/// A number of bytes in powers of 1024: `1.23 MiB`.
pub fn bytes(count: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let value = if unit == 0 { format!("{value:.0}") } else { three_digits(value) };
    format!("{value} {}", UNITS[unit])
}

/// Something for each second: whole from 1000 on.
pub fn rate(per_second: f64) -> String {
    three_digits(per_second)
}

/// A part of 1 in percent: `0.012 %`.
pub fn share(part: f64) -> String {
    let percent = part * 100.0;
    if percent > 0.0 && percent < 0.095 {
        // Two digits after the zeros.
        let decimals = (1.0 - percent.log10().floor()).min(12.0) as usize;
        format!("{percent:.decimals$} %")
    } else {
        format!("{} %", three_digits(percent))
    }
}

/// A percentile's name: `99.9 %`.
pub fn percentile(percent: f64) -> String {
    format!("{percent} %")
}

/// At least three digits that count: none is cut off before the point.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Text of others on one line of a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_in_the_unit_of_its_size() {
        for (millis, text) in [
            (0.0, "0.00 µs"),
            (0.000_123, "0.12 µs"),
            (0.0123, "12.3 µs"),
            (0.999_4, "999 µs"),
            (0.999_6, "1.00 ms"),
            (9.996, "10.0 ms"),
            (123.4, "123 ms"),
            (999.6, "1.00 s"),
            (61_234.0, "61.2 s"),
            (3_600_000.0, "3600 s"),
        ] {
            assert_eq!(time(millis), text, "{millis}");
            assert_eq!(time_column(millis).chars().count(), 10, "{millis}");
        }
    }

    #[test]
    fn bytes_rates_and_shares_have_the_digits_that_count() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(999.0), "999 B");
        assert_eq!(bytes(1000.0), "0.98 KiB");
        assert_eq!(bytes(1_048_576.0), "1.00 MiB");
        assert_eq!(bytes(1e15), "909 TiB");
        assert_eq!(rate(0.5), "0.50");
        assert_eq!(rate(123_456.7), "123457");
        assert_eq!(share(0.5), "50.0 %");
        assert_eq!(share(0.0), "0.00 %");
        assert_eq!(share(0.000_000_1), "0.000010 %");
        assert_eq!(share(0.000_15), "0.015 %");
        assert_eq!(percentile(99.9), "99.9 %");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nµ"), "a\\u{1b}[2J\\nµ");
    }
}
