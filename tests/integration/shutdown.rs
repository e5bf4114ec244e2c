//! SIGTERM and SIGINT: listening ends at once, what is live may finish within the drain time, the exit
//! code is 0; a second signal ends at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::support::client::ping;
use crate::support::files::{assert_stream_is_file, write_sparse};
use crate::support::process::Signal;
use crate::support::{Launch, Upstream, backends, connect, eventually, patience, uninterrupted, was_cut};

backends! {
    fn an_idle_server_ends_at_once(backend) {
        for signal in [Signal::Terminate, Signal::Interrupt] {
            let mut xps = Launch::echo(backend).flags(["--drain-timeout", "60s"]).start();
            ping(&connect(xps.address()), b"was used");
            xps.signal(signal);
            assert_eq!(xps.wait().code(), Some(0), "{signal:?}");
        }
    }

    fn a_live_connection_may_finish(backend) {
        let mut xps = Launch::echo(backend).flags(["--drain-timeout", "60s"]).start();
        let stream = connect(xps.address());
        ping(&stream, b"before");
        xps.signal(Signal::Terminate);
        wait_until_refused(xps.address());
        ping(&stream, b"still served");
        assert!(xps.is_running());
        drop(stream);
        assert_eq!(xps.wait().code(), Some(0));
    }

    fn a_proxied_connection_may_finish(backend) {
        let upstream = Upstream::echo();
        let mut xps = Launch::proxy(backend, upstream.address()).over_tls_where_asked().flags(["--drain-timeout", "60s"]).start();
        let stream = connect(xps.address());
        ping(&stream, b"before");
        xps.signal(Signal::Terminate);
        wait_until_refused(xps.address());
        ping(&stream, b"still served");
        drop(stream);
        assert_eq!(xps.wait().code(), Some(0));
    }

    fn a_download_under_way_is_completed(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        write_sparse(&path, 128 << 20);
        let mut xps = Launch::send(backend, &path).flags(["--drain-timeout", "60s"]).start();
        let mut stream = connect(xps.address());
        let mut beginning = [0; 1000];
        stream.read_exact(&mut beginning).expect("the file has begun");
        xps.signal(Signal::Terminate);
        wait_until_refused(xps.address());
        assert_stream_is_file(beginning.chain(stream), &path);
        assert_eq!(xps.wait().code(), Some(0));
    }

    fn the_drain_time_is_kept(backend) {
        let mut xps = Launch::echo(backend).flags(["--drain-timeout", "500ms"]).start();
        let stream = connect(xps.address());
        ping(&stream, b"before");
        let since = Instant::now();
        xps.signal(Signal::Terminate);
        assert!(was_cut(&stream), "the connection is closed when the time is up");
        assert!(since.elapsed() >= Duration::from_millis(450), "closed after {:?} already", since.elapsed());
        assert_eq!(xps.wait().code(), Some(0));
    }

    fn a_stalled_connection_does_not_outlive_the_drain_time(backend) {
        let mut xps = Launch::echo(backend).flags(["--drain-timeout", "500ms"]).start();
        let mut stream = connect(xps.address());
        crate::support::client::flood(&stream, &mut crate::support::Content::new(1), 1 << 30);
        xps.signal(Signal::Terminate);
        assert_eq!(xps.wait().code(), Some(0));
        // It was cut, so writing comes to an end.
        while uninterrupted(|| stream.write(&[0; 4096])).is_ok() {}
    }

    fn a_second_signal_ends_at_once(backend) {
        for signal in [Signal::Terminate, Signal::Interrupt] {
            let mut xps = Launch::echo(backend).flags(["--drain-timeout", "600s"]).start();
            let stream = connect(xps.address());
            ping(&stream, b"before");
            xps.signal(signal);
            wait_until_refused(xps.address());
            assert!(xps.is_running(), "it drains");
            let since = Instant::now();
            xps.signal(signal);
            let status = xps.wait();
            assert!(since.elapsed() < patience() / 5, "after {:?}", since.elapsed());
            assert_eq!(shell_code(status), Some(128 + signal.number()), "{status}");
            assert!(was_cut(&stream));
        }
    }
}

/// Waits until nobody listens there any more.
fn wait_until_refused(address: SocketAddr) {
    eventually("the listening socket is gone", || TcpStream::connect_timeout(&address, patience()).is_err());
}

/// The exit code as a shell shows it.
fn shell_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}
