//! A small server of HTTP/2 with which the client is tested: what it does is right, unless it is told what to do wrong.

use std::net::SocketAddr;
use std::rc::Rc;

use xps::internals::driver::sim::{Converse, Move, Rng, Step};

use super::client::H2Client;
use super::frame::{self, BlockCut, Frame, WINDOW};
use super::habit::Habit;
use super::record::{Log, Record};
use super::{Call, hpack};
use crate::forward::{Ask, Method};
use crate::origin::Origin;
use crate::scenario::{Mood, Request, Service, Stop, UPSTREAM_PORT};

/// What it does wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A byte more than a window lets through.
    Overrun,
    /// A body goes to another stream.
    OtherStream,
    /// An answer does not end.
    NoEndStream,
    /// What a client has sent is not given back to a window.
    LostWindowUpdate,
}

/// That a run has such a server for each client of HTTP/2, and what all of them do wrong.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    pub wrong: Option<Wrong>,
}

impl Reference {
    /// Where that of a client is.
    pub fn address(client: usize) -> SocketAddr {
        SocketAddr::from(([198, 51, 101, client as u8], UPSTREAM_PORT))
    }
}

/// How a stream is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None`: not at all, since the request is malformed.
    status: Option<u16>,
    /// Where it is not that of the body.
    length: Option<usize>,
    id: Option<u32>,
    body: Vec<u8>,
}

impl Answer {
    fn to_request(request: &Request) -> Self {
        let (status, body) = request.expected();
        let length = match request {
            Request::Head(case) if status == 200 => Some(case.bytes().len()),
            _ => None,
        };
        let body = body.unwrap_or_else(|| b"a page".to_vec());
        Self { status: (*request != Request::Garbage).then_some(status), length, id: None, body }
    }

    fn to_ask(ask: &Ask) -> Self {
        let body = if ask.method == Method::Head { Vec::new() } else { Origin::answer(ask.id, ask.answer_bytes) };
        let length = (ask.method == Method::Head).then_some(ask.answer_bytes);
        Self { status: Some(200), length, id: Some(ask.id), body }
    }

    /// What a client of this should get.
    pub fn all(service: &Service) -> Vec<Self> {
        match service {
            Service::Http(requests) => requests.iter().map(Self::to_request).collect(),
            Service::Forward(asks) => asks.iter().map(Self::to_ask).collect(),
            _ => Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Server {
    answers: Rc<[Answer]>,
    rng: Rng,
    out: Vec<u8>,
    unread: Vec<u8>,
    has_preface: bool,
    decoder: hpack::Decoder,
    encoder: hpack::Encoder,
    block: Vec<u8>,
    window: i64,
    initial_window: i64,
    frame_bytes_max: usize,
    streams: Vec<Served>,
    wrong: Option<Wrong>,
    has_struck: bool,
    /// The stream whose trailers are being received.
    trailed: Option<u32>,
}

#[derive(Clone, Debug)]
struct Served {
    id: u32,
    window: i64,
    is_whole: bool,
    got: Vec<u8>,
    has_begun: bool,
    answer: Vec<u8>,
    is_over: bool,
}

impl Server {
    /// A server that answers the streams with these, in their order.
    pub fn new(seed: u64, answers: Vec<Answer>, wrong: Option<Wrong>) -> Self {
        let mut rng = Rng::new(seed);
        let mut out = Vec::new();
        let window = rng.below(20_000) as u32 + 20;
        frame::push_settings(&mut out, &[(frame::INITIAL_WINDOW_SIZE, window), (frame::MAX_CONCURRENT_STREAMS, 50)]);
        Self {
            answers: answers.into(),
            rng,
            out,
            unread: Vec::new(),
            has_preface: false,
            decoder: hpack::Decoder::new(),
            encoder: hpack::Encoder::new(),
            block: Vec::new(),
            window: WINDOW,
            initial_window: WINDOW,
            frame_bytes_max: frame::FRAME_BYTES_MAX,
            streams: Vec::new(),
            wrong,
            has_struck: false,
            trailed: None,
        }
    }

    fn can_go_on(&self) -> bool {
        self.block.is_empty()
            && self.streams.iter().any(|stream| {
                let has_room = stream.answer.is_empty() || stream.window.min(self.window) > 0;
                stream.is_whole && !stream.is_over && (has_room || !stream.has_begun)
            })
    }

    fn strikes(&mut self, wrong: Wrong) -> bool {
        let strikes = self.wrong == Some(wrong) && !self.has_struck;
        self.has_struck |= strikes;
        strikes
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        if !self.has_preface {
            let Some(rest) = self.unread.strip_prefix(frame::PREFACE) else { return };
            (self.unread, self.has_preface) = (rest.to_vec(), true);
        }
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while let Some(frame) = Frame::read(rest, frame::FRAME_BYTES_MAX).unwrap() {
            self.on_frame(&frame);
            rest = &rest[frame.length()..];
        }
        self.unread = rest.to_vec();
        self.answer();
    }

    fn on_frame(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            frame::SETTINGS if !frame.has(frame::ACK) => {
                for (name, value) in frame.settings().unwrap() {
                    match name {
                        frame::INITIAL_WINDOW_SIZE => {
                            let change = i64::from(value) - self.initial_window;
                            self.initial_window = i64::from(value);
                            self.streams.iter_mut().for_each(|stream| stream.window += change);
                        }
                        frame::MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
                        frame::HEADER_TABLE_SIZE => self.encoder.set_limit(value as usize),
                        _ => {}
                    }
                }
                frame::push(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[]);
            }
            frame::PING if !frame.has(frame::ACK) => {
                frame::push(&mut self.out, frame::PING, frame::ACK, 0, frame.payload);
            }
            frame::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.number().unwrap()),
            frame::WINDOW_UPDATE => {
                let increment = i64::from(frame.number().unwrap());
                self.stream(frame.stream, |stream| stream.window += increment);
            }
            frame::HEADERS if self.streams.iter().any(|stream| stream.id == frame.stream) => {
                self.trailed = Some(frame.stream);
                self.on_fragment(frame.content().unwrap(), frame.has(frame::END_HEADERS));
            }
            frame::HEADERS => {
                self.streams.push(Served {
                    id: frame.stream,
                    window: self.initial_window,
                    is_whole: frame.has(frame::END_STREAM),
                    got: Vec::new(),
                    has_begun: false,
                    answer: Vec::new(),
                    is_over: false,
                });
                self.on_fragment(frame.content().unwrap(), frame.has(frame::END_HEADERS));
            }
            frame::CONTINUATION => self.on_fragment(frame.payload, frame.has(frame::END_HEADERS)),
            frame::DATA => {
                let (content, is_end) = (frame.content().unwrap(), frame.has(frame::END_STREAM));
                self.stream(frame.stream, |stream| {
                    stream.got.extend_from_slice(content);
                    stream.is_whole |= is_end;
                });
                let flow = frame.payload.len() as u32;
                if flow > 0 && !self.strikes(Wrong::LostWindowUpdate) {
                    frame::push_number(&mut self.out, frame::WINDOW_UPDATE, 0, flow);
                    frame::push_number(&mut self.out, frame::WINDOW_UPDATE, frame.stream, flow);
                }
            }
            frame::RST_STREAM => self.stream(frame.stream, |stream| stream.is_over = true),
            _ => {}
        }
    }

    fn stream(&mut self, id: u32, act: impl FnMut(&mut Served)) {
        self.streams.iter_mut().find(|stream| stream.id == id).into_iter().for_each(act);
    }

    fn on_fragment(&mut self, fragment: &[u8], is_end: bool) {
        self.block.extend_from_slice(fragment);
        if !is_end {
            return;
        }
        let block = std::mem::take(&mut self.block);
        let fields = self.decoder.decode(&block).expect("a block of the client");
        if let Some(id) = self.trailed.take() {
            return self.stream(id, |stream| stream.is_whole = true);
        }
        assert!(fields.iter().any(|(name, value)| name == b":authority" && value == b"sim"), "{fields:?}");
        let reply = &self.answers[self.streams.len() - 1];
        if let Some(stream) = self.streams.last_mut() {
            stream.answer = reply.body.clone();
            if reply.status.is_none() {
                stream.is_over = true;
                frame::push_number(&mut self.out, frame::RST_STREAM, stream.id, frame::PROTOCOL_ERROR);
            }
        }
    }

    /// Sends what the windows let through, in any order.
    fn answer(&mut self) {
        if !self.block.is_empty() {
            return;
        }
        for _ in 0..self.rng.below(8) {
            let numbers: Vec<_> =
                (0..self.streams.len()).filter(|at| self.streams[*at].is_whole && !self.streams[*at].is_over).collect();
            if numbers.is_empty() {
                return;
            }
            let at = numbers[self.rng.below(numbers.len() as u64) as usize];
            self.push_some(at);
        }
    }

    fn push_some(&mut self, at: usize) {
        let (id, left) = (self.streams[at].id, self.streams[at].answer.len());
        if !self.streams[at].has_begun {
            self.streams[at].has_begun = true;
            let field = |name: &str, value: &str| (name.into(), value.into());
            let reply = &self.answers[at];
            let mut fields = vec![field(":status", &reply.status.unwrap_or(200).to_string())];
            fields.extend(reply.id.map(|id| field("x-id", &id.to_string())));
            fields.extend(reply.id.map(|_| field("x-body", &Origin::digest(&self.streams[at].got))));
            if reply.length.is_some() || self.rng.coin() {
                fields.push(field("content-length", &reply.length.unwrap_or(left).to_string()));
            }
            let block = self.encoder.encode(&fields, &mut self.rng);
            let most = self.rng.range(1, 40) as usize;
            return frame::push_block(&mut self.out, id, 0, &block, most, &BlockCut::default());
        }
        let room = self.streams[at].window.min(self.window);
        let mut count = (left as i64).min(room).clamp(0, self.frame_bytes_max as i64) as usize;
        if left as i64 > room && room >= 0 && self.strikes(Wrong::Overrun) {
            count = room as usize + 1;
        }
        if count == 0 && left > 0 {
            return;
        }
        let data: Vec<u8> = self.streams[at].answer.drain(..count).collect();
        let is_end = left == count;
        let other = self.streams.iter().find(|stream| stream.id != id && !stream.is_over).map(|stream| stream.id);
        let to = other.filter(|_| self.strikes(Wrong::OtherStream)).unwrap_or(id);
        let flags = if is_end && !self.strikes(Wrong::NoEndStream) { frame::END_STREAM } else { 0 };
        frame::push(&mut self.out, frame::DATA, flags, to, &data);
        self.streams[at].window -= count as i64;
        self.window -= count as i64;
        self.streams[at].is_over = is_end;
    }
}

impl Converse for Server {
    fn hear(&mut self, unread: &[u8], _: bool, _: &mut Rng) -> Option<Move> {
        Server::hear(self, unread);
        while self.can_go_on() && self.out.len() < 30_000 {
            self.answer();
        }
        let steps: Vec<_> =
            (!self.out.is_empty()).then(|| Step::Send(std::mem::take(&mut self.out))).into_iter().collect();
        (!unread.is_empty() || !steps.is_empty()).then_some(Move { taken: unread.len(), steps })
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

/// Lets a client and a server talk, cut anywhere. Returns whether the client has had everything.
fn play(habit: Habit, calls: Vec<Call>, server: &mut Server, rng: &mut Rng) -> (bool, Log) {
    let log = Log::new(Record::default().into());
    let mut client = H2Client::new(habit, calls, Log::clone(&log));
    let (mut to_server, mut to_client, mut quiet) = (Vec::new(), Vec::<u8>::new(), 0);
    let (mut arrived, mut has_left) = (0, false);
    while quiet < 200 && !has_left {
        quiet += 1;
        if rng.coin() {
            let count = rng.length(to_server.len()).min(to_server.len());
            server.hear(&to_server.drain(..count).collect::<Vec<_>>());
            quiet = if server.out.is_empty() { quiet } else { 0 };
            to_client.append(&mut server.out);
        } else {
            arrived = (arrived + rng.length(5_000)).min(to_client.len());
            if let Some(Move { taken, steps }) = client.hear(&to_client[..arrived], false, rng) {
                (quiet, arrived) = (0, arrived - taken);
                to_client.drain(..taken);
                for step in steps {
                    match step {
                        Step::Send(bytes) | Step::SendSlowly { bytes, .. } => to_server.extend(bytes),
                        Step::ShutdownWrite | Step::Reset => has_left = true,
                        _ => {}
                    }
                }
            }
        }
    }
    (!client.is_owed(), log)
}

fn answers(rng: &mut Rng) -> Vec<Answer> {
    let mut answer = |_| {
        let length = rng.below(3_000) as usize;
        Answer { status: Some(200), length: None, id: None, body: rng.bytes(length) }
    };
    (0..20).map(&mut answer).collect()
}

fn calls(rng: &mut Rng) -> Vec<Call> {
    let mut call = |_| {
        let mut call = Call { answer_bytes: 3_000, ..Call::new(["GET", "PUT"][rng.below(2) as usize], "/x") };
        if rng.coin() {
            let length = rng.below(50_000) as usize;
            call.body(rng.bytes(length), rng.coin());
        }
        call
    };
    (0..20).map(&mut call).collect()
}

#[test]
fn a_client_finds_no_fault_with_a_server_that_has_none() {
    let mut whole = 0;
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let mut calls = calls(rng);
        let habit = Habit::draw(Mood::Calm, Stop::WhenDone, false, &calls, rng);
        let habit = Habit { budget: super::habit::Budget { resets: 3, ..habit.budget.clone() }, ..habit };
        calls.iter_mut().for_each(|call| call.adorn(&habit, rng));
        let mut server = Server::new(seed, answers(rng), None);
        let (is_whole, log) = play(habit.clone(), calls, &mut server, rng);
        let record = log.borrow();
        assert!(record.alarms.is_empty() && is_whole, "seed {seed}: {:?}, {habit:?}, {record:?}", record.alarms);
        assert!(record.streams.len() == 20 && record.streams.iter().all(|stream| stream.is_finished()), "seed {seed}");
        whole += record.streams.iter().filter(|stream| stream.has_ended).count();
    }
    assert!(whole > 1_500, "{whole}");
}

#[test]
fn what_a_server_does_wrong_is_an_alarm_or_leaves_something_owed() {
    // The client may have opened a window meanwhile; bytes of another stream may look right; and a window may be great
    // enough without an update.
    let least =
        [(Wrong::Overrun, 40), (Wrong::NoEndStream, 100), (Wrong::OtherStream, 50), (Wrong::LostWindowUpdate, 20)];
    for (wrong, least) in least {
        let (mut strikes, mut noticed) = (0, 0);
        for seed in 0..100 {
            let rng = &mut Rng::new(seed);
            let calls = calls(rng);
            let habit = Habit::draw(Mood::Calm, Stop::WhenDone, false, &calls, rng);
            let mut server = Server::new(seed, answers(rng), Some(wrong));
            let (is_whole, log) = play(habit, calls, &mut server, rng);
            let is_noticed = !is_whole || !log.borrow().alarms.is_empty();
            assert!(server.has_struck || !is_noticed, "{wrong:?}, seed {seed}: {:?}", log.borrow().alarms);
            strikes += u32::from(server.has_struck);
            noticed += u32::from(is_noticed);
        }
        assert!(strikes > 30 && noticed * 100 >= strikes * least, "{wrong:?}: {noticed} of {strikes}");
    }
}
