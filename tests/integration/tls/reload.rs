//! A reload reads the certificates again, or changes nothing.

use std::fs;

use serde_json::json;

use crate::support::log::Record;
use crate::support::process::Signal;
use crate::support::tls::{Authority, Signed};
use crate::support::{Launch, ask, backends};

/// The value of the metric of a certificate.
fn expiry(address: std::net::SocketAddr) -> Option<String> {
    let answer = ask(address, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let line = text.lines().find(|line| line.starts_with("xps_tls_certificate_expiry_timestamp_seconds{"))?;
    line.split_once("} ").map(|(_, value)| value.to_owned())
}

backends! {
    fn renewed_certificates_are_loaded_and_bad_ones_change_nothing(backend) {
        let authority = Authority::new();
        let year = |year| authority.signed_with(&["example.org"], |it| it.not_after = rcgen::date_time_ymd(year, 1, 1));
        let Signed { cert, key, .. } = year(2100);
        let routes = json!([{ "req_path": "/", "type": "metrics" }]);
        let tls = json!({ "certificates": [{ "cert": cert, "key": key }] });
        let file = json!({
            "access_log": "off",
            "workers": 1,
            "servers": [
                { "listeners": [{ "host": "127.0.0.1", "port": 0 }], "routes": routes },
                { "listeners": [{ "host": "127.0.0.2", "port": 0, "tls": tls }], "routes": routes },
            ],
        });
        fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
        let xps = Launch::new(backend, ["run"]).in_folder(&authority.path("")).listening_on(2).start();
        let plain = xps.addresses().iter().copied().find(|address| address.ip().to_string() == "127.0.0.1");
        let plain = plain.expect("it listens there");
        assert_eq!(expiry(plain).as_deref(), Some("4102444800"));
        year(2101);
        xps.signal(Signal::Hangup);
        let is_reloaded = |record: &Record| record.message() == "the configuration was reloaded";
        xps.log().wait_for("the reload", is_reloaded);
        assert_eq!(expiry(plain).as_deref(), Some("4133980800"));
        fs::write(&key, "").expect("a temporary file");
        xps.signal(Signal::Hangup);
        let is_refused =
            |record: &Record| record.message() == "the configuration is refused, and nothing has changed";
        let refused = xps.log().wait_for("the refusal", is_refused);
        let error = refused.text("error").unwrap_or_default();
        assert!(error.ends_with("it contains no private key in PEM form"), "{error}");
        assert_eq!(expiry(plain).as_deref(), Some("4133980800"));
        xps.finish();
    }
}
