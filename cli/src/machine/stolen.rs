//! How long a thread has waited for a host CPU while it could have run, for the guest to know and for its clock.

use std::time::Duration;

/// How long a look at the host's count is good for.
const PERIOD_NS: u64 = 10_000_000;

/// The count of the thread that asks.
#[derive(Debug, Default)]
pub(super) struct StolenTime {
    next_look_ns: u64,
    ns: u64,
}

impl StolenTime {
    /// Nanoseconds since the thread began, at guest time `now_ns` or a little before.
    pub(super) fn at(&mut self, now_ns: u64) -> u64 {
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns + PERIOD_NS;
            // A run's threads may be others than those of the run before.
            self.ns = self.ns.max(waited_ns());
        }
        self.ns
    }
}

/// How long a thread may wait for each other one that the host gives the same CPU in turn.
const TURN_NS: u64 = 4_000_000;

/// Notices that its thread was kept from running.
#[derive(Debug)]
pub(super) struct Starvation {
    waited_ns: u64,
    /// What a vCPU waits for others of its machine is no starvation.
    fair_ns: u64,
}

impl Starvation {
    /// What takes less is no reason to ask the host.
    pub(super) const SUSPICIOUS: Duration = Duration::from_millis(2);

    /// Of a vCPU that shares its host CPU with so many others. To be called by its thread itself.
    pub(super) fn begin(others: usize) -> Self {
        Self { waited_ns: waited_ns(), fair_ns: TURN_NS * others as u64 }
    }

    /// How much longer than is fair the thread waited for a host CPU in `elapsed`, which has just passed.
    pub(super) fn in_the_last(&mut self, elapsed: Duration) -> u64 {
        let waited_ns = waited_ns();
        let since = waited_ns.saturating_sub(self.waited_ns);
        self.waited_ns = waited_ns;
        since.min(elapsed.as_nanos() as u64).saturating_sub(self.fair_ns)
    }
}

/// The second number in a thread's schedstat (Linux's Documentation/scheduler/sched-stats).
#[cfg(target_os = "linux")]
fn waited_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Other hosts do not tell.
#[cfg(not(target_os = "linux"))]
fn waited_ns() -> u64 {
    0
}
