//! What answers in its own name, as the sessions of its listener share it: a folder that is served, or nothing but errors.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{FileRouteConfig, ResponseConfig};
use crate::file::store::RootPath;
use crate::http::ResponseHeadWriter;
use crate::http::path::DecodedPath;

/// How many there have been.
static FILE_ROUTES: AtomicU64 = AtomicU64::new(0);

/// One file route.
#[derive(Debug)]
pub struct FileRoute {
    /// Tells it from every other one of this process, also from those that were before it.
    pub number: u64,
    /// Where the bytes come from.
    pub source: Source,
    /// How they are served.
    pub config: FileRouteConfig,
    /// What all responses have.
    pub responses: ResponseConfig,
    /// The configured names of index files, for look-ups.
    pub index: Vec<CString>,
    /// The prefix of the route that leads here, which is no part of the folder's paths: decoded, without slashes around.
    pub prefix: Vec<u8>,
    /// The configured fallback.
    pub fallback: Option<CString>,
}

/// Where a file route's bytes come from.
#[derive(Debug)]
pub enum Source {
    /// A folder.
    Folder(RootPath),
    /// Pages of the program itself: the path without its slash, and the text.
    BuiltIn(&'static [(&'static str, &'static str)]),
}

impl FileRoute {
    /// A file route that has nothing but these responses.
    pub fn nothing(responses: ResponseConfig) -> Self {
        Self::new(Source::BuiltIn(&[]), FileRouteConfig::default(), responses, b"")
    }

    /// A file route. Names that no file can have are left out.
    pub fn new(source: Source, config: FileRouteConfig, responses: ResponseConfig, prefix: &[u8]) -> Self {
        let index = config.index.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
        let fallback = config.fallback.as_deref().and_then(|name| CString::new(name).ok());
        let number = FILE_ROUTES.fetch_add(1, Ordering::Relaxed);
        Self { number, source, config, responses, index, fallback, prefix: prefix.to_vec() }
    }

    /// Says whose scripts may read a response.
    pub fn admit_scripts<'v>(&self, head: ResponseHeadWriter<'v>) -> ResponseHeadWriter<'v> {
        match &self.responses.cors {
            Some(origin) => head.field("Access-Control-Allow-Origin", origin),
            None => head,
        }
    }

    /// Whether a path leads to or through a dot file that is not to be seen. The route's own prefix was written down by
    /// whoever wants it served; what `.well-known` holds is meant for everybody (RFC 8615).
    pub fn hides(&self, path: &DecodedPath) -> bool {
        if self.config.dot_files || !path.has_dot_segment() {
            return false;
        }
        let outer = self.prefix.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).count();
        let mut inner = path.segments().enumerate().skip(outer);
        inner.any(|(index, segment)| segment.starts_with(b".") && !(index == 0 && segment == b".well-known"))
    }
}
