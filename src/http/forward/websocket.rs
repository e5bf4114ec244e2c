//! The opening handshake of a WebSocket with an upstream of HTTP/1.1, for a client of HTTP/2.
//!
//! HTTP/2 opens a WebSocket by an extended CONNECT, which has no key and no proof that the server
//! understood (RFC 8441, 5). HTTP/1.1 has both (RFC 6455, 4.1 and 4.2.2), so the proxy asks for the proof
//! in the client's stead.

use arrayvec::ArrayString;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::http::date::DateLine;
use crate::http::fields::Known;
use crate::http::response::HeadSink;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::status::Status;

/// What RFC 6455 (1.3) appends to a key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ACCEPT: &str = "Sec-WebSocket-Accept";

/// The value of `Sec-WebSocket-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey(ArrayString<24>);

impl WebSocketKey {
    /// The key of this nonce, which should differ each time.
    pub fn new(nonce: [u8; 16]) -> Self {
        Self(base64(&nonce))
    }

    /// The value of the field.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a 101 proves that the upstream has read the key and speaks WebSocket from now on.
    pub fn is_accepted_by(&self, head: &ResponseHead<'_>) -> bool {
        let mut accepts = head.fields.all(ACCEPT);
        let upgrade = head.fields.known(Known::Upgrade).unwrap_or_default();
        accepts.next() == Some(self.accept().as_bytes())
            && accepts.next().is_none()
            && upgrade.eq_ignore_ascii_case(b"websocket")
    }

    /// The value of `Sec-WebSocket-Accept` that belongs to the key. SHA-1 protects nothing here.
    pub fn accept(&self) -> ArrayString<28> {
        let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(self.0.as_bytes());
        hash.update(GUID);
        base64(hash.finish().as_ref())
    }
}

/// The head for a client of HTTP/2 of an upstream's 101: a response with a body that has no end yet. Its
/// fields are to be written to a [`TunnelSink`].
pub fn tunnel_head<'b>(switch: &ResponseHead<'b>) -> ResponseHead<'b> {
    ResponseHead { status: Status::OK, reason: b"", framing: ResponseFraming::Chunked, ..switch.clone() }
}

/// Drops what the proxy has asked for itself.
#[derive(Debug)]
pub struct TunnelSink<'s, S>(pub &'s mut S);

impl<S: HeadSink> HeadSink for TunnelSink<'_, S> {
    fn reserve(&mut self, bytes: usize) {
        self.0.reserve(bytes);
    }

    fn status(&mut self, status: Status, reason: &[u8]) {
        self.0.status(status, reason);
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        if !name.eq_ignore_ascii_case(ACCEPT.as_bytes()) {
            self.0.field(name, value);
        }
    }

    fn date(&mut self, date: &DateLine) {
        self.0.date(date);
    }
}

/// Base64 with padding (RFC 4648, 4) of what fits into `N` digits.
fn base64<const N: usize>(bytes: &[u8]) -> ArrayString<N> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    debug_assert!(bytes.len().div_ceil(3) * 4 <= N, "the digits fit");
    let mut text = ArrayString::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let letter = DIGITS[(bits >> (18 - 6 * digit)) as usize & 63];
            // Three bytes are four digits; one byte two, two bytes three.
            let _ = text.try_push(if digit <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadLimits;
    use crate::http::response_head::{Parsed, parse};

    #[test]
    fn base64_has_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64::<8>(bytes.as_bytes()).as_str(), text);
        }
        assert_eq!(base64::<4>(&[0xfb, 0xff, 0xfe]).as_str(), "+//+");
    }

    /// The example of RFC 6455, 1.3.
    #[test]
    fn the_accept_is_that_of_the_key() {
        let key = WebSocketKey::new(*b"the sample nonce");
        assert_eq!(key.as_str(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(key.accept().as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_right_switch_is_accepted() {
        let is_accepted = |fields: &str| {
            let text = format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\n{fields}\r\n");
            let Ok(Parsed::Complete { head, .. }) = parse(text.as_bytes(), false, &HeadLimits::default()) else {
                panic!("{text}")
            };
            WebSocketKey::new(*b"the sample nonce").is_accepted_by(&head)
        };
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(is_accepted(&format!("Upgrade: WebSocket\r\n{accept}")));
        assert!(!is_accepted(accept));
        assert!(!is_accepted("Upgrade: websocket\r\n"));
        assert!(!is_accepted(&format!("Upgrade: x\r\n{accept}")));
        assert!(!is_accepted(&format!("Upgrade: websocket\r\n{accept}{accept}")));
        assert!(!is_accepted("Upgrade: websocket\r\nSec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    }
}
