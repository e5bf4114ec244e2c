//! HTTP/1.1 text: what only this version writes.
//!
//! Those who decide what a message says give its parts to a [`super::HeadSink`]; the encoder here
//! is one. It does not know where the parts come from.

pub mod head_encoder;

pub use head_encoder::{HeadEncoder, HeadEnd};
