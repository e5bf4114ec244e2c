//! `xps receive`: what a client sends becomes a file, whole or not at all.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::{reset, send_content};
use crate::support::environment::{bulk, find_program};
use crate::support::{Backend, Content, Launch, Xps, assert_same_bytes, backends, connect, eventually, skip, was_cut};
use tempfile::TempDir;

/// A folder to receive into.
struct Inbox {
    folder: TempDir,
    backend: Backend,
}

impl Inbox {
    fn new(backend: Backend) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), backend }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `xps receive FILE` in the folder.
    fn launch(&self, flags: &[&str]) -> Launch {
        Launch::new(self.backend, ["receive", "file", "--listen", "127.0.0.1:0"])
            .flags(flags.iter().copied())
            .in_folder(self.folder.path())
    }

    /// Everything in the folder.
    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    #[track_caller]
    fn expect(&self, name: &str, content: &[u8]) {
        assert_same_bytes(&fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}")), content);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Sends all of it, ends that side, and waits until the server has closed: then the file is there.
#[track_caller]
fn deliver(xps: &Xps, content: &[u8]) {
    let stream = connect(xps.address());
    (&stream).write_all(content).expect("the server takes it");
    stream.shutdown(Shutdown::Write).expect("the connection is still there");
    let mut rest = Vec::new();
    (&stream).read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, b"", "it says nothing");
}

#[track_caller]
fn expect_code(mut xps: Xps, code: i32) {
    let status = xps.wait();
    assert_eq!(status.code(), Some(code), "{status}\n{}", xps.log());
}

backends! {
    fn one_connection_is_one_file_and_then_the_program_ends(backend) {
        for length in [0, 1, 20, 16 << 10, 1_000_003] {
            let inbox = Inbox::new(backend);
            let xps = inbox.launch(&[]).start();
            let content = Content::bytes(length as u64, length);
            deliver(&xps, &content);
            inbox.expect("file", &content);
            expect_code(xps, 0);
            assert_eq!(inbox.names(), ["file"], "no temporary name is left");
        }
    }

    fn many_bytes_in_memory_that_is_bounded(backend) {
        let inbox = Inbox::new(backend);
        let xps = inbox.launch(&["--pipe-size", "64k", "--buffers", "8m"]).start();
        let length = bulk(256 << 20);
        let stream = connect(xps.address());
        let before = xps.usage().rss_bytes;
        send_content(&stream, &mut Content::new(5), length);
        let grown = xps.usage().rss_bytes.saturating_sub(before);
        assert!(grown < 48 << 20, "{grown} bytes more for {length}");
        assert!(was_cut(&stream));
        expect_code(xps, 0);
        let mut expected = Content::new(5);
        let mut file = fs::File::open(inbox.path("file")).expect("the file");
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block).expect("its bytes") {
                0 => break,
                got => expected.expect(&block[..got]),
            }
        }
        assert_eq!(expected.position(), length as u64);
    }

    fn until_it_is_complete_there_is_no_file(backend) {
        let inbox = Inbox::new(backend);
        let xps = inbox.launch(&[]).start();
        let stream = connect(xps.address());
        (&stream).write_all(&Content::bytes(1, 300_000)).expect("the server takes it");
        eventually("a temporary file with bytes in it", || {
            inbox.names().iter().any(|name| fs::metadata(inbox.path(name)).is_ok_and(|found| found.len() > 100_000))
        });
        assert!(!inbox.path("file").exists());
        stream.shutdown(Shutdown::Write).expect("the connection is still there");
        assert!(was_cut(&stream));
        expect_code(xps, 0);
        inbox.expect("file", &Content::bytes(1, 300_000));
    }

    fn a_connection_that_breaks_leaves_nothing_and_says_so(backend) {
        let inbox = Inbox::new(backend);
        let xps = inbox.launch(&[]).start();
        let stream = connect(xps.address());
        (&stream).write_all(&Content::bytes(1, 300_000)).expect("the server takes it");
        eventually("a temporary file", || !inbox.names().is_empty());
        reset(stream);
        let log = xps.log().clone();
        expect_code(xps, 1);
        assert!(log.to_string().contains("client lost"), "{log}");
        assert_eq!(inbox.names(), [""; 0]);
    }

    fn a_stop_in_the_middle_leaves_nothing(backend) {
        let inbox = Inbox::new(backend);
        let xps = inbox.launch(&["--drain-timeout", "100ms"]).start();
        let stream = connect(xps.address());
        (&stream).write_all(b"the beginning").expect("the server takes it");
        eventually("a temporary file", || !inbox.names().is_empty());
        xps.signal(crate::support::process::Signal::Terminate);
        assert!(was_cut(&stream));
        expect_code(xps, 1);
        assert_eq!(inbox.names(), [""; 0]);
        let xps = inbox.launch(&[]).start();
        xps.signal(crate::support::process::Signal::Terminate);
        expect_code(xps, 1);
    }

    fn what_is_there_is_replaced_only_by_force(backend) {
        let inbox = Inbox::new(backend);
        fs::write(inbox.path("file"), "older").expect("a file");
        let finished = inbox.launch(&[]).run(b"");
        assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
        assert!(finished.errors.contains("already exists") && finished.errors.contains("--force"), "{}", finished.errors);
        inbox.expect("file", b"older");
        let xps = inbox.launch(&["--force"]).start();
        deliver(&xps, b"newer");
        expect_code(xps, 0);
        inbox.expect("file", b"newer");
        // It may also come to be while the client sends.
        fs::remove_file(inbox.path("file")).expect("it is there");
        let xps = inbox.launch(&[]).start();
        let stream = connect(xps.address());
        (&stream).write_all(b"late").expect("the server takes it");
        eventually("a temporary file", || !inbox.names().is_empty());
        fs::write(inbox.path("file"), "first").expect("a file");
        stream.shutdown(Shutdown::Write).expect("the connection is still there");
        assert!(was_cut(&stream));
        expect_code(xps, 1);
        inbox.expect("file", b"first");
        assert_eq!(inbox.names(), ["file"]);
    }

    fn what_is_no_regular_file_is_never_replaced(backend) {
        let inbox = Inbox::new(backend);
        fs::write(inbox.path("target"), "target").expect("a file");
        for make in [|path: &Path| fs::create_dir(path).expect("a folder"), |path: &Path| symlink("target", path).expect("a link")] {
            let path = inbox.path("file");
            make(&path);
            for flags in [&[][..], &["--force"], &["--keep", "--force"]] {
                let finished = inbox.launch(flags).run(b"");
                assert_eq!(finished.status.code(), Some(1), "{flags:?}: {}", finished.errors);
            }
            if path.is_symlink() { fs::remove_file(path).expect("a link") } else { fs::remove_dir(path).expect("a folder") }
        }
        for file in ["no-such-folder/file", "..", "/"] {
            let launch = Launch::new(backend, ["receive", file, "--listen", "127.0.0.1:0"]).in_folder(inbox.folder.path());
            assert_eq!(launch.run(b"").status.code(), Some(1), "{file}");
        }
    }

    fn with_keep_each_connection_has_the_next_free_name(backend) {
        let inbox = Inbox::new(backend);
        fs::write(inbox.path("file.1"), "from before").expect("a file");
        let xps = inbox.launch(&["--keep"]).start();
        deliver(&xps, b"first");
        let broken = connect(xps.address());
        (&broken).write_all(b"never complete").expect("the server takes it");
        deliver(&xps, b"second");
        reset(broken);
        deliver(&xps, b"third");
        eventually("no temporary file", || inbox.names() == ["file", "file.1", "file.2", "file.3"]);
        for (name, content) in [("file", "first"), ("file.1", "from before"), ("file.2", "second"), ("file.3", "third")] {
            inbox.expect(name, content.as_bytes());
        }
        // Many at once: none is lost, none is mixed up.
        std::thread::scope(|scope| {
            for number in 0..20_u64 {
                let xps = &xps;
                scope.spawn(move || deliver(xps, &Content::bytes(100 + number, 50_000)));
            }
        });
        let mut received: Vec<Vec<u8>> =
            (4..24).map(|number| fs::read(inbox.path(&format!("file.{number}"))).expect("each has one")).collect();
        let mut sent: Vec<Vec<u8>> = (0..20).map(|number| Content::bytes(100 + number, 50_000)).collect();
        received.sort();
        sent.sort();
        assert!(received == sent);
        xps.finish();
        let xps = inbox.launch(&["--keep", "--force"]).start();
        deliver(&xps, b"anew");
        deliver(&xps, b"and again");
        inbox.expect("file", b"anew");
        inbox.expect("file.1", b"and again");
        xps.finish();
    }

    fn a_disk_that_is_full_ends_it_and_leaves_nothing(backend) {
        const TEST: &str = "a disk that is full";
        let inbox = Inbox::new(backend);
        let disk = inbox.path("disk");
        fs::create_dir(&disk).expect("a folder");
        // A small file system in a namespace of its own; seen from outside by way of /proc.
        let script = "mount -t tmpfs -o size=64k none disk && cd disk && exec \"$@\"";
        let works = find_program("unshare").is_some_and(|unshare| {
            let mut command = Command::new(unshare);
            command.args(["-rm", "sh", "-c", script, "sh", "true"]).current_dir(inbox.folder.path());
            command.output().is_ok_and(|output| output.status.success())
        });
        if !works {
            return skip(TEST, "no file system can be mounted in a namespace");
        }
        let launch = |flags| inbox.launch(flags).through(["unshare", "-rm", "sh", "-c", script, "sh"]);
        let too_much = |xps: &Xps| {
            let stream = connect(xps.address());
            // It is reset in the middle of it, or has ended before it is.
            let _ = (&stream).write_all(&Content::bytes(9, 1 << 20));
            assert!(was_cut(&stream));
            xps.log().wait_for("the reason", |record| {
                record.text("close_reason") == Some("file_not_written")
                    && record.text("cause").is_some_and(|cause| cause.contains("No space left on device"))
            });
        };
        let xps = launch(&["--keep"]).start();
        let seen = PathBuf::from(format!("/proc/{}/root{}", xps.pid(), disk.display()));
        too_much(&xps);
        eventually("nothing is left", || names(&seen).is_empty());
        // What there is room for goes on.
        deliver(&xps, b"small");
        assert_eq!(names(&seen), ["file"]);
        xps.finish();
        let xps = launch(&[]).start();
        too_much(&xps);
        expect_code(xps, 1);
    }
}

#[test]
fn netcat_sends_a_file() {
    let Some(netcat) = find_program("nc") else { return skip("netcat sends a file", "nc is not installed") };
    let inbox = Inbox::new(Backend::Epoll);
    let content = Content::bytes(3, 200_000);
    fs::write(inbox.path("t1.txt"), &content).expect("a file");
    let xps = inbox.launch(&[]).start();
    let address = xps.address();
    let sent = Command::new(netcat)
        .args(["-N", &address.ip().to_string(), &address.port().to_string()])
        .stdin(fs::File::open(inbox.path("t1.txt")).expect("it was just written"))
        .output()
        .expect("nc starts");
    assert!(sent.status.success(), "{sent:?}");
    expect_code(xps, 0);
    inbox.expect("file", &content);
}
