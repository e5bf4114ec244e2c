//! A client of HTTP/2 that keeps an exact model of its connection: windows, states of streams, both tables of HPACK.
//! What the server must not do is an alarm in its record.

pub mod abuse;

use std::collections::VecDeque;
use std::rc::Rc;

use xps::internals::driver::sim::{Converse, Move, Rng, Step};

use super::frame::{self, BlockCut, Frame, WINDOW, WINDOW_MAX};
use super::habit::{Habit, Pace, Rude, Updates};
use super::record::{Extra, Log, Place, Record, Stream, checked};
use super::{Call, hpack};

/// A move that has so much to send ends there.
const MOVE_BYTES: usize = 32 << 10;

/// What settings change to.
const SETTINGS_VALUES: [u32; 5] = [0, 100, 5_000, 65_535, 1 << 20];

#[derive(Clone, Debug)]
pub struct H2Client {
    habit: Habit,
    calls: Rc<[Call]>,
    log: Log,
    /// Of the next call.
    next: usize,
    next_id: u32,
    encoder: hpack::Encoder,
    decoder: hpack::Decoder,
    /// Of the connection: what the server may send, and what it lets the client send.
    window: i64,
    send_window: i64,
    server: Server,
    /// What the server has acknowledged.
    initial_window: i64,
    frame_bytes_max: usize,
    /// Settings and pings that wait for an acknowledgement.
    pending: VecDeque<Vec<(u16, u32)>>,
    pings: VecDeque<Vec<u8>>,
    /// A header block of which more has to come: its stream, whether that ends with it, and what has come.
    block: Option<(u32, bool, Vec<u8>)>,
    /// Acknowledgements to send.
    replies: Vec<u8>,
    moves: usize,
    state: State,
    /// What it asks on streams that it misuses.
    spare: Rc<[Call]>,
    resets_on_answer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is sent yet.
    Fresh,
    /// The server's settings have to come.
    Greeted,
    Open,
    /// It has sent its last, and only looks at what comes.
    Leaving,
    /// The same, and the server has to end the connection.
    Doomed,
    /// It looks at nothing more.
    Over,
}

/// What the server has said of itself.
#[derive(Clone, Copy, Debug)]
struct Server {
    initial_window: i64,
    frame_bytes_max: usize,
    streams_max: usize,
}

impl H2Client {
    pub fn new(habit: Habit, calls: Vec<Call>, log: Log) -> Self {
        Self {
            habit,
            calls: calls.into(),
            log,
            next: 0,
            next_id: 1,
            encoder: hpack::Encoder::new(),
            decoder: hpack::Decoder::new(),
            window: WINDOW,
            send_window: WINDOW,
            server: Server { initial_window: WINDOW, frame_bytes_max: frame::FRAME_BYTES_MAX, streams_max: usize::MAX },
            initial_window: WINDOW,
            frame_bytes_max: frame::FRAME_BYTES_MAX,
            pending: VecDeque::new(),
            pings: VecDeque::new(),
            block: None,
            replies: Vec::new(),
            moves: 0,
            state: State::Fresh,
            spare: Rc::new([]),
            resets_on_answer: false,
        }
    }

    pub fn with_spare(self, spare: [Call; 3]) -> Self {
        Self { spare: Rc::new(spare), ..self }
    }

    fn greet(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        out.extend_from_slice(frame::PREFACE);
        let mut settings = vec![
            (frame::INITIAL_WINDOW_SIZE, self.habit.initial_window),
            (frame::MAX_FRAME_SIZE, self.habit.frame_bytes_max as u32),
            (frame::HEADER_TABLE_SIZE, self.habit.table_bytes as u32),
        ];
        // What has its default need not be said.
        if self.habit.initial_window == WINDOW as u32 && rng.coin() {
            settings.remove(0);
        }
        if rng.coin() {
            settings.push((frame::ENABLE_PUSH, 0));
        }
        self.push_settings(out, settings);
        self.state = State::Greeted;
    }

    fn push_settings(&mut self, out: &mut Vec<u8>, settings: Vec<(u16, u32)>) {
        frame::push_settings(out, &settings);
        self.pending.push_back(settings);
        self.log.borrow_mut().counts.settings += 1;
    }

    /// Looks at the frames that have come. Returns how many bytes they are.
    fn read(&mut self, unread: &[u8], rng: &mut Rng) -> Result<usize, String> {
        let mut taken = 0;
        for _ in 0..rng.range(1, 8) {
            let Some(frame) = Frame::read(&unread[taken..], self.frame_bytes_max)? else { break };
            let about = |what| format!("a frame {}/{:#x} of stream {}: {what}", frame.kind, frame.flags, frame.stream);
            self.on_frame(&frame).map_err(about)?;
            taken += frame.length();
        }
        Ok(taken)
    }

    fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if self.block.is_some() != (frame.kind == frame::CONTINUATION) {
            return Err("a header block is open, or it is not".to_owned());
        }
        if self.state == State::Greeted {
            if frame.kind != frame::SETTINGS || frame.has(frame::ACK) {
                return Err("it comes before the server's settings".to_owned());
            }
            self.state = State::Open;
        }
        let is_of_stream = match frame.kind {
            frame::DATA | frame::HEADERS | frame::CONTINUATION | frame::RST_STREAM => Some(true),
            frame::SETTINGS | frame::PING | frame::GOAWAY => Some(false),
            _ => None,
        };
        if is_of_stream.is_some_and(|is_of_stream| is_of_stream == (frame.stream == 0)) {
            return Err("it has no place there".to_owned());
        }
        match frame.kind {
            frame::DATA => self.on_data(frame),
            frame::HEADERS => {
                self.block = Some((frame.stream, frame.has(frame::END_STREAM), Vec::new()));
                self.on_fragment(frame)
            }
            frame::CONTINUATION => self.on_fragment(frame),
            frame::RST_STREAM => self.on_reset(frame.stream, frame.number()?),
            frame::SETTINGS => self.on_settings(frame),
            frame::PUSH_PROMISE | frame::PRIORITY | frame::PRIORITY_UPDATE => Err("no server sends it".to_owned()),
            frame::PING => self.on_ping(frame),
            frame::GOAWAY => self.on_goaway(frame.payload),
            frame::WINDOW_UPDATE => self.on_window_update(frame.stream, i64::from(frame.number()?)),
            _ => Ok(()),
        }
    }

    fn on_data(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let flow = frame.payload.len() as i64;
        self.window -= flow;
        if self.window < 0 {
            return Err(format!("{flow} bytes overrun the connection's window by {}", -self.window));
        }
        let mut record = self.log.borrow_mut();
        let record = &mut *record;
        record.counts.used_up += u64::from(self.window == 0 && flow > 0);
        let is_end = frame.has(frame::END_STREAM);
        let Some(stream) = find(record, frame.stream, is_end)? else { return Ok(()) };
        stream.window -= flow;
        if stream.window < 0 && flow > 0 {
            return Err(format!("{flow} bytes overrun the stream's window by {}", -stream.window));
        }
        let is_used_up = stream.window == 0 && flow > 0;
        stream.on_data(frame.content()?, is_end)?;
        let is_tunnel = stream.is_tunnel && stream.has_sent_all;
        record.counts.used_up += u64::from(is_used_up);
        record.counts.tunnels += u64::from(is_end && is_tunnel);
        record.counts.answered += u64::from(is_end);
        Ok(())
    }

    fn on_fragment(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let Some((stream, is_end, mut block)) = self.block.take() else { return Ok(()) };
        if stream != frame.stream {
            return Err(format!("the header block of {stream} is open"));
        }
        block.extend_from_slice(if frame.kind == frame::HEADERS { frame.content()? } else { frame.payload });
        if !frame.has(frame::END_HEADERS) {
            self.block = Some((stream, is_end, block));
            return Ok(());
        }
        let fields = checked(self.decoder.decode(&block)?)?;
        let mut record = self.log.borrow_mut();
        let record = &mut *record;
        let Some(stream) = find(record, stream, is_end)? else { return Ok(()) };
        let is_interim = stream.on_fields(fields, is_end)?;
        record.counts.interim += u64::from(is_interim);
        record.counts.answered += u64::from(is_end);
        Ok(())
    }

    fn on_reset(&mut self, id: u32, code: u32) -> Result<(), String> {
        let mut record = self.log.borrow_mut();
        let record = &mut *record;
        if let Some(extra) = record.extras.iter_mut().find(|extra| extra.id == id) {
            extra.resets.push(code);
            record.counts.chastised += u64::from(extra.must == Some(code));
            let is_allowed = extra.allowed.contains(&code);
            return if is_allowed { Ok(()) } else { Err(format!("code {code}, which is none of {:?}", extra.allowed)) };
        }
        // It may end an upload whose answer is complete.
        if let Some(stream) = record.streams.iter_mut().find(|stream| stream.id == id)
            && stream.has_ended
            && !stream.gave_up
            && stream.reset.is_none()
        {
            stream.reset = Some(code);
            let is_allowed = stream.has_body && code == frame::NO_ERROR;
            return if is_allowed { Ok(()) } else { Err(format!("code {code}, after the whole answer")) };
        }
        let Some(stream) = find(record, id, false)? else { return Ok(()) };
        stream.reset = Some(code);
        record.counts.reset += 1;
        if code == frame::NO_ERROR { Err("no error, and no whole answer".to_owned()) } else { Ok(()) }
    }

    fn on_settings(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if frame.has(frame::ACK) {
            let settings = self.pending.pop_front().ok_or("an acknowledgement of nothing")?;
            if !frame.payload.is_empty() {
                return Err("an acknowledgement that says more".to_owned());
            }
            settings.into_iter().for_each(|(name, value)| self.apply(name, value));
            return Ok(());
        }
        for (name, value) in frame.settings()? {
            let is_valid = match name {
                frame::HEADER_TABLE_SIZE => {
                    self.encoder.set_limit(value as usize);
                    true
                }
                frame::ENABLE_PUSH => value == 0,
                frame::MAX_CONCURRENT_STREAMS => {
                    self.server.streams_max = value as usize;
                    true
                }
                frame::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.server.initial_window;
                    self.server.initial_window = i64::from(value);
                    let mut record = self.log.borrow_mut();
                    record.streams.iter_mut().try_for_each(|stream| stream.on_window_update(change))?;
                    i64::from(value) <= WINDOW_MAX
                }
                frame::MAX_FRAME_SIZE => {
                    self.server.frame_bytes_max = value as usize;
                    (1 << 14..1 << 24).contains(&value)
                }
                _ => true,
            };
            if !is_valid {
                return Err(format!("setting {name} is {value}"));
            }
        }
        frame::push(&mut self.replies, frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    /// The server has acknowledged it: what it sends from here on follows it.
    fn apply(&mut self, name: u16, value: u32) {
        match name {
            frame::HEADER_TABLE_SIZE => self.decoder.set_limit(value as usize),
            frame::MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
            frame::INITIAL_WINDOW_SIZE => {
                let change = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                self.log.borrow_mut().streams.iter_mut().for_each(|stream| stream.window += change);
            }
            _ => {}
        }
    }

    fn on_ping(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if frame.payload.len() != 8 {
            return Err(format!("a ping of {} bytes", frame.payload.len()));
        }
        if !frame.has(frame::ACK) {
            frame::push(&mut self.replies, frame::PING, frame::ACK, 0, frame.payload);
            return Ok(());
        }
        self.log.borrow_mut().counts.pings += 1;
        match self.pings.pop_front() {
            Some(sent) if sent == frame.payload => Ok(()),
            sent => Err(format!("it answers {:?}, not {sent:?}", frame.payload)),
        }
    }

    fn on_goaway(&mut self, payload: &[u8]) -> Result<(), String> {
        let (last, code) = match payload {
            [a, b, c, d, e, f, g, h, ..] => {
                (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))
            }
            _ => return Err(format!("{} bytes", payload.len())),
        };
        let mut record = self.log.borrow_mut();
        record.counts.goaways += 1;
        record.counts.dismissed += u64::from(record.abuse.is_some_and(|abuse| abuse.end() == Some(code)));
        record.extras.iter_mut().filter(|extra| extra.id > last).for_each(|extra| extra.is_gone = true);
        if let Some((before, _)) = record.goaway.replace((last, code))
            && before < last
        {
            return Err(format!("the last stream was {before} and is {last}"));
        }
        for stream in record.streams.iter_mut().filter(|stream| stream.id > last) {
            if stream.status.is_some() {
                return Err(format!("stream {} is not looked at, and was answered", stream.id));
            }
            stream.is_gone = true;
        }
        Ok(())
    }

    fn on_window_update(&mut self, id: u32, increment: i64) -> Result<(), String> {
        if increment == 0 {
            return Err("an increment of 0".to_owned());
        }
        if id == 0 {
            self.send_window += increment;
            return if self.send_window > WINDOW_MAX { Err("its window overflows".to_owned()) } else { Ok(()) };
        }
        let mut record = self.log.borrow_mut();
        if record.extras.iter().any(|extra| extra.id == id) {
            return Ok(());
        }
        let stream = record.streams.iter_mut().find(|stream| stream.id == id).ok_or("an idle stream")?;
        if stream.reset.is_some() || stream.is_gone {
            return Err("nothing more can come on it".to_owned());
        }
        stream.on_window_update(increment)
    }

    /// Opens windows again. Returns what is sent later.
    fn open_windows(&mut self, out: &mut Vec<u8>, rng: &mut Rng) -> Vec<u8> {
        let mut updates = Vec::new();
        let (habit, log) = (&mut self.habit, Rc::clone(&self.log));
        let mut record = log.borrow_mut();
        let streams = record.streams.iter_mut().filter(|stream| !stream.is_finished() && !stream.has_ended);
        let targets = streams.map(|stream| (stream.id, &mut stream.window, habit.stream_target));
        for (id, window, target) in targets.chain([(0, &mut self.window, habit.connection_target)]) {
            let missing = target - *window;
            let is_due = match habit.updates {
                Updates::Eager => missing > 0,
                Updates::Half => *window <= target / 2,
                Updates::Empty | Updates::Late(_) | Updates::Small | Updates::Bytes => *window <= 0,
                Updates::Never => false,
            };
            if !is_due {
                continue;
            }
            let mut increment = missing.min(WINDOW_MAX);
            if habit.updates == Updates::Small && habit.budget.small_updates > 0 {
                habit.budget.small_updates -= 1;
                increment = 1 + rng.below(increment as u64 / 4) as i64;
            }
            if habit.updates == Updates::Bytes && habit.budget.small_updates > 0 {
                habit.budget.small_updates -= 1;
                // From below 0, too.
                increment = increment.min(1 + rng.below(2) as i64);
            }
            *window += increment;
            frame::push_number(&mut updates, frame::WINDOW_UPDATE, id, increment as u32);
        }
        if !matches!(self.habit.updates, Updates::Late(_)) {
            out.append(&mut updates);
        }
        updates
    }

    /// Frames that change nothing of what is asked.
    fn chatter(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        let wants = |budget: &mut u32, rng: &mut Rng| {
            let wants = *budget > 0 && rng.below(4) == 0;
            *budget -= u32::from(wants);
            wants
        };
        let budget = &mut self.habit.budget;
        let [pings, unknown] = [&mut budget.pings, &mut budget.unknown].map(|budget| wants(budget, rng));
        let [settings, priorities] = [&mut budget.settings, &mut budget.priorities].map(|budget| wants(budget, rng));
        if pings {
            let data = rng.bytes(8);
            frame::push(out, frame::PING, 0, 0, &data);
            self.pings.push_back(data);
        }
        if unknown {
            let (length, flags) = (rng.below(300) as usize, rng.below(256) as u8);
            let stream = if rng.coin() { 0 } else { self.next_id };
            frame::push(out, 0xfa, flags, stream, &rng.bytes(length));
        }
        if priorities {
            let id = self.next_id + 2 * rng.below(3) as u32;
            frame::push(out, frame::PRIORITY, 0, id, &frame::priority(id, rng));
            let update = [&self.next_id.to_be_bytes()[..], b"u=1, i"].concat();
            frame::push(out, frame::PRIORITY_UPDATE, 0, 0, &update);
        }
        if settings {
            let value = SETTINGS_VALUES[rng.below(SETTINGS_VALUES.len() as u64) as usize];
            let changes = match rng.below(5) {
                0..2 => vec![(frame::INITIAL_WINDOW_SIZE, value)],
                2 => vec![(frame::HEADER_TABLE_SIZE, value), (0xfafa, value)],
                3 => vec![(frame::MAX_FRAME_SIZE, (value).max(1 << 14)), (frame::INITIAL_WINDOW_SIZE, value / 2)],
                _ => vec![],
            };
            self.push_settings(out, changes);
        }
    }

    /// Asks as much at once as both sides allow.
    fn ask(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        let log = Rc::clone(&self.log);
        let mut record = log.borrow_mut();
        if self.habit.waits_for_settings && self.state != State::Open || record.goaway.is_some() {
            return;
        }
        let most = self.habit.streams_at_once.min(self.server.streams_max);
        while let Some(call) = self.calls.get(self.next)
            && out.len() < MOVE_BYTES
        {
            let extras = record.extras.iter().filter(|extra| !extra.is_over()).count();
            let open = extras + record.streams.iter().filter(|stream| !stream.is_finished()).count();
            if open >= most {
                break;
            }
            record.counts.streams += 1;
            record.counts.most_at_once = record.counts.most_at_once.max(open as u64 + 1);
            let id = self.next_id;
            self.next += 1;
            self.next_id += 2 * (1 + u32::from(rng.below(16) == 0));
            let block = self.encoder.encode(&call.fields, rng);
            let cut = BlockCut {
                priority: if self.habit.has_priorities && rng.coin() { frame::priority(id, rng) } else { Vec::new() },
                pad: (self.habit.pads && rng.coin()).then(|| rng.below(30) as u8),
            };
            // The end may be a frame of its own, of no bytes.
            let has_no_data = |body: &Vec<u8>| body.is_empty() && call.trailers.is_empty() && rng.coin();
            let is_end = call.body.as_ref().is_none_or(has_no_data);
            let most = self.habit.fragment_bytes.max(block.len() / 10 + 1);
            frame::push_block(out, id, if is_end { frame::END_STREAM } else { 0 }, &block, most, &cut);
            let gives_up = self.habit.budget.resets > 0 && rng.below(4) == 0;
            self.habit.budget.resets -= u32::from(gives_up);
            let is_tunnel = call.fields.iter().any(|(name, _)| name == b":protocol");
            let is_head = call.fields.iter().any(|(name, value)| name == b":method" && value == b"HEAD");
            record.streams.push(Stream {
                id,
                is_head,
                is_tunnel,
                status: None,
                fields: Vec::new(),
                body: Vec::new(),
                trailers: None,
                has_ended: false,
                reset: None,
                gave_up: false,
                is_gone: false,
                sent: 0,
                has_sent_all: is_end,
                has_body: call.body.is_some(),
                send_window: self.server.initial_window,
                window: self.initial_window,
                gives_up_at: gives_up.then(|| rng.below(call.answer_bytes as u64 + 1) as usize),
            });
        }
    }

    /// Sends of the bodies what the windows let through, a frame of one and then of another.
    fn send_bodies(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        let log = Rc::clone(&self.log);
        let mut record = log.borrow_mut();
        let record = &mut *record;
        let mut numbers: Vec<usize> = (0..record.streams.len())
            .filter(|number| !record.streams[*number].is_finished() && !record.streams[*number].has_sent_all)
            .collect();
        while out.len() < MOVE_BYTES && !numbers.is_empty() {
            let at = rng.below(numbers.len() as u64) as usize;
            let number = numbers[at];
            let Call { body, trailers, .. } = &self.calls[number];
            let body = body.as_deref().unwrap_or_default();
            let stream = &mut record.streams[number];
            let left = body.len() - stream.sent;
            if left == 0 && !trailers.is_empty() {
                let block = self.encoder.encode(trailers, rng);
                let most = self.habit.fragment_bytes.max(block.len() / 10 + 1);
                frame::push_block(out, stream.id, frame::END_STREAM, &block, most, &BlockCut::default());
                stream.has_sent_all = true;
                numbers.swap_remove(at);
                continue;
            }
            let pad = (self.habit.pads && left > 0 && rng.coin()).then(|| rng.below(30) as u8);
            let room = stream.send_window.min(self.send_window).min(self.server.frame_bytes_max as i64);
            let room = room - pad.map_or(0, |pad| i64::from(pad) + 1);
            if left > 0 && room <= 0 {
                numbers.swap_remove(at);
                record.counts.blocked += u64::from(pad.is_none());
                if pad.is_some() && stream.send_window > 0 && self.send_window > 0 {
                    // There is room for less.
                    numbers.push(number);
                }
                continue;
            }
            let is_empty = left > 0 && self.habit.budget.empty_data > 0 && rng.below(8) == 0;
            self.habit.budget.empty_data -= u32::from(is_empty);
            let count = if is_empty { 0 } else { left.min(room.max(0) as usize).min(self.habit.data_bytes) };
            let is_end = count == left && trailers.is_empty() && (left == 0 || rng.coin());
            let flags = if is_end { frame::END_STREAM } else { 0 };
            let data = &body[stream.sent..stream.sent + count];
            let flow = frame::push_padded(out, (frame::DATA, flags), stream.id, data, pad) as i64;
            (stream.send_window, self.send_window) = (stream.send_window - flow, self.send_window - flow);
            stream.sent += count;
            stream.has_sent_all = is_end;
            if is_end {
                numbers.swap_remove(at);
            }
        }
    }

    /// Resets streams in which it has lost interest.
    fn give_up(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        let mut record = self.log.borrow_mut();
        let record = &mut *record;
        for stream in record.streams.iter_mut().filter(|stream| !stream.is_finished()) {
            let is_bored = !stream.has_ended
                && (stream.gives_up_at.is_some_and(|at| at <= stream.body.len())
                    || (self.resets_on_answer && stream.status.is_some()));
            let is_answered = stream.has_ended && self.habit.stops_uploads;
            if is_bored || is_answered {
                stream.gave_up = true;
                record.counts.given_up += 1;
                let code = if is_answered && rng.coin() { frame::NO_ERROR } else { frame::CANCEL };
                frame::push_number(out, frame::RST_STREAM, stream.id, code);
            }
        }
    }

    /// Whether there is nothing more to ask or to come.
    fn is_finished(&self) -> bool {
        let record = self.log.borrow();
        let has_asked = self.next == self.calls.len() || record.goaway.is_some();
        has_asked
            && self.pending.is_empty()
            && self.pings.is_empty()
            && record.streams.iter().all(Stream::is_finished)
            && record.extras.iter().all(Extra::is_over)
    }

    /// Whether the server has said which stream was its last, and not only that there will be one.
    fn is_dismissed(&self) -> bool {
        self.log.borrow().goaway.is_some_and(|(last, _)| i64::from(last) != WINDOW_MAX)
    }

    fn rude_steps(&mut self) -> Option<Vec<Step>> {
        let (_, rude) = self.habit.rude.filter(|(after, _)| *after <= self.moves)?;
        self.state = State::Leaving;
        Some(match rude {
            Rude::Close => vec![Step::Close],
            Rude::Reset => vec![Step::Reset],
            Rude::HalfClose => vec![Step::ShutdownWrite, Step::ReadUntilEof],
            Rude::Silence => vec![Step::ReadUntilEof],
            Rude::StopsReading => vec![Step::StopReading(None), Step::ReadUntilEof],
        })
    }

    fn leaving_steps(&mut self) -> Vec<Step> {
        self.state = State::Leaving;
        let mut steps = vec![Step::ShutdownWrite, Step::ReadUntilEof];
        if self.habit.says_goaway {
            let mut out = Vec::new();
            frame::push_goaway(&mut out, 0, frame::NO_ERROR, b"done");
            steps.insert(0, Step::Send(out));
        }
        steps
    }

    fn sending(&self, bytes: Vec<u8>) -> Vec<Step> {
        match self.habit.pace {
            _ if bytes.is_empty() => Vec::new(),
            Pace::AtOnce => vec![Step::Send(bytes)],
            Pace::After(rest) => vec![Step::Stall(rest), Step::Send(bytes)],
            Pace::Pieces(every) => {
                let piece_bytes = bytes.len() / 10 + 1;
                vec![Step::SendSlowly { bytes, piece_bytes, every }]
            }
        }
    }
}

impl Converse for H2Client {
    fn hear(&mut self, unread: &[u8], is_end: bool, rng: &mut Rng) -> Option<Move> {
        if self.state == State::Over {
            return None;
        }
        let mut out = Vec::new();
        if self.state == State::Fresh {
            self.greet(&mut out, rng);
        }
        let taken = match self.read(unread, rng) {
            Ok(taken) => taken,
            Err(what) => {
                self.log.borrow_mut().alarms.push(what);
                self.state = State::Over;
                return Some(Move { taken: unread.len(), steps: vec![Step::Reset] });
            }
        };
        if is_end || matches!(self.state, State::Leaving | State::Doomed) {
            return (taken > 0).then_some(Move { taken, steps: Vec::new() });
        }
        self.moves += 1;
        self.log.borrow_mut().place = Place {
            moves: self.moves,
            window: self.window,
            send_window: self.send_window,
            unacknowledged: (self.pending.len(), self.pings.len()),
            calls_left: self.calls.len() - self.next,
            unread: unread.len() - taken,
        };
        if let Some(steps) = self.rude_steps() {
            return Some(Move { taken, steps });
        }
        out.append(&mut self.replies);
        if taken > 0 || !out.is_empty() {
            self.chatter(&mut out, rng);
        }
        self.ask(&mut out, rng);
        self.give_up(&mut out, rng);
        let later = self.open_windows(&mut out, rng);
        self.send_bodies(&mut out, rng);
        let mut steps = self.sending(out);
        if let (Updates::Late(rest), false) = (self.habit.updates, later.is_empty()) {
            steps.extend([Step::Stall(rest), Step::Send(later)]);
        }
        if let Some((after, abuse)) = self.habit.abuse
            && (after <= self.moves && self.state == State::Open && self.log.borrow().goaway.is_none())
            && let Some(bytes) = self.misbehave(abuse, rng)
        {
            self.habit.abuse = None;
            let mut record = self.log.borrow_mut();
            record.abuse = Some(abuse);
            record.counts.abuses += 1;
            record.must_end = abuse.end().filter(|_| !(abuse.is_by_rate() && self.habit.is_slow));
            if record.must_end.is_some() {
                self.state = State::Doomed;
            }
            // At once: some of it is counted by the second.
            steps.push(Step::Send(bytes));
        }
        if steps.is_empty() && taken == 0 {
            let leaves = self.is_finished() && (!self.habit.stays || self.is_dismissed());
            return leaves.then(|| Move { taken, steps: self.leaving_steps() });
        }
        Some(Move { taken, steps })
    }

    fn is_owed(&self) -> bool {
        match self.state {
            State::Fresh | State::Doomed => true,
            State::Greeted | State::Open => self.habit.updates != Updates::Never && !self.is_finished(),
            State::Leaving | State::Over => false,
        }
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

/// A stream on which the server may still send; `None`: the client has reset it, or looks at nothing on it but `is_end`.
fn find(record: &mut Record, id: u32, is_end: bool) -> Result<Option<&mut Stream>, String> {
    if let Some(extra) = record.extras.iter_mut().find(|extra| extra.id == id) {
        extra.has_ended |= is_end;
        return Ok(None);
    }
    let stream = record.streams.iter_mut().find(|stream| stream.id == id).ok_or("an idle stream")?;
    if stream.gave_up {
        return Ok(None);
    }
    if stream.has_ended || stream.reset.is_some() || stream.is_gone {
        return Err(format!(
            "nothing more can come on it: ended {}, reset {:?}, gone {}",
            stream.has_ended, stream.reset, stream.is_gone
        ));
    }
    Ok(Some(stream))
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;

    /// A client that has asked for this, and the frames that it has sent.
    fn asked(habit: Habit, calls: &[(&str, Option<usize>)]) -> (H2Client, Log, Vec<u8>) {
        let calls = calls.iter().map(|(method, upload)| {
            let mut call = Call::new(method, "/1/10");
            if let Some(length) = upload {
                call.body(vec![b'u'; *length], true);
            }
            call
        });
        let log = Log::new(Record::default().into());
        let mut client = H2Client::new(habit, calls.collect(), Rc::clone(&log));
        let sent = talk(&mut client, b"");
        (client, log, sent)
    }

    /// Lets it hear this. Returns what it sends.
    fn talk(client: &mut H2Client, mut heard: &[u8]) -> Vec<u8> {
        let (rng, mut sent) = (&mut Rng::new(1), Vec::new());
        while let Some(Move { taken, steps }) = client.hear(heard, false, rng) {
            heard = &heard[taken..];
            for step in steps {
                match step {
                    Step::Send(bytes) => sent.extend(bytes),
                    Step::Reset => return sent,
                    _ => {}
                }
            }
            if client.state == State::Leaving {
                break;
            }
        }
        sent
    }

    /// The kinds, flags and streams of frames.
    fn kinds(mut bytes: &[u8]) -> Vec<(u8, u8, u32)> {
        let mut kinds = Vec::new();
        while let Some(frame) = Frame::read(bytes, 1 << 20).unwrap() {
            kinds.push((frame.kind, frame.flags, frame.stream));
            bytes = &bytes[frame.length()..];
        }
        kinds
    }

    fn head(out: &mut Vec<u8>, stream: u32, flags: u8, fields: &[u8]) {
        frame::push_block(out, stream, flags, fields, 1000, &BlockCut::default());
    }

    /// What a server says first, the acknowledgement of the client's settings included.
    fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::push_settings(&mut out, settings);
        frame::push(&mut out, frame::SETTINGS, frame::ACK, 0, &[]);
        out
    }

    /// `:status: 200`.
    const OK: &[u8] = b"\x88";

    #[test]
    fn a_client_asks_reads_its_answer_and_leaves() {
        let (mut client, log, sent) = asked(Habit::sound(), &[("GET", None)]);
        let frames = kinds(sent.strip_prefix(frame::PREFACE).unwrap());
        let ends = frame::END_STREAM | frame::END_HEADERS;
        assert_eq!(frames, [(frame::SETTINGS, 0, 0), (frame::HEADERS, ends, 1)]);
        assert!(client.is_owed());
        let mut answer = greeting(&[]);
        head(&mut answer, 1, 0, OK);
        frame::push(&mut answer, frame::DATA, frame::END_STREAM, 1, b"0123456789");
        let sent = talk(&mut client, &answer);
        assert_eq!(kinds(&sent), [(frame::SETTINGS, frame::ACK, 0)]);
        let record = log.borrow();
        assert_eq!((&record.alarms[..], &record.streams[0].body[..]), (&[][..], &b"0123456789"[..]));
        assert!(record.streams[0].is_finished() && !client.is_owed() && client.state == State::Leaving);
    }

    #[test]
    fn a_body_goes_as_far_as_the_windows_of_the_server() {
        let (mut client, log, _) = asked(Habit { waits_for_settings: true, ..Habit::sound() }, &[("PUT", Some(100))]);
        let sent = talk(&mut client, &greeting(&[(frame::INITIAL_WINDOW_SIZE, 30)]));
        assert_eq!(log.borrow().streams[0].sent, 30);
        assert_eq!(kinds(&sent).last(), Some(&(frame::DATA, 0, 1)));
        let mut update = Vec::new();
        frame::push_number(&mut update, frame::WINDOW_UPDATE, 1, 69);
        talk(&mut client, &update);
        assert_eq!(log.borrow().streams[0].sent, 99);
        assert!(client.is_owed());
    }

    #[test]
    fn what_a_server_must_not_do_is_an_alarm() {
        type Play = fn(&mut Vec<u8>);
        let plays: [(&str, Play); 14] = [
            ("overrun the stream's window by 1", |out| {
                head(out, 1, 0, OK);
                frame::push(out, frame::DATA, 0, 1, &[0; 50]);
                frame::push(out, frame::DATA, frame::END_STREAM, 1, &[0; 51]);
            }),
            ("an idle stream", |out| head(out, 5, 0, OK)),
            ("nothing more can come", |out| {
                head(out, 1, frame::END_STREAM, OK);
                frame::push(out, frame::DATA, frame::END_STREAM, 1, b"");
            }),
            ("a body before its head", |out| frame::push(out, frame::DATA, 0, 1, b"x")),
            ("trailers that are none", |out| (0..2).for_each(|_| head(out, 1, 0, OK))),
            ("no status first", |out| head(out, 1, 0, b"\x0f\x0d\x011")),
            ("ended after 1 of 2", |out| {
                head(out, 1, 0, b"\x88\x0f\x0d\x012");
                frame::push(out, frame::DATA, frame::END_STREAM, 1, b"x");
            }),
            ("index 0", |out| head(out, 1, 0, b"\x80")),
            ("which has no place there", |out| head(out, 1, 0, b"\x88\x00\x0aconnection\x01x")),
            ("after the whole answer", |out| {
                head(out, 1, frame::END_STREAM, OK);
                frame::push_number(out, frame::RST_STREAM, 1, frame::CANCEL);
            }),
            ("an acknowledgement of nothing", |out| frame::push(out, frame::SETTINGS, frame::ACK, 0, &[])),
            ("an increment of 0", |out| frame::push_number(out, frame::WINDOW_UPDATE, 0, 0)),
            ("is not looked at, and was answered", |out| {
                head(out, 1, frame::END_STREAM, OK);
                frame::push_goaway(out, 0, frame::NO_ERROR, b"");
            }),
            ("is open, or it is not", |out| {
                frame::push(out, frame::HEADERS, 0, 1, OK);
                frame::push(out, frame::PING, 0, 0, &[0; 8]);
            }),
        ];
        for (alarm, play) in plays {
            let habit = Habit { initial_window: 100, stream_target: 100, updates: Updates::Empty, ..Habit::sound() };
            let (mut client, log, _) = asked(habit, &[("GET", None)]);
            let mut said = greeting(&[]);
            play(&mut said);
            talk(&mut client, &said);
            let alarms = &log.borrow().alarms;
            assert!(alarms.len() == 1 && alarms[0].contains(alarm), "{alarms:?} instead of {alarm:?}");
            assert_eq!(client.hear(b"", false, &mut Rng::new(1)).map(|_| ()), None);
        }
    }
}
