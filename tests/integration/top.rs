//! `xps top`: the figures of a running server, on a terminal and elsewhere.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::operate::{get, metrics_address};
use crate::place::{Place, Service, files};
use crate::support::backends;
use crate::support::environment::patience;
use crate::support::process::wait_for_exit;
/// The program.
const XPS: &str = env!("CARGO_BIN_EXE_xps");

fn xps(arguments: &[&str]) -> Output {
    Command::new(XPS).arg("top").args(arguments).stdin(Stdio::null()).output().expect("xps starts")
}

/// A server with files and a listener for metrics.
fn serve(place: &Place) -> (Service, SocketAddr) {
    place.page("site", "x");
    place.configure_with([files("127.0.0.1", "site")], |document| document["metrics"] = json!({ "port": 0 }));
    let service = place.start();
    let address = metrics_address(&service);
    (service, address)
}

backends! {
    fn what_is_no_terminal_gets_tables(backend) {
        let place = Place::new(backend);
        let (service, address) = serve(&place);
        assert_eq!(get(service.address(), "/page").status, 200);
        let output = xps(&[&address.to_string(), "--interval", "100ms"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for part in ["requests a second", "open connections", "host", "requests/s"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| !line.contains('\u{1b}')), "{text}");
        let route = text.lines().find(|line| line.contains(" / ")).expect("the route");
        assert!(route.split_whitespace().any(|cell| cell == "1"), "{route}");
    }

    fn a_line_for_each_reading(backend) {
        let place = Place::new(backend);
        let (_service, address) = serve(&place);
        let output = xps(&[&address.to_string(), "--interval", "100ms", "--count", "3"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(text.lines().count(), 2 + 3, "{text}");
    }

    fn on_a_terminal_it_draws_until_q_is_pressed(backend) {
        let place = Place::new(backend);
        let (service, address) = serve(&place);
        let mut terminal = Terminal::open();
        let mut top = terminal.run(Command::new(XPS).args(["top", &address.to_string(), "--interval", "100ms"]));
        terminal.wait_for("descriptors");
        terminal.wait_for("requests/s");
        // A server that is gone is shown, and it is not the end.
        drop(service);
        terminal.wait_for("refused");
        terminal.press("q");
        assert!(top.ends().success());
    }

    fn it_ends_with_its_terminal(backend) {
        let place = Place::new(backend);
        let (_service, address) = serve(&place);
        let mut terminal = Terminal::open();
        let mut top = terminal.run(Command::new(XPS).args(["top", &address.to_string(), "--interval", "100ms"]));
        terminal.wait_for("descriptors");
        drop(terminal);
        top.ends();
    }
}

#[test]
fn where_there_are_no_metrics_it_says_what_to_do() {
    let output = xps(&["127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot read the metrics of 127.0.0.1:1") && text.contains("help: "), "{text}");
    let output = xps(&["--interval", "1ms"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// `xps top` on a terminal; killed when it is dropped.
struct Top(Child);

impl Top {
    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.0, patience()).expect("it ends")
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other side of a terminal (pty(7)).
struct Terminal {
    side: File,
    seen: String,
    pieces: Receiver<Vec<u8>>,
}

impl Terminal {
    fn open() -> Self {
        let side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&side).expect("grantpt");
        unlockpt(&side).expect("unlockpt");
        tcsetwinsize(&side, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let side = File::from(side);
        let (sender, pieces) = channel();
        let mut reader = side.try_clone().expect("a descriptor");
        // It ends when the last process on the terminal has (EIO), or with the test.
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { side, seen: String::new(), pieces }
    }

    fn run(&self, command: &mut Command) -> Top {
        let name = ptsname(&self.side, Vec::new()).expect("a name").into_string().expect("UTF-8");
        let open = || File::options().read(true).write(true).open(&name).expect("the terminal opens");
        Top(command.stdin(open()).stdout(open()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    /// Waits until this word is drawn. Spaces between words may be skipped.
    #[track_caller]
    fn wait_for(&mut self, word: &str) {
        let until = Instant::now() + patience();
        while !self.seen.contains(word) {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => panic!("{word:?} is not drawn"),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.side.write_all(keys.as_bytes()).expect("keys");
    }
}
