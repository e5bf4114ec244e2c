//! `xps proxy` in front of Python's own HTTP server, as a user would try it: curl, several downloads at
//! once, a file of 1 GiB, and the server killed in the middle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::support::client::read_until_cut;
use crate::support::environment::{bulk, find_program, is_wrapped};
use crate::support::files::{assert_stream_is_file, write_sparse};
use crate::support::python::Python;
use crate::support::{Content, Launch, Xps, assert_same_bytes, backends, connect, plain_only, skip, was_cut};

/// Asks for a file and reads the head; what follows is the body.
fn get(address: SocketAddr, name: &str) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    write!(stream, "GET /{name} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("the server takes the request");
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    assert!(line.contains(" 200 "), "{line}");
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).expect("a head"), 0, "the head ended early");
    }
    reader
}

fn curl(xps: &Xps, name: &str, arguments: &[&str], target: &Path) {
    let mut curl = Command::new("curl");
    let scheme = match xps.encryption() {
        Some(encryption) => {
            curl.arg("--cacert").arg(encryption.ca());
            "https"
        }
        None => "http",
    };
    let output = curl
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"])
        .args(arguments)
        .arg("--output")
        .arg(target)
        .arg(format!("{scheme}://{}/{name}", xps.address()))
        .output()
        .expect("curl starts");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

backends! {
    fn curl_downloads_byte_for_byte(backend) {
        if find_program("curl").is_none() {
            return skip("curl_downloads_byte_for_byte", "curl is not installed");
        }
        let Some(python) = Python::start("curl_downloads_byte_for_byte") else { return };
        let content = Content::bytes(1, bulk(20 << 20) + 1);
        std::fs::write(python.file("content"), &content).expect("a temporary file");
        let xps = Launch::proxy(backend, python.address).over_tls_where_asked().start();
        for arguments in [&[][..], &["--header", "Connection: close"], &["--http1.0"]] {
            let target = python.file("copy");
            curl(&xps, "content", arguments, &target);
            assert_same_bytes(&std::fs::read(target).expect("curl wrote it"), &content);
        }
    }

    fn several_downloads_at_once_stay_apart(backend) {
        let Some(python) = Python::start("several_downloads_at_once_stay_apart") else { return };
        for number in 0..8_u8 {
            let content = Content::bytes(u64::from(number), bulk(4 << 20) + usize::from(number));
            std::fs::write(python.file(&number.to_string()), content).expect("a temporary file");
        }
        let xps = Launch::proxy(backend, python.address).over_tls_where_asked().start();
        std::thread::scope(|scope| {
            for client in 0..16 {
                let (xps, python) = (&xps, &python);
                let name = (client % 8).to_string();
                scope.spawn(move || assert_stream_is_file(get(xps.address(), &name), &python.file(&name)));
            }
        });
    }

    fn a_gibibyte_is_relayed(backend) {
        if is_wrapped() {
            return skip("a_gibibyte_is_relayed", "too slow inside a wrapper");
        }
        plain_only!("the tests' own end of TLS takes minutes for a gibibyte in a debug build");
        let Some(python) = Python::start("a_gibibyte_is_relayed") else { return };
        let path = python.file("gibibyte");
        write_sparse(&path, 1 << 30);
        let xps = Launch::proxy(backend, python.address).over_tls_where_asked().start();
        assert_stream_is_file(get(xps.address(), "gibibyte"), &path);
    }

    fn a_server_killed_in_the_middle_cuts_the_download(backend) {
        let Some(mut python) = Python::start("a_server_killed_in_the_middle_cuts_the_download") else { return };
        let length = 256 << 20;
        write_sparse(&python.file("large"), length);
        let xps = Launch::proxy(backend, python.address).over_tls_where_asked().start();
        let mut body = get(xps.address(), "large");
        body.read_exact(&mut [0; 100_000]).expect("the download has begun");
        python.kill();
        let (rest, _reset_or_end) = read_until_cut(body.get_ref());
        assert!((rest.len() as u64) < length / 2, "{} bytes came after the server was gone", rest.len());
        // Refused now, and closed at once.
        assert!(was_cut(&connect(xps.address())), "the proxy lives on");
    }
}
