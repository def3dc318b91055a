//! How often nodes of quick translations are executed: counters that run down, which translated code reaches by number.

use rustc_hash::FxHashMap;
use rx86_cpu::mode::ModeKey;

/// A counter below this belongs to a node that has a better translation, which code goes on in.
pub(crate) const TAKEN_OVER: i32 = -(1 << 28);

/// The counters, by the physical address and mode of the node's code.
#[derive(Debug, Default)]
pub(crate) struct Heat {
    left: Vec<i32>,
    /// What had been counted when the counter was last wound up.
    counted: Vec<u32>,
    numbers: FxHashMap<(u64, ModeKey), u32>,
    threshold: i32,
}

impl Heat {
    /// Counters that run down after `threshold` executions.
    pub(crate) fn new(threshold: u32) -> Self {
        let threshold = i32::try_from(threshold).unwrap_or(i32::MAX).max(1);
        Self { threshold, ..Self::default() }
    }

    /// The counter of a node; a new one if it has none.
    pub(crate) fn number(&mut self, gpa: u64, mode: ModeKey) -> u32 {
        *self.numbers.entry((gpa, mode)).or_insert_with(|| {
            self.left.push(self.threshold);
            self.counted.push(0);
            self.left.len() as u32 - 1
        })
    }

    /// How often a node was executed.
    pub(crate) fn of(&self, gpa: u64, mode: ModeKey) -> u32 {
        let Some(&number) = self.numbers.get(&(gpa, mode)) else { return 0 };
        let number = number as usize;
        let since = self.threshold.saturating_sub(self.left[number].max(0));
        self.counted[number].saturating_add(since as u32)
    }

    /// Winds a counter up that has run down.
    pub(crate) fn wind_up(&mut self, number: u32) {
        let number = number as usize;
        self.counted[number] = self.counted[number].saturating_add(self.threshold as u32);
        self.left[number] = self.threshold;
    }

    /// There is a better translation of the node's code.
    pub(crate) fn take_over(&mut self, gpa: u64, mode: ModeKey) {
        if let Some(&number) = self.numbers.get(&(gpa, mode)) {
            self.left[number as usize] = i32::MIN / 2;
        }
    }

    /// There is none any more: counting begins anew.
    pub(crate) fn give_back(&mut self, gpa: u64, mode: ModeKey) {
        if let Some(&number) = self.numbers.get(&(gpa, mode)) {
            self.restart(number);
        }
    }

    /// The node's code has changed: what was counted says nothing of it.
    pub(crate) fn restart(&mut self, number: u32) {
        self.counted[number as usize] = 0;
        self.left[number as usize] = self.threshold;
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut i32 {
        self.left.as_mut_ptr()
    }
}
