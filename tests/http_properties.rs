//! The properties of the fuzz targets, for a bounded number of random inputs: plain ones, and ones put together from
//! pieces that mean something to HTTP, which get further into the code.
//!
//! `XPS_PROPERTY_CASES=10000000 cargo test --release --test http_properties` tries so many of each instead of 2,000.

#[path = "../fuzz/file_properties.rs"]
mod file_properties;
#[path = "../fuzz/h2_client_properties.rs"]
mod h2_client_properties;
#[path = "../fuzz/h2_connection_properties.rs"]
mod h2_connection_properties;
#[path = "../fuzz/h2_properties.rs"]
mod h2_properties;
#[path = "../fuzz/properties.rs"]
mod properties;
#[path = "../fuzz/tls_properties.rs"]
mod tls_properties;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use xps::internals::http::Trailers;
use xps::internals::http::chunked::{LAST_CHUNK, SizeLine};
use xps::internals::http::path::{decode, encode_path};
use xps::internals::http::request::{HeadLimits, Parsed, parse};

fn cases() -> u32 {
    std::env::var("XPS_PROPERTY_CASES").map_or(2000, |number| number.parse().expect("XPS_PROPERTY_CASES is a number"))
}

type Property = fn(&[u8]);

/// What the fuzz targets begin with, and what they have found: `fuzz/seeds/TARGET/…`.
#[test]
fn stored_inputs_keep_the_properties() {
    let targets: [(&str, Property); 15] = [
        ("accept_encoding", properties::accept_encoding),
        ("chunked", properties::chunked),
        ("client", properties::client),
        ("client_hello", tls_properties::client_hello),
        ("conditional", file_properties::conditional),
        ("h2_client", h2_client_properties::client),
        ("h2_connection", h2_connection_properties::connection),
        ("h2_frames", h2_properties::frames),
        ("h2_head", h2_properties::head),
        ("head", properties::head),
        ("hpack", h2_properties::hpack),
        ("path", properties::path),
        ("range", file_properties::range),
        ("response_head", properties::response_head),
        ("tls_records", tls_properties::records),
    ];
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names =
        fs::read_dir(fuzz.join("fuzz_targets")).expect("the targets").map(|entry| entry.expect("a file").path());
    let mut names: Vec<_> = names.map(|path| path.file_stem().expect("a name").to_owned()).collect();
    names.sort();
    assert_eq!(names, targets.map(|(name, _)| name), "each target has its property here");
    for (name, property) in targets {
        let folder = fuzz.join("seeds").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).expect(name).map(|entry| entry.expect("a file").path()).collect();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            println!("{}", input.display());
            property(&fs::read(&input).expect("a file"));
        }
    }
}

/// Pieces strung together.
fn assembled(pieces: &'static [&'static [u8]], count: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..count).prop_map(|pieces| pieces.concat())
}

const HEAD_PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a/%2e%2e/b?c HTTP/1.1\r\n",
    b"GET http://h:1/ HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT h:443 HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Host: h\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 5, 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, upgrade\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X:  \t \r\n",
    b"X: y \r\n",
    b"X: \xff\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b":",
];

const ANSWER_PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 304\r\n",
    b"HTTP/1.1 101 \r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 5, 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Connection: keep-alive\r\n",
    b"Set-Cookie: a\r\n",
    b"Date: b\r\n",
    b"X: y \r\n",
    b"X: \xff\r\n",
    b"\r\n",
    b"\n",
    b" ",
    b":",
];

const RESPONSE_PIECES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxps",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nps\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx",
    b"HTTP/1.1 404 \r\nConnection: close\r\nContent-Length: 3\r\n\r\nxps",
    b"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 0\n\n",
    b"HTTP/1.1 204 \r\n\r\n",
    b"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 100 \r\n\r\n",
    b"HTTP/1.1 103 \r\nLink: x\r\n\r\n",
    b"HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\r\n",
    b"x",
];

const CHUNK_PIECES: &[&[u8]] = &[
    b"0\r\n",
    b"1\r\nx\r\n",
    b"5\r\nhello\r\n",
    b"A;x=\"y\"\r\n0123456789\r\n",
    b"\r\n",
    b"0",
    b"f",
    b" ",
    b";",
    b"X: y\r\n",
    b"Content-Length:5\r\n",
    b"transfer_encoding: x\r\n",
    b"TE",
    b":",
];

const PATH_PIECES: &[&[u8]] = &[
    b"/", b"//", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"\\", b"a", b"%", b"%25", b"%c0%ae", b";", b"%00",
    b"%0d",
];

const ACCEPT_PIECES: &[&[u8]] = &[
    b"gzip",
    b"br",
    b"zstd",
    b"identity",
    b"*",
    b"x-gzip",
    b",",
    b", ",
    b";q=",
    b";q=0",
    b"0.5",
    b"1",
    b".",
    b"\n",
    b"text/html",
    b"*/*",
];

const H2_PIECES: &[&[u8]] = &[
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\0\x04\x01\0\0\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x10\0\0",
    b"\0\0\x02\x01\x05\0\0\0\x01\x82\x84",
    b"\0\0\x01\x01\0\0\0\0\x01\x82",
    b"\0\0\x01\x09\x04\0\0\0\x01\x84",
    b"\0\0\x0a\x01\x2d\0\0\0\x03\x02\0\0\0\0\x10\x82\x84\0\0",
    b"\0\0\x05\0\0\0\0\0\x01hello",
    b"\0\0\x05\0\x09\0\0\0\x01\x03h...",
    b"\0\0\0\0\x01\0\0\0\x03",
    b"\0\x40\0\0\0\0\0\0\x05",
    b"\0\x40\x01\0\0\0\0\0\x05",
    b"\0\0\x05\x02\0\0\0\0\x0512345",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\x01",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x05",
    b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
    b"\0\0\x07\x10\0\0\0\0\0\0\0\0\x01u=1",
    b"\0\0\x03\xbe\xff\0\0\0\x07xyz",
    // Requests that are complete: GET /f/large, GET /c, POST /s and its body.
    b"\0\0\x0f\x01\x05\0\0\0\x05\x82\x86\x41\x01h\x04\x08/f/large",
    b"\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x41\x01h\x04\x02/c",
    b"\0\0\x09\x01\x04\0\0\0\x03\x83\x86\x41\x01h\x04\x02/s",
    b"\0\0\x02\0\x01\0\0\0\x03xy",
];

/// Frames of a server.
const H2_RESPONSE_PIECES: &[&[u8]] = &[
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\0\x04\x01\0\0\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x09",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x02",
    b"\0\0\x01\x01\x04\0\0\0\x01\x88",
    b"\0\0\x01\x01\x05\0\0\0\x01\x88",
    b"\0\0\x01\x01\x05\0\0\0\x03\x88",
    b"\0\0\x01\x01\x04\0\0\0\x05\x88",
    b"\0\0\x05\x01\x05\0\0\0\x07\x08\x03304",
    b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03103",
    // With a length of 5, by the table too.
    b"\0\0\x05\x01\x04\0\0\0\x01\x88\x0f\x0d\x015",
    b"\0\0\x05\x01\x04\0\0\0\x03\x88\x5c\x015\x20",
    b"\0\0\x04\x01\x04\0\0\0\x03\x88\x5c\x015",
    b"\0\0\x02\x01\x04\0\0\0\x05\x88\xbe",
    b"\0\0\x05\x01\x05\0\0\0\x01\0\x01x\x01y",
    b"\0\0\x05\x01\x05\0\0\0\x05\0\x01x\x01y",
    b"\0\0\x01\x01\0\0\0\0\x01\x88",
    b"\0\0\0\x09\x04\0\0\0\x01",
    b"\0\0\x05\0\0\0\0\0\x01hello",
    b"\0\0\x05\0\x01\0\0\0\x01hello",
    b"\0\0\x05\0\x01\0\0\0\x03hello",
    b"\0\0\x05\0\x09\0\0\0\x05\x03h...",
    b"\0\0\x32\0\0\0\0\0\x0512345678901234567890123456789012345678901234567890",
    b"\0\0\0\0\x01\0\0\0\x05",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x07",
    b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\x01",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x03\0\0\0\0",
    b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0",
    b"\0\0\x04\x08\0\0\0\0\x05\0\0\x01\0",
    b"\0\0\x04\x08\0\0\0\0\0\0\x01\0\0",
    b"\0\0\x04\x08\0\0\0\0\x01\x7f\xff\xff\xff",
    b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\0",
    b"\0\0\x03\xbe\xff\0\0\0\x07xyz",
];

/// Representations of HPACK; those with a length before them are blocks.
const HPACK_PIECES: &[&[u8]] = &[
    b"\x01\x82",
    b"\x04\x82\x86\x84\xbe",
    b"\x05\x40\x01a\x01b",
    b"\x06\x41\x84\xf1\xe3\xc2\xff",
    b"\x03\x20\x3f\x1f",
    b"\x20",
    b"\x82",
    b"\xbe",
    b"\xbf",
    b"\x40\x01a\x03bcd",
    b"\x7e\x02de",
    b"\x0f\x11\x01c",
    b"\x10\x01A\x00",
    b"\x60\x01c",
    b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\x30",
    b"\x7f",
];

const FIELD_PIECES: &[&[u8]] = &[
    b":method=POST\n",
    b":authority=h:1\n",
    b":protocol=websocket\n",
    b":path=/a/../b?c=%00\n",
    b"host=h\n",
    b"content-length=5\n",
    b"content-length=5, 5\n",
    b"cookie=a=b\n",
    b"cookie=\n",
    b"expect=100-continue\n",
    b"te=trailers\n",
    b"connection=close\n",
    b"transfer-encoding=chunked\n",
    b"transfer_encoding=chunked\n",
    b"x-forwarded-for=1.2.3.4\n",
    b"max-forwards=1\n",
    b"X=y\n",
    b"x=\xff \t",
    b"\r\x1f",
    b" ",
    b"=",
    b"\n",
];

const H2_STARTS: [&str; 5] = [
    ":method=GET\n:scheme=https\n:authority=h\n:path=/\n",
    ":method=POST\n:scheme=http\n:path=/a?b\n",
    ":method=OPTIONS\n:scheme=https\n:authority=h\n:path=*\n",
    ":method=CONNECT\n:authority=h:443\n",
    ":method=CONNECT\n:protocol=websocket\n:scheme=https\n:authority=h\n:path=/chat\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused_or_read_without_panic(bytes in vec(any::<u8>(), 0..400)) {
        properties::head(&bytes);
        properties::chunked(&bytes);
        properties::path(&bytes);
        properties::accept_encoding(&bytes);
        h2_client_properties::client(&bytes);
        h2_properties::frames(&bytes);
        h2_properties::hpack(&bytes);
        h2_properties::head(&bytes);
    }

    #[test]
    fn any_frames_are_the_same_however_they_arrive(bytes in assembled(H2_PIECES, 12), seed: u8) {
        h2_properties::frames(&[&[seed], &*bytes].concat());
    }

    #[test]
    fn any_responses_of_http_2_are_the_same_however_they_arrive(
        bytes in assembled(H2_RESPONSE_PIECES, 16), habits: u8, cuts in 0u8..40,
    ) {
        h2_client_properties::client(&[&[habits, cuts], &*bytes].concat());
    }

    #[test]
    fn any_compressed_fields_are_the_same_however_they_are_cut(bytes in assembled(HPACK_PIECES, 30)) {
        h2_properties::hpack(&bytes);
    }

    #[test]
    fn any_list_of_fields_is_refused_or_a_request_of_http_1(
        start in prop::sample::select(&H2_STARTS[..]), fields in assembled(FIELD_PIECES, 8), seed: u8,
    ) {
        h2_properties::head(&[&[seed], start.as_bytes(), &*fields].concat());
    }

    #[test]
    fn any_connection_of_http_2_ends_and_leaves_nothing(
        habits: u8, cuts in vec(any::<u8>(), 0..14), bytes in assembled(H2_PIECES, 12),
    ) {
        let start = [habits, (cuts.len() / 2) as u8];
        h2_connection_properties::connection(&[&start, &cuts[..cuts.len() / 2 * 2], &*bytes].concat());
    }

    #[test]
    fn any_head_is_the_same_however_it_arrives(bytes in assembled(HEAD_PIECES, 12)) {
        properties::head(&bytes);
        properties::head(&[b"GET / HTTP/1.1\r\nHost: h\r\n", &*bytes].concat());
    }

    #[test]
    fn any_answer_is_the_same_however_it_arrives(bytes in assembled(ANSWER_PIECES, 12), seed: u8) {
        properties::response_head(&[&[seed], &*bytes].concat());
        properties::response_head(&[&[seed], &b"HTTP/1.1 200 OK\r\n"[..], &*bytes, b"\r\n"].concat());
    }

    #[test]
    fn any_responses_are_the_same_however_they_arrive(
        bytes in assembled(RESPONSE_PIECES, 8), requests: u8, cuts in 0u8..40,
    ) {
        properties::client(&[&[requests, cuts], &*bytes].concat());
    }

    #[test]
    fn any_chunked_body_is_the_same_however_it_arrives(bytes in assembled(CHUNK_PIECES, 20)) {
        properties::chunked(&bytes);
    }

    #[test]
    fn no_path_leads_above_its_root(bytes in assembled(PATH_PIECES, 20)) {
        properties::path(&bytes);
        properties::path(&[b"/", &*bytes].concat());
    }

    #[test]
    fn negotiations_choose_from_what_is_offered(bytes in assembled(ACCEPT_PIECES, 16)) {
        properties::accept_encoding(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_good_head_is_partial_up_to_its_last_byte(
        fields in vec("[A-Za-z-]{1,12}: ?[ -~]{0,30}\r\n", 0..36),
        path in "/[a-z/.]{0,40}",
    ) {
        let fields = fields.concat();
        prop_assume!(!["content-length", "transfer-encoding", "host:"].iter().any(|name| fields.to_lowercase().contains(name)));
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let limits = HeadLimits::default();
        for cut in 0..text.len() {
            prop_assert_eq!(parse(&text.as_bytes()[..cut], &limits), Ok(Parsed::Partial));
        }
        let Ok(Parsed::Complete { length, head }) = parse(text.as_bytes(), &limits) else { panic!("{text:?}") };
        prop_assert_eq!(length, text.len());
        prop_assert_eq!(head.target.path(), Some(&*path));
    }

    #[test]
    fn what_is_encoded_in_chunks_is_decoded(chunks in vec(vec(any::<u8>(), 1..70), 0..8), cut in 0..600usize) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(SizeLine::new(chunk.len() as u64).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(xps::internals::http::chunked::CHUNK_END);
        }
        body.extend_from_slice(LAST_CHUNK);
        let end = body.len();
        body.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let found = properties::decoded(&body, &[cut.clamp(1, body.len()), body.len()]);
        prop_assert_eq!(found, Ok((chunks.concat(), Some((end, Trailers::default())))));
    }

    #[test]
    fn what_is_encoded_as_a_path_is_decoded(segments in vec(vec(1..=u8::MAX, 1..12), 0..6), is_folder: bool) {
        let is_name = |name: &Vec<u8>| !name.contains(&b'/') && name != b"." && name != b"..";
        prop_assume!(segments.iter().all(is_name));
        let path = segments.join(&b'/');
        let mut written = Vec::new();
        encode_path(&path, is_folder, &mut written);
        let read = decode(std::str::from_utf8(&written).unwrap()).unwrap();
        prop_assert_eq!(read.as_bytes(), &*path);
        prop_assert_eq!(read.ends_with_slash(), is_folder || segments.is_empty());
    }
}
