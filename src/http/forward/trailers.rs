//! Which trailers of a message are forwarded (RFC 9110, 6.5.1).
//!
//! A recipient may merge trailers into the head that it has read long before. So a field is dropped if
//! it would have had a meaning there for the framing, the route, the client's identity, a condition or
//! the handling of the content, and if the head's own field of this name would not have been forwarded.

use super::request::{RequestRules, UnderscoreRule};
use super::response::ResponseRules;
use super::{CONNECTION_OPTIONS_MAX, ConnectionOptions, folds_alike};
use crate::http::fields::Fields;
use crate::http::head::connection_tokens;
use crate::http::token::list;
use crate::http::trailers::Trailers;

/// Fields that are no trailers. A name that ends in `-` stands for all that begin with it.
const HEAD_ONLY: &[&str] = &[
    // Framing and connection.
    "Connection",
    "Content-Length",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    // Route and origin of the request.
    "Forwarded",
    "Host",
    "Max-Forwards",
    "Origin",
    "Proxy",
    "Referer",
    "User-Agent",
    "Via",
    "X-Forwarded-",
    "X-Real-IP",
    // Authentication, cookies included.
    "Authorization",
    "Cookie",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Authorization",
    "Sec-",
    "Set-Cookie",
    "WWW-Authenticate",
    // Conditions, and what else changes a request's meaning.
    "Accept",
    "Accept-",
    "Cache-Control",
    "Expect",
    "If-",
    "Pragma",
    "Range",
    // Control of the response.
    "Access-Control-",
    "Age",
    "Allow",
    "Date",
    "Expires",
    "Location",
    "Retry-After",
    "Vary",
    // Handling of the content.
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Location",
    "Content-Range",
    "Content-Security-Policy",
    "Content-Type",
    "Strict-Transport-Security",
];

/// The fields that a message's `Connection` names, kept until its trailers arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionNames(Option<Box<[u8]>>);

impl ConnectionNames {
    /// Allocates only if `Connection` names fields.
    pub fn of(fields: &Fields<'_>) -> Self {
        let names = ConnectionOptions::new(fields).name_fields.then(|| {
            let tokens: Vec<_> = connection_tokens(fields).take(CONNECTION_OPTIONS_MAX).collect();
            tokens.join(&b',').into_boxed_slice()
        });
        Self(names)
    }

    fn name(&self, name: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|names| list(names).any(|other| other.eq_ignore_ascii_case(name)))
    }
}

impl RequestRules {
    /// The trailers of a request that are forwarded; `None`: none of them. `named`: by the
    /// `Connection` of its head.
    pub fn pass_trailers(&self, trailers: Box<Trailers>, named: &ConnectionNames) -> Option<Box<Trailers>> {
        let drops_underscores = self.underscores == UnderscoreRule::Drop;
        let subject = self.client_subject.as_ref().map(|subject| subject.as_str().as_bytes());
        let is_dropped = |name: &[u8]| {
            self.fields.replace_alike(name)
                || (drops_underscores && name.contains(&b'_'))
                || subject.is_some_and(|subject| folds_alike(subject, name))
        };
        passed(trailers, named, is_dropped)
    }
}

impl ResponseRules {
    /// The trailers of a response that are forwarded; `None`: none of them. `named`: by the
    /// `Connection` of its head.
    pub fn pass_trailers(&self, trailers: Box<Trailers>, named: &ConnectionNames) -> Option<Box<Trailers>> {
        passed(trailers, named, |name| self.fields.replace(name))
    }
}

fn passed(
    mut trailers: Box<Trailers>,
    named: &ConnectionNames,
    is_dropped: impl Fn(&[u8]) -> bool,
) -> Option<Box<Trailers>> {
    trailers.retain(|name| !(belongs_in_head(name) || named.name(name) || is_dropped(name)));
    (!trailers.is_empty()).then_some(trailers)
}

/// Whether a field of this name, or of one that a program could take for it, is no trailer.
fn belongs_in_head(name: &[u8]) -> bool {
    let is_it = |other: &&str| match other.ends_with('-') {
        true => name.get(..other.len()).is_some_and(|start| folds_alike(start, other.as_bytes())),
        false => folds_alike(name, other.as_bytes()),
    };
    HEAD_ONLY.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::Known;
    use crate::http::forward::rules::{FieldLine, FieldName, FieldRules};
    use crate::http::request::{HeadLimits, Parsed, parse};

    fn trailers(names: &[&str]) -> Box<Trailers> {
        let mut trailers = Trailers::new();
        names.iter().for_each(|name| trailers.push(name.as_bytes(), b"1"));
        Box::new(trailers)
    }

    fn names(trailers: Option<Box<Trailers>>) -> Vec<String> {
        let trailers = trailers.unwrap_or_default();
        trailers.iter().map(|field| String::from_utf8(field.name.to_vec()).unwrap()).collect()
    }

    /// What a request's and a response's trailers come to.
    fn forwarded(fields: &FieldRules, connection: &str, all: &[&str]) -> [Vec<String>; 2] {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{connection}\r\n");
        let Ok(Parsed::Complete { head, .. }) = parse(text.as_bytes(), &HeadLimits::default()) else {
            panic!("{text}")
        };
        let named = ConnectionNames::of(&head.fields);
        let request = RequestRules { fields: fields.clone(), ..RequestRules::default() };
        let response = ResponseRules { fields: fields.clone(), ..ResponseRules::default() };
        [request.pass_trailers(trailers(all), &named), response.pass_trailers(trailers(all), &named)].map(names)
    }

    #[test]
    fn row_18_what_belongs_in_the_head_is_no_trailer() {
        for known in Known::ALL {
            for name in [known.as_str().to_owned(), known.as_str().to_lowercase(), known.as_str().replace('-', "_")] {
                assert_eq!(
                    forwarded(&FieldRules::default(), "", &[&name]),
                    [const { Vec::<String>::new() }; 2],
                    "{name}"
                );
            }
        }
        let others =
            ["content-type", "CONTENT.ENCODING", "Proxy", "X-Forwarded-Port", "x_forwarded_x", "Sec-X", "If-X"];
        assert_eq!(forwarded(&FieldRules::default(), "", &others), [const { Vec::<String>::new() }; 2]);
    }

    #[test]
    fn row_18_other_trailers_are_forwarded_in_order() {
        let all = ["grpc-status", "Content-Digest", "ETag", "Proxy-Status", "grpc-status", "X_Y", "Sect", "Accepted"];
        assert_eq!(forwarded(&FieldRules::default(), "", &all), [all; 2]);
    }

    #[test]
    fn row_59_connection_names_trailers_too() {
        let connection = "Connection: close, X-Mine\r\nConnection: x-other\r\n";
        let left = forwarded(&FieldRules::default(), connection, &["x-mine", "X-Other", "X-Third"]);
        assert_eq!(left, [["X-Third"]; 2]);
        assert_eq!(ConnectionNames::of(&Fields::default()), ConnectionNames::default());
    }

    #[test]
    fn row_80_rules_apply_to_trailers() {
        let fields = FieldRules {
            set: vec![FieldLine::new("X-Set", "ours").unwrap()],
            add: vec![FieldLine::new("X-Add", "ours").unwrap()],
            remove: vec![FieldName::new("X-Remove").unwrap()],
        };
        let [request, response] = forwarded(&fields, "", &["x-set", "X_Remove", "X-Remove", "X-Add"]);
        assert_eq!(request, ["X-Add"], "no program behind the proxy can take one for the other");
        assert_eq!(response, ["X_Remove", "X-Add"]);
        let rules = RequestRules {
            client_subject: FieldName::new("X-Subject").ok(),
            underscores: UnderscoreRule::Drop,
            ..RequestRules::default()
        };
        let left = rules.pass_trailers(trailers(&["X-Subject", "x_y", "Y"]), &ConnectionNames::default());
        assert_eq!(names(left), ["Y"]);
    }
}
