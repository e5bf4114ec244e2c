//! Data at the front of an inbox, on their way to a chain.

use super::{Chain, Inbox, SMALL_PIECE_BYTES};

/// The first bytes of an inbox. They stay there unless they are moved on.
#[derive(Debug)]
pub struct ReceivedData<'i> {
    source: &'i mut Inbox,
    bytes: usize,
}

impl<'i> ReceivedData<'i> {
    /// The first `bytes` bytes of the first contiguous ones.
    pub const fn new(source: &'i mut Inbox, bytes: usize) -> Self {
        Self { source, bytes }
    }

    /// Number of bytes; may be 0.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The first `bytes_max` of them. The others stay in the inbox.
    #[must_use]
    pub fn up_to(self, bytes_max: usize) -> Self {
        Self { bytes: self.bytes.min(bytes_max), ..self }
    }

    /// Moves the data to the end of `chain`, between bytes of framing. No data: no framing either.
    ///
    /// The sender chooses the size of its pieces. Small ones are copied together with their framing.
    pub fn push_to(self, chain: &mut Chain, before: &[u8], after: &'static [u8]) {
        let Self { source, bytes } = self;
        if bytes == 0 {
            return;
        }
        let is_all = source.bytes().len() == bytes;
        if bytes < SMALL_PIECE_BYTES && (!before.is_empty() || !is_all) {
            chain.append(before);
            chain.append(&source.bytes()[..bytes]);
            chain.append(after);
            source.consume(bytes);
            return;
        }
        if !before.is_empty() {
            chain.append(before);
        }
        chain.push(source.take(bytes));
        chain.push(after);
    }
}
