//! Flow control (RFC 9113, 5.2 and 6.9): the window to send in, and the one granted to the peer.
//! Both exist for the connection and for each stream. Which streams get what of the connection's
//! window is decided elsewhere.

/// Largest window in bytes.
pub const WINDOW_CEILING: u32 = (1 << 31) - 1;

/// A window exceeds [`WINDOW_CEILING`], or more was sent than it allows: a FLOW_CONTROL_ERROR, of the
/// stream or of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowError;

/// How many bytes may be sent. Negative after the peer has reduced the initial window of streams
/// (RFC 9113, 6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i32);

impl SendWindow {
    /// A window of this many bytes, at most [`WINDOW_CEILING`].
    pub const fn new(bytes: u32) -> Self {
        debug_assert!(bytes <= WINDOW_CEILING);
        Self(if bytes > WINDOW_CEILING { i32::MAX } else { bytes as i32 })
    }

    /// Bytes that may be sent now.
    pub const fn credit(self) -> u32 {
        if self.0 > 0 { self.0 as u32 } else { 0 }
    }

    /// Takes away what is sent, at most [`SendWindow::credit`].
    pub fn take(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.credit(), "more is sent than the peer allows");
        self.0 = self.0.saturating_sub_unsigned(bytes);
    }

    /// Adds the increment of a WINDOW_UPDATE.
    pub fn grow(&mut self, increment: u32) -> Result<(), FlowError> {
        self.0 = self.0.checked_add_unsigned(increment).ok_or(FlowError)?;
        Ok(())
    }

    /// Changes a stream's window as its initial size changes; see [`super::Settings::apply`].
    pub fn shift(&mut self, delta: i64) -> Result<(), FlowError> {
        self.0 = i32::try_from(i64::from(self.0) + delta).map_err(|_| FlowError)?;
        Ok(())
    }
}

/// What the peer may send. Bytes are granted again when they have been consumed, in steps: a
/// WINDOW_UPDATE for each DATA frame would cost more than the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    /// What is to be held at most.
    target: u32,
    /// What the peer may still send. Negative after the initial window of streams was reduced.
    available: i32,
    /// Received, and not consumed.
    unconsumed: u32,
}

impl ReceiveWindow {
    /// A window that the peer knows to be this large, at most [`WINDOW_CEILING`].
    pub const fn new(bytes: u32) -> Self {
        debug_assert!(bytes <= WINDOW_CEILING);
        let bytes = if bytes > WINDOW_CEILING { WINDOW_CEILING } else { bytes };
        Self { target: bytes, available: bytes as i32, unconsumed: 0 }
    }

    /// Changes how much is to be held at most. [`ReceiveWindow::update`] grants what is missing.
    /// What was granted cannot be taken back: a smaller window is one that is not granted again.
    pub fn set_target(&mut self, bytes: u32) {
        self.target = bytes.min(WINDOW_CEILING);
    }

    /// What the peer may still send.
    pub const fn available(&self) -> u32 {
        if self.available > 0 { self.available as u32 } else { 0 }
    }

    /// The peer takes away this much, since it has seen a smaller initial window of streams than the one that it
    /// began with (RFC 9113, 6.9.2). As much less is to be held at most.
    pub fn reduce(&mut self, bytes: u32) {
        self.target = self.target.saturating_sub(bytes);
        self.available = self.available.saturating_sub_unsigned(bytes);
    }

    /// Memory that the window stands for: what the peer may send, and what it sent and is not
    /// consumed. It counts as held.
    pub const fn held(&self) -> u32 {
        // Both were granted together, so they are at most the ceiling.
        self.available() + self.unconsumed
    }

    /// Received and not consumed.
    pub const fn unconsumed(&self) -> u32 {
        self.unconsumed
    }

    /// The most that [`ReceiveWindow::lend`] grants.
    pub const fn lend_max(&self) -> u32 {
        WINDOW_CEILING.saturating_sub(self.held())
    }

    /// Bytes arrive that count for flow control: data and padding.
    pub fn receive(&mut self, bytes: u32) -> Result<(), FlowError> {
        if bytes > self.available() {
            return Err(FlowError);
        }
        self.available = self.available.saturating_sub_unsigned(bytes);
        self.unconsumed += bytes;
        Ok(())
    }

    /// Bytes that were received have been consumed.
    pub fn consume(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.unconsumed, "more is consumed than was received");
        self.unconsumed = self.unconsumed.saturating_sub(bytes);
    }

    /// Grants this many bytes, whatever is held: less is granted later. They are the increment of a
    /// WINDOW_UPDATE, which must be sent.
    pub fn lend(&mut self, bytes: u32) -> u32 {
        let bytes = bytes.min(self.lend_max());
        self.available = self.available.saturating_add_unsigned(bytes);
        bytes
    }

    /// The increment of a WINDOW_UPDATE, once half of the target can be granted. It must be sent.
    pub fn update(&mut self) -> Option<u32> {
        // What the peer has sent beyond a window that was reduced is granted as well.
        let lacking = if self.available < 0 { self.available.unsigned_abs() } else { 0 };
        let missing = self.target.saturating_sub(self.held());
        if missing == 0 || missing < self.target / 2 {
            return None;
        }
        self.available = self.available.saturating_add_unsigned(missing + lacking);
        Some(missing + lacking)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_does_not_exceed_31_bits() {
        let mut window = SendWindow::new(WINDOW_CEILING - 1);
        assert_eq!(window.grow(1), Ok(()));
        assert_eq!(window.credit(), WINDOW_CEILING);
        assert_eq!(window.grow(1), Err(FlowError));
        assert_eq!(window.shift(1), Err(FlowError));
        assert_eq!(SendWindow::new(0).grow(u32::MAX), Err(FlowError));
    }

    #[test]
    fn what_is_lent_is_granted_less_later() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100).unwrap();
        assert_eq!((window.update(), window.lend(50), window.held()), (None, 50, 150));
        window.receive(50).unwrap();
        window.consume(90);
        assert_eq!((window.held(), window.update()), (60, None), "less than half is missing");
        window.consume(60);
        assert_eq!(window.update(), Some(100));
        assert_eq!(ReceiveWindow::new(WINDOW_CEILING).lend(1), 0);
    }

    #[test]
    fn a_window_may_become_negative_and_gives_no_credit_then() {
        let mut window = SendWindow::new(100);
        window.take(80);
        window.shift(-60).unwrap();
        assert_eq!((window, window.credit()), (SendWindow(-40), 0));
        window.grow(40).unwrap();
        assert_eq!(window.credit(), 0);
        window.grow(1).unwrap();
        assert_eq!(window.credit(), 1);
    }

    #[test]
    fn the_largest_change_of_the_initial_window_fits() {
        let mut window = SendWindow::new(WINDOW_CEILING);
        window.take(WINDOW_CEILING);
        window.shift(-i64::from(WINDOW_CEILING)).unwrap();
        assert_eq!(window.0, -i32::MAX);
        window.shift(i64::from(WINDOW_CEILING)).unwrap();
        assert_eq!(window.0, 0);
    }

    #[test]
    fn what_is_consumed_is_granted_again_by_halves() {
        let mut window = ReceiveWindow::new(100);
        window.receive(60).unwrap();
        assert_eq!((window.available(), window.held(), window.update()), (40, 100, None));
        window.consume(49);
        assert_eq!((window.held(), window.update()), (51, None));
        window.consume(1);
        assert_eq!(window.update(), Some(50));
        assert_eq!((window.available(), window.held()), (90, 100));
        assert_eq!(window.receive(91), Err(FlowError));
        assert_eq!(window.receive(90), Ok(()));
    }

    #[test]
    fn an_enlarged_window_is_announced() {
        let mut window = ReceiveWindow::new(65_535);
        window.set_target(1 << 20);
        assert_eq!(window.update(), Some((1 << 20) - 65_535));
        assert_eq!((window.available(), window.update()), (1 << 20, None));
    }

    #[test]
    fn a_smaller_window_is_not_granted_again() {
        let mut window = ReceiveWindow::new(100);
        window.set_target(10);
        window.receive(95).unwrap();
        window.consume(92);
        assert_eq!((window.held(), window.update()), (8, None));
        window.consume(3);
        assert_eq!((window.held(), window.update()), (5, Some(5)));
    }

    #[test]
    fn a_window_that_is_reduced_is_granted_again_in_its_new_size() {
        let mut window = ReceiveWindow::new(100);
        window.receive(20).unwrap();
        window.consume(20);
        window.reduce(80);
        assert_eq!((window.available(), window.held(), window.update()), (0, 0, Some(20)));
        assert_eq!(window.receive(21), Err(FlowError));
        // All of the larger one was used before.
        let mut window = ReceiveWindow::new(100);
        window.receive(100).unwrap();
        window.reduce(80);
        assert_eq!((window.available(), window.held(), window.update()), (0, 100, None));
        assert_eq!(window.receive(1), Err(FlowError));
        window.consume(100);
        assert_eq!((window.update(), window.available()), (Some(100), 20));
    }

    #[test]
    fn an_empty_window_is_not_updated() {
        assert_eq!(ReceiveWindow::new(0).update(), None);
        assert_eq!(ReceiveWindow::new(1).update(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The two ends of one window, exact at every step.
        #[test]
        fn both_ends_of_a_window_agree(size in 1u32..2_000, steps in prop::collection::vec((0u32..700, 0u32..700), 0..60)) {
            let (mut sender, mut receiver) = (SendWindow::new(size), ReceiveWindow::new(size));
            let mut unconsumed = 0;
            for (send, consume) in steps {
                let send = send.min(sender.credit());
                sender.take(send);
                prop_assert_eq!(receiver.receive(send), Ok(()));
                unconsumed += send;
                let consume = consume.min(unconsumed);
                receiver.consume(consume);
                unconsumed -= consume;
                if let Some(increment) = receiver.update() {
                    prop_assert_eq!(sender.grow(increment), Ok(()));
                }
                prop_assert_eq!(sender.credit(), receiver.available());
                prop_assert_eq!(receiver.held(), receiver.available() + unconsumed);
                prop_assert!(receiver.held() <= size);
                prop_assert!(unconsumed > 0 || receiver.available() > 0, "it never stalls");
            }
        }
    }
}
