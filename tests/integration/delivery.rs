//! What was sent before a connection broke arrives, and then the break does: however slow the other side is in taking it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::client::{connect_narrow, flood, read_until_cut, reset, wait_until_acknowledged};
use crate::support::process::Signal;
use crate::support::{Backend, Content, Launch, Upstream, Xps, assert_same_bytes, backends, connect, patience};

/// More than a narrow client and its proxy's pipe hold, less than the kernel does.
const SENT: usize = 1_500_000;

/// How much later the slow side begins to read than the connection broke.
const LATER: Duration = Duration::from_millis(300);

/// An upstream that reads a request, sends this and breaks off; and the news of it.
fn breaking(answer: Vec<u8>, end: fn(TcpStream)) -> (Upstream, mpsc::Receiver<()>) {
    let (sender, is_over) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = Upstream::new(move |mut stream, _| {
        stream.read_exact(&mut [0]).expect("a request");
        stream.write_all(&answer).expect("the proxy takes it");
        wait_until_acknowledged(&stream);
        end(stream);
        let _ = sender.lock().expect("no panic").send(());
    });
    (upstream, is_over)
}

fn close(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Asks, and reads what comes when the upstream has long broken off.
#[track_caller]
fn ask_slowly(xps: &Xps, request: &str, is_over: &mpsc::Receiver<()>) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut stream = connect_narrow(xps.address());
    stream.write_all(request.as_bytes()).expect("it takes a request");
    is_over.recv_timeout(patience()).expect("the upstream answers");
    std::thread::sleep(LATER);
    let (bytes, end) = read_until_cut(&stream);
    (bytes, end.map_err(|error| error.kind()))
}

fn http(backend: Backend, upstream: &Upstream) -> Launch {
    let words =
        ["proxy", "--http", "--access-log", "off", "--log-level", "debug", "--listen", "127.0.0.1:0", "--upstream"];
    Launch::new(backend, words).flag(upstream.address())
}

/// What the log says was sent to the client.
#[track_caller]
fn sent(xps: &Xps) -> u64 {
    let end = xps.log().wait_for("the connection's end", |record| record.message() == "connection ended");
    end.number("sent").expect("a number")
}

backends! {
    fn an_upstream_s_bytes_before_its_reset(backend) {
        let content = Content::bytes(4, SENT);
        let (upstream, is_over) = breaking(content.clone(), reset);
        let xps = Launch::proxy(backend, upstream.address()).start();
        let (bytes, end) = ask_slowly(&xps, "go", &is_over);
        assert_same_bytes(&bytes, &content);
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "no end of input: that would be the upstream's");
        assert_eq!(sent(&xps), SENT as u64);
    }

    fn a_client_s_bytes_before_its_reset(backend) {
        let content = Content::bytes(5, SENT);
        let (start, started) = mpsc::channel::<()>();
        let (sender, received) = mpsc::channel();
        let ends = Mutex::new((started, sender));
        let upstream = Upstream::new(move |stream, _| {
            let ends = ends.lock().expect("no panic");
            ends.0.recv_timeout(patience()).expect("it is told to");
            let (bytes, end) = read_until_cut(&stream);
            let _ = ends.1.send((bytes, end.map_err(|error| error.kind())));
        });
        let xps = Launch::proxy(backend, upstream.address()).start();
        let mut stream = connect(xps.address());
        stream.write_all(&content).expect("it takes bytes");
        wait_until_acknowledged(&stream);
        reset(stream);
        std::thread::sleep(LATER);
        start.send(()).expect("the upstream waits");
        let (bytes, end) = received.recv_timeout(patience()).expect("an end");
        assert_same_bytes(&bytes, &content);
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }

    fn a_part_of_an_answer_whose_framing_shows_it(backend) {
        for (end, framing) in [
            (reset as fn(TcpStream), format!("Content-Length: {}\r\n\r\n", 2 * SENT)),
            (close, format!("Content-Length: {}\r\n\r\n", 2 * SENT)),
            (close, format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", 2 * SENT)),
        ] {
            let content = Content::bytes(6, SENT);
            let answer = [format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes(), &content].concat();
            let (upstream, is_over) = breaking(answer, end);
            let xps = http(backend, &upstream).start();
            let (bytes, end) = ask_slowly(&xps, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", &is_over);
            assert_eq!(end, Ok(()), "{framing}");
            let head = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
            if framing.starts_with("Content-Length") {
                assert_same_bytes(&bytes[head..], &content);
            } else {
                assert!(bytes.len() > head + SENT && !bytes.ends_with(b"0\r\n\r\n"), "{} bytes", bytes.len());
            }
            assert_eq!(sent(&xps), bytes.len() as u64);
        }
    }

    fn a_part_of_an_answer_whose_framing_does_not_show_it(backend) {
        let content = Content::bytes(7, SENT);
        let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &content].concat();
        let (upstream, is_over) = breaking(answer, reset);
        let xps = http(backend, &upstream).start();
        let (bytes, end) = ask_slowly(&xps, "GET / HTTP/1.0\r\nHost: h\r\n\r\n", &is_over);
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "an end of input would be the answer's");
        let head = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
        assert_same_bytes(&bytes[head..], &content);
        assert_eq!(sent(&xps), bytes.len() as u64);
    }

    /// Many times, since it depended on what came together.
    fn a_head_that_comes_together_with_the_end(backend) {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\nno chunk\r\n",
        ] {
            let upstream = Upstream::new(move |mut stream, _| {
                stream.read_exact(&mut [0]).expect("a request");
                let _ = stream.write_all(answer.as_bytes());
                close(stream);
            });
            let xps = http(backend, &upstream).start();
            for number in 0..50 {
                let mut stream = connect(xps.address());
                stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("it takes a request");
                let (bytes, end) = read_until_cut(&stream);
                let text = String::from_utf8_lossy(&bytes);
                assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("half of it"), "{number}: {text:?}");
                assert!(!text.ends_with("0\r\n\r\n"), "{number}: {text:?}");
                end.unwrap_or_else(|error| panic!("{number}: {error}"));
            }
        }
    }

    fn who_takes_nothing_is_waited_for_no_longer_than_it_may_take(backend) {
        let (upstream, is_over) = breaking(Content::bytes(8, SENT), reset);
        let xps = Launch::proxy(backend, upstream.address()).flags(["--send-timeout", "300ms"]).start();
        let mut stream = connect_narrow(xps.address());
        stream.write_all(b"go").expect("it takes a request");
        is_over.recv_timeout(patience()).expect("the upstream answers");
        let since = Instant::now();
        let sent = sent(&xps);
        assert!(since.elapsed() < patience() / 2);
        let (bytes, end) = read_until_cut(&stream);
        assert!(end.is_err());
        // What was lost does not count as sent.
        assert!(sent <= bytes.len() as u64 && bytes.len() < SENT, "{} bytes, {sent} in the log", bytes.len());
    }

    fn a_stop_does_not_wait_for_longer_than_it_may(backend) {
        let (upstream, is_over) = breaking(Content::bytes(9, SENT), reset);
        let flags = ["--send-timeout", "10m", "--drain-timeout", "500ms"];
        let mut xps = Launch::proxy(backend, upstream.address()).flags(flags).start();
        let mut stream = connect_narrow(xps.address());
        stream.write_all(b"go").expect("it takes a request");
        is_over.recv_timeout(patience()).expect("the upstream answers");
        std::thread::sleep(LATER);
        xps.signal(Signal::Terminate);
        assert_eq!(xps.wait().code(), Some(0));
        assert!(read_until_cut(&stream).1.is_err());
    }

    /// The upstream takes nothing, and its client is gone.
    fn an_upstream_that_takes_nothing_is_waited_for_no_longer_than_it_may_take(backend) {
        let (done, is_done) = mpsc::channel::<()>();
        let is_done = Mutex::new(is_done);
        let upstream = Upstream::new(move |_stream, _| {
            let _ = is_done.lock().expect("no panic").recv_timeout(patience());
        });
        let xps = Launch::proxy(backend, upstream.address()).flags(["--send-timeout", "300ms"]).start();
        let stream = connect(xps.address());
        flood(&stream, &mut Content::new(10), 100_000_000);
        reset(stream);
        xps.log().wait_for("the connection's end", |record| record.message() == "connection ended");
        drop(done);
    }
}
