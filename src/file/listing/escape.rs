//! Escaping of file names, which are bytes, for HTML, JSON and URLs.

use std::borrow::Cow;

/// Appends a name as HTML text. Invalid UTF-8 becomes U+FFFD, control characters become their
/// control pictures.
pub(super) fn html_escape(name: &[u8], out: &mut Vec<u8>) {
    // Most names need no escaping.
    if name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'.' | b'_')) {
        return out.extend_from_slice(name);
    }
    for character in visible(name).chars() {
        match character {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            _ => push_char(character, out),
        }
    }
}

/// Appends a name as a JSON string, quotes included. Invalid UTF-8 becomes U+FFFD.
pub(super) fn json_string(name: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for character in String::from_utf8_lossy(name).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\0'..='\x1f' => {
                let code = character as usize;
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
            }
            _ => push_char(character, out),
        }
    }
    out.push(b'"');
}

/// Appends a name as a segment of a URL's path: all but the unreserved characters of RFC 3986, 2.3,
/// are percent-encoded.
pub(super) fn percent_encode(name: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in name {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// A name with all characters visible: a line break cannot hide half of it.
pub(super) fn visible(name: &[u8]) -> Cow<'_, str> {
    let name = String::from_utf8_lossy(name);
    if !name.bytes().any(|byte| byte.is_ascii_control()) {
        return name;
    }
    Cow::Owned(name.chars().map(picture).collect())
}

/// The control picture (U+2400 and following) of a control character; other characters are
/// unchanged.
fn picture(character: char) -> char {
    match character {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        _ => character,
    }
}

fn push_char(character: char, out: &mut Vec<u8>) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}
