//! The request to explain, in the form in which a client would send it.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::cli::args::ExplainOptions;
use crate::cli::failure::Failure;
use crate::config::ListenAddress;
use crate::http::Scheme;
use crate::http::redirect::without_port;

pub(super) struct Request {
    pub(super) line: String,
    /// The request line and the header fields, as bytes on the wire.
    pub(super) head: String,
    /// Whether it is sent over HTTP/2.
    pub(super) is_http2: bool,
    http2_fields: Vec<(String, String)>,
    pub(super) host: String,
    port: u16,
    pub(super) client: IpAddr,
    pub(super) scheme: Scheme,
}

impl Request {
    pub(super) fn of(options: &ExplainOptions) -> Result<Self, Failure> {
        let bad = |reason: &str| Failure::Usage(format!("`{}` cannot be explained: {reason}", options.url));
        let with = |scheme: Scheme| {
            let rest = options.url.strip_prefix(scheme.name())?.strip_prefix("://")?;
            Some((scheme, rest))
        };
        let (scheme, rest) = with(Scheme::Http)
            .or_else(|| with(Scheme::Https))
            .ok_or_else(|| bad("write http://HOST:PORT/PATH or https://HOST:PORT/PATH"))?;
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("the part after the colon is not a port"))?)
            }
            Some(_) | None => (authority, scheme.default_port()),
        };
        // Only CONNECT has a host and port as its target (RFC 9112, 3.2.3).
        let target = if options.method == "CONNECT" { format!("{}:{port}", without_port(authority)) } else { target };
        let http2_fields = http2_fields(options, scheme, authority, &target);
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", options.method);
        for header in &options.header {
            // Writing to a string cannot fail, here and below.
            let _ = write!(head, "{}: {}\r\n", header.name, header.value);
        }
        head.push_str("\r\n");
        Ok(Self {
            line: format!("{} {}", options.method, options.url),
            head,
            is_http2: options.http2,
            http2_fields,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            client: options.client,
            scheme,
        })
    }

    /// The fields of the request over HTTP/2 (RFC 9113, 8.3.1).
    pub(super) fn http2_fields(&self) -> &[(String, String)] {
        &self.http2_fields
    }

    /// The name that a client asks for in its handshake: none for an address (RFC 6066, 3).
    pub(super) fn server_name(&self) -> Option<&str> {
        Some(self.host.as_str()).filter(|host| host.parse::<IpAddr>().is_err())
    }

    /// Whether a connection to the URL's host would arrive at this address.
    pub(super) fn reaches(&self, address: &ListenAddress) -> bool {
        match address.inet() {
            Some(address) if address.port() != self.port => false,
            Some(address) => match self.host.parse::<IpAddr>() {
                Ok(wanted) => address.ip().is_unspecified() || address.ip() == wanted,
                // Names are not resolved: any address may be theirs.
                Err(_) => true,
            },
            None => false,
        }
    }
}

/// The pseudo-header fields, then those that the options name, in lower case.
fn http2_fields(options: &ExplainOptions, scheme: Scheme, authority: &str, target: &str) -> Vec<(String, String)> {
    let pseudo: &[(&str, &str)] = match options.method.as_str() {
        "CONNECT" => &[(":method", "CONNECT"), (":authority", target)],
        method => &[(":method", method), (":scheme", scheme.name()), (":authority", authority), (":path", target)],
    };
    let pseudo = pseudo.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    pseudo.chain(options.header.iter().map(|header| (header.name.to_lowercase(), header.value.clone()))).collect()
}
