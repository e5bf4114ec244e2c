//! A ring of provided buffers, from which the kernel picks one when bytes arrive.
//!
//! It owns the ring's memory and keeps it filled from the pool up to a *target*. The target is low
//! at first, because the kernel uses the buffers of a ring in turn and so all of them compete for
//! the processor's cache. It doubles when a receive found no buffer.

use std::alloc::{self, Layout};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::buffer::{Buffer, BufferId, Pool, SizeClass};

const PAGE_BYTES: usize = 4096;

/// One registered buffer ring.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    capacity: u16,
    tail: u16,
    group: u16,
    class: SizeClass,
    target: u16,
    /// Buffers in the ring now.
    filled: u16,
    /// A receive found no buffer since the last fill.
    was_short: bool,
}

impl BufferRing {
    /// Registers an empty ring. `capacity` is a power of two.
    ///
    /// # Errors
    /// An error of `io_uring_register(2)`.
    pub(super) fn new(
        submitter: &Submitter<'_>,
        group: u16,
        class: SizeClass,
        capacity: u16,
        target: u16,
    ) -> io::Result<Self> {
        let layout = layout_of(capacity);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let entries = NonNull::new(memory.cast::<BufRingEntry>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the memory is page-aligned, large enough, and lives until `Drop`, which unregisters first.
        let registered = unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, capacity, group, 0) };
        if let Err(error) = registered {
            // SAFETY: allocated above with this layout, and not shared.
            unsafe { alloc::dealloc(memory, layout) };
            return Err(error);
        }
        Ok(Self { entries, capacity, tail: 0, group, class, target: target.min(capacity), filled: 0, was_short: false })
    }

    /// The ring's buffer group id.
    pub(super) const fn group(&self) -> u16 {
        self.group
    }

    /// Buffers in the ring now.
    pub(super) const fn filled(&self) -> u16 {
        self.filled
    }

    /// A receive found no buffer: the next fill doubles the target.
    pub(super) const fn widen(&mut self) {
        self.was_short = true;
    }

    /// Adds buffers up to the target, as far as the pool has free ones.
    pub(super) fn refill(&mut self, pool: &Pool) {
        if std::mem::take(&mut self.was_short) {
            // Doubled once per fill, not once per failed receive: a burst of a thousand connections
            // needs a thousand buffers, not the whole ring.
            self.target = if self.target > self.capacity / 2 { self.capacity } else { self.target * 2 };
        }
        let before = self.tail;
        while self.filled < self.target {
            let Some(id) = pool.take(self.class) else { break };
            let position = usize::from(self.tail & (self.capacity - 1));
            // SAFETY: the position is within the ring, and the kernel does not read it before the tail passes it. The
            // buffer's memory is the kernel's until a completion names it.
            let entry = unsafe { &mut *self.entries.as_ptr().add(position) };
            entry.set_addr(pool.address(id).as_ptr() as u64);
            entry.set_len(pool.size(self.class) as u32);
            entry.set_bid(id.index());
            self.tail = self.tail.wrapping_add(1);
            self.filled += 1;
        }
        if self.tail != before {
            // SAFETY: the pointer is to the first entry of a live ring; its tail is shared with the kernel as an
            // atomic, and the entries before it were written above.
            unsafe {
                let tail = BufRingEntry::tail(self.entries.as_ptr());
                (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
            }
        }
    }

    /// Takes the buffer that a completion names, with the bytes received into it.
    pub(super) fn received(&mut self, pool: &Pool, index: u16, length: usize) -> Buffer {
        self.filled -= 1;
        pool.lease(BufferId::new(self.class, index), length)
    }

    /// Returns the buffer that a completion names to the pool: nothing was received into it.
    pub(super) fn unused(&mut self, pool: &Pool, index: u16) {
        self.filled -= 1;
        pool.give_back(BufferId::new(self.class, index));
    }

    /// Unregisters the ring, so that its memory and its buffers can be reused.
    pub(super) fn close(self, submitter: &Submitter<'_>, pool: &Pool) -> io::Result<()> {
        submitter.unregister_buf_ring(self.group)?;
        for back in 1..=self.filled {
            let position = usize::from(self.tail.wrapping_sub(back) & (self.capacity - 1));
            // SAFETY: within the ring, written when it was filled, and the kernel no longer uses
            // it.
            let index = unsafe { (*self.entries.as_ptr().add(position)).bid() };
            pool.give_back(BufferId::new(self.class, index));
        }
        // SAFETY: allocated in `new` with this layout; unregistered above.
        unsafe { alloc::dealloc(self.entries.as_ptr().cast(), layout_of(self.capacity)) };
        Ok(())
    }
}

fn layout_of(capacity: u16) -> Layout {
    let bytes = usize::from(capacity) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes.next_multiple_of(PAGE_BYTES), PAGE_BYTES).unwrap_or(Layout::new::<[u8; PAGE_BYTES]>())
}
