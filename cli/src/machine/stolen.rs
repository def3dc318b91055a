//! How long a thread has waited for a host CPU while it could have run, for the guest to know.

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
