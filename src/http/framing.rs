//! How a message's body is delimited (RFC 9112, 6).
//!
//! This is the only module that interprets `Transfer-Encoding` and `Content-Length`. Two servers
//! that disagree on them can be made to see different requests in the same bytes, so any ambiguity
//! is an error. It does not know the bodies themselves.

use super::fields::{Fields, Known};
use super::head::Version;
use super::status::{ErrorResponse, Status};
use super::token::{decimal, is_token, list};

/// The framing of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// Number of bytes.
    Length(u64),
    /// The chunked coding, see [`super::chunked`].
    Chunked,
}

/// The length on which all `Content-Length` values agree; `None` if there is no value.
pub fn content_length<'b>(values: impl Iterator<Item = &'b [u8]>) -> Result<Option<u64>, ErrorResponse> {
    let mut agreed = None;
    for element in values.flat_map(list) {
        let length = decimal(element).ok_or(ErrorResponse::bad_request("the Content-Length is not a number"))?;
        if *agreed.get_or_insert(length) != length {
            return Err(ErrorResponse::bad_request("the Content-Length values differ"));
        }
    }
    Ok(agreed)
}

/// Whether the message is chunked; `false` if there is no `Transfer-Encoding` value. `chunked` is
/// the only supported coding; any other is an error.
pub fn is_chunked<'b>(values: impl Iterator<Item = &'b [u8]>) -> Result<bool, ErrorResponse> {
    let (mut any, mut other, mut chunked) = (false, false, 0);
    let mut last_is_chunked = false;
    for element in values.flat_map(list) {
        if !is_token(element) {
            return Err(ErrorResponse::bad_request("the Transfer-Encoding is not a list of tokens"));
        }
        any = true;
        last_is_chunked = element.eq_ignore_ascii_case(b"chunked");
        if last_is_chunked {
            chunked += 1;
        } else {
            other = true;
        }
    }
    match (any, last_is_chunked, chunked, other) {
        (false, ..) => Ok(false),
        (true, false, ..) => Err(ErrorResponse::bad_request("the last transfer coding is not chunked")),
        (true, true, 2.., _) => Err(ErrorResponse::bad_request("chunked is applied more than once")),
        (true, true, _, true) => {
            Err(ErrorResponse::new(Status::NOT_IMPLEMENTED, "the transfer coding is not supported"))
        }
        (true, true, _, false) => Ok(true),
    }
}

/// The framing that a head's fields declare, for requests and responses. Declaring it twice is an
/// error.
pub(super) fn of(version: Version, fields: &Fields<'_>) -> Result<BodyFraming, ErrorResponse> {
    if fields.known(Known::ContentLength).is_none() && fields.known(Known::TransferEncoding).is_none() {
        return Ok(BodyFraming::None);
    }
    let has_codings = fields.known(Known::TransferEncoding).is_some();
    if has_codings && version == Version::Http10 {
        return Err(ErrorResponse::bad_request("HTTP/1.0 has no Transfer-Encoding"));
    }
    if has_codings && fields.known(Known::ContentLength).is_some() {
        return Err(ErrorResponse::bad_request("there are both Transfer-Encoding and Content-Length"));
    }
    if has_codings && is_chunked(fields.all_known(Known::TransferEncoding))? {
        return Ok(BodyFraming::Chunked);
    }
    let length = content_length(fields.all_known(Known::ContentLength))?;
    Ok(length.map_or(BodyFraming::None, BodyFraming::Length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(values: &[&str]) -> Result<Option<u64>, ErrorResponse> {
        content_length(values.iter().map(|value| value.as_bytes()))
    }

    fn chunked(values: &[&str]) -> Result<bool, u16> {
        is_chunked(values.iter().map(|value| value.as_bytes())).map_err(|error| error.status.code())
    }

    #[test]
    fn row_11_content_lengths_that_differ_are_refused_and_equal_ones_are_one() {
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["5", "5"]), Ok(Some(5)));
        assert_eq!(length(&["5, 5", "5"]), Ok(Some(5)));
        assert!(length(&["5", "6"]).is_err());
        assert!(length(&["5, 6"]).is_err());
    }

    #[test]
    fn row_12_content_length_is_digits_that_fit() {
        for bad in ["", "+5", "-5", "5 5", "0x5", "5.0", "5,", ",5", "5;", "1e3", "18446744073709551616", "five"] {
            assert!(length(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(length(&["18446744073709551615"]), Ok(Some(u64::MAX)));
        assert_eq!(length(&["0"]), Ok(Some(0)));
    }

    #[test]
    fn row_13_transfer_codings_other_than_one_final_chunked_are_refused() {
        assert_eq!(chunked(&[]), Ok(false));
        assert_eq!(chunked(&["chunked"]), Ok(true));
        assert_eq!(chunked(&["CHUNKED"]), Ok(true));
        assert_eq!(chunked(&["gzip, chunked"]), Err(501));
        assert_eq!(chunked(&["gzip", "chunked"]), Err(501));
        for bad in ["chunked, chunked", "chunked, gzip", "gzip", "identity", "chunked, identity"] {
            assert_eq!(chunked(&[bad]), Err(400), "{bad}");
        }
        assert_eq!(chunked(&["chunked", "chunked"]), Err(400));
    }

    #[test]
    fn row_83_transfer_encoding_is_an_exact_list_of_tokens() {
        let bad = ["", "\x0bchunked", "chunked\x0c", "\u{a0}chunked", "chunked;x", "xchunked", "chunked,", ", chunked"];
        for bad in bad.into_iter().chain(["chunked x", "\"chunked\"", "chu\tnked", "chunked;q=1", "chunked\0"]) {
            assert_eq!(chunked(&[bad]), Err(400), "{bad:?}");
        }
    }
}
