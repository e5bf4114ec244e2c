//! What the environment refuses, and what comes of it: another way, a wait, or an end that says why; never silence.

use std::io::Read;
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use xps::internals::driver::Feature;

use crate::support::client::ping;
use crate::support::environment::require_program;
use crate::support::filter::denying;
use crate::support::unprivileged::Nobody;
use crate::support::{Backend, Content, Launch, ask, assert_same_bytes, backends, connect, read_rest, skip};

const ANY: &str = "127.0.0.1:0";

/// `io_uring_enter`; the same number everywhere.
const IO_URING_ENTER: i64 = 426;
const IO_URING_REGISTER: i64 = 427;

/// Has the first accepts fail with an error, though somebody waits: `FAIL_TIMES` with `FAIL_ERRNO`.
const FAILING_ACCEPT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    static int left = -1;
    if (left == -1) {
        real = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
        left = atoi(getenv("FAIL_TIMES"));
    }
    struct pollfd waiting = { .fd = fd, .events = POLLIN };
    if (left > 0 && poll(&waiting, 1, 0) == 1) {
        left--;
        errno = atoi(getenv("FAIL_ERRNO"));
        return -1;
    }
    return real(fd, address, length, flags);
}
"#;

/// The library of that, in its folder; `None`, said aloud, where it cannot be made or would not be used.
fn failing_accept(test: &str) -> Option<(TempDir, PathBuf)> {
    if cfg!(target_env = "musl") {
        skip(test, "a static program takes no other library");
        return None;
    }
    let compiler = require_program(test, "cc", "gcc")?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, library) = (folder.path().join("accept.c"), folder.path().join("accept.so"));
    std::fs::write(&source, FAILING_ACCEPT).expect("a temporary file");
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(command.status().expect("the compiler starts").success());
    Some((folder, library))
}

backends! {
    fn an_error_of_accept_never_ends_a_listener(backend) {
        let Some((_folder, library)) = failing_accept("an_error_of_accept_never_ends_a_listener") else { return };
        // Of the ring's own accepts none can be made to fail from outside.
        let backend = match backend {
            Backend::Epoll => Backend::Epoll,
            _ => Backend::IoUringWithout(Feature::AcceptPollFirst),
        };
        let of_the_connection = [libc::EOPNOTSUPP, libc::ETIMEDOUT, libc::ECONNRESET, libc::EPROTO, libc::ENETDOWN];
        let of_the_moment = [libc::EPERM, libc::ENOBUFS, libc::EMFILE];
        // More than are passed over in a row.
        let (unknown, many) = (133, 70);
        let all = of_the_connection.iter().chain(&of_the_moment).chain([&unknown]).map(|errno| (*errno, 3));
        for (errno, times) in all.chain([(libc::EOPNOTSUPP, many)]) {
            let environment = [
                "env".to_owned(),
                format!("LD_PRELOAD={}", library.display()),
                format!("FAIL_ERRNO={errno}"),
                format!("FAIL_TIMES={times}"),
            ];
            let xps = Launch::echo(backend).flags(["--workers", "1"]).through(environment).start();
            for _ in 0..2 {
                ping(&connect(xps.address()), b"hello");
            }
            assert!(!xps.log().records().iter().any(|record| record.message().contains("listener failed")), "{errno}");
        }
    }

    fn a_listener_that_fails_for_good_ends_the_server_which_says_why(backend) {
        const ACTIVATE: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        let socket = TcpListener::bind(ANY).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let launch = Launch::new(backend, ["echo"]).flag(address).flags(["--workers", "2"]);
        let mut xps = launch
            .with_input(socket.try_clone().expect("a descriptor"))
            .through(["sh", "-c", ACTIVATE, "sh"])
            .start();
        let under_way = connect(address);
        ping(&under_way, b"before");
        // Whoever shares a listener can end it for all.
        socket2::SockRef::from(&socket).shutdown(Shutdown::Both).expect("a listener");
        xps.log().wait_until("what has happened", |records| {
            records.iter().any(|record| record.message() == "a listener failed and accepts no more").then_some(())
        });
        // What is under way is finished first.
        ping(&under_way, b"after");
        drop(under_way);
        assert_eq!(xps.wait().code(), Some(1));
        xps.log().wait_until_or_end("the reason", |records| {
            records.iter().any(|record| record.message().contains("a listener accepts no more: ")).then_some(())
        }).expect("the reason");
    }

    fn without_sendfile_a_file_arrives_whole(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let content = Content::bytes(7, 3 << 20);
        std::fs::write(folder.path().join("file"), &content).expect("a temporary file");
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL] {
            let Some(filter) = denying(&[libc::SYS_sendfile], errno, "without_sendfile_a_file_arrives_whole") else {
                return;
            };
            let xps = Launch::send(backend, &folder.path().join("file")).through(filter).start();
            assert_same_bytes(&read_rest(&connect(xps.address())), &content);
            // One that does not read at once, so that pieces are sent in part.
            let mut slow = connect(xps.address());
            let mut beginning = vec![0; 10_000];
            slow.read_exact(&mut beginning).expect("the beginning");
            beginning.extend(read_rest(&slow));
            assert_same_bytes(&beginning, &content);
        }
    }

    fn without_another_thread_files_are_looked_up_all_the_same(backend) {
        let test = "without_another_thread_files_are_looked_up_all_the_same";
        let Some(nobody) = Nobody::new(test) else { return };
        if require_program(test, "prlimit", "util-linux").is_none() {
            return;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        std::fs::write(folder.path().join("page"), "here").expect("a temporary file");
        let launch = Launch::new(backend, ["serve"]).flag(folder.path().display());
        let xps = launch.flags(["--listen", ANY, "--workers", "1", "--access-log", "off"]).through(nobody.words()).start();
        // The user, and so the kernel for it, may have no more threads than there are.
        let limited = nobody.command(&["prlimit", "--pid", &xps.pid().to_string(), "--nproc=1:1"]).status();
        assert!(limited.expect("prlimit starts").success());
        // Names that nobody has ever looked up: the kernel has to go and see.
        for number in 0..20 {
            let answer = request(&xps, &format!("/missing-{number}"));
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
        assert!(request(&xps, "/page").ends_with("here"));
    }
}

fn request(xps: &crate::support::Xps, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    String::from_utf8(ask(xps.address(), request.as_bytes())).expect("text")
}

/// What `xps probe` says with these words before it.
fn probe(before: Vec<String>, workers: u32) -> Value {
    let workers = workers.to_string();
    let finished = Launch::new(Backend::Epoll, ["probe", "--json", "--workers", &workers])
        .without_flags()
        .through(before)
        .run(b"");
    serde_json::from_slice(&finished.output).unwrap_or_else(|_| panic!("no JSON: {}", finished.errors))
}

/// A server that chooses by itself, and what it says of that.
fn started_by_itself(before: Vec<String>, workers: u32) -> (crate::support::Xps, String, String) {
    let xps = Launch::echo(Backend::Epoll).without_flags().flag("--workers").flag(workers).through(before).start();
    let record = xps.log().wait_until("the choice", |records| {
        records.iter().find(|record| record.message().starts_with("started")).cloned()
    });
    let text = |field| record.text(field).unwrap_or_default().to_owned();
    let (backend, reason) = (text("backend"), text("reason"));
    (xps, backend, reason)
}

#[test]
fn a_ring_that_may_be_made_but_not_used_is_no_ring() {
    let test = "a_ring_that_may_be_made_but_not_used_is_no_ring";
    let enter = (IO_URING_ENTER, "io_uring_enter");
    let register = (IO_URING_REGISTER, "io_uring_register");
    for ((call, name), errno) in [(enter, libc::EPERM), (enter, libc::ENOSYS), (register, libc::EPERM)] {
        let Some(filter) = denying(&[call], errno, test) else { return };
        let report = probe(filter.clone(), 2);
        assert_eq!(report["auto"]["backend"], "epoll", "{report}");
        assert_eq!(report["io_uring"]["available"], false);
        let why = report["io_uring"]["reason"].as_str().expect("a reason");
        if !why.contains("io_uring is switched off") && !why.contains("no io_uring") {
            assert!(why.contains("seccomp") && why.contains(name), "{why}");
        }
        let (xps, backend, reason) = started_by_itself(filter.clone(), 2);
        assert_eq!((backend.as_str(), reason.as_str()), ("epoll", why));
        ping(&connect(xps.address()), b"hello");
        let demanded = Launch::echo(Backend::IoUring).through(filter).run(b"");
        assert_eq!(demanded.status.code(), Some(4), "{}", demanded.errors);
        assert!(demanded.errors.contains(why) && demanded.errors.contains("help: "), "{}", demanded.errors);
    }
}

#[test]
fn with_little_memory_to_lock_the_server_starts_and_all_tell_one_story() {
    let test = "with_little_memory_to_lock_the_server_starts_and_all_tell_one_story";
    let Some(nobody) = Nobody::new(test) else { return };
    let counts = !probe(nobody.words_with("-l 0"), 1)["io_uring"]["available"].as_bool().expect("known");
    // In KiB: the least that systems allow, and systemd's default.
    for (limit, workers) in [(64, 1), (64, 2), (64, 24), (8192, 24), (8192, 2)] {
        // Each time another user: what a process had is counted for a moment after its end.
        let before = || Nobody::new(test).expect("there was one before").words_with(&format!("-l {limit}"));
        let stories = || {
            let report = probe(before(), workers);
            let (xps, backend, reason) = started_by_itself(before(), workers);
            (report, xps, backend, reason)
        };
        // On a busy machine the kernel may take longer to give memory back than a trial waits, and smaller rings are chosen.
        let (report, xps, backend, reason) = (0..5)
            .map(|_| stories())
            .find(|(report, _, backend, reason)| {
                report["auto"]["backend"] == backend.as_str() && report["auto"]["reason"] == reason.as_str()
            })
            .unwrap_or_else(|| panic!("probe and server never agree: {limit} KiB, {workers} workers"));
        for _ in 0..2 * workers {
            ping(&connect(xps.address()), b"hello");
        }
        if counts {
            let expected = if limit == 64 && workers == 24 { "epoll" } else { "io_uring" };
            assert_eq!(backend, expected, "{limit} {workers}: {reason}");
            assert_eq!(reason.contains("RLIMIT_MEMLOCK"), (limit, workers) != (8192, 2), "{reason}");
        }
        if backend == "epoll" {
            let remedy = report["auto"]["remedy"].as_str().expect("a remedy");
            assert!(remedy.contains("ulimit -l"), "{remedy}");
        } else {
            assert_eq!(report["io_uring"]["rings"]["number"], workers);
        }
    }
    let version =
        |limit: &str| Launch::new(Backend::Epoll, ["-V"]).without_flags().through(nobody.words_with(limit)).run(b"");
    let version = String::from_utf8(version("-l 0").output).expect("text");
    assert_eq!(version.contains("epoll (cannot create io_uring: ENOMEM"), counts, "{version}");
    if counts {
        let demanded = Launch::echo(Backend::IoUring).through(nobody.words_with("-l 0")).run(b"");
        assert_eq!(demanded.status.code(), Some(4), "{}", demanded.errors);
        assert!(demanded.errors.contains("RLIMIT_MEMLOCK") && demanded.errors.contains("help: ulimit -l"));
    }
}

#[test]
fn a_restart_does_not_fail_for_the_memory_of_the_process_before() {
    let Some(nobody) = Nobody::new("a_restart_does_not_fail_for_the_memory_of_the_process_before") else { return };
    // In KiB: twice what two workers have is more.
    let before = || nobody.words_with("-l 1024");
    let usual = probe(before(), 2)["auto"]["backend"].as_str().expect("one").to_owned();
    for _ in 0..5 {
        let (xps, backend, reason) = started_by_itself(before(), 2);
        assert_eq!(backend, usual, "{reason}");
        ping(&connect(xps.address()), b"hello");
        // At once, as a service manager would.
        drop(xps);
    }
}
