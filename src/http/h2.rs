//! HTTP/2 as bytes (RFC 9113, RFC 7541): frames, compressed fields, and the heads in them.
//!
//! Pure values and functions: no sockets, no time, no streams' states, no responses. What is read
//! is strict: where the RFC leaves a choice, the reading that another server could not misread is
//! taken.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | error codes; errors of the connection and of one stream |
//! | [`frame`] | frames: header, payload of each type, and writing them |
//! | [`reader`] | the frames in the bytes of a connection; the body data is not collected |
//! | [`settings`] | the peer's settings |
//! | [`window`] | flow control: what may be sent, what was granted |
//! | [`hpack`] | compression of fields |
//! | [`block_reader`] | the fragments of a field block, decoded as they arrive |
//! | [`field_block`] | one decoded list of fields, within limits |
//! | [`head`] | request heads and trailers in such a list |
//! | [`response`] | what a client must know of a response head in such a list |
//! | [`block_writer`] | the frames around the field block of a response or a request |
//! | [`priority`] | the `Priority` field, also in PRIORITY_UPDATE |
//!
//! ```text
//!   bytes ─► FrameReader ─► BlockReader with hpack::Decoder ─► FieldBlock ─► head::parse ─► RequestHead
//!                       ├─► data of bodies
//!                       └─► settings, window
//!   HeadSink: HeadEncoder ─► block ─► BlockWriter ─► bytes
//! ```

pub mod block_reader;
pub mod block_writer;
pub mod error;
pub mod field_block;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod priority;
pub mod reader;
pub mod response;
pub mod settings;
pub mod window;

pub use block_reader::BlockReader;
pub use block_writer::BlockWriter;
pub use error::{ConnectionError, ErrorCode, StreamError};
pub use field_block::FieldBlock;
pub use frame::{Frame, FrameHeader, FrameKind, StreamId};
pub use head::{BadHead, StoredHead};
pub use hpack::HeadEncoder;
pub use priority::Priority;
pub use reader::FrameReader;
pub use settings::Settings;
pub use window::{ReceiveWindow, SendWindow};
