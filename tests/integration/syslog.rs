//! Logs whose lines go to a syslog daemon, and the server's log in the journal.

use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use serde_json::json;

use crate::operate::{get, metrics, metrics_address};
use crate::place::{Place, Service, echo, files, kill, routes};
use crate::support::process::{Signal, wait_for_exit};
use crate::support::upstream::ClosedPort;
use crate::support::{Launch, backends, connect, eventually, patience};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";

/// The parts of a message before its text, and the text.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    priority: String,
    app: String,
    process: String,
    id: String,
    text: String,
}

/// Parses a message of RFC 5424 without structured data, from this host and of just now.
#[track_caller]
fn parse(datagram: &[u8]) -> Message {
    let text = std::str::from_utf8(datagram).expect("text");
    let parts: Vec<&str> = text.splitn(8, ' ').collect();
    let &[begin, time, host, app, process, id, data, text] = parts.as_slice() else { panic!("too short: {text}") };
    let priority = begin.strip_prefix('<').and_then(|begin| begin.strip_suffix(">1"));
    let own_host = fs::read_to_string("/proc/sys/kernel/hostname").expect("it is there");
    assert_eq!((host, data), (own_host.trim_end(), "-"), "{text}");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    assert!(!text.contains('\n'), "{text}");
    let [app, process, id, text] = [app, process, id, text].map(str::to_owned);
    Message { priority: priority.expect("a priority and version 1").to_owned(), app, process, id, text }
}

/// A daemon on a unix socket.
struct Daemon(UnixDatagram);

impl Daemon {
    #[track_caller]
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(patience())).expect("it is open");
        Self(socket)
    }

    #[track_caller]
    fn message(&self) -> Message {
        let mut bytes = vec![0; 64 << 10];
        let count = self.0.recv(&mut bytes).expect("a datagram");
        parse(&bytes[..count])
    }

    /// The first message with this in its text.
    #[track_caller]
    fn message_with(&self, words: &str) -> Message {
        loop {
            let message = self.message();
            if message.text.contains(words) {
                return message;
            }
        }
    }
}

/// A server of one page with this access log.
fn logging(place: &Place, log: &str) -> Service {
    place.page("folder", "here");
    place.configure_with([files(HERE, "folder")], |document| {
        document["access_log"] = json!(log);
        document["metrics"] = metrics();
    });
    place.start()
}

#[track_caller]
fn request(address: SocketAddr) {
    let mut wire = Wire::to(address);
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(wire.response().status, 200);
}

#[track_caller]
fn lines_lost(service: &Service) -> u64 {
    let text = get(metrics_address(service), "/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix("xps_log_lines_lost_total{log=\"access\"} "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("it is missing in\n{text}"))
}

#[track_caller]
fn has_said(service: &Service, message: &str) -> bool {
    service.first.log().records().iter().any(|record| record.message().starts_with(message))
}

backends! {
    fn lines_of_an_access_log_are_datagrams_of_a_unix_socket(backend) {
        let place = Place::new(backend);
        let daemon = Daemon::new(&place.path("log"));
        let path = place.path("log");
        let service = logging(&place, &format!("syslog:unix:{},facility=daemon,tag=web.1", path.display()));
        for _ in 0..2 {
            request(service.address());
            let Message { priority, app, process, id, text } = daemon.message();
            // Facility 3, severity 6.
            assert_eq!([&*priority, &*app, &*id], ["30", "web.1", "access"]);
            assert_eq!(process, service.pid().to_string());
            assert!(text.starts_with("127.0.0.1 - - [") && text.contains("\"GET /page HTTP/1.1\" 200"), "{text}");
        }
    }

    fn lines_of_an_access_log_are_datagrams_of_udp(backend) {
        let daemon = UdpSocket::bind("127.0.0.1:0").expect("a port");
        daemon.set_read_timeout(Some(patience())).expect("it is open");
        let port = daemon.local_addr().expect("it is bound").port();
        let place = Place::new(backend);
        let service = logging(&place, &format!("syslog:udp:127.0.0.1:{port}"));
        request(service.address());
        let mut bytes = [0; 2000];
        let count = daemon.recv(&mut bytes).expect("a datagram");
        let Message { priority, app, text, .. } = parse(&bytes[..count]);
        // local7 is 23.
        assert_eq!([&*priority, &*app], ["190", "xps"]);
        assert!(text.contains("\"GET /page HTTP/1.1\" 200"), "{text}");
        drop(daemon);
        // The kernel says with the next line that the one before was refused.
        eventually("refused datagrams are counted", || {
            request(service.address());
            lines_lost(&service) > 0
        });
        service.first.log().wait_for("the failure", |record| record.message().starts_with("the access log cannot be written"));
    }

    fn a_daemon_that_was_away_gets_the_next_lines(backend) {
        let place = Place::new(backend);
        let path = place.path("log");
        // It is not there yet, and the server starts.
        let service = logging(&place, &format!("syslog:unix:{}", path.display()));
        request(service.address());
        let told = service.first.log().wait_for("the failure", |record| record.message().starts_with("the access log cannot be written"));
        assert!(told.text("remedy").is_some_and(|remedy| remedy.contains("syslog")), "{told}");
        eventually("it is counted", || lines_lost(&service) == 1);
        let daemon = Daemon::new(&path);
        eventually("it is written again", || {
            request(service.address());
            has_said(&service, "the access log is written again")
        });
        daemon.message();
        let lost = lines_lost(&service);
        // A restart that no line falls into loses none.
        drop(daemon);
        fs::remove_file(&path).expect("it is there");
        let daemon = Daemon::new(&path);
        request(service.address());
        daemon.message();
        assert_eq!(lines_lost(&service), lost);
    }

    fn the_servers_log_has_a_severity_for_each_level(backend) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let daemon = Daemon::new(&path);
        let refusing = ClosedPort::new();
        let target = format!("syslog:unix:{},facility=local0", path.display());
        let launch = Launch::proxy(backend, refusing.address()).flags(["--log-level", "debug", "--log-target", &*target]);
        let mut process = launch.command().spawn().expect("it starts");
        let listening = daemon.message_with("listening");
        // Facility 16; the text has no time and no colour.
        assert_eq!([&*listening.priority, &*listening.app, &*listening.id], ["134", "xps", "server"]);
        assert!(listening.text.starts_with(" INFO "), "{}", listening.text);
        let address = listening.text.split_once("address=").expect("a field").1.split(' ').next().expect("a word");
        let _client = connect(address.parse().expect("an address"));
        let ended = daemon.message_with("connection ended");
        assert_eq!(ended.priority, "132", "{}", ended.text);
        Signal::Terminate.send(&process);
        assert_eq!(daemon.message_with("at rest").priority, "135");
        assert_eq!(wait_for_exit(&mut process, patience()).expect("it ends").code(), Some(0));
    }

    fn lines_in_the_journal_have_a_priority_and_no_time(backend) {
        let place = Place::new(backend);
        place.configure_with([echo(HERE)], |document| document["metrics"] = json!({ "unix": "metrics" }));
        for (is_journal, format) in [(true, "human"), (true, "json"), (false, "human")] {
            let log = place.path("stderr");
            let file = File::create(&log).expect("a file");
            let metadata = file.metadata().expect("it is open");
            let inode = metadata.ino() + u64::from(!is_journal);
            let launch = place.launch().flags(["--quiet", "--log-format", format]);
            let mut command = launch.command();
            command.env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev())).stderr(file);
            let mut process = command.spawn().expect("it starts");
            eventually("it serves", || UnixStream::connect(place.path("metrics")).is_ok());
            kill(Signal::Terminate, u64::from(process.id()));
            assert_eq!(wait_for_exit(&mut process, patience()).expect("it ends").code(), Some(0));
            let text = fs::read_to_string(&log).expect("text");
            assert!(text.contains("started"), "{text}");
            let begin = if format == "json" { "<6>{\"level\":\"INFO\"" } else { "<6> INFO " };
            let has_form = |line: &str| if is_journal { line.starts_with(begin) } else { line.starts_with("20") };
            assert!(text.lines().all(has_form), "{text}");
        }
    }

    fn an_error_in_the_journal_has_a_priority_in_each_line(backend) {
        let place = Place::new(backend);
        place.configure([routes(HERE, json!([{ "req_path": "/", "type": "file_serve", "dir_path": "missing" }]))]);
        let log = place.path("stderr");
        let file = File::create(&log).expect("a file");
        let metadata = file.metadata().expect("it is open");
        let mut command = place.launch().command();
        command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino())).stderr(file);
        let mut process = command.spawn().expect("it starts");
        assert_ne!(wait_for_exit(&mut process, patience()).expect("it ends").code(), Some(0));
        let text = fs::read_to_string(&log).expect("text");
        assert!(text.contains("xps: error: ") && text.lines().all(|line| line.starts_with('<')), "{text}");
    }
}
