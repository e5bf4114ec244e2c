//! The pool of receive buffers of one worker.
//!
//! It owns memory in two [`SizeClass`]es and knows of each buffer whether it is free, with the
//! kernel, or on lease. It does not know io_uring: a driver takes free buffers, lets the kernel
//! fill them, and turns them into leases.
//!
//! ```text
//!            take                    lease
//!   free ───────────► with driver ───────────► leased (1..n times)
//!    ▲                     │ give_back              │ last lease dropped
//!    └─────────────────────┴────────────────────────┘
//! ```
//!
//! Memory grows by segments up to the configured limit; [`Pool::trim`] hands pages of buffers that
//! have not been needed lately back to the system.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use super::memory::Mapping;

/// The two sizes of receive buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeClass {
    /// For messages: heads, lines, small bodies. Few are in use at a time, so they stay in cache.
    Small,
    /// For sockets that have shown that they carry bulk.
    Large,
}

/// How much memory the pool may use, and in which pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of a small buffer: whole pages of 4 KiB.
    pub small_bytes: usize,
    /// Bytes of a large buffer: whole pages of 4 KiB.
    pub large_bytes: usize,
    /// The most small buffers there may ever be, up to 65,536 (the kernel numbers them in 16 bits).
    pub small_max: usize,
    /// The most large buffers there may ever be, up to 65,536.
    pub large_max: usize,
}

impl PoolConfig {
    /// The same, but for large buffers: none is larger than what a connection may hold.
    #[must_use]
    pub fn within(self, hold_max: usize) -> Self {
        let whole_pages = hold_max / PAGE_BYTES * PAGE_BYTES;
        Self { large_bytes: self.large_bytes.min(whole_pages).max(self.small_bytes), ..self }
    }
}

impl Default for PoolConfig {
    /// 16 KiB and 256 KiB; of 1 GiB at most, seven eighths for small ones, so that each of tens of thousands of connections
    /// can have one. The memory is taken as it is needed.
    fn default() -> Self {
        Self { small_bytes: 16 << 10, large_bytes: 256 << 10, small_max: 57_344, large_max: 512 }
    }
}

/// How many buffers there are and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Buffers made so far.
    pub made: usize,
    /// Waiting in the pool.
    pub free: usize,
    /// Handed to the driver and not leased: with the kernel.
    pub with_driver: usize,
    /// On lease to machines, or to the driver for sending.
    pub leased: usize,
}

/// Names a buffer within its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId {
    class: SizeClass,
    index: u16,
}

impl BufferId {
    /// The buffer with the number that [`BufferId::index`] gave.
    pub const fn new(class: SizeClass, index: u16) -> Self {
        Self { class, index }
    }

    /// Its number among the buffers of its class.
    pub const fn index(self) -> u16 {
        self.index
    }
}

/// The pool; cloning it gives another reference to the same one.
#[derive(Clone)]
pub struct Pool(Rc<Shared>);

struct Shared {
    small: Class,
    large: Class,
    /// Whether the pool would be scarce with every buffer made so far in use. As long as not, asking costs nothing.
    may_be_scarce: Cell<bool>,
}

/// The buffers of one size.
struct Class {
    size: usize,
    max: usize,
    /// Buffers in a segment, as a power of two: finding a buffer takes no division.
    per_segment_log2: u32,
    segments: RefCell<Vec<Mapping>>,
    /// Leases on each buffer; 0: free or with the driver.
    leases: RefCell<Vec<u32>>,
    /// A stack: the buffer returned last, warm in cache, is used next.
    free: RefCell<Vec<u16>>,
    /// So many at the bottom of `free` have had their pages given back.
    trimmed: Cell<usize>,
    /// The fewest free buffers since the last trim: those were not needed.
    free_low: Cell<usize>,
    with_driver: Cell<usize>,
    leased: Cell<usize>,
}

/// A mapping of about this many bytes is added when the free buffers of a class run out.
const SEGMENT_BYTES: usize = 1 << 20;

/// The unit in which the system takes memory back.
const PAGE_BYTES: usize = 4096;

/// This part of the pool, one in so many, is shared out among connections that hold more than one small buffer.
const ORDINARY_PART: usize = 4;

/// A connection may hold one part in so many of what is left of that.
const SHARES: usize = 16;

/// Buffers are numbered in 16 bits, as the kernel numbers provided buffers.
const BUFFERS_MAX: usize = 1 << 16;

impl Pool {
    /// A pool within these limits; makes no buffer yet.
    ///
    /// # Panics
    /// If a size is not a whole number of 4 KiB pages, or a limit is above 65,536: the
    /// configuration is checked before it gets here.
    pub fn new(config: PoolConfig) -> Self {
        let shared = Shared {
            small: Class::new(config.small_bytes, config.small_max),
            large: Class::new(config.large_bytes, config.large_max),
            may_be_scarce: Cell::new(false),
        };
        shared.may_be_scarce.set(shared.is_scarce_with(0));
        Self(Rc::new(shared))
    }

    /// Bytes of a buffer of this class.
    pub fn size(&self, class: SizeClass) -> usize {
        self.0.class(class).size
    }

    /// Takes a free buffer for the kernel to fill; `None` when the limit is reached or the system
    /// has no memory.
    pub fn take(&self, class: SizeClass) -> Option<BufferId> {
        let buffers = self.0.class(class);
        let index = match buffers.pop_free() {
            Some(index) => index,
            None => self.0.grow(buffers)?,
        };
        buffers.with_driver.set(buffers.with_driver.get() + 1);
        Some(BufferId { class, index })
    }

    /// Puts a buffer back that [`Pool::take`] gave and that was not leased.
    pub fn give_back(&self, id: BufferId) {
        let buffers = self.0.class(id.class);
        debug_assert_eq!(buffers.leases.borrow()[usize::from(id.index)], 0, "{id:?} is leased");
        debug_assert!(!buffers.free.borrow().contains(&id.index), "{id:?} is given back twice");
        buffers.with_driver.set(buffers.with_driver.get() - 1);
        buffers.free.borrow_mut().push(id.index);
    }

    /// Where a buffer that [`Pool::take`] gave begins, for the kernel to write to.
    pub fn address(&self, id: BufferId) -> NonNull<u8> {
        self.0.class(id.class).address(id.index)
    }

    /// Turns a buffer that [`Pool::take`] gave into a lease on its first `length` bytes.
    pub fn lease(&self, id: BufferId, length: usize) -> Buffer {
        let buffers = self.0.class(id.class);
        assert!(length <= buffers.size, "{length} bytes in a buffer of {}", buffers.size);
        let leases = &mut buffers.leases.borrow_mut()[usize::from(id.index)];
        assert_eq!(*leases, 0, "{id:?} is leased already");
        *leases = 1;
        buffers.with_driver.set(buffers.with_driver.get() - 1);
        buffers.leased.set(buffers.leased.get() + 1);
        Buffer { pool: Rc::clone(&self.0), id, offset: 0, length: length as u32 }
    }

    /// A lease on a buffer filled by `fill`, which is given the whole of it and returns how many
    /// bytes it wrote. `None` if no buffer is free.
    pub fn filled<E>(
        &self,
        class: SizeClass,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<Buffer, E>> {
        let id = self.take(class)?;
        // SAFETY: the buffer was free until now, so nobody else refers to its memory; it was zeroed
        // when it was mapped; the reference ends before the buffer is leased or given back.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.address(id).as_ptr(), self.size(class)) };
        Some(match fill(memory) {
            Ok(length) => Ok(self.lease(id, length)),
            Err(error) => {
                self.give_back(id);
                Err(error)
            }
        })
    }

    /// How many buffers of a class there are and where.
    pub fn usage(&self, class: SizeClass) -> PoolUsage {
        let buffers = self.0.class(class);
        PoolUsage {
            made: buffers.leases.borrow().len(),
            free: buffers.free.borrow().len(),
            with_driver: buffers.with_driver.get(),
            leased: buffers.leased.get(),
        }
    }

    /// How many bytes one connection may hold now: a part of what is left, so that something is left for others however
    /// many hold all they may (dynamic thresholds: Choudhury and Hahne, *Dynamic Queue Length Thresholds for
    /// Shared-Memory Packet Switches*, 1998). Never less than a small buffer.
    ///
    /// Only a quarter of the pool is shared out like this. The rest is the reserve of those that hold none: small buffers,
    /// when that quarter is used up.
    pub fn share(&self) -> usize {
        self.0.share_with(self.0.in_use())
    }

    /// Whether a connection should not be given a large buffer, nor several at a time: so much is in use that what is left
    /// is the reserve, or nearly. A driver then gives a socket one small buffer, and the next one not before the machines
    /// have seen that one, and have stopped receiving if it is all that they may hold.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.0.may_be_scarce.get() && self.0.is_scarce_with(self.0.in_use())
    }

    /// Gives the pages of buffers that have not been needed since the last call back to the
    /// system. Cheap when there is nothing to give; meant to be called every few seconds.
    pub fn trim(&self) {
        self.0.small.trim();
        self.0.large.trim();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("small", &self.usage(SizeClass::Small))
            .field("large", &self.usage(SizeClass::Large))
            .finish()
    }
}

impl Shared {
    fn class(&self, class: SizeClass) -> &Class {
        match class {
            SizeClass::Small => &self.small,
            SizeClass::Large => &self.large,
        }
    }

    /// Makes more buffers of a class that has no free one, and takes one of them.
    #[cold]
    fn grow(&self, class: &Class) -> Option<u16> {
        class.grow()?;
        let made = |class: &Class| class.leases.borrow().len() * class.size;
        self.may_be_scarce.set(self.is_scarce_with(made(&self.small) + made(&self.large)));
        class.pop_free()
    }

    /// Bytes of buffers that are not free.
    fn in_use(&self) -> usize {
        let bytes = |class: &Class| (class.with_driver.get() + class.leased.get()) * class.size;
        bytes(&self.small) + bytes(&self.large)
    }

    const fn share_with(&self, in_use: usize) -> usize {
        let total = self.small.max * self.small.size + self.large.max * self.large.size;
        let share = (total / ORDINARY_PART).saturating_sub(in_use) / SHARES;
        if share > self.small.size { share } else { self.small.size }
    }

    const fn is_scarce_with(&self, in_use: usize) -> bool {
        let share = self.share_with(in_use);
        share < self.large.size || share == self.small.size
    }
}

impl Class {
    fn new(size: usize, max: usize) -> Self {
        assert!(size > 0 && size.is_multiple_of(PAGE_BYTES), "a buffer is whole pages, not {size} bytes");
        assert!(max <= BUFFERS_MAX, "{max} buffers cannot be numbered in 16 bits");
        Self {
            size,
            max,
            per_segment_log2: (SEGMENT_BYTES / size).max(1).ilog2(),
            segments: RefCell::default(),
            leases: RefCell::default(),
            free: RefCell::default(),
            trimmed: Cell::new(0),
            free_low: Cell::new(0),
            with_driver: Cell::new(0),
            leased: Cell::new(0),
        }
    }

    fn address(&self, index: u16) -> NonNull<u8> {
        debug_assert!(usize::from(index) < self.leases.borrow().len(), "buffer {index} was never made");
        let (segment, offset) = self.place(usize::from(index));
        // SAFETY: the segment exists, and each holds `per_segment` buffers.
        unsafe { self.segments.borrow()[segment].start().add(offset) }
    }

    const fn per_segment(&self) -> usize {
        1 << self.per_segment_log2
    }

    /// In which segment a buffer is, and where in it.
    const fn place(&self, index: usize) -> (usize, usize) {
        (index >> self.per_segment_log2, (index & (self.per_segment() - 1)) * self.size)
    }

    fn pop_free(&self) -> Option<u16> {
        let mut free = self.free.borrow_mut();
        let index = free.pop()?;
        self.trimmed.set(self.trimmed.get().min(free.len()));
        self.free_low.set(self.free_low.get().min(free.len()));
        Some(index)
    }

    fn grow(&self) -> Option<()> {
        let mut leases = self.leases.borrow_mut();
        let made = leases.len();
        let more = self.per_segment().min(self.max - made);
        if more == 0 {
            return None;
        }
        match Mapping::new(self.per_segment() * self.size) {
            Ok(segment) => self.segments.borrow_mut().push(segment),
            Err(error) => {
                tracing::warn!(%error, buffers = made, size = self.size, "no memory for more receive buffers");
                return None;
            }
        }
        leases.resize(made + more, 0);
        // Reversed, so that the lowest addresses are used first.
        self.free.borrow_mut().extend((made..made + more).rev().map(|index| index as u16));
        Some(())
    }

    fn trim(&self) {
        let free = self.free.borrow();
        let cold = self.free_low.get().min(free.len());
        for &index in free.get(self.trimmed.get()..cold).unwrap_or_default() {
            let (segment, offset) = self.place(usize::from(index));
            self.segments.borrow()[segment].discard(offset, self.size);
        }
        self.trimmed.set(self.trimmed.get().max(cold));
        self.free_low.set(free.len());
    }
}

/// A lease on received bytes. Clones share the bytes; the last one returns the buffer to the pool.
pub struct Buffer {
    pool: Rc<Shared>,
    id: BufferId,
    offset: u32,
    length: u32,
}

impl Buffer {
    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty, reason = "a slice has it; only the feature internals makes it public")]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Drops the first `count` bytes from the lease.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        self.offset += count as u32;
        self.length -= count as u32;
    }

    /// Keeps the first `count` bytes, if there are more.
    pub fn truncate(&mut self, count: usize) {
        self.length = self.length.min(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Splits the first `count` bytes off into a lease of their own.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let mut front = self.clone();
        front.truncate(count);
        self.advance(count);
        front
    }

    /// The bytes for changing in place, unless another lease shares the buffer.
    pub fn try_mut(&mut self) -> Option<&mut [u8]> {
        let class = self.pool.class(self.id.class);
        if class.leases.borrow()[usize::from(self.id.index)] != 1 {
            return None;
        }
        // SAFETY: this is the only lease, borrowed exclusively, and a leased buffer is not with the
        // kernel; offset and length were checked against the buffer's size when the lease was made.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.length as usize) })
    }

    /// Bytes of memory that this lease keeps from being used again.
    pub fn capacity(&self) -> usize {
        self.pool.class(self.id.class).size
    }

    /// Whether both are leases on one buffer.
    pub fn shares_memory_with(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.pool, &other.pool) && self.id == other.id
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: offset is at most the buffer's size.
        unsafe { self.pool.class(self.id.class).address(self.id.index).add(self.offset as usize) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes were initialised (mapped zeroed, then perhaps received into); while a
        // lease exists neither the kernel nor anything but `try_mut` of an only lease writes them.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.length as usize) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        self.pool.class(self.id.class).leases.borrow_mut()[usize::from(self.id.index)] += 1;
        Self { pool: Rc::clone(&self.pool), id: self.id, offset: self.offset, length: self.length }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let class = self.pool.class(self.id.class);
        let leases = &mut class.leases.borrow_mut()[usize::from(self.id.index)];
        *leases -= 1;
        if *leases == 0 {
            class.leased.set(class.leased.get() - 1);
            class.free.borrow_mut().push(self.id.index);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?}#{} {}+{})", self.id.class, self.id.index, self.offset, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(small_max: usize) -> Pool {
        Pool::new(PoolConfig { small_bytes: 4096, large_bytes: 8192, small_max, large_max: 1 })
    }

    fn filled(pool: &Pool, bytes: &[u8]) -> Buffer {
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        };
        pool.filled(SizeClass::Small, fill).unwrap().unwrap()
    }

    #[test]
    fn a_buffer_returns_when_its_last_lease_is_dropped() {
        let pool = pool(1);
        let mut whole = filled(&pool, b"head body");
        let head = whole.split_to(5);
        assert_eq!((&head[..], &whole[..]), (&b"head "[..], &b"body"[..]));
        assert!(pool.take(SizeClass::Small).is_none());
        drop(whole);
        assert_eq!(pool.usage(SizeClass::Small).leased, 1);
        drop(head);
        assert_eq!(pool.usage(SizeClass::Small), PoolUsage { made: 1, free: 1, with_driver: 0, leased: 0 });
    }

    #[test]
    fn only_an_unshared_buffer_can_be_changed() {
        let pool = pool(1);
        let mut one = filled(&pool, b"abc");
        let two = one.clone();
        assert!(one.try_mut().is_none());
        drop(two);
        one.try_mut().unwrap().reverse();
        assert_eq!(&one[..], b"cba");
    }

    #[test]
    fn the_limit_holds_and_a_failed_fill_costs_no_buffer() {
        let pool = pool(2);
        assert!(matches!(pool.filled(SizeClass::Small, |_| Err("no")), Some(Err("no"))));
        let held: Vec<_> = std::iter::from_fn(|| pool.take(SizeClass::Small)).collect();
        assert_eq!(held.len(), 2);
        held.into_iter().for_each(|id| pool.give_back(id));
        assert_eq!(pool.usage(SizeClass::Small).free, 2);
    }

    #[test]
    fn the_pool_outlives_its_handle_while_a_lease_exists() {
        let pool = pool(1);
        let buffer = filled(&pool, b"still here");
        drop(pool);
        assert_eq!(&buffer[..], b"still here");
    }

    #[test]
    fn it_is_scarce_while_all_but_the_reserve_is_in_use() {
        // Four MiB, a quarter of it to share out.
        let pool = Pool::new(PoolConfig { small_bytes: 4096, large_bytes: 4096, small_max: 1023, large_max: 1 });
        let mut held: Vec<_> = (0..256).map(|_| pool.take(SizeClass::Small).unwrap()).collect();
        assert!(pool.is_scarce());
        assert_eq!(pool.share(), 4096, "one small buffer is never refused");
        for id in held.drain(..200) {
            pool.give_back(id);
        }
        assert!(!pool.is_scarce());
        assert!(pool.share() > 2 * 4096);
        held.into_iter().for_each(|id| pool.give_back(id));
    }

    #[test]
    fn a_pool_of_few_buffers_is_always_scarce() {
        assert!(pool(8).is_scarce());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no madvise(2)")]
    fn trimmed_buffers_are_still_usable() {
        let pool = pool(4);
        drop(filled(&pool, b"x"));
        pool.trim();
        pool.trim();
        let held: Vec<_> = (0..4).map(|_| filled(&pool, b"yz")).collect();
        assert!(held.iter().all(|buffer| &buffer[..] == b"yz"));
    }
}
