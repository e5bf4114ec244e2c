//! xps: everything is on its command line.

use std::io;
use std::path::Path;
use std::process::Command;

use super::Setup;
use crate::scenario::Service;

/// How to start it on this back-end.
pub fn command(setup: &Setup<'_>, backend: &str) -> io::Result<Command> {
    let origin = format!("127.0.0.1:{}", setup.origin);
    let mut command = Command::new(setup.xps);
    match setup.service {
        Service::Relay => command.args(["proxy", "--upstream", &origin]),
        Service::HttpProxy => command.args(["proxy", HTTP_OPTION, "--upstream", &origin, "--access-log", "off"]),
        Service::Files => command.arg("serve").arg(setup.documents).args(["--access-log", "off"]),
    };
    command.arg("--listen").arg(format!("127.0.0.1:{}", setup.port));
    command.args(["--workers", "1", "--backend", backend, "--log-format", "json", "--log-level", "error"]);
    Ok(command)
}

/// What the binary cannot do, although the scenario needs it.
pub fn missing(service: Service, xps: &Path) -> Option<String> {
    match service {
        Service::Relay | Service::Files => None,
        Service::HttpProxy => {
            let help = Command::new(xps).args(["proxy", "--help"]).output().ok()?.stdout;
            let known = String::from_utf8_lossy(&help).split_ascii_whitespace().any(|word| word == HTTP_OPTION);
            (!known).then(|| format!("`xps proxy` of this build has no {HTTP_OPTION}"))
        }
    }
}

/// Makes `xps proxy` one that knows HTTP.
const HTTP_OPTION: &str = "--http";
