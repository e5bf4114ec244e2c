//! xps: everything is on its command line, except for a proxy of HTTP/2, which keeps more connections to its origin.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::Setup;
use crate::scenario::{Scenario, Service, Tls};

/// How to start it on this back-end.
pub fn command(setup: &Setup<'_>, backend: &str) -> io::Result<Command> {
    let mut command = service(setup)?;
    command.args(["--workers", "1", "--backend", backend, "--log-format", "json", "--log-level", "error"]);
    Ok(command)
}

fn service(setup: &Setup<'_>) -> io::Result<Command> {
    if setup.scenario.service == Service::HttpProxy && setup.scenario.streams().is_some() {
        return http2_proxy(setup);
    }
    let scheme = match setup.scenario.tls {
        Tls::Origin => "https://",
        Tls::Nowhere | Tls::Clients => "",
    };
    let origin = format!("{scheme}127.0.0.1:{}", setup.origin);
    let mut command = Command::new(setup.xps);
    match setup.scenario.service {
        Service::Relay => command.args(["proxy", "--upstream", &origin]),
        Service::HttpProxy => command.args(["proxy", HTTP_OPTION, "--upstream", &origin, "--access-log", "off"]),
        Service::Files => command.arg("serve").arg(setup.documents).args(["--access-log", "off"]),
    };
    match setup.scenario.tls {
        Tls::Nowhere => {
            command.args(setup.scenario.streams().map(|_| HTTP2_OPTION));
        }
        Tls::Clients => {
            command.arg(CERTIFICATE_OPTION).arg(setup.identity.certificate());
            command.arg("--tls-key").arg(setup.identity.key());
        }
        Tls::Origin => {
            command.arg(ORIGIN_CA_OPTION).arg(setup.identity.certificate());
        }
    }
    command.arg("--listen").arg(format!("127.0.0.1:{}", setup.port));
    Ok(command)
}

/// Its document, without an access log, which is the default.
fn http2_proxy(setup: &Setup<'_>) -> io::Result<Command> {
    let mut listener = json!({ "host": "127.0.0.1", "port": setup.port });
    match setup.scenario.tls {
        Tls::Clients => {
            let (cert, key) = (setup.identity.certificate(), setup.identity.key());
            listener["tls"] = json!({ "certificates": [{ "cert": cert, "key": key }] });
        }
        Tls::Nowhere | Tls::Origin => listener["h2c"] = json!(true),
    }
    let route = json!({
        "req_path": "/",
        "type": "reverse_proxy",
        "upstreams": [format!("127.0.0.1:{}", setup.origin)],
        "keepalive": { "idle_max": setup.concurrency },
    });
    let document = json!({ "servers": [{ "listeners": [listener], "routes": [route] }] });
    let file = setup.folder.join("xps.json");
    fs::write(&file, document.to_string())?;
    let mut command = Command::new(setup.xps);
    command.arg("run").arg(file);
    Ok(command)
}

/// What the binary cannot do, although the scenario needs it.
pub fn missing(scenario: &Scenario, xps: &Path) -> Option<String> {
    let subcommand = match scenario.service {
        Service::Relay | Service::HttpProxy => "proxy",
        Service::Files => "serve",
    };
    let http = (scenario.service == Service::HttpProxy).then_some(HTTP_OPTION);
    // Over TLS the generator says if there is no HTTP/2.
    let http2 = scenario.streams().map(|_| HTTP2_OPTION);
    let tls = match scenario.tls {
        Tls::Nowhere => None,
        Tls::Clients => Some(CERTIFICATE_OPTION),
        Tls::Origin => Some(ORIGIN_CA_OPTION),
    };
    if http.is_none() && tls.is_none() && http2.is_none() {
        return None;
    }
    let help = Command::new(xps).args([subcommand, "--help"]).output().ok()?.stdout;
    let help = String::from_utf8_lossy(&help);
    let unknown = |option: &&str| !help.split_ascii_whitespace().any(|word| word == *option);
    let option = http.into_iter().chain(tls).chain(http2).find(unknown)?;
    Some(format!("`xps {subcommand}` of this build has no {option}"))
}

/// Makes `xps proxy` one that knows HTTP.
const HTTP_OPTION: &str = "--http";

/// Makes a listener without TLS one of HTTP/2.
const HTTP2_OPTION: &str = "--h2c";

/// Makes a listener one with TLS.
const CERTIFICATE_OPTION: &str = "--tls-cert";

/// Names the certificates that upstreams over TLS are trusted by.
const ORIGIN_CA_OPTION: &str = "--upstream-ca";
