//! What reading a request's head, writing a response's and logging a request cost, without a kernel in the way.
//!
//! `cargo bench --bench http`

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xps::internals::driver::Peer;
use xps::internals::http::request::{HeadLimits, Parsed, parse};
use xps::internals::http::{
    AcceptEncoding, Coding, DateLine, HeadBuilder, HeadEncoder, HeadEnd, ResponseFraming, Status, Version, path,
};
use xps::internals::telemetry::access_log::{
    AccessFormat, AccessLogConfig, AccessLogOutput, AccessLogs, ExchangeEnd, Sample, Termination,
};

/// What the load generator `wrk` sends.
const WRK: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8001\r\n\r\n";

/// What a browser sends when a page is opened.
const BROWSER: &[u8] = b"GET /docs/guide/getting-started.html?theme=dark&lang=en HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://www.example.org/docs/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    If-None-Match: \"68b1c2d3-264\"\r\n\
    If-Modified-Since: Fri, 29 Aug 2025 10:00:00 GMT\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = criterion.benchmark_group("request head");
    for (name, bytes) in [("wrk", WRK), ("browser", BROWSER)] {
        assert!(parse(bytes, &limits).is_ok());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&parse(black_box(bytes), &limits)).is_ok()));
    }
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    criterion.bench_function("path", |bencher| {
        bencher.iter(|| black_box(&path::decode(black_box("/docs/guide/getting-started.html"))).is_ok());
    });
    criterion.bench_function("accept-encoding", |bencher| {
        let offers = [Coding::Brotli, Coding::Zstd, Coding::Gzip];
        let value = b"gzip, deflate, br, zstd".as_slice();
        bencher.iter(|| AcceptEncoding::parse(black_box(value).split(|_| false)).choose(&offers));
    });
    criterion.bench_function("response head", |bencher| {
        let date = DateLine::new(784_111_777);
        bencher.iter(|| {
            let mut encoder = HeadEncoder::new();
            HeadBuilder::new(&mut encoder, Status::OK)
                .date(black_box(&date))
                .server(Some("xps"))
                .field("Content-Type", "text/html")
                .field("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                .field("ETag", "\"264-0123456789abcdef\"");
            let framing = ResponseFraming::Length(black_box(612));
            encoder.end(HeadEnd { framing, keep_alive: true, version: Version::Http11 }).len()
        });
    });
}

/// A line of the access log on the worker's side, from the head to the queue of the log's thread.
fn access_log_lines(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let (duration, termination) = (Duration::from_micros(150), Termination::COMPLETE);
    let end = ExchangeEnd { status: 200, body_bytes: 612, duration, termination };
    let peer = Peer::Inet(([192, 0, 2, 7], 4711).into());
    let mut group = criterion.benchmark_group("access log line");
    for (name, bytes) in [("wrk", WRK), ("browser", BROWSER)] {
        let Ok(Parsed::Complete { head, .. }) = parse(bytes, &limits) else { panic!("a request") };
        for format in [AccessFormat::Combined, AccessFormat::Json] {
            let output = AccessLogOutput::File("/dev/null".into());
            let log = AccessLogs::default()
                .open(&AccessLogConfig { output, format: format.into(), sample: Sample::ALL })
                .expect("it can be written");
            group.bench_function(format!("{format:?} {name}"), |bencher| {
                bencher.iter(|| {
                    let entry = log.begin(peer, None, black_box(&head), 784_111_777);
                    entry.finish(&black_box(end));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, heads, parts, access_log_lines);
criterion_main!(benches);
