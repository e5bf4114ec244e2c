//! Sizes and times as text, on the command line and in the configuration file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::http::request::HEAD_BYTES_CEILING;

/// A number of bytes: `65536`, `64k`, `64KiB`, `1m`, `2g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

impl Size {
    /// For clap: a size of one byte or more.
    ///
    /// # Errors
    /// It is not a size, or zero.
    pub fn parse_positive(text: &str) -> Result<Self, UnitError> {
        text.parse().and_then(|size: Self| if size.0 == 0 { Err(UnitError::Zero) } else { Ok(size) })
    }

    /// For clap: the maximum size of a request head.
    ///
    /// # Errors
    /// It is not a size from 1 to [`HEAD_BYTES_CEILING`].
    pub fn parse_head(text: &str) -> Result<Self, UnitError> {
        Self::parse_positive(text)
            .and_then(|size| if size.0 > HEAD_BYTES_CEILING { Err(UnitError::Head) } else { Ok(size) })
    }

    /// For clap: the memory of a pool of buffers.
    ///
    /// # Errors
    /// It is not a size from [`BUFFERS_BYTES_MIN`] to [`BUFFERS_BYTES_MAX`].
    pub fn parse_buffers(text: &str) -> Result<Self, UnitError> {
        let is_possible = |size: Self| (BUFFERS_BYTES_MIN..=BUFFERS_BYTES_MAX).contains(&size.0);
        text.parse().and_then(|size| if is_possible(size) { Ok(size) } else { Err(UnitError::Buffers) })
    }
}

/// With less than this, a few connections with bulk data would occupy all buffers.
pub const BUFFERS_BYTES_MIN: usize = 4 << 20;

/// The pool numbers the buffers of each size in 16 bits: 1 GiB of small ones of 16 KiB, 16 GiB of large ones of 256 KiB.
pub const BUFFERS_BYTES_MAX: usize = 17 << 30;

/// A duration: `250ms`, `30s`, `5m`, `1m30s`, `2h`, `1d`. A number without a unit is in seconds.
/// `0` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// The text is malformed or out of range. The message says what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("not a size: write a number with k, m or g, for example 64k")]
    Size,
    /// A size of zero where one byte is the minimum.
    #[error("must be at least 1")]
    Zero,
    /// Too large a head.
    #[error("must be at most 64k: positions in a head are 16 bits")]
    Head,
    /// Too few buffers, or too many.
    #[error("must be from 4m to 17g: buffers are numbered in 16 bits")]
    Buffers,
    /// Not a time.
    #[error("not a time: write a number with ms, s, m, h or d, for example 30s")]
    Period,
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_digits(text);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err(UnitError::Size),
        };
        let number: usize = number.parse().map_err(|_| UnitError::Size)?;
        number.checked_mul(1 << shift).map(Self).ok_or(UnitError::Size)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text;
        let mut sum_ms: u64 = 0;
        // Each unit must be smaller than the one before, so that none is given twice.
        let mut larger_unit_ms = u64::MAX;
        loop {
            let (number, unit_and_more) = split_digits(rest);
            let unit_and_more = unit_and_more.trim_start();
            let unit_length = unit_and_more.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, more) = unit_and_more.split_at(unit_length);
            let unit_ms = match unit {
                "ms" => 1,
                "" | "s" => 1000,
                "m" | "min" => 60 * 1000,
                "h" => 60 * 60 * 1000,
                "d" => 24 * 60 * 60 * 1000,
                _ => return Err(UnitError::Period),
            };
            if unit_ms >= larger_unit_ms {
                return Err(UnitError::Period);
            }
            larger_unit_ms = unit_ms;
            let number: u64 = number.parse().map_err(|_| UnitError::Period)?;
            let part_ms = number.checked_mul(unit_ms).ok_or(UnitError::Period)?;
            sum_ms = sum_ms.checked_add(part_ms).ok_or(UnitError::Period)?;
            rest = more.trim_start();
            if rest.is_empty() {
                return Ok(Self(Duration::from_millis(sum_ms)));
            }
        }
    }
}

/// The digits, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}m", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0"),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64k", 65536), ("64KiB", 65536), ("1m", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "k", "-1", "1.5k", "1x", "99999999999g"] {
            assert_eq!(text.parse::<Size>(), Err(UnitError::Size), "{text}");
        }
        assert_eq!(Size(256 << 10).to_string(), "256k");
        assert_eq!(Size::parse_positive("0k"), Err(UnitError::Zero));
        assert_eq!(Size::parse_buffers("1m"), Err(UnitError::Buffers));
        assert_eq!(Size::parse_buffers("18g"), Err(UnitError::Buffers));
        assert_eq!(Size::parse_buffers("17g"), Ok(Size(BUFFERS_BYTES_MAX)));
        assert_eq!(Size::parse_head("64k"), Ok(Size(HEAD_BYTES_CEILING)));
        assert_eq!((Size::parse_head("65537"), Size::parse_head("0")), (Err(UnitError::Head), Err(UnitError::Zero)));
        assert_eq!(Size::parse_buffers("4m"), Ok(Size(BUFFERS_BYTES_MIN)));
    }

    #[test]
    fn times() {
        let cases = [
            ("0", 0),
            ("250ms", 250),
            ("30", 30_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1h 500ms", 3_600_500),
        ];
        for (text, ms) in cases {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 week", "30s1m", "1s1s", "1m30s5", "213503982335d", "1é"] {
            assert_eq!(text.parse::<Period>(), Err(UnitError::Period), "{text}");
        }
        assert_eq!(Period(Duration::from_secs(600)).to_string(), "10m");
    }
}
