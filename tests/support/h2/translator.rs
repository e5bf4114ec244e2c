//! From the HTTP/1.1 text of a test to HTTP/2 and back, as a state machine: bytes in, bytes out.
//!
//! One request at a time: the next one is begun when the one before is answered. What the server may not do (RFC 9113) is an
//! error, which says so and ends the test's connection with a reset.
//!
//! | the server | the test |
//! |---|---|
//! | END_STREAM of a response without a length | the last chunk; of a request of HTTP/1.0, the end |
//! | RST_STREAM(INTERNAL_ERROR) in a response with a length or chunks | an end without the rest |
//! | any other RST_STREAM before the end of a response | a reset |
//! | RST_STREAM behind a complete response | an end: the rest of the body is not wanted |
//! | GOAWAY | an end behind the response, `Connection: close` in it if there is time |
//! | 200 of an extended CONNECT (RFC 8441) | 101 |
//!
//! | the test | the server |
//! |---|---|
//! | `Connection: close`, HTTP/1.0, an end of input | GOAWAY and an end behind the response |
//! | an end of input within a request | RST_STREAM(CANCEL) |
//! | `Upgrade` of a request without a body | an extended CONNECT |

use super::frame::{Frame, HEAD_BYTES, PREFACE, code, flag, kind, setting};
use super::hpack::{self, Decoder, Field};

/// How the test's connection is to end, once what is in `to_test` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// One connection of a test, and one to the server.
#[derive(Debug)]
pub struct Translator {
    scheme: &'static str,
    /// From the test, not used yet.
    pub from_test: Vec<u8>,
    pub to_test: Vec<u8>,
    pub to_server: Vec<u8>,
    /// Nothing is translated any more.
    pub end: Option<End>,
    /// Nothing more than what is in `to_test` comes from the server, which still listens: the half of a tunnel.
    pub is_half_closed: bool,
    from_server: Vec<u8>,
    has_test_ended: bool,
    exchange: Option<Exchange>,
    next_stream: u32,
    decoder: Decoder,
    /// A block that is not complete: its stream, whether it ends that, and its bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    has_goaway: bool,
    has_settings: bool,
    initial_window: i64,
    frame_bytes_max: usize,
    send_window: i64,
    receive_window: i64,
    /// Received and not given back.
    uncredited: usize,
}

#[derive(Debug)]
struct Exchange {
    stream: u32,
    is_head: bool,
    is_http_1_0: bool,
    /// The test wants no further request.
    is_last: bool,
    /// The body is to come after a 100.
    waits_for_go_ahead: bool,
    /// Of an extended CONNECT.
    protocol: Option<String>,
    upload: Upload,
    answer: Answer,
    send_window: i64,
    receive_window: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    Tunnel,
    /// What comes is no longer wanted.
    Discarded,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Awaited,
    Length(u64),
    Chunks,
    UntilClose,
    Bodiless,
    Over,
}

type Step<T = ()> = Result<T, String>;

impl Translator {
    pub fn new(scheme: &'static str) -> Self {
        let settings = Frame::settings(&[(setting::ENABLE_PUSH, 0)]);
        Self {
            scheme,
            from_test: Vec::new(),
            to_test: Vec::new(),
            to_server: [PREFACE, &settings.bytes()].concat(),
            end: None,
            is_half_closed: false,
            from_server: Vec::new(),
            has_test_ended: false,
            exchange: None,
            next_stream: 1,
            decoder: Decoder::default(),
            block: None,
            has_goaway: false,
            has_settings: false,
            initial_window: WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MAX,
            send_window: WINDOW_BYTES,
            receive_window: WINDOW_BYTES,
            uncredited: 0,
        }
    }

    pub fn on_test(&mut self, bytes: &[u8]) {
        self.from_test.extend_from_slice(bytes);
        self.advance();
    }

    /// The test has ended its sending half.
    pub fn on_test_end(&mut self) {
        self.has_test_ended = true;
        self.advance();
    }

    pub fn on_server(&mut self, bytes: &[u8]) {
        self.from_server.extend_from_slice(bytes);
        let outcome = self.take_frames();
        self.note(outcome);
        self.advance();
    }

    /// The server has ended, by a reset or in order.
    pub fn on_server_end(&mut self, is_reset: bool) {
        if self.end.is_none() {
            let is_orderly = !is_reset && self.exchange.is_none() && self.from_server.is_empty();
            self.end = Some(if is_orderly { End::Fin } else { End::Reset });
        }
    }

    /// Gives windows back for what the test has taken: all but what is still in `to_test`.
    pub fn credit(&mut self) {
        let due = self.uncredited.saturating_sub(self.to_test.len());
        if self.end.is_some() || due == 0 || (due < CREDIT_BYTES && !self.to_test.is_empty()) {
            return;
        }
        self.uncredited -= due;
        self.receive_window += due as i64;
        let increment = u32::try_from(due).expect("less than a window");
        self.push(&Frame::window_update(0, increment));
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.answer != Answer::Over) {
            exchange.receive_window += due as i64;
            let stream = exchange.stream;
            self.push(&Frame::window_update(stream, increment));
        }
    }

    fn push(&mut self, frame: &Frame) {
        self.to_server.extend(frame.bytes());
    }

    fn note(&mut self, outcome: Step) {
        if let Err(what) = outcome {
            eprintln!("HTTP/2: {what}");
            self.finish(End::Reset, code::PROTOCOL_ERROR);
        }
    }

    fn finish(&mut self, end: End, code: u32) {
        if self.end.is_none() {
            self.end = Some(end);
            self.push(&Frame::goaway(0, code));
        }
    }

    /// Goes on with what the test has sent; also to be called when `to_server` has shrunk.
    pub fn advance(&mut self) {
        let mut is_moving = true;
        while is_moving && self.end.is_none() {
            let outcome = if self.exchange.is_some() { self.upload() } else { self.begin() };
            is_moving = outcome == Ok(true);
            self.note(outcome.map(|_| ()));
            let is_over = |exchange: &Exchange| exchange.answer == Answer::Over && exchange.upload == Upload::Over;
            if let Some(exchange) = self.exchange.take_if(|exchange| is_over(exchange)) {
                if exchange.is_last || self.has_goaway || exchange.protocol.is_some() {
                    self.finish(End::Fin, code::NO_ERROR);
                }
                is_moving = true;
            }
        }
    }

    /// Begins a request, if its head is there.
    fn begin(&mut self) -> Step<bool> {
        while self.from_test.starts_with(b"\r\n") {
            self.from_test.drain(..2);
        }
        let Some(length) = self.from_test.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            if self.has_test_ended {
                self.finish(End::Fin, code::NO_ERROR);
            }
            return Ok(false);
        };
        if self.has_goaway {
            self.finish(End::Fin, code::NO_ERROR);
            return Ok(false);
        }
        let head: Vec<u8> = self.from_test.drain(..length + 4).collect();
        let request = Request::parse(&head[..length], self.scheme).map_err(|what| {
            format!("{what}, which cannot be translated: {:?}", String::from_utf8_lossy(&head[..length.min(300)]))
        })?;
        let stream = self.next_stream;
        self.next_stream += 2;
        self.push_block(stream, &hpack::encode(request.fields), request.upload == Upload::Over);
        self.exchange = Some(Exchange {
            stream,
            is_head: request.is_head,
            is_http_1_0: request.is_http_1_0,
            is_last: request.is_last,
            waits_for_go_ahead: request.waits_for_go_ahead,
            protocol: request.protocol,
            upload: request.upload,
            answer: Answer::Awaited,
            send_window: self.initial_window,
            receive_window: WINDOW_BYTES,
        });
        Ok(true)
    }

    fn push_block(&mut self, stream: u32, block: &[u8], is_end: bool) {
        let (first, rest) = block.split_at(block.len().min(self.frame_bytes_max));
        let mut head = Frame::headers(stream, first, is_end);
        if !rest.is_empty() {
            head.flags &= !flag::END_HEADERS;
        }
        self.push(&head);
        let parts = rest.chunks(self.frame_bytes_max);
        let count = parts.len();
        for (number, part) in parts.enumerate() {
            self.push(&Frame::continuation(stream, part, number + 1 == count));
        }
    }

    /// Sends what can be sent of the request's body. Whether something has changed.
    fn upload(&mut self) -> Step<bool> {
        let exchange = self.exchange.as_mut().expect("asked by who knows it");
        match exchange.upload {
            Upload::Over => Ok(false),
            Upload::Discarded => {
                self.from_test.clear();
                Ok(false)
            }
            Upload::Tunnel if self.has_test_ended && self.from_test.is_empty() => self.end_upload(None),
            Upload::Tunnel if exchange.answer == Answer::Awaited => Ok(false),
            _ if self.has_test_ended && self.from_test.is_empty() => self.cancel(),
            Upload::Tunnel => Ok(self.send(usize::MAX, false) > 0),
            Upload::Length(left) => {
                let sent = self.send(left, true);
                self.set_upload(if sent == left { Upload::Over } else { Upload::Length(left - sent) });
                Ok(sent > 0)
            }
            Upload::Chunk(left) => {
                let sent = self.send(left, false);
                self.set_upload(if sent == left { Upload::ChunkEnd } else { Upload::Chunk(left - sent) });
                Ok(sent > 0)
            }
            Upload::ChunkSize | Upload::ChunkEnd => {
                let Some(line) = self.take_line() else { return self.wait() };
                let line = String::from_utf8_lossy(&line).into_owned();
                self.set_upload(match chunk_size(&line) {
                    _ if self.upload_state() == Upload::ChunkEnd && line.is_empty() => Upload::ChunkSize,
                    Some(0) => Upload::Trailers,
                    Some(size) => Upload::Chunk(size),
                    None => return Err(format!("no size of a chunk, which cannot be translated: {line:?}")),
                });
                Ok(true)
            }
            Upload::Trailers => {
                if self.from_test.starts_with(b"\r\n") {
                    self.from_test.drain(..2);
                    return self.end_upload(None);
                }
                let Some(length) = self.from_test.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                    return self.wait();
                };
                let lines: Vec<u8> = self.from_test.drain(..length + 4).take(length).collect();
                self.end_upload(Some(field_lines(&lines)?))
            }
        }
    }

    /// For the rest of a line, which may never come.
    fn wait(&mut self) -> Step<bool> {
        if self.has_test_ended { self.cancel() } else { Ok(false) }
    }

    /// The test has ended within its request.
    fn cancel(&mut self) -> Step<bool> {
        let stream = self.exchange.as_ref().map_or(0, |exchange| exchange.stream);
        self.push(&Frame::reset(stream, code::CANCEL));
        self.finish(End::Fin, code::NO_ERROR);
        Ok(false)
    }

    fn upload_state(&self) -> Upload {
        self.exchange.as_ref().map_or(Upload::Over, |exchange| exchange.upload)
    }

    fn set_upload(&mut self, upload: Upload) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upload = upload;
        }
    }

    fn end_upload(&mut self, trailers: Option<Vec<Field>>) -> Step<bool> {
        let stream = self.exchange.as_ref().map_or(0, |exchange| exchange.stream);
        match trailers {
            None => self.push(&Frame::data(stream, [], true)),
            Some(trailers) => self.push_block(stream, &hpack::encode(trailers), true),
        }
        self.set_upload(Upload::Over);
        Ok(true)
    }

    /// Sends as much of so many bytes of the body as there is and may be sent; returns how many.
    fn send(&mut self, left: usize, is_last: bool) -> usize {
        let Some(exchange) = &mut self.exchange else { return 0 };
        let window = usize::try_from(exchange.send_window.min(self.send_window)).unwrap_or(0);
        let room = HELD_BYTES_MAX.saturating_sub(self.to_server.len());
        let now = left.min(self.from_test.len()).min(window).min(self.frame_bytes_max).min(room);
        if now > 0 {
            exchange.send_window -= now as i64;
            self.send_window -= now as i64;
            exchange.waits_for_go_ahead = false;
            let stream = exchange.stream;
            let bytes: Vec<u8> = self.from_test.drain(..now).collect();
            self.push(&Frame::data(stream, bytes, is_last && now == left));
        }
        now
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let at = self.from_test.windows(2).position(|bytes| bytes == b"\r\n")?;
        Some(self.from_test.drain(..at + 2).take(at).collect())
    }

    fn take_frames(&mut self) -> Step {
        let mut frames = Vec::new();
        let mut used = 0;
        while let Some((frame, length)) = Frame::parse(&self.from_server[used..]) {
            frames.push(frame);
            used += length;
        }
        self.from_server.drain(..used);
        if self.from_server.len() > HEAD_BYTES + FRAME_BYTES_MAX {
            return Err("a frame larger than allowed (4.2)".to_owned());
        }
        // A response that came together with it can then say that it is the last one.
        self.has_goaway |= frames.iter().any(|frame| frame.kind == kind::GOAWAY);
        frames.into_iter().try_for_each(|frame| if self.end.is_some() { Ok(()) } else { self.on_frame(frame) })
    }

    fn on_frame(&mut self, frame: Frame) -> Step {
        let what = |rule: &str| Err(format!("{rule}: {frame:?}"));
        if !std::mem::replace(&mut self.has_settings, true) && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return what("the first frame is not SETTINGS (3.4)");
        }
        if let Some((stream, ..)) = self.block
            && (frame.kind != kind::CONTINUATION || frame.stream != stream)
        {
            return what("a frame within a block (6.10)");
        }
        match frame.kind {
            kind::SETTINGS if frame.has(flag::ACK) => {}
            kind::SETTINGS => {
                for (id, value) in frame.parameters() {
                    match id {
                        setting::INITIAL_WINDOW_SIZE => {
                            let change = i64::from(value) - self.initial_window;
                            self.initial_window += change;
                            if let Some(exchange) = &mut self.exchange {
                                exchange.send_window += change;
                            }
                        }
                        setting::MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
                        _ => {}
                    }
                }
                self.push(&Frame::settings_ack());
            }
            kind::PING if frame.has(flag::ACK) => {}
            kind::PING => self.push(&Frame::new(kind::PING, flag::ACK, 0, frame.payload)),
            kind::WINDOW_UPDATE => {
                let increment = i64::from(frame.number(0));
                if increment == 0 {
                    return what("WINDOW_UPDATE of nothing (6.9)");
                }
                match &mut self.exchange {
                    _ if frame.stream == 0 => self.send_window += increment,
                    Some(exchange) if exchange.stream == frame.stream => exchange.send_window += increment,
                    _ => {}
                }
            }
            kind::GOAWAY if frame.number(4) != code::NO_ERROR => {
                let reason = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
                return Err(format!("GOAWAY with error {}: {reason}", frame.number(4)));
            }
            kind::GOAWAY => {}
            kind::RST_STREAM => self.on_reset(frame.stream, frame.number(0))?,
            kind::HEADERS => {
                let Some(content) = frame.content() else { return what("padding (6.2)") };
                self.block = Some((frame.stream, frame.is_end(), content.to_vec()));
                if frame.has(flag::END_HEADERS) {
                    self.on_block()?;
                }
            }
            kind::CONTINUATION => {
                let Some((_, _, block)) = &mut self.block else { return what("CONTINUATION of nothing (6.10)") };
                block.extend_from_slice(&frame.payload);
                if frame.has(flag::END_HEADERS) {
                    self.on_block()?;
                }
            }
            kind::DATA => self.on_data(&frame)?,
            kind::PUSH_PROMISE => return what("PUSH_PROMISE, which is switched off (8.4)"),
            _ => {}
        }
        Ok(())
    }

    fn on_reset(&mut self, stream: u32, code: u32) -> Step {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.stream == stream) else { return Ok(()) };
        match exchange.answer {
            Answer::Over => {
                exchange.upload = Upload::Discarded;
                self.finish(End::Fin, code::NO_ERROR);
            }
            Answer::Awaited => return Err(format!("RST_STREAM with error {code} instead of a response")),
            Answer::Length(_) | Answer::Chunks if code == code::INTERNAL_ERROR && exchange.protocol.is_none() => {
                self.finish(End::Fin, code::NO_ERROR);
            }
            Answer::Length(_) | Answer::Chunks | Answer::UntilClose | Answer::Bodiless => {
                self.finish(End::Reset, code::NO_ERROR);
            }
        }
        Ok(())
    }

    fn on_data(&mut self, frame: &Frame) -> Step {
        let what = |rule: &str| Err(format!("{rule}: DATA of {} bytes, {:?}", frame.payload.len(), frame.stream));
        let flow = frame.payload.len() as i64;
        self.receive_window -= flow;
        self.uncredited += frame.payload.len();
        if self.receive_window < 0 {
            return what("beyond the connection's window (6.9.1)");
        }
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.stream == frame.stream) else {
            return what("DATA of a stream that is not open (6.1)");
        };
        exchange.receive_window -= flow;
        if exchange.receive_window < 0 {
            return what("beyond the stream's window (6.9.1)");
        }
        let Some(bytes) = frame.content() else { return what("padding (6.1)") };
        match &mut exchange.answer {
            Answer::Length(left) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => *left = rest,
                None => return what("more than content-length says (8.1.1)"),
            },
            Answer::Chunks if !bytes.is_empty() => {
                self.to_test.extend(format!("{:x}\r\n", bytes.len()).as_bytes());
            }
            Answer::Chunks | Answer::UntilClose => {}
            Answer::Bodiless if bytes.is_empty() => {}
            Answer::Awaited | Answer::Bodiless | Answer::Over => return what("no body may come (8.1)"),
        }
        let is_chunked = exchange.answer == Answer::Chunks && !bytes.is_empty();
        self.to_test.extend_from_slice(bytes);
        if is_chunked {
            self.to_test.extend_from_slice(b"\r\n");
        }
        if frame.is_end() { self.end_answer(&[]) } else { Ok(()) }
    }

    fn end_answer(&mut self, trailers: &[Field]) -> Step {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        match exchange.answer {
            Answer::Length(left) if left > 0 => {
                return Err(format!("END_STREAM {left} bytes before content-length says"));
            }
            Answer::Chunks => {
                self.to_test.extend_from_slice(b"0\r\n");
                push_lines(&mut self.to_test, trailers);
                self.to_test.extend_from_slice(b"\r\n");
            }
            Answer::UntilClose => exchange.is_last = true,
            Answer::Awaited | Answer::Length(_) | Answer::Bodiless | Answer::Over => {}
        }
        exchange.answer = Answer::Over;
        self.is_half_closed = exchange.protocol.is_some() && exchange.upload == Upload::Tunnel;
        if exchange.waits_for_go_ahead && exchange.upload != Upload::Over {
            self.finish(End::Fin, code::NO_ERROR);
        }
        Ok(())
    }

    fn on_block(&mut self) -> Step {
        let Some((stream, is_end, block)) = self.block.take() else { return Ok(()) };
        let fields = self.decoder.decode(&block).map_err(|what| format!("a block: {what}"))?;
        check_fields(&fields)?;
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.stream == stream) else {
            return Err(format!("HEADERS of stream {stream}, which is not open"));
        };
        if exchange.answer != Answer::Awaited {
            if !is_end || fields.iter().any(|(name, _)| name.starts_with(b":")) {
                return Err(format!("no trailers (8.1): {}", text_of(&fields)));
            }
            return self.end_answer(&fields);
        }
        let [(name, status), rest @ ..] = &fields[..] else { return Err("a response without a field".to_owned()) };
        let status = std::str::from_utf8(status).ok().and_then(|status| status.parse::<u16>().ok());
        let Some(status @ 100..=999) = status.filter(|_| name == b":status") else {
            return Err(format!("no :status (8.3.2): {}", text_of(&fields)));
        };
        if let 100..200 = status {
            if is_end || status == 101 {
                return Err(format!("{status} that ends the stream, or 101 (8.1, 8.6)"));
            }
            exchange.waits_for_go_ahead &= status != 100;
            self.to_test.extend(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
            push_lines(&mut self.to_test, rest);
            self.to_test.extend_from_slice(b"\r\n");
            return Ok(());
        }
        self.on_response(status, rest, is_end)
    }

    fn on_response(&mut self, status: u16, fields: &[Field], is_end: bool) -> Step {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        let is_switch = status == 200 && exchange.protocol.is_some();
        let length = fields.iter().find(|(name, _)| name == b"content-length");
        let length = length.map(|(_, value)| String::from_utf8_lossy(value).parse::<u64>());
        let length = length.transpose().map_err(|error| format!("content-length: {error}"))?;
        let is_bodiless = exchange.is_head || matches!(status, 204 | 304);
        exchange.answer = match length {
            _ if is_bodiless => Answer::Bodiless,
            _ if is_switch => Answer::UntilClose,
            Some(length) => Answer::Length(length),
            None if is_end && exchange.is_http_1_0 => Answer::UntilClose,
            None if is_end => Answer::Length(0),
            None if exchange.is_http_1_0 => Answer::UntilClose,
            None => Answer::Chunks,
        };
        exchange.is_last |= exchange.answer == Answer::UntilClose;
        if exchange.protocol.is_some() && !is_switch {
            exchange.upload = Upload::Discarded;
            exchange.is_last = true;
        }
        let mut lines = match (&exchange.protocol, exchange.answer) {
            (Some(protocol), _) if is_switch => format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n"),
            (_, Answer::Chunks) => "Transfer-Encoding: chunked\r\n".to_owned(),
            (_, Answer::Length(_)) if length.is_none() => "Content-Length: 0\r\n".to_owned(),
            _ => String::new(),
        };
        let is_last = exchange.is_last || self.has_goaway || exchange.waits_for_go_ahead;
        if is_last && !is_switch {
            lines.push_str("Connection: close\r\n");
        }
        let status = if is_switch { 101 } else { status };
        self.to_test.extend(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
        push_lines(&mut self.to_test, fields);
        self.to_test.extend_from_slice(lines.as_bytes());
        self.to_test.extend_from_slice(b"\r\n");
        if is_end { self.end_answer(&[]) } else { Ok(()) }
    }
}

/// A request's head in HTTP/2, and what its text says of the connection.
struct Request {
    fields: Vec<Field>,
    is_head: bool,
    is_http_1_0: bool,
    is_last: bool,
    waits_for_go_ahead: bool,
    protocol: Option<String>,
    upload: Upload,
}

impl Request {
    /// The head without its last line's end.
    fn parse(head: &[u8], scheme: &str) -> Step<Self> {
        let length = head.windows(2).position(|bytes| bytes == b"\r\n").unwrap_or(head.len());
        // One character a byte, and back where they are sent.
        let line: String = head[..length].iter().map(|byte| char::from(*byte)).collect();
        let parts = line.split_once(' ').and_then(|(method, rest)| Some((method, rest.rsplit_once(' ')?)));
        let Some((method, (target, version))) = parts else { return Err("no request line".to_owned()) };
        let lines = head.get(length + 2..).unwrap_or_default();
        let fields = field_lines(lines)?;
        let value = |name: &str| {
            let values = fields.iter().filter(|(field, _)| field == name.as_bytes());
            let values: Vec<String> =
                values.map(|(_, value)| value.iter().map(|byte| char::from(*byte)).collect()).collect();
            Some(values.join(",")).filter(|_| !values.is_empty())
        };
        let has = |name: &str, word: &str| {
            let value = value(name).unwrap_or_default().to_ascii_lowercase();
            value.split(',').any(|part| part.trim() == word)
        };
        let is_http_1_0 = version == "HTTP/1.0";
        let protocol = value("upgrade").filter(|_| has("connection", "upgrade") && method == "GET");
        let is_chunked = value("transfer-encoding").is_some();
        let upload = match value("content-length") {
            _ if protocol.is_some() => Upload::Tunnel,
            _ if is_chunked => Upload::ChunkSize,
            None => Upload::Over,
            Some(length) => match length.parse().map_err(|_| "no length")? {
                0 => Upload::Over,
                length => Upload::Length(length),
            },
        };
        let (authority, path) = match target.split_once("://") {
            Some((_, rest)) => {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                (Some(rest[..at].to_owned()), rest[at..].to_owned())
            }
            None => (value("host"), target.to_owned()),
        };
        let path = match (method, path.as_str()) {
            // The whole server (8.3.1).
            ("OPTIONS", "") => "*".to_owned(),
            (_, path) if path.starts_with('?') || path.is_empty() => format!("/{path}"),
            _ => path,
        };
        let mut pseudo = vec![(":method", if protocol.is_some() { "CONNECT" } else { method }.to_owned())];
        if method == "CONNECT" {
            pseudo.push((":authority", target.to_owned()));
        } else {
            pseudo.extend([(":scheme", scheme.to_owned()), (":path", path)]);
            pseudo.extend(authority.map(|authority| (":authority", authority)));
        }
        pseudo.extend(protocol.clone().map(|protocol| (":protocol", protocol)));
        let named = value("connection").unwrap_or_default().to_ascii_lowercase();
        let is_dropped = |name: &str| {
            matches!(name, "host" | "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade")
                || named.split(',').any(|word| word.trim() == name)
                || (protocol.is_some() && name == "sec-websocket-key")
        };
        let mut block: Vec<Field> =
            pseudo.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), bytes_of(&value))).collect();
        for (name, value) in &fields {
            match &*String::from_utf8_lossy(name) {
                "te" => {
                    if has("te", "trailers") {
                        block.push((name.clone(), b"trailers".to_vec()));
                    }
                }
                // In pieces, as browsers send it (8.2.3).
                "cookie" => {
                    let value = String::from_utf8_lossy(value).into_owned();
                    block.extend(value.split("; ").map(|crumb| (name.clone(), crumb.as_bytes().to_vec())));
                }
                name if is_dropped(name) => {}
                _ => block.push((name.clone(), value.clone())),
            }
        }
        Ok(Self {
            fields: block,
            is_head: method == "HEAD",
            is_http_1_0,
            is_last: has("connection", "close") || (is_http_1_0 && !has("connection", "keep-alive")),
            waits_for_go_ahead: has("expect", "100-continue") && upload != Upload::Over,
            protocol,
            upload,
        })
    }
}

/// The bytes of characters that were made of one each.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(character).expect("it was a byte")).collect()
}

/// Lines of fields, with their names in lower case.
fn field_lines(lines: &[u8]) -> Step<Vec<Field>> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Err("no colon".to_owned()) };
        let is_token = |byte: &u8| byte.is_ascii_graphic();
        if !line[..colon].iter().all(is_token) || colon == 0 {
            return Err("no name".to_owned());
        }
        fields.push((line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec()));
    }
    Ok(fields)
}

/// What no response may have (8.2).
fn check_fields(fields: &[Field]) -> Step {
    let mut has_regular = false;
    for (name, value) in fields {
        let is_pseudo = name.starts_with(b":");
        let is_malformed = name.is_empty()
            || name.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii_graphic())
            || value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
            || value.trim_ascii() != value
            || (is_pseudo && has_regular)
            || FORBIDDEN.iter().any(|forbidden| name == forbidden.as_bytes());
        has_regular |= !is_pseudo;
        if is_malformed {
            return Err(format!("a malformed response (8.2): {}", text_of(fields)));
        }
    }
    Ok(())
}

const FORBIDDEN: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

fn push_lines(text: &mut Vec<u8>, fields: &[Field]) {
    for (name, value) in fields {
        text.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
}

fn text_of(fields: &[Field]) -> String {
    let mut text = Vec::new();
    push_lines(&mut text, fields);
    format!("{:?}", String::from_utf8_lossy(&text))
}

fn chunk_size(line: &str) -> Option<usize> {
    usize::from_str_radix(line.split(';').next()?.trim_end(), 16).ok()
}

/// HTTP/2 has none.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        404 => "Not Found",
        _ => "-",
    }
}

const WINDOW_BYTES: i64 = 65_535;
const FRAME_BYTES_MAX: usize = 16 << 10;

/// Windows are given back in pieces of this size while the test takes what comes.
const CREDIT_BYTES: usize = 16 << 10;

/// What waits for the server's socket.
pub const HELD_BYTES_MAX: usize = 64 << 10;
