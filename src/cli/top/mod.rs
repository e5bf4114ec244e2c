//! `xps top`: the live figures of a running server, from its metrics listener or its admin socket.
//!
//! On a terminal it draws them until `q` is pressed. Elsewhere it writes them as text: tables once, or with
//! `--count` one line for each reading.

mod exposition;
mod figures;
mod plain;
#[cfg(feature = "tui")]
mod screen;
mod source;
mod text;

use std::thread;
#[cfg(feature = "tui")]
use std::time::Duration;
use std::time::Instant;

pub(super) use self::exposition::Moment;
use self::exposition::Span;
use self::figures::Figures;
pub use self::source::ReadError;
pub(super) use self::source::metrics;
use super::args::TopOptions;
use super::failure::Failure;

/// The time that the drawn figures are about: shorter times make them restless. 5 s.
#[cfg(feature = "tui")]
const SPAN: Duration = Duration::from_secs(5);

pub fn run(options: &TopOptions) -> Result<(), Failure> {
    let mut readings = Readings { options, moments: Vec::new(), kept: 2 };
    // A server that cannot be read at all is an error, on a terminal too.
    readings.read()?;
    match options.count {
        #[cfg(feature = "tui")]
        None if screen::is_possible() => {
            let intervals = SPAN.as_millis() / options.interval.0.as_millis().max(1);
            readings.kept = 1 + usize::try_from(intervals).unwrap_or(1).max(1);
            screen::run(&mut readings)
        }
        None => {
            thread::sleep(options.interval.0);
            readings.read()?;
            let tables = readings.figures().as_ref().map(plain::tables).unwrap_or_default();
            super::print(tables.as_bytes())
        }
        Some(count) => write_lines(&mut readings, count),
    }
}

/// The last readings.
struct Readings<'o> {
    options: &'o TopOptions,
    moments: Vec<Moment>,
    /// How many of them are kept; at least two.
    kept: usize,
}

impl Readings<'_> {
    fn read(&mut self) -> Result<(), Failure> {
        let text = metrics(&self.options.server)?;
        self.moments.push(Moment::parse(&text, Instant::now()));
        let superfluous = self.moments.len().saturating_sub(self.kept);
        self.moments.drain(..superfluous);
        Ok(())
    }

    /// The figures of the time between the first and the last reading that are kept; `None`: there are not
    /// two of them yet.
    fn figures(&self) -> Option<Figures> {
        let [old, .., now] = &self.moments[..] else { return None };
        Some(Figures::new(&Span::new(old, now)))
    }
}

fn write_lines(readings: &mut Readings<'_>, count: u64) -> Result<(), Failure> {
    for at in 0..count {
        thread::sleep(readings.options.interval.0);
        readings.read()?;
        let Some(figures) = readings.figures() else { continue };
        let head = if at == 0 { format!("{}\n{}\n", plain::title(&figures), plain::HEAD) } else { String::new() };
        super::print(format!("{head}{}\n", plain::line(&figures.totals)).as_bytes())?;
    }
    Ok(())
}
