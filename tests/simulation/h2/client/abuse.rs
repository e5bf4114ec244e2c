//! What a client of HTTP/2 should not do, and what has to come of it: it is served all the same, a stream is reset with a
//! code, or the connection ends with one.
//!
//! It happens on streams of its own, so that what becomes of the others can be demanded as ever.

use xps::internals::driver::sim::Rng;

use super::super::frame::{self, BlockCut, WINDOW_MAX};
use super::super::hpack::Field;
use super::super::record::Extra;
use super::H2Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    // Served.
    Pings,
    Settings,
    EmptyData,
    Priorities,
    Unknown,
    /// Each answer is reset once it has begun.
    ResetsOnAnswer,
    /// More fields than a head may have: the answer is an error.
    LargeHead,
    // One stream is reset.
    DataAfterEnd,
    DataAfterReset,
    StreamWindowOverflow,
    StreamZeroIncrement,
    BodyBeyondLength,
    PriorityOfWrongLength,
    // Streams may be refused.
    StreamsOverMaximum,
    BodyBeyondWindow,
    // The connection ends.
    PingFlood,
    SettingsFlood,
    EmptyDataFlood,
    RapidReset,
    Continuations,
    /// A few bytes that stand for very many.
    HeadBomb,
    InterruptedBlock,
    LoneContinuation,
    EvenStream,
    HeadersOnZero,
    HeadersAfterEnd,
    PushPromise,
    BigFrame,
    ResetOfIdle,
    WindowOfIdle,
    DataOnIdle,
    PushSetting,
    WindowSetting,
    FrameSetting,
    AcknowledgementWithMore,
    ShortPing,
    WindowOverflow,
    ZeroIncrement,
    BadBlock,
    /// A header block whose end never comes: it takes a time limit to notice.
    UnfinishedBlock,
}

use Abuse::{
    AcknowledgementWithMore, BadBlock, BigFrame, BodyBeyondLength, BodyBeyondWindow, Continuations, DataAfterEnd,
    DataAfterReset, DataOnIdle, EmptyData, EmptyDataFlood, EvenStream, FrameSetting, HeadBomb, HeadersAfterEnd,
    HeadersOnZero, InterruptedBlock, LargeHead, LoneContinuation, PingFlood, Pings, Priorities, PriorityOfWrongLength,
    PushPromise, PushSetting, RapidReset, ResetOfIdle, ResetsOnAnswer, Settings, SettingsFlood, ShortPing,
    StreamWindowOverflow, StreamZeroIncrement, StreamsOverMaximum, UnfinishedBlock, Unknown, WindowOfIdle,
    WindowOverflow, WindowSetting, ZeroIncrement,
};

/// Those after which everything else can be demanded.
pub const HARMLESS: [Abuse; 13] = [
    LargeHead,
    Pings,
    Settings,
    EmptyData,
    Priorities,
    Unknown,
    ResetsOnAnswer,
    DataAfterEnd,
    DataAfterReset,
    StreamWindowOverflow,
    StreamZeroIncrement,
    BodyBeyondLength,
    PriorityOfWrongLength,
];

/// The others, but what takes a time limit.
pub const HARMFUL: [Abuse; 26] = [
    HeadBomb,
    StreamsOverMaximum,
    BodyBeyondWindow,
    PingFlood,
    SettingsFlood,
    EmptyDataFlood,
    RapidReset,
    Continuations,
    InterruptedBlock,
    LoneContinuation,
    EvenStream,
    HeadersOnZero,
    HeadersAfterEnd,
    PushPromise,
    BigFrame,
    ResetOfIdle,
    WindowOfIdle,
    DataOnIdle,
    PushSetting,
    WindowSetting,
    FrameSetting,
    AcknowledgementWithMore,
    ShortPing,
    WindowOverflow,
    ZeroIncrement,
    BadBlock,
];

/// What may come on any stream whose upstream fails, whose time is over or which is not needed any more.
const ANYHOW: [u32; 3] = [frame::NO_ERROR, frame::INTERNAL_ERROR, frame::CANCEL];

impl Abuse {
    pub fn draw(may_harm: bool, may_be_stuck: bool, rng: &mut Rng) -> Self {
        if may_be_stuck && may_harm && rng.below(20) == 0 {
            return UnfinishedBlock;
        }
        let of = |list: &[Self], rng: &mut Rng| list[rng.below(list.len() as u64) as usize];
        if may_harm && rng.below(3) != 0 { of(&HARMFUL, rng) } else { of(&HARMLESS, rng) }
    }

    /// Whether everything else can be demanded of the server.
    pub fn is_harmless(self) -> bool {
        HARMLESS.contains(&self)
    }

    /// The code with which the server has to end the connection.
    pub const fn end(self) -> Option<u32> {
        Some(match self {
            LargeHead
            | Pings
            | Settings
            | EmptyData
            | Priorities
            | Unknown
            | ResetsOnAnswer
            | DataAfterEnd
            | DataAfterReset
            | StreamWindowOverflow
            | StreamZeroIncrement
            | BodyBeyondLength
            | PriorityOfWrongLength
            | StreamsOverMaximum
            | BodyBeyondWindow => return None,
            PingFlood | SettingsFlood | EmptyDataFlood | RapidReset | Continuations | HeadBomb | UnfinishedBlock => {
                frame::ENHANCE_YOUR_CALM
            }
            InterruptedBlock | LoneContinuation | EvenStream | HeadersOnZero | PushPromise | ResetOfIdle
            | WindowOfIdle | DataOnIdle | PushSetting | FrameSetting | ZeroIncrement => frame::PROTOCOL_ERROR,
            HeadersAfterEnd => frame::STREAM_CLOSED,
            BigFrame | AcknowledgementWithMore | ShortPing => frame::FRAME_SIZE_ERROR,
            WindowSetting | WindowOverflow => frame::FLOW_CONTROL_ERROR,
            BadBlock => frame::COMPRESSION_ERROR,
        })
    }

    /// Whether it may end the connection with this code.
    pub fn may_end(self, code: u32) -> bool {
        // As far as the server has granted more meanwhile, it was not beyond. What comes in many pieces is many errors.
        let is_beyond = matches!(code, frame::FLOW_CONTROL_ERROR | frame::ENHANCE_YOUR_CALM);
        self.end() == Some(code) || (self == BodyBeyondWindow && is_beyond)
    }

    /// Whether it is too much only within a second.
    pub fn is_by_rate(self) -> bool {
        matches!(self, PingFlood | SettingsFlood | EmptyDataFlood | RapidReset)
    }

    /// Whether streams that have nothing to do with it may be refused.
    pub fn may_refuse(self) -> bool {
        self == StreamsOverMaximum
    }
}

impl H2Client {
    /// Does it now if it can be done now. `None`: later.
    pub(super) fn misbehave(&mut self, abuse: Abuse, rng: &mut Rng) -> Option<Vec<u8>> {
        if abuse != StreamsOverMaximum && self.open() >= self.server.streams_max.min(80) {
            return None;
        }
        // What is beyond the connection's window is another mistake.
        if matches!(abuse, DataAfterEnd | DataAfterReset | BodyBeyondLength) && self.send_window < 100 {
            return None;
        }
        let out = &mut Vec::new();
        let idle = self.next_id + 100;
        match abuse {
            ResetsOnAnswer => self.resets_on_answer = true,
            Pings => (0..60).for_each(|_| self.ping(out, rng)),
            PingFlood => (0..400).for_each(|_| self.ping(out, rng)),
            Settings => (0..25).for_each(|_| self.push_settings(out, Vec::new())),
            SettingsFlood => (0..200).for_each(|_| self.push_settings(out, Vec::new())),
            EmptyData | EmptyDataFlood => {
                let id = self.begin(out, Spare::Put, 0, None, rng);
                let count = if abuse == EmptyData { 60 } else { 400 };
                (0..count).for_each(|_| frame::push(out, frame::DATA, 0, id, &[]));
                frame::push(out, frame::DATA, frame::END_STREAM, id, &[]);
            }
            Priorities => {
                for _ in 0..200 {
                    let id = 1 + 2 * rng.below(u64::from(self.next_id)) as u32;
                    frame::push(out, frame::PRIORITY, 0, id, &frame::priority(id, rng));
                    let value = [&b"u=1, i"[..], b"u=9", b"\xff\0", b"", b"i=?0"][rng.below(5) as usize];
                    frame::push(out, frame::PRIORITY_UPDATE, 0, 0, &[&id.to_be_bytes()[..], value].concat());
                }
            }
            Unknown => {
                for _ in 0..100 {
                    let (length, flags) = (rng.below(100) as usize, rng.below(256) as u8);
                    frame::push(out, 0xf0 + rng.below(8) as u8, flags, rng.below(50) as u32, &rng.bytes(length));
                }
            }
            DataAfterEnd => {
                let id = self.begin(out, Spare::Get, frame::END_STREAM, Some(&frame::STREAM_CLOSED), rng);
                self.data(out, id, rng.below(2) as u8, 1 + rng.below(50) as usize);
            }
            DataAfterReset => {
                let id = self.begin(out, Spare::Put, 0, Some(&frame::STREAM_CLOSED), rng);
                frame::push_number(out, frame::RST_STREAM, id, frame::CANCEL);
                self.data(out, id, 0, 1 + rng.below(50) as usize);
            }
            StreamWindowOverflow => {
                let id = self.begin(out, Spare::Put, 0, None, rng);
                self.allow(frame::FLOW_CONTROL_ERROR);
                (0..3).for_each(|_| frame::push_number(out, frame::WINDOW_UPDATE, id, WINDOW_MAX as u32));
            }
            StreamZeroIncrement => {
                let id = self.begin(out, Spare::Put, 0, Some(&frame::PROTOCOL_ERROR), rng);
                frame::push_number(out, frame::WINDOW_UPDATE, id, 0);
            }
            BodyBeyondLength => {
                let id = self.begin(out, Spare::PutOfFive, 0, None, rng);
                self.allow(frame::PROTOCOL_ERROR);
                self.data(out, id, 0, 6 + rng.below(50) as usize);
            }
            PriorityOfWrongLength => {
                let id = self.begin(out, Spare::Get, frame::END_STREAM, Some(&frame::FRAME_SIZE_ERROR), rng);
                frame::push(out, frame::PRIORITY, 0, id, &[0; 4]);
            }
            StreamsOverMaximum => {
                let most = self.server.streams_max.min(1000) + 20;
                for _ in self.open()..most {
                    self.begin(out, Spare::Get, frame::END_STREAM, None, rng);
                    self.allow(frame::REFUSED_STREAM);
                }
            }
            BodyBeyondWindow => {
                let id = self.begin(out, Spare::Put, 0, None, rng);
                self.allow(frame::FLOW_CONTROL_ERROR);
                (0..7).for_each(|_| self.data(out, id, 0, frame::FRAME_BYTES_MAX));
                self.data(out, id, frame::END_STREAM, frame::FRAME_BYTES_MAX);
            }
            RapidReset => {
                for _ in 0..400 {
                    let id = self.begin(out, Spare::Get, frame::END_STREAM, None, rng);
                    self.allow(frame::REFUSED_STREAM);
                    frame::push_number(out, frame::RST_STREAM, id, frame::CANCEL);
                    self.log.borrow_mut().extras.last_mut().into_iter().for_each(|extra| extra.is_gone = true);
                }
            }
            Continuations => {
                frame::push(out, frame::HEADERS, frame::END_STREAM, self.next_id, &[]);
                (0..60).for_each(|_| frame::push(out, frame::CONTINUATION, 0, self.next_id, &[]));
            }
            LargeHead => {
                let large = (0..100).map(|at| (format!("x-large-{at}").into_bytes(), vec![b'b'; 1000]));
                let fields: Vec<_> = self.spare[Spare::Get as usize].fields.iter().cloned().chain(large).collect();
                self.begin_with(out, &fields, frame::END_STREAM, None, rng);
            }
            HeadBomb => {
                // The table at its usual size, a field that fills it, and then that again and again.
                let mut block = b"\x3f\xe1\x1f\x40\x01a\x7f\xa1\x1e".to_vec();
                block.extend([b'b'; 4000]);
                block.extend([0xbe; 400]);
                let flags = frame::END_STREAM;
                frame::push_block(out, self.next_id, flags, &block, frame::FRAME_BYTES_MAX, &BlockCut::default());
            }
            InterruptedBlock => {
                frame::push(out, frame::HEADERS, frame::END_STREAM, self.next_id, &[]);
                frame::push(out, frame::PING, 0, 0, &[0; 8]);
            }
            UnfinishedBlock => frame::push(out, frame::HEADERS, frame::END_STREAM, self.next_id, &[]),
            LoneContinuation => frame::push(out, frame::CONTINUATION, frame::END_HEADERS, 1, &[]),
            EvenStream => frame::push(out, frame::HEADERS, 5, self.next_id + 1, b"\x82"),
            HeadersOnZero => frame::push(out, frame::HEADERS, 5, 0, b"\x82"),
            HeadersAfterEnd => {
                // What has ended both ways is gone for good.
                let record = self.log.borrow();
                let is_over = |stream: &&super::Stream| {
                    stream.has_ended && stream.has_sent_all && stream.reset.is_none() && !stream.gave_up
                };
                let id = record.streams.iter().find(is_over)?.id;
                frame::push(out, frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, id, b"\x82\x86\x84");
            }
            PushPromise => frame::push(out, frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[0, 0, 0, 2]),
            BigFrame => {
                let kind = [frame::DATA, frame::HEADERS, frame::SETTINGS][rng.below(3) as usize];
                let stream = if kind == frame::SETTINGS { 0 } else { self.next_id };
                frame::push(out, kind, 0, stream, &[0; frame::FRAME_BYTES_MAX + 6]);
            }
            ResetOfIdle => frame::push_number(out, frame::RST_STREAM, idle, frame::CANCEL),
            WindowOfIdle => frame::push_number(out, frame::WINDOW_UPDATE, idle, 1),
            DataOnIdle => frame::push(out, frame::DATA, 0, idle, b""),
            PushSetting => frame::push_settings(out, &[(frame::ENABLE_PUSH, 2)]),
            WindowSetting => frame::push_settings(out, &[(frame::INITIAL_WINDOW_SIZE, 1 << 31)]),
            FrameSetting => {
                let value = if rng.coin() { (1 << 14) - 1 } else { 1 << 24 };
                frame::push_settings(out, &[(frame::MAX_FRAME_SIZE, value)]);
            }
            AcknowledgementWithMore => frame::push(out, frame::SETTINGS, frame::ACK, 0, &[0; 6]),
            ShortPing => frame::push(out, frame::PING, 0, 0, &[0; 7]),
            WindowOverflow => {
                (0..2).for_each(|_| frame::push_number(out, frame::WINDOW_UPDATE, 0, WINDOW_MAX as u32));
                // The first may not be too much, and be used before the second has come.
                self.window += WINDOW_MAX;
            }
            ZeroIncrement => frame::push_number(out, frame::WINDOW_UPDATE, 0, 0),
            BadBlock => {
                let block = [&b"\x80"[..], b"\xff\xff\xff\xff\x0f", b"\x3f\xff\xff\x7f"][rng.below(3) as usize];
                frame::push(out, frame::HEADERS, frame::END_STREAM | frame::END_HEADERS, self.next_id, block);
            }
        }
        Some(std::mem::take(out))
    }

    /// Number of streams that are open for all that is known here.
    fn open(&self) -> usize {
        let record = self.log.borrow();
        let extras = record.extras.iter().filter(|extra| !extra.is_over()).count();
        record.streams.iter().filter(|stream| !stream.is_finished()).count() + extras
    }

    fn ping(&mut self, out: &mut Vec<u8>, rng: &mut Rng) {
        let data = rng.bytes(8);
        frame::push(out, frame::PING, 0, 0, &data);
        self.pings.push_back(data);
    }

    /// Begins a stream of which nothing is demanded, but that it is reset with the code `must` if there is one.
    fn begin(&mut self, out: &mut Vec<u8>, spare: Spare, flags: u8, must: Option<&u32>, rng: &mut Rng) -> u32 {
        let fields = self.spare[spare as usize].fields.clone();
        self.begin_with(out, &fields, flags, must, rng)
    }

    fn begin_with(&mut self, out: &mut Vec<u8>, fields: &[Field], flags: u8, must: Option<&u32>, rng: &mut Rng) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let block = self.encoder.encode(fields, rng);
        frame::push_block(out, id, flags, &block, frame::FRAME_BYTES_MAX, &BlockCut::default());
        // So that no window keeps the answer.
        frame::push_number(out, frame::WINDOW_UPDATE, id, 1 << 22);
        let allowed = ANYHOW.iter().chain(must).copied().collect();
        let extra = Extra { id, allowed, must: must.copied(), resets: Vec::new(), has_ended: false, is_gone: false };
        self.log.borrow_mut().extras.push(extra);
        id
    }

    /// The stream that was begun last may be reset with this code.
    fn allow(&mut self, code: u32) {
        if let Some(extra) = self.log.borrow_mut().extras.last_mut() {
            extra.allowed.push(code);
        }
    }

    fn data(&mut self, out: &mut Vec<u8>, id: u32, flags: u8, count: usize) {
        frame::push(out, frame::DATA, flags, id, &vec![b'x'; count]);
        self.send_window -= count as i64;
    }
}

/// The requests that are there for this.
#[derive(Clone, Copy, Debug)]
pub enum Spare {
    Get,
    Put,
    /// It says that it has five bytes.
    PutOfFive,
}
