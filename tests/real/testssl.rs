//! testssl.sh, which tries what is known to go wrong with TLS: it finds nothing above LOW on a default listener.
//!
//! It takes some minutes, so `.ci/run nightly` installs it and the gate does not.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::environment::{report as measured, require_program};
use crate::support::process::wait_for_exit;
use crate::support::tls::Authority;
use crate::support::{Launch, backends};

/// It makes some hundred connections, with pauses.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What is above LOW for another reason than the server.
const ACCEPTED: [(&str, &str); 3] = [
    // Each suite on offer is authenticated and has forward secrecy, and a client knows which of them it is fast with.
    ("cipher_order", "the client's order counts"),
    ("cert_validityPeriod", "the certificate is the test's"),
    ("cert_revocation", "the certificate is the test's"),
];

/// A finding: what was looked at, how bad it is, and the words for it.
fn findings(report: &Value) -> Vec<[String; 3]> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = report.as_array().expect("a list of findings");
    all.iter().map(|finding| ["id", "severity", "finding"].map(|key| text(finding, key))).collect()
}

backends! {
    fn testssl_finds_nothing_above_low(backend) {
        let Some(testssl) = require_program("testssl_finds_nothing_above_low", "testssl", "testssl.sh") else { return };
        let authority = Authority::new();
        let signed = authority.signed(&["localhost", "127.0.0.1"]);
        let xps = Launch::new(backend, ["serve", ".", "--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"])
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .start();
        let (report, output) = (authority.path("report.json"), authority.path("output"));
        let to = || Stdio::from(File::options().create(true).append(true).open(&output).expect("a temporary file"));
        let mut process = Command::new(testssl)
            .args(["--warnings", "off", "-n", "none", "--quiet", "--color", "0", "--ip", "127.0.0.1", "--add-ca"])
            .arg(authority.ca())
            .arg("--jsonfile")
            .arg(&report)
            .arg(format!("localhost:{}", xps.address().port()))
            .stdin(Stdio::null())
            .stdout(to())
            .stderr(to())
            .spawn()
            .expect("it starts");
        let Some(status) = wait_for_exit(&mut process, PATIENCE) else {
            let _ = process.kill();
            panic!("it does not end:\n{}", std::fs::read_to_string(output).unwrap_or_default());
        };
        let report = std::fs::read_to_string(report).expect("it has written a report");
        let findings = findings(&serde_json::from_str(&report).expect("JSON"));
        let of = |id: &str| findings.iter().find(|[found, ..]| found == id).map(|[_, _, text]| text.as_str());
        for version in ["TLS1_2", "TLS1_3"] {
            assert!(of(version).is_some_and(|text| text.starts_with("offered")), "{version}, {status}:\n{report}");
        }
        let of_severity = |severity: &str| -> Vec<&str> {
            findings.iter().filter(|[_, found, _]| found == severity).map(|[id, ..]| id.as_str()).collect()
        };
        measured(&format!(
            "testssl.sh over {backend:?}: {} findings; LOW: {:?}; could not be tried: {:?}",
            findings.len(),
            of_severity("LOW"),
            of_severity("WARN"),
        ));
        let is_bad = |[id, severity, _]: &&[String; 3]| {
            ["MEDIUM", "HIGH", "CRITICAL"].contains(&severity.as_str())
                && ACCEPTED.iter().all(|(accepted, _)| id != accepted)
        };
        let bad: Vec<&[String; 3]> = findings.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}
