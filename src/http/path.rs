//! Converts a target's path to a path beneath a root, and back.
//!
//! A path is decoded once and then normalised. One resource has one path, however the client spells
//! it. The result contains no escapes, no empty segments, and no `.` or `..`, so no path leads
//! above its root. Symbolic links are left to the kernel, and existence to the file system. How
//! other servers read the same path is the concern of `readings`.

mod readings;

use std::ffi::{CStr, CString};

use smallvec::SmallVec;

pub use readings::is_read_alike;

use super::status::ErrorResponse;
use super::token::hex_value;

/// Longest path in bytes that is stored without an allocation, with its NUL.
const INLINE: usize = 128;

/// A path relative to a root: segments joined by single slashes. No segment is empty, `.` or `..`.
/// Empty for the root itself.
///
/// The segments are bytes: UTF-8 only by convention.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DecodedPath {
    /// The path and a final NUL, the only one.
    bytes: SmallVec<[u8; INLINE]>,
    ends_with_slash: bool,
}

/// Decodes and normalises the path of a target.
///
/// A backslash is an ordinary byte. `%2f` separates segments like a slash.
pub fn decode(raw: &str) -> Result<DecodedPath, ErrorResponse> {
    let mut path = DecodedPath::unset();
    path.set(raw)?;
    Ok(path)
}

/// Appends `path`, a path beneath a root, as the path of a URL: with a leading slash, and with
/// everything escaped that has a meaning in a URL, in HTML or in a header field. `is_folder` adds a
/// trailing slash.
///
/// The result never begins with two slashes, so it cannot name another host.
pub fn encode_path(path: &[u8], is_folder: bool, out: &mut Vec<u8>) {
    let start = out.len();
    for segment in path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()) {
        out.push(b'/');
        encode_segment(segment, out);
    }
    if is_folder || out.len() == start {
        out.push(b'/');
    }
}

/// The rest of a path beneath a prefix, both decoded and normalised: empty for the prefix itself.
/// `None` if the path does not begin with the prefix, segment by segment: `/api` is not a prefix of
/// `/apis`.
pub fn rest_beneath<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

/// Appends one segment, escaped, including any slash in it.
pub fn encode_segment(segment: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in segment {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

impl DecodedPath {
    /// No path yet, for [`DecodedPath::set`].
    pub const fn unset() -> Self {
        Self { bytes: SmallVec::new_const(), ends_with_slash: true }
    }

    /// Decodes in place what [`decode`] returns: to move a path just after it was written takes
    /// longer than to decode it. After an error there is no path.
    pub fn set(&mut self, raw: &str) -> Result<(), ErrorResponse> {
        let raw = raw.as_bytes();
        if raw.first() != Some(&b'/') {
            return Err(ErrorResponse::bad_request("the path does not begin with a slash"));
        }
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.reserve(raw.len());
        let mut segment_at = 0;
        let mut rest = &raw[1..];
        loop {
            let plain = rest.iter().position(|byte| matches!(byte, b'/' | b'%' | 0)).unwrap_or(rest.len());
            bytes.extend_from_slice(&rest[..plain]);
            let Some(&special) = rest.get(plain) else { break };
            let (byte, length) = if special == b'%' { (unescape(&rest[plain..])?, 3) } else { (special, 1) };
            rest = &rest[plain + length..];
            match byte {
                0 => return Err(ErrorResponse::bad_request("the path has a NUL")),
                b'/' => segment_at = end_segment(bytes, segment_at)?,
                other => bytes.push(other),
            }
        }
        segment_at = match &bytes[segment_at..] {
            // `/a/.` and `/a/..` name folders, as `/a/` does.
            b"." | b".." => end_segment(bytes, segment_at)?,
            _ => segment_at,
        };
        self.ends_with_slash = segment_at == bytes.len();
        if self.ends_with_slash {
            bytes.pop();
        }
        bytes.push(0);
        Ok(())
    }

    /// The path without a slash at either end; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_last().map_or(&[], |(_, path)| path)
    }

    /// The path for a system call; `.` for the root.
    pub fn as_c_str(&self) -> &CStr {
        if self.is_root() {
            return c".";
        }
        // The final NUL is the only one, so this cannot fail.
        CStr::from_bytes_with_nul(&self.bytes).unwrap_or(c".")
    }

    /// The rest of the path beneath `prefix`, which must end at the end of a segment; `.` for the
    /// prefix itself.
    pub fn beneath(&self, prefix: &[u8]) -> &CStr {
        let inner = self.bytes.strip_prefix(prefix).unwrap_or(&self.bytes);
        let inner = inner.strip_prefix(b"/").unwrap_or(inner);
        match CStr::from_bytes_with_nul(inner) {
            Ok(inner) if !inner.is_empty() => inner,
            Ok(_) | Err(_) => c".",
        }
    }

    /// Whether `raw`, from which it was decoded, is spelled identically and has no other reading.
    /// For most paths this decides [`is_read_alike`] at less cost.
    pub fn is_plain(&self, raw: &str) -> bool {
        let rest = raw.as_bytes().strip_prefix(b"/").unwrap_or_default();
        let rest = if self.ends_with_slash && !self.is_root() { rest.strip_suffix(b"/").unwrap_or(rest) } else { rest };
        rest == self.as_bytes() && !rest.contains(&b';') && !rest.contains(&b'\\')
    }

    /// An owned [`DecodedPath::as_c_str`].
    pub fn to_c_string(&self) -> CString {
        self.as_c_str().to_owned()
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether the path named a folder: it ended with a slash, or with `.` or `..`. Always true for
    /// the root.
    pub const fn ends_with_slash(&self) -> bool {
        self.ends_with_slash
    }

    /// Whether a segment begins with a dot: a dot file, or a file in a dot folder.
    pub fn has_dot_segment(&self) -> bool {
        let path = self.as_bytes();
        path.first() == Some(&b'.') || path.windows(2).any(|pair| pair == b"/.")
    }

    /// The segments in order, starting at the root.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
    }
}

/// Ends the segment that began at `segment_at`. Returns where the next one begins.
fn end_segment(bytes: &mut SmallVec<[u8; INLINE]>, segment_at: usize) -> Result<usize, ErrorResponse> {
    match &bytes[segment_at..] {
        b"" | b"." => bytes.truncate(segment_at),
        b".." => {
            // Before a segment is the slash that ended its parent; the root has no parent.
            let Some(parent_end) = segment_at.checked_sub(1) else {
                return Err(ErrorResponse::bad_request("the path leads above the root"));
            };
            let parent_at = bytes[..parent_end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            bytes.truncate(parent_at);
        }
        _ => bytes.push(b'/'),
    }
    Ok(bytes.len())
}

fn unescape(escape: &[u8]) -> Result<u8, ErrorResponse> {
    if let [b'%', high, low, ..] = escape
        && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
    {
        return Ok(high << 4 | low);
    }
    Err(ErrorResponse::bad_request("a percent sign in the path is not followed by two digits"))
}

/// Whether `byte` needs no escaping in a segment, in an HTML attribute and in a field value.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str) -> String {
        let path = decode(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        let slash = if path.ends_with_slash() { "/" } else { "" };
        format!("{}{slash}", path.as_bytes().escape_ascii())
    }

    fn encoded(path: &[u8], is_folder: bool) -> String {
        let mut out = Vec::new();
        encode_path(path, is_folder, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn row_33_34_bad_escapes_and_nul_are_refused() {
        for bad in ["/%", "/%4", "/%zz", "/%00", "/a%00b", "", "a", "*"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn row_40_no_spelling_of_dots_leads_above_the_root() {
        let bad = ["/..", "/../", "/../etc/passwd", "/%2e%2e/x", "/.%2E/x", "/..%2fx", "/a/../../x", "/a/..%2f..%2fx"];
        for bad in bad.into_iter().chain(["//..", "/./../x", "/a//../../x", "/..//x"]) {
            assert!(decode(bad).is_err(), "{bad}");
        }
        assert_eq!(decoded("/%252e%252e/x"), "%2e%2e/x", "decoded once only");
        assert_eq!(decoded(r"/..\x"), r"..\\x", "a backslash is no separator");
        assert_eq!(decoded("//etc/passwd"), "etc/passwd");
        assert_eq!(decoded("/%2fetc/passwd"), "etc/passwd");
        assert_eq!(decoded("/.../x"), ".../x");
    }

    #[test]
    fn dots_are_resolved_within_the_root() {
        assert_eq!(decoded("/a/b/../c"), "a/c");
        assert_eq!(decoded("/a/./b"), "a/b");
        assert_eq!(decoded("/a/.."), "/");
        assert_eq!(decoded("/a/b/.."), "a/");
        assert_eq!(decoded("/a/."), "a/");
        assert_eq!(decoded("/a//../b"), "b");
        assert_eq!(decoded("/."), "/");
        assert_eq!(decoded("/"), "/");
        assert_eq!(decoded("/a/"), "a/");
        assert_eq!(decoded("/a%2f"), "a/");
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let is_beneath = |raw, prefix: &str| rest_beneath(decode(raw).unwrap().as_bytes(), prefix.as_bytes()).is_some();
        assert!(is_beneath("/api", "api") && is_beneath("/api/x", "api") && is_beneath("/x", ""));
        assert!(is_beneath("/%61pi/x", "api") && is_beneath("/b/../api/x", "api"));
        assert!(!is_beneath("/apix", "api") && !is_beneath("/", "api"));
    }

    #[test]
    fn row_42_dot_files_and_dot_folders_are_noticed() {
        for dotted in ["/.git", "/.git/config", "/a/.b", "/a/%2eb/c", "/..."] {
            assert!(decode(dotted).unwrap().has_dot_segment(), "{dotted}");
        }
        for plain in ["/", "/a.b", "/a./b", "/./a", "/b/../a"] {
            assert!(!decode(plain).unwrap().has_dot_segment(), "{plain}");
        }
    }

    #[test]
    fn row_58_escaped_utf_8_is_bytes() {
        assert_eq!(decode("/gr%C3%BC%C3%9Fe").unwrap().as_bytes(), "grüße".as_bytes());
        assert_eq!(encoded("grüße/a b".as_bytes(), false), "/gr%C3%BC%C3%9Fe/a%20b");
    }

    #[test]
    fn row_77_doubled_slashes_are_one_and_links_never_name_a_host() {
        assert_eq!(decoded("//"), "/");
        assert_eq!(decoded("//x//y//"), "x/y/");
        assert_eq!(encoded(b"//evil.example/x", true), "/evil.example/x/");
        assert_eq!(encoded(b"", true), "/");
        assert_eq!(encoded(b"", false), "/");
    }

    #[test]
    fn row_78_what_is_decoded_is_not_decoded_again() {
        assert_eq!(decoded("/%2561"), "%61");
    }

    #[test]
    fn row_82_line_ends_in_a_path_never_leave_it_unescaped() {
        let path = decode("/a%0d%0aSet-Cookie:x%22%3c%26%27").unwrap();
        assert_eq!(encoded(path.as_bytes(), false), "/a%0D%0ASet-Cookie:x%22%3C%26%27");
    }

    #[test]
    fn row_88_overlong_utf_8_and_parameters_are_ordinary_names() {
        assert_eq!(decode("/%c0%ae%c0%ae/x").unwrap().as_bytes(), b"\xc0\xae\xc0\xae/x");
        assert_eq!(decoded("/..;/x"), "..;/x");
    }

    #[test]
    fn system_calls_get_the_path_and_the_root_is_a_dot() {
        assert_eq!(decode("/a/b/").unwrap().as_c_str(), c"a/b");
        assert_eq!(decode("/").unwrap().as_c_str(), c".");
        assert!(decode("/a/..").unwrap().is_root());
        assert_eq!(decode("/a/b").unwrap().to_c_string().as_c_str(), c"a/b");
        assert_eq!(decode("/a/b").unwrap().segments().collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn short_paths_are_not_allocated() {
        assert!(!decode("/a/quite/ordinary/path/to/some/file.html").unwrap().bytes.spilled());
    }
}
