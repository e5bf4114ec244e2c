//! An answer without an end, of which the client has enough at some time.

use std::io::{BufReader, Read};
use std::process::Stdio;
use std::time::Instant;

use crate::curl::Curl;
use crate::gateway::proxy;
use crate::script::Script;
use crate::support::environment::{bulk, report};
use crate::support::{Content, backends, is_wrapped, patience};

/// The file that comes over and over: its length divides no buffer's.
const FILE_BYTES: usize = 1_000_003;

/// What a client reads before it goes.
const READ_BYTES: usize = 20_000_000;

/// The proxy's memory may differ by so much from one moment to another.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

backends! {
    fn the_producer_of_an_endless_answer_sees_that_the_client_has_gone(backend) {
        let Some(curl) = Curl::find(module_path!()) else { return };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("content");
        let content = Content::bytes(1, FILE_BYTES);
        std::fs::write(&file, &content).expect("a file");
        let words = [file.to_str().expect("a path of text")];
        let Some(producer) = Script::python(module_path!(), "endless.py", &words) else { return };
        let xps = proxy(backend, producer.address(), &[]);
        for version in ["--http1.1", "--http1.0"] {
            let mut client = curl
                .command(&["-N", version, &format!("http://{}/", xps.address())])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("curl starts");
            let mut body = BufReader::with_capacity(64 << 10, client.stdout.take().expect("a pipe"));
            expect_repeated(&mut body, &content, 0, bulk(READ_BYTES) / 10);
            let before = xps.usage().rss_bytes;
            expect_repeated(&mut body, &content, bulk(READ_BYTES) / 10, bulk(READ_BYTES));
            let growth = xps.usage().rss_bytes.saturating_sub(before);
            // curl sees a broken pipe, as it does for `curl … | head`.
            let since = Instant::now();
            drop(body);
            let status = crate::support::process::wait_for_exit(&mut client, patience());
            if status.is_none() {
                let _ = client.kill();
                let _ = client.wait();
            }
            assert!(status.is_some_and(|status| !status.success()), "curl cannot have had it all: {status:?}");
            let line = producer.line();
            let took = since.elapsed();
            report(&format!("{version} over {backend:?}: {growth} bytes more memory, the end seen after {took:?}"));
            assert!(line.starts_with("broken off"), "{line}");
            assert!(took < patience() / 6, "the producer saw it only after {took:?}");
            assert!(is_wrapped() || growth <= GROWTH_BYTES_MAX, "the proxy has grown by {growth} bytes");
        }
    }
}

/// Checks that what comes next is the bytes from `start` to `end` of the content repeated without end.
#[track_caller]
fn expect_repeated(stream: &mut impl Read, content: &[u8], start: usize, end: usize) {
    let mut position = start;
    let mut block = vec![0; 32 << 10];
    while position < end {
        let offset = position % content.len();
        let length = block.len().min(content.len() - offset).min(end - position);
        stream.read_exact(&mut block[..length]).unwrap_or_else(|error| panic!("after {position} bytes: {error}"));
        assert!(
            block[..length] == content[offset..offset + length],
            "a difference within {length} bytes from {position} on"
        );
        position += length;
    }
}
