//! How a client speaks HTTP/2.

use std::time::Duration;

use xps::internals::driver::sim::Rng;

use super::Call;
use super::client::abuse::Abuse;
use super::frame::{FRAME_BYTES_MAX, WINDOW, WINDOW_MAX};
use super::hpack::TABLE_BYTES;
use crate::scenario::{Mood, Stop};

#[derive(Clone, Debug)]
pub struct Habit {
    pub streams_at_once: usize,
    /// It asks nothing before it has the server's settings.
    pub waits_for_settings: bool,
    pub initial_window: u32,
    pub frame_bytes_max: usize,
    pub table_bytes: usize,
    /// Up to where it opens the window of a stream and of the connection.
    pub stream_target: i64,
    pub connection_target: i64,
    pub updates: Updates,
    pub has_priorities: bool,
    pub pads: bool,
    /// Most bytes of a header block in one frame.
    pub fragment_bytes: usize,
    /// Most bytes of a body in one frame.
    pub data_bytes: usize,
    /// It cuts an upload short once it has the answer.
    pub stops_uploads: bool,
    pub pace: Pace,
    /// It waits for the server to leave.
    pub stays: bool,
    pub says_goaway: bool,
    /// After so many moves.
    pub rude: Option<(usize, Rude)>,
    /// What it should not do, after so many moves.
    pub abuse: Option<(usize, Abuse)>,
    /// What it sends takes so long to arrive that it may be no flood.
    pub is_slow: bool,
    /// How often it still does some things, so that it stays below what the server takes for an attack.
    pub budget: Budget,
}

#[derive(Clone, Debug, Default)]
pub struct Budget {
    pub resets: u32,
    pub pings: u32,
    pub settings: u32,
    pub unknown: u32,
    pub empty_data: u32,
    pub small_updates: u32,
    pub priorities: u32,
}

/// When it opens a window again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// After each frame.
    Eager,
    /// When half of it is used up.
    Half,
    /// When nothing is left.
    Empty,
    /// When nothing is left, and after this time.
    Late(Duration),
    /// When nothing is left, by little, as long as there is a budget for that.
    Small,
    /// When nothing is left, and by a byte or two, as long as there is a budget for that.
    Bytes,
    /// Never: it is stuck.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    AtOnce,
    After(Duration),
    Pieces(Duration),
}

/// How it breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rude {
    Close,
    Reset,
    HalfClose,
    /// It says nothing more.
    Silence,
    StopsReading,
}

impl Habit {
    /// With nothing special about it.
    pub const fn sound() -> Self {
        Self {
            streams_at_once: 100,
            waits_for_settings: false,
            initial_window: WINDOW as u32,
            frame_bytes_max: FRAME_BYTES_MAX,
            table_bytes: TABLE_BYTES,
            stream_target: WINDOW,
            connection_target: WINDOW,
            updates: Updates::Half,
            has_priorities: false,
            pads: false,
            fragment_bytes: FRAME_BYTES_MAX,
            data_bytes: FRAME_BYTES_MAX,
            stops_uploads: false,
            pace: Pace::AtOnce,
            stays: false,
            says_goaway: false,
            rude: None,
            abuse: None,
            is_slow: false,
            budget: Budget {
                resets: 0,
                pings: 0,
                settings: 0,
                unknown: 0,
                empty_data: 0,
                small_updates: 0,
                priorities: 0,
            },
        }
    }

    /// Whether it breaks off, or does not read to the end.
    pub fn is_rude(&self) -> bool {
        self.rude.is_some() || self.updates == Updates::Never
    }

    /// What it does beyond that, drawn apart so that seeds keep their meaning. In a calm run it does nothing that
    /// excuses the server.
    pub fn draw_more(self, mood: Mood, stop: Stop, rng: &mut Rng) -> Self {
        let does_more = rng.below(3) == 0;
        let has_tiny_windows = rng.below(12) == 0;
        let abuse = Abuse::draw(mood == Mood::Any, stop != Stop::WhenDone, rng);
        let after = rng.below(8) as usize;
        if self.is_rude() {
            return self;
        }
        let abuse = does_more.then_some((after, abuse));
        if has_tiny_windows {
            let budget = Budget { small_updates: 300, ..self.budget };
            return Self { initial_window: 0, updates: Updates::Bytes, budget, abuse, ..self };
        }
        Self { abuse, ..self }
    }

    pub fn draw(mood: Mood, stop: Stop, may_stay: bool, calls: &[Call], rng: &mut Rng) -> Self {
        let may_be_stuck = stop != Stop::WhenDone;
        let longest = calls.iter().map(|call| call.answer_bytes).max().unwrap_or(0) as i64;
        let whole: i64 = calls.iter().map(|call| call.answer_bytes as i64).sum();
        let upload = calls.iter().filter_map(|call| call.body.as_ref().map(Vec::len)).sum::<usize>();
        let is_rude = mood == Mood::Any && rng.below(4) == 0;
        let rest = Duration::from_micros(if rng.coin() { rng.below(500) } else { rng.below(100_000) });
        let updates = match rng.below(7) {
            0..2 => Updates::Eager,
            2 => Updates::Half,
            3 => Updates::Empty,
            4 => Updates::Late(rest),
            5 => Updates::Small,
            _ if is_rude && may_be_stuck => Updates::Never,
            _ => Updates::Half,
        };
        // Windows that are not too small for what has to pass through them.
        let (low, connection_low) = (longest / 40 + 1, whole / 60 + 1);
        let mut target = |low: i64| match rng.below(4) {
            0 => low,
            1 => WINDOW_MAX,
            2 => low + rng.below(5_000) as i64,
            _ => low.max(WINDOW),
        };
        // That of a stream also grows with the settings.
        let (stream_target, connection_target) = (target(low).min(1 << 30), target(connection_low));
        let initial_window = match rng.below(5) {
            0 => 0,
            1 => rng.below(100) as u32,
            2 => rng.below(20_000) as u32,
            3 => 1 << 20,
            _ => WINDOW as u32,
        };
        let rudeness = if is_rude && updates != Updates::Never { Some(Rude::draw(may_be_stuck, rng)) } else { None };
        let times = |rng: &mut Rng, most| if rng.below(3) == 0 { rng.below(most) as u32 } else { 0 };
        Self {
            streams_at_once: [1, 2, 4, 100][rng.below(4) as usize],
            waits_for_settings: rng.below(3) == 0,
            initial_window,
            frame_bytes_max: [FRAME_BYTES_MAX, FRAME_BYTES_MAX, 20_000, 1 << 20][rng.below(4) as usize],
            table_bytes: [TABLE_BYTES, TABLE_BYTES, 0, 100, 65_536][rng.below(5) as usize],
            stream_target,
            connection_target,
            updates,
            has_priorities: rng.below(3) == 0,
            pads: rng.below(3) == 0,
            fragment_bytes: if rng.below(3) == 0 { rng.range(1, 100) as usize } else { FRAME_BYTES_MAX },
            data_bytes: if rng.coin() { rng.length(FRAME_BYTES_MAX).max(upload / 200) } else { FRAME_BYTES_MAX },
            stops_uploads: rng.below(3) == 0,
            pace: match rng.below(6) {
                0 => Pace::After(rest / 4),
                1 => Pace::Pieces(rest / 20),
                _ => Pace::AtOnce,
            },
            stays: may_stay && rng.below(3) == 0,
            says_goaway: rng.below(3) == 0,
            rude: rudeness.map(|rude| (rng.below(40) as usize, rude)),
            abuse: None,
            is_slow: false,
            budget: Budget {
                resets: if mood == Mood::Any { times(rng, 8) } else { 0 },
                pings: times(rng, 20),
                settings: times(rng, 8),
                unknown: times(rng, 5),
                empty_data: times(rng, 20),
                small_updates: 30,
                priorities: times(rng, 20),
            },
        }
    }
}

impl Rude {
    fn draw(may_be_stuck: bool, rng: &mut Rng) -> Self {
        match rng.below(if may_be_stuck { 5 } else { 3 }) {
            0 => Self::Close,
            1 => Self::Reset,
            2 => Self::HalfClose,
            3 => Self::Silence,
            _ => Self::StopsReading,
        }
    }
}
