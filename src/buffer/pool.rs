//! The pool of receive buffers of one worker.
//!
//! It owns memory in two [`SizeClass`]es and knows whether each buffer is free, with the kernel, or
//! leased. It does not depend on io_uring: a driver takes free buffers, lets the kernel fill them,
//! and turns them into leases.
//!
//! ```text
//!            take                    lease
//!   free ───────────► with driver ───────────► leased (1..n times)
//!    ▲                     │ give_back              │ last lease dropped
//!    └─────────────────────┴────────────────────────┘
//! ```
//!
//! Memory grows by segments up to the configured limit. [`Pool::trim`] returns the pages of buffers
//! that were not needed lately to the system.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use super::memory::Mapping;

/// The two sizes of receive buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeClass {
    /// For messages: heads, lines, small bodies. Few are in use at a time, so they stay in the CPU
    /// cache.
    Small,
    /// For sockets that have received bulk data.
    Large,
}

/// Sizes and limits of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of a small buffer: a multiple of 4 KiB.
    pub small_bytes: usize,
    /// Bytes of a large buffer: a multiple of 4 KiB.
    pub large_bytes: usize,
    /// Maximum number of small buffers, up to 65,536 (the kernel numbers them in 16 bits).
    pub small_max: usize,
    /// Maximum number of large buffers, up to 65,536.
    pub large_max: usize,
}

impl PoolConfig {
    /// Reduces the size of large buffers to at most what one connection may hold.
    #[must_use]
    pub fn within(self, hold_max: usize) -> Self {
        let whole_pages = hold_max / PAGE_BYTES * PAGE_BYTES;
        Self { large_bytes: self.large_bytes.min(whole_pages).max(self.small_bytes), ..self }
    }
}

impl Default for PoolConfig {
    /// Small buffers of 16 KiB and large ones of 256 KiB; at most 1 GiB, seven eighths of it in
    /// small ones, so that each of tens of thousands of connections can have one. Memory is
    /// allocated on demand.
    fn default() -> Self {
        Self { small_bytes: 16 << 10, large_bytes: 256 << 10, small_max: 57_344, large_max: 512 }
    }
}

/// Number of buffers in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Buffers allocated so far.
    pub made: usize,
    /// Free buffers.
    pub free: usize,
    /// Buffers that the driver has taken and not leased: the kernel holds them.
    pub with_driver: usize,
    /// Buffers leased to state machines, or to the driver for sending.
    pub leased: usize,
}

/// Identifies a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId {
    class: SizeClass,
    index: u16,
}

impl BufferId {
    /// The buffer with this index, as returned by [`BufferId::index`].
    pub const fn new(class: SizeClass, index: u16) -> Self {
        Self { class, index }
    }

    /// Number of the buffer within its class.
    pub const fn index(self) -> u16 {
        self.index
    }
}

/// Handle of a pool. Clones refer to the same pool.
#[derive(Clone)]
pub struct Pool(Rc<Shared>);

struct Shared {
    small: Class,
    large: Class,
    /// Whether the pool would be scarce if every allocated buffer were in use. While false, the
    /// check is free.
    may_be_scarce: Cell<bool>,
}

/// The buffers of one size.
struct Class {
    size: usize,
    max: usize,
    /// Buffers in a segment, as a power of two: finding a buffer needs no division.
    per_segment_log2: u32,
    segments: RefCell<Vec<Mapping>>,
    /// Number of leases on each buffer; 0: free or with the driver.
    leases: RefCell<Vec<u32>>,
    /// A stack: the buffer returned last is used next, as it is probably in the CPU cache.
    free: RefCell<Vec<u16>>,
    /// Number of buffers at the bottom of `free` whose pages were returned to the system.
    trimmed: Cell<usize>,
    /// Minimum number of free buffers since the last trim: these were not needed.
    free_low: Cell<usize>,
    with_driver: Cell<usize>,
    leased: Cell<usize>,
}

/// Approximate size of the mapping that is added when a class has no free buffer, in bytes.
const SEGMENT_BYTES: usize = 1 << 20;

/// The unit in which memory is returned to the system, in bytes.
const PAGE_BYTES: usize = 4096;

/// Connections that hold more than one small buffer share one part in `ORDINARY_PART` of the pool.
const ORDINARY_PART: usize = 4;

/// One connection may hold one part in `SHARES` of what is free of that.
const SHARES: usize = 16;

/// Maximum number of buffers in a class: the kernel numbers provided buffers in 16 bits.
const BUFFERS_MAX: usize = 1 << 16;

impl Pool {
    /// A pool with these limits. It allocates no buffer yet.
    ///
    /// # Panics
    /// If a size is not a multiple of 4 KiB, or a limit is above 65,536. The configuration is
    /// checked before.
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

    /// Takes a free buffer for the kernel to fill. `None` if the limit is reached or the system is
    /// out of memory.
    pub fn take(&self, class: SizeClass) -> Option<BufferId> {
        let buffers = self.0.class(class);
        let index = match buffers.pop_free() {
            Some(index) => index,
            None => self.0.grow(buffers)?,
        };
        buffers.with_driver.set(buffers.with_driver.get() + 1);
        Some(BufferId { class, index })
    }

    /// Returns a buffer that [`Pool::take`] gave and that was not leased.
    pub fn give_back(&self, id: BufferId) {
        let buffers = self.0.class(id.class);
        debug_assert_eq!(buffers.leases.borrow()[usize::from(id.index)], 0, "{id:?} is leased");
        debug_assert!(!buffers.free.borrow().contains(&id.index), "{id:?} is given back twice");
        buffers.with_driver.set(buffers.with_driver.get() - 1);
        buffers.free.borrow_mut().push(id.index);
    }

    /// Address of a buffer that [`Pool::take`] gave, for the kernel to write to.
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

    /// A lease on a buffer filled by `fill`, which gets the whole buffer and returns the number of
    /// bytes written. `None` if no buffer is available.
    pub fn filled<E>(
        &self,
        class: SizeClass,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<Buffer, E>> {
        let id = self.take(class)?;
        // SAFETY: the buffer was free until now, so nothing else refers to its memory; it was
        // zeroed
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

    /// Number of buffers of a class in each state.
    pub fn usage(&self, class: SizeClass) -> PoolUsage {
        let buffers = self.0.class(class);
        PoolUsage {
            made: buffers.leases.borrow().len(),
            free: buffers.free.borrow().len(),
            with_driver: buffers.with_driver.get(),
            leased: buffers.leased.get(),
        }
    }

    /// Bytes that one connection may hold at present: a fraction of what is free, so that some
    /// remains for others however many connections hold their maximum. (Dynamic thresholds:
    /// Choudhury and Hahne, *Dynamic Queue Length Thresholds for Shared-Memory Packet Switches*,
    /// 1998.) Never less than a small buffer.
    ///
    /// Only a quarter of the pool is shared like this. The rest is a reserve: when that quarter is
    /// used up, connections that hold none get small buffers from it.
    pub fn share(&self) -> usize {
        self.0.share_with(self.0.in_use())
    }

    /// Whether only the reserve is left, or nearly. Then a connection should get neither a large
    /// buffer nor several at a time. A driver gives a socket one small buffer. It gives the next
    /// only after the state machines have seen the first, and could stop receiving if it is all
    /// they may hold.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.0.may_be_scarce.get() && self.0.is_scarce_with(self.0.in_use())
    }

    /// Returns the pages of buffers that were not needed since the last call to the system. Cheap
    /// if there are none; meant to be called every few seconds.
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

    /// Allocates buffers for a class that has no free one, and takes one of them.
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
        assert!(size > 0 && size.is_multiple_of(PAGE_BYTES), "buffer size {size} is not a multiple of the page size");
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
        debug_assert!(usize::from(index) < self.leases.borrow().len(), "buffer {index} does not exist");
        let (segment, offset) = self.place(usize::from(index));
        // SAFETY: the segment exists, and each holds `per_segment` buffers.
        unsafe { self.segments.borrow()[segment].start().add(offset) }
    }

    const fn per_segment(&self) -> usize {
        1 << self.per_segment_log2
    }

    /// The segment of a buffer, and its offset in bytes there.
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

    /// Removes the first `count` bytes from the lease.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        self.offset += count as u32;
        self.length -= count as u32;
    }

    /// Shortens the lease to `count` bytes, if it is longer.
    pub fn truncate(&mut self, count: usize) {
        self.length = self.length.min(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Splits the first `count` bytes off into a separate lease.
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

    /// The bytes, mutable, unless another lease shares the buffer.
    pub fn try_mut(&mut self) -> Option<&mut [u8]> {
        let class = self.pool.class(self.id.class);
        if class.leases.borrow()[usize::from(self.id.index)] != 1 {
            return None;
        }
        // SAFETY: this is the only lease, borrowed exclusively, and a leased buffer is not with the
        // kernel; offset and length were checked against the buffer's size when the lease was made.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.length as usize) })
    }

    /// The pool that the buffer belongs to.
    pub fn pool(&self) -> Pool {
        Pool(Rc::clone(&self.pool))
    }

    /// Bytes of memory that this lease keeps in use.
    pub fn capacity(&self) -> usize {
        self.pool.class(self.id.class).size
    }

    /// Whether both are leases on the same buffer.
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
        // SAFETY: the bytes were initialised (mapped zeroed, then perhaps received into). While a
        // lease exists, neither the kernel nor anything but `try_mut` of a sole lease writes them.
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
        // 4 MiB, a quarter of it shared.
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
