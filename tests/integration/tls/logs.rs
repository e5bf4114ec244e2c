//! What logs and metrics say of connections over TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use rcgen::DnType;
use serde_json::{Value, json};

use crate::support::log::Record;
use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, Xps, ask, backends, connect, eventually, read_rest};

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n";

/// Metrics over TLS, from clients that may show a certificate, and in plain text on a second address.
fn start(backend: Backend, authority: &Authority, format: &str) -> Xps {
    let signed = authority.signed(&["a.org"]);
    let tls = json!({
        "certificates": [{ "cert": signed.cert, "key": signed.key }],
        "client_auth": { "ca": "ca.pem", "mode": "request" },
    });
    let routes = json!([{ "req_path": "/", "type": "metrics" }]);
    let listeners = [json!({ "host": "127.0.0.1", "port": 0, "tls": tls }), json!({ "host": "127.0.0.2", "port": 0 })];
    let servers = listeners.map(|listener| json!({ "listeners": [listener], "routes": routes }));
    let file = json!({ "access_log": "access.log", "access_format": format, "workers": 1, "servers": servers });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"])
        .in_folder(&authority.path(""))
        .logging("info,xps::session=debug")
        .listening_on(2)
        .start()
}

fn address(xps: &Xps, ip: &str) -> SocketAddr {
    *xps.addresses().iter().find(|address| address.ip().to_string() == ip).expect("it listens there")
}

/// The lines of the access log, once there are so many.
#[track_caller]
fn lines(authority: &Authority, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(authority.path("access.log")).unwrap_or_default();
    eventually("the lines of the log", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

/// Sends the request as this client, which asks for this name.
fn request(xps: &Xps, client: &Client, name: &str) {
    let mut stream = client.connect(address(xps, "127.0.0.1"), name).expect("a handshake");
    stream.write_all(REQUEST).expect("it is read");
    stream.read_rest().expect("an answer");
}

backends! {
    fn the_access_log_shows_what_was_agreed_on_and_who_came(backend) {
        let authority = Authority::new();
        let shown = authority.signed_with(&["client"], |parameters| {
            parameters.distinguished_name.push(DnType::CommonName, "eve\"\r\n,CN=root");
        });
        let guest = Client::trusting_anyone().speaking(&rustls::version::TLS12).forgetful();
        let known = Client::trusting_anyone().offering(&["http/1.1"]).showing(&shown);
        for format in ["json", "combined"] {
            let _ = fs::remove_file(authority.path("access.log"));
            let xps = start(backend, &authority, format);
            request(&xps, &guest, "127.0.0.1");
            request(&xps, &known, "A.ORG");
            ask(address(&xps, "127.0.0.2"), REQUEST);
            let lines = lines(&authority, 3);
            if format == "combined" {
                let words = |line: &str| line.split(' ').rev().map(str::to_owned).collect::<Vec<_>>();
                let guest = words(&lines[0]);
                assert_eq!(guest[..3], ["\"-\"", "\"-\"", "\"-\""]);
                assert!(guest[3].starts_with("TLS_ECDHE_ECDSA_WITH_") && guest[4] == "TLSv1.2", "{}", lines[0]);
                let known = words(&lines[1]);
                assert_eq!(known[..3], ["\"CN=eve\\x5C\\x22\\x5C0D\\x5C0A\\x5C,CN=root\"", "\"http/1.1\"", "\"a.org\""]);
                assert!(known[3].starts_with("TLS_AES_") && known[4] == "TLSv1.3", "{}", lines[1]);
                assert!(words(&lines[2])[0].parse::<u64>().is_ok(), "{}", lines[2]);
                continue;
            }
            let entries: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let members = |entry: &Value| ["tls", "server_name", "alpn", "client_subject"].map(|name| entry[name].clone());
            assert_eq!(members(&entries[0]), ["TLSv1.2".into(), Value::Null, Value::Null, Value::Null]);
            let subject = "CN=eve\\\"\\0D\\0A\\,CN=root";
            assert_eq!(members(&entries[1]), ["TLSv1.3", "a.org", "http/1.1", subject]);
            assert!(entries[1]["cipher"].as_str().is_some_and(|cipher| cipher.starts_with("TLS_AES_")), "{}", lines[1]);
            assert_eq!(members(&entries[2]), [Value::Null, Value::Null, Value::Null, Value::Null]);
            let ended = xps.log().wait_for("the end of the connection", |record: &Record| {
                record.message() == "connection ended" && record.text("client_subject").is_some()
            });
            let text = |name| ended.text(name).unwrap_or_default().to_owned();
            assert_eq!(["tls", "server_name", "client_subject"].map(text), ["TLSv1.3", "a.org", subject]);
            // A resumed session is that of the same client.
            request(&xps, &known, "a.org");
            assert!(self::lines(&authority, 4)[3].contains("eve"));
        }
    }

    fn a_request_without_tls_is_logged_and_counted(backend) {
        let authority = Authority::new();
        let xps = start(backend, &authority, "json");
        let stream = connect(address(&xps, "127.0.0.1"));
        (&stream).write_all(REQUEST).expect("it is read");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let answer = read_rest(&stream);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        let (_, page) = text.split_once("\r\n\r\n").expect("a head");
        let entry: Value = serde_json::from_str(&lines(&authority, 1)[0]).expect("JSON");
        assert_eq!((&entry["status"], &entry["bytes"], &entry["peer"]), (&400.into(), &page.len().into(), &"127.0.0.1".into()));
        assert!(entry["refused"].as_str().is_some_and(|reason| reason.contains("HTTPS")), "{entry}");
        let metrics = String::from_utf8_lossy(&ask(address(&xps, "127.0.0.2"), REQUEST)).into_owned();
        for line in ["xps_http_errors_total 1", "xps_http_responses_total{class=\"4xx\"} 1"] {
            assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
        }
        // The handshake of another client is not disturbed by it.
        let mut stream = Client::trusting_anyone().connect(address(&xps, "127.0.0.1"), "a.org").expect("a handshake");
        stream.write_all(REQUEST).expect("it is read");
        stream.read_exact(&mut [0; 9]).expect("an answer");
    }
}
