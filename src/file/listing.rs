//! The listing of a folder, as an HTML page or as JSON.
//!
//! It sorts and writes; it does not read folders. Names are bytes: shown as closely as possible,
//! linked exactly. All work but the sorting is linear in the number of entries. A large listing is
//! written in pieces, so that it is never in memory as a whole. The entries and their orders are
//! shared by all responses that send them.

mod escape;
mod html;
mod json;
mod listed;
mod order;

use std::rc::Rc;

pub use listed::Listed;
pub use order::{Column, Direction, Sort};

use crate::calendar::CivilTime;
use crate::driver::{FileInfo, FileKind};

/// The `Content-Security-Policy` of the page: its own style, nothing else.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Approximate size of the pieces of a [`Stream`]. Bytes.
pub const PIECE_BYTES: usize = 64 << 10;

/// An entry of a folder: its name, and its metadata.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    name: &'a [u8],
    info: &'a FileInfo,
}

impl Entry<'_> {
    /// When the file was last modified, to the second before.
    const fn modified(&self) -> CivilTime {
        CivilTime::from_unix_seconds(self.info.modified_ns.div_euclid(1_000_000_000))
    }
}

/// Options of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Show names that begin with a dot.
    pub shows_dot_files: bool,
    /// Compatibility style.
    pub style: Style,
}

/// Differences between listings of xps and of eXpServer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Links to folders end with a slash, which saves a redirect; column titles are links that
    /// sort.
    #[default]
    Standard,
    /// Links to folders have no trailing slash, and the media type is exactly `text/html`.
    Expserver,
}

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/html`: a complete page without scripts.
    Html,
    /// `application/json`: an object with the path and an array of entries.
    Json,
}

impl Format {
    /// The value of `Content-Type`.
    pub const fn content_type(self, style: Style) -> &'static str {
        match (self, style) {
            (Self::Html, Style::Standard) => "text/html; charset=utf-8",
            // The page declares the charset itself.
            (Self::Html, Style::Expserver) => "text/html",
            (Self::Json, _) => "application/json",
        }
    }
}

/// A folder's listing in one order.
#[derive(Clone, Debug)]
pub struct Listing {
    folder: Folder,
    listed: Rc<Listed>,
    sort: Sort,
    options: Options,
}

impl Listing {
    /// A listing in this order; sorts if that order has not been computed. `path` is the folder's
    /// path in the URL, percent-decoded.
    pub fn new(path: &[u8], listed: Rc<Listed>, sort: Sort, options: Options) -> Self {
        Self { folder: Folder::new(path, options.style), listed, sort, options }
    }

    /// The entry at this index of the order. `Some(None)`: it is hidden; `None`: there are no more.
    fn entry(&self, index: usize) -> Option<Option<Entry<'_>>> {
        let entry = self.listed.entry(self.sort, index)?;
        Some(Some(entry).filter(|entry| self.options.shows_dot_files || !entry.name.starts_with(b".")))
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..).map_while(|index| self.entry(index)).flatten()
    }

    /// The complete listing.
    pub fn render(self, format: Format) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096 + self.listed.entries().len() * 256);
        let mut stream = self.stream(format);
        while stream.write(usize::MAX, &mut out) {}
        out
    }

    /// The complete listing, in pieces.
    pub const fn stream(self, format: Format) -> Stream {
        Stream { listing: self, format, next: Next::Head }
    }
}

/// A listing in progress of being written.
#[derive(Clone, Debug)]
pub struct Stream {
    listing: Listing,
    format: Format,
    next: Next,
}

/// The next part to write.
#[derive(Clone, Copy, Debug)]
enum Next {
    Head,
    /// This row and those after it.
    Rows {
        index: usize,
        is_first: bool,
    },
    Tail,
    Nothing,
}

impl Stream {
    /// Appends to `out` until it has `bytes_min` bytes or the listing is complete, but at least one
    /// part. Returns whether more follows.
    pub fn write(&mut self, bytes_min: usize, out: &mut Vec<u8>) -> bool {
        loop {
            self.next = match self.next {
                Next::Head => {
                    self.write_head(out);
                    Next::Rows { index: 0, is_first: true }
                }
                Next::Rows { index, is_first } => match self.listing.entry(index) {
                    Some(Some(entry)) => {
                        self.write_row(is_first, entry, out);
                        Next::Rows { index: index + 1, is_first: false }
                    }
                    Some(None) => Next::Rows { index: index + 1, is_first },
                    None => Next::Tail,
                },
                Next::Tail => {
                    self.write_tail(out);
                    Next::Nothing
                }
                Next::Nothing => return false,
            };
            if out.len() >= bytes_min {
                return !matches!(self.next, Next::Nothing);
            }
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Html => html::write_head(&self.listing.folder, self.listing.sort, out),
            Format::Json => json::write_head(&self.listing.folder, out),
        }
    }

    fn write_row(&self, is_first: bool, entry: Entry<'_>, out: &mut Vec<u8>) {
        match self.format {
            Format::Html => html::write_row(&self.listing.folder, entry, out),
            Format::Json => json::write_row(&self.listing.folder, is_first, entry, out),
        }
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Html => html::write_tail(self.listing.entries(), out),
            Format::Json => json::write_tail(out),
        }
    }
}

/// Pieces of about [`PIECE_BYTES`].
impl Iterator for Stream {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
        self.write(PIECE_BYTES, &mut piece);
        (!piece.is_empty()).then_some(piece)
    }
}

/// The listed folder, as links name it.
#[derive(Clone, Debug)]
struct Folder {
    /// The segments of its path, decoded.
    names: Vec<Vec<u8>>,
    /// Its URL path, percent-encoded: one slash at each end, none doubled.
    url: Vec<u8>,
    style: Style,
}

impl Folder {
    fn new(path: &[u8], style: Style) -> Self {
        // If empty segments were kept, a path such as `//host/` would become a link to another
        // host.
        let names: Vec<Vec<u8>> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        let mut url = Vec::with_capacity(path.len() + 2);
        url.push(b'/');
        for name in &names {
            escape::percent_encode(name, &mut url);
            url.push(b'/');
        }
        Self { names, url, style }
    }

    /// Appends the URL path of an entry.
    fn write_url_of(&self, entry: Entry<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.url);
        escape::percent_encode(entry.name, out);
        if entry.info.kind == FileKind::Directory {
            self.end_link(out);
        }
    }

    /// Appends the trailing slash of a link to a folder, if the style has one.
    fn end_link(&self, out: &mut Vec<u8>) {
        if self.style == Style::Standard {
            out.push(b'/');
        }
    }
}

#[cfg(test)]
mod tests;
