//! The only source of randomness: a small generator that its seed determines completely.
//!
//! Not cryptographically secure. Statistically good enough to pick faults and interleavings.

/// A seeded generator (splitmix64: a counter whose bits are mixed).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

/// A probability, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u16);

impl Rng {
    /// Creates the generator of this seed. The sequences of neighbouring seeds are unrelated.
    pub const fn new(seed: u64) -> Self {
        Self { state: mix(seed ^ 0x5851_f42d_4c95_7f2d) }
    }

    /// The next number, uniform over all of `u64`.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `end`; zero if `end` is zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product: no division, and a bias too small for a test to notice.
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// A number from `low` to `high`, inclusive.
    pub const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A length from 1 to `most` (at least 1), often near one of the ends.
    pub fn length(&mut self, most: usize) -> usize {
        let most = most.max(1) as u64;
        let length = match self.below(4) {
            0 => self.range(1, most.min(4)),
            1 => most - self.below(most.min(4)),
            _ => self.range(1, most),
        };
        length as usize
    }

    /// True with this probability.
    pub const fn chance(&mut self, chance: Chance) -> bool {
        chance.0 > 0 && self.below(1000) < chance.0 as u64
    }

    /// True half of the time.
    pub const fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// `count` arbitrary bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count.next_multiple_of(8));
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

impl Chance {
    /// Never. A draw takes no number from the generator.
    pub const NEVER: Self = Self(0);

    /// `times` in a thousand; above that, always.
    pub const fn per_mille(times: u16) -> Self {
        Self(times)
    }
}

pub(super) const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_reach_both_ends() {
        let mut rng = Rng::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.range(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert!((0..1000).all(|_| (1..=5).contains(&rng.length(5))));
        assert_eq!((rng.below(0), rng.length(0)), (0, 1));
    }

    #[test]
    fn chances_are_about_as_likely_as_they_say() {
        let mut rng = Rng::new(2);
        let hits = (0..10_000).filter(|_| rng.chance(Chance::per_mille(250))).count();
        assert!((2200..2800).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(Chance::NEVER) && rng.chance(Chance::per_mille(1000))));
    }
}
