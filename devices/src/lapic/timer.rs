//! The local APIC's timer: one-shot, periodic and TSC-deadline (SDM Vol. 3A, 12.5.4).

use std::sync::Arc;

use crate::device::Clock;

/// The timer's input frequency before the divider; CPUID leaf 15H reports it as the core crystal clock.
pub const TIMER_HZ: u64 = 1_000_000_000;

/// The time-stamp counter of the APIC's CPU.
pub trait TscClock: Send + Sync {
    /// What the deadline is compared with: RDTSC outside of a guest's own virtualization.
    fn tsc(&self) -> u64;

    /// Nanoseconds from now until the counter reaches `tsc`; 0 if it has.
    fn ns_until(&self, tsc: u64) -> u64;
}

/// The mode in bits 18:17 of the timer's LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
    Reserved,
}

impl Mode {
    pub(super) fn from_lvt(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }
}

pub(super) struct Timer {
    clock: Arc<dyn Clock>,
    tsc: Arc<dyn TscClock>,
    initial_count: u32,
    /// The divide configuration register.
    divide: u32,
    /// When the present countdown ends.
    expiry_ns: Option<u64>,
    /// IA32_TSC_DEADLINE; 0 is disarmed.
    tsc_deadline: u64,
}

impl Timer {
    pub(super) fn new(clock: Arc<dyn Clock>, tsc: Arc<dyn TscClock>) -> Self {
        Self { clock, tsc, initial_count: 0, divide: 0, expiry_ns: None, tsc_deadline: 0 }
    }

    /// What it remembers.
    pub(super) fn state_words(&self) -> [u64; 4] {
        let Self { clock: _, tsc: _, initial_count, divide, expiry_ns, tsc_deadline } = self;
        let counts = u64::from(*initial_count) << 32 | u64::from(*divide);
        [counts, u64::from(expiry_ns.is_some()), expiry_ns.unwrap_or(0), *tsc_deadline]
    }

    pub(super) fn reset(&mut self) {
        self.divide = 0;
        self.disarm();
    }

    pub(super) fn disarm(&mut self) {
        self.initial_count = 0;
        self.expiry_ns = None;
        self.tsc_deadline = 0;
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.expiry_ns
    }

    pub(super) fn initial_count(&self) -> u32 {
        self.initial_count
    }

    pub(super) fn set_initial_count(&mut self, count: u32) {
        self.initial_count = count;
        self.expiry_ns = (count != 0).then(|| self.clock.now_ns().saturating_add(self.period_ns()));
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the divide configuration; what remains of the countdown goes on at the new rate.
    pub(super) fn set_divide(&mut self, divide: u32) {
        let remaining = self.remaining_counts();
        self.divide = divide & 0b1011;
        if self.expiry_ns.is_some() && self.tsc_deadline == 0 {
            let left_ns = remaining.saturating_mul(self.divisor());
            self.expiry_ns = Some(self.clock.now_ns().saturating_add(left_ns));
        }
    }

    pub(super) fn current_count(&self) -> u32 {
        if self.tsc_deadline != 0 {
            return 0;
        }
        self.remaining_counts().min(u64::from(u32::MAX)) as u32
    }

    pub(super) fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Arms the TSC deadline, or disarms with 0.
    pub(super) fn set_tsc_deadline(&mut self, tsc: u64) {
        self.tsc_deadline = tsc;
        self.expiry_ns = (tsc != 0).then(|| self.clock.now_ns().saturating_add(self.tsc.ns_until(tsc)));
    }

    /// Whether the timer expires at or before `now_ns`; it then is armed for its next period, or disarmed.
    pub(super) fn expire(&mut self, now_ns: u64, periodic: bool) -> bool {
        let Some(expiry_ns) = self.expiry_ns.filter(|&expiry_ns| expiry_ns <= now_ns) else { return false };
        if self.tsc_deadline != 0 {
            // The deadline in nanoseconds was an estimate, and the guest may have written its TSC since.
            if self.tsc.tsc() < self.tsc_deadline {
                let left_ns = self.tsc.ns_until(self.tsc_deadline).max(1);
                self.expiry_ns = Some(now_ns.saturating_add(left_ns));
                return false;
            }
            self.tsc_deadline = 0;
            self.expiry_ns = None;
        } else if periodic {
            let late_ns = now_ns - expiry_ns;
            let period_ns = self.period_ns();
            self.expiry_ns = Some(now_ns - late_ns % period_ns + period_ns);
        } else {
            self.expiry_ns = None;
        }
        true
    }

    fn remaining_counts(&self) -> u64 {
        let Some(expiry_ns) = self.expiry_ns else { return 0 };
        expiry_ns.saturating_sub(self.clock.now_ns()).div_ceil(self.divisor())
    }

    /// Input clocks per count. The input's 1 GHz makes a clock a nanosecond.
    fn divisor(&self) -> u64 {
        const { assert!(TIMER_HZ == 1_000_000_000) };
        let code = self.divide & 3 | self.divide >> 1 & 4;
        1 << ((code + 1) & 7)
    }

    /// Never 0 while a count is set.
    fn period_ns(&self) -> u64 {
        u64::from(self.initial_count) * self.divisor()
    }
}
