//! [`ExcludedEndpoints`]: the endpoints a request has tried, as a bit set. It is on the stack for
//! groups of up to 128 endpoints.

use smallvec::SmallVec;

use super::EndpointId;

/// The endpoints that one request has tried. For up to 128 endpoints it does not allocate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExcludedEndpoints {
    /// Bit `i % 64` of word `i / 64` stands for endpoint `i`; missing words are zero.
    words: SmallVec<[u64; 2]>,
}

impl ExcludedEndpoints {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: SmallVec::new_const() }
    }

    /// Adds an endpoint.
    pub fn insert(&mut self, endpoint: EndpointId) {
        let (word, bit) = place(endpoint);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= bit;
        }
    }

    /// Whether the endpoint has been tried.
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        let (word, bit) = place(endpoint);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Number of endpoints tried.
    pub fn len(&self) -> usize {
        self.words.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Whether no endpoint has been tried.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|bits| *bits == 0)
    }

    /// Clears the set for the next request.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

const fn place(endpoint: EndpointId) -> (usize, u64) {
    (endpoint.0 as usize / 64, 1 << (endpoint.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_far_apart_are_told_apart() {
        let mut excluded = ExcludedEndpoints::new();
        assert!(excluded.is_empty());
        for index in [0, 63, 64, 700, u16::MAX, 700] {
            excluded.insert(EndpointId(index));
        }
        let contained: Vec<u16> = (0..=u16::MAX).filter(|index| excluded.contains(EndpointId(*index))).collect();
        assert_eq!(contained, [0, 63, 64, 700, u16::MAX]);
        assert_eq!(excluded.len(), 5);
        excluded.clear();
        assert!(excluded.is_empty() && !excluded.contains(EndpointId(0)));
    }
}
