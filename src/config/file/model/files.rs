//! How files are served.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Charset, FieldValue, MediaType, Origin, PathBeneath, Token};
use crate::config::FileRouteConfig;
use crate::config::units::Size;
use crate::file::compress;

/// How files are served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileOptions {
    /// The folder.
    #[schemars(length(min = 1))]
    pub dir_path: Option<PathBuf>,
    /// Files that stand for their folder, the first that exists.
    pub index: Vec<PathBeneath>,
    /// Folders without such a file are listed.
    pub listing: bool,
    /// How listings are written.
    pub listing_style: ListingStyle,
    /// What a folder without such a file is answered with if it is not listed.
    pub unlisted: Unlisted,
    /// Files and folders whose name begins with a dot are served, too. `.well-known` always is.
    pub dot_files: bool,
    /// Whether symbolic links are followed.
    pub symlinks: Symlinks,
    /// This file, relative to `dir_path`, is sent in place of what does not exist (single-page applications).
    pub fallback: Option<PathBeneath>,
    /// Files that become smaller are sent compressed to clients that understand it: with gzip, brotli or Zstandard.
    pub compression: bool,
    /// How hard, for the coding that is used; more costs more time. Without it: a fast one of each coding.
    #[schemars(range(min = 1, max = 9))]
    pub compression_level: Option<u8>,
    /// Smaller files are sent as they are.
    pub compression_min_size: Size,
    /// eXpServer's name for `compression`; when both are absent, that one's default holds.
    pub gzip_enable: Option<bool>,
    /// eXpServer's name for `compression_level`, which gzip alone obeys; -1: the default.
    #[schemars(range(min = -1, max = 9))]
    pub gzip_level: Option<i8>,
    /// Media types that are compressed besides those that are known to gain by it.
    pub gzip_mime_types: Vec<MediaType>,
    /// A file with `.br`, `.zst` or `.gz` at its name's end, and no older than the one without, is sent in its place to
    /// clients that understand it.
    pub precompressed: bool,
    /// The charset claimed for text. `auto`: `utf-8` where the file's first 64 KiB are UTF-8 and not plain ASCII, else none.
    /// `off`: none, the document's own word holds.
    pub charset: Charset,
    /// The origin whose scripts may read the answers: `*`, one like `https://example.org`, or `off`. Without it: as the
    /// file's `cors` says.
    pub cors: Option<Origin>,
    /// Changes to the fields of answers.
    pub headers: FieldRules,
}

impl Default for FileOptions {
    fn default() -> Self {
        let file_route = FileRouteConfig::default();
        Self {
            dir_path: None,
            index: file_route.index.into_iter().map(PathBeneath).collect(),
            // As `xps serve` does, and eXpServer, whose files are to mean here what they mean there.
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
    /// Whether files are compressed, by whichever of the two names it was said.
    pub fn compresses(&self) -> bool {
        self.gzip_enable.unwrap_or(self.compression)
    }

    /// The level demanded of gzip, if any.
    pub fn gzip_level(&self) -> Option<u8> {
        self.gzip_level.and_then(|level| u8::try_from(level).ok()).or(self.compression_level)
    }
}

/// How listings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListingStyle {
    /// As `text/html; charset=utf-8`; links to folders end with a slash, which saves a redirect.
    #[default]
    Standard,
    /// As `text/html`; links to folders have no slash at the end, titles no links to sort by.
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

/// What a folder is answered with that has no index file and is not listed.
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
    /// As long as they do not lead out of the folder.
    #[default]
    Beneath,
    /// Not at all.
    Refuse,
}

/// Changes to the fields of a head, in this order: `remove`, `set`, `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldRules {
    /// Fields to give this value, in place of any they have. A `Vary` keeps what an answer depends on: `Accept-Encoding` where
    /// codings vary, `Accept` for listings. What says what the body is (`Content-Encoding`, `Content-Range`, the type of
    /// several ranges) and where a redirect leads stays as it is.
    #[schemars(extend("propertyNames" = { "format": "token" }))]
    pub set: BTreeMap<Token, FieldValues>,
    /// Fields to add to any there are.
    #[schemars(extend("propertyNames" = { "format": "token" }))]
    pub add: BTreeMap<Token, FieldValues>,
    /// Fields to leave out.
    pub remove: Vec<Token>,
}

/// One value, or several: one field line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldValues {
    /// One.
    One(FieldValue),
    /// Several.
    Several(Vec<FieldValue>),
}

impl FieldValues {
    /// Them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values.as_slice(),
        };
        values.iter().map(|value| value.0.as_str())
    }
}
