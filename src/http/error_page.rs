//! The body of an error response: HTML for people, JSON for programs.
//!
//! It contains the status and one sentence. It never contains anything that the client sent, unless
//! the caller puts it into `detail`, which is escaped.

use std::sync::Arc;

use super::accept::preferred_type;
use super::response::push_decimal;
use super::status::Status;

/// Format of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageType {
    /// `text/html`
    #[default]
    Html,
    /// `application/json`
    Json,
}

impl PageType {
    /// The format that an `Accept` value prefers: JSON only if its weight is higher than that of
    /// HTML.
    pub fn for_accept(accept: Option<&[u8]>) -> Self {
        // What most programs send, for requests that seldom fail.
        if let None | Some(b"*/*") = accept {
            return Self::Html;
        }
        let accept = accept.and_then(|accept| std::str::from_utf8(accept).ok());
        match preferred_type(accept, &["text/html", "application/json"]) {
            Some("application/json") => Self::Json,
            Some(_) | None => Self::Html,
        }
    }

    /// The value for `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// Configured pages that replace the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct ErrorPages(Vec<(Status, ErrorPage)>);

/// A configured page.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The value for `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Arc<[u8]>,
}

impl ErrorPages {
    /// The page for this status. `None`: use the built-in one.
    pub fn get(&self, status: Status) -> Option<&ErrorPage> {
        self.0.iter().find(|(of, _)| *of == status).map(|(_, page)| page)
    }
}

impl FromIterator<(Status, ErrorPage)> for ErrorPages {
    fn from_iter<I: IntoIterator<Item = (Status, ErrorPage)>>(pages: I) -> Self {
        Self(pages.into_iter().collect())
    }
}

/// Appends the built-in page of `status` to `out`, with one more sentence if there is a `detail`.
pub fn write(out: &mut Vec<u8>, status: Status, detail: Option<&str>, page_type: PageType) {
    match page_type {
        PageType::Html => write_html(out, status, detail),
        PageType::Json => write_json(out, status, detail),
    }
}

const HTML_START: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>";

const HTML_STYLE: &str = "</title>\n<style>\n\
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 20vh auto; padding: 0 1rem }\n\
    h1 { font-size: 1.5rem; font-weight: 600 }\n\
    p { opacity: .75 }\n\
    </style>\n<h1>";

fn write_html(out: &mut Vec<u8>, status: Status, detail: Option<&str>) {
    out.extend_from_slice(HTML_START.as_bytes());
    write_title(out, status);
    out.extend_from_slice(HTML_STYLE.as_bytes());
    write_title(out, status);
    out.extend_from_slice(b"</h1>\n");
    if let Some(detail) = detail {
        out.extend_from_slice(b"<p>");
        escape_html(detail.as_bytes(), out);
        out.extend_from_slice(b"</p>\n");
    }
}

fn write_title(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(&status.digits());
    if !status.reason().is_empty() {
        out.push(b' ');
        out.extend_from_slice(status.reason().as_bytes());
    }
}

fn write_json(out: &mut Vec<u8>, status: Status, detail: Option<&str>) {
    out.extend_from_slice(b"{\"status\":");
    push_decimal(out, u64::from(status.code()));
    out.extend_from_slice(b",\"error\":\"");
    escape_json(status.reason(), out);
    if let Some(detail) = detail {
        out.extend_from_slice(b"\",\"detail\":\"");
        escape_json(detail, out);
    }
    out.extend_from_slice(b"\"}\n");
}

/// Appends `text`, escaped for any place in HTML, including quoted attributes.
pub fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(byte),
        }
    }
}

/// Appends `text`, escaped for the inside of a JSON string.
pub fn escape_json(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        if byte < 0x20 {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(&[b'\\', byte]);
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(status: Status, detail: Option<&str>, page_type: PageType) -> String {
        let mut out = Vec::new();
        write(&mut out, status, detail, page_type);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_sent_only_to_those_who_prefer_it() {
        assert_eq!(PageType::for_accept(None), PageType::Html);
        assert_eq!(PageType::for_accept(Some(b"*/*")), PageType::Html);
        assert_eq!(PageType::for_accept(Some(b"application/json")), PageType::Json);
        assert_eq!(PageType::for_accept(Some(b"text/html;q=0.5, application/*")), PageType::Json);
        assert_eq!(PageType::for_accept(Some(b"image/png")), PageType::Html);
        assert_eq!(PageType::for_accept(Some(b"\xff")), PageType::Html);
    }

    #[test]
    fn details_are_escaped() {
        let html = page(Status::NOT_FOUND, Some("<script>\"&'"), PageType::Html);
        assert!(html.contains("<h1>404 Not Found</h1>\n<p>&lt;script&gt;&quot;&amp;&#39;</p>"), "{html}");
        let json = page(Status::BAD_REQUEST, Some("a \"b\"\\\n"), PageType::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["status"], 400);
        assert_eq!(json["error"], "Bad Request");
        assert_eq!(json["detail"], "a \"b\"\\\n");
    }

    #[test]
    fn the_page_is_small_and_has_no_scripts() {
        let html = page(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, Some("the head is too large"), PageType::Html);
        assert!(html.len() < 600, "{}", html.len());
        assert!(!html.contains("<script"));
    }
}
