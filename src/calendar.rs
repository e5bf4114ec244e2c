//! [`CivilTime`]: a time as date and time of day, in UTC and in the Gregorian calendar.
//!
//! It reads no clock.

use std::fmt;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    /// The year; 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// Days since Thursday, 0 to 6.
    pub days_since_thursday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59: leap seconds are not counted.
    pub second: u8,
}

impl CivilTime {
    /// The time this many seconds after the start of 1970, which was a Thursday.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            days_since_thursday: days.rem_euclid(7) as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }
}

/// The format of RFC 3339: `1994-11-06T08:49:37Z`; 20 characters for the years 0 to 9999.
impl fmt::Display for CivilTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month from 1, and day from 1, of a day since 1970.
///
/// Years are counted from March, so that a leap day is the last day of a year.
const fn date_of(days: i64) -> (i64, u8, u8) {
    const DAYS_BEFORE_1970: i64 = 719_468; // since 1 March of the year 0
    const DAYS_PER_400_YEARS: i64 = 146_097; // after which the calendar repeats
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day) = (days.div_euclid(DAYS_PER_400_YEARS), days.rem_euclid(DAYS_PER_400_YEARS));
    // Without leap days all years have 365 days. There is one every 1,461 days, except every
    // 36,524, except every 146,096.
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on, each five months have 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let is_next_year = month_from_march >= 10;
    let month = if is_next_year { month_from_march - 9 } else { month_from_march + 3 };
    (cycle * 400 + year_of_cycle + is_next_year as i64, month as u8, day_of_month as u8)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            // The first and the last second that fit into nanoseconds of 64 bits.
            (-9_223_372_037, "1677-09-21T00:12:43Z"),
            (9_223_372_036, "2262-04-11T23:47:16Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(CivilTime::from_unix_seconds(seconds).to_string(), expected);
        }
    }

    #[test]
    fn every_day_of_two_centuries_is_what_the_http_date_says() {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        for day in 0..73_000_u64 {
            let seconds = day * 86_400 + day % 86_400;
            let ours = CivilTime::from_unix_seconds(seconds as i64);
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let month = MONTHS[usize::from(ours.month) - 1];
            assert_eq!(format!("{:02} {month} {} {}", ours.day, ours.year, &ours.to_string()[11..19]), http[5..25]);
        }
    }
}
