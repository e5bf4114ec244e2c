//! `xps check` finds certificates that would fail at each handshake; so does a start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::date_time_ymd;
use serde_json::{Value, json};

use crate::support::process::Finished;
use crate::support::tls::Authority;
use crate::support::{Backend, Launch};

/// A file with a server on a port of the kernel's choice that has these certificates.
fn configure(authority: &Authority, certificates: Value) {
    configure_with(authority, certificates, json!([]));
}

fn configure_with(authority: &Authority, certificates: Value, hostnames: Value) {
    let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": { "certificates": certificates } });
    let route = json!({ "req_path": "/", "type": "metrics" });
    let server = json!({ "listeners": [listener], "hostnames": hostnames, "routes": [route] });
    let file = json!({ "access_log": "off", "servers": [server] });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
}

fn run(authority: &Authority, words: &[&str]) -> Finished {
    Launch::new(Backend::Epoll, words.iter().copied()).in_folder(&authority.path("")).run(b"")
}

#[track_caller]
fn assert_found(authority: &Authority, expected: &str) {
    let checked = run(authority, &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", checked.errors);
    assert!(checked.errors.contains(expected), "{expected} is missing:\n{}", checked.errors);
    assert_eq!(run(authority, &["check", "--no-fs"]).status.code(), Some(0), "the file alone is well");
    let started = run(authority, &["run"]);
    assert_eq!(started.status.code(), Some(1), "{}", started.errors);
    assert!(started.errors.contains(expected), "{expected} is missing:\n{}", started.errors);
}

fn shown(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn a_good_certificate_is_well() {
    let authority = Authority::new();
    let signed = authority.signed(&["example.org", "*.example.org"]);
    let certificates = json!([{ "cert": shown(&signed.cert), "key": shown(&signed.key) }]);
    configure_with(&authority, certificates, json!(["example.org", "www.example.org", "*.example.org:8443"]));
    let checked = run(&authority, &["check"]);
    assert_eq!((checked.status.code(), checked.errors.as_str()), (Some(0), ""));
}

#[test]
fn one_that_has_expired_or_is_not_valid_yet_is_found() {
    let authority = Authority::new();
    let expired = authority.signed_with(&["old.org"], |parameters| parameters.not_after = date_time_ymd(2020, 1, 2));
    configure(&authority, json!([{ "cert": expired.cert, "key": expired.key }]));
    let cert = expired.cert.display();
    assert_found(&authority, &format!("cannot use the certificate {cert}: it expired on 2020-01-02"));
    let early = authority.signed_with(&["new.org"], |parameters| parameters.not_before = date_time_ymd(2500, 1, 2));
    configure(&authority, json!([{ "cert": early.cert, "key": early.key }]));
    let cert = early.cert.display();
    assert_found(&authority, &format!("cannot use the certificate {cert}: it is not valid before 2500-01-02"));
}

#[test]
fn a_key_of_another_certificate_and_files_that_are_not_there_are_found() {
    let authority = Authority::new();
    let (one, other) = (authority.signed(&["one.org"]), authority.signed(&["other.org"]));
    configure(&authority, json!([{ "cert": one.cert, "key": other.key }]));
    let (cert, key) = (one.cert.display(), other.key.display());
    assert_found(&authority, &format!("cannot use the private key {key}: it is not the key of the certificate {cert}"));
    configure(&authority, json!([{ "cert": "missing.pem" }, { "cert": one.cert, "key": "missing.key" }]));
    let folder = authority.path("");
    for (role, name) in [("certificate", "missing.pem"), ("private key", "missing.key")] {
        let path = folder.join(name);
        let expected = format!("cannot use the {role} {}: No such file or directory", path.display());
        let checked = run(&authority, &["check"]);
        assert!(checked.errors.contains(&expected), "{expected} is missing:\n{}", checked.errors);
    }
}

#[test]
fn what_works_and_should_not_be_so_is_a_warning() {
    let authority = Authority::new();
    let signed = authority.signed(&["example.org"]);
    fs::set_permissions(&signed.key, Permissions::from_mode(0o644)).expect("a file of ours");
    let certificates = json!([{ "cert": signed.cert, "key": signed.key }]);
    configure_with(&authority, certificates, json!(["example.org", "example.com"]));
    let checked = run(&authority, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", checked.errors);
    let readable = format!("other users can read the private key {} (mode 0644): chmod 600 it", signed.key.display());
    let uncovered = "no certificate of 127.0.0.1:0 has the host name example.com: clients will refuse it";
    for warning in [readable.as_str(), uncovered] {
        let line = format!("xps: warning: xps_config.json: {warning}\n");
        assert!(checked.errors.contains(&line), "{line} is missing:\n{}", checked.errors);
    }
    assert!(!checked.errors.contains("host name example.org"), "{}", checked.errors);
}
