//! WebSocket through the proxy: a server on Node's HTTP and one on Python's, a client in Python and a browser.

use std::net::SocketAddr;
use std::process::Command;

use crate::browser;
use crate::gateway::proxy;
use crate::script::{self, Script};
use crate::support::environment::require_program;
use crate::support::process::run_to_end;
use crate::support::{Backend, Launch, backends};

backends! {
    fn messages_are_echoed_by_nodes_server(backend) {
        let Some(server) = Script::node(module_path!(), "websocket.js") else { return };
        talk(module_path!(), proxy(backend, server.address(), &[]).address());
    }

    fn messages_are_echoed_by_pythons_server(backend) {
        let Some(server) = Script::python(module_path!(), "websocket.py", &["serve"]) else { return };
        talk(module_path!(), proxy(backend, server.address(), &[]).address());
    }

    fn a_browser_talks_to_nodes_server(backend) {
        let Some(server) = Script::node(module_path!(), "websocket.js") else { return };
        browse(module_path!(), backend, &server);
    }

    fn a_browser_talks_to_pythons_server(backend) {
        let Some(server) = Script::python(module_path!(), "websocket.py", &["serve"]) else { return };
        browse(module_path!(), backend, &server);
    }
}

/// Has the client in Python exchange messages of all kinds.
#[track_caller]
fn talk(test: &str, address: SocketAddr) {
    let Some(python) = require_program(test, "python3", "python3") else { return };
    let mut command = Command::new(python);
    let finished = run_to_end(command.arg(script::path("websocket.py")).args(["talk", &address.to_string()]), b"");
    assert!(finished.status.success(), "{}", finished.errors);
    assert_eq!(finished.output, b"all well\n");
}

/// Has Chromium load a page that exchanges messages, and reads off the page what came of it.
#[track_caller]
fn browse(test: &str, backend: Backend, server: &Script) {
    let page = script::path("");
    let page = page.to_str().expect("a path of text");
    let site = Launch::new(backend, ["serve", page, "--listen", "127.0.0.1:0", "--access-log", "off"]).start();
    let gateway = proxy(backend, server.address(), &[]);
    let url = format!("http://{}/websocket.html?{}", site.address(), gateway.address());
    let Some(document) = browser::document(test, &url, &[]) else { return };
    let result = document
        .split_once("<pre id=\"result\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .map(|(text, _)| text);
    let expected = "text same; binary same 100000; close 1000 done clean";
    assert_eq!(result, Some(expected), "{document}");
}
