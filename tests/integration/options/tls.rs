//! What options of TLS do: which certificate is served, and that the service says so.

use std::path::Path;

use tempfile::TempDir;

use crate::options::target::Case;
use crate::support::log::Record;
use crate::support::process::Finished;
use crate::support::tls::Authority;
use crate::support::{Launch, Xps, ask};

/// The service and the certificate in the log.
fn served(case: &Case, flags: &[&str]) -> (String, String) {
    let running = case.start(flags);
    let loaded = running.xps.log().wait_for("the certificate", |record| record.message() == "certificate loaded");
    let listening = running.xps.log().wait_for("the address", |record| record.message() == "listening");
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    (text(listening.text("service")), text(loaded.text("names")))
}

pub fn certificate_and_key(case: &Case) {
    let authority = Authority::new();
    let signed = authority.signed(&["example.org"]);
    let shown = |path: &Path| path.display().to_string();
    let (cert, key) = (shown(&signed.cert), shown(&signed.key));
    let service = if case.is_http || case.command == "serve" { "https" } else { "tcp_proxy over TLS" };
    let both = authority.path("both.pem");
    let [one, other] = [&signed.cert, &signed.key].map(|path| std::fs::read_to_string(path).expect("a file"));
    std::fs::write(&both, one + &other).expect("a temporary file");
    for flags in [&["--tls-cert", &cert, "--tls-key", &key][..], &["--tls-cert", &shown(&both)]] {
        assert_eq!(served(case, flags), (service.to_owned(), "example.org".to_owned()), "{}", case.command);
    }
    let refused = |flags: &[&str]| {
        let finished = case.launch(flags).run(b"");
        (finished.status.code(), finished.errors)
    };
    let (code, errors) = refused(&["--tls-cert", &cert]);
    let expected = format!("cannot use the private key {cert}: it contains no private key in PEM form");
    assert!(code == Some(1) && errors.contains(&expected), "{errors}");
    let (code, errors) = refused(&["--tls-key", &key]);
    assert!(code == Some(2) && errors.contains("--tls-cert"), "{errors}");
    let (code, errors) = refused(&["--tls-cert", &cert, "--tls-self-signed"]);
    assert!(code == Some(2) && errors.contains("cannot be used together"), "{errors}");
}

pub fn self_signed(case: &Case) {
    let (service, names) = served(case, &["--tls-self-signed"]);
    let expected = if case.is_http || case.command == "serve" { "https" } else { "tcp_proxy over TLS" };
    assert_eq!((service.as_str(), names.as_str()), (expected, "localhost, 127.0.0.1, ::1"), "{}", case.command);
}

/// From an authority that is not there.
pub fn obtained_certificates(case: &Case) {
    let storage = case.path("storage").display().to_string();
    let authority = ["--acme-directory", "https://127.0.0.1:1/dir", "--acme-storage", &storage];
    let flags = |more: &[&'static str]| [more, &authority[..]].concat();
    let refused = |flags: &[&str], expected: &str| {
        let finished = case.launch(flags).run(b"");
        assert!(finished.status.code() == Some(2) && finished.errors.contains(expected), "{}", finished.errors);
    };
    if case.command == "proxy" && !case.is_http {
        return refused(&flags(&["--acme", "a.test"]), "--acme needs --http");
    }
    refused(&flags(&[]), "--acme <NAME");
    refused(&flags(&["--acme", "*.a.test"]), "each name");
    refused(&flags(&["--acme", "a.test", "--acme-email", "a"]), "not an address for mail");
    refused(&flags(&["--acme", "a.test", "--tls-self-signed"]), "cannot be used together");
    let running = case.start(&flags(&["--acme", "a.test,b.test", "--acme-email", "admin@a.test"]));
    for name in ["a.test", "b.test"] {
        let failed = |record: &Record| {
            record.message() == "no certificate could be obtained" && record.text("domain") == Some(name)
        };
        let record = running.xps.log().wait_for("an attempt", failed);
        assert_eq!(record.text("directory"), Some("https://127.0.0.1:1/dir"));
    }
    assert!(case.path("storage/127.0.0.1_1_dir/account.pem").exists());
}

const GET: &[u8] = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server over TLS whose certificate is for `localhost`, and the folder that it serves.
fn origin(case: &Case, authority: &Authority) -> (Xps, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
    let signed = authority.signed(&["localhost"]);
    let launch = Launch::new(case.backend, ["serve"]).flag(folder.path().display());
    let launch =
        launch.flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"]).flag(signed.cert.display());
    (launch.flag("--tls-key").flag(signed.key.display()).start(), folder)
}

pub fn to_upstreams(case: &Case) {
    let authority = Authority::new();
    let (origin, _folder) = origin(case, &authority);
    let (url, ca) = (format!("https://localhost:{}", origin.address().port()), authority.ca().display().to_string());
    let status = |flags: &[&str]| {
        let words = ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off", "--upstream", &url];
        let xps = Launch::new(case.backend, words).flags(flags.iter().copied()).start();
        let answer = ask(xps.address(), GET);
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status(&["--upstream-ca", &ca]), "200");
    assert_eq!(status(&["--upstream-insecure"]), "200");
    assert_eq!(status(&[]), "502", "the system does not trust the authority of a test");
    let Finished { status, errors, .. } = case.launch(&["--upstream-insecure"]).run(b"");
    assert!(status.code() == Some(2) && errors.contains("write https://HOST:PORT"), "{errors}");
}

pub fn connect(case: &Case) {
    let authority = Authority::new();
    let (origin, _folder) = origin(case, &authority);
    let (port, ca) = (origin.address().port(), authority.ca().display().to_string());
    let is_served = |host: &str, flags: &[&str]| {
        let url = format!("tls://{host}:{port}");
        let finished = Launch::new(case.backend, ["connect", &url]).flags(flags.iter().copied()).run(GET);
        finished.output.ends_with(b"\r\n\r\na page")
    };
    assert!(is_served("localhost", &["--ca", &ca]));
    assert!(!is_served("localhost", &[]), "the system does not trust the authority of a test");
    assert!(is_served("127.0.0.1", &["--insecure"]));
    assert!(!is_served("127.0.0.1", &["--ca", &ca]), "the certificate is for another name");
    assert!(is_served("127.0.0.1", &["--ca", &ca, "--sni", "localhost"]));
    assert!(is_served("localhost", &["--ca", &ca, "--alpn", "other,http/1.1"]));
    assert!(!is_served("localhost", &["--ca", &ca, "--alpn", "other"]), "HTTP servers speak http/1.1");
}
