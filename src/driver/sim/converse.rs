//! A peer that decides what to do by what it hears: the part of a script that follows a protocol.
//!
//! It does not know which protocol; that is the test's.

use std::fmt;

use super::peers::Step;
use super::rng::Rng;

/// One side of a conversation. Each connection has its own copy, from the script.
pub trait Converse: fmt::Debug {
    /// Hears what has arrived and was not taken yet, and whether that is the end of it. `None`: it has to hear more.
    /// Chance is the run's own, so that the conversation can be had again.
    fn hear(&mut self, unread: &[u8], is_end: bool, rng: &mut Rng) -> Option<Move>;

    /// The same once more.
    fn copied(&self) -> Box<dyn Converse>;
}

/// What is done about it. One that takes nothing and does nothing would be made for ever.
#[derive(Debug, Default)]
pub struct Move {
    /// How many of the unread bytes are dealt with.
    pub taken: usize,
    /// What is done before the next is heard.
    pub steps: Vec<Step>,
}

impl Clone for Box<dyn Converse> {
    fn clone(&self) -> Self {
        self.copied()
    }
}
