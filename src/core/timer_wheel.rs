//! A hierarchical timer wheel: arming, disarming and expiring in constant time, one per worker.
//!
//! ```text
//!   level 0   64 slots of 1 tick      this 64-tick turn of the wheel
//!   level 1   64 slots of 64 ticks    the rest of this 4,096-tick turn
//!   …
//!   level 6   64 slots of 64⁶ ticks   146 years: the wheel never comes round
//! ```
//!
//! A timer lies on the level of the highest 6-bit digit in which its tick differs from the present
//! one, in the slot of that digit. So all timers of a lower level come before those of a higher one,
//! and the earliest slot is found by one bitmap look-up. When the present reaches a slot of a higher
//! level, its timers are placed again, lower; each moves at most six times in its life.
//!
//! Timers never fire early, and at most one tick (about a millisecond) late.

use crate::driver::Time;
use crate::table::{Key, Table};

/// A tick is 2²⁰ ns, a little more than a millisecond: finer than any time-out, and a shift to compute.
const TICK_SHIFT: u32 = 20;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 7;
const TICK_MAX: u64 = (1 << (DIGIT_BITS * LEVELS as u32)) - 1;

/// Identifies an armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId(Key<TimerId>);

/// Timers, each with a payload of type `T`.
#[derive(Debug)]
pub struct TimerWheel<T> {
    present: u64,
    levels: [Level; LEVELS],
    /// Timers whose tick has passed.
    due: Option<Key<TimerId>>,
    timers: Table<Timer<T>, TimerId>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Bit `n` is set when slot `n` has timers.
    occupied: u64,
    slots: [Option<Key<TimerId>>; SLOTS],
}

#[derive(Debug)]
struct Timer<T> {
    tick: u64,
    list: List,
    previous: Option<Key<TimerId>>,
    next: Option<Key<TimerId>>,
    payload: T,
}

#[derive(Clone, Copy, Debug)]
enum List {
    Due,
    Slot { level: u8, slot: u8 },
}

impl<T: Copy> Default for TimerWheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> TimerWheel<T> {
    /// A wheel without timers. It allocates nothing until the first is armed.
    pub const fn new() -> Self {
        const EMPTY: Level = Level { occupied: 0, slots: [None; SLOTS] };
        Self { present: 0, levels: [EMPTY; LEVELS], due: None, timers: Table::new() }
    }

    /// Arms a timer. A deadline in the past is due at once; one beyond the
    /// wheel's end, 146 years after the clock's start, is set to that.
    pub fn arm(&mut self, deadline: Time, payload: T) -> TimerId {
        let tick = ceil_tick(deadline).min(TICK_MAX);
        let key = self.timers.insert(Timer { tick, list: List::Due, previous: None, next: None, payload });
        self.link(key);
        TimerId(key)
    }

    /// Cancels a timer. Does nothing if it has fired.
    pub fn disarm(&mut self, id: TimerId) {
        self.unlink(id.0);
    }

    /// When to call [`TimerWheel::expire`] next: at the earliest deadline's tick or before it.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.due.is_some() {
            return Some(Time::from_nanos(self.present << TICK_SHIFT));
        }
        self.next_slot().map(|(tick, ..)| Time::from_nanos(tick << TICK_SHIFT))
    }

    /// Advances the wheel to `now` and removes one timer whose deadline has passed. Repeat until
    /// `None`.
    pub fn expire(&mut self, now: Time) -> Option<T> {
        let target = now.as_nanos() >> TICK_SHIFT;
        loop {
            if let Some(key) = self.due {
                return self.unlink(key);
            }
            match self.next_slot() {
                Some((tick, level, slot)) if tick <= target => {
                    self.present = tick;
                    self.relink(level, slot);
                }
                Some(_) | None => {
                    self.present = self.present.max(target);
                    return None;
                }
            }
        }
    }

    /// Number of armed timers.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// The first tick of the earliest slot with timers, and where it is.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let (level, occupied) = self
            .levels
            .iter()
            .enumerate()
            .find_map(|(index, level)| Some((index, level.occupied)).filter(|found| found.1 != 0))?;
        let slot = occupied.trailing_zeros();
        let shift = DIGIT_BITS * level as u32;
        let above = self.present >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        Some((above | u64::from(slot) << shift, level, slot as usize))
    }

    fn relink(&mut self, level: usize, slot: usize) {
        let mut next = self.levels[level].slots[slot].take();
        self.levels[level].occupied &= !(1 << slot);
        while let Some(key) = next {
            next = self.timers.get(key).and_then(|timer| timer.next);
            self.link(key);
        }
    }

    /// Inserts a timer at the head of the list that fits the present.
    fn link(&mut self, key: Key<TimerId>) {
        let Some(tick) = self.timers.get(key).map(|timer| timer.tick) else { return };
        let list = list_of(tick, self.present);
        let head = self.head(list);
        let next = head.replace(key);
        if let Some(timer) = self.timers.get_mut(key) {
            (timer.list, timer.previous, timer.next) = (list, None, next);
        }
        if let Some(next) = next.and_then(|next| self.timers.get_mut(next)) {
            next.previous = Some(key);
        }
    }

    fn unlink(&mut self, key: Key<TimerId>) -> Option<T> {
        let timer = self.timers.remove(key)?;
        if let Some(next) = timer.next.and_then(|next| self.timers.get_mut(next)) {
            next.previous = timer.previous;
        }
        match timer.previous.and_then(|previous| self.timers.get_mut(previous)) {
            Some(previous) => previous.next = timer.next,
            None => {
                *self.head(timer.list) = timer.next;
                if let (List::Slot { level, slot }, None) = (timer.list, timer.next) {
                    self.levels[usize::from(level)].occupied &= !(1 << slot);
                }
            }
        }
        Some(timer.payload)
    }

    /// The head of a list, whose slot is marked as occupied.
    fn head(&mut self, list: List) -> &mut Option<Key<TimerId>> {
        match list {
            List::Due => &mut self.due,
            List::Slot { level, slot } => {
                let level = &mut self.levels[usize::from(level)];
                level.occupied |= 1 << slot;
                &mut level.slots[usize::from(slot)]
            }
        }
    }
}

fn ceil_tick(deadline: Time) -> u64 {
    deadline.as_nanos().div_ceil(1 << TICK_SHIFT)
}

fn list_of(tick: u64, present: u64) -> List {
    if tick <= present {
        return List::Due;
    }
    let highest_bit = u64::BITS - 1 - (tick ^ present).leading_zeros();
    let level = highest_bit / DIGIT_BITS;
    let slot = tick >> (DIGIT_BITS * level) & (SLOTS as u64 - 1);
    List::Slot { level: level as u8, slot: slot as u8 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn at(ticks: u64) -> Time {
        Time::from_nanos(ticks * TICK)
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_not_before() {
        for ticks in [1, 63, 64, 65, 4095, 4096, 262_144, 1 << 35] {
            let mut wheel = TimerWheel::new();
            wheel.arm(at(ticks), "payload");
            assert_eq!(wheel.expire(at(ticks - 1)), None);
            assert_eq!(wheel.expire(at(ticks)), Some("payload"));
            assert!(wheel.is_empty() && wheel.next_deadline().is_none());
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let mut wheel = TimerWheel::new();
        assert_eq!(wheel.expire(at(1000)), None);
        wheel.arm(at(10), ());
        assert!(wheel.next_deadline().is_some_and(|deadline| deadline <= at(1000)));
        assert_eq!(wheel.expire(at(1000)), Some(()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm { after_ns: u64 },
        Disarm { nth: usize },
        Advance { by_ns: u64 },
        AdvanceToDeadline,
    }

    fn step() -> impl Strategy<Value = Step> {
        let span = prop_oneof![0..4 * TICK, 0..70 * TICK, 0..5000 * TICK, 0..(1_u64 << 55)];
        prop_oneof![
            3 => span.clone().prop_map(|after_ns| Step::Arm { after_ns }),
            1 => any::<usize>().prop_map(|nth| Step::Disarm { nth }),
            1 => span.prop_map(|by_ns| Step::Advance { by_ns }),
            2 => Just(Step::AdvanceToDeadline),
        ]
    }

    proptest! {
        /// Against a model that is a sorted map of ticks.
        #[test]
        fn it_fires_what_a_sorted_list_would(start in 0..1_u64 << 60, steps in prop::collection::vec(step(), 1..80)) {
            let mut now = start;
            let mut wheel = TimerWheel::new();
            let mut model: BTreeMap<usize, (u64, TimerId)> = BTreeMap::new();
            prop_assert_eq!(wheel.expire(Time::from_nanos(now)), None);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Arm { after_ns } => {
                        let deadline = now + after_ns;
                        model.insert(number, (deadline.div_ceil(TICK), wheel.arm(Time::from_nanos(deadline), number)));
                    }
                    Step::Disarm { nth } if !model.is_empty() => {
                        let number = *model.keys().nth(nth % model.len()).unwrap();
                        wheel.disarm(model.remove(&number).unwrap().1);
                    }
                    Step::Disarm { .. } => {}
                    Step::Advance { by_ns } => now += by_ns,
                    Step::AdvanceToDeadline => {
                        now = wheel.next_deadline().map_or(now, |deadline| now.max(deadline.as_nanos()));
                    }
                }
                let mut fired = Vec::new();
                while let Some(number) = wheel.expire(Time::from_nanos(now)) {
                    fired.push(number);
                }
                fired.sort_unstable();
                let expected: Vec<_> = model.iter().filter(|(_, timer)| timer.0 <= now / TICK).map(|(number, _)| *number).collect();
                prop_assert_eq!(&fired, &expected);
                model.retain(|number, _| !fired.contains(number));
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.values().map(|timer| timer.0).min();
                match (wheel.next_deadline(), earliest) {
                    (Some(deadline), Some(tick)) => prop_assert!(deadline > Time::from_nanos(now) && deadline <= at(tick)),
                    (deadline, earliest) => prop_assert!(deadline.is_none() && earliest.is_none()),
                }
            }
        }
    }
}
