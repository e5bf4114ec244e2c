//! The figures on a terminal, drawn again at each reading.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use super::figures::Figures;
use super::plain::{ROUTE_HEADS, UPSTREAM_HEADS, route_cells, tiles, title, upstream_cells};
use super::{Failure, Readings};
use crate::driver::terminal::Keyboard;

/// Readings that are kept for the curve.
const KEPT: usize = 240;

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Draws until the user ends it. That the server does not answer is shown, and it is asked again.
pub(super) fn run(readings: &mut Readings<'_>) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init().map_err(Failure::Output)?;
    let mut screen = Screen::default();
    let result = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
            break Err(error);
        }
        match ends_within(readings.options.interval.0) {
            Ok(false) => {}
            ended => break ended.map(drop),
        }
        let reading = readings.read().map_err(|failure| failure.to_string());
        if reading.is_err() {
            // The next figures are those of the time after it has answered again.
            readings.moments.clear();
        }
        screen.update(reading.map(|()| readings.figures()));
    };
    ratatui::restore();
    result.map_err(Failure::Output)
}

/// Waits for the time of the next reading. Whether the user ends the program before that, or the terminal
/// is gone.
fn ends_within(interval: Duration) -> io::Result<bool> {
    let until = Instant::now() + interval;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Waited for here: crossterm reads the end of a terminal that has hung up again and again.
        match Keyboard::wait(left)? {
            Keyboard::Silent => return Ok(false),
            Keyboard::Gone => return Ok(true),
            Keyboard::Ready => {}
        }
        if !event::poll(Duration::ZERO)? {
            continue;
        }
        if let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event::read()? {
            match code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
                _ => {}
            }
        }
    }
}

/// What is on the screen.
#[derive(Debug, Default)]
struct Screen {
    figures: Option<Figures>,
    /// Requests a second of the last readings, the latest first.
    requests: VecDeque<u64>,
    /// Why the last reading failed.
    fault: Option<String>,
}

impl Screen {
    /// Takes a reading, or why there is none. The last figures stay on the screen.
    fn update(&mut self, reading: Result<Option<Figures>, String>) {
        match reading {
            Ok(Some(figures)) => {
                self.requests.push_front(figures.totals.requests.round() as u64);
                self.requests.truncate(KEPT);
                (self.figures, self.fault) = (Some(figures), None);
            }
            Ok(None) => self.fault = None,
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let routes = self.figures.as_ref().map_or(0, |figures| figures.routes.len());
        let upstreams = self.figures.as_ref().map_or(0, |figures| figures.upstreams.len());
        let table =
            |rows: usize| Constraint::Length(if rows == 0 { 0 } else { u16::try_from(rows + 2).unwrap_or(u16::MAX) });
        let parts =
            [Constraint::Length(1), Constraint::Length(7), Constraint::Length(4), table(routes), table(upstreams)];
        let [head, totals, curve, route_area, upstream_area, foot] =
            Layout::vertical(parts.into_iter().chain([Constraint::Min(1)])).areas(frame.area());
        self.draw_head(frame, head);
        let Some(figures) = &self.figures else { return };
        let lines = tiles(&figures.totals).map(|(name, value, more)| {
            let bold = Style::new().add_modifier(Modifier::BOLD);
            Line::from(vec![
                Span::raw(format!("{name:<22}")),
                Span::styled(format!("{value:>12}"), bold),
                Span::styled(format!("   {more}"), Style::new().fg(Color::DarkGray)),
            ])
        });
        frame.render_widget(Paragraph::new(lines.to_vec()), totals);
        let title = Block::new().borders(Borders::TOP).title("requests a second");
        let curve_style = Style::new().fg(Color::Blue);
        let values: Vec<u64> = self.requests.iter().copied().collect();
        let sparkline = Sparkline::default().block(title).data(values).style(curve_style);
        frame.render_widget(sparkline.direction(ratatui::widgets::RenderDirection::RightToLeft), curve);
        draw_table(frame, route_area, "routes", &ROUTE_HEADS, figures.routes.iter().map(route_cells));
        draw_table(frame, upstream_area, "upstreams", &UPSTREAM_HEADS, figures.upstreams.iter().map(upstream_cells));
        frame.render_widget(Line::styled("q: quit", Style::new().fg(Color::DarkGray)), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let head = match (&self.fault, &self.figures) {
            (Some(fault), _) => Line::styled(fault.clone(), Style::new().fg(Color::Red)),
            (None, Some(figures)) => Line::styled(title(figures), Style::new().add_modifier(Modifier::BOLD)),
            (None, None) => Line::raw("reading…"),
        };
        frame.render_widget(head, area);
    }
}

/// A table whose first two columns are texts.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    heads: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        Constraint::Length(
            cells.chain([heads[column].len()]).max().and_then(|width| width.try_into().ok()).unwrap_or(0),
        )
    };
    let widths: [Constraint; N] = std::array::from_fn(width);
    let cells = |texts: &[String; N]| {
        let cell = |(column, text): (usize, &String)| {
            let line = Line::raw(text.clone());
            Cell::from(if column < 2 { line } else { line.right_aligned() })
        };
        Row::new(texts.iter().enumerate().map(cell).collect::<Vec<_>>())
    };
    let head = cells(&heads.map(str::to_owned)).style(Style::new().fg(Color::DarkGray));
    let block = Block::new().borders(Borders::TOP).title(title);
    let table =
        Table::new(rows.iter().map(cells).collect::<Vec<_>>(), widths).header(head).block(block).column_spacing(2);
    frame.render_widget(table, area);
}
