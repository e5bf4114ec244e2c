//! Unix sockets and files that a configuration file names, relative to where it is.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::json;

use crate::place::{Place, routes};
use crate::support::{ask, backends, connect, patience, read_rest};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// What a server on a unix socket answers, to the connection's end.
#[track_caller]
fn ask_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    answer
}

backends! {
    fn a_unix_socket_has_the_permissions_that_the_file_says(backend) {
        let place = Place::new(backend);
        place.page("site", "a page");
        std::fs::create_dir(place.path("run")).expect("a temporary folder");
        let server = |name: &str, mode: &str| json!({
            "listeners": [{ "unix": format!("run/{name}"), "mode": mode }],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "site" }],
        });
        place.configure([server("all.sock", "0666"), server("some.sock", "0620")]);
        let xps = place.launch().listening_on(2).start();
        for (name, mode) in [("all.sock", 0o666), ("some.sock", 0o620)] {
            let path = place.path("run").join(name);
            assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, mode);
            let answer = ask_unix(&path, "GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("a page"), "{answer}");
        }
        xps.finish();
        assert!(!place.path("run/all.sock").exists(), "it is removed in the end");
    }

    fn upstreams_may_be_unix_sockets(backend) {
        let place = Place::new(backend);
        place.page("site", "from the inner one");
        let inner = json!({
            "listeners": [{ "unix": "inner.sock" }],
            "hostnames": ["localhost"],
            "routes": [{ "req_path": "/", "type": "file_serve", "dir_path": "site" }],
        });
        let forwarded = routes(HERE, json!([
            { "req_path": "/", "type": "reverse_proxy", "upstreams": ["unix:inner.sock"], "host": "upstream" },
        ]));
        let relayed = json!({
            "listeners": [{ "host": "127.0.0.2", "port": 0 }],
            "protocol": "tcp",
            "handler": "tcp_proxy",
            "upstreams": ["unix:inner.sock"],
        });
        place.configure([forwarded, relayed, inner]);
        let xps = place.launch().listening_on(3).start();
        let on = |host: &str| *xps.addresses().iter().find(|address| address.ip().to_string() == host).expect("it listens");
        for host in [HERE, "127.0.0.2"] {
            let mut wire = Wire::to(on(host));
            wire.send("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(wire.response().text(), "from the inner one", "{host}");
        }
    }

    fn a_file_is_sent_from_its_root_and_from_nowhere_else(backend) {
        let place = Place::new(backend);
        place.page("root/inner", "a page");
        std::fs::write(place.path("secret"), "a secret").expect("a temporary file");
        symlink("inner/page", place.path("root/within")).expect("a link");
        symlink("../secret", place.path("root/out")).expect("a link");
        let configure = |file: &str| place.configure([json!({
            "listeners": [{ "host": HERE, "port": 0 }],
            "protocol": "tcp",
            "handler": "send_file",
            "file": file,
            "root": "root",
        })]);
        for file in ["root/inner/page", "root/within"] {
            configure(file);
            let xps = place.launch().start();
            assert_eq!(ask(xps.address(), b""), b"a page", "{file}");
        }
        for file in ["root/out", "secret", "root/missing", "root/inner"] {
            configure(file);
            let refusal = place.launch().try_start().expect_err("it cannot be sent");
            let name = Path::new(file).file_name().expect("a name").to_string_lossy().into_owned();
            assert!(format!("{refusal:?}").contains(&name), "{refusal:?}");
        }
        // What becomes a link that leads out while the server runs is not followed either.
        configure("root/inner/page");
        let xps = place.launch().start();
        std::fs::remove_file(place.path("root/inner/page")).expect("a temporary file");
        symlink("../../secret", place.path("root/inner/page")).expect("a link");
        assert!(crate::support::was_cut(&connect(xps.address())));
        std::fs::remove_file(place.path("root/inner/page")).expect("a link");
        std::fs::write(place.path("root/inner/page"), "another page").expect("a temporary file");
        assert_eq!(read_rest(&connect(xps.address())), b"another page");
    }
}
