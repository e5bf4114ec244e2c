//! Options of file routes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Charset, FieldValue, MediaType, Origin, PathBeneath, Token};
use crate::config::FileRouteConfig;
use crate::config::units::Size;
use crate::file::compress;

/// Options of file routes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileOptions {
    /// The folder to serve.
    #[schemars(length(min = 1))]
    pub dir_path: Option<PathBuf>,
    /// Index files. A request for a folder gets the first that exists.
    pub index: Vec<PathBeneath>,
    /// List the contents of folders without an index file.
    pub listing: bool,
    /// Format of listings.
    pub listing_style: ListingStyle,
    /// Status for folders without an index file if `listing` is off.
    pub unlisted: Unlisted,
    /// Serve files and folders whose name begins with a dot. `.well-known` is always served.
    pub dot_files: bool,
    /// Whether symbolic links are followed.
    pub symlinks: Symlinks,
    /// File, relative to `dir_path`, to send when the requested file does not exist (for
    /// single-page applications).
    pub fallback: Option<PathBeneath>,
    /// Compress files with gzip, brotli or Zstandard, if the client accepts one of them and the
    /// result is smaller.
    pub compression: bool,
    /// Compression level of the coding that is used. A higher level takes more time. Default: a
    /// fast level of each coding.
    #[schemars(range(min = 1, max = 9))]
    pub compression_level: Option<u8>,
    /// Smaller files are not compressed.
    pub compression_min_size: Size,
    /// eXpServer's name for `compression`. If neither is set, the default of `compression` applies.
    pub gzip_enable: Option<bool>,
    /// eXpServer's name for `compression_level`; applies to gzip only. -1: the default level.
    #[schemars(range(min = -1, max = 9))]
    pub gzip_level: Option<i8>,
    /// Media types to compress in addition to the built-in list.
    pub gzip_mime_types: Vec<MediaType>,
    /// Send `FILE.br`, `FILE.zst` or `FILE.gz` instead of `FILE` to clients that accept the coding,
    /// if it is not older than `FILE`.
    pub precompressed: bool,
    /// The `charset` parameter of `Content-Type` for text. `auto`: `utf-8` if the first 64 KiB of
    /// the file are UTF-8 and not plain ASCII, otherwise none. `off`: none; the document's own
    /// declaration applies.
    pub charset: Charset,
    /// The value of `Access-Control-Allow-Origin`: `*`, an origin such as `https://example.org`, or
    /// `off`. Scripts of that origin may read the responses. Default: the top-level `cors`.
    pub cors: Option<Origin>,
    /// Changes to the fields of responses.
    pub headers: FieldRules,
}

impl Default for FileOptions {
    fn default() -> Self {
        let file_route = FileRouteConfig::default();
        Self {
            dir_path: None,
            index: file_route.index.into_iter().map(PathBeneath).collect(),
            // As in `xps serve`, and in eXpServer: its configuration files must have the same
            // meaning here.
            listing: true,
            listing_style: ListingStyle::Standard,
            unlisted: Unlisted::Forbidden,
            dot_files: file_route.dot_files,
            symlinks: Symlinks::Beneath,
            fallback: file_route.fallback.map(PathBeneath),
            compression: file_route.compression.is_some(),
            compression_level: None,
            compression_min_size: Size(usize::try_from(compress::SIZE_MIN).unwrap_or(usize::MAX)),
            gzip_enable: None,
            gzip_level: None,
            gzip_mime_types: Vec::new(),
            precompressed: file_route.precompressed,
            charset: file_route.charset,
            cors: None,
            headers: FieldRules::default(),
        }
    }
}

impl FileOptions {
    /// Whether files are compressed: `gzip_enable` if set, otherwise `compression`.
    pub fn compresses(&self) -> bool {
        self.gzip_enable.unwrap_or(self.compression)
    }

    /// The level of gzip: `gzip_level` unless it is -1 or not set, otherwise `compression_level`.
    pub fn gzip_level(&self) -> Option<u8> {
        self.gzip_level.and_then(|level| u8::try_from(level).ok()).or(self.compression_level)
    }
}

/// Format of listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListingStyle {
    /// `text/html; charset=utf-8`. Links to folders end with a slash, which saves a redirect.
    #[default]
    Standard,
    /// `text/html`. Links to folders have no slash at the end, and column titles are not links for
    /// sorting.
    Expserver,
}

impl From<ListingStyle> for crate::file::listing::Style {
    fn from(style: ListingStyle) -> Self {
        match style {
            ListingStyle::Standard => Self::Standard,
            ListingStyle::Expserver => Self::Expserver,
        }
    }
}

/// Status for a folder that has no index file and is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// 403
    #[default]
    Forbidden,
    /// 404
    NotFound,
}

/// Whether symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Symlinks {
    /// Yes, unless they lead out of the folder.
    #[default]
    Beneath,
    /// No.
    Refuse,
}

/// Changes to the header fields of a message, in this order: `remove`, `set`, `add`. A proxy
/// does not forward trailers that `remove` or `set` names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldRules {
    /// Fields to set; existing values are replaced. `Vary` always keeps the fields that the
    /// response depends on: `Accept-Encoding` if the coding varies, `Accept` for listings. Fields
    /// that describe the body (`Content-Encoding`, `Content-Range`, the type of multiple ranges)
    /// and the target of a redirect are not changed.
    #[schemars(extend("propertyNames" = { "format": "token" }))]
    pub set: BTreeMap<Token, FieldValues>,
    /// Fields to add; existing values are kept.
    #[schemars(extend("propertyNames" = { "format": "token" }))]
    pub add: BTreeMap<Token, FieldValues>,
    /// Fields to remove.
    pub remove: Vec<Token>,
}

/// One value or several. Each becomes a field line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldValues {
    /// A single value.
    One(FieldValue),
    /// A list of values.
    Several(Vec<FieldValue>),
}

impl FieldValues {
    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values.as_slice(),
        };
        values.iter().map(|value| value.0.as_str())
    }
}
