//! Compression of files: names of precompressed files, levels, and the codings' encoders.
//!
//! The module does not read requests, so it does not know which codings a client accepts. The
//! caller caches the result and chooses the thread.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use crate::http::Coding;
use crate::http::media_type::MediaType;

/// Default of the smallest size that is compressed: below it, compression saves no packet worth the
/// work. Bytes.
pub const SIZE_MIN: u64 = 1024;

/// Largest size that is compressed on the fly: a larger result could not be cached. Bytes.
pub const SIZE_MAX: u64 = 8 << 20;

/// Window size that every web decoder accepts: RFC 9659 permits 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// RFC 7932 permits 10 to 24. A window larger than the file costs time and memory, here and in
/// every client.
const BROTLI_WINDOW_LOGS: RangeInclusive<u32> = 16..=22;

/// Size of the brotli encoder's output buffer.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Compression level; its meaning depends on the coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// The level of this number; `None`: `coding` does not have it.
    pub fn new(coding: Coding, level: u8) -> Option<Self> {
        Self::range(coding).contains(&level).then_some(Self(level))
    }

    /// The default for compression on the fly, above which time grows much and size falls little.
    pub const fn default_of(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self(6),
            Coding::Brotli => Self(5),
            Coding::Zstd => Self(6),
        }
    }

    /// The levels of a coding. Zstandard levels above 19 are not offered, since they need too much
    /// memory.
    pub const fn range(coding: Coding) -> RangeInclusive<u8> {
        match coding {
            Coding::Gzip => 1..=9,
            Coding::Brotli => 0..=11,
            Coding::Zstd => 1..=19,
        }
    }

    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The file name suffix of a precompressed file.
pub const fn suffix(coding: Coding) -> &'static str {
    match coding {
        Coding::Gzip => ".gz",
        Coding::Brotli => ".br",
        Coding::Zstd => ".zst",
    }
}

/// Settings of compression on the fly.
#[derive(Clone, Debug)]
pub struct Compression {
    /// Smallest size that is compressed. Bytes.
    pub size_min: u64,
    /// Media types to compress in addition to the built-in ones.
    pub more_types: Vec<String>,
    /// Level, limited to the range of each coding; `None`: [`Level::default_of`].
    pub level: Option<u8>,
    /// Level for gzip, in place of `level`.
    pub gzip_level: Option<u8>,
}

impl Default for Compression {
    fn default() -> Self {
        Self { size_min: SIZE_MIN, more_types: Vec::new(), level: None, gzip_level: None }
    }
}

impl Compression {
    /// The level for a coding.
    pub fn level(&self, coding: Coding) -> Level {
        let own = if coding == Coding::Gzip { self.gzip_level } else { None };
        let levels = Level::range(coding);
        match own.or(self.level) {
            Some(level) => Level(level.clamp(*levels.start(), *levels.end())),
            None => Level::default_of(coding),
        }
    }

    /// Whether files of this type may be compressed.
    pub fn covers(&self, media_type: MediaType) -> bool {
        let is_it = |name: &String| name.eq_ignore_ascii_case(media_type.as_str());
        media_type.is_compressible() || self.more_types.iter().any(is_it)
    }

    /// Whether to compress a file of this type and size.
    pub fn is_worth_trying(&self, media_type: MediaType, size: u64) -> bool {
        (self.size_min..=SIZE_MAX).contains(&size) && self.covers(media_type)
    }
}

/// Whether compression saves more than a sixteenth, so that the result is sent instead of the file.
pub const fn is_worth_sending(size: u64, coded: u64) -> bool {
    coded < size - size / 16
}

/// Compresses `bytes`. The output is deterministic, so an entity tag derived from the file's stays
/// valid.
///
/// # Errors
/// The library cannot allocate memory. Then the file is sent uncompressed.
pub fn compress(coding: Coding, level: Level, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => gzip(level, bytes),
        Coding::Brotli => brotli(level, bytes),
        Coding::Zstd => zstd(level, bytes),
    }
}

fn gzip(level: Level, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(likely_size(bytes));
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(u32::from(level.0)));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(level: Level, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(likely_size(bytes));
    let window_log = bytes.len().checked_ilog2().map_or(0, |log| log + 1);
    let window_log = window_log.clamp(*BROTLI_WINDOW_LOGS.start(), *BROTLI_WINDOW_LOGS.end());
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: i32::from(level.0),
        lgwin: window_log as i32,
        size_hint: bytes.len(),
        ..Default::default()
    };
    let mut encoder = brotli::CompressorWriter::with_params(out, BROTLI_BUFFER_BYTES, &parameters);
    encoder.write_all(bytes)?;
    Ok(encoder.into_inner())
}

fn zstd(level: Level, bytes: &[u8]) -> io::Result<Vec<u8>> {
    use zstd::zstd_safe::CParameter;
    let mut encoder = zstd::stream::Encoder::new(Vec::with_capacity(likely_size(bytes)), i32::from(level.0))?;
    // The size lets the library choose its tables, and a window no larger than needed.
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.include_contentsize(true)?;
    if bytes.len() as u64 > 1 << ZSTD_WINDOW_LOG_MAX {
        encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX))?;
    }
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Text usually shrinks to a quarter or a third.
const fn likely_size(bytes: &[u8]) -> usize {
    bytes.len() / 3 + 64
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decompress(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut bytes),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut bytes),
            Coding::Zstd => zstd::stream::Decoder::new(coded).and_then(|mut decoder| decoder.read_to_end(&mut bytes)),
        }
        .unwrap();
        bytes
    }

    #[test]
    fn every_coding_at_every_level_can_be_undone_and_is_worth_sending() {
        let text = "A line of text, as there are many.\n".repeat(300).into_bytes();
        for coding in Coding::ALL {
            for number in Level::range(coding) {
                let level = Level::new(coding, number).unwrap();
                let coded = compress(coding, level, &text).unwrap();
                assert!(is_worth_sending(text.len() as u64, coded.len() as u64), "{coding:?} {number}");
                assert_eq!(decompress(coding, &coded), text, "{coding:?} {number}");
            }
        }
    }

    #[test]
    fn the_same_file_is_compressed_to_the_same_bytes() {
        let text = "text ".repeat(1000).into_bytes();
        for coding in Coding::ALL {
            let once = || compress(coding, Level::default_of(coding), &text).unwrap();
            assert_eq!(once(), once());
        }
    }

    #[test]
    fn a_file_larger_than_the_window_keeps_within_what_clients_accept() {
        let large = vec![b'a'; 9 << 20];
        let coded = compress(Coding::Zstd, Level::new(Coding::Zstd, 19).unwrap(), &large).unwrap();
        let mut decoder = zstd::stream::Decoder::new(&coded[..]).unwrap();
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).unwrap();
        assert_eq!(std::io::copy(&mut decoder, &mut std::io::sink()).unwrap(), large.len() as u64);
    }

    #[test]
    fn small_files_and_compressed_ones_are_left_alone() {
        let (html, png) = (MediaType::of_name(b"a.html"), MediaType::of_name(b"a.png"));
        let usual = Compression::default();
        assert!(usual.is_worth_trying(html, SIZE_MIN) && usual.is_worth_trying(html, SIZE_MAX));
        assert!(!usual.is_worth_trying(html, SIZE_MIN - 1) && !usual.is_worth_trying(html, SIZE_MAX + 1));
        assert!(!usual.is_worth_trying(png, SIZE_MIN));
        let eager = Compression { size_min: 1, more_types: vec!["Image/PNG".into()], ..usual };
        assert!(eager.is_worth_trying(png, 1) && !eager.is_worth_trying(png, 0));
        assert!(!is_worth_sending(1600, 1500) && is_worth_sending(1600, 1499) && !is_worth_sending(0, 0));
    }

    #[test]
    fn each_coding_has_a_level_of_its_own() {
        let hard = Compression { level: Some(200), gzip_level: Some(1), ..Compression::default() };
        assert_eq!(hard.level(Coding::Gzip), Level(1));
        assert_eq!(hard.level(Coding::Zstd), Level(19));
        assert_eq!(Compression::default().level(Coding::Brotli), Level::default_of(Coding::Brotli));
    }

    #[test]
    fn levels_that_a_coding_does_not_have_are_refused() {
        assert_eq!(Level::new(Coding::Gzip, 0), None);
        assert_eq!(Level::new(Coding::Brotli, 12), None);
        assert_eq!(Level::new(Coding::Zstd, 20), None);
        for coding in Coding::ALL {
            assert!(Level::range(coding).contains(&Level::default_of(coding).0));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_can_be_compressed_and_restored(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            for coding in Coding::ALL {
                let coded = compress(coding, Level::default_of(coding), &bytes).unwrap();
                prop_assert_eq!(&decompress(coding, &coded), &bytes);
            }
        }
    }
}
