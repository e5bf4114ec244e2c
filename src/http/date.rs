//! HTTP dates (RFC 9110, 5.6.7): writes the preferred form, parses all three.
//!
//! Times are whole seconds since 1970, given by the caller. This module reads no clock.

use std::time::UNIX_EPOCH;

use crate::calendar::CivilTime;

/// Last second of 31 December 9999: years have four digits.
const LAST_SECOND: u64 = 253_402_300_799;

const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// A date in the preferred form, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date of `unix_seconds`. After the year 9999 it is the last second of that year.
    pub fn new(unix_seconds: u64) -> Self {
        let time = CivilTime::from_unix_seconds(unix_seconds.min(LAST_SECOND) as i64);
        // At most 9999.
        let year = time.year as u64;
        let mut bytes = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        bytes[0..3].copy_from_slice(three_letters(WEEKDAYS, time.days_since_thursday));
        bytes[5..7].copy_from_slice(&two_digits(time.day));
        bytes[8..11].copy_from_slice(three_letters(MONTHS, time.month - 1));
        bytes[12..14].copy_from_slice(&two_digits((year / 100) as u8));
        bytes[14..16].copy_from_slice(&two_digits((year % 100) as u8));
        bytes[17..19].copy_from_slice(&two_digits(time.hour));
        bytes[20..22].copy_from_slice(&two_digits(time.minute));
        bytes[23..25].copy_from_slice(&two_digits(time.second));
        Self(bytes)
    }

    /// The 29 ASCII characters.
    pub const fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }

    /// The same time in the common log format: `06/Nov/1994:08:49:37 +0000`.
    pub fn in_log_form(&self) -> [u8; 26] {
        let mut bytes = *b"01/Jan/1970:00:00:00 +0000";
        bytes[0..2].copy_from_slice(&self.0[5..7]);
        bytes[3..6].copy_from_slice(&self.0[8..11]);
        bytes[7..11].copy_from_slice(&self.0[12..16]);
        bytes[12..20].copy_from_slice(&self.0[17..25]);
        bytes
    }

    /// The same time in the format of RFC 3339: `1994-11-06T08:49:37Z`.
    pub fn in_rfc3339(&self) -> [u8; 20] {
        let month = MONTHS.chunks(3).position(|name| *name == self.0[8..11]).unwrap_or_default();
        let mut bytes = *b"1970-01-01T00:00:00Z";
        bytes[0..4].copy_from_slice(&self.0[12..16]);
        bytes[5..7].copy_from_slice(&two_digits(month as u8 + 1));
        bytes[8..10].copy_from_slice(&self.0[5..7]);
        bytes[11..19].copy_from_slice(&self.0[17..25]);
        bytes
    }
}

/// Parses an HTTP date to seconds since 1970. `None` if it is malformed or before 1970.
pub fn parse(value: &[u8]) -> Option<u64> {
    let moment = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(moment.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The `Date` line of responses, formatted once a second.
#[derive(Clone, Copy, Debug)]
pub struct DateLine {
    unix_seconds: u64,
    line: [u8; LINE_LENGTH],
}

const LINE_NAME: &[u8; 6] = b"Date: ";
const LINE_LENGTH: usize = LINE_NAME.len() + 29 + 2;

impl DateLine {
    /// The line for that second.
    pub fn new(unix_seconds: u64) -> Self {
        let mut line = [0; LINE_LENGTH];
        let (name, rest) = line.split_at_mut(LINE_NAME.len());
        let (date, end) = rest.split_at_mut(29);
        name.copy_from_slice(LINE_NAME);
        date.copy_from_slice(HttpDate::new(unix_seconds).as_bytes());
        end.copy_from_slice(b"\r\n");
        Self { unix_seconds, line }
    }

    /// Sets the line to that second. Costs nothing if it has not changed.
    pub fn update(&mut self, unix_seconds: u64) {
        if self.unix_seconds != unix_seconds {
            *self = Self::new(unix_seconds);
        }
    }

    /// The line with its CRLF.
    pub const fn as_bytes(&self) -> &[u8; LINE_LENGTH] {
        &self.line
    }

    /// The value alone.
    pub fn value(&self) -> &[u8] {
        &self.line[LINE_NAME.len()..LINE_LENGTH - 2]
    }
}

fn three_letters(names: &[u8], number: u8) -> &[u8] {
    let at = usize::from(number) * 3;
    &names[at..at + 3]
}

/// The digits of a number below 100.
const fn two_digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_another_implementation() {
        const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
        let days = (0..=LAST_SECOND / SECONDS_PER_DAY).map(|day| day * SECONDS_PER_DAY + day * 7919 % SECONDS_PER_DAY);
        for seconds in days.step_by(11).chain([0, 1, 59, 60, 86399, 86400, 951_782_400, 784_111_777, LAST_SECOND]) {
            let expected = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(HttpDate::new(seconds).as_bytes(), expected.as_bytes(), "{seconds}");
        }
    }

    #[test]
    fn logs_have_it_in_their_forms() {
        let date = HttpDate::new(784_111_777);
        assert_eq!(&date.in_log_form(), b"06/Nov/1994:08:49:37 +0000");
        assert_eq!(&date.in_rfc3339(), b"1994-11-06T08:49:37Z");
        assert_eq!(&HttpDate::new(LAST_SECOND).in_rfc3339(), b"9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_moment_beyond_all_dates_is_the_last() {
        assert_eq!(HttpDate::new(u64::MAX).as_bytes(), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn all_three_forms_are_read() {
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(form.as_bytes()), Some(784_111_777), "{form}");
        }
    }

    #[test]
    fn row_50_bad_dates_are_no_dates() {
        for bad in
            ["", "0", "yesterday", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "Mon, 31 Dec 1900 00:00:00 GMT"]
        {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn the_line_changes_with_the_second() {
        let mut line = DateLine::new(784_111_777);
        assert_eq!(line.as_bytes(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        line.update(784_111_778);
        assert_eq!(line.as_bytes(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
    }
}
