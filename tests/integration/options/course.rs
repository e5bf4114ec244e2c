//! What options do that came with the course: those of `receive`, `reverse --once`, and whose defaults hold.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::options::target::Case;
use crate::support::client::stays_silent;
use crate::support::process::Signal;
use crate::support::{Launch, Xps, ask, connect, eventually, was_cut};

/// What the folder of a case holds but what is always there.
fn received(case: &Case) -> Vec<String> {
    let entries = fs::read_dir(case.folder.path()).expect("the folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "public");
    names.sort();
    names
}

/// A connection that is being received, and stays.
fn begun(case: &Case, xps: &Xps) -> TcpStream {
    let before = received(case).len();
    let stream = connect(xps.address());
    (&stream).write_all(b"the beginning").expect("it is read");
    eventually("a temporary file", || received(case).len() > before);
    stream
}

/// Ends a client's side, and waits for the end that says that the file is there.
fn complete(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is there");
    assert!(was_cut(stream));
}

pub fn receive_max_connections(case: &Case) {
    let running = case.start(&["--max-connections", "1", "--workers", "1"]);
    let first = begun(case, &running.xps);
    let second = connect(running.xps.address());
    second.shutdown(Shutdown::Write).expect("it is there");
    assert!(stays_silent(&second, Duration::from_millis(200)), "it waits");
    complete(&first);
    assert!(was_cut(&second));
}

pub fn receive_backlog(case: &Case) {
    let running = case.start(&["--backlog", "1", "--max-connections", "1", "--workers", "1"]);
    let _first = begun(case, &running.xps);
    let address = running.xps.address();
    let try_one = |_: &usize| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let waiting: Vec<TcpStream> = (0..16).map_while(|number| try_one(&number)).collect();
    assert!(waiting.len() < 16, "all of them wait");
}

pub fn receive_idle_timeout(case: &Case) {
    let running = case.start(&["--idle-timeout", "300ms"]);
    assert!(was_cut(&begun(case, &running.xps)));
    eventually("nothing is left", || received(case).is_empty());
}

pub fn receive_drain_timeout(case: &Case) {
    let mut running = case.start(&["--drain-timeout", "300ms"]);
    let stream = begun(case, &running.xps);
    let since = Instant::now();
    running.xps.signal(Signal::Terminate);
    assert_eq!(running.xps.wait().code(), Some(0));
    // The default is 10 s.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert!(was_cut(&stream));
}

pub fn keep_and_force(case: &Case) {
    let receive = |flags: &[&str]| {
        let launch = Launch::new(case.backend, ["receive", "file", "--listen", "127.0.0.1:0"]);
        launch.flags(flags.iter().copied()).in_folder(case.folder.path())
    };
    let mut once = receive(&[]).start();
    complete(&begun(case, &once));
    assert_eq!(once.wait().code(), Some(0));
    assert_eq!(receive(&[]).run(b"").status.code(), Some(1), "it is there");
    let mut forced = receive(&["--force"]).start();
    complete(&begun(case, &forced));
    assert_eq!(forced.wait().code(), Some(0));
    assert_eq!(received(case), ["file"]);
    let kept = receive(&["--keep"]).start();
    for _ in 0..2 {
        complete(&begun(case, &kept));
    }
    assert_eq!(received(case), ["file", "file.1", "file.2"]);
    kept.finish();
}

pub fn once(case: &Case) {
    for (flags, code) in [(&[][..], None), (&["--once"], Some(1))] {
        let mut running = case.start(flags);
        assert_eq!(ask(running.xps.address(), b"ab\n"), b"ba\n");
        match code {
            Some(code) => assert_eq!(running.xps.wait().code(), Some(code)),
            None => assert!(running.xps.is_running()),
        }
    }
}

pub fn profile(case: &Case) {
    for (flags, server) in [(&[][..], "Server: xps\r\n"), (&["--profile", "expserver"], "Server: eXpServer\r\n")] {
        let running = case.start(flags);
        let stream = connect(running.any_http());
        (&stream).write_all(b"GET /page HTTP/1.0\r\nHost: h\r\n\r\n").expect("it is read");
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer).expect("text");
        assert!(answer.contains(server), "{flags:?}: {answer}");
    }
}

pub fn profile_explained(case: &Case) {
    case.configure(|document| document["servers"][0]["listeners"][0]["port"] = json!(8080));
    for (flags, server) in [(&[][..], "Server: xps"), (&["--profile", "expserver"], "Server: eXpServer")] {
        let words = ["explain", "xps_config.json", "GET", "http://127.0.0.1:8080/page"];
        let launch = Launch::new(case.backend, words).flags(flags.iter().copied()).in_folder(case.folder.path());
        let explained = launch.run(b"");
        let text = String::from_utf8_lossy(&explained.output).into_owned();
        assert!(text.contains(server), "{flags:?}: {text}{}", explained.errors);
    }
}
