//! Received bytes and bytes to send: the pool of receive buffers, and chains of chunks.
//!
//! * [`Pool`] owns the receive buffers, in two sizes. An idle connection holds none of them.
//! * [`Buffer`] is a lease on a part of a buffer. It returns to the pool when the last lease is
//!   dropped.
//! * [`Chunk`] is a piece of bytes to send: a leased buffer, shared memory, static bytes, or small
//!   pieces copied together.
//! * [`Inbox`] holds bytes that were received and not read yet; [`ReceivedData`] are the first of them,
//!   on their way to a chain.
//! * [`Chain`] is a sequence of chunks: what one `Send` carries.
//!
//! Besides [`crate::driver`], this is the only module that allows `unsafe`: the kernel writes to
//! the pool's memory while no lease on it exists, and leases read it afterwards.

#![expect(unsafe_code, reason = "the pool's memory is written by the kernel")]

mod chain;
mod chunk;
mod inbox;
mod memory;
mod pool;
mod received_data;

pub use chain::{Chain, SMALL_PIECE_BYTES};
pub use chunk::{Chunk, Gathered};
pub use inbox::Inbox;
pub use pool::{Buffer, BufferId, Pool, PoolConfig, PoolUsage, SizeClass};
pub use received_data::ReceivedData;
