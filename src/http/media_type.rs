//! The media type of a file by its name: `Content-Type`, and whether compressing it pays.

/// A media type without parameters, such as `text/html`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType {
    name: &'static str,
    is_compressible: bool,
}

impl MediaType {
    /// The type of unknown files (RFC 9110, 8.3): browsers offer to save them.
    pub const UNKNOWN: Self = Self { name: "application/octet-stream", is_compressible: false };

    /// The media type of a file with this name or path, by what follows the last dot.
    pub fn of_name(name: &[u8]) -> Self {
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return Self::UNKNOWN };
        let Ok(extension) = std::str::from_utf8(&name[dot + 1..]) else { return Self::UNKNOWN };
        // A name that begins with its only dot, such as `.profile`, has no extension.
        if dot == 0 {
            return Self::UNKNOWN;
        }
        let own = OWN.iter().find(|(own, _)| extension.eq_ignore_ascii_case(own)).map(|(_, name)| *name);
        own.or_else(|| mime_guess::from_ext(extension).first_raw()).map_or(Self::UNKNOWN, Self::new)
    }

    fn new(name: &'static str) -> Self {
        Self { name, is_compressible: is_compressible(name) }
    }

    /// The name, such as `text/html`.
    pub const fn as_str(self) -> &'static str {
        self.name
    }

    /// Whether a charset parameter is meaningful for the type.
    pub fn is_text(self) -> bool {
        self.name.starts_with("text/") || matches!(self.name, "application/javascript" | "application/xml")
    }

    /// Whether compression usually makes its files much smaller. Images, videos, archives and WOFF
    /// fonts are compressed already.
    pub const fn is_compressible(self) -> bool {
        self.is_compressible
    }

    /// Appends the value of `Content-Type`. `charset` applies to text only. Without it no charset
    /// is sent, and the document's own declaration applies.
    pub fn write(self, charset: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        if let Some(charset) = charset.filter(|_| self.is_text()) {
            out.extend_from_slice(b"; charset=");
            out.extend_from_slice(charset.as_bytes());
        }
    }
}

/// Types that the built-in registry lacks or has differently.
const OWN: [(&str, &str); 7] = [
    // RFC 9239 leaves one type for scripts.
    ("mjs", "text/javascript"),
    // As in Apache's mime.types and in eXpServer.
    ("c", "text/x-c"),
    ("cc", "text/x-c"),
    ("cpp", "text/x-c"),
    ("cxx", "text/x-c"),
    ("h", "text/x-c"),
    ("hh", "text/x-c"),
];

fn is_compressible(name: &str) -> bool {
    let Some((family, subtype)) = name.split_once('/') else { return false };
    if family == "text" || subtype.ends_with("+xml") || subtype.ends_with("+json") {
        return true;
    }
    match family {
        "application" => matches!(
            subtype,
            "javascript"
                | "json"
                | "xml"
                | "wasm"
                | "rtf"
                | "sql"
                | "x-sh"
                | "x-tar"
                | "x-tex"
                | "postscript"
                | "vnd.ms-fontobject"
        ),
        "font" => matches!(subtype, "ttf" | "otf" | "collection"),
        "image" => matches!(subtype, "bmp" | "x-icon" | "vnd.microsoft.icon"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        let cases: [(&[u8], &str); 24] = [
            (b"index.html", "text/html"),
            (b"a/b.c/INDEX.HTM", "text/html"),
            (b"style.css", "text/css"),
            (b"app.js", "text/javascript"),
            (b"app.mjs", "text/javascript"),
            (b"xps.h", "text/x-c"),
            (b"xps.c", "text/x-c"),
            (b"data.json", "application/json"),
            (b"feed.xml", "text/xml"),
            (b"app.wasm", "application/wasm"),
            (b"logo.svg", "image/svg+xml"),
            (b"photo.jpeg", "image/jpeg"),
            (b"photo.avif", "image/avif"),
            (b"font.woff2", "font/woff2"),
            (b"film.mp4", "video/mp4"),
            (b"paper.pdf", "application/pdf"),
            (b"all.tar.gz", "application/gzip"),
            (b"app.webmanifest", "application/manifest+json"),
            (b"\xff\xfe.txt", "text/plain"),
            (b"x.\xff", "application/octet-stream"),
            (b".html", "application/octet-stream"),
            (b"Makefile", "application/octet-stream"),
            (b"dir.html/file", "application/octet-stream"),
            (b"", "application/octet-stream"),
        ];
        for (name, expected) in cases {
            assert_eq!(MediaType::of_name(name).as_str(), expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_charset_is_claimed_only_for_text_and_only_if_configured() {
        let value = |name: &[u8], charset| {
            let mut out = Vec::new();
            MediaType::of_name(name).write(charset, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(value(b"a.html", None), "text/html");
        assert_eq!(value(b"a.html", Some("utf-8")), "text/html; charset=utf-8");
        assert_eq!(value(b"a.png", Some("utf-8")), "image/png");
    }

    #[test]
    fn what_is_compressed_already_is_not_compressed_again() {
        let pays = |name: &str| MediaType::of_name(name.as_bytes()).is_compressible();
        for name in ["a.html", "a.css", "a.js", "a.json", "a.svg", "a.xml", "a.wasm", "a.txt", "a.ttf", "a.ico", "a.md"]
        {
            assert!(pays(name), "{name}");
        }
        for name in ["a.png", "a.jpg", "a.webp", "a.woff2", "a.gz", "a.zip", "a.mp4", "a.pdf", "a"] {
            assert!(!pays(name), "{name}");
        }
    }
}
