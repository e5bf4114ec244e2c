//! Bytes to send: pseudo-random, from a seed, so that a lost, doubled or moved byte shows, and so that
//! the receiving end can make them again instead of keeping them.

/// An endless stream of bytes that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Content {
    seed: u64,
    position: u64,
}

impl Content {
    /// The stream of this seed, from its beginning.
    pub const fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// The first `length` bytes of a seed's stream.
    pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Self::new(seed).fill(&mut bytes);
        bytes
    }

    /// A number below `bound`, and the stream is eight bytes on.
    pub fn below(&mut self, bound: usize) -> usize {
        let mut word = [0; 8];
        self.fill(&mut word);
        usize::try_from(u64::from_le_bytes(word) % bound as u64).expect("below a usize")
    }

    /// The next bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word(self.position / 8).to_le_bytes();
            let skip = (self.position % 8) as usize;
            let length = rest.len().min(8 - skip);
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&word[skip..skip + length]);
            self.position += length as u64;
            rest = later;
        }
    }

    /// Checks that these are the next bytes.
    #[track_caller]
    pub fn expect(&mut self, received: &[u8]) {
        let start = self.position;
        let mut expected = vec![0; received.len()];
        self.fill(&mut expected);
        if expected != received {
            let offset = first_difference(&expected, received);
            panic!("byte {} differs from what was sent (seed {})", start + offset as u64, self.seed);
        }
    }

    /// How many bytes have been made or checked.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The word at an index: splitmix64 with the index as its state, so any place can be had at once.
    const fn word(&self, index: u64) -> u64 {
        let mut z = self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Compares long byte strings without printing them.
#[track_caller]
pub fn assert_same_bytes(received: &[u8], expected: &[u8]) {
    if received != expected {
        panic!(
            "received {} bytes (hash {:016x}), expected {} (hash {:016x}); the first difference is at {}",
            received.len(),
            hash(received),
            expected.len(),
            hash(expected),
            first_difference(received, expected),
        );
    }
}

/// FNV-1a, to tell byte strings apart in messages.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn first_difference(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).position(|(a, b)| a != b).unwrap_or_else(|| a.len().min(b.len()))
}
