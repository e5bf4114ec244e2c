//! What options of servers do, whatever they serve.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;
use xps::internals::buffer::PoolConfig;

use crate::options::target::Case;
use crate::support::client::stays_silent;
use crate::support::process::{Signal, wait_for_exit};
use crate::support::upstream::{ClosedPort, fill_backlog};
use crate::support::{Backend, ask, connect, patience, skip, was_cut};

pub fn what_it_starts_with(case: &Case) {
    let flags = ["--workers", "3", "--uring-off", "recv-multishot", "--buffers", "16m", "--log-level", "debug"];
    let running = case.start(&flags);
    let backend = if case.backend == Backend::Epoll { "epoll" } else { "io_uring" };
    let started = running.xps.log().wait_for("the choice", |record| record.message() == "started");
    assert_eq!((started.text("backend"), started.number("workers")), (Some(backend), Some(3)), "{started}");
    let worker = running.xps.log().wait_for("a worker", |record| record.message() == "worker starts");
    assert_eq!((worker.level(), worker.text("backend")), ("DEBUG", Some(backend)), "{worker}");
    assert!(worker.text("uring_off").is_some_and(|off| off.contains("recv-multishot")), "{worker}");
    let small_max = (14 << 20) / PoolConfig::default().small_bytes;
    assert!(worker.text("pool").is_some_and(|pool| pool.contains(&format!("small_max: {small_max}"))), "{worker}");
}

pub fn pin_workers(case: &Case) {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        return skip("pin_workers", "one processor only");
    }
    // Without, and with; a file says the contrary, which does not hold.
    for (flag, is_pinned) in [("--pin-workers=false", false), ("--pin-workers", true)] {
        let contrary = || case.configure(|document| document["pin_workers"] = json!(!is_pinned));
        let running = case.start_after(&[flag, "--workers", "1"], contrary);
        let threads = fs::read_dir(format!("/proc/{}/task", running.xps.pid())).expect("it lives");
        let status = threads.flatten().find_map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            status.starts_with("Name:\txps-worker-0\n").then_some(status)
        });
        let status = status.expect("a worker");
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("proc(5)").trim();
        assert_eq!(cpus.parse::<u32>().is_ok(), is_pinned, "{} {flag}: {cpus}", case.command);
    }
}

pub fn socket_mode(case: &Case) {
    let path = case.path("socket");
    let listen = format!("unix:{}", path.display());
    let words = case.words(&listen);
    if case.command == "run" {
        case.configure(|document| document["servers"][0]["listeners"][0] = json!({ "unix": path, "mode": "0666" }));
    }
    let listeners = if case.command == "run" { 4 } else { 1 };
    let launch = crate::support::Launch::new(case.backend, words).flags(["--socket-mode", "0610"]);
    let xps = launch.in_folder(case.folder.path()).listening_on(listeners).start();
    let mode = fs::metadata(&path).expect("its file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o610, "{}", case.command);
    xps.finish();
}

/// One of all workers together: two workers do not have one each, again and again.
pub fn max_connections(case: &Case) {
    let running = case.start(&["--max-connections", "1", "--workers", "2"]);
    let mut served = vec![running.served()];
    // The other worker may let one in at the moment when the last place is taken; not one after the other.
    let waiting = loop {
        let next = connect(running.any());
        running.ask(&next);
        if stays_silent(&next, Duration::from_millis(200)) {
            break next;
        }
        served.push(next);
        assert!(served.len() < 4, "{}: none has to wait", case.command);
    };
    drop(served);
    running.answered(&waiting);
}

/// So many connect while none is accepted; by default there is room for thousands.
pub fn backlog(case: &Case) {
    let running = case.start(&["--backlog", "1", "--max-connections", "1", "--workers", "1"]);
    let _served = running.served();
    let try_one = |_: &usize| TcpStream::connect_timeout(&running.any(), Duration::from_millis(200)).ok();
    let waiting: Vec<TcpStream> = (0..16).map_while(|number| try_one(&number)).collect();
    assert!(waiting.len() < 16, "{}: all of them wait", case.command);
}

pub fn idle_timeout(case: &Case) {
    let running = case.start(&["--idle-timeout", "300ms", "--log-level", "debug"]);
    let addresses = [running.stream, running.download, running.http, running.proxied];
    for address in addresses.into_iter().flatten() {
        let idle = connect(address);
        let peer = idle.local_addr().expect("it is connected").to_string();
        let ended = running.xps.log().wait_for("its end", |record| {
            record.message() == "connection ended" && record.text("peer") == Some(peer.as_str())
        });
        // A client that takes nothing of a download stalls it.
        let close_reason = ended.text("close_reason").unwrap_or_default();
        assert!(["idle_timeout", "stalled"].contains(&close_reason), "{}: {ended}", case.command);
    }
}

pub fn drain_timeout(case: &Case) {
    let mut running = case.start(&["--drain-timeout", "300ms"]);
    let stream = connect(running.any());
    match running.stream.or(running.download) {
        Some(_) => running.answered(&{
            running.ask(&stream);
            stream.try_clone().expect("a descriptor")
        }),
        // A head that never ends: an idle connection would be closed sooner.
        None => (&stream).write_all(b"GET / HT").expect("it is read"),
    }
    let since = Instant::now();
    running.xps.signal(Signal::Terminate);
    assert_eq!(running.xps.wait().code(), Some(0));
    // The default is 10 s.
    assert!(since.elapsed() < Duration::from_secs(8), "{}: {:?}", case.command, since.elapsed());
}

pub fn quiet(case: &Case) {
    for (flags, is_quiet) in [(&["--log-level", "info"][..], false), (&["--log-level", "info", "--quiet"], true)] {
        let _alone = case.alone();
        let mut process = case.launch(flags).command().spawn().expect("it starts");
        let mut stderr = process.stderr.take().expect("a pipe");
        let (mut words, mut byte) = (Vec::new(), [0]);
        while !(words.ends_with(b"\n") && String::from_utf8_lossy(&words).contains("started")) {
            assert_eq!(stderr.read(&mut byte).expect("a pipe"), 1, "{}", String::from_utf8_lossy(&words));
            words.push(byte[0]);
        }
        Signal::Terminate.send(&process);
        wait_for_exit(&mut process, patience()).expect("it ends when told to");
        stderr.read_to_end(&mut words).expect("a pipe");
        let words = String::from_utf8_lossy(&words);
        let has_banner = words.contains(concat!("xps ", env!("CARGO_PKG_VERSION")));
        assert_eq!(has_banner, !is_quiet, "{} {flags:?}: {words}", case.command);
        if case.command == "run" && !is_quiet {
            assert!(words.contains("command line overrides: backend"), "{words}");
        }
    }
}

pub fn log_target(case: &Case) {
    let _alone = case.alone();
    let path = case.path("syslog");
    let daemon = UnixDatagram::bind(&path).expect("a socket");
    daemon.set_read_timeout(Some(patience())).expect("it is open");
    let target = format!("syslog:unix:{},facility=user,tag=t", path.display());
    let mut process =
        case.launch(&["--log-target", &target, "--log-level", "info"]).command().spawn().expect("it starts");
    let mut bytes = [0; 2000];
    let count = daemon.recv(&mut bytes).expect("a record");
    let record = String::from_utf8_lossy(&bytes[..count]);
    assert!(record.starts_with("<14>1 ") && record.contains(" t "), "{}: {record}", case.command);
    Signal::Terminate.send(&process);
    wait_for_exit(&mut process, patience()).expect("it ends when told to");
    std::fs::remove_file(path).expect("it is there");
}

pub fn listen(case: &Case) {
    let launch = case.launch(&["--listen", "127.0.0.9:0"]).listening_on(2);
    let xps = launch.start();
    assert!(xps.addresses().iter().any(|address| address.ip().to_string() == "127.0.0.9"), "{}", case.command);
}

pub fn root(case: &Case) {
    let root = case.path("elsewhere");
    fs::create_dir(&root).expect("a folder");
    let refused = case.launch(&["--root", &root.display().to_string()]).run(b"");
    assert_eq!(refused.status.code(), Some(2), "{}", refused.errors);
    assert!(refused.errors.contains("is not in"), "{}", refused.errors);
}

/// No buffer is larger than what a connection may hold. (How much it does hold is in `overload`.)
pub fn pipe_size(case: &Case) {
    let running = case.start(&["--pipe-size", "64k", "--log-level", "debug"]);
    let worker = running.xps.log().wait_for("a worker", |record| record.message() == "worker starts");
    assert!(worker.text("pool").is_some_and(|pool| pool.contains("large_bytes: 65536")), "{worker}");
}

pub fn line_max(case: &Case) {
    let running = case.start(&["--line-max", "4"]);
    assert_eq!(ask(running.reverse.expect("it has one"), b"abcdef\n"), b"dcbafe\n", "{}", case.command);
}

/// A route or a server of a file with a time of its own is overruled, too.
pub fn connect_timeout(case: &Case) {
    let full = ClosedPort::new();
    let address = full.address();
    let listener = full.listen_with_backlog(0);
    let _waiting = fill_backlog(address);
    let launch = match case.command {
        "run" => {
            let launch = case.launch(&["--connect-timeout", "200ms"]);
            let upstreams = json!([address.to_string()]);
            case.configure(|document| {
                document["servers"] = json!([{ "listeners": [{ "host": "127.0.0.1", "port": 0 }], "protocol": "tcp",
                    "handler": "tcp_proxy", "upstreams": upstreams, "connect_timeout": "60s", "tries": 1 }]);
            });
            launch.listening_on(1)
        }
        _ => {
            let words =
                ["proxy", "--listen", "127.0.0.1:0", "--upstream", &address.to_string(), "--connect-timeout", "200ms"];
            crate::support::Launch::new(case.backend, words)
        }
    };
    let xps = launch.start();
    let since = Instant::now();
    assert!(was_cut(&connect(xps.address())));
    // The default is 5 s, and the file says 60.
    assert!(since.elapsed() < Duration::from_secs(4), "{}: {:?}", case.command, since.elapsed());
    drop(listener);
}
