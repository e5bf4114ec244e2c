//! The server's own responses of a route: a served folder, built-in pages, or only errors.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::SymlinkPolicy;
use crate::file::compress::Compression;
use crate::file::listing;
use crate::file::store::RootPath;
use crate::http::charset::Charset;
use crate::http::error_page::ErrorPages;
use crate::http::path::DecodedPath;
use crate::http::{HeadBuilder, HeadSink, Status};

/// The number of the next file route.
static FILE_ROUTES: AtomicU64 = AtomicU64::new(0);

/// The settings of the server's own responses, shared by the sessions of a listener.
#[derive(Debug)]
pub struct FileRoute {
    /// Unique in this process, also among file routes of earlier configurations.
    pub number: u64,
    /// The folder or pages that are served.
    pub source: Source,
    /// The options for serving files.
    pub config: FileRouteConfig,
    /// The options of all responses.
    pub responses: ResponseConfig,
    /// Pages that replace the built-in error pages.
    pub error_pages: ErrorPages,
    /// The names of index files, for look-ups.
    pub index: Vec<CString>,
    /// The prefix of the route, which is not part of the paths in the folder: decoded, without
    /// slashes around it.
    pub prefix: Vec<u8>,
    /// The file to serve if no other is found.
    pub fallback: Option<CString>,
}

/// A route that serves files from a folder.
#[derive(Clone, Debug)]
pub struct FileRouteConfig {
    /// The folder. `None`: the built-in welcome pages.
    pub root: Option<PathBuf>,
    /// Index files. A request for a folder gets the first that exists.
    pub index: Vec<String>,
    /// Whether folders without an index file are listed.
    pub listing: bool,
    /// Format of listings.
    pub listing_style: listing::Style,
    /// Status for folders without an index file if `listing` is off.
    pub unlisted: Status,
    /// Whether files and folders whose name begins with a dot are served. `.well-known` always is.
    pub dot_files: bool,
    /// File, relative to the root, that is sent when the requested file does not exist (for
    /// single-page applications).
    pub fallback: Option<String>,
    /// How symbolic links are handled.
    pub symlinks: SymlinkPolicy,
    /// Compression of files, if the client accepts it and the result is smaller. `None`: no
    /// compression.
    pub compression: Option<Compression>,
    /// Whether `FILE.br`, `FILE.zst` or `FILE.gz` is sent instead of `FILE` to clients that accept
    /// the coding, if it is not older than `FILE`.
    pub precompressed: bool,
    /// The `charset` parameter of `Content-Type` for text.
    pub charset: Charset,
}

impl Default for FileRouteConfig {
    /// The welcome pages, without listings.
    fn default() -> Self {
        Self {
            root: None,
            index: vec!["index.html".into()],
            listing: false,
            listing_style: listing::Style::Standard,
            unlisted: Status::FORBIDDEN,
            dot_files: false,
            fallback: None,
            symlinks: SymlinkPolicy::Follow,
            compression: Some(Compression::default()),
            precompressed: true,
            charset: Charset::Auto,
        }
    }
}

/// Settings of responses that xps generates itself.
#[derive(Clone, Debug)]
pub struct ResponseConfig {
    /// The `Server` field. `None`: no such field.
    pub server_name: Option<String>,
    /// Fields added to every response that is not an error.
    pub fields: Vec<(String, String)>,
    /// Fields removed from error responses.
    pub without: Vec<String>,
    /// Fields removed from all other responses: those of `without`, and those that `fields`
    /// replaces.
    pub replaced: Vec<String>,
    /// Files that replace the built-in error pages. Absolute paths.
    pub error_pages: Vec<(Status, PathBuf)>,
    /// The value of `Access-Control-Allow-Origin`: the origin whose scripts may read the responses.
    pub cors: Option<String>,
    /// The value of `Strict-Transport-Security`, only for responses over TLS (RFC 6797).
    pub hsts: Option<String>,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        let server_name = Some("xps".to_owned());
        Self {
            server_name,
            fields: Vec::new(),
            without: Vec::new(),
            replaced: Vec::new(),
            error_pages: Vec::new(),
            cors: None,
            hsts: None,
        }
    }
}

/// The content of a file route.
#[derive(Debug)]
pub enum Source {
    /// A folder on disk.
    Folder(RootPath),
    /// Built-in pages: the path without the leading slash, and the text.
    BuiltIn(&'static [(&'static str, &'static str)]),
}

impl FileRoute {
    /// A file route without files: every path gets a 404.
    pub fn nothing(responses: ResponseConfig, error_pages: ErrorPages) -> Self {
        Self::new(Source::BuiltIn(&[]), FileRouteConfig::default(), responses, error_pages, b"")
    }

    /// A file route. Names that no file can have (with a NUL) are left out.
    pub fn new(
        source: Source,
        config: FileRouteConfig,
        responses: ResponseConfig,
        error_pages: ErrorPages,
        prefix: &[u8],
    ) -> Self {
        let index = config.index.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
        let fallback = config.fallback.as_deref().and_then(|name| CString::new(name).ok());
        let number = FILE_ROUTES.fetch_add(1, Ordering::Relaxed);
        Self { number, source, config, responses, error_pages, index, fallback, prefix: prefix.to_vec() }
    }

    /// Adds the configured fields for browsers that every response has, errors too:
    /// `Access-Control-Allow-Origin` and `Strict-Transport-Security`.
    pub fn add_browser_fields<'v, S: HeadSink>(&self, mut head: HeadBuilder<'v, S>) -> HeadBuilder<'v, S> {
        if let Some(origin) = &self.responses.cors {
            head = head.field("Access-Control-Allow-Origin", origin);
        }
        if let Some(hsts) = &self.responses.hsts {
            head = head.field("Strict-Transport-Security", hsts);
        }
        head
    }

    /// Whether a path leads to or through a hidden dot file. The prefix of the route is exempt,
    /// since it is configured on purpose. A top-level `.well-known` is exempt, since it is public
    /// (RFC 8615).
    pub fn hides(&self, path: &DecodedPath) -> bool {
        if self.config.dot_files || !path.has_dot_segment() {
            return false;
        }
        let outer = self.prefix.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).count();
        let mut inner = path.segments().enumerate().skip(outer);
        inner.any(|(index, segment)| segment.starts_with(b".") && !(index == 0 && segment == b".well-known"))
    }
}
