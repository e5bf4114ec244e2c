//! Plans one bug for a thread, so that a test can show that the bug is detected.
//!
//! A simulated worker runs on one thread, beside those of other tests. Which bugs there are, and where
//! they can happen, is up to the parts that plant them.

use std::cell::Cell;

/// The planned bug, how many occasions come before it, and whether it has happened.
#[derive(Debug)]
pub struct Plan<B: Copy> {
    next: Cell<Option<(B, u32)>>,
    has_struck: Cell<bool>,
}

impl<B: Copy> Plan<B> {
    /// Nothing is planned.
    pub const fn new() -> Self {
        Self { next: Cell::new(None), has_struck: Cell::new(false) }
    }

    /// Plans a bug for the occasion after `occasions` others, instead of what was planned before.
    pub fn plant(&self, bug: B, occasions: u32) {
        self.next.set(Some((bug, occasions)));
        self.has_struck.set(false);
    }

    /// Drops the plan. Returns whether the bug has happened.
    pub fn unplant(&self) -> bool {
        self.next.set(None);
        self.has_struck.replace(false)
    }

    /// Counts an occasion of the bugs for which `is_one` is true. Returns the bug that happens now.
    pub fn strike(&self, is_one: impl Fn(B) -> bool) -> Option<B> {
        let (bug, left) = self.next.get().filter(|(bug, _)| is_one(*bug))?;
        let later = left.checked_sub(1);
        self.next.set(later.map(|left| (bug, left)));
        self.has_struck.set(later.is_none());
        later.is_none().then_some(bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_happens_once_after_other_occasions_of_its_own() {
        let plan = Plan::new();
        assert!(plan.strike(|_| true).is_none() && !plan.unplant());
        plan.plant('a', 2);
        for (occasion, expected) in [('a', None), ('b', None), ('a', None), ('b', None), ('a', Some('a')), ('a', None)]
        {
            assert_eq!(plan.strike(|bug| bug == occasion), expected);
        }
        assert!(plan.unplant() && !plan.unplant());
    }
}
