//! What must hold for any bytes at all that an HTTP/2 server sends to the client. As in `properties.rs`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use xps::internals::buffer::{Chain, Chunk, Inbox, Pool, PoolConfig, SizeClass};
use xps::internals::client::{Http2Client, Http2ClientLimits, Http2Error, Http2Event, Http2Request};
use xps::internals::http::h2::frame::push_settings;
use xps::internals::http::h2::hpack::Decoder;
use xps::internals::http::h2::reader::Event;
use xps::internals::http::h2::settings::INITIAL_WINDOW_BYTES;
use xps::internals::http::h2::{BlockReader, ErrorCode, Frame, FrameReader, StreamId};
use xps::internals::http::{HeadLimits, Method, Scheme};

/// Requests of one connection.
const REQUESTS_MAX: u32 = 12;

/// What is reported of the responses does not depend on how the bytes arrive, each request has one outcome, and what the
/// client sends keeps to the protocol. The first byte decides the requests and when they are given up, the second the
/// cuts.
pub fn client(bytes: &[u8]) {
    let [habits, cuts, bytes @ ..] = bytes else { return };
    let mut sent = Vec::new();
    if habits % 2 == 1 {
        push_settings(&mut sent, &[]);
    }
    sent.extend_from_slice(bytes);
    let whole = run(*habits, &sent, sent.len().max(1));
    assert_eq!(run(*habits, &sent, 1), whole, "byte by byte");
    assert_eq!(run(*habits, &sent, usize::from(*cuts) + 1), whole);
}

/// What was reported of one request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Response {
    status: Option<u16>,
    data: Vec<u8>,
    outcome: Option<Outcome>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    End,
    Reset(ErrorCode),
    Refused,
    Malformed(&'static str),
    GivenUp,
}

struct Run {
    habits: u8,
    client: Http2Client,
    inbox: Inbox,
    out: Chain,
    made: u32,
    responses: BTreeMap<u32, Response>,
}

/// The responses, and why the connection ended.
fn run(habits: u8, bytes: &[u8], size: usize) -> (BTreeMap<u32, Response>, Result<(), Http2Error>) {
    let limits = Http2ClientLimits {
        streams_max: 4,
        stream_window: 100,
        interim_bytes_max: 20,
        head: HeadLimits { head_bytes_max: 300, ..HeadLimits::default() },
        ..Http2ClientLimits::default()
    };
    let mut out = Chain::new();
    let client = Http2Client::new(limits, &mut out);
    let mut run = Run { habits, client, inbox: Inbox::default(), out, made: 0, responses: BTreeMap::new() };
    run.make_requests();
    let end = run.read(bytes, size);
    let open = run.responses.values().filter(|response| response.outcome.is_none()).count();
    assert_eq!(run.client.in_flight(), open);
    assert!(run.client.is_over() && !run.client.may_request());
    // How much of a malformed response was reported before it was found to be one depends on the pieces.
    let malformed = |response: &&mut Response| matches!(response.outcome, Some(Outcome::Malformed(_)));
    run.responses.values_mut().filter(malformed).for_each(|response| response.data.clear());
    check_sent(&run.out.to_vec(), run.made, bytes.len());
    (run.responses, end)
}

impl Run {
    fn read(&mut self, bytes: &[u8], size: usize) -> Result<(), Http2Error> {
        let pool = Pool::new(PoolConfig::default());
        for piece in bytes.chunks(size.min(pool.size(SizeClass::Small))) {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece);
                Ok::<_, Infallible>(piece.len())
            };
            self.inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
            loop {
                let event = self.client.read(&mut self.inbox, &mut self.out)?;
                if event == Http2Event::Wait {
                    break;
                }
                self.note(event);
            }
        }
        self.client.on_end()
    }

    fn note(&mut self, event: Http2Event) {
        let (tag, outcome) = match event {
            Http2Event::Wait => return,
            Http2Event::Head { tag, status, .. } => {
                let response = self.open(tag);
                assert!(!status.is_informational() && response.status.replace(status.code()).is_none());
                if self.habits >> (tag % 4) & 0x10 != 0 {
                    self.client.reset(tag, &mut self.out);
                    self.end(tag, Outcome::GivenUp);
                }
                return;
            }
            Http2Event::Data { tag, bytes } => {
                assert!(bytes > 0);
                let data = self.inbox.bytes()[..bytes].to_vec();
                self.inbox.consume(bytes);
                let response = self.open(tag);
                assert!(response.status.is_some(), "data before the head");
                response.data.extend(data);
                return;
            }
            Http2Event::End { tag } => (tag, Outcome::End),
            Http2Event::Reset { tag, code } => (tag, Outcome::Reset(code)),
            Http2Event::Refused { tag } => (tag, Outcome::Refused),
            Http2Event::Malformed { tag, reason } => (tag, Outcome::Malformed(reason)),
        };
        assert!(outcome != Outcome::End || self.open(tag).status.is_some(), "an end without a head");
        self.end(tag, outcome);
    }

    /// The response to a request that has no outcome yet.
    fn open(&mut self, tag: u32) -> &mut Response {
        let response = self.responses.get_mut(&tag).expect("a request");
        assert_eq!(response.outcome, None);
        response
    }

    fn end(&mut self, tag: u32, outcome: Outcome) {
        self.open(tag).outcome = Some(outcome);
        self.make_requests();
    }

    /// As many as may be.
    fn make_requests(&mut self) {
        while self.made < REQUESTS_MAX && self.client.may_request() {
            let builder = |method| Http2Request::builder(method, Scheme::Http, "h", "/");
            let request = match (u32::from(self.habits >> 1) + self.made) % 4 {
                0 => builder(Method::Get),
                1 => builder(Method::Head),
                2 => builder(Method::Post).body(Chunk::Static(b"a body")),
                _ => builder(Method::Post).body(Chunk::shared(vec![b'x'; 40_000])),
            };
            self.client.request(&request.end(), self.made, &mut self.out);
            self.responses.insert(self.made, Response::default());
            self.made += 1;
        }
    }
}

/// What the client has sent in answer to as many bytes is what a server may get.
fn check_sent(sent: &[u8], made: u32, received: usize) {
    let (mut reader, mut decoder, mut block) =
        (FrameReader::of_server(), Decoder::new(), BlockReader::new(&HeadLimits::default()));
    // Streams that may go on, and bytes of all bodies.
    let (mut open, mut begun, mut body_bytes, mut at) = (BTreeMap::new(), 0, 0, 0);
    let mut is_over = false;
    while at < sent.len() {
        assert!(!is_over, "something behind GOAWAY");
        let step = reader.next(&sent[at..]).expect("the client keeps to the protocol");
        match step.event.expect("whole frames") {
            Event::Frame(Frame::Headers { stream, fragment, end_stream, end_headers: true }) => {
                assert_eq!(stream, StreamId::new(2 * begun + 1));
                begun += 1;
                block.push(&mut decoder, fragment, true).expect("a block");
                assert_eq!(block.take().iter().next().map(|field| field.name), Some(&b":method"[..]));
                open.insert(stream, end_stream);
            }
            Event::Data(piece) => {
                body_bytes += piece.data.len();
                let has_ended = open.get_mut(&piece.stream).expect("an open stream");
                assert!(!*has_ended);
                *has_ended = piece.end_stream;
            }
            Event::Frame(Frame::ResetStream { stream, .. }) => assert!(open.remove(&stream).is_some()),
            Event::Frame(Frame::GoAway { code, .. }) => is_over = code != ErrorCode::NO_ERROR,
            Event::Frame(
                Frame::Settings { .. }
                | Frame::SettingsAck
                | Frame::WindowUpdate { .. }
                | Frame::Ping { ack: true, .. },
            ) => {}
            other => panic!("{other:?}"),
        }
        at += step.consumed;
    }
    assert_eq!(begun, made);
    // 13 bytes allow any number of further ones.
    assert!(received >= 13 || body_bytes <= INITIAL_WINDOW_BYTES as usize);
    assert!(body_bytes <= made as usize * 40_000);
}
