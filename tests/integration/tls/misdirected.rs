//! 421: requests for a host that the connection's certificate does not have.

use std::fs;
use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, Xps, backends};

/// The statuses by which the servers show themselves.
const A: u16 = 301;
const B: u16 = 302;
const MISDIRECTED: u16 = 421;

/// Servers that share a listener, each with a certificate. That of A also has a name of B.
fn start(backend: Backend, authority: &Authority, options: &Value, trusted: &[&str]) -> Xps {
    let servers =
        [(A, ["a.org", "also-a.org"], ["a.org", "also-b.org"]), (B, ["b.org", "also-b.org"], ["b.org", "*.b.org"])];
    let servers = servers.map(|(status, hostnames, names)| {
        let signed = authority.signed(&names);
        let mut tls = options.clone();
        tls["certificates"] = json!([{ "cert": signed.cert, "key": signed.key }]);
        let route = json!({ "req_path": "/", "type": "redirect", "redirect_url": "/x", "http_status_code": status });
        let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": tls });
        json!({ "listeners": [listener], "hostnames": hostnames, "routes": [route] })
    });
    let file = json!({ "access_log": "off", "trusted_proxies": trusted, "servers": servers });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

/// The statuses of requests for these hosts, on one connection of a client that asks for this name.
fn statuses<const N: usize>(xps: &Xps, client: &Client, name: &str, hosts: [&str; N]) -> [u16; N] {
    let mut stream = client.connect(xps.address(), name).expect("a handshake");
    hosts.map(|host| {
        write!(stream, "HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it is read");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a response head");
            head.extend_from_slice(&byte);
        }
        String::from_utf8_lossy(&head)[9..12].parse().expect("a status")
    })
}

backends! {
    fn a_connection_is_for_the_hosts_of_its_certificate(backend) {
        let authority = Authority::new();
        let xps = start(backend, &authority, &json!({}), &[]);
        let client = Client::trusting_anyone();
        let hosts = ["a.org", "A.org.:8443", "also-b.org", "b.org", "127.0.0.1", "a.org"];
        assert_eq!(statuses(&xps, &client, "a.org", hosts), [A, A, B, MISDIRECTED, MISDIRECTED, A]);
        assert_eq!(statuses(&xps, &client, "x.b.org", ["x.b.org", "y.b.org", "b.org"]), [404, 404, B]);
        // Nothing was selected by these.
        let hosts = ["a.org", "b.org", "127.0.0.1", "c.org"];
        assert_eq!(statuses(&xps, &client, "127.0.0.1", hosts), [A, B, 404, 404], "no name");
        assert_eq!(statuses(&xps, &client, "c.org", hosts), [A, B, 404, 404], "a name that is not known");
        let mut stream = client.connect(xps.address(), "a.org").expect("a handshake");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is read");
        let answer = stream.read_rest().expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 404 "), "no host: {}", String::from_utf8_lossy(&answer));
    }

    fn trusted_gateways_and_an_option_let_all_hosts_through(backend) {
        let authority = Authority::new();
        let client = Client::trusting_anyone();
        for (options, trusted) in [(json!({}), &["127.0.0.1"][..]), (json!({ "misdirected": "serve" }), &[])] {
            let xps = start(backend, &authority, &options, trusted);
            assert_eq!(statuses(&xps, &client, "a.org", ["b.org", "a.org"]), [B, A], "{options}");
        }
    }

    fn where_clients_are_asked_for_certificates_no_other_server_is_reached(backend) {
        let authority = Authority::new();
        let client = Client::trusting_anyone().showing(&authority.signed(&["client"]));
        for misdirected in ["refuse", "serve"] {
            let options = json!({ "client_auth": { "ca": "ca.pem" }, "misdirected": misdirected });
            let xps = start(backend, &authority, &options, &[]);
            // A certificate that has the other name makes no difference.
            let hosts = ["a.org:8443", "also-b.org", "b.org"];
            assert_eq!(statuses(&xps, &client, "a.org", hosts), [A, MISDIRECTED, MISDIRECTED], "{misdirected}");
            let of_same_server = if misdirected == "serve" { A } else { MISDIRECTED };
            assert_eq!(statuses(&xps, &client, "a.org", ["also-a.org"]), [of_same_server]);
            assert_eq!(statuses(&xps, &client, "c.org", ["a.org"]), [MISDIRECTED], "{misdirected}");
            assert_eq!(statuses(&xps, &client, "127.0.0.1", ["a.org", "b.org"]), [A, B], "{misdirected}");
        }
    }
}
