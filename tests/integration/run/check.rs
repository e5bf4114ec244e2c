//! `xps check`, and what `xps run` does with a file that is not well.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::place::{Place, echo, files, routes};
use crate::support::Backend;
use crate::support::Launch;
use crate::support::backends;
use crate::support::process::Finished;

/// Three mistakes, in lines 3, 5 and 8.
const BAD: &str = r#"{
  // What follows is wrong.
  "worker": 2,
  "servers": [{
    "listeners": [{ "port": 80800 }],
    "routes": [{
      "req_path": "/",
      "type": "file_server",
    }],
  }],
}"#;

const PLACES: [&str; 3] = ["xps_config.json:3:3: ", "xps_config.json:5:29: ", "xps_config.json:8:15: "];

#[track_caller]
fn check(place: &Place, words: &[&str]) -> Finished {
    Launch::new(Backend::Epoll, ["check"]).flags(words.iter().copied()).in_folder(&place.path("")).run(b"")
}

#[test]
fn a_good_file_is_well() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    place.configure([files("127.0.0.1", "files"), echo("127.0.0.2")]);
    for words in [&[][..], &["xps_config.json"]] {
        let finished = check(&place, words);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        let said = String::from_utf8_lossy(&finished.output).into_owned();
        assert_eq!(said, "xps_config.json: OK (2 listeners, 1 route)\n");
        assert_eq!(finished.errors, "");
    }
}

#[test]
fn a_listener_that_servers_share_is_one() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let named = |name: &str| {
        let mut server = files("127.0.0.1", "files");
        server["listeners"] = json!([{ "host": "127.0.0.1", "port": port }]);
        server["hostnames"] = json!([name]);
        server
    };
    place.configure([named("a.test"), named("b.test")]);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    assert_eq!(String::from_utf8_lossy(&finished.output), "xps_config.json: OK (1 listener, 2 routes)\n");
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let place = Place::new(Backend::Epoll);
    place.write(BAD);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    assert!(finished.output.is_empty());
    for place in PLACES {
        assert!(finished.errors.contains(place), "{place} is missing:\n{}", finished.errors);
    }
    assert!(finished.errors.contains("workers"), "the nearest key is named:\n{}", finished.errors);
    assert!(finished.errors.contains("xps_config.json: 3 problems"), "{}", finished.errors);
}

#[test]
fn what_only_the_files_folder_makes_too_long_is_noticed() {
    let place = Place::new(Backend::Epoll);
    let name = format!("{}.sock", "a".repeat(90));
    place.write(&format!(r#"{{ "servers": [{{ "listeners": [{{ "unix": "{name}" }}] }}] }}"#));
    let finished = check(&place, &[]);
    assert_ne!(finished.status.code(), Some(0));
    assert!(finished.errors.contains(&name), "{}", finished.errors);
}

#[test]
fn what_a_file_names_need_not_be_there() {
    let place = Place::new(Backend::Epoll);
    let mut server = files("127.0.0.1", "missing");
    server["routes"][0]["error_pages"] = json!({ "404": "missing.html" });
    server["access_log"] = json!("missing/access.log");
    place.configure([server]);
    let finished = check(&place, &["--no-fs"]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    assert!(!place.path("missing").exists());
}

#[test]
fn what_a_file_names_is_looked_for_all_of_it_and_nothing_is_made() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    let mut server = files("127.0.0.1", "missing");
    server["routes"][0]["error_pages"] = json!({ "404": "missing.html" });
    server["access_log"] = json!("no_logs/access.log");
    let second = routes("127.0.0.2", json!([{ "req_path": "/", "type": "file_serve", "dir_path": "files/page" }]));
    let send = json!({ "listeners": [{ "host": "127.0.0.3", "port": 0 }], "protocol": "tcp", "handler": "send_file", "file": "gone" });
    let path = json!({ "listeners": [{ "unix": "no_sockets/x" }], "protocol": "tcp", "handler": "echo" });
    let taken = json!({ "listeners": [{ "unix": "files/page" }], "protocol": "tcp", "handler": "echo" });
    place.configure([server, second, send, path, taken]);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
    assert!(finished.output.is_empty());
    let names = [
        "/missing: ",
        "/missing.html: ",
        "no_logs/access.log: ",
        "files/page: Not a directory",
        "/gone: ",
        "no_sockets/x: ",
    ];
    for named in names.into_iter().chain(["not a socket", "--no-fs"]) {
        assert!(finished.errors.contains(named), "{named} is missing:\n{}", finished.errors);
    }
    for folder in ["no_logs", "no_sockets", "missing"] {
        assert!(!place.path(folder).exists(), "{folder}");
    }
}

#[test]
fn what_is_there_and_would_not_work_is_a_warning() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    let site = json!({ "req_path": "/", "type": "file_serve", "dir_path": "files", "listing": false, "index": ["start.html"] });
    let app = json!({ "req_path": "/app", "type": "file_serve", "dir_path": "files", "fallback": "app.html" });
    // Of a network for documentation (RFC 5737): no machine has it.
    place.configure([routes("127.0.0.1", json!([site, app])), echo("192.0.2.1")]);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    for warning in ["no index (start.html)", "files/app.html", "192.0.2.1:0"] {
        let told = finished.errors.lines().any(|line| line.starts_with("xps: warning: ") && line.contains(warning));
        assert!(told, "{warning} is missing:\n{}", finished.errors);
    }
}

#[test]
fn an_access_log_that_cannot_be_written_is_found_without_making_one_that_can() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    let with_log = |path: &str| {
        let mut server = files("127.0.0.1", "files");
        server["access_log"] = json!(path);
        place.configure([server]);
        check(&place, &[])
    };
    assert_eq!(with_log("files/access.log").status.code(), Some(0));
    assert!(!place.path("files/access.log").exists());
    assert_eq!(with_log("/dev/stdout").status.code(), Some(0));
    assert_eq!(with_log("files").status.code(), Some(1), "a folder is no log");
}

#[test]
fn addresses_that_overlap_are_a_mistake_and_so_they_are_at_the_start() {
    let place = Place::new(Backend::Epoll);
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let on =
        |host: &str| json!({ "listeners": [{ "host": host, "port": port }], "protocol": "tcp", "handler": "echo" });
    for (one, all) in [("127.0.0.1", "*"), ("*", "127.0.0.1"), ("::1", "::"), ("::ffff:127.0.0.1", "127.0.0.1")] {
        place.configure([on(one), on(all)]);
        let finished = check(&place, &[]);
        assert_eq!(finished.status.code(), Some(2), "{one} {all}: {}", finished.errors);
        assert!(finished.errors.contains("overlap"), "{one} {all}: {}", finished.errors);
    }
    for (one, other) in [("127.0.0.1", "127.0.0.2"), ("*", "::"), ("127.0.0.1", "::")] {
        place.configure([on(one), on(other)]);
        let finished = check(&place, &[]);
        assert_eq!(finished.status.code(), Some(0), "{one} {other}: {}", finished.errors);
    }
    for (one, other) in [("./a.sock", "a.sock"), ("x/./b.sock", "x/b.sock")] {
        let on = |path: &str| json!({ "listeners": [{ "unix": path }], "protocol": "tcp", "handler": "echo" });
        place.configure([on(one), on(other)]);
        assert_eq!(check(&place, &["--no-fs"]).status.code(), Some(2), "{one} {other}");
    }
    let finished = Launch::new(Backend::Epoll, ["echo", "8", "127.0.0.1:8"]).run(b"");
    assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    assert!(finished.errors.contains("0.0.0.0:8") && finished.errors.contains("127.0.0.1:8"), "{}", finished.errors);
}

#[test]
fn an_address_for_operators_is_that_of_nothing_else() {
    let place = Place::new(Backend::Epoll);
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let check_with = |metrics: &Value, admin: &Value, listener: &Value| {
        let server = json!({ "listeners": [listener], "protocol": "tcp", "handler": "echo" });
        place.configure_with([server], |document| {
            document["metrics"] = metrics.clone();
            if !admin.is_null() {
                document["admin"] = admin.clone();
            }
        });
        check(&place, &["--no-fs"])
    };
    let on = |host: &str| json!({ "host": host, "port": port });
    let unix = |path: &str| json!({ "unix": path });
    let (off, none, elsewhere) = (json!(false), json!(null), json!({ "port": 0 }));
    let (of_metrics, of_admin) = (
        "the address of `metrics`, is that of the listener on line ",
        "the address of `admin`, is that of the listener on line ",
    );
    let conflicts = [
        (on("127.0.0.1"), &none, on("127.0.0.1"), of_metrics),
        (on("127.0.0.1"), &none, on("*"), of_metrics),
        (on("*"), &none, on("127.0.0.1"), of_metrics),
        (json!({ "port": port }), &none, json!({ "port": port }), of_metrics),
        (json!(true), &none, json!({ "port": 8004 }), of_metrics),
        (unix("a.sock"), &none, unix("./a.sock"), of_metrics),
        (off.clone(), &unix("a.sock"), unix("a.sock"), of_admin),
        (unix("a.sock"), &unix("./a.sock"), elsewhere, "the address of `admin`, is that of `metrics` on line "),
    ];
    for (metrics, admin, listener, reason) in &conflicts {
        let finished = check_with(metrics, admin, listener);
        let case = format!("{metrics} {admin} {listener}: {}", finished.errors);
        assert_eq!(finished.status.code(), Some(2), "{case}");
        assert!(finished.errors.contains(reason), "{case}");
    }
    let distinct = [
        (on("127.0.0.1"), &none, on("127.0.0.2")),
        (unix("a.sock"), &unix("b.sock"), unix("c.sock")),
        (json!({ "port": 0 }), &none, json!({ "port": 0 })),
    ];
    for (metrics, admin, listener) in &distinct {
        let finished = check_with(metrics, admin, listener);
        assert_eq!(finished.status.code(), Some(0), "{metrics} {admin} {listener}: {}", finished.errors);
    }
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_with_words() {
    let place = Place::new(Backend::Epoll);
    let finished = check(&place, &["nowhere.json"]);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    assert!(finished.errors.contains("nowhere.json"), "{}", finished.errors);
}

backends! {
    fn a_bad_file_starts_nothing(backend) {
        let place = Place::new(backend);
        place.write(BAD);
        let finished = place.launch().run(b"");
        assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
        for place in PLACES {
            assert!(finished.errors.contains(place), "{place} is missing:\n{}", finished.errors);
        }
    }
}
