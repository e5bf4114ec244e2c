//! What options of TLS do: which certificate is served, and that the service says so.

use std::path::Path;

use crate::support::tls::Authority;
use crate::target::Case;

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
