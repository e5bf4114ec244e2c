//! Which members a request has tried already: a bit set that is on the stack for all but huge groups.

use smallvec::SmallVec;

use super::MemberId;

/// The members that one request has tried. Up to 128 members it allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Bit `i % 64` of word `i / 64` stands for member `i`; words that are not there are zero.
    words: SmallVec<[u64; 2]>,
}

impl Tried {
    /// None yet.
    pub const fn new() -> Self {
        Self { words: SmallVec::new_const() }
    }

    /// Takes note of a member.
    pub fn insert(&mut self, member: MemberId) {
        let (word, bit) = place(member);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= bit;
        }
    }

    /// Whether it has been tried.
    pub fn contains(&self, member: MemberId) -> bool {
        let (word, bit) = place(member);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many have been tried.
    pub fn len(&self) -> usize {
        self.words.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Whether none has been tried.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|bits| *bits == 0)
    }

    /// Forgets them, for the next request.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

const fn place(member: MemberId) -> (usize, u64) {
    (member.0 as usize / 64, 1 << (member.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_far_apart_are_told_apart() {
        let mut tried = Tried::new();
        assert!(tried.is_empty());
        for index in [0, 63, 64, 700, u16::MAX, 700] {
            tried.insert(MemberId(index));
        }
        let contained: Vec<u16> = (0..=u16::MAX).filter(|index| tried.contains(MemberId(*index))).collect();
        assert_eq!(contained, [0, 63, 64, 700, u16::MAX]);
        assert_eq!(tried.len(), 5);
        tried.clear();
        assert!(tried.is_empty() && !tried.contains(MemberId(0)));
    }
}
