//! Request ids: `X-Request-Id`, by which a request is found in the logs of several servers.
//!
//! The field has no standard. nginx makes 32 hexadecimal digits, others make UUIDs.

use arrayvec::ArrayString;

use super::RequestHead;

/// The name of the field.
pub const REQUEST_ID: &str = "X-Request-Id";

/// Bytes of an id that is taken over. A longer one is ignored. 128.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// An id that was made here: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(ArrayString<32>);

impl RequestId {
    /// The id of these bytes, which have to differ from request to request.
    pub fn new(nonce: [u8; 16]) -> Self {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let mut text = ArrayString::new();
        for byte in nonce {
            text.push(DIGITS[usize::from(byte >> 4)]);
            text.push(DIGITS[usize::from(byte & 15)]);
        }
        Self(text)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a request, if it is short and has visible characters only, none of which needs an escape in logs.
pub fn request_id<'b>(head: &RequestHead<'b>) -> Option<&'b [u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_valid = |id: &&[u8]| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(is_plain);
    head.fields.get(REQUEST_ID).filter(is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits() {
        let mut nonce = [0xff; 16];
        nonce[0] = 0x0a;
        assert_eq!(RequestId::new(nonce).as_str(), format!("0a{}", "f".repeat(30)));
    }
}
