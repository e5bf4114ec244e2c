//! `xps reverse`: each line reversed, its newline in place; the rest at the end of input as it is.

use std::io::{Read, Write};

use crate::support::client::exchange;
use crate::support::environment::bulk;
use crate::support::{Content, Launch, ask, assert_same_bytes, backends, connect};

/// What the server is to answer: lines reversed, in pieces of `line_max` bytes.
fn reversed(input: &[u8], line_max: usize) -> Vec<u8> {
    let mut answer = Vec::with_capacity(input.len());
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let (text, newline) = line.split_at(line.len() - usize::from(line.ends_with(b"\n")));
        for piece in text.chunks(line_max) {
            answer.extend(piece.iter().rev());
        }
        answer.extend(newline);
    }
    answer
}

/// Random lines: mostly short, some empty, now and then one around `line_max`, the last unfinished.
fn random_lines(seed: u64, line_max: usize, lines: usize) -> Vec<u8> {
    let mut random = Content::new(seed);
    let mut input = Vec::new();
    for line in 0..=lines {
        let length = match random.below(8) {
            0 => 0,
            1 => line_max - 2 + random.below(5),
            2 => 2 * line_max - 2 + random.below(5),
            _ => random.below(200),
        };
        let mut text = vec![0; length];
        random.fill(&mut text);
        text.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        input.extend(text);
        if line < lines {
            input.push(b'\n');
        }
    }
    input
}

backends! {
    fn lines_are_reversed_and_newlines_stay(backend) {
        let xps = Launch::reverse(backend).start();
        assert_eq!(ask(xps.address(), b"hello\nworld\n"), b"olleh\ndlrow\n");
    }

    fn a_line_is_answered_before_the_input_ends(backend) {
        let xps = Launch::reverse(backend).start();
        let mut stream = connect(xps.address());
        for _ in 0..100 {
            stream.write_all(b"drawer\n").expect("the server takes the line");
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).expect("an answer to a whole line");
            assert_eq!(&answer, b"reward\n");
        }
    }

    fn what_remains_at_the_end_is_reversed_too(backend) {
        let xps = Launch::reverse(backend).start();
        assert_eq!(ask(xps.address(), b"one\nno newline"), b"eno\nenilwen on");
        assert_eq!(ask(xps.address(), b"x"), b"x");
        assert_eq!(ask(xps.address(), b""), b"");
    }

    fn empty_lines_stay_empty(backend) {
        let xps = Launch::reverse(backend).start();
        assert_eq!(ask(xps.address(), b"\n\nab\n\n\n"), b"\n\nba\n\n\n");
    }

    fn a_carriage_return_is_a_byte_like_any_other(backend) {
        let xps = Launch::reverse(backend).start();
        assert_eq!(ask(xps.address(), b"abc\r\ndef\r\n"), b"\rcba\n\rfed\n");
    }

    fn bytes_are_reversed_and_not_characters(backend) {
        let xps = Launch::reverse(backend).start();
        assert_eq!(ask(xps.address(), b"\x00\xff\xc3\xa9\n"), b"\xa9\xc3\xff\x00\n");
    }

    fn a_line_beyond_the_limit_is_reversed_in_pieces_of_the_limit(backend) {
        let xps = Launch::reverse(backend).flags(["--line-max", "4k"]).start();
        for length in [4095, 4096, 4097, 8191, 8192, 8193, 20_000] {
            let mut line: Vec<u8> = (0..length).map(|position: u32| b'a' + (position % 26) as u8).collect();
            assert_same_bytes(&ask(xps.address(), &line), &reversed(&line, 4096));
            line.push(b'\n');
            assert_same_bytes(&ask(xps.address(), &line), &reversed(&line, 4096));
        }
    }

    fn a_line_without_end_flows_on(backend) {
        let xps = Launch::reverse(backend).start();
        let line: Vec<u8> = Content::bytes(1, bulk(8 << 20)).into_iter().filter(|byte| *byte != b'\n').collect();
        assert_same_bytes(&ask(xps.address(), &line), &reversed(&line, 64 << 10));
    }

    fn a_line_may_come_byte_by_byte(backend) {
        let xps = Launch::reverse(backend).start();
        let stream = connect(xps.address());
        stream.set_nodelay(true).expect("TCP has it");
        let input = b"one byte\nat a time\n\nand the rest";
        for byte in input {
            (&stream).write_all(&[*byte]).expect("the server takes the byte");
        }
        assert_eq!(exchange(&stream, b""), reversed(input, usize::MAX));
    }

    fn random_lines_in_random_pieces_are_reversed(backend) {
        let xps = Launch::reverse(backend).flags(["--line-max", "4k"]).start();
        for seed in 0..8 {
            let input = random_lines(seed, 4096, 200);
            let stream = connect(xps.address());
            stream.set_nodelay(true).expect("TCP has it");
            let answer = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Content::new(!seed);
                    let mut rest = &input[..];
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(rest.len().min(1 + random.below(3000)));
                        (&stream).write_all(now).expect("the server takes the bytes");
                        rest = later;
                    }
                    stream.shutdown(std::net::Shutdown::Write).expect("the connection is still there");
                });
                crate::support::read_rest(&stream)
            });
            assert_same_bytes(&answer, &reversed(&input, 4096));
        }
    }

    fn many_clients_do_not_mix_their_lines(backend) {
        let xps = Launch::reverse(backend).start();
        let address = xps.address();
        std::thread::scope(|scope| {
            for client in 0..20 {
                scope.spawn(move || {
                    let input = random_lines(1000 + client, 1000, 300);
                    assert_same_bytes(&ask(address, &input), &reversed(&input, 64 << 10));
                });
            }
        });
    }

    /// Stage 1 of the course: the process ends with its only client, with code 1.
    fn once_serves_one_client_and_exits_with_1_when_it_leaves(backend) {
        let mut xps = Launch::reverse(backend).flag("--once").start();
        let stream = connect(xps.address());
        for (line, answer) in [("stressed\n", "desserts\n"), ("ab\n", "ba\n")] {
            (&stream).write_all(line.as_bytes()).expect("the server takes it");
            let mut received = vec![0; answer.len()];
            std::io::Read::read_exact(&mut &stream, &mut received).expect("an answer");
            assert_eq!(received, answer.as_bytes());
        }
        assert!(xps.is_running());
        // No other one is served: a second one waits in the backlog, if it gets there, until the process ends.
        let second = std::net::TcpStream::connect(xps.address());
        drop(stream);
        let status = xps.wait();
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(second.is_err() || second.is_ok_and(|second| crate::support::was_cut(&second)));
    }

    fn once_ends_in_order_when_it_is_stopped_before_a_client_comes(backend) {
        let xps = Launch::reverse(backend).flag("--once").start();
        xps.finish();
        let finished = Launch::new(backend, ["reverse", "127.0.0.1:0", "127.0.0.2:0", "--once"]).run(b"");
        assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    }
}
