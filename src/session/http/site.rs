//! What answers in its own name, as the sessions of its listener share it: a folder that is served, or nothing but errors.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{AnswerConfig, SiteConfig};
use crate::file::store::Place;
use crate::http::ResponseHead;
use crate::http::path::DecodedPath;

/// How many there have been.
static SITES: AtomicU64 = AtomicU64::new(0);

/// One site.
#[derive(Debug)]
pub struct Site {
    /// Tells it from every other one of this process, also from those that were before it.
    pub number: u64,
    /// Where the bytes come from.
    pub source: Source,
    /// How they are served.
    pub config: SiteConfig,
    /// What all answers have.
    pub answers: AnswerConfig,
    /// The configured names of index files, for look-ups.
    pub index: Vec<CString>,
    /// The prefix of the route that leads here, which is no part of the folder's paths: decoded, without slashes around.
    pub prefix: Vec<u8>,
    /// The configured fallback.
    pub fallback: Option<CString>,
}

/// Where a site's bytes come from.
#[derive(Debug)]
pub enum Source {
    /// A folder.
    Folder(Place),
    /// Pages of the program itself: the path without its slash, and the text.
    BuiltIn(&'static [(&'static str, &'static str)]),
}

impl Site {
    /// A site that has nothing but these answers.
    pub fn nothing(answers: AnswerConfig) -> Self {
        Self::new(Source::BuiltIn(&[]), SiteConfig::default(), answers, b"")
    }

    /// A site. Names that no file can have are left out.
    pub fn new(source: Source, config: SiteConfig, answers: AnswerConfig, prefix: &[u8]) -> Self {
        let index = config.index.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
        let fallback = config.fallback.as_deref().and_then(|name| CString::new(name).ok());
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        Self { number, source, config, answers, index, fallback, prefix: prefix.to_vec() }
    }

    /// Says whose scripts may read an answer.
    pub fn admit_scripts<'v>(&self, head: ResponseHead<'v>) -> ResponseHead<'v> {
        match &self.answers.cors {
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
