//! HAProxy, as a relay of TCP or HTTP.

use std::fs;
use std::io;
use std::process::Command;

use super::{Setup, find, required};
use crate::scenario::Service;

/// Writes its configuration, with these additions to `global` and `defaults`.
pub fn command(setup: &Setup<'_>, tuning: &str, option: &str) -> io::Result<Command> {
    let Setup { port, origin, connections, .. } = setup;
    let mode = match setup.service {
        Service::Relay => "mode tcp",
        // The timeout is that of an idle client's connection.
        Service::HttpProxy => "mode http\n    http-reuse always\n    timeout http-keep-alive 60s",
        Service::Files => return Err(io::Error::other("HAProxy serves no files")),
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
    bind 127.0.0.1:{port}
    server origin 127.0.0.1:{origin}
"
    );
    let configuration = setup.folder.join("haproxy.cfg");
    fs::write(&configuration, text)?;
    let mut command = Command::new(required("haproxy")?);
    command.arg("-db").arg("-f").arg(configuration);
    Ok(command)
}

/// How to get it, if it is not there.
pub fn missing() -> Option<String> {
    find("haproxy").is_none().then(|| "not in PATH; Debian: apt-get install haproxy".to_owned())
}
