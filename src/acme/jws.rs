//! The account's key, and the signatures of requests (JWS, RFC 7515, as RFC 8555, 6.2 uses them).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// A P-256 key that signs with ES256 (RFC 7518, 3.4).
pub(super) struct AccountKey {
    key: EcdsaKeyPair,
}

/// The key is malformed, or cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account's key cannot be used")]
pub(super) struct BadKey;

/// Who signs: a new account, by its key, or one that is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signer<'a> {
    Key,
    Account(&'a str),
}

impl AccountKey {
    /// A new key, in PEM.
    pub(super) fn generate() -> Result<String, BadKey> {
        rcgen::KeyPair::generate().map(|key| key.serialize_pem()).map_err(|_| BadKey)
    }

    /// A key in PEM (PKCS#8).
    pub(super) fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadKey)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        Ok(Self { key: key.map_err(|_| BadKey)? })
    }

    /// The public key (RFC 7518, 6.2.1). Its members are in the order of a thumbprint.
    fn jwk(&self) -> Value {
        // 4, for an uncompressed point, then both coordinates (SEC 1, 2.3.3).
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        json!({ "crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y) })
    }

    /// What shows that a token was given to this account (RFC 8555, 8.1).
    pub(super) fn authorization(&self, token: &str) -> String {
        // The members are sorted, and there is no white space (RFC 7638, 3).
        let Value::Object(members) = self.jwk() else { return String::new() };
        let members: Vec<String> = ["crv", "kty", "x", "y"]
            .iter()
            .filter_map(|name| members.get(*name).map(|value| format!("\"{name}\":{value}")))
            .collect();
        let thumbprint = digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes());
        format!("{token}.{}", base64url(thumbprint.as_ref()))
    }

    /// A signed request for this URL. Without a payload it reads (POST-as-GET; RFC 8555, 6.3).
    pub(super) fn sign(
        &self,
        signer: Signer<'_>,
        url: &str,
        nonce: &str,
        payload: Option<&Value>,
    ) -> Result<String, BadKey> {
        let mut header = json!({ "alg": "ES256", "nonce": nonce, "url": url });
        match signer {
            Signer::Key => header["jwk"] = self.jwk(),
            Signer::Account(account) => header["kid"] = account.into(),
        }
        let protected = base64url(header.to_string().as_bytes());
        let payload = payload.map(|payload| base64url(payload.to_string().as_bytes())).unwrap_or_default();
        let signed = format!("{protected}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| BadKey)?;
        let body = json!({ "protected": protected, "payload": payload, "signature": base64url(signature.as_ref()) });
        Ok(body.to_string())
    }
}

/// Base64 for URLs, without padding (RFC 4648, 5).
pub(super) fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        // Three bytes are four digits; one byte two, two bytes three.
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// The inverse, for tests.
    fn decoded(text: &str) -> Vec<u8> {
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        let bits: Vec<u8> = text.bytes().flat_map(|byte| (0..6).rev().map(move |at| digit(byte) >> at & 1)).collect();
        bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
    }

    /// RFC 4648, 10, with the alphabet of section 5.
    #[test]
    fn base64_is_that_of_urls_and_has_no_padding() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy")] {
            assert_eq!(base64url(bytes), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff, 0xbf]), "-_-_");
    }

    #[test]
    fn a_request_says_who_signed_it_and_for_what() {
        let pem = AccountKey::generate().unwrap();
        let key = AccountKey::from_pem(&pem).unwrap();
        let body =
            key.sign(Signer::Account("https://ca/7"), "https://ca/order", "n", Some(&json!({ "a": 1 }))).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let part = |name: &str| body[name].as_str().unwrap().to_owned();
        let header: Value = serde_json::from_slice(&decoded(&part("protected"))).unwrap();
        let expected = json!({ "alg": "ES256", "kid": "https://ca/7", "nonce": "n", "url": "https://ca/order" });
        assert_eq!(header, expected);
        assert_eq!(decoded(&part("payload")), br#"{"a":1}"#);
        let signed = format!("{}.{}", part("protected"), part("payload"));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.key.public_key().as_ref());
        assert!(public.verify(signed.as_bytes(), &decoded(&part("signature"))).is_ok());

        let body: Value = serde_json::from_str(&key.sign(Signer::Key, "u", "n", None).unwrap()).unwrap();
        assert_eq!(body["payload"], "", "a request that reads has an empty payload, not `null`");
        let header: Value = serde_json::from_slice(&decoded(body["protected"].as_str().unwrap())).unwrap();
        assert_eq!(header["jwk"], key.jwk());
    }

    #[test]
    fn an_authorization_is_the_token_with_the_thumbprint_of_the_key() {
        let key = AccountKey::from_pem(&AccountKey::generate().unwrap()).unwrap();
        let jwk = key.jwk();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let expected = format!("token.{}", base64url(digest(&SHA256, text.as_bytes()).as_ref()));
        assert_eq!(key.authorization("token"), expected);
        assert_eq!(AccountKey::from_pem("no key").err(), Some(BadKey));
    }
}
