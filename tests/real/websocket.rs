//! WebSocket through the proxy: a server on Node's HTTP and one on Python's, a client in Python and a browser.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::gateway::proxy;
use crate::script::{self, Script};
use crate::support::environment::require_program;
use crate::support::process::run_to_end;
use crate::support::{Backend, Launch, backends, is_wrapped, skip};

/// One browser at a time: it takes more of the machine than everything else here.
static BROWSER: Mutex<()> = Mutex::new(());

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
    if is_wrapped() {
        return skip(test, "a browser does not wait for a wrapper");
    }
    let Some(chromium) = require_program(test, "chromium", "chromium") else { return };
    let _turn = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let page = script::path("");
    let page = page.to_str().expect("a path of text");
    let site = Launch::new(backend, ["serve", page, "--listen", "127.0.0.1:0", "--access-log", "off"]).start();
    let gateway = proxy(backend, server.address(), &[]);
    let profile = tempfile::tempdir().expect("a temporary folder");
    let finished = run_to_end(
        Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .arg(format!("http://{}/websocket.html?{}", site.address(), gateway.address())),
        b"",
    );
    let dom = String::from_utf8_lossy(&finished.output);
    let result =
        dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(text, _)| text);
    let expected = "text same; binary same 100000; close 1000 done clean";
    assert_eq!(result, Some(expected), "{}\n{dom}\n{}", finished.status, finished.errors);
}
