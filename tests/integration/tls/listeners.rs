//! The options of a listener, on connections: certificates by name, client certificates, resumption.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use rustls::HandshakeKind;
use serde_json::{Value, json};

use crate::support::log::Record;
use crate::support::process::Signal;
use crate::support::tls::{Authority, Client};
use crate::support::{Launch, Xps, backends};

/// Echo servers over TLS, each with the certificates of these names and these options.
fn start(backend: crate::support::Backend, authority: &Authority, listeners: &[(&[&str], Value)]) -> Xps {
    let servers: Vec<Value> = listeners
        .iter()
        .map(|(names, options)| {
            let files = names.iter().map(|name| authority.signed(&[*name]));
            let files: Vec<Value> = files.map(|signed| json!({ "cert": signed.cert, "key": signed.key })).collect();
            let mut tls = options.clone();
            tls["certificates"] = json!(files);
            let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": tls });
            json!({ "listeners": [listener], "protocol": "tcp", "handler": "echo" })
        })
        .collect();
    let file = json!({ "access_log": "off", "workers": 2, "servers": servers });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).listening_on(listeners.len()).start()
}

/// How the handshake went, once the server has echoed a byte: then the client has its tickets, too.
fn echoed(client: &Client, address: SocketAddr, name: &str) -> std::io::Result<Option<HandshakeKind>> {
    let mut stream = client.connect(address, name)?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(stream.kind())
}

backends! {
    fn each_name_gets_its_certificate(backend) {
        let authority = Authority::new();
        let strict = json!({ "unknown_name": "refuse" });
        let names: &[&str] = &["a.org", "*.b.org"];
        let xps = start(backend, &authority, &[(names, json!({})), (names, strict)]);
        let client = Client::trusting(&authority).forgetful();
        for address in xps.addresses() {
            for name in ["a.org", "x.b.org"] {
                assert_eq!(echoed(&client, *address, name).expect("an echo"), Some(HandshakeKind::Full), "{name}");
            }
        }
        let anyone = Client::trusting_anyone().forgetful();
        let [open, strict] = xps.addresses() else { panic!("there are two") };
        assert!(echoed(&anyone, *open, "other.org").is_ok());
        assert!(echoed(&anyone, *strict, "other.org").is_err());
    }

    fn a_ticket_is_good_for_its_listener_also_after_a_reload_and_for_no_other(backend) {
        let authority = Authority::new();
        let required = json!({ "client_auth": { "ca": "ca.pem" } });
        let xps = start(backend, &authority, &[(&["a.org"], json!({})), (&["a.org"], required)]);
        let [open, closed] = xps.addresses() else { panic!("there are two") };
        let client = Client::trusting(&authority);
        assert_eq!(echoed(&client, *open, "a.org").expect("an echo"), Some(HandshakeKind::Full));
        assert_eq!(echoed(&client, *open, "a.org").expect("an echo"), Some(HandshakeKind::Resumed));
        assert!(echoed(&client, *closed, "a.org").is_err(), "CVE-2025-23419");
        let with_certificate = Client::trusting(&authority).showing(&authority.signed(&["client"]));
        assert!(echoed(&with_certificate, *closed, "a.org").is_ok());
        let stranger = Client::trusting(&authority).showing(&Authority::new().signed(&["client"]));
        assert!(echoed(&stranger, *closed, "a.org").is_err());
        let client = Client::trusting(&authority);
        assert_eq!(echoed(&client, *open, "a.org").expect("an echo"), Some(HandshakeKind::Full));
        xps.signal(Signal::Hangup);
        xps.log().wait_for("the reload", |record: &Record| record.message() == "the configuration was reloaded");
        assert_eq!(echoed(&client, *open, "a.org").expect("an echo"), Some(HandshakeKind::Resumed));
    }
}
