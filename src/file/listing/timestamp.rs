//! A time as a readable date in UTC.

use crate::file::inline_text::InlineText;

const DAY_S: i64 = 86_400;

/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// A date and a time of day in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timestamp {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
}

impl Timestamp {
    /// The time `nanos` nanoseconds after the start of 1970.
    pub(super) const fn new(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        // Counted from the 1st of March of the year 0, so that the leap day is the last of its year.
        let days = seconds.div_euclid(DAY_S) + 719_468;
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        // Without the leap days before it, every year has 365.
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // From March on, any five months have 153 days.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + (month <= 2) as i64;
        Self { year, month, day, second_of_day: seconds.rem_euclid(DAY_S) }
    }

    /// ISO 8601: `2024-02-29T23:59:59Z`. The date is the first 10 bytes, the time of day the 8 from the 11th on.
    pub(super) fn text(self) -> InlineText<20> {
        let second = self.second_of_day;
        let (date, time) = ((self.year, self.month, self.day), (second / 3600, second / 60 % 60, second % 60));
        InlineText::format(format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.0, date.1, date.2, time.0, time.1, time.2
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn moments_are_written_as_iso_8601_says() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(Timestamp::new(seconds * 1_000_000_000).text().as_str(), expected);
        }
        assert_eq!(Timestamp::new(i64::MIN).text().as_str(), "1677-09-21T00:12:43Z");
        assert_eq!(Timestamp::new(i64::MAX).text().as_str(), "2262-04-11T23:47:16Z");
    }

    #[test]
    fn every_day_of_two_centuries_is_what_the_http_date_says() {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        for day in 0..73_000_u64 {
            let seconds = day * 86_400 + day % 86_400;
            let ours = Timestamp::new(seconds as i64 * 1_000_000_000);
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let month = MONTHS[ours.month as usize - 1];
            assert_eq!(format!("{:02} {month} {} {}", ours.day, ours.year, &ours.text().as_str()[11..19]), http[5..25]);
        }
    }
}
