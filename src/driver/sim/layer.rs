//! What is between a peer's script and the bytes that travel: the script is about plaintext, and a
//! layer, such as TLS, encrypts and decrypts it.
//!
//! It does not know the protocol; the test implements [`Layer`].

use std::collections::VecDeque;
use std::fmt;

use super::peers::PeerEnd;
use super::rng::Rng;

/// The layer of one connection, at the peer's side.
pub trait Layer: fmt::Debug {
    /// Takes bytes that arrived, and appends their plaintext to `received`.
    fn hear(&mut self, bytes: &[u8], received: &mut Vec<u8>);

    /// How far the input is.
    fn input(&self) -> LayerInput;

    /// How many of the bytes that it was given it could not decrypt yet.
    fn undecrypted(&self) -> usize;

    /// Whether plaintext cannot be sent yet.
    fn is_opening(&self) -> bool;

    /// Encrypts the beginning of some plaintext, and appends it to the output. Returns how many bytes; 0
    /// only while it is opening.
    fn say(&mut self, plaintext: &[u8], rng: &mut Rng) -> usize;

    /// Appends the end of the stream to the output. False while it is opening. Nothing is said after it.
    fn end(&mut self) -> bool;

    /// What is to be sent. The peer takes it from the front.
    fn output(&mut self) -> &mut VecDeque<u8>;

    /// How much plaintext can be decrypted from this many bytes of the output.
    fn plaintext_in(&self, output_bytes: usize) -> usize;

    /// After how many bytes of the output the connection breaks off, and how.
    fn cut(&self) -> Option<(usize, Cut)>;

    /// Whether its streams end in order: if not, a close is reported as [`PeerEnd::BrokeOff`].
    fn ends_in_order(&self) -> bool;

    /// Whether the connection's sending half stays open after the end of the stream.
    fn stays_open(&self) -> bool;
}

/// Makes the layers of the connections to an upstream.
pub trait Layers: fmt::Debug {
    /// The layer of the next connection.
    fn next(&self) -> Box<dyn Layer>;
}

/// How far the input of a [`Layer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerInput {
    /// There may be more.
    Open,
    /// The other side has ended its stream.
    Ended,
    /// It failed, and the connection ends in this way.
    Failed(PeerEnd),
}

/// How a connection breaks off in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is reset.
    Reset,
    /// It is closed.
    Close,
    /// Nothing more is sent or read.
    Silence,
}

/// A layer with its progress.
#[derive(Debug)]
pub(super) struct Layered {
    pub layer: Box<dyn Layer>,
    /// Bytes of the output that were written to the connection.
    pub written: usize,
    /// The end of the stream is in the output.
    pub has_ended: bool,
    /// The end of the stream is written, and nothing is written after it.
    pub is_over: bool,
}

impl Layered {
    pub(super) fn new(layer: Box<dyn Layer>) -> Self {
        Self { layer, written: 0, has_ended: false, is_over: false }
    }
}
