//! Plots as SVG, without a script: lines over two axes.

use std::fmt::Write as _;

use super::html::escaped;

/// Its coordinates have about the size of pixels on a phone, so that text stays readable there.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// About the width of a character.
const CHARACTER: f64 = 7.0;

/// Kinds of lines that the style sheet of the page tells apart.
pub(super) const STYLES: usize = 6;

/// Lines over two axes.
pub(super) struct Plot<'p> {
    /// What it shows, for readers that do not see it.
    pub(super) title: &'p str,
    /// Unique in the page.
    pub(super) id: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// One line of a plot.
pub(super) struct Line {
    /// Which of the [`STYLES`].
    pub(super) style: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Whether a value holds until the next one.
    pub(super) is_stepped: bool,
}

/// An axis with its labels.
pub(super) struct Axis {
    min: f64,
    max: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `max`.
    pub(super) fn linear(max: f64, label: impl Fn(f64) -> String) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        // The step is 1, 2 or 5 of a power of ten.
        let power = 10f64.powf((max / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| max / step <= 5.0);
        let step = step.unwrap_or(power * 10.0);
        let count = (max / step).ceil() as u32;
        let ticks = (0..=count).map(|tick| f64::from(tick) * step).map(|at| (at, label(at))).collect();
        Self { min: 0.0, max: f64::from(count) * step, is_log: false, ticks }
    }

    /// From 0 to `max`, which need not have a tick.
    pub(super) fn linear_to(max: f64, label: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(max, label);
        if max.is_finite() && max > 0.0 {
            axis.max = max;
            axis.ticks.retain(|(at, _)| *at <= max);
        }
        axis
    }

    /// From `min` to `max` in equal steps of the logarithm, with round ends. Both are positive.
    pub(super) fn log(min: f64, max: f64, label: impl Fn(f64) -> String) -> Self {
        const DIGITS: [f64; 3] = [1.0, 2.0, 5.0];
        debug_assert!(min.is_finite() && max.is_finite(), "an axis from {min} to {max}");
        let min = min.max(1e-6);
        let max = max.max(min * 1.001);
        let rounds = (min.log10().floor() as i32..=max.log10().ceil() as i32)
            .flat_map(|power| DIGITS.map(|digit| digit * 10f64.powi(power)));
        let rounds: Vec<f64> = rounds.collect();
        let low = rounds.iter().copied().rfind(|round| *round <= min).unwrap_or(min);
        let high = rounds.iter().copied().find(|round| *round >= max).unwrap_or(max);
        let is_wide = (high / low).log10() > 2.0;
        let ticks = rounds.iter().copied().filter(|round| {
            let is_power = (round.log10() - round.log10().round()).abs() < 1e-9;
            *round >= low && *round <= high && (!is_wide || is_power)
        });
        Self { min: low, max: high, is_log: true, ticks: ticks.map(|at| (at, label(at))).collect() }
    }

    /// The part of a response of which that many lie above: 1 to `max`, named as percentiles.
    pub(super) fn percentiles(max: f64) -> Self {
        let max = max.max(10.0);
        let nines = max.log10().floor() as usize;
        let name = |nines: usize| match nines {
            0 => "0%".to_owned(),
            1 => "90%".to_owned(),
            2 => "99%".to_owned(),
            more => format!("99.{}%", "9".repeat(more - 2)),
        };
        let ticks = (0..=nines).map(|nines| (10f64.powi(nines as i32), name(nines))).collect();
        Self { min: 1.0, max, is_log: true, ticks }
    }

    /// Where a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let (value, min, max) = if self.is_log {
            (value.max(self.min).ln(), self.min.ln(), self.max.ln())
        } else {
            (value, self.min, self.max)
        };
        ((value - min) / (max - min)).clamp(0.0, 1.0)
    }
}

impl Plot<'_> {
    /// The plot as an `svg` element.
    pub(super) fn svg(&self) -> String {
        let Self { id, .. } = self;
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}\"><title id=\"{id}\">{}</title>\n",
            escaped(self.title)
        );
        self.axes(&mut out);
        for line in &self.lines {
            let d = self.path(line);
            if !d.is_empty() {
                _ = writeln!(out, "<path class=\"line s{}\" d=\"{d}\"/>", line.style % STYLES);
            }
        }
        out.push_str("</svg>\n");
        out
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.part(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, out: &mut String) {
        for (value, label) in &self.y.ticks {
            let y = self.y(*value);
            _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
            _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                y + 3.5,
                escaped(label)
            );
        }
        let mut free_from = 0.0;
        for (value, label) in &self.x.ticks {
            let x = self.x(*value);
            let (y, baseline) = (HEIGHT - BOTTOM, HEIGHT - 9.0);
            // A label at the end stays in the picture.
            let width = label.chars().count() as f64 * CHARACTER;
            let is_last = x + width / 2.0 > WIDTH;
            let (anchor, start) = if is_last { ("end", x - width) } else { ("middle", x - width / 2.0) };
            _ = writeln!(out, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{y:.1}\"/>");
            if start < free_from {
                continue;
            }
            free_from = start + width + CHARACTER;
            _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{baseline:.1}\" text-anchor=\"{anchor}\">{}</text>",
                escaped(label)
            );
        }
    }

    fn path(&self, line: &Line) -> String {
        let mut d = String::new();
        for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let (x, y) = (self.x(*x), self.y(*y));
            if d.is_empty() {
                _ = write!(d, "M{x:.1} {y:.1}");
            } else if line.is_stepped {
                _ = write!(d, "H{x:.1}V{y:.1}");
            } else {
                _ = write!(d, "L{x:.1} {y:.1}");
            }
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_has_round_ticks() {
        let label = |value: f64| format!("{value}");
        assert_eq!(labels(&Axis::linear(23.0, label)), ["0", "5", "10", "15", "20", "25"]);
        assert_eq!(labels(&Axis::linear(0.0, label)).first(), Some(&"0"));
        assert_eq!(labels(&Axis::linear(f64::NAN, label)).first(), Some(&"0"));
        let axis = Axis::linear_to(23.0, label);
        assert_eq!((labels(&axis), axis.max), (vec!["0", "5", "10", "15", "20"], 23.0));
        for max in [1e-3, 1.0, 3.0, 9.99, 10.0, 123_456.0] {
            let axis = Axis::linear(max, label);
            assert!((3..=7).contains(&axis.ticks.len()) && axis.max >= max, "{max}: {:?}", labels(&axis));
        }
    }

    #[test]
    fn a_logarithmic_axis_has_round_ends() {
        let label = |value: f64| format!("{value:.1}");
        assert_eq!(labels(&Axis::log(0.15, 6.0, label)), ["0.1", "0.2", "0.5", "1.0", "2.0", "5.0", "10.0"]);
        assert_eq!(labels(&Axis::log(0.3, 600.0, label)), ["1.0", "10.0", "100.0", "1000.0"]);
        let axis = Axis::log(1.0, 1.0, label);
        assert!(axis.max > axis.min);
        assert_eq!(labels(&Axis::percentiles(20_000.0)), ["0%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn every_point_lies_in_the_picture() {
        let line = |points| Line { style: 7, points, is_stepped: false };
        let plot = Plot {
            title: "<&>",
            id: "plot".to_owned(),
            x: Axis::linear_to(10.0, |value| value.to_string()),
            y: Axis::log(0.1, 10.0, |value| value.to_string()),
            lines: vec![line(vec![(-5.0, 0.0), (5.0, 1.0), (f64::NAN, 1.0), (50.0, 1e9)]), line(Vec::new())],
        };
        let svg = plot.svg();
        assert!(svg.contains("<path class=\"line s1\" d=\"M54.0 204.0L224.0 107.0L394.0 10.0\"/>"), "{svg}");
        assert_eq!(svg.matches("class=\"line").count(), 1, "{svg}");
        assert!(svg.contains("<title id=\"plot\">&lt;&amp;&gt;</title>"), "{svg}");
    }
}
