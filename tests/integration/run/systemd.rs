//! What a service manager does and is told: sockets that it opened (sd_listen_fds(3)), messages (sd_notify(3)), unit files.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::{Place, Service, echo};
use crate::support::client::ping;
use crate::support::environment::find_program;
use crate::support::process::Signal;
use crate::support::{Launch, backends, connect, eventually, patience, skip, uninterrupted};

const HERE: &str = "127.0.0.1";

/// Has what was given as standard input be descriptor 3, as a manager would.
const ACTIVATE: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=xps exec \"$@\"";

fn activated(launch: Launch, socket: &TcpListener) -> Launch {
    launch.with_input(socket.try_clone().expect("a descriptor")).through(["sh", "-c", ACTIVATE, "sh"])
}

fn echo_at(address: SocketAddr) -> Value {
    json!({
        "listeners": [{ "host": address.ip().to_string(), "port": address.port() }],
        "protocol": "tcp",
        "handler": "echo",
    })
}

/// Where a service sends its messages.
#[derive(Debug)]
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Place) -> Self {
        let socket = UnixDatagram::bind(place.path("notify")).expect("a new file");
        socket.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
        Self(socket)
    }

    /// The assignments of the next message, sorted.
    #[track_caller]
    fn message(&self) -> Vec<(String, String)> {
        let mut bytes = [0; 4096];
        let length = uninterrupted(|| self.0.recv(&mut bytes)).expect("a message in time");
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        let mut all: Vec<(String, String)> = text
            .lines()
            .map(|line| line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        all.sort();
        all
    }

    #[track_caller]
    fn expect(&self, expected: &[(&str, &str)]) {
        let message = self.message();
        let message: Vec<(&str, &str)> = message.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(message, expected);
    }

    #[track_caller]
    fn expect_reload(&self) {
        let message = self.message();
        let [(monotonic, usec), (reloading, one)] = message.as_slice() else { panic!("{message:?}") };
        assert_eq!([monotonic, reloading, one], ["MONOTONIC_USEC", "RELOADING", "1"]);
        assert!(usec.parse::<u64>().is_ok_and(|usec| usec > 0), "{usec}");
        self.expect(&[("READY", "1")]);
    }

    #[track_caller]
    fn expect_silence(&self) {
        self.0.set_nonblocking(true).expect("a live socket");
        let mut bytes = [0; 4096];
        let result = uninterrupted(|| self.0.recv(&mut bytes));
        assert!(result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{result:?}: {bytes:?}");
        self.0.set_nonblocking(false).expect("a live socket");
    }
}

fn notifying(launch: Launch, place: &Place) -> Launch {
    launch.through(["env".to_owned(), format!("NOTIFY_SOCKET={}", place.path("notify").display())])
}

backends! {
    fn a_socket_that_the_manager_opened_is_used(backend) {
        let place = Place::new(backend);
        let socket = TcpListener::bind((HERE, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        place.configure([echo_at(address)]);
        // Who connects before the service is there, or while it is started anew, waits and is served.
        for _ in 0..2 {
            let early = connect(address);
            let service = Service::new(activated(place.launch(), &socket).start());
            assert_eq!(service.address(), address);
            ping(&early, b"early");
            drop(early);
            ping(&connect(address), b"later");
        }
        drop(socket);
        // A child that another test has just forked may hold a copy until it becomes another program.
        eventually("the socket is gone", || TcpStream::connect(address).is_err());
    }

    fn a_socket_of_the_manager_s_does_not_wait_while_it_is_used_and_afterwards(backend) {
        let place = Place::new(backend);
        let socket = TcpListener::bind((HERE, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        place.configure([echo_at(address)]);
        // A manager hands over sockets of either kind.
        for is_nonblocking in [true, false] {
            socket.set_nonblocking(is_nonblocking).expect("a live socket");
            let mut service = Service::new(activated(place.launch(), &socket).start());
            ping(&connect(address), b"hello");
            expect_nonblocking(&socket);
            service.replace();
            assert_eq!(service.first.wait().code(), Some(0));
            ping(&connect(address), b"hello");
            expect_nonblocking(&socket);
            drop(service);
            expect_nonblocking(&socket);
        }
    }

    fn a_successor_gets_the_manager_s_sockets(backend) {
        let place = Place::new(backend);
        let socket = TcpListener::bind((HERE, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        place.configure([echo_at(address)]);
        let mut service = Service::new(activated(place.launch(), &socket).start());
        service.replace();
        assert_eq!(service.first.wait().code(), Some(0));
        for _ in 0..10 {
            ping(&connect(address), b"hello");
        }
    }

    fn sockets_for_another_process_are_left_alone(backend) {
        let place = Place::new(backend);
        let socket = TcpListener::bind((HERE, 0)).expect("a free port");
        place.configure([echo(HERE)]);
        let service = Service::new(
            place
                .launch()
                .with_input(socket.try_clone().expect("a descriptor"))
                .through(["sh", "-c", "exec 3<&0 </dev/null; LISTEN_PID=1 LISTEN_FDS=1 exec \"$@\"", "sh"])
                .start(),
        );
        assert_ne!(service.address(), socket.local_addr().expect("it is bound"));
        ping(&connect(service.address()), b"hello");
    }

    fn the_manager_is_told_of_each_step(backend) {
        let place = Place::new(backend);
        place.configure([echo(HERE)]);
        let manager = Manager::new(&place);
        let mut service = Service::new(notifying(place.launch(), &place).start());
        let pid = service.pid().to_string();
        manager.expect(&[("MAINPID", &pid), ("READY", "1")]);
        service.reload();
        manager.expect_reload();
        // Also when nothing comes of it.
        place.write("nonsense");
        service.signal(Signal::Hangup);
        manager.expect_reload();
        place.configure([echo(HERE)]);
        service.replace();
        let pid = service.pid().to_string();
        manager.expect(&[("MAINPID", &pid), ("READY", "1")]);
        // The service does not stop, though the first process does.
        assert_eq!(service.first.wait().code(), Some(0));
        manager.expect_silence();
        service.signal(Signal::Hangup);
        manager.expect_reload();
        service.signal(Signal::Terminate);
        manager.expect(&[("STOPPING", "1")]);
    }
}

/// Whether calls on a socket wait is the same for everybody who shares it (`O_NONBLOCK`; proc(5)).
#[track_caller]
fn expect_nonblocking(socket: &TcpListener) {
    const O_NONBLOCK: i32 = 0o4000;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd())).expect("it is open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("proc(5) promises flags");
    let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
    assert_ne!(flags & O_NONBLOCK, 0, "{info}");
}

/// The unit files as they are, but for where the program is.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(analyze) = find_program("systemd-analyze") else {
        return skip("systemd_finds_nothing_wrong_with_the_units", "systemd-analyze is not installed");
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    for name in ["xps.service", "xps.socket"] {
        let unit = std::fs::read_to_string(units.join(name)).expect("it is there");
        assert!(name != "xps.service" || unit.contains(INSTALLED), "{INSTALLED} is not what it starts");
        std::fs::write(folder.path().join(name), unit.replace(INSTALLED, env!("CARGO_BIN_EXE_xps"))).expect("room");
    }
    let output = Command::new(&analyze)
        .args(["verify", "--man=no", "./xps.service", "./xps.socket"])
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // It also speaks of other units of this machine.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("xps.")).collect();
    assert!(output.status.success() && ours.is_empty(), "{}\n{said}", output.status);
}

const INSTALLED: &str = "/usr/local/bin/xps";
