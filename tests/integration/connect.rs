//! `xps connect`: standard input to the socket, the socket to standard output, half-close kept.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::sync::mpsc;

use crate::support::environment::bulk;
use crate::support::process::wait_for_exit;
use crate::support::upstream::ClosedPort;
use crate::support::{Content, Launch, Upstream, assert_same_bytes, backends, cases, patience, read_rest};

backends! {
    fn what_goes_in_comes_back_from_an_echo(backend) {
        cases::connect_client(backend);
    }

    fn a_large_input_flows_both_ways(backend) {
        let upstream = Upstream::echo();
        let content = Content::bytes(1, bulk(32 << 20));
        let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(&content);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        assert_same_bytes(&finished.output, &content);
    }

    fn the_end_of_input_is_a_half_close(backend) {
        // Answers only when it has seen the end.
        let upstream = Upstream::new(|mut stream, _| {
            let request = read_rest(&stream);
            stream.write_all(format!("{} bytes", request.len()).as_bytes()).expect("the client reads");
        });
        let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(b"0123456789");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        assert_eq!(finished.output, b"10 bytes");
    }

    fn no_input_at_all_is_a_half_close_too(backend) {
        let upstream = Upstream::new(|mut stream, _| {
            assert_eq!(read_rest(&stream), b"");
            stream.write_all(b"nothing?").expect("the client reads");
        });
        let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(b"");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        assert_eq!(finished.output, b"nothing?");
    }

    fn files_serve_as_input_and_output(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let content = Content::bytes(2, bulk(4 << 20));
        std::fs::write(&input, &content).expect("a temporary file");
        let upstream = Upstream::echo();
        let mut command = Launch::new(backend, ["connect"]).flag(upstream.address()).command();
        command.stdin(File::open(&input).expect("it was written")).stderr(Stdio::inherit());
        command.stdout(File::create(&output).expect("a temporary file"));
        let mut process = command.spawn().expect("the program starts");
        let status = wait_for_exit(&mut process, patience());
        if status.is_none() {
            let _ = process.kill();
        }
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        assert_same_bytes(&std::fs::read(&output).expect("it was written"), &content);
    }

    fn lines_are_passed_on_while_the_input_stays_open(backend) {
        let upstream = Upstream::echo();
        let mut command = Launch::new(backend, ["connect"]).flag(upstream.address()).command();
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the program starts");
        let mut stdin = process.stdin.take().expect("a pipe");
        let mut stdout = process.stdout.take().expect("a pipe");
        let (lines, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let mut answer = [0; 6];
            while stdout.read_exact(&mut answer).is_ok() && lines.send(answer).is_ok() {}
        });
        for _ in 0..3 {
            stdin.write_all(b"hello\n").expect("the program reads");
            assert_eq!(&answers.recv_timeout(patience()).expect("the line comes back at once"), b"hello\n");
        }
        drop(stdin);
        let status = wait_for_exit(&mut process, patience()).expect("it ends at the end of input");
        assert_eq!(status.code(), Some(0));
    }

    fn what_a_server_sends_before_it_closes_is_printed(backend) {
        let content = Content::bytes(3, 300_000);
        let expected = content.clone();
        let upstream = Upstream::new(move |mut stream, _| {
            stream.write_all(&content).expect("the client reads");
            stream.shutdown(Shutdown::Write).expect("the connection is there");
            read_rest(&stream);
        });
        let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(b"");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        assert_same_bytes(&finished.output, &expected);
    }

    fn a_name_will_do(backend) {
        let upstream = Upstream::echo();
        let name = format!("localhost:{}", upstream.address().port());
        let finished = Launch::new(backend, ["connect"]).flag(name).run(b"by name");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        assert_eq!(finished.output, b"by name");
    }

    fn a_refused_connection_is_an_error_with_words(backend) {
        let nobody = ClosedPort::new();
        let finished = Launch::new(backend, ["connect"]).flag(nobody.address()).run(b"anyone?");
        assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
        assert_eq!(finished.output, b"");
        let port = nobody.address().port().to_string();
        assert!(finished.errors.contains(&port), "says where: {}", finished.errors);
        assert!(finished.errors.to_lowercase().contains("refused"), "says why: {}", finished.errors);
    }

    fn an_unknown_name_is_an_error_with_words(backend) {
        // RFC 6761 reserves the domain: it never resolves.
        let finished = Launch::new(backend, ["connect", "nobody.invalid:80"]).run(b"");
        assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
        assert!(finished.errors.contains("nobody.invalid"), "says what: {}", finished.errors);
    }
}
