//! What HAProxy and this program tell each other of TLS, in headers of the PROXY protocol.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::haproxy::Haproxy;
use crate::support::tls::{Authority, Client, Signed};
use crate::support::{Backend, Launch, Xps, backends, eventually};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n";

/// Certificate and key in one file, as HAProxy wants them.
fn pem(authority: &Authority, signed: &Signed) -> PathBuf {
    let [cert, key] = [&signed.cert, &signed.key].map(|path| fs::read_to_string(path).expect("a file"));
    let path = authority.path("both.pem");
    fs::write(&path, cert + &key).expect("a temporary file");
    path
}

fn start(backend: Backend, authority: &Authority, server: Value) -> Xps {
    let file = json!({
        "access_log": "access.log", "access_format": "json", "trusted_proxies": ["127.0.0.1"], "servers": [server],
    });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

backends! {
    fn haproxy_says_what_its_clients_have_agreed_on(backend) {
        let authority = Authority::new();
        let listener = json!({ "host": "127.0.0.1", "port": 0, "accept_proxy_protocol": true });
        let server = json!({ "listeners": [listener], "routes": [{ "req_path": "/", "type": "metrics" }] });
        let xps = start(backend, &authority, server);
        let (crt, ca) = (pem(&authority, &authority.signed(&["a.org"])), authority.ca());
        let haproxy = Haproxy::with(module_path!(), |listen| {
            format!(
                "listen front\n    mode tcp\n    bind {listen} ssl crt {} ca-file {} verify optional alpn http/1.1\n    \
                server xps {} send-proxy-v2-ssl-cn proxy-v2-options authority,ssl,cert-cn,ssl-cipher\n",
                crt.display(),
                ca.display(),
                xps.address()
            )
        });
        let Some(haproxy) = haproxy else { return };
        let client = Client::trusting_anyone().offering(&["http/1.1"]).showing(&authority.signed(&["client"]));
        let mut stream = client.connect(haproxy.address(), "a.org").expect("a handshake");
        let peer = stream.tcp.local_addr().expect("it is connected").ip().to_string();
        stream.write_all(REQUEST).expect("it is read");
        let read = || fs::read_to_string(authority.path("access.log")).unwrap_or_default();
        eventually("the line of the log", || read().ends_with('\n'));
        let entry: Value = serde_json::from_str(&read()).expect("JSON");
        let members = ["peer", "status", "tls", "server_name", "alpn", "client_subject"].map(|name| &entry[name]);
        assert_eq!(json!(members), json!([peer, 200, "TLSv1.3", "a.org", "http/1.1", "CN=client"]));
        assert!(entry["cipher"].as_str().is_some_and(|cipher| cipher.starts_with("TLS_AES_")), "{entry}");
    }

    fn haproxy_reads_the_header_before_its_own_handshake(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["a.org", "127.0.0.1"]);
        let crt = pem(&authority, &signed);
        let haproxy = Haproxy::with(module_path!(), |listen| {
            format!(
                "frontend front\n    bind {listen} accept-proxy ssl crt {}\n    http-request return status 200 \
                content-type text/plain lf-string \"%[fc_pp_authority] %[src]:%[src_port] %[ssl_fc]\"\n",
                crt.display()
            )
        });
        let Some(haproxy) = haproxy else { return };
        let tls = json!({ "certificates": [{ "cert": signed.cert, "key": signed.key }] });
        let route = json!({
            "req_path": "/", "type": "reverse_proxy", "upstreams": [format!("https://{}", haproxy.address())],
            "send_proxy_protocol": "v2", "upstream_tls": { "ca": "ca.pem" },
        });
        let server = json!({ "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": tls }], "routes": [route] });
        let xps = start(backend, &authority, server);
        let mut stream = Client::trusting_anyone().connect(xps.address(), "a.org").expect("a handshake");
        let client = stream.tcp.local_addr().expect("it is connected");
        stream.write_all(REQUEST).expect("it is read");
        let answer = String::from_utf8_lossy(&stream.read_rest().expect("an answer")).into_owned();
        assert!(answer.ends_with(&format!("\r\n\r\na.org {client} 1")), "{answer}");
    }
}
