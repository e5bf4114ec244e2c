//! The `h2` crate as the server: another implementation of frames, HPACK and windows, in memory.

use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};

use self::pipe::{Pipe, Running, receive, send};
use super::*;

#[path = "../../../../tests/support/h2/pipe.rs"]
#[expect(dead_code, reason = "most of it is for the crate as the client")]
mod pipe;

/// Content that can be told apart byte by byte.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A GET or a POST for each path.
fn request(path: &str, body: Option<usize>) -> Http2Request {
    let method = if body.is_some() { Method::Post } else { Method::Get };
    let request = Http2Request::builder(method, Scheme::Http, "h", path).field("X-Path", path);
    match body {
        Some(length) => request.body(Chunk::owned(content(length))).end(),
        None => request.end(),
    }
}

/// Answers as the path says: with content of a length, and in some ways with more than that.
async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    assert_eq!(parts.headers.get("x-path").map(HeaderValue::as_bytes), Some(path.as_bytes()));
    match path.as_str() {
        "/refused" => return respond.send_reset(Reason::REFUSED_STREAM),
        "/reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "/early" => {}
        _ => {
            let mut received = Vec::new();
            receive(&mut body, |piece| received.extend_from_slice(piece)).await.expect("a body");
            let declared =
                parts.headers.get("content-length").map(|length| length.to_str().expect("a number").to_owned());
            assert_eq!(declared.unwrap_or_default().parse().unwrap_or(0), received.len());
            assert!(received == content(received.len()));
        }
    }
    if path == "/trailers" {
        let interim = Response::builder().status(103).header("link", "x").body(()).expect("a head");
        respond.send_informational(interim).expect("an interim response");
    }
    let length: usize = path[1..].parse().unwrap_or(10);
    let head = Response::builder().header("server", "h2").header("content-length", length).header("x-path", &path);
    let mut stream = respond.send_response(head.body(()).expect("a head"), false).expect("a stream");
    let has_trailers = path == "/trailers";
    send(&mut stream, &content(length), !has_trailers).await;
    if has_trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("x", HeaderValue::from_static("y"));
        stream.send_trailers(trailers).expect("trailers");
    }
}

/// How the server ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    None,
    /// After this many requests: it goes on with those that it has.
    Graceful(usize),
    /// After this many requests: it drops all.
    Abrupt(usize),
}

/// A server that goes on until the client closes, or it has shut down.
fn server(pipe: Pipe, builder: Builder, shutdown: Shutdown) -> Running<'static, ()> {
    Running::of(async move {
        let mut connection = builder.handshake::<_, Bytes>(pipe).await.expect("a handshake");
        let mut serving: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        let mut accepted = 0;
        std::future::poll_fn(|cx| {
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => serving.push(Box::pin(serve(request, respond))),
                    Poll::Ready(Some(Err(error))) => panic!("{error}"),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
                accepted += 1;
                match shutdown {
                    Shutdown::Graceful(after) if after == accepted => connection.graceful_shutdown(),
                    Shutdown::Abrupt(after) if after == accepted => {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                    Shutdown::None | Shutdown::Graceful(_) | Shutdown::Abrupt(_) => {}
                }
            }
            serving.retain_mut(|serving| serving.as_mut().poll(cx).is_pending());
            Poll::Pending
        })
        .await;
    })
}

/// Makes the requests, as many at once as may be, until none goes on. The number of requests that were not made, and
/// whether the server has ended.
fn run(rig: &mut Rig, requests: &[Http2Request], builder: &Builder, shutdown: Shutdown) -> (usize, bool) {
    let pipe = Pipe::default();
    let mut running = server(pipe.clone(), builder.clone(), shutdown);
    let (mut made, mut has_ended) = (0, false);
    loop {
        while made < requests.len() && rig.client.may_request() {
            rig.client.request(&requests[made], made as u32, &mut rig.out);
            made += 1;
        }
        rig.client.send_bodies(&mut rig.out);
        let sent = mem::take(&mut rig.out).to_vec();
        pipe.give(&sent);
        has_ended = has_ended || running.go_on().is_some();
        let received = pipe.take(|bytes| (bytes.len(), bytes.to_vec()));
        rig.read(&received).expect("the server keeps to the protocol");
        if sent.is_empty() && received.is_empty() && (has_ended || rig.out.is_empty()) {
            return (requests.len() - made, has_ended);
        }
    }
}

#[track_caller]
fn assert_served(rig: &Rig, count: u32, length: impl Fn(u32) -> usize) {
    for tag in 0..count {
        let data = Some(content(length(tag))).filter(|data| !data.is_empty()).map(|data| Mark::Data(tag, data));
        let expected = [Mark::Head(tag, 200, Some(length(tag) as u64))].into_iter().chain(data).chain([Mark::End(tag)]);
        assert!(of_tag(&rig.marks, tag) == expected.collect::<Vec<_>>(), "request {tag}");
    }
    assert_eq!(rig.client.in_flight(), 0);
}

#[test]
fn small_responses_on_100_streams_at_once() {
    let requests: Vec<_> = (0..1000).map(|length| request(&format!("/{length}"), None)).collect();
    for streams_max in [1, 7, 100, 200] {
        let mut rig = Rig::new(Http2ClientLimits::default());
        let left = run(&mut rig, &requests, Builder::new().max_concurrent_streams(streams_max), Shutdown::None);
        assert_eq!(left, (0, false));
        assert_served(&rig, 1000, |tag| tag as usize);
        assert_eq!(rig.client.on_end(), Ok(()));
    }
}

#[test]
fn large_responses_through_small_windows() {
    let requests = vec![request("/1048576", None); 5];
    for (stream_window, connection_window) in [(1_000, 0), (65_535, 100_000), (1 << 20, 70_000), (6 << 20, 15 << 20)] {
        let limits = Http2ClientLimits { stream_window, connection_window, ..Http2ClientLimits::default() };
        let mut rig = Rig::new(limits);
        assert_eq!(run(&mut rig, &requests, &Builder::new(), Shutdown::None), (0, false));
        assert_served(&rig, 5, |_| 1 << 20);
    }
}

#[test]
fn uploads_through_windows_of_any_size() {
    let requests = vec![request("/3", Some(1 << 20)); 5];
    for (of_stream, of_connection) in [(1_000, 65_535), (65_535, 65_535), (1 << 20, 100_000), (1 << 24, 1 << 24)] {
        let mut builder = Builder::new();
        builder.initial_window_size(of_stream).initial_connection_window_size(of_connection);
        let mut rig = Rig::new(Http2ClientLimits::default());
        assert_eq!(run(&mut rig, &requests, &builder, Shutdown::None), (0, false));
        assert_served(&rig, 5, |_| 3);
        assert!(rig.client.uploads.is_empty());
    }
}

#[test]
fn a_response_before_the_end_of_the_upload() {
    let requests = vec![request("/early", Some(1 << 20)); 5];
    let mut rig = Rig::new(Http2ClientLimits::default());
    assert_eq!(run(&mut rig, &requests, &Builder::new(), Shutdown::None), (0, false));
    // The crate resets the stream once its handler is done, which may be before the response is out.
    let of_each = |tag| of_tag(&rig.marks, tag).len();
    assert!((0..5).all(|tag| of_each(tag) > 0) && rig.client.in_flight() == 0, "{:?}", rig.marks);
    assert!(rig.client.uploads.is_empty());
}

#[test]
fn interim_responses_trailers_and_resets() {
    let requests = ["/trailers", "/refused", "/reset", "/trailers"].map(|path| request(path, None));
    let mut rig = Rig::new(Http2ClientLimits::default());
    assert_eq!(run(&mut rig, &requests, &Builder::new(), Shutdown::None), (0, false));
    for tag in [0, 3] {
        let expected = [Mark::Head(tag, 200, Some(10)), Mark::Data(tag, content(10)), Mark::End(tag)];
        assert_eq!(of_tag(&rig.marks, tag), expected);
    }
    assert!(rig.marks.contains(&Mark::Refused(1)) && rig.marks.contains(&Mark::Reset(2, ErrorCode::INTERNAL_ERROR)));
}

#[test]
fn a_shutdown_in_the_middle() {
    let requests = vec![request("/1000", None); 100];
    let mut builder = Builder::new();
    builder.max_concurrent_streams(10);
    let mut rig = Rig::new(Http2ClientLimits::default());
    let (left, has_ended) = run(&mut rig, &requests, &builder, Shutdown::Graceful(25));
    assert!(has_ended && (1..=75).contains(&left), "{left} requests were not made");
    assert!(rig.client.is_over() && !rig.client.may_request());
    let refused = rig.marks.iter().filter(|mark| matches!(mark, Mark::Refused(_))).count();
    let ends = rig.marks.iter().filter(|mark| matches!(mark, Mark::End(_))).count();
    assert_eq!((ends + refused + left, rig.client.in_flight()), (100, 0));
    assert_eq!(rig.client.on_end(), Ok(()));
    let mut rig = Rig::new(Http2ClientLimits::default());
    let (left, has_ended) = run(&mut rig, &requests, &builder, Shutdown::Abrupt(25));
    assert!(has_ended && left > 0, "{left} requests were not made");
    assert_eq!(rig.client.go_away(), Some(ErrorCode::ENHANCE_YOUR_CALM));
}
