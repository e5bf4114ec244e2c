//! Values that are written as text: each is a type that holds only what is well-formed.
//!
//! In the schema such a value has a `format`; [`verify`] knows the types by it, so that the check finds what would not
//! become one before anything is read.

mod address;
mod http;
mod process;
mod quantity;

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::address::{Endpoint, Hostname, ListenHost, Network};
pub use self::http::{
    ErrorStatus, FieldValue, HostRule, MediaType, Origin, PathPrefix, RedirectUrl, RequestTarget, ServerName, Token,
    Via,
};
pub use self::process::{AccessTarget, FileMode, PathBeneath, UringFeature};
use crate::config::units::{Period, Size};

/// The text cannot be understood; what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(Cow<'static, str>);

impl TextError {
    /// An error of these words, which follow the text and a colon.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }
}

/// The types, and how each is named in the schema.
macro_rules! texts {
    ($($type:ident, $format:literal, $example:literal;)*) => {
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

        /// Whether the text is one of this format; formats of other owners are not looked at.
        ///
        /// # Errors
        /// It is not.
        pub fn verify(format: &str, text: &str) -> Result<(), TextError> {
            match format {
                $($format => $type::from_str(text).map(drop),)*
                quantity::PERIOD => Period::from_str(text).map(drop).map_err(|error| TextError::new(error.to_string())),
                quantity::SIZE => Size::from_str(text).map(drop).map_err(|error| TextError::new(error.to_string())),
                _ => Ok(()),
            }
        }

        #[cfg(test)]
        const EXAMPLES: &[(&str, &str)] = &[$(($format, $example)),*];
    };
}

texts! {
    AccessTarget, "access-log", "/var/log/xps/access.log";
    Endpoint, "upstream", "127.0.0.1:3000";
    ErrorStatus, "error-status", "404";
    FieldValue, "field-value", "max-age=3600";
    FileMode, "file-mode", "0660";
    HostRule, "host-rule", "keep";
    Hostname, "host-name", "example.org";
    ListenHost, "listen-host", "0.0.0.0";
    MediaType, "media-type", "text/x-c";
    Network, "network", "10.0.0.0/8";
    Origin, "origin", "https://example.org";
    PathBeneath, "path-beneath", "index.html";
    PathPrefix, "path-prefix", "/api";
    RedirectUrl, "redirect-url", "https://$host$path";
    RequestTarget, "request-target", "/health";
    ServerName, "server-name", "xps";
    Token, "token", "X-Tenant";
    UringFeature, "uring-feature", "recv-multishot";
    Via, "via", "xps";
}

/// The quantity that the text stands for, as `minimum` and `maximum` see it: bytes, or seconds.
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
        for (format, example) in EXAMPLES {
            assert_eq!(verify(format, example), Ok(()), "{format}");
            assert_eq!(verify(format, "").is_ok(), *format == "server-name", "{format}: only a name may be nothing");
        }
    }
}
