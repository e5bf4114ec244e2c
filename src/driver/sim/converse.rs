//! A peer that acts on what it receives: the part of a script that follows a protocol.
//!
//! It does not know the protocol; the test implements [`Converse`].

use std::fmt;

use super::peers::Step;
use super::rng::Rng;

/// One side of a protocol. Each connection has its own copy, from the script.
pub trait Converse: fmt::Debug {
    /// Called with the bytes that arrived and were not taken yet, and whether the input has ended.
    /// `None`: it needs more. `rng` is that of the run, so that the run can be repeated.
    fn hear(&mut self, unread: &[u8], is_end: bool, rng: &mut Rng) -> Option<Move>;

    /// Whether the other side still has to do something, however much time passes: a peer that waits for that is not
    /// done.
    fn is_owed(&self) -> bool {
        false
    }

    /// A copy of itself.
    fn copied(&self) -> Box<dyn Converse>;
}

/// What the peer does next. A move that takes nothing and does nothing would repeat forever.
#[derive(Debug, Default)]
pub struct Move {
    /// How many of the unread bytes were consumed.
    pub taken: usize,
    /// The steps to follow before the next call.
    pub steps: Vec<Step>,
}

impl Clone for Box<dyn Converse> {
    fn clone(&self) -> Self {
        self.copied()
    }
}
