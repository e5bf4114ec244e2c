//! Whether two things differ, from pairs of runs in turns (`--ab`).
//!
//! Each pair gives a ratio. What is common to both of its runs, such as a neighbour that is busy for a while, cancels out.
//! Of the ratios the median is reported, and a confidence interval of the median by the sign test: the ranks `k` and
//! `n + 1 - k` of the ordered ratios, where `k` follows from the binomial distribution (ISO 16269-7). It needs no
//! assumption about the noise but that pairs are independent: noise of benchmarks is skewed, and has outliers. The
//! price, against an interval from Wilcoxon's test, is about half as many pairs again for the same width; that one
//! needs symmetric noise. A bootstrap's interval tends to be too narrow for a few pairs.

use std::fmt;

/// The least part of intervals that contain the true median.
const CONFIDENCE: f64 = 0.95;

/// Pairs without which there is no interval: of five, even the widest has 94 %.
pub const PAIRS_MIN: usize = 6;

/// Which values of a figure are the good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// As of a rate.
    Higher,
    /// As of a time.
    Lower,
}

/// What the pairs say of B against A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// B is faster.
    Faster,
    /// B is slower.
    Slower,
    /// The interval contains 1.
    NoDifference,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifference => "no difference detected",
        })
    }
}

/// B's figure divided by A's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Pairs.
    pub pairs: usize,
    /// The median of the ratios.
    pub ratio: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The part of intervals that contain the true median: at least 0.95.
    pub confidence: f64,
    /// What follows.
    pub verdict: Verdict,
}

impl Difference {
    /// From pairs of a figure of A and of B, which ran in turns. `None` if there are fewer than
    /// [`PAIRS_MIN`], or a value is not positive.
    pub fn of(pairs: &[(f64, f64)], better: Better) -> Option<Self> {
        let is_usable = |value: f64| value.is_finite() && value > 0.0;
        if pairs.len() < PAIRS_MIN || !pairs.iter().all(|(a, b)| is_usable(*a) && is_usable(*b)) {
            return None;
        }
        let mut ratios: Vec<f64> = pairs.iter().map(|(a, b)| b / a).collect();
        ratios.sort_by(f64::total_cmp);
        let (rank, confidence) = interval_rank(ratios.len());
        let (low, high) = (ratios[rank - 1], ratios[ratios.len() - rank]);
        let verdict = match better {
            _ if low <= 1.0 && high >= 1.0 => Verdict::NoDifference,
            Better::Higher if low > 1.0 => Verdict::Faster,
            Better::Lower if high < 1.0 => Verdict::Faster,
            Better::Higher | Better::Lower => Verdict::Slower,
        };
        Some(Self { pairs: pairs.len(), ratio: median(&ratios)?, low, high, confidence, verdict })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        write!(
            f,
            "{} ({:+.1} %, {:.0} % interval {:+.1} % to {:+.1} %, {} pairs)",
            self.verdict,
            percent(self.ratio),
            CONFIDENCE * 100.0,
            percent(self.low),
            percent(self.high),
            self.pairs
        )
    }
}

/// The median. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}

/// The greatest rank `k` for which the values of ranks `k` and `count + 1 - k` enclose the median with the
/// confidence, and the confidence that they do. At least 1, for which a few values do not suffice.
fn interval_rank(count: usize) -> (usize, f64) {
    // The chance that as few as `index` of `count` values lie below the median, in logarithms: the first
    // ones are too small for a number otherwise.
    let mut chance = -(count as f64) * std::f64::consts::LN_2;
    let mut outside = 2.0 * chance.exp();
    let mut rank = 1;
    loop {
        chance += ((count - rank + 1) as f64 / rank as f64).ln();
        let wider = outside + 2.0 * chance.exp();
        if wider > 1.0 - CONFIDENCE {
            return (rank, 1.0 - outside);
        }
        outside = wider;
        rank += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, the same ones for a seed.
    struct Noise(u64);

    impl Noise {
        /// Between 0 and 1 (SplitMix64).
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// The rate of a run: normal noise, and one run in twenty that something else slowed down.
        fn rate(&mut self, mean: f64, deviation: f64) -> f64 {
            let normal: f64 = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
            let slowed = if self.uniform() < 0.05 { 1.0 - 0.2 * self.uniform() } else { 1.0 };
            mean * (1.0 + deviation * normal) * slowed
        }

        /// Pairs of runs on a machine whose speed drifts.
        fn pairs(&mut self, count: usize, ratio: f64, deviation: f64) -> Vec<(f64, f64)> {
            let drift = |index: usize| 50_000.0 * (1.0 - 0.004 * index as f64);
            let pair = |index| (self.rate(drift(index), deviation), self.rate(drift(index) * ratio, deviation));
            (0..count).map(pair).collect()
        }

        /// The verdicts of many such comparisons: how often each came.
        fn verdicts(&mut self, ratio: f64, deviation: f64) -> [usize; 3] {
            let mut counts = [0; 3];
            for _ in 0..TRIALS {
                let pairs = self.pairs(21, ratio, deviation);
                match Difference::of(&pairs, Better::Higher).expect("enough").verdict {
                    Verdict::Faster => counts[0] += 1,
                    Verdict::Slower => counts[1] += 1,
                    Verdict::NoDifference => counts[2] += 1,
                }
            }
            counts
        }
    }

    const TRIALS: usize = 1000;

    #[test]
    fn a_difference_of_five_percent_is_found_in_nine_of_ten() {
        for (seed, deviation) in [(1, 0.02), (2, 0.025), (3, 0.03)] {
            let [faster, slower, _] = Noise(seed).verdicts(1.05, deviation);
            assert!(faster >= TRIALS * 9 / 10 && slower == 0, "{faster} of {TRIALS}, {slower} slower, at {deviation}");
            let [faster, slower, _] = Noise(seed).verdicts(1.0 / 1.05, deviation);
            assert!(slower >= TRIALS * 9 / 10 && faster == 0, "{slower} of {TRIALS}, {faster} faster, at {deviation}");
        }
    }

    #[test]
    fn where_there_is_none_none_is_reported_in_nine_of_ten() {
        for (seed, deviation) in [(4, 0.001), (5, 0.02), (6, 0.03), (7, 0.2)] {
            let [faster, slower, none] = Noise(seed).verdicts(1.0, deviation);
            assert!(none >= TRIALS * 95 / 100 - 20, "{faster} faster and {slower} slower of {TRIALS} at {deviation}");
        }
    }

    #[test]
    fn the_ranks_are_those_of_the_standard_tables() {
        // Of the sign test's table for 95 %, two-sided.
        for (count, rank) in [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (21, 6), (30, 10), (100, 40)] {
            assert_eq!(interval_rank(count).0, rank, "{count}");
        }
        assert!(interval_rank(PAIRS_MIN).1 >= CONFIDENCE && interval_rank(PAIRS_MIN - 1).1 < CONFIDENCE);
        assert!((interval_rank(21).1 - 0.973_3).abs() < 1e-4);
        assert!((900..1000).contains(&(interval_rank(2000).0)));
    }

    #[test]
    fn a_lower_time_is_faster() {
        let pairs: Vec<(f64, f64)> = (0..9).map(|index| (10.0, 8.0 + f64::from(index) / 100.0)).collect();
        let difference = Difference::of(&pairs, Better::Lower).expect("enough");
        assert_eq!(difference.verdict, Verdict::Faster);
        assert_eq!(Difference::of(&pairs, Better::Higher).expect("enough").verdict, Verdict::Slower);
        assert_eq!(difference.to_string(), "faster (-19.6 %, 95 % interval -19.9 % to -19.3 %, 9 pairs)");
    }

    #[test]
    fn equal_runs_show_no_difference() {
        let difference = Difference::of(&[(5.0, 5.0); 6], Better::Higher).expect("enough");
        assert_eq!((difference.ratio, difference.verdict), (1.0, Verdict::NoDifference));
        assert!(difference.to_string().starts_with("no difference detected ("));
    }

    #[test]
    fn too_few_pairs_and_failed_runs_say_nothing() {
        assert_eq!(Difference::of(&[(1.0, 2.0); PAIRS_MIN - 1], Better::Higher), None);
        let mut pairs = [(1.0, 2.0); 10];
        pairs[3].0 = 0.0;
        assert_eq!(Difference::of(&pairs, Better::Higher), None);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), Some(2.5));
    }
}
