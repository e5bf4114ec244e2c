//! Circumstances of operation: standard streams that nobody reads, the first process of a container, no thread left.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::environment::find_program;
use crate::support::process::{Signal, wait_for_exit};
use crate::support::{Backend, Launch, backends, eventually, is_wrapped, patience, skip};
use serde_json::json;
use socket2::SockRef;
use tempfile::TempDir;

backends! {
    fn a_signal_is_obeyed_while_nobody_reads_what_is_said(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Without a connection, and with one that is there when draining begins.
        for has_client in [false, true] {
            let socket = folder.path().join(format!("socket-{has_client}"));
            let launch = Launch::new(backend, ["echo", &format!("unix:{}", socket.display()), "--drain-timeout", "300ms"]);
            let mut deaf = Deaf::start(&launch, &socket);
            let client = has_client.then(|| talk(&socket));
            deaf.must_end();
            drop(client);
        }
    }

    fn a_reload_and_a_signal_are_obeyed_while_nobody_reads_what_is_said(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let echo = |path: &Path| json!({ "listeners": [{ "unix": path }], "protocol": "tcp", "handler": "echo" });
        let configure = |servers: serde_json::Value| {
            fs::write(folder.path().join("new"), json!({ "workers": 3, "servers": servers }).to_string()).expect("a file");
            fs::rename(folder.path().join("new"), folder.path().join("xps_config.json")).expect("the same folder");
        };
        configure(json!([echo(&one)]));
        let launch = Launch::new(backend, ["run", "--workers", "1"]).in_folder(folder.path());
        let mut deaf = Deaf::start(&launch, &one);
        configure(json!([echo(&one), echo(&two)]));
        Signal::Hangup.send(&deaf.process);
        eventually("the reload is done", || UnixStream::connect(&two).is_ok());
        drop(talk(&two));
        deaf.must_end();
    }

    fn a_request_and_a_signal_do_not_wait_for_who_reads_the_access_log(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("page"), "x").expect("a file");
        let socket = folder.path().join("socket");
        let launch = Launch::new(backend, ["serve", "--listen", &format!("unix:{}", socket.display())]);
        let mut deaf = Deaf::start(&launch.in_folder(folder.path()), &socket);
        for _ in 0..3 {
            let mut stream = UnixStream::connect(&socket).expect("it listens");
            stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").expect("it is read");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        deaf.must_end();
    }

    fn the_first_process_of_a_container_is_not_replaced(backend) {
        let test = "the_first_process_of_a_container_is_not_replaced";
        let Some(container) = container(test) else { return };
        let folder = folder_with_config(json!("off"));
        let launch = Launch::new(backend, ["run"]).in_folder(folder.path()).through(container);
        let mut xps = launch.start();
        let address = xps.address();
        let first = first_process(xps.pid());
        kill(Signal::User2, &first);
        let refused = xps.log().wait_for("the refusal", |record| record.message().contains("process 1"));
        assert_eq!(refused.level(), "WARN");
        crate::support::client::ping(&crate::support::connect(address), b"it goes on");
        kill(Signal::Terminate, &first);
        assert_eq!(xps.wait().code(), Some(0));
    }

    fn a_log_on_standard_output_by_its_name_is_written_where_it_is_a_socket(backend) {
        for (name, reads_output) in [("/dev/stdout", true), ("/dev/stderr", false)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs::write(folder.path().join("page"), "x").expect("a file");
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            let flags = ["--listen", "127.0.0.1:0", "--access-log", name, "--log-format", "json", "--drain-timeout", "1s"];
            let launch = Launch::new(backend, ["serve"]).in_folder(folder.path()).flags(flags);
            let mut command = launch.command();
            let theirs = std::os::fd::OwnedFd::from(theirs);
            if reads_output { command.stdout(theirs) } else { command.stdout(Stdio::null()).stderr(theirs) };
            let mut process = command.spawn().expect("it starts");
            // It holds the other end as well until it is dropped.
            drop(command);
            let log = crate::support::log::Log::follow(match process.stderr.take() {
                Some(stderr) => Box::new(stderr) as Box<dyn Read + Send>,
                None => Box::new(ours.try_clone().expect("a descriptor")),
            });
            let listening = log.wait_for("its address", |record| record.message() == "listening");
            let address = listening.text("address").expect("an address").parse().expect("an address");
            assert!(crate::support::ask(address, b"GET /page HTTP/1.0\r\n\r\n").starts_with(b"HTTP/1.1 200"));
            if reads_output {
                let mut line = [0; 9];
                (&ours).read_exact(&mut line).expect("a line of the access log");
                assert_eq!(&line, b"127.0.0.1");
            } else {
                log.wait_for("the request's line", |record| record.to_string().contains("GET /page"));
            }
            Signal::Terminate.send(&process);
            let status = wait_for_exit(&mut process, patience()).expect("it ends when told to");
            assert_eq!(status.code(), Some(0));
        }
    }

    fn where_no_thread_can_be_started_that_is_an_error_with_a_remedy(backend) {
        let test = "where_no_thread_can_be_started_that_is_an_error_with_a_remedy";
        if is_wrapped() {
            return skip(test, "a wrapper has threads of its own");
        }
        let Some(limited) = Limited::new(test, backend) else { return };
        let folder = folder_with_config(json!("-"));
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        let mut refused = 0;
        // More threads each time, until there are enough: what fails is another one each time.
        for threads in 1..40 {
            let launch = Launch::new(backend, ["run", "--workers", "3"]).in_folder(folder.path());
            match launch.through(limited.words(threads)).try_start() {
                Ok(xps) => return assert!(refused > 2, "{refused} were refused, then {xps:?} started"),
                Err(refusal) => {
                    let log = refusal.log.to_string();
                    assert_eq!(refusal.status.code(), Some(1), "{threads} threads: {log}");
                    assert!(!log.contains("panicked"), "{threads} threads: {log}");
                    assert!(log.contains("ulimit -u"), "{threads} threads: {log}");
                    refused += 1;
                }
            }
        }
        panic!("it never started");
    }
}

/// A server whose standard output and standard error are pipes that nobody reads, full from the beginning.
struct Deaf {
    process: Child,
    _ends: Vec<PipeReader>,
}

impl Deaf {
    /// Starts it, and waits until it listens on this path.
    fn start(launch: &Launch, socket: &Path) -> Self {
        let (pipes, ends): (Vec<_>, Vec<_>) = (0..2).map(|_| full_pipe()).unzip();
        let [stdout, stderr] = <[PipeWriter; 2]>::try_from(pipes).expect("two");
        let process = launch.command().stdout(stdout).stderr(stderr).spawn().expect("it starts");
        eventually("it listens", || UnixStream::connect(socket).is_ok());
        Self { process, _ends: ends }
    }

    /// Tells it to, and waits for it.
    #[track_caller]
    fn must_end(&mut self) {
        Signal::Terminate.send(&self.process);
        match wait_for_exit(&mut self.process, patience()) {
            Some(status) => assert_eq!(status.code(), Some(0)),
            None => panic!("it does not end"),
        }
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A pipe into which nothing goes any more.
fn full_pipe() -> (PipeWriter, PipeReader) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    // The flag is the pipe's end's, which the program shares: it is to wait.
    let set_nonblocking = |is| SockRef::from(&writer).set_nonblocking(is).expect("a pipe can be");
    set_nonblocking(true);
    let set_blocking = writer.try_clone().expect("a descriptor");
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    SockRef::from(&set_blocking).set_nonblocking(false).expect("a pipe can be");
    (writer, reader)
}

/// A connection that was served.
fn talk(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.write_all(b"x").expect("it is read");
    stream.read_exact(&mut [0]).expect("it comes back");
    stream
}

/// A folder with a configuration that echoes, and serves itself with this access log.
fn folder_with_config(access_log: serde_json::Value) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = json!({
        "access_log": access_log,
        "servers": [
            { "listeners": [{ "host": "127.0.0.1", "port": 0 }], "protocol": "tcp", "handler": "echo" },
            { "listeners": [{ "host": "127.0.0.2", "port": 0 }], "routes": [{ "req_path": "/", "type": "metrics" }] },
        ],
    });
    fs::write(folder.path().join("xps_config.json"), config.to_string()).expect("a file");
    folder
}

/// The words that start a program as the first process of a namespace, if that is allowed here.
fn container(test: &str) -> Option<Vec<String>> {
    let words = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"].map(str::to_owned);
    let allowed = find_program("unshare").is_some_and(|_| {
        let tried = Command::new("unshare").args(&words[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    });
    if !allowed {
        skip(test, "unshare is not installed, or namespaces are not allowed here");
    }
    allowed.then(|| words.to_vec())
}

/// The only child of a process, from outside.
fn first_process(parent: u32) -> String {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("proc(5)").trim().to_owned()
}

#[track_caller]
fn kill(signal: Signal, process: &str) {
    let command = format!("kill -{} {process}", signal.number());
    assert!(Command::new("sh").args(["-c", &command]).status().expect("sh starts").success(), "{command}");
}

/// Starts programs as a user who may have only so many threads.
struct Limited {
    /// A copy of the program that this user may read.
    folder: TempDir,
    user: u32,
}

impl Limited {
    /// It takes root to become somebody else; and whose other programs count as well cannot be told how many are left.
    fn new(test: &str, backend: Backend) -> Option<Self> {
        let is_root = Command::new("id").arg("-u").output().expect("id starts").stdout == b"0\n";
        if !is_root || find_program("setpriv").is_none() || find_program("prlimit").is_none() {
            skip(test, "it takes root, setpriv and prlimit");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::copy(env!("CARGO_BIN_EXE_xps"), folder.path().join("xps")).expect("a copy");
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        // Numbers that nobody has: threads of the same user are counted together.
        Some(Self { folder, user: if backend == Backend::Epoll { 64_123 } else { 64_124 } })
    }

    fn words(&self, threads: usize) -> [String; 4] {
        let (program, user) = (self.folder.path().join("xps"), self.user);
        let command = format!(
            "shift && exec prlimit --nproc={threads}:{threads} setpriv --reuid {user} --regid {user} --clear-groups {} \"$@\"",
            program.display()
        );
        ["sh".to_owned(), "-c".to_owned(), command, "sh".to_owned()]
    }
}
