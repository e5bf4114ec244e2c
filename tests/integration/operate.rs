//! What those who operate a server use while it runs: the listener for metrics, the admin socket with `xps ctl`, and the
//! file with the process ID.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, Service, echo, files, wait_for_end};
use crate::support::client::{ping, was_cut};
use crate::support::process::{Finished, Signal, run_to_end};
use crate::support::unprivileged::Nobody;
use crate::support::{Backend, Launch, backends, connect, eventually, uninterrupted};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";

/// Metrics on a port that the kernel chooses.
pub fn metrics() -> Value {
    json!({ "port": 0 })
}

/// Where the listener for metrics is, from the log.
#[track_caller]
pub fn metrics_address(service: &Service) -> SocketAddr {
    let record = service.first.log().wait_for("a listener for metrics", |record| {
        record.message() == "listening for operators" && record.text("role") == Some("metrics")
    });
    record.text("address").expect("its address").parse().expect("an internet address")
}

/// The answer to a request on a connection of its own; `None`: there is none.
fn try_get(address: SocketAddr, target: &str) -> Option<Response> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    let mut wire = Wire::over(stream);
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    uninterrupted(|| wire.stream.write_all(request.as_bytes())).ok()?;
    wire.read(false)
}

#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Response {
    try_get(address, target).unwrap_or_else(|| panic!("no answer to {target}"))
}

backends! {
    fn the_listener_for_metrics_says_how_the_server_is(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| document["metrics"] = metrics());
        let service = place.start();
        let address = metrics_address(&service);
        let status = |target: &str| get(address, target).status;
        let all = ["/livez", "/readyz", "/metrics", "/", "/nothing", "/livez/more"];
        assert_eq!(all.map(status), [200, 200, 200, 200, 404, 404]);
        assert_eq!(get(service.address(), "/page").status, 200);
        // What it serves itself is not counted.
        let text = get(address, "/metrics").text();
        assert!(text.contains("xps_connections_accepted_total 1\n"), "{text}");
        assert!(text.contains("xps_http_responses_total{class=\"2xx\"} 1\n"), "{text}");
        let mut wire = Wire::to(address);
        wire.send("POST /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(wire.response().status, 405);
    }

    fn at_the_connection_limit_metrics_still_answer(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| {
            document["metrics"] = metrics();
            document["max_connections"] = json!(1);
            // Two of them may accept one connection each at the same moment.
            document["workers"] = json!(1);
        });
        let service = place.start();
        let client = connect(service.address());
        ping(&client, b"first");
        let mut waiting = connect(service.address());
        waiting.write_all(b"second").expect("the backlog has room");
        // The worker publishes its gauges at the end of a turn.
        let counts_one = || get(metrics_address(&service), "/metrics").text().contains("xps_connections 1\n");
        eventually("the metrics show one connection", counts_one);
    }

    fn who_is_not_allowed_is_refused_by_the_listener_for_metrics_only(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| {
            document["metrics"] = json!({ "port": 0, "allow": ["192.0.2.0/24"] });
        });
        let service = place.start();
        // The reset may come before the connection is seen to be there.
        let stream = std::net::TcpStream::connect(metrics_address(&service));
        assert!(stream.is_err() || stream.is_ok_and(|stream| was_cut(&stream)));
        assert_eq!(get(service.address(), "/page").status, 200);
    }

    fn a_drain_that_waits_for_a_client_can_be_watched(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| document["metrics"] = metrics());
        let mut service = place.start();
        let address = metrics_address(&service);
        let client = connect(service.address());
        ping(&client, b"there");
        service.until_told("draining", || service.signal(Signal::Terminate));
        assert_eq!(get(address, "/livez").status, 200);
        assert_eq!(get(address, "/readyz").status, 503);
        let text = get(address, "/metrics").text();
        assert!(text.contains("xps_connections 1\n"), "{text}");
        // A scraper that keeps its connection does not hold up the end.
        let mut idle = Wire::to(address);
        idle.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(idle.response().status, 200);
        drop(client);
        assert!(service.first.wait_within(Duration::from_secs(5)).success());
    }

    fn drain_delay_says_not_ready_before_accepting_stops(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| {
            document["metrics"] = metrics();
            document["limits"]["drain_delay"] = json!("1s");
        });
        let mut service = place.start();
        let address = metrics_address(&service);
        let begun = Instant::now();
        service.signal(Signal::Terminate);
        eventually("it is not ready", || get(address, "/readyz").status == 503);
        if begun.elapsed() < Duration::from_millis(800) {
            assert_eq!(get(service.address(), "/page").status, 200, "it still accepts");
        }
        assert!(service.first.wait().success());
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    fn a_second_signal_ends_the_delay_and_the_server(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| document["limits"]["drain_delay"] = json!("1h"));
        let mut service = place.start();
        service.until_told("not ready from now on; draining follows", || service.signal(Signal::Terminate));
        service.signal(Signal::Terminate);
        assert_eq!(service.first.wait().code(), Some(128 + 15));
    }

    fn a_reload_adds_and_removes_the_listener_for_metrics(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        let configure = |metrics: Value| {
            place.configure_with([files(HERE, "site")], |document| document["metrics"] = metrics);
        };
        configure(json!(false));
        let service = place.start();
        configure(metrics());
        service.reload();
        let address = metrics_address(&service);
        assert_eq!(get(address, "/readyz").status, 200);
        configure(json!(false));
        service.reload();
        eventually("nothing listens there", || std::net::TcpStream::connect(address).is_err());
        assert_eq!(get(service.address(), "/page").status, 200);
    }

    fn a_replacement_takes_the_listener_for_metrics_over(backend) {
        let place = Place::new(backend);
        let unix = place.path("metrics.sock");
        let configure = |metrics: Value| {
            place.configure_with([echo(HERE)], |document| document["metrics"] = metrics);
        };
        configure(json!({ "unix": "metrics.sock", "mode": "0620" }));
        let mut service = place.start();
        let old = service.pid();
        assert_eq!(unix.metadata().expect("it is there").permissions().mode() & 0o777, 0o620);
        let client = connect(service.address());
        ping(&client, b"there");
        service.replace();
        // Balancers see no gap.
        for _ in 0..20 {
            let stream = std::os::unix::net::UnixStream::connect(&unix).expect("it listens");
            assert!(ask_unix(stream, "/readyz").starts_with("HTTP/1.1 200 "));
        }
        drop(client);
        wait_for_end(old);
        assert!(unix.exists(), "the file is the new process's");
        let unix_of_last = unix.clone();
        drop(service);
        assert!(!unix_of_last.exists(), "it removes its file");
    }
}

fn ask_unix(mut stream: std::os::unix::net::UnixStream, target: &str) -> String {
    use std::io::Read;
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    answer
}

/// The configuration of these servers, with an admin socket.
fn with_admin(place: &Place, servers: impl IntoIterator<Item = Value>) {
    with_admin_and(place, servers, |_| {});
}

fn with_admin_and(place: &Place, servers: impl IntoIterator<Item = Value>, change: impl FnOnce(&mut Value)) {
    place.configure_with(servers, |document| {
        document["admin"] = json!({ "unix": "admin.sock" });
        change(document);
    });
}

/// `xps ctl` with the socket of this place.
#[track_caller]
fn ctl(place: &Place, words: &[&str]) -> Finished {
    let socket = place.path("admin.sock");
    Launch::new(Backend::Epoll, ["ctl", "--socket"]).flag(socket.display()).flags(words.iter().copied()).run(b"")
}

fn output(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.output).into_owned()
}

/// What a command prints that is done.
#[track_caller]
fn done(place: &Place, words: &[&str]) -> String {
    let finished = ctl(place, words);
    assert_eq!(finished.status.code(), Some(0), "{words:?}: {}", finished.errors);
    output(&finished)
}

/// The JSON of a command that is done.
#[track_caller]
fn json_of(place: &Place, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&done(place, &words)).expect("JSON")
}

/// What a command says that the server refuses.
#[track_caller]
fn refused(place: &Place, words: &[&str]) -> String {
    let finished = ctl(place, words);
    assert_eq!(finished.status.code(), Some(1), "{words:?}: {}{}", output(&finished), finished.errors);
    finished.errors
}

backends! {
    fn status_says_what_runs(backend) {
        let place = Place::new(backend);
        with_admin_and(&place, [echo(HERE)], |document| document["metrics"] = metrics());
        let mut service = place.start();
        let client = connect(service.address());
        ping(&client, b"there");
        // The worker publishes its gauges at the end of a turn.
        eventually("it shows the connection", || json_of(&place, &["status"])["connections"] == 1);
        let status = json_of(&place, &["status"]);
        assert_eq!(status["process"], service.pid());
        assert_eq!((&status["state"], &status["workers"]), (&json!("ready"), &json!(2)));
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["file"], place.file().display().to_string());
        assert_eq!(status["last_reload"], Value::Null);
        let listeners = status["listeners"].as_array().expect("a list");
        let shown = |service: &str, address: String| json!({ "service": service, "address": address });
        assert_eq!(
            listeners,
            &[
                shown("echo", service.address().to_string()),
                shown("metrics", metrics_address(&service).to_string()),
                shown("admin", format!("unix:{}", place.path("admin.sock").display())),
            ]
        );
        let text = done(&place, &["status"]);
        assert!(text.contains(": ready\n") && text.contains("  connections: 1\n"), "{text}");
        // While it drains, it says so.
        service.until_told("draining", || service.signal(Signal::Terminate));
        assert_eq!(json_of(&place, &["status"])["state"], "draining");
        assert!(refused(&place, &["reload"]).contains("about to stop"));
        drop(client);
        assert!(service.first.wait().success());
    }

    fn a_reload_answers_what_has_changed_or_why_it_is_refused(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.page("other", "y");
        let with = |host: &str, folder: &str| with_admin(&place, [files(HERE, folder), files(host, "site")]);
        with("127.0.0.2", "site");
        let service = place.start();
        assert_eq!(json_of(&place, &["reload"]), json!({ "changes": [] }));
        // Not even the server's own log has to be read.
        with("127.0.0.3", "other");
        let text = done(&place, &["reload"]);
        assert_eq!(
            text,
            "removed listener 127.0.0.2:0\nchanged route / of any host on 127.0.0.1:0\nadded listener 127.0.0.3:0\n"
        );
        assert_eq!(get(service.address(), "/page").text(), "y");
        let last = &json_of(&place, &["status"])["last_reload"];
        assert_eq!(last["is_done"], true);
        // Why not: a mistake in the file with its line, as `xps check` says it.
        place.write("{ \"severs\": [] }");
        let check = Launch::new(backend, ["check"]).in_folder(place.path("").as_path()).run(b"");
        let errors = refused(&place, &["reload"]);
        assert!(errors.contains("unknown key `severs` (did you mean `servers`?)"), "{errors}");
        let complaint = check.errors.lines().find(|line| line.contains("severs")).expect("the mistake");
        assert!(errors.contains(complaint.trim_start_matches("xps: error: ").split(": ").last().expect("text")), "{errors}");
        // A folder that is missing.
        with("127.0.0.3", "missing");
        assert!(refused(&place, &["reload"]).contains("missing"));
        let status = json_of(&place, &["status"]);
        assert_eq!(status["reloads"], json!({ "done": 2, "refused": 2 }));
        assert!(status["last_reload"]["error"].as_str().is_some_and(|error| error.contains("missing")), "{status}");
        assert_eq!(get(service.address(), "/page").text(), "y");
        let text = done(&place, &["status"]);
        assert!(text.contains("  reloads: 2 done, 2 refused\n") && text.contains(" ago: refused\n"), "{text}");
        // SIGHUP counts as well.
        with("127.0.0.3", "site");
        service.reload();
        assert_eq!(json_of(&place, &["status"])["reloads"]["done"], 3);
    }

    fn a_request_that_waits_does_not_hold_up_others(backend) {
        let place = Place::new(backend);
        with_admin(&place, [echo(HERE)]);
        let _service = place.start();
        let many: Vec<_> = (0..8)
            .map(|_| {
                let socket = place.path("admin.sock");
                std::thread::spawn(move || {
                    let stream = std::os::unix::net::UnixStream::connect(socket).expect("it listens");
                    ask_unix(stream, "/status")
                })
            })
            .collect();
        for answer in many {
            let answer = answer.join().expect("no panic");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"state\":\"ready\""), "{answer}");
        }
        // Clients that leave before their answers disturb no other.
        for _ in 0..50 {
            let mut stream = std::os::unix::net::UnixStream::connect(place.path("admin.sock")).expect("it listens");
            stream.write_all(b"GET /status HTTP/1.1\r\nHost: h\r\n\r\n").expect("it is read");
        }
        assert_eq!(json_of(&place, &["status"])["state"], "ready");
    }

    fn commands_have_methods_and_the_metrics_listener_has_no_commands(backend) {
        let place = Place::new(backend);
        with_admin_and(&place, [echo(HERE)], |document| document["metrics"] = metrics());
        let service = place.start();
        let socket = place.path("admin.sock");
        let ask = |target: &str| {
            ask_unix(std::os::unix::net::UnixStream::connect(&socket).expect("it listens"), target)
        };
        for (target, status) in [
            ("/reload", 405), ("/rotate-logs", 405), ("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 200), ("/no", 404),
        ] {
            let answer = ask(target);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        }
        for target in ["/status", "/limits", "/log-level"] {
            assert_eq!(get(metrics_address(&service), target).status, 404, "{target}");
        }
    }

    fn the_level_of_the_log_can_be_set(backend) {
        let place = Place::new(backend);
        with_admin(&place, [echo(HERE)]);
        let service = place.start();
        let before = done(&place, &["log-level"]);
        assert!(before.contains("xps::session=warn") && before.contains("info"), "{before}");
        assert_eq!(done(&place, &["log-level", "xps::session=info,info"]).trim(), "xps::session=info,info");
        service.until_told("connection ended", || drop(connect(service.address())));
        for bad in ["loud", "xps::tcp", "xps::tcp=loud", ""] {
            let errors = refused(&place, &["log-level", bad]);
            assert!(errors.contains("no level of the log") && errors.contains("debug"), "{bad}: {errors}");
        }
        assert_eq!(done(&place, &["log-level"]).trim(), "xps::session=info,info");
    }

    fn log_files_are_reopened(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        with_admin_and(&place, [files(HERE, "site")], |document| document["access_log"] = json!("access.log"));
        let service = place.start();
        assert_eq!(get(service.address(), "/page").status, 200);
        eventually("the first line is there", || std::fs::read_to_string(place.path("access.log")).is_ok_and(|log| log.contains("/page")));
        std::fs::rename(place.path("access.log"), place.path("access.log.1")).expect("the same folder");
        done(&place, &["rotate-logs"]);
        eventually("the new file has a line", || {
            get(service.address(), "/page");
            std::fs::read_to_string(place.path("access.log")).is_ok_and(|log| log.contains("/page"))
        });
    }

    fn limits_in_force_are_shown(backend) {
        let place = Place::new(backend);
        with_admin_and(&place, [echo(HERE)], |document| {
            document["limits"]["idle_timeout"] = json!("7m");
            document["max_connections"] = json!(123);
        });
        let _service = place.start();
        let text = done(&place, &["limits"]);
        for line in ["limits.idle_timeout = 7m", "max_connections = 123", "limits.drain_timeout = 25s"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    fn the_admin_socket_is_for_its_user_only(backend) {
        let place = Place::new(backend);
        std::fs::create_dir(place.path("run")).expect("a temporary folder");
        place.configure_with([echo(HERE)], |document| document["admin"] = json!({ "unix": "run/admin.sock" }));
        let service = place.start();
        let mode = place.path("run/admin.sock").metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        place.configure_with([echo(HERE)], |document| {
            document["admin"] = json!({ "unix": "run/admin.sock", "mode": "0660" });
        });
        service.reload();
        let mode = place.path("run/admin.sock").metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    fn a_replacement_takes_admin_socket_and_pid_file_over(backend) {
        let place = Place::new(backend);
        with_admin_and(&place, [echo(HERE)], |document| document["pid_file"] = json!("xps.pid"));
        let mut service = place.start();
        let pid = || std::fs::read_to_string(place.path("xps.pid")).expect("it is there").trim().parse::<u64>().expect("a number");
        let old = service.pid();
        assert_eq!(pid(), old);
        let client = connect(service.address());
        ping(&client, b"there");
        service.replace();
        assert_eq!(pid(), service.pid());
        eventually("the new process answers", || json_of(&place, &["status"])["process"] == service.pid());
        drop(client);
        wait_for_end(old);
        assert_eq!(pid(), service.pid(), "the old process leaves the file");
        assert_eq!(json_of(&place, &["status"])["process"], service.pid());
        drop(service);
        assert!(!place.path("xps.pid").exists() && !place.path("admin.sock").exists());
    }

    fn without_a_server_the_exit_code_is_3_and_there_is_a_remedy(backend) {
        let place = Place::new(backend);
        let fails = |words: &[&str], remedy: &str| {
            let finished = ctl(&place, words);
            assert_eq!(finished.status.code(), Some(3), "{words:?}: {}", finished.errors);
            assert!(finished.errors.contains(remedy), "{words:?}: {}", finished.errors);
        };
        for words in [&["status"][..], &["reload"], &["limits"], &["log-level"], &["log-level", "info"], &["rotate-logs"]] {
            fails(words, "name the socket with --socket");
        }
        // A server that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(place.path("admin.sock")).expect("a new file"));
        fails(&["status"], "has ended; start it");
        // Something else listens there.
        std::fs::remove_file(place.path("admin.sock")).expect("it is there");
        let listener = std::os::unix::net::UnixListener::bind(place.path("admin.sock")).expect("a new file");
        let other = std::thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.write_all(b"220 mail\r\n")));
        fails(&["status"], "no reply of a server");
        other.join().expect("no panic").expect("a connection").ok();
        for words in [&[][..], &["nothing"], &["log-level", "a", "b"], &["status", "now"]] {
            assert_eq!(ctl(&place, words).status.code(), Some(2), "{words:?}");
        }
    }

    fn reload_takes_the_result_from_the_admin_socket(backend) {
        let place = Place::new(backend);
        place.page("site", "x");
        place.configure_with([files(HERE, "site")], |document| document["pid_file"] = json!("xps.pid"));
        let service = place.start();
        let reload = |words: &[&str]| {
            Launch::new(backend, ["reload"]).flags(words.iter().copied()).in_folder(place.path("").as_path()).run(b"")
        };
        // No admin socket so far: the signal goes to the process of the pid file.
        with_admin_and(&place, [files(HERE, "site")], |document| document["pid_file"] = json!("xps.pid"));
        service.until_told("the configuration was reloaded", || {
            let finished = reload(&["--config", "xps_config.json"]);
            assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
            assert!(finished.errors.contains("sending SIGHUP"), "{}", finished.errors);
        });
        let finished = reload(&["--config", "xps_config.json"]);
        assert_eq!((finished.status.code(), output(&finished).as_str()), (Some(0), "reloaded; the file says what it said before\n"));
        with_admin_and(&place, [files(HERE, "missing")], |document| document["pid_file"] = json!("xps.pid"));
        for words in [&["--config", "xps_config.json"][..], &["--socket", "admin.sock"]] {
            let finished = reload(words);
            assert_eq!(finished.status.code(), Some(1), "{words:?}");
            assert!(finished.errors.contains("missing"), "{}", finished.errors);
        }
        assert_eq!(reload(&["--socket", "nothing.sock"]).status.code(), Some(3));
        place.configure([files(HERE, "site")]);
        assert_eq!(reload(&["--config", "xps_config.json"]).status.code(), Some(2));
        drop(service);
    }
}

/// Every process that may not write to the socket is kept out, and so is one that may not enter its folder.
#[test]
fn others_are_kept_out_by_the_permissions_of_the_socket_and_its_folder() {
    let Some(other) = Nobody::new("others_are_kept_out") else { return };
    let place = Place::new(Backend::Epoll);
    let folder = place.path("");
    let allow = |mode: u32| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let socket = place.path("admin.sock").display().to_string();
    let ask = || {
        let mut command = other.command(&[env!("CARGO_BIN_EXE_xps"), "ctl", "--socket", &socket, "status"]);
        let finished = run_to_end(&mut command, b"");
        (finished.status.code(), finished.errors)
    };
    with_admin(&place, [echo(HERE)]);
    let service = place.start();
    allow(0o755);
    let (code, errors) = ask();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("only the user of the server"), "{errors}");
    with_admin_and(&place, [echo(HERE)], |document| document["admin"]["mode"] = json!("0666"));
    service.reload();
    assert_eq!(ask().0, Some(0), "{}", ask().1);
    allow(0o700);
    assert_eq!(ask().0, Some(3));
}
