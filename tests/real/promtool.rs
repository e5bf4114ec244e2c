//! Prometheus's own check of the metrics.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::json;

use crate::support::environment::require_program;
use crate::support::process::run_to_end;
use crate::support::{Launch, backends, connect};

backends! {
    fn promtool_finds_the_metrics_well(backend) {
        let Some(promtool) = require_program(module_path!(), "promtool", "prometheus") else { return };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = json!({
            "workers": 2,
            "access_log": "off",
            "servers": [{
                "listeners": [{ "host": "127.0.0.1", "port": 0 }],
                "hostnames": ["example.org"],
                "routes": [
                    { "req_path": "/", "name": "all", "type": "metrics" },
                    { "req_path": "/up", "type": "reverse_proxy", "upstreams": ["127.0.0.1:9"] },
                ],
            }],
        });
        std::fs::write(folder.path().join("xps_config.json"), config.to_string()).expect("a file");
        let xps = Launch::new(backend, ["run"]).in_folder(folder.path()).start();
        let get = |path: &str| {
            let mut stream = connect(xps.address());
            let request = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("the server takes it");
            let mut response = String::new();
            stream.read_to_string(&mut response).expect("a response of text");
            response
        };
        // Requests that failed are in the text, too.
        assert!(get("/up").starts_with("HTTP/1.1 502 "));
        let response = get("/");
        let (_, text) = response.split_once("\r\n\r\n").expect("a head");
        let finished = run_to_end(Command::new(promtool).args(["check", "metrics"]), text.as_bytes());
        assert!(finished.status.success(), "{}\n{}\n{text}", finished.status, finished.errors);
        assert_eq!(finished.errors.trim(), "", "it recommends something");
    }
}
