//! Guest time: the host's monotonic clock since switch-on.

use rx86_devices::Clock;
use rx86_devices::lapic::TscClock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Ticks of the guest's time stamp counter per second. At 1 GHz a tick is a nanosecond, and every conversion is exact.
pub(super) const TSC_HZ: u64 = 1_000_000_000;

/// The host's clock as the guest sees it; never goes back.
#[derive(Debug)]
pub(super) struct HostClock {
    start: Instant,
    unix_ns_at_start: u64,
}

impl HostClock {
    /// Guest time zero is now.
    pub(super) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { start: Instant::now(), unix_ns_at_start: unix }
    }

    /// Nanoseconds since 1970 at guest time zero.
    pub(super) fn unix_ns_at_start(&self) -> u64 {
        self.unix_ns_at_start
    }
}

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl TscClock for HostClock {
    fn tsc(&self) -> u64 {
        self.now_ns()
    }

    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.now_ns())
    }
}
