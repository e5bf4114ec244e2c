//! Handshakes that are begun and not completed: their number is bounded, and good clients are served.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustls::ClientConnection;
use serde_json::{Value, json};

use crate::support::client::stays_silent;
use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, Xps, backends, connect, was_cut};

/// A server that shows its metrics over TLS, with this besides.
fn start(backend: Backend, authority: &Authority, more: Value) -> Xps {
    let signed = authority.signed(&["a.org"]);
    let tls = json!({ "certificates": [{ "cert": signed.cert, "key": signed.key }] });
    let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": tls });
    let server = json!({ "listeners": [listener], "routes": [{ "req_path": "/", "type": "metrics" }] });
    let mut file = json!({ "access_log": "off", "workers": 1, "servers": [server] });
    file.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

/// The metrics, as a good client sees them.
fn metrics(client: &Client, xps: &Xps) -> String {
    let mut stream = client.connect(xps.address(), "a.org").expect("a handshake");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n").expect("it is read");
    String::from_utf8(stream.read_rest().expect("an answer that ends with close_notify")).expect("text")
}

fn value(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
    line.trim().parse().expect("a number")
}

/// Connections that send nothing, or the beginning of a ClientHello.
fn half_done(client: &Client, xps: &Xps, count: usize) -> Vec<TcpStream> {
    let mut hello = Vec::new();
    let mut tls = ClientConnection::new(client.config(), "a.org".try_into().expect("a name")).expect("a client");
    tls.write_tls(&mut hello).expect("memory");
    let begin = |number: usize| {
        let mut stream = connect(xps.address());
        stream.write_all(&hello[..[0, 3, 100][number % 3]]).expect("it is read");
        stream
    };
    (0..count).map(begin).collect()
}

backends! {
    fn the_oldest_give_way_and_good_clients_are_served(backend) {
        const LIMIT: usize = 20;
        let authority = Authority::new();
        let xps = start(backend, &authority, json!({ "limits": { "handshakes_max": LIMIT } }));
        let client = Client::trusting(&authority).forgetful();
        let streams = half_done(&client, &xps, 3 * LIMIT);
        for _ in 0..5 {
            let metrics = metrics(&client, &xps);
            assert!(value(&metrics, "xps_tls_handshakes ") <= LIMIT as u64, "{metrics}");
            assert!(value(&metrics, "xps_connections ") <= 2 * LIMIT as u64, "{metrics}");
            assert!(value(&metrics, "xps_tls_handshakes_displaced_total ") >= 2 * LIMIT as u64, "{metrics}");
        }
        // The first good client has displaced one, too. Its handshake is over, so the next one finds room.
        let (displaced, left) = streams.split_at(2 * LIMIT + 1);
        assert!(displaced.iter().all(was_cut));
        assert!(left.iter().all(|stream| stays_silent(stream, Duration::from_millis(1))));
        let warning = xps.log().wait_for("the warning", |record| {
            record.message() == "limit of TLS handshakes of this worker reached"
        });
        assert_eq!((warning.level(), warning.number("handshakes")), ("WARN", Some(LIMIT as u64)), "{warning}");
        xps.log().wait_for("a cause", |record| {
            record.text("close_reason") == Some("tls_failed")
                && record.text("cause").is_some_and(|cause| cause.contains("too many handshakes"))
        });
    }
}
