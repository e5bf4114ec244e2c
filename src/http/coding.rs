//! Content codings (RFC 9110, 8.4.1).

/// A content coding. The identity, no coding, is the `None` of an `Option<Coding>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952
    Gzip,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

impl Coding {
    /// All codings, the densest at its default level first: the order in which precompressed files
    /// are tried.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name, as in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of this name, in any case. `None`: unknown.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            2 if is("br") => Some(Self::Brotli),
            4 if is("gzip") => Some(Self::Gzip),
            4 if is("zstd") => Some(Self::Zstd),
            // RFC 9110, 8.4.1.3: an old name of gzip.
            6 if is("x-gzip") => Some(Self::Gzip),
            _ => None,
        }
    }

    /// The suffix of an entity tag.
    pub(super) const fn tag_mark(self) -> &'static str {
        match self {
            Self::Gzip => "-gz",
            Self::Brotli => "-br",
            Self::Zstd => "-zst",
        }
    }
}
