//! Compression of fields (RFC 7541).
//!
//! | module | what |
//! |---|---|
//! | [`decoder`] | field blocks of the peer into a [`super::FieldBlock`] |
//! | [`encoder`] | response heads and single fields; keeps no table |
//! | `primitive` | integers and strings |
//! | [`huffman`] | the code of strings |
//! | `static_table`, `dynamic_table` | what indices stand for |

pub mod decoder;
mod dynamic_table;
pub mod encoder;
pub mod huffman;
mod primitive;
mod static_table;

pub use decoder::{Decoder, HpackError};
pub use encoder::HeadEncoder;

#[cfg(test)]
mod vectors;
