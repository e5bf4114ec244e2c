//! The URLs of `xps bench`: what is asked of whom.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::super::args::{BenchOptions, BenchTls};
use super::super::failure::Failure;
use crate::config::UpstreamAddress;
use crate::core::StartError;
use crate::http::{self, is_own, token::is_token};
use crate::load::{HttpTarget, HttpVersion, Origin, Work};
use crate::tls::server::Crypto;
use crate::tls::{ClientSettings, ClientTls};

/// The bytes that `tcp://` sends without --body.
const DEFAULT_PAYLOAD: &[u8] = b"0123456789abcdef";

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was given.
    pub url: String,
    weight: u32,
    scheme: Scheme,
    /// The host and the port as they are written.
    authority: String,
    /// The path with its query.
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Tcp,
    Tls,
}

/// The URLs of the command line and of the file.
pub fn read(options: &BenchOptions) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for url in &options.targets {
        targets.push(Target::parse(url, 1).map_err(Failure::Usage)?);
    }
    if let Some(path) = &options.urls {
        let text = read_text(path).map_err(|error| Failure::Config { path: path.clone(), error })?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let target = weighted(line)
                .map_err(|reason| Failure::Usage(format!("{}: line {}: {reason}", path.display(), number + 1)))?;
            targets.push(target);
        }
    }
    if targets.is_empty() { Err(Failure::Usage("no URL to ask".to_owned())) } else { Ok(targets) }
}

fn read_text(path: &Path) -> io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}

/// A line of the file: a URL, or a weight and a URL.
fn weighted(line: &str) -> Result<Target, String> {
    let Some((weight, url)) = line.split_once(char::is_whitespace) else { return Target::parse(line, 1) };
    let weight = weight.parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
    let weight = weight.ok_or("write a weight from 1 to 1000000 before the URL, or the URL alone")?;
    Target::parse(url.trim(), weight)
}

impl Target {
    fn parse(url: &str, weight: u32) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("`{url}` has no scheme: write http://{url}"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            "tls" => Scheme::Tls,
            other => return Err(format!("`{other}://` cannot be asked: write http://, https://, tcp:// or tls://")),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return Err(format!("`{url}` has no host"));
        }
        if authority.contains('@') {
            return Err("credentials in a URL are not sent: use --header 'Authorization: …'".to_owned());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { url: url.to_owned(), weight, scheme, authority: authority.to_owned(), path })
    }

    /// Where to connect to.
    fn address(&self) -> Result<UpstreamAddress, Failure> {
        let text = match self.scheme {
            Scheme::Http => format!("http://{}", self.authority),
            Scheme::Https => format!("https://{}", self.authority),
            Scheme::Tcp => self.authority.clone(),
            Scheme::Tls => format!("tls://{}", self.authority),
        };
        text.parse().map_err(|bad| Failure::Usage(format!("{}: {bad}", self.url)))
    }

    const fn is_http(&self) -> bool {
        matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    const fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Tls)
    }
}

/// What is asked of each server.
pub fn origins(targets: &[Target], options: &BenchOptions) -> Result<Vec<Origin>, Failure> {
    let request = Request::of(options)?;
    let tls = match targets.iter().any(Target::is_tls) {
        true => Some(settings(options)?),
        false => None,
    };
    let mut origins: Vec<(&Target, Origin)> = Vec::new();
    for target in targets {
        let known =
            origins.iter_mut().find(|(first, _)| first.scheme == target.scheme && first.authority == target.authority);
        if let Some((_, Origin { work: Work::Http { targets, .. }, .. })) = known {
            targets.push(request.to(target));
            continue;
        }
        let own = target.address()?;
        let peer = match (&tls, &own) {
            (Some(tls), UpstreamAddress::Tcp { host, is_tls: true, .. }) => {
                Some(tls.peer(host).map_err(|bad| Failure::Usage(bad.to_string()))?)
            }
            _ => None,
        };
        let work = if target.is_http() {
            let version = if options.request.http2_prior_knowledge { HttpVersion::Http2 } else { HttpVersion::Http1 };
            Work::Http { version, targets: vec![request.to(target)] }
        } else {
            let payload = request.body.clone().unwrap_or_else(|| Arc::from(DEFAULT_PAYLOAD));
            Work::Tcp { mode: options.request.mode, payload }
        };
        let address = match &options.request.connect_to {
            Some(address) => address.clone().with_tls(target.is_tls()),
            None => own,
        };
        origins.push((target, Origin { address, tls: peer, work }));
    }
    Ok(origins.into_iter().map(|(_, origin)| origin).collect())
}

fn settings(options: &BenchOptions) -> Result<ClientTls, Failure> {
    let BenchTls { ca, insecure, sni } = &options.tls;
    let offered: &[&[u8]] = if options.request.no_http2 { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    let settings = ClientSettings {
        verify: !insecure,
        ca: ca.clone(),
        server_name: sni.clone(),
        certificate: None,
        alpn: offered.iter().map(|name| name.to_vec()).collect(),
    };
    Ok(settings.load(&Crypto::default()).map_err(StartError::Tls)?)
}

/// What all requests have in common.
struct Request {
    method: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
    body: Option<Arc<[u8]>>,
}

impl Request {
    fn of(options: &BenchOptions) -> Result<Self, Failure> {
        let given = &options.request;
        let body = match &given.body {
            None => None,
            Some(text) => Some(match text.strip_prefix('@') {
                None => Arc::from(text.as_bytes()),
                Some(path) => {
                    let bytes = fs::read(path).map_err(|error| Failure::Config { path: path.into(), error })?;
                    Arc::from(bytes)
                }
            }),
        };
        let method = given.method.clone().unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
        if !is_token(method.as_bytes()) || method == "CONNECT" {
            return Err(Failure::Usage(format!("`{method}` cannot be the method of a request")));
        }
        let (mut host, mut fields) = (None, Vec::new());
        for header in &given.headers {
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            let (name, value) = (name.trim(), value.trim());
            if !is_token(name.as_bytes()) {
                return Err(Failure::Usage(format!("`{header}` is not a field: write 'NAME: VALUE'")));
            }
            if name.eq_ignore_ascii_case("host") {
                host = Some(value.to_owned());
            } else if is_own(name) {
                return Err(Failure::Usage(format!(
                    "`{name}` is set by the connection; see --body and --no-keepalive"
                )));
            } else {
                fields.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(Self { method, host, fields, body })
    }

    fn to(&self, target: &Target) -> HttpTarget {
        HttpTarget {
            method: self.method.clone(),
            scheme: if target.is_tls() { http::Scheme::Https } else { http::Scheme::Http },
            authority: self.host.clone().unwrap_or_else(|| target.authority.clone()),
            path: target.path.clone(),
            fields: self.fields.clone(),
            body: self.body.clone(),
            weight: target.weight,
        }
    }
}
