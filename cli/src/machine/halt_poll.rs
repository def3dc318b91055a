//! How long a halted vCPU looks for its wake-up before it gives the host CPU away: not at all, or about as long as its last
//! halts were, if those were shorter than what a host takes to put a thread to sleep and wake it again.

use rx86_softmmu::Attention;
use std::time::{Duration, Instant};

/// The longest look: a host's wake-up of a thread on another CPU takes some 5 to 60 microseconds.
const LONGEST: Duration = Duration::from_micros(100);
/// The first look after short halts.
const SHORTEST: Duration = Duration::from_micros(10);

/// Whether each of so many vCPUs can have a host CPU for itself.
pub(super) fn has_host_cpus_for(vcpus: usize) -> bool {
    std::thread::available_parallelism().is_ok_and(|count| vcpus <= count.get())
}

/// One vCPU's experience.
#[derive(Debug)]
pub(super) struct HaltPoll {
    window: Duration,
    longest: Duration,
}

impl HaltPoll {
    /// For one of `vcpus`. A vCPU that is alone waits for devices, which are slow; where vCPUs have no host CPU each, the
    /// one that looks takes it from the one that it waits for.
    pub(super) fn new(vcpus: usize) -> Self {
        let is_worth_it = vcpus > 1 && has_host_cpus_for(vcpus);
        Self { window: Duration::ZERO, longest: if is_worth_it { LONGEST } else { Duration::ZERO } }
    }

    /// Waits until one of `wakes` is up, but no longer than `limit`; may return earlier.
    pub(super) fn wait(&mut self, attention: &Attention, wakes: u32, limit: Duration) {
        let start = Instant::now();
        let window = self.window.min(limit);
        if attention.comes_up(wakes, || start.elapsed() < window) {
            return;
        }
        if window < limit {
            attention.sleep(wakes, limit - window);
        }
        self.learn(start.elapsed());
    }

    /// A halt was longer than the window, and took so long.
    fn learn(&mut self, halted: Duration) {
        self.window = if halted > self.longest || self.longest.is_zero() {
            Duration::ZERO
        } else {
            (self.window * 2).clamp(SHORTEST, self.longest)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_halts_open_the_window_and_a_long_one_closes_it() {
        let mut poll = HaltPoll { window: Duration::ZERO, longest: LONGEST };
        for (halted_us, window_us) in
            [(500, 0), (60, 10), (60, 20), (60, 40), (60, 80), (90, 100), (100, 100), (101, 0), (5, 10)]
        {
            poll.learn(Duration::from_micros(halted_us));
            assert_eq!(poll.window, Duration::from_micros(window_us), "after {halted_us}");
        }
        let mut alone = HaltPoll::new(1);
        alone.learn(Duration::from_micros(1));
        assert_eq!(alone.window, Duration::ZERO);
    }

    #[test]
    fn a_flag_that_is_up_ends_the_wait_at_once() {
        for window in [Duration::ZERO, LONGEST] {
            let mut poll = HaltPoll { window, longest: LONGEST };
            let attention = Attention::default();
            attention.raise(Attention::NMI);
            poll.wait(&attention, Attention::NMI, Duration::MAX);
            assert_eq!(attention.peek(), Attention::NMI);
        }
    }
}
