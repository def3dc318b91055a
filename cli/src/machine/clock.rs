//! Guest time: the host's monotonic clock since switch-on, or a clock that is set by hand.

use rx86_devices::Clock;
use rx86_devices::lapic::TscClock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Ticks of the guest's time stamp counter per second. At 1 GHz a tick is a nanosecond, and every conversion is exact.
pub(super) const TSC_HZ: u64 = 1_000_000_000;

/// The guest's clock; never goes back.
#[derive(Debug)]
pub(super) struct GuestClock {
    source: Source,
    unix_ns_at_start: u64,
}

#[derive(Debug)]
enum Source {
    /// The host's clock, and guest time zero on it.
    Host(Instant),
    /// Nanoseconds, as somebody has set them.
    Set(AtomicU64),
}

/// The date at guest time zero of a clock that is set by hand.
const SET_UNIX_NS: u64 = 1_700_000_000_000_000_000;

impl GuestClock {
    /// The host's clock; guest time zero is now.
    pub(super) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { source: Source::Host(Instant::now()), unix_ns_at_start: unix }
    }

    /// A clock that stands at zero until it is set.
    pub(super) fn by_hand() -> Self {
        Self { source: Source::Set(AtomicU64::new(0)), unix_ns_at_start: SET_UNIX_NS }
    }

    /// Sets a clock that is set by hand; does nothing to the host's.
    pub(super) fn set_ns(&self, now_ns: u64) {
        if let Source::Set(ns) = &self.source {
            ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Whether it stands until it is set.
    pub(super) fn is_by_hand(&self) -> bool {
        matches!(self.source, Source::Set(_))
    }

    /// Nanoseconds since 1970 at guest time zero.
    pub(super) fn unix_ns_at_start(&self) -> u64 {
        self.unix_ns_at_start
    }
}

impl Clock for GuestClock {
    fn now_ns(&self) -> u64 {
        match &self.source {
            Source::Host(start) => start.elapsed().as_nanos() as u64,
            Source::Set(ns) => ns.load(Ordering::Relaxed),
        }
    }
}

impl TscClock for GuestClock {
    fn tsc(&self) -> u64 {
        self.now_ns()
    }

    fn ns_until(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.now_ns())
    }
}
