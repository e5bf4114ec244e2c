//! Values that are written as text. Each type holds only well-formed values.
//!
//! In the schema such a value has a `format`. [`verify`] finds the type by its format, so that the
//! check reports malformed values before the file is deserialized.

mod acme;
mod address;
mod http;
mod process;
mod quantity;

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::acme::{AcmeDomain, DirectoryUrl, Email};
pub use self::address::{Hostname, ListenHost, UpstreamAddressText};
pub use self::http::{
    AlpnProtocol, ErrorStatus, FieldValue, HostField, HostRule, MediaType, Origin, PathPrefix, RedirectUrl,
    RequestTarget, RouteName, ServerName, Token, Via,
};
pub use self::process::{AccessTarget, FileMode, LogFormat, PathBeneath, UringFeature};
use crate::config::units::{Period, Size};
pub use crate::http::charset::Charset;
pub use crate::limit::Network;
pub use crate::upstream::group::StatusRange;

/// The text is malformed. The message says what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(Cow<'static, str>);

impl TextError {
    /// An error with this message, which is shown after the text and a colon.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }
}

/// Implements serialization and the schema for each type, and lists them in `verify` and `KINDS`.
macro_rules! texts {
    ($($type:ident, $format:literal, $example:literal, $meaning:literal;)*) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                }
            }

            impl JsonSchema for $type {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "format": $format, "examples": [$example] })
                }
            }
        )*

        /// Checks a text against a format. Formats that are not listed here are accepted.
        ///
        /// # Errors
        /// The text is malformed.
        pub fn verify(format: &str, text: &str) -> Result<(), TextError> {
            match format {
                $($format => $type::from_str(text).map(drop),)*
                quantity::PERIOD => Period::from_str(text).map(drop).map_err(|error| TextError::new(error.to_string())),
                quantity::SIZE => Size::from_str(text).map(drop).map_err(|error| TextError::new(error.to_string())),
                _ => Ok(()),
            }
        }

        /// Format, example and explanation of each type, for the reference.
        pub const KINDS: &[(&str, &str, &str)] = &[$(($format, $example, $meaning)),*];
    };
}

texts! {
    AccessTarget, "access-log", "/var/log/xps/access.log", "`off`, `-` or `/dev/stdout` for standard output, `/dev/stderr`, a file, or [syslog](operation.md#syslog-and-the-journal): `syslog:unix:/PATH` or `syslog:udp:HOST:PORT`, optionally with `,facility=NAME,tag=TEXT`";
    AcmeDomain, "domain", "example.org", "a host name without `*`, as it is written in DNS: `xn--…` for one with other letters";
    AlpnProtocol, "protocol-name", "http/1.1", "the name of an application protocol, as in ALPN: 1 to 255 visible ASCII characters";
    Charset, "charset", "auto", "`auto`, `off`, or the name of a charset";
    DirectoryUrl, "directory-url", "https://acme.example.org/directory", "a URL that begins with `https://`";
    Email, "email", "admin@example.org", "`NAME@HOST`";
    UpstreamAddressText, "upstream", "127.0.0.1:3000", "`host:port`, with brackets around an IPv6 address, `http://host[:port]`, `https://host[:port]`, or `unix:/path`";
    ErrorStatus, "error-status", "404", "400 to 599, in quotes";
    FieldValue, "field-value", "max-age=3600", "no control characters, and no white space at either end";
    FileMode, "file-mode", "0660", "permissions in octal, in quotes";
    HostField, "host-field", "app.example.org", "a host, optionally with a port";
    HostRule, "host-rule", "keep", "`keep`, `upstream`, or a host";
    Hostname, "host-name", "example.org", "a name or an address; `*.` at the start means all names beneath it; a port may follow";
    ListenHost, "listen-host", "0.0.0.0", "an IPv4 or IPv6 address, `localhost`, or `*` for every IPv4 address";
    LogFormat, "log-format", "$remote_addr $host $status", "`combined`, `json`, or a template with [variables](operation.md#the-access-log)";
    MediaType, "media-type", "text/x-c", "`type/subtype`";
    Network, "network", "10.0.0.0/8", "an IPv4 or IPv6 address, or `ADDRESS/BITS`; `::ffff:10.0.0.0/104` is `10.0.0.0/8`, and `::/0` is all of IPv6 but no IPv4";
    Origin, "origin", "https://example.org", "`scheme://host[:port]`, `*`, `null`, or `off`";
    PathBeneath, "path-beneath", "index.html", "a relative path without `..`";
    PathPrefix, "path-prefix", "/api", "a path that begins with `/`";
    RedirectUrl, "redirect-url", "https://$host$path", "a URL or a path; `$host`, `$path` and `$query` are replaced";
    RequestTarget, "request-target", "/health", "a path that begins with `/`, optionally with a query";
    RouteName, "route-name", "api", "letters, digits, `_`, `.` and `-`, the first of them a letter or a digit";
    ServerName, "server-name", "xps", "a field value, or empty";
    StatusRange, "status-range", "2xx", "a status, a class such as `2xx`, or a range such as `200-399`; 200 to 599";
    Token, "token", "X-Tenant", "letters, digits and ``-._~!#$%&'*+^`|``, as in a field name";
    UringFeature, "uring-feature", "recv-multishot", "a name that `xps probe` lists";
    Via, "via", "xps", "a token, or `off`";
}

/// The number that is compared with `minimum` and `maximum`: bytes, or seconds.
pub fn magnitude(format: &str, text: &str) -> Option<f64> {
    match format {
        quantity::PERIOD => Period::from_str(text).ok().map(|period| period.0.as_secs_f64()),
        quantity::SIZE => Size::from_str(text).ok().map(|size| size.0 as f64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_one() {
        for (format, example, _) in KINDS {
            assert_eq!(verify(format, example), Ok(()), "{format}");
            assert_eq!(
                verify(format, "").is_ok(),
                *format == "server-name",
                "{format}: only a server name may be empty"
            );
        }
    }
}
