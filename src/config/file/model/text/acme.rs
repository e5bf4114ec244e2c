//! What an authority of certificates needs, as text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::TextError;
use super::address::is_domain;
use crate::tls::acme::LETS_ENCRYPT;

/// A host name that a certificate can be obtained for by `http-01` or `tls-alpn-01`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcmeDomain(
    /// In lower case, without a trailing dot.
    pub String,
);

impl FromStr for AcmeDomain {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        Err(TextError::new(if bare.parse::<IpAddr>().is_ok() {
            "certificates for IP addresses cannot be obtained: write a host name"
        } else if name.starts_with("*.") {
            "certificates for `*.` cannot be obtained: authorities give them by changes in DNS only; write each name"
        } else if !name.is_ascii() {
            "not a host name in DNS: write other letters as `xn--…` (punycode)"
        } else if !is_domain(&name) || name.contains('_') {
            "not a host name: write, for example, example.org"
        } else {
            return Ok(Self(name));
        }))
    }
}

impl fmt::Display for AcmeDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL of an authority's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryUrl(pub String);

impl Default for DirectoryUrl {
    /// That of Let's Encrypt.
    fn default() -> Self {
        Self(LETS_ENCRYPT.to_owned())
    }
}

impl FromStr for DirectoryUrl {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let host = text.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !is_plain {
            return Err(TextError::new(
                "not the URL of a directory: write, for example, https://acme.example.org/directory",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address for mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(pub String);

impl FromStr for Email {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        // It becomes a `mailto:` URL with one recipient (RFC 8555, 7.3).
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",?%<>\"".contains(&byte));
        match text.split_once('@') {
            Some((name, host)) if is_plain && !name.is_empty() && is_domain(host) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(TextError::new("not an address for mail: write, for example, admin@example.org")),
        }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_that_an_authority_can_check() {
        for (text, name) in
            [("Example.ORG.", "example.org"), ("localhost", "localhost"), ("xn--bcher-kva.de", "xn--bcher-kva.de")]
        {
            assert_eq!(text.parse::<AcmeDomain>().map(|domain| domain.0), Ok(name.to_owned()));
        }
        for text in
            ["*.example.org", "127.0.0.1", "[::1]", "::1", "example.org:443", "b\u{fc}cher.de", "a_b.org", "", "a..b"]
        {
            assert!(text.parse::<AcmeDomain>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_is_reached_over_tls_only() {
        assert!(LETS_ENCRYPT.parse::<DirectoryUrl>().is_ok());
        assert!("https://127.0.0.1:14000/dir".parse::<DirectoryUrl>().is_ok());
        for text in ["http://ca/dir", "https://", "https:///dir", "ca/dir", "https://u@ca/", "https://c a/"] {
            assert!(text.parse::<DirectoryUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn mail_has_one_recipient() {
        assert!("a+b@example.org".parse::<Email>().is_ok());
        for text in ["a", "@b", "a@", "a@b,c@d", "a b@c", "a@b?subject=x", "a@b\n"] {
            assert!(text.parse::<Email>().is_err(), "{text}");
        }
    }
}
