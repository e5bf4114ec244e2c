//! The `h2` crate as a client in a run: what it reads and writes is memory, which the run moves.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use xps::internals::driver::sim::{Converse, Move, Rng, Step};

use super::Call;
use super::pipe::{Pipe, Running, all, receive, send};
use super::record::{Log, Record, Stream};
use crate::forward::{Ask, Method};
use crate::scenario::{Client, Service};

/// A client that asks for all of this at once.
pub fn client(asks: Vec<Ask>) -> Client {
    let log = Log::new(Record::default().into());
    let partner = CrateClient { asks: asks.clone().into(), log: Rc::clone(&log), talk: None };
    Client {
        service: Service::Forward(asks),
        after: Duration::ZERO,
        steps: vec![Step::Converse(Box::new(partner))],
        payload: Vec::new(),
        is_polite: true,
        reads_all: true,
        http2: Some(log),
    }
}

struct CrateClient {
    asks: Rc<[Ask]>,
    log: Log,
    /// Once it has begun.
    talk: Option<Talk>,
}

struct Talk {
    pipe: Pipe,
    running: Running<'static, ()>,
    is_over: bool,
    has_said_end: bool,
}

impl fmt::Debug for CrateClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrateClient").field("asks", &self.asks.len()).finish_non_exhaustive()
    }
}

impl CrateClient {
    fn begin(&self) -> Talk {
        let pipe = Pipe::default();
        let (asks, log) = (Rc::clone(&self.asks), Rc::clone(&self.log));
        log.borrow_mut().streams = asks.iter().map(nothing_yet).collect();
        let mut builder = Builder::new();
        // The server says how many there may be at once.
        builder.initial_max_send_streams(1);
        let running = Running::new(pipe.clone(), builder, async move |requests: SendRequest<Bytes>| {
            all(asks.iter().enumerate().map(|(number, ask)| call(&requests, ask, number, &log))).await;
        });
        Talk { pipe, running, is_over: false, has_said_end: false }
    }
}

impl Converse for CrateClient {
    fn hear(&mut self, unread: &[u8], is_end: bool, _: &mut Rng) -> Option<Move> {
        if self.talk.is_none() {
            self.talk = Some(self.begin());
        }
        let Some(Talk { pipe, running, is_over, has_said_end }) = &mut self.talk else { return None };
        if !*is_over {
            pipe.give(unread);
            if is_end {
                pipe.give_end();
            }
            *is_over = running.go_on().is_some();
        }
        let mut steps = Vec::new();
        let out = pipe.take(|bytes| (bytes.len(), bytes.to_vec()));
        if !out.is_empty() {
            steps.push(Step::Send(out));
        }
        if *is_over && !std::mem::replace(has_said_end, true) {
            steps.extend([Step::ShutdownWrite, Step::ReadUntilEof]);
        }
        (!unread.is_empty() || !steps.is_empty()).then_some(Move { taken: unread.len(), steps })
    }

    fn is_owed(&self) -> bool {
        self.talk.as_ref().is_none_or(|talk| !talk.is_over)
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(Self { asks: Rc::clone(&self.asks), log: Rc::clone(&self.log), talk: None })
    }
}

fn nothing_yet(ask: &Ask) -> Stream {
    Stream {
        id: 0,
        is_head: ask.method == Method::Head,
        is_tunnel: false,
        status: None,
        fields: Vec::new(),
        body: Vec::new(),
        trailers: None,
        has_ended: false,
        reset: None,
        gave_up: false,
        is_gone: false,
        sent: 0,
        has_sent_all: ask.body.is_none(),
        has_body: ask.body.is_some(),
        send_window: 0,
        window: 0,
        gives_up_at: None,
    }
}

/// One request and its answer.
async fn call(requests: &SendRequest<Bytes>, ask: &Ask, number: usize, log: &RefCell<Record>) {
    let made = Call::of_ask(ask);
    let mut sender = requests.clone().ready().await.expect("the connection stands");
    let (response, stream) = sender.send_request(request(&made), made.body.is_none()).expect("it may be sent");
    {
        let record = &mut *log.borrow_mut();
        record.streams[number].id = response.stream_id().as_u32();
        record.counts.streams += 1;
        let open = record.streams.iter().filter(|stream| stream.id > 0 && !stream.is_finished()).count();
        record.counts.most_at_once = record.counts.most_at_once.max(open as u64);
    }
    let both: [Pin<Box<dyn Future<Output = ()> + '_>>; 2] =
        [Box::pin(upload(stream, &made, number, log)), Box::pin(download(response, number, log))];
    all(both).await;
}

fn request(call: &Call) -> Request<()> {
    let value = |name: &[u8]| call.fields.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..]);
    let text = |name| String::from_utf8_lossy(value(name).unwrap_or_default()).into_owned();
    let mut request = Request::new(());
    *request.method_mut() = text(b":method").parse().expect("a method");
    *request.uri_mut() = format!("http://{}{}", text(b":authority"), text(b":path")).parse().expect("a target");
    *request.headers_mut() = map_of(call.fields.iter().filter(|(name, _)| !name.starts_with(b":")));
    request
}

fn map_of<'f>(fields: impl IntoIterator<Item = &'f super::hpack::Field>) -> HeaderMap {
    let name = |name: &[u8]| HeaderName::from_bytes(name).expect("a name");
    let value = |value: &[u8]| HeaderValue::from_bytes(value).expect("a value");
    fields.into_iter().map(|(of, is)| (name(of), value(is))).collect()
}

fn fields_of(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

async fn upload(mut stream: SendStream<Bytes>, call: &Call, number: usize, log: &RefCell<Record>) {
    let Some(body) = &call.body else { return };
    let has_trailers = !call.trailers.is_empty();
    // It is cut short where the answer comes before its end.
    if send(&mut stream, body, !has_trailers).await && has_trailers {
        let _ = stream.send_trailers(map_of(&call.trailers));
    }
    let stream = &mut log.borrow_mut().streams[number];
    (stream.sent, stream.has_sent_all) = (body.len(), true);
}

async fn download(response: ResponseFuture, number: usize, log: &RefCell<Record>) {
    let fail = |error: h2::Error| {
        let mut record = log.borrow_mut();
        record.streams[number].reset = error.reason().map(u32::from);
        record.counts.reset += 1;
        if !error.is_remote() || error.reason().is_none() {
            record.alarms.push(format!("h2 says: {error}"));
        }
    };
    let (head, mut body) = match response.await {
        Ok(response) => response.into_parts(),
        Err(error) => return fail(error),
    };
    {
        let stream = &mut log.borrow_mut().streams[number];
        (stream.status, stream.fields) = (Some(head.status.as_u16()), fields_of(&head.headers));
    }
    let result = receive(&mut body, |piece| log.borrow_mut().streams[number].body.extend_from_slice(piece)).await;
    let trailers = match result {
        Ok(()) => body.trailers().await,
        Err(error) => Err(error),
    };
    match trailers {
        Ok(trailers) => {
            let mut record = log.borrow_mut();
            record.streams[number].trailers = trailers.as_ref().map(fields_of);
            record.streams[number].has_ended = true;
            record.counts.answered += 1;
        }
        Err(error) => fail(error),
    }
}
