//! What a client must know of a response head in a list of fields (RFC 9113, 8.3.2): its status, and
//! the length that it declares.
//!
//! Every field is checked, and as strictly as those of a request, but none is kept. What a length
//! means for a response, the request and the status decide; see [`super::super::Status::forbids_body`].

use super::field_block::FieldBlock;
use super::head::{BadHead, LOOSE, check_controls, check_ends, check_name, check_size};
use crate::http::framing::content_length;
use crate::http::status::Status;

/// The result of [`response_facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// The status, interim (1xx) or final; not 101, which HTTP/2 does not have.
    pub status: Status,
    /// The length in `content-length`, if there is one.
    pub content_length: Option<u64>,
}

/// Finds the status and the declared length in a sealed block.
///
/// ```
/// use xps::internals::http::h2::response::response_facts;
/// use xps::internals::http::h2::{BlockReader, hpack::Decoder};
/// use xps::internals::http::{HeadLimits, Status};
///
/// let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
/// reader.push(&mut decoder, b"\x88\x0f\x0d\x017", true)?;
/// let facts = response_facts(reader.fields()).unwrap();
/// assert_eq!((facts.status, facts.content_length), (Status::OK, Some(7)));
/// # Ok::<(), xps::internals::http::h2::ConnectionError>(())
/// ```
///
/// # Errors
/// The head is malformed (RFC 9113, 8.1.1), or larger than its limits.
pub fn response_facts(block: &FieldBlock) -> Result<ResponseFacts, BadHead> {
    check_size(block)?;
    if block.has_loose_piece() {
        return Err(LOOSE);
    }
    // All at once, since most values are short. No name may have one either.
    check_controls(block.bytes())?;
    let mut status = None;
    let mut has_length = false;
    for (number, field) in block.iter().enumerate() {
        check_ends(field.value)?;
        // The one pseudo-header field of responses is the first field.
        if number == 0 {
            status = Some(parse_status(field.name, field.value)?);
        } else {
            if field.name.first() == Some(&b':') {
                return Err(BadHead::malformed("a response has a pseudo-header field besides :status"));
            }
            check_name(field.name)?;
            match field.name {
                CONTENT_LENGTH => has_length = true,
                // Fields of the connection do not exist in HTTP/2 (RFC 9113, 8.2.2).
                b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                    return Err(BadHead::malformed("there is a field of the connection"));
                }
                _ => {}
            }
        }
    }
    let status = status.ok_or(NO_STATUS)?;
    let content_length = if has_length {
        let values = block.iter().filter(|field| field.name == CONTENT_LENGTH).map(|field| field.value);
        content_length(values).map_err(BadHead::Malformed)?
    } else {
        None
    };
    Ok(ResponseFacts { status, content_length })
}

const CONTENT_LENGTH: &[u8] = b"content-length";

const NO_STATUS: BadHead = BadHead::malformed("a response does not begin with :status");

fn parse_status(name: &[u8], value: &[u8]) -> Result<Status, BadHead> {
    let (b":status", &[hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9']) = (name, value) else {
        return Err(if name == b":status" {
            BadHead::malformed("the :status is not a status code")
        } else {
            NO_STATUS
        });
    };
    let digit = |byte: u8| u16::from(byte - b'0');
    match Status::from_code(digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)) {
        Some(Status::SWITCHING_PROTOCOLS) => Err(BadHead::malformed("a response is a 101")),
        Some(status) => Ok(status),
        None => Err(NO_STATUS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::BlockReader;
    use crate::http::h2::hpack::Decoder;
    use crate::http::head::HeadLimits;

    /// Fields of names and values below 127 bytes.
    fn read(fields: &[(&str, &str)]) -> Result<ResponseFacts, BadHead> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.extend_from_slice(&[0, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        let limits = HeadLimits { head_bytes_max: 200, ..HeadLimits::default() };
        let mut reader = BlockReader::new(&limits);
        reader.push(&mut Decoder::new(), &block, true).unwrap();
        response_facts(reader.fields())
    }

    #[test]
    fn status_and_length_are_found() {
        let facts =
            |code, content_length| Ok(ResponseFacts { status: Status::from_code(code).unwrap(), content_length });
        assert_eq!(read(&[(":status", "200")]), facts(200, None));
        assert_eq!(read(&[(":status", "103"), ("link", "x")]), facts(103, None));
        assert_eq!(read(&[(":status", "999"), ("x", ""), ("content-length", "7")]), facts(999, Some(7)));
        assert_eq!(read(&[(":status", "200"), ("content-length", "7"), ("content-length", "7")]), facts(200, Some(7)));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let ok = (":status", "200");
        for fields in [
            &[][..],
            &[("x", "y")],
            &[("x", "y"), ok],
            &[ok, ok],
            &[ok, (":path", "/")],
            &[(":path", "/"), ok],
            &[(":status", "20")],
            &[(":status", "099")],
            &[(":status", "2000")],
            &[(":status", "+20")],
            &[(":status", "101")],
            &[ok, ("X", "y")],
            &[ok, ("", "y")],
            &[ok, ("x", " y")],
            &[ok, ("x", "y\r\nz")],
            &[ok, ("connection", "close")],
            &[ok, ("transfer-encoding", "chunked")],
            &[ok, ("content-length", "x")],
            &[ok, ("content-length", "-1")],
            &[ok, ("content-length", "1"), ("content-length", "2")],
        ] {
            assert!(matches!(read(fields), Err(BadHead::Malformed(_))), "{fields:?}");
        }
        let long = "x".repeat(120);
        assert!(matches!(read(&[ok, ("x", &long), ("y", "z")]), Err(BadHead::Rejected(_))));
    }
}
