//! A blocking client of HTTP/2 for tests, with its own streams and windows. Any bytes can be sent.
//!
//! It acknowledges SETTINGS and PING by itself, and gives windows back as data come unless [`Connection::hold_windows`] was
//! called. What the server may not do makes it panic.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::frame::{Frame, PREFACE, code, flag, kind, setting};
use super::hpack::{self, Decoder, Field};
use crate::support::client::{is_timeout, uninterrupted};
use crate::support::{patience, tls};

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The statuses of interim responses.
    pub interim: Vec<u16>,
}

impl Response {
    /// The value of a field that is there at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a stream ended without a complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RST_STREAM with this code.
    Stream(u32),
    /// GOAWAY with this code.
    Connection(u32),
    /// The connection ended without a GOAWAY that says why.
    End,
}

/// A GOAWAY frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub last_stream: u32,
    pub code: u32,
    pub reason: String,
}

#[derive(Debug, Default)]
struct Answer {
    response: Response,
    window: i64,
    is_complete: bool,
    reset: Option<u32>,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    inbox: Vec<u8>,
    decoder: Decoder,
    next_stream: u32,
    pub scheme: &'static str,
    pub authority: &'static str,
    answers: BTreeMap<u32, Answer>,
    block: Option<(u32, bool, Vec<u8>)>,
    is_holding_windows: bool,
    initial_window: i64,
    window: i64,
    /// What may be sent: on the connection, and on new streams.
    send_window: i64,
    initial_send_window: i64,
    send_windows: BTreeMap<u32, i64>,
    /// The server's, as far as they have come.
    pub settings: Vec<(u16, u32)>,
    pub goaways: Vec<GoAway>,
    /// Acknowledgements of our SETTINGS.
    pub settings_acks: u32,
    /// What the server has acknowledged.
    pub pongs: Vec<[u8; 8]>,
    /// Frames that have come, of any type.
    pub frames: u64,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Connection {
    /// With prior knowledge; the preface and SETTINGS are sent.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// The same, with these settings.
    #[track_caller]
    pub fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::raw(address);
        connection.begin(settings);
        connection
    }

    /// Nothing is sent.
    #[track_caller]
    pub fn raw(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect_timeout(&address, patience())
            .unwrap_or_else(|error| panic!("{address} does not take a connection: {error}"));
        tcp.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
        tcp.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
        tcp.set_nodelay(true).expect("TCP has it");
        Self::over(Stream::Tcp(tcp), "http")
    }

    /// Over TLS, where `client` must offer `h2`; the preface and SETTINGS are sent.
    #[track_caller]
    pub fn over_tls(address: SocketAddr, client: &tls::Client, name: &str) -> Self {
        let stream = client.connect(address, name).unwrap_or_else(|error| panic!("no handshake: {error}"));
        assert_eq!(stream.alpn().as_deref(), Some("h2"), "the server's choice");
        let mut connection = Self::over(Stream::Tls(Box::new(stream)), "https");
        connection.begin(&[]);
        connection
    }

    fn over(stream: Stream, scheme: &'static str) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            decoder: Decoder::default(),
            next_stream: 1,
            scheme,
            authority: "h",
            answers: BTreeMap::new(),
            block: None,
            is_holding_windows: false,
            initial_window: WINDOW_BYTES,
            window: WINDOW_BYTES,
            send_window: WINDOW_BYTES,
            initial_send_window: WINDOW_BYTES,
            send_windows: BTreeMap::new(),
            settings: Vec::new(),
            goaways: Vec::new(),
            settings_acks: 0,
            pongs: Vec::new(),
            frames: 0,
        }
    }

    /// Sends the preface and these settings.
    #[track_caller]
    pub fn begin(&mut self, settings: &[(u16, u32)]) {
        self.note_settings(settings);
        self.send([PREFACE, &Frame::settings(settings).bytes()].concat());
    }

    /// Expects the server to keep to these settings, which the caller sends.
    pub fn note_settings(&mut self, settings: &[(u16, u32)]) {
        for (_, value) in settings.iter().filter(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE) {
            let change = i64::from(*value) - self.initial_window;
            self.initial_window += change;
            self.answers.values_mut().for_each(|answer| answer.window += change);
        }
    }

    /// From now on no WINDOW_UPDATE is sent.
    pub fn hold_windows(&mut self) {
        self.is_holding_windows = true;
    }

    /// Gives this much more of a window; stream 0 is the connection.
    #[track_caller]
    pub fn grant(&mut self, stream: u32, bytes: u32) {
        self.note_granted(stream, bytes);
        self.send_frame(&Frame::window_update(stream, bytes));
    }

    /// The same where the caller sends the frame.
    pub fn note_granted(&mut self, stream: u32, bytes: u32) {
        if stream == 0 {
            self.window += i64::from(bytes);
        } else if let Some(answer) = self.answers.get_mut(&stream) {
            answer.window += i64::from(bytes);
        }
    }

    /// Asks this host from now on instead of `h`.
    pub fn set_authority(&mut self, authority: &'static str) {
        self.authority = authority;
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("the server does not take it: {error}"));
    }

    /// The same, to a server that may close.
    ///
    /// # Errors
    /// It has.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.write_all(bytes.as_ref()),
            Stream::Tls(tls) => {
                tls.write_all(bytes.as_ref())?;
                tls.flush()
            }
        }
    }

    #[track_caller]
    pub fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.bytes());
    }

    /// The number of the next stream that this client begins.
    pub fn next_stream(&self) -> u32 {
        self.next_stream
    }

    /// Goes on with this number.
    pub fn use_streams_from(&mut self, stream: u32) {
        self.next_stream = stream;
    }

    /// A new stream, for HEADERS that the caller sends.
    pub fn new_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream = self.next_stream.saturating_add(2);
        self.answers.insert(stream, Answer { window: self.initial_window, ..Answer::default() });
        self.send_windows.insert(stream, self.initial_send_window);
        stream
    }

    /// Begins a request of these fields, as they are.
    #[track_caller]
    pub fn request_of(&mut self, fields: &[(&str, &str)], is_end: bool) -> u32 {
        let stream = self.new_stream();
        self.send_frame(&Frame::headers(stream, hpack::encode(fields.iter().copied()), is_end));
        stream
    }

    /// The fields of a request.
    pub fn fields<'f>(&self, method: &'f str, path: &'f str, fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
        let pseudo = [(":method", method), (":scheme", self.scheme), (":authority", self.authority), (":path", path)];
        [&pseudo, fields].concat()
    }

    /// Begins a request without a body.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> u32 {
        self.request_of(&self.fields(method, path, fields), true)
    }

    /// Begins a request with a body.
    #[track_caller]
    pub fn open(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> u32 {
        self.request_of(&self.fields(method, path, fields), false)
    }

    /// Begins a GET.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> u32 {
        self.request("GET", path, &[])
    }

    /// Sends a part of a body as the windows allow, and reads while they do not.
    #[track_caller]
    pub fn upload(&mut self, stream: u32, bytes: &[u8], is_end: bool) {
        let mut rest = bytes;
        loop {
            let room = self.send_room(stream).min(rest.len()).min(FRAME_BYTES_MAX);
            let is_last = is_end && room == rest.len();
            if room > 0 || is_last {
                let (now, later) = rest.split_at(room);
                self.send_frame(&Frame::data(stream, now, is_last));
                self.note_sent(stream, room);
                rest = later;
            }
            if rest.is_empty() {
                return;
            }
            if room == 0 {
                assert!(self.read_frame(), "the connection ended within an upload");
                assert_eq!(self.reset_of(stream), None, "RST_STREAM within an upload");
            }
        }
    }

    /// How much of a body may be sent.
    pub fn send_room(&self, stream: u32) -> usize {
        let window = self.send_windows.get(&stream).copied().unwrap_or_default().min(self.send_window);
        usize::try_from(window).unwrap_or(0)
    }

    /// How much may be sent on all streams together.
    pub fn connection_room(&self) -> usize {
        usize::try_from(self.send_window).unwrap_or(0)
    }

    /// Counts DATA that the caller sends.
    pub fn note_sent(&mut self, stream: u32, bytes: usize) {
        self.send_window -= bytes as i64;
        *self.send_windows.entry(stream).or_default() -= bytes as i64;
    }

    /// Reads until the response is complete.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> Response {
        self.try_response(stream).unwrap_or_else(|fault| panic!("stream {stream}: {fault:?}, {:?}", self.goaways))
    }

    /// Reads until the response is complete, or will never be.
    ///
    /// # Errors
    /// Why not.
    #[track_caller]
    pub fn try_response(&mut self, stream: u32) -> Result<Response, Fault> {
        loop {
            let answer = self.answers.get(&stream).expect("a stream of this client");
            if answer.is_complete {
                return Ok(answer.response.clone());
            }
            if let Some(code) = answer.reset {
                return Err(Fault::Stream(code));
            }
            if !self.read_frame() {
                return Err(self.fault());
            }
        }
    }

    /// Reads to the connection's end, and says which it was.
    #[track_caller]
    pub fn end(&mut self) -> Fault {
        while self.read_frame() {}
        self.fault()
    }

    /// Reads until the response's head is there.
    #[track_caller]
    pub fn head(&mut self, stream: u32) -> Response {
        self.read_until("a head", |connection| connection.seen(stream).status != 0);
        self.seen(stream).clone()
    }

    /// What has come of a response.
    pub fn seen(&self, stream: u32) -> &Response {
        &self.answers[&stream].response
    }

    /// Whether it has ended, in either way.
    pub fn is_over(&self, stream: u32) -> bool {
        self.answers.get(&stream).is_some_and(|answer| answer.is_complete || answer.reset.is_some())
    }

    /// The code of the RST_STREAM that has come, if any.
    pub fn reset_of(&self, stream: u32) -> Option<u32> {
        self.answers.get(&stream)?.reset
    }

    /// Reads frames until `has_come`.
    #[track_caller]
    pub fn read_until(&mut self, what: &str, has_come: impl Fn(&Self) -> bool) {
        while !has_come(self) {
            assert!(self.read_frame(), "the connection ended before {what}: {:?}", self.goaways);
        }
    }

    /// Reads until RST_STREAM.
    #[track_caller]
    pub fn expect_reset(&mut self, stream: u32) -> u32 {
        self.read_until("RST_STREAM", |connection| connection.reset_of(stream).is_some());
        self.reset_of(stream).expect("it has come")
    }

    /// A round trip: all that was sent before has been read by the server, unless the connection ends.
    ///
    /// # Errors
    /// It ended.
    #[track_caller]
    pub fn ping(&mut self) -> Result<(), Fault> {
        let count = self.pongs.len();
        if self.try_send(Frame::ping(*b"a probe.", false).bytes()).is_err() {
            while self.read_frame() {}
            return Err(self.fault());
        }
        while self.pongs.len() == count {
            if !self.read_frame() {
                return Err(self.fault());
            }
        }
        Ok(())
    }

    /// Reads to the connection's end; the last GOAWAY.
    #[track_caller]
    pub fn expect_goaway(&mut self) -> GoAway {
        while self.read_frame() {}
        self.goaways.last().cloned().expect("an end with GOAWAY")
    }

    /// Says that no further request comes, and reads to the end.
    #[track_caller]
    pub fn finish(mut self) {
        self.send_frame(&Frame::goaway(0, code::NO_ERROR));
        match &mut self.stream {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Write).expect("it is still there"),
            Stream::Tls(tls) => tls.finish().expect("it is still there"),
        }
        while self.read_frame() {}
        assert!(self.goaways.iter().all(|goaway| goaway.code == code::NO_ERROR), "{:?}", self.goaways);
    }

    /// The socket, for what its tests do to it.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => &tls.tcp,
        }
    }

    /// Whether nothing comes within `time`, and nothing that has come is still to be read. A frame ends the wait.
    #[track_caller]
    pub fn is_silent(&mut self, time: Duration) -> bool {
        let before = self.frames;
        self.read_within(time, |connection| connection.frames > before);
        self.frames == before
    }

    /// Reads what comes within `time`, or up to the end.
    #[track_caller]
    pub fn read_for(&mut self, time: Duration) {
        self.read_within(time, |_| false);
    }

    /// Reads until `has_come`, for at most this time. A frame may have come already, together with one that was
    /// waited for.
    #[track_caller]
    fn read_within(&mut self, time: Duration, has_come: impl Fn(&Self) -> bool) {
        let since = std::time::Instant::now();
        loop {
            while self.take_frame() {}
            let left = time.saturating_sub(since.elapsed());
            if left.is_zero() || has_come(self) {
                break;
            }
            self.tcp().set_read_timeout(Some(left)).expect("not zero");
            if !matches!(self.fill(), Ok(true)) {
                break;
            }
        }
        self.tcp().set_read_timeout(Some(patience())).expect("not zero");
    }

    fn fault(&self) -> Fault {
        match self.goaways.last() {
            Some(goaway) if goaway.code != code::NO_ERROR => Fault::Connection(goaway.code),
            Some(_) | None => Fault::End,
        }
    }

    /// Reads and uses one frame; `false` at the end of the connection, whichever kind.
    #[track_caller]
    pub fn read_frame(&mut self) -> bool {
        loop {
            if self.take_frame() {
                return true;
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if is_timeout(&error) => panic!("nothing came within {:?}", patience()),
                Err(_) => return false,
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        let got = match &mut self.stream {
            Stream::Tcp(tcp) => uninterrupted(|| tcp.read(&mut bytes))?,
            Stream::Tls(tls) => uninterrupted(|| tls.read(&mut bytes))?,
        };
        self.inbox.extend_from_slice(&bytes[..got]);
        Ok(got > 0)
    }

    #[track_caller]
    fn take_frame(&mut self) -> bool {
        let Some((frame, length)) = Frame::parse(&self.inbox) else { return false };
        assert!(frame.payload.len() <= FRAME_BYTES_MAX, "a frame larger than allowed (4.2)");
        self.inbox.drain(..length);
        self.frames += 1;
        assert!(self.frames > 1 || (frame.kind == kind::SETTINGS && !frame.has(flag::ACK)), "not SETTINGS: {frame:?}");
        self.on_frame(frame);
        true
    }

    /// What cannot be sent any more is not: the end is seen by who reads.
    fn reply(&mut self, frame: &Frame) {
        let _ = self.try_send(frame.bytes());
    }

    #[track_caller]
    fn on_frame(&mut self, frame: Frame) {
        if let Some((stream, ..)) = self.block {
            assert!(frame.kind == kind::CONTINUATION && frame.stream == stream, "within a block (6.10): {frame:?}");
        }
        match frame.kind {
            kind::SETTINGS if frame.has(flag::ACK) => self.settings_acks += 1,
            kind::SETTINGS => {
                for (id, value) in frame.parameters() {
                    self.settings.push((id, value));
                    if id == setting::INITIAL_WINDOW_SIZE {
                        let change = i64::from(value) - self.initial_send_window;
                        self.initial_send_window += change;
                        self.send_windows.values_mut().for_each(|window| *window += change);
                    }
                }
                self.reply(&Frame::settings_ack());
            }
            kind::PING if frame.has(flag::ACK) => self.pongs.push(frame.payload.try_into().expect("8 bytes (6.7)")),
            kind::PING => self.reply(&Frame::new(kind::PING, flag::ACK, 0, frame.payload)),
            kind::GOAWAY => self.goaways.push(GoAway {
                last_stream: frame.number(0),
                code: frame.number(4),
                reason: String::from_utf8_lossy(&frame.payload[8..]).into_owned(),
            }),
            kind::WINDOW_UPDATE => {
                let increment = i64::from(frame.number(0));
                assert_ne!(increment, 0, "WINDOW_UPDATE of nothing (6.9)");
                if frame.stream == 0 {
                    self.send_window += increment;
                } else {
                    *self.send_windows.entry(frame.stream).or_default() += increment;
                }
            }
            kind::RST_STREAM => {
                let code = frame.number(0);
                let answer = self.answers.get_mut(&frame.stream).expect("RST_STREAM of a stream that was begun (6.4)");
                if !answer.is_complete {
                    answer.reset = Some(code);
                }
            }
            kind::HEADERS => {
                let content = frame.content().expect("padding that fits (6.2)").to_vec();
                self.block = Some((frame.stream, frame.is_end(), content));
                self.end_block(&frame);
            }
            kind::CONTINUATION => {
                let (_, _, block) = self.block.as_mut().expect("a block that goes on (6.10)");
                block.extend_from_slice(&frame.payload);
                self.end_block(&frame);
            }
            kind::DATA => self.on_data(&frame),
            kind::PUSH_PROMISE => panic!("a push (8.4)"),
            _ => {}
        }
    }

    #[track_caller]
    fn end_block(&mut self, frame: &Frame) {
        if !frame.has(flag::END_HEADERS) {
            return;
        }
        let (stream, is_end, block) = self.block.take().expect("it was begun");
        let fields = self.decoder.decode(&block).expect("a proper block");
        let fields: Vec<(String, String)> = fields.into_iter().map(text_of).collect();
        let answer = self.answers.get_mut(&stream).expect("HEADERS of a stream that was begun");
        assert!(!answer.is_complete, "HEADERS behind END_STREAM: {fields:?}");
        let response = &mut answer.response;
        for (name, value) in &fields {
            assert!(*name == name.to_ascii_lowercase(), "{name}: not in lower case (8.2.1)");
            let is_forbidden = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
            assert!(!is_forbidden.contains(&name.as_str()), "{name}: {value} (8.2.2)");
        }
        if response.status == 0 {
            let (name, status) = &fields[0];
            assert_eq!(name, ":status", "{fields:?}");
            let status = status.parse().expect("a status");
            assert!(fields[1..].iter().all(|(name, _)| !name.starts_with(':')), "{fields:?}");
            if (100..200).contains(&status) {
                assert!(!is_end, "an interim response that ends the stream (8.1)");
                response.interim.push(status);
                return;
            }
            response.status = status;
            response.fields = fields[1..].to_vec();
        } else {
            assert!(is_end, "trailers that do not end the stream (8.1)");
            assert!(fields.iter().all(|(name, _)| !name.starts_with(':')), "{fields:?}");
            response.trailers = fields;
        }
        answer.is_complete = is_end;
    }

    #[track_caller]
    fn on_data(&mut self, frame: &Frame) {
        let flow = frame.payload.len() as i64;
        let answer = self.answers.get_mut(&frame.stream).expect("DATA of a stream that was begun");
        assert!(answer.response.status != 0 && !answer.is_complete, "DATA without a response: {frame:?}");
        answer.response.body.extend_from_slice(frame.content().expect("padding that fits (6.1)"));
        answer.window -= flow;
        self.window -= flow;
        assert!(answer.window >= 0 && self.window >= 0, "beyond a window: {} and {}", answer.window, self.window);
        answer.is_complete = frame.is_end();
        if answer.is_complete
            && let Some(length) = answer.response.field("content-length")
        {
            assert_eq!(length.parse(), Ok(answer.response.body.len()), "content-length (8.1.1)");
        }
        if flow > 0 && !self.is_holding_windows {
            answer.window += flow;
            self.window += flow;
            let increment = u32::try_from(flow).expect("less than a window");
            let stream = if answer.is_complete { None } else { Some(frame.stream) };
            let updates = [Some(0), stream].into_iter().flatten();
            let updates: Vec<u8> = updates.flat_map(|id| Frame::window_update(id, increment).bytes()).collect();
            let _ = self.try_send(updates);
        }
    }
}

fn text_of((name, value): Field) -> (String, String) {
    (String::from_utf8_lossy(&name).into_owned(), String::from_utf8_lossy(&value).into_owned())
}

const WINDOW_BYTES: i64 = 65_535;
const FRAME_BYTES_MAX: usize = 16 << 10;
