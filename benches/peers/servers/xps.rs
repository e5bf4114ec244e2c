//! xps: everything is on its command line.

use std::io;
use std::path::Path;
use std::process::Command;

use super::Setup;
use crate::scenario::{Scenario, Service, Tls};

/// How to start it on this back-end.
pub fn command(setup: &Setup<'_>, backend: &str) -> io::Result<Command> {
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
        Tls::Nowhere => {}
        Tls::Clients => {
            command.arg(CERTIFICATE_OPTION).arg(setup.identity.certificate());
            command.arg("--tls-key").arg(setup.identity.key());
        }
        Tls::Origin => {
            command.arg(ORIGIN_CA_OPTION).arg(setup.identity.certificate());
        }
    }
    command.arg("--listen").arg(format!("127.0.0.1:{}", setup.port));
    command.args(["--workers", "1", "--backend", backend, "--log-format", "json", "--log-level", "error"]);
    Ok(command)
}

/// What the binary cannot do, although the scenario needs it.
pub fn missing(scenario: &Scenario, xps: &Path) -> Option<String> {
    let subcommand = match scenario.service {
        Service::Relay | Service::HttpProxy => "proxy",
        Service::Files => "serve",
    };
    let http = (scenario.service == Service::HttpProxy).then_some(HTTP_OPTION);
    let tls = match scenario.tls {
        Tls::Nowhere => None,
        Tls::Clients => Some(CERTIFICATE_OPTION),
        Tls::Origin => Some(ORIGIN_CA_OPTION),
    };
    if http.is_none() && tls.is_none() {
        return None;
    }
    let help = Command::new(xps).args([subcommand, "--help"]).output().ok()?.stdout;
    let help = String::from_utf8_lossy(&help);
    let unknown = |option: &&str| !help.split_ascii_whitespace().any(|word| word == *option);
    let option = http.into_iter().chain(tls).find(unknown)?;
    Some(format!("`xps {subcommand}` of this build has no {option}"))
}

/// Makes `xps proxy` one that knows HTTP.
const HTTP_OPTION: &str = "--http";

/// Makes a listener one with TLS.
const CERTIFICATE_OPTION: &str = "--tls-cert";

/// Names the certificates that upstreams over TLS are trusted by.
const ORIGIN_CA_OPTION: &str = "--upstream-ca";
