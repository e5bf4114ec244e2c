//! `xps explain` shows which certificate a name would get.

use std::fs;

use serde_json::json;

use crate::support::tls::Authority;
use crate::support::{Backend, Launch};

/// The exit code and all that is said, with the folder as `FOLDER`.
fn explain(authority: &Authority, url: &str) -> (Option<i32>, String) {
    let words = ["explain", "xps_config.json", "GET", url];
    let finished = Launch::new(Backend::Epoll, words).in_folder(&authority.path("")).run(b"");
    let text = format!("{}{}", String::from_utf8_lossy(&finished.output), finished.errors);
    (finished.status.code(), text.replace(&authority.path("").display().to_string(), "FOLDER/"))
}

#[test]
fn the_certificate_versions_and_protocols_of_a_name_are_shown() {
    let authority = Authority::new();
    for names in [&["example.org"][..], &["*.example.com", "127.0.0.1"]] {
        authority.signed(names);
    }
    let files = |name: &str| json!({ "cert": format!("{name}.crt"), "key": format!("{name}.key") });
    let tls = |more: serde_json::Value| {
        let mut tls = json!({ "certificates": [files("example.org"), files("-.example.com_127.0.0.1")] });
        tls.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        tls
    };
    let routes = json!([{ "req_path": "/", "type": "redirect", "redirect_url": "/x" }]);
    let strict = json!({ "unknown_name": "refuse", "min_version": "1.3", "client_auth": { "ca": "ca.pem" } });
    let file = json!({
        "access_log": "off",
        "servers": [
            { "listeners": [{ "port": 443, "tls": tls(json!({})) }], "hsts": {}, "routes": routes },
            { "listeners": [{ "port": 8443, "tls": tls(strict) }], "routes": routes },
            { "listeners": [{ "port": 80, "h2c": true, "redirect_to_https": true }], "routes": routes },
        ],
    });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    let (code, text) = explain(&authority, "https://a.example.com/");
    let expected = "\
listener  0.0.0.0:443, https
tls       TLS 1.2 and 1.3, ALPN h2, http/1.1, http/1.0
          certificate FOLDER/-.example.com_127.0.0.1.crt for *.example.com, 127.0.0.1
client    ";
    assert!(code == Some(0) && text.contains(expected), "{text}");
    assert!(text.contains("Strict-Transport-Security: max-age=31536000"), "{text}");
    let (code, text) = explain(&authority, "https://other.org/");
    let expected = "\
          certificate FOLDER/example.org.crt for example.org
          which is not for other.org: clients refuse it
";
    assert!(code == Some(0) && text.contains(expected), "{text}");
    let (code, text) = explain(&authority, "https://example.org:8443/");
    let expected = "tls       TLS 1.3, ALPN h2, http/1.1, http/1.0, a certificate of the client is required\n";
    assert!(code == Some(0) && text.contains(expected), "{text}");
    let (code, text) = explain(&authority, "http://example.org/");
    let expected = "\
listener  0.0.0.0:80, http
          a client that begins with the preface of HTTP/2 speaks it (h2c)
";
    assert!(code == Some(0) && text.contains(expected), "{text}");
    for (url, reason) in [
        ("https://other.org:8443/", "the handshake fails: no certificate for other.org, see `unknown_name`"),
        ("https://127.0.0.1:8443/", "the handshake fails: no certificate for no name, see `unknown_name`"),
        ("http://example.org:443/", "400: 0.0.0.0:443 expects TLS; write https:// in the URL"),
        ("https://example.org:80/", "0.0.0.0:80 has no TLS, so the handshake fails; write http://"),
    ] {
        let (code, text) = explain(&authority, url);
        assert!(code == Some(1) && text.contains(reason), "{text}");
    }
    let (_, text) = explain(&authority, "http://example.org/a?b");
    assert!(text.contains("308") && text.contains("Location: https://example.org/a?b"), "{text}");
    assert!(!text.contains("Strict-Transport-Security"), "{text}");
}
