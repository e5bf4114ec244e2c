//! Whatever a server sends, and wherever its bytes are cut into pieces, the same responses are read.

use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::buffer::{Pool, PoolConfig, SizeClass};
use crate::http::Method;

/// What a connection has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Transcript {
    /// In order: status codes of heads, and the end of each response.
    marks: Vec<Mark>,
    /// Why it has ended, if it has; the reason of a malformed head may depend on the cut.
    error: Option<std::mem::Discriminant<ClientError>>,
    unanswered: usize,
    is_upgraded: bool,
    /// What was not read.
    rest: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Interim(u16),
    Head(u16),
    /// The data of one response, in one piece.
    Data(Vec<u8>),
    End,
    AtEnd(AtEnd),
}

fn push(pool: &Pool, inbox: &mut Inbox, bytes: &[u8]) {
    for piece in bytes.chunks(pool.size(SizeClass::Small)) {
        let fill = |memory: &mut [u8]| {
            memory[..piece.len()].copy_from_slice(piece);
            Ok::<_, Infallible>(piece.len())
        };
        inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
    }
}

fn get() -> Request {
    Request::builder(Method::Get, "/", "h").end()
}

fn head() -> Request {
    Request::builder(Method::Head, "/", "h").end()
}

/// Sends the requests, then reads the pieces, and at last the end of input if `ends`.
fn read(requests: &[Request], pieces: &[&[u8]], ends: bool, limits: ClientLimits) -> Transcript {
    let pool = Pool::new(PoolConfig::default());
    let (mut connection, mut inbox, mut out) = (ClientConnection::new(limits), Inbox::default(), Chain::new());
    for request in requests {
        connection.request(request, &mut out);
    }
    let mut transcript = Transcript::default();
    for piece in pieces {
        push(&pool, &mut inbox, piece);
        while transcript.error.is_none() {
            let mark = match connection.read(&mut inbox, |head| head.status.code()) {
                Ok(Event::Wait) => break,
                Ok(Event::Interim(status)) => Mark::Interim(status),
                Ok(Event::Head(status)) => Mark::Head(status),
                Ok(Event::Data(data)) => {
                    assert!(!data.is_empty());
                    if let Some(Mark::Data(before)) = transcript.marks.last_mut() {
                        before.extend_from_slice(&data);
                        continue;
                    }
                    Mark::Data(data.to_vec())
                }
                Ok(Event::End(_)) => Mark::End,
                Err(error) => {
                    transcript.error = Some(std::mem::discriminant(&error));
                    break;
                }
            };
            transcript.marks.push(mark);
        }
    }
    (transcript.is_upgraded, transcript.unanswered) = (connection.is_upgraded(), connection.unanswered());
    if ends && transcript.error.is_none() {
        match connection.on_end(&inbox) {
            Ok(at_end) => transcript.marks.push(Mark::AtEnd(at_end)),
            Err(error) => transcript.error = Some(std::mem::discriminant(&error)),
        }
        assert!(connection.is_over() && !connection.may_request());
        transcript.unanswered = connection.unanswered();
    }
    if transcript.error.is_none() {
        while !inbox.is_empty() {
            let count = inbox.bytes().len();
            transcript.rest.extend_from_slice(&inbox.take(count));
        }
    }
    transcript
}

fn deep() -> ClientLimits {
    ClientLimits { pipeline_max: 16, ..ClientLimits::default() }
}

/// Reads one response to GET that arrives at once.
fn one(bytes: &str, ends: bool) -> Transcript {
    read(&[get()], &[bytes.as_bytes()], ends, ClientLimits::default())
}

fn is_error(transcript: &Transcript, expected: ClientError) -> bool {
    transcript.error == Some(std::mem::discriminant(&expected))
}

#[test]
fn a_response_has_a_head_data_and_an_end_in_every_framing() {
    let data = || Mark::Data(b"xps".to_vec());
    let whole = vec![Mark::Head(200), data(), Mark::End];
    assert_eq!(one("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxps", false).marks, whole);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nps\r\n0\r\nT: r\r\n\r\n";
    assert_eq!(one(chunked, false).marks, whole);
    let until_close = one("HTTP/1.1 200 OK\r\n\r\nxps", true);
    assert_eq!(until_close.marks, [Mark::Head(200), data(), Mark::AtEnd(AtEnd::Complete)]);
    assert_eq!(until_close.unanswered, 0);
    for empty in ["HTTP/1.1 204 \r\n\r\n", "HTTP/1.1 304 \r\nContent-Length: 3\r\n\r\n"] {
        assert_eq!(one(empty, false).marks.last(), Some(&Mark::End), "{empty:?}");
    }
    let to_head = read(&[head()], &[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"], false, ClientLimits::default());
    assert_eq!(to_head.marks, [Mark::Head(200), Mark::End]);
}

#[test]
fn interim_responses_come_before_the_final_one_within_their_limit() {
    let bytes = "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 204 \r\n\r\n";
    let marks = [Mark::Interim(100), Mark::Interim(103), Mark::Head(204), Mark::End];
    assert_eq!(one(bytes, false).marks, marks);
    let endless = "HTTP/1.1 100 \r\n\r\n".repeat(5000);
    let transcript = one(&endless, false);
    assert!(is_error(&transcript, ClientError::Interim));
    assert_eq!(transcript.marks.len(), (64 << 10) / 17);
}

#[test]
fn an_end_of_input_before_the_end_of_a_response_is_an_error() {
    let cut = ClientError::Truncated;
    assert!(is_error(&one("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxp", true), cut));
    assert!(is_error(&one("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nps\r\n", true), cut));
    let (mut connection, mut out) = (ClientConnection::new(ClientLimits::default()), Chain::new());
    connection.request(&get(), &mut out);
    assert_eq!(connection.on_end(&Inbox::default()), Err(ClientError::NoResponse { has_begun: false }));
    for begun in ["H", "HTTP/1.1 100 \r\n\r\n"] {
        let (mut connection, mut inbox) = (ClientConnection::new(ClientLimits::default()), Inbox::default());
        connection.request(&get(), &mut out);
        push(&Pool::new(PoolConfig::default()), &mut inbox, begun.as_bytes());
        while !matches!(connection.read(&mut inbox, |_| ()), Ok(Event::Wait)) {}
        assert_eq!(connection.on_end(&inbox), Err(ClientError::NoResponse { has_begun: true }), "{begun:?}");
    }
    assert_eq!(read(&[], &[], true, ClientLimits::default()).marks, [Mark::AtEnd(AtEnd::Idle)]);
}

#[test]
fn a_connection_is_kept_if_both_sides_keep_it() {
    let persists = |request: &Request, response: &str| {
        let (mut connection, mut inbox, mut out) =
            (ClientConnection::new(ClientLimits::default()), Inbox::default(), Chain::new());
        connection.request(request, &mut out);
        push(&Pool::new(PoolConfig::default()), &mut inbox, response.as_bytes());
        while !matches!(connection.read(&mut inbox, |_| ()), Ok(Event::Wait)) {}
        assert_eq!(connection.is_idle(), connection.may_request());
        assert_ne!(connection.is_idle(), connection.is_over());
        connection.is_idle()
    };
    let empty = "HTTP/1.1 204 \r\n\r\n";
    assert!(persists(&get(), empty));
    assert!(!persists(&Request::builder(Method::Get, "/", "h").close().end(), empty));
    assert!(!persists(&get(), "HTTP/1.1 204 \r\nConnection: close\r\n\r\n"));
    assert!(!persists(&get(), "HTTP/1.0 204 \r\n\r\n"));
    assert!(persists(&get(), "HTTP/1.0 204 \r\nConnection: keep-alive\r\n\r\n"));
    assert!(persists(&Request::builder(Method::Get, "/", "h").upgrade("x").end(), empty), "it was declined");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_by_the_rules_of_their_method() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 404 \r\nConnection: close\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200";
    let requests = [head(), get(), get(), get(), get()];
    let transcript = read(&requests, &[bytes], true, deep());
    let end = || Mark::End;
    let marks = [Mark::Head(200), end(), Mark::Head(200), Mark::Data(b"x".to_vec()), end(), Mark::Head(404), end()];
    assert_eq!(transcript.marks[..7], marks);
    assert_eq!((transcript.unanswered, transcript.error), (2, None), "the last two are not answered");
    assert_eq!(transcript.rest, b"HTTP/1.1 200", "nothing is read after the announced end");
}

#[test]
fn no_more_requests_are_sent_than_may_be_unanswered() {
    let (mut connection, mut out) = (ClientConnection::new(deep()), Chain::new());
    for _ in 0..16 {
        assert!(connection.may_request());
        connection.request(&get(), &mut out);
    }
    assert!(!connection.may_request());
    assert_eq!(out.len(), 16 * get().head().len());
    let mut connection = ClientConnection::new(deep());
    connection.request(&Request::builder(Method::Get, "/", "h").close().end(), &mut out);
    assert!(!connection.may_request(), "it announced the last one");
    let mut connection = ClientConnection::new(deep());
    connection.request(&Request::builder(Method::Get, "/", "h").upgrade("x").end(), &mut out);
    assert!(!connection.may_request(), "the protocol may change");
}

#[test]
fn bytes_without_a_request_are_an_error() {
    let stray = b"HTTP/1.1 408 \r\n\r\n";
    assert!(is_error(&read(&[], &[stray], false, deep()), ClientError::Unrequested));
    assert!(is_error(&one("HTTP/1.1 204 \r\n\r\nx", false), ClientError::Unrequested));
}

#[test]
fn a_switch_of_protocols_must_have_been_requested() {
    let switch = "HTTP/1.1 101 \r\nUpgrade: x\r\n\r\nbytes";
    assert!(is_error(&one(switch, false), ClientError::Upgrade));
    let request = Request::builder(Method::Get, "/", "h").upgrade("x").end();
    let transcript = read(&[request], &[switch.as_bytes()], false, ClientLimits::default());
    assert!(transcript.is_upgraded);
    assert_eq!((transcript.marks, &transcript.rest[..]), (vec![Mark::Head(101)], &b"bytes"[..]));
    let request = Request::builder(Method::Post, "/", "h").body(BodyFraming::Length(1)).upgrade("x").end();
    assert!(is_error(&read(&[request], &[switch.as_bytes()], false, deep()), ClientError::EarlyUpgrade));
}

#[test]
fn malformed_responses_are_errors_and_end_the_reading() {
    for bad in ["HTTP/2.0 200 OK\r\n\r\n", "x", "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"] {
        let transcript = one(bad, false);
        assert!(is_error(&transcript, ClientError::Head(BadResponse { reason: "", is_too_large: false })), "{bad:?}");
    }
    let bad = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx";
    assert!(is_error(&one(bad, false), ClientError::Body("")));
}

#[test]
fn a_body_is_sent_in_its_framing_and_no_request_goes_before_its_end() {
    let (mut connection, mut out) = (ClientConnection::new(deep()), Chain::new());
    let request = Request::builder(Method::Post, "/", "h").body(BodyFraming::Chunked).end();
    connection.request(&request, &mut out);
    out.advance(request.head().len());
    for piece in [&b"abc"[..], b"", b"0123456789"] {
        assert!(!connection.may_request());
        connection.send_data(Chunk::Static(piece), &mut out);
    }
    let mut trailers = Trailers::new();
    trailers.push(b"X-T", b"1");
    connection.send_end(Some(&trailers), &mut out);
    assert!(connection.may_request());
    assert_eq!(out.take().to_vec(), b"3\r\nabc\r\na\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n");

    let request = Request::builder(Method::Post, "/", "h").body(BodyFraming::Length(4)).end();
    connection.request(&request, &mut out);
    out.advance(request.head().len());
    connection.send_data(Chunk::Static(b"abc"), &mut out);
    assert!(!connection.may_request());
    connection.send_data(Chunk::Static(b"d"), &mut out);
    assert!(connection.may_request());
    connection.send_end(Some(&trailers), &mut out);
    assert_eq!(out.to_vec(), b"abcd", "a body with a length has no trailers");
}

#[test]
fn row_18_the_end_of_a_response_has_its_trailers() {
    let pool = Pool::new(PoolConfig::default());
    let (mut connection, mut inbox, mut out) = (ClientConnection::new(deep()), Inbox::default(), Chain::new());
    for _ in 0..2 {
        connection.request(&get(), &mut out);
    }
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    push(&pool, &mut inbox, format!("{head}0\r\nX-T: 1\r\nHost: x\r\n\r\n{head}0\r\n\r\n").as_bytes());
    let mut ends = Vec::new();
    loop {
        match connection.read(&mut inbox, |_| ()).unwrap() {
            Event::Wait => break,
            Event::End(trailers) => ends.push(trailers.map(|trailers| format!("{trailers:?}"))),
            Event::Interim(()) | Event::Head(()) | Event::Data(_) => {}
        }
    }
    assert_eq!(ends, [Some("[X-T: 1, Host: x]".to_owned()), None], "which of them pass is decided elsewhere");
}

/// A chunked body that has arrived, as it is sent on.
fn sent_on(inbox: &mut Inbox, framing: BodyFraming) -> Chain {
    let (mut connection, mut out) = (ClientConnection::new(ClientLimits::default()), Chain::new());
    let request = Request::builder(Method::Post, "/", "h").body(framing).end();
    connection.request(&request, &mut out);
    out.advance(request.head().len());
    let mut reader = BodyReader::from(BodyFraming::Chunked);
    while !reader.is_done() {
        let piece = reader.next(inbox.bytes()).unwrap();
        inbox.consume(piece.skip);
        connection.send_received(ReceivedData::new(inbox, piece.data), &mut out);
    }
    assert_eq!(connection.is_upload_done(), framing != BodyFraming::Chunked, "a length is used up");
    connection.send_end(None, &mut out);
    assert!(connection.is_upload_done());
    out
}

#[test]
fn a_body_in_one_byte_chunks_becomes_few_entries_and_holds_about_its_own_bytes() {
    const LENGTH: usize = if cfg!(miri) { 5_000 } else { 100_000 };
    let chunks = b"1\r\nx\r\n".repeat(LENGTH);
    let bodies = [
        (BodyFraming::Chunked, [&chunks[..], b"0\r\n\r\n"].concat()),
        (BodyFraming::Length(LENGTH as u64), vec![b'x'; LENGTH]),
    ];
    for (framing, expected) in bodies {
        let (pool, mut inbox) = (Pool::new(PoolConfig::default()), Inbox::default());
        for piece in [&chunks[..], b"0\r\n\r\n"].concat().chunks(pool.size(SizeClass::Large)) {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece);
                Ok::<_, Infallible>(piece.len())
            };
            inbox.push(pool.filled(SizeClass::Large, fill).unwrap().unwrap());
        }
        let chain = sent_on(&mut inbox, framing);
        assert!(chain.to_vec() == expected, "{framing:?}");
        assert!(chain.chunks().len() <= 50, "{} entries, {framing:?}", chain.chunks().len());
        assert!(chain.memory() <= 3 * expected.len(), "{} bytes of memory, {framing:?}", chain.memory());
    }
}

#[test]
fn large_chunks_leave_in_the_memory_they_were_received_in() {
    let (pool, mut inbox) = (Pool::new(PoolConfig::default()), Inbox::default());
    let chunks = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat().repeat(3);
    let bytes = [&chunks[..], b"0\r\n\r\n"].concat();
    push(&pool, &mut inbox, &bytes);
    let chain = sent_on(&mut inbox, BodyFraming::Chunked);
    assert_eq!(chain.chunks().iter().filter(|chunk| matches!(chunk, Chunk::Pool(_))).count(), 3);
    assert!(chain.to_vec() == bytes);
}

#[test]
fn nothing_is_read_without_room_but_the_end_of_a_response() {
    let none = Room { takes_head: false, data_bytes: 0 };
    let (mut connection, mut inbox, mut out) =
        (ClientConnection::new(ClientLimits::default()), Inbox::default(), Chain::new());
    connection.request(&get(), &mut out);
    push(&Pool::new(PoolConfig::default()), &mut inbox, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxps");
    let mut find = |inbox: &mut Inbox, room| connection.find(inbox, room, &HeadLimits::default(), |_| ()).unwrap();
    assert!(matches!(find(&mut inbox, Room { data_bytes: 9, ..none }), Event::Wait));
    assert!(matches!(find(&mut inbox, Room { takes_head: true, ..none }), Event::Head(())));
    assert!(matches!(find(&mut inbox, none), Event::Wait));
    assert!(matches!(find(&mut inbox, Room { data_bytes: 2, ..none }), Event::Data(2)));
    assert_eq!(inbox.bytes(), b"xps", "it stays until it is taken");
    inbox.consume(2);
    assert!(matches!(find(&mut inbox, Room { data_bytes: 2, ..none }), Event::Data(1)));
    inbox.consume(1);
    assert!(matches!(find(&mut inbox, none), Event::End(None)));
}

#[test]
fn an_early_response_leaves_the_connection_to_the_body() {
    let (mut connection, mut inbox, mut out) =
        (ClientConnection::new(ClientLimits::default()), Inbox::default(), Chain::new());
    connection.request(&Request::builder(Method::Post, "/", "h").body(BodyFraming::Length(1)).end(), &mut out);
    push(&Pool::new(PoolConfig::default()), &mut inbox, b"HTTP/1.1 413 \r\nContent-Length: 0\r\n\r\n");
    while !matches!(connection.read(&mut inbox, |_| ()), Ok(Event::Wait)) {}
    assert!(!connection.is_idle() && !connection.is_over() && connection.unanswered() == 0);
    connection.send_data(Chunk::Static(b"x"), &mut out);
    assert!(connection.is_idle());
}

/// One response, from pieces that are mostly right.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(
        &["HTTP/1.1 200 OK\r\n", "HTTP/1.1 404 \r\n", "HTTP/1.0 200\n", "HTTP/1.1 204 \r\n", "HTTP/1.1 304 \r\n"][..],
    );
    let line = prop::sample::select(&["X: y\r\n", "X: z\n", "Connection: keep-alive\r\n", "Date: x\r\n"][..]);
    let interim = prop::sample::select(&["HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"][..]);
    let end = prop_oneof![
        12 => Just(""),
        1 => Just("Connection: close\r\n"),
        1 => Just("Content-Length: 3\r\n"),
    ];
    let pieces = vec(vec(any::<u8>(), 1..40), 0..4);
    (vec(interim, 0..3), start, vec(line, 0..3), end, any::<bool>(), pieces).prop_map(
        |(interim, start, lines, end, is_chunked, pieces)| {
            let mut bytes = [interim.concat().as_bytes(), start.as_bytes(), lines.concat().as_bytes()].concat();
            bytes.extend_from_slice(end.as_bytes());
            let has_body = !start.contains("204") && !start.contains("304");
            if is_chunked && has_body && !start.contains("1.0") {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for piece in &pieces {
                    bytes.extend_from_slice(SizeLine::new(piece.len() as u64).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            } else {
                let body = if has_body { pieces.concat() } else { Vec::new() };
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(&body);
            }
            bytes
        },
    )
}

/// Several responses; sometimes damaged, followed by other bytes, or delimited by the end.
fn responses() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop_oneof![4 => Just(None), 1 => any::<(prop::sample::Index, u8)>().prop_map(Some)];
    let rest = prop_oneof![
        6 => Just(Vec::new()),
        1 => Just(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
        1 => Just(b"HTTP/1.1 101 \r\nUpgrade: x\r\n\r\nmore".to_vec()),
        1 => vec(any::<u8>(), 0..30),
    ];
    (vec(response(), 0..5), damage, rest).prop_map(|(responses, damage, rest)| {
        let mut bytes = [responses.concat(), rest].concat();
        if let Some((at, byte)) = damage.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    vec(prop::bool::weighted(0.2), 0..7)
        .prop_map(|heads| heads.into_iter().map(|is_head| if is_head { head() } else { get() }).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_is_read_wherever_the_input_is_cut_once(
        requests in requests(), bytes in responses(), ends: bool,
    ) {
        let whole = read(&requests, &[&bytes], ends, deep());
        for cut in 0..bytes.len() {
            prop_assert_eq!(&read(&requests, &[&bytes[..cut], &bytes[cut..]], ends, deep()), &whole, "cut at {}", cut);
        }
    }

    #[test]
    fn the_same_is_read_in_pieces_of_any_size(
        requests in requests(), bytes in responses(), ends: bool, size in 1usize..9, interim_bytes_max in 0u64..60,
    ) {
        let limits = ClientLimits { interim_bytes_max, ..deep() };
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(read(&requests, &pieces, ends, limits), read(&requests, &[&bytes], ends, limits));
    }

    #[test]
    fn well_formed_responses_are_read_whole(bodies in vec(vec(any::<u8>(), 1..60), 1..8), is_chunked: bool) {
        let requests = vec![get(); bodies.len()];
        let mut bytes = Vec::new();
        for body in &bodies {
            if is_chunked {
                bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                bytes.extend_from_slice(SizeLine::new(body.len() as u64).as_bytes());
                bytes.extend_from_slice(&[body, &b"\r\n0\r\n\r\n"[..]].concat());
            } else {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                bytes.extend_from_slice(&[head.as_bytes(), body].concat());
            }
        }
        let transcript = read(&requests, &[&bytes], false, deep());
        let expected: Vec<Mark> =
            bodies.into_iter().flat_map(|body| [Mark::Head(200), Mark::Data(body), Mark::End]).collect();
        prop_assert_eq!((transcript.marks, transcript.error, transcript.unanswered), (expected, None, 0));
    }
}
