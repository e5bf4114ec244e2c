//! The `h2` crate as a client: another implementation of frames, HPACK and windows, on real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rig::{HELD, PAGE, Rig};
use crate::http_proxy::gateway::Gateway;
use crate::origin::Visit;
use crate::support::bridge::Over;
use crate::support::h2::pipe::{self, Pipe, Running, all};
use crate::support::{Backend, Content, Upstream, assert_same_bytes, backends, patience, uninterrupted};

/// Runs `act` on a connection, to its end.
#[track_caller]
fn with<T, F: Future<Output = T>>(
    address: SocketAddr,
    builder: Builder,
    act: impl FnOnce(SendRequest<Bytes>) -> F,
) -> T {
    let mut tcp = TcpStream::connect_timeout(&address, patience()).expect("a connection");
    tcp.set_nodelay(true).expect("TCP has it");
    tcp.set_nonblocking(true).expect("a socket can");
    let pipe = Pipe::default();
    let mut running = Running::new(pipe.clone(), builder, act);
    let mut bytes = vec![0; 64 << 10];
    let (mut result, mut has_ended) = (None, false);
    loop {
        result = result.or_else(|| running.go_on());
        let has_more = pipe.take(|outgoing| match uninterrupted(|| tcp.write(outgoing)) {
            Ok(written) => (written, written < outgoing.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (0, true),
            // What the server has sent before can still be read.
            Err(_) => (outgoing.len(), false),
        });
        if !has_more && let Some(result) = result.take() {
            let _ = tcp.shutdown(Shutdown::Write);
            return result;
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::OUT, has_more);
        wanted.set(PollFlags::IN, !has_ended);
        let time = Timespec { tv_sec: patience().as_secs() as i64, tv_nsec: 0 };
        let ready = uninterrupted(|| Ok(poll(&mut [PollFd::new(&tcp, wanted)], Some(&time))?)).expect("it can wait");
        assert_ne!(ready, 0, "nothing comes within {:?}", patience());
        match uninterrupted(|| tcp.read(&mut bytes)) {
            Ok(got @ 1..) => pipe.give(&bytes[..got]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                assert!(!has_ended, "the server has ended, and the client waits");
                has_ended = true;
                pipe.give_end();
            }
        }
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("http://h{path}");
    Request::builder().method(method).uri(uri).header("te", "trailers").body(()).expect("a request")
}

/// Sends a request without a body.
async fn get(requests: &SendRequest<Bytes>, path: &str) -> Response<RecvStream> {
    let mut requests = requests.clone().ready().await.expect("the connection stands");
    let (response, _) = requests.send_request(request(Method::GET, path), true).expect("it may be sent");
    response.await.expect("a response")
}

/// Begins a request with a body.
async fn post(requests: &SendRequest<Bytes>, path: &str) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let mut requests = requests.clone().ready().await.expect("the connection stands");
    requests.send_request(request(Method::POST, path), false).expect("it may be sent")
}

/// Sends a body, which the server takes.
async fn send(stream: &mut SendStream<Bytes>, body: &[u8], is_end: bool) {
    assert!(pipe::send(stream, body, is_end).await, "the stream stands");
}

/// A whole body.
async fn receive(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    pipe::receive(body, |piece| all.extend_from_slice(piece)).await?;
    Ok(all)
}

/// A proxy in front of an upstream that sends each chunked body back, and as a trailer what the trailer `x-sum` said.
fn mirror(backend: Backend) -> (Upstream, Gateway) {
    let upstream = Upstream::new(|stream, _| {
        let mut visit = Visit::new(stream);
        let head = visit.head();
        assert_eq!(head.values("Transfer-Encoding"), ["chunked"]);
        visit.send("HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        if head.line().starts_with("POST /broken ") {
            visit.send("4\r\nhalf\r\n");
            return visit.end();
        }
        loop {
            let line = line(&mut visit);
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
            if size == 0 {
                break;
            }
            let chunk = visit.take(size + 2);
            visit.send([line.as_bytes(), &chunk].concat());
        }
        let trailer = line(&mut visit);
        assert_eq!(line(&mut visit), "\r\n");
        visit.send(format!("0\r\n{trailer}\r\n"));
    });
    let gateway = Gateway::over_http2(backend, Over::H2c, upstream.address(), &[]);
    (upstream, gateway)
}

fn line(visit: &mut Visit) -> String {
    let mut line = String::new();
    while !line.ends_with("\r\n") {
        line.push(char::from(visit.take(1)[0]));
    }
    line
}

/// Sends a body with a trailer to a [`mirror`] and checks that both come back.
async fn reflect(requests: &SendRequest<Bytes>, content: &[u8], sum: &str) {
    let (response, mut stream) = post(requests, "/mirror").await;
    let sending = async {
        send(&mut stream, content, false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", sum.parse().expect("a value"));
        stream.send_trailers(trailers).expect("the stream stands");
        None
    };
    let receiving = async {
        let mut body = response.await.expect("a response").into_body();
        let bytes = receive(&mut body).await.expect("a whole body");
        let trailers = body.trailers().await.expect("no reset").expect("trailers");
        assert_eq!(trailers.get("x-sum").map(|sum| sum.as_bytes()), Some(sum.as_bytes()));
        Some(bytes)
    };
    let futures: [Pin<Box<dyn Future<Output = _>>>; 2] = [Box::pin(sending), Box::pin(receiving)];
    let bytes = all(futures).await.into_iter().flatten().next().expect("a body");
    assert_same_bytes(&bytes, content);
}

backends! {
    fn files_are_served(backend) {
        let rig = Rig::new(backend);
        let content = Content::bytes(1, 5_000_001);
        rig.write("large", &content);
        with(rig.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            for _ in 0..3 {
                let response = get(&requests, "/files/page").await;
                assert_eq!((response.status(), response.headers()["content-length"].as_bytes()), (StatusCode::OK, &b"6"[..]));
                assert_eq!(receive(&mut response.into_body()).await.expect("a body"), PAGE.as_bytes());
            }
            assert_eq!(get(&requests, "/files/missing").await.status(), StatusCode::NOT_FOUND);
            let mut body = get(&requests, "/files/large").await.into_body();
            assert_same_bytes(&receive(&mut body).await.expect("a body"), &content);
            let mut sender = requests.clone().ready().await.expect("the connection stands");
            let (response, _) = sender.send_request(request(Method::HEAD, "/files/large"), true).expect("it may be sent");
            let response = response.await.expect("a response");
            assert_eq!(response.headers()["content-length"], "5000001");
            assert!(receive(&mut response.into_body()).await.expect("none").is_empty());
        });
    }

    fn large_bodies_pass_both_ways_with_trailers(backend) {
        let (_upstream, gateway) = mirror(backend);
        let content = Content::bytes(2, 3 << 20);
        with(gateway.xps.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            reflect(&requests, &content, "12345").await;
            // Larger windows than usual, from the beginning on.
            all((0..4).map(|_| reflect(&requests, &content[..700_000], "54321"))).await;
        });
        let mut builder = Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(8 << 20).max_frame_size(1 << 20);
        with(gateway.xps.address(), builder, async |requests: SendRequest<Bytes>| reflect(&requests, &content, "11111").await);
    }

    /// A client may take many frames of few bytes for an attack, as this one does.
    fn tiny_pieces_of_an_upstream_are_joined(backend) {
        const PIECES: usize = 3000;
        let upstream = Upstream::new(|stream, _| {
            let mut visit = Visit::new(stream);
            while visit.try_request().is_some() {
                let body = "1\r\nx\r\n".repeat(PIECES);
                visit.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"));
            }
        });
        let gateway = Gateway::over_http2(backend, Over::H2c, upstream.address(), &[]);
        let mut client = gateway.connection();
        let stream = client.get("/");
        assert_eq!(client.response(stream).body, [b'x'; PIECES]);
        assert!(client.frames < 100, "{} frames", client.frames);
        with(gateway.xps.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            let mut body = get(&requests, "/").await.into_body();
            assert_eq!(receive(&mut body).await.expect("a body"), [b'x'; PIECES]);
        });
    }

    fn resets_of_either_side_end_their_streams_only(backend) {
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(3, 4 << 20));
        let (_upstream, gateway) = mirror(backend);
        with(rig.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            for _ in 0..20 {
                // A body that is dropped is reset.
                let mut body = get(&requests, "/files/large").await.into_body();
                assert!(!body.data().await.expect("some of it").expect("no reset").is_empty());
                drop(body);
                let (response, mut stream) = post(&requests, HELD).await;
                send(&mut stream, b"half of it", false).await;
                stream.send_reset(Reason::CANCEL);
                drop(response);
            }
            let mut body = get(&requests, "/files/page").await.into_body();
            assert_eq!(receive(&mut body).await.expect("a body"), PAGE.as_bytes());
        });
        with(gateway.xps.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            let broken = async {
                let (response, _stream) = post(&requests, "/broken").await;
                let mut body = response.await.expect("a response").into_body();
                let error = receive(&mut body).await.expect_err("it breaks off");
                assert!(error.is_remote() && error.reason() == Some(Reason::INTERNAL_ERROR), "{error}");
            };
            broken.await;
            reflect(&requests, &Content::bytes(4, 100_000), "22222").await;
        });
    }

    fn a_hundred_streams_at_once(backend) {
        let rig = Rig::new(backend);
        let content = Content::bytes(5, 300_000);
        rig.write("large", &content);
        let (rig, content) = (&rig, &content);
        with(rig.address(), Builder::new(), async |requests: SendRequest<Bytes>| {
            let requests = &requests;
            all((0..100).map(|number| async move {
                if number % 2 == 0 {
                    let mut body = get(requests, "/files/large").await.into_body();
                    assert_same_bytes(&receive(&mut body).await.expect("a body"), content);
                } else {
                    let (response, mut stream) = post(requests, "/count").await;
                    send(&mut stream, &content[..50_000 + number], true).await;
                    let mut body = response.await.expect("a response").into_body();
                    assert_eq!(receive(&mut body).await.expect("a body"), (50_000 + number).to_string().into_bytes());
                }
            })).await;
            assert!(requests.current_max_send_streams() == 100);
        });
    }
}
