//! Bytes on their way through a worker: the pool they are received into, and chains of pieces to send.
//!
//! * [`Pool`] owns the memory that receives go into, in two sizes. An idle connection holds none of it.
//! * [`Buffer`] is a lease on a piece of it, returned to the pool when the last lease is dropped.
//! * [`Chunk`] is a piece of something to send: a leased buffer, shared memory, static bytes, or small pieces copied together.
//! * [`Inbox`] holds what has been received and not been read yet.
//! * [`Chain`] is a sequence of chunks: what one `Send` carries.
//!
//! This is, with [`crate::driver`], the only place where `unsafe` is allowed: the pool's memory is
//! written by the kernel while no lease on it exists, and read through leases afterwards.

#![expect(unsafe_code, reason = "the pool's memory is written by the kernel")]

mod chain;
mod chunk;
mod inbox;
mod memory;
mod pool;

pub use chain::{Chain, SMALL_PIECE_BYTES};
pub use chunk::{Chunk, Gathered};
pub use inbox::Inbox;
pub use pool::{Buffer, BufferId, Pool, PoolConfig, PoolUsage, SizeClass};
