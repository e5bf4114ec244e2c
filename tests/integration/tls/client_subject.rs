//! `client_cert_header`: upstreams learn whose certificate a client has shown, from the proxy alone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{self, Receiver};

use rcgen::DnType;
use serde_json::json;

use crate::support::tls::{Authority, Client};
use crate::support::{Launch, Upstream, ask, backends, patience};

/// An upstream that reports the head of each request.
pub fn reporting() -> (Upstream, Receiver<String>) {
    let (reports, seen) = mpsc::channel();
    let upstream = Upstream::new(move |stream, _| {
        let mut requests = BufReader::new(&stream);
        let mut head = String::new();
        while requests.read_line(&mut head).is_ok_and(|count| count > 0) {
            if head.ends_with("\r\n\r\n") {
                reports.send(std::mem::take(&mut head)).ok();
                (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
            }
        }
    });
    (upstream, seen)
}

/// The values of the field in this head.
fn values(head: &str) -> Vec<&str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(name, _)| name.to_ascii_lowercase().replace('_', "-") == "x-who").map(|(_, value)| value).collect()
}

backends! {
    fn upstreams_learn_who_has_shown_a_certificate(backend) {
        let authority = Authority::new();
        let (upstream, seen) = reporting();
        let server = authority.signed(&["a.org"]);
        let tls = json!({
            "certificates": [{ "cert": server.cert, "key": server.key }],
            "client_auth": { "ca": "ca.pem", "mode": "request" },
        });
        let listeners = json!([{ "host": "127.0.0.1", "port": 0, "tls": tls }, { "host": "127.0.0.2", "port": 0 }]);
        let route = json!({
            "req_path": "/", "type": "reverse_proxy", "client_cert_header": "X-Who",
            "upstreams": [upstream.address().to_string()],
        });
        let file = json!({ "access_log": "off", "servers": [{ "listeners": listeners, "routes": [route] }] });
        fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
        let xps = Launch::new(backend, ["run"]).in_folder(&authority.path("")).listening_on(2).start();
        let address = |ip: &str| *xps.addresses().iter().find(|address| address.ip().to_string() == ip).expect("it is one");
        let request = b"GET / HTTP/1.1\r\nHost: a.org\r\nX-Who: CN=root\r\nx_who: CN=root\r\nConnection: close, X-Who\r\n\r\n";
        let shown = authority.signed_with(&["client"], |parameters| {
            parameters.distinguished_name.push(DnType::CommonName, "a\r\nX-Who: CN=root");
            parameters.distinguished_name.push(DnType::OrganizationName, "Gr\u{fc}n");
        });
        let expected = "O=Gr\\C3\\BCn,CN=a\\0D\\0AX-Who: CN=root";
        let (guest, known) = (Client::trusting_anyone(), Client::trusting_anyone().showing(&shown));
        // The second connection of the known client resumes the session of the first.
        for (client, expected) in [(&guest, None), (&known, Some(expected)), (&known, Some(expected))] {
            let mut stream = client.connect(address("127.0.0.1"), "a.org").expect("a handshake");
            stream.write_all(request).expect("it is read");
            stream.read_rest().expect("an answer");
            let head = seen.recv_timeout(patience()).expect("a request");
            assert_eq!(values(&head), Vec::from_iter(expected), "{head}");
        }
        ask(address("127.0.0.2"), request);
        let head = seen.recv_timeout(patience()).expect("a request");
        assert_eq!(values(&head), Vec::<&str>::new(), "{head}");
    }
}
