//! HAProxy, as a relay of TCP or HTTP, or to answer with a file that it keeps in memory.

use std::fs;
use std::io;
use std::process::Command;

use super::{Setup, find, required};
use crate::certificate::NAME;
use crate::scenario::{Service, Tls};

/// Bytes of a file that it can keep: with a head they must fit its buffer, of 16 KiB by default.
pub const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Writes its configuration, with these additions to `global` and `defaults`.
pub fn command(setup: &Setup<'_>, tuning: &str, option: &str) -> io::Result<Command> {
    let Setup { port, connections, .. } = setup;
    let mode = match setup.scenario.service {
        Service::Relay => "mode tcp",
        // The timeout is that of an idle client's connection.
        Service::HttpProxy => "mode http\n    http-reuse always\n    timeout http-keep-alive 60s",
        Service::Files => "mode http\n    timeout http-keep-alive 60s",
    };
    let is_http2 = setup.scenario.streams().is_some();
    let listener_tls = match setup.scenario.tls {
        Tls::Clients => {
            let protocol = if is_http2 { "h2" } else { "http/1.1" };
            format!("ssl crt {} curves X25519 alpn {protocol}", setup.identity.both().display())
        }
        Tls::Nowhere | Tls::Origin if is_http2 => "proto h2".to_owned(),
        Tls::Nowhere | Tls::Origin => String::new(),
    };
    let action = match setup.scenario.service {
        Service::Relay | Service::HttpProxy => relay(setup),
        Service::Files => answer(setup),
    };
    let text = format!(
        "global
    nbthread 1
    maxconn {connections}
    {tuning}

defaults
    {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {option}

listen relay
    bind 127.0.0.1:{port} {listener_tls}
    {action}
"
    );
    let configuration = setup.folder.join("haproxy.cfg");
    fs::write(&configuration, text)?;
    let mut command = Command::new(required("haproxy")?);
    command.arg("-db").arg("-f").arg(configuration);
    Ok(command)
}

fn relay(setup: &Setup<'_>) -> String {
    let tls = match setup.scenario.tls {
        Tls::Origin => {
            let certificate = setup.identity.certificate();
            format!("ssl verify required ca-file {} sni str({NAME}) verifyhost {NAME}", certificate.display())
        }
        Tls::Nowhere | Tls::Clients => String::new(),
    };
    format!("server origin 127.0.0.1:{} {tls}", setup.origin)
}

fn answer(setup: &Setup<'_>) -> String {
    let file = setup.documents.join(setup.scenario.name);
    format!("http-request return status 200 content-type application/octet-stream file {}", file.display())
}

/// How to get it, if it is not there.
pub fn missing() -> Option<String> {
    find("haproxy").is_none().then(|| "not in PATH; Debian: apt-get install haproxy".to_owned())
}
