//! Guest time: the host's monotonic clock while the machine runs, or a clock that is set by hand.

use super::halt_poll::sharers_of_a_host_cpu;
use super::lag::SharedLag;
use rx86_devices::Clock;
use rx86_devices::lapic::TscClock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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
    /// The host's clock.
    Host(HostClock),
    /// Nanoseconds, as somebody has set them.
    Set(AtomicU64),
}

#[derive(Debug)]
struct HostClock {
    start: Instant,
    /// How long the guest has stood still since.
    stood_ns: AtomicU64,
    /// Since when it does.
    stands: Mutex<Option<Instant>>,
    /// How far it is behind besides, and why.
    lag: SharedLag,
}

/// How far guest time goes beyond that at which a vCPU was last seen to run; farther by so much for each other one that the
/// host gives the same CPU in turn, whose turns are twice as long.
const SLACK_NS: u64 = 2_000_000;
const TURN_NS: u64 = 2_000_000;

impl HostClock {
    fn start(vcpus: usize) -> Self {
        let others = sharers_of_a_host_cpu(vcpus) as u64 - 1;
        Self {
            start: Instant::now(),
            stood_ns: AtomicU64::new(0),
            stands: Mutex::new(None),
            lag: SharedLag::new(vcpus, SLACK_NS + others * TURN_NS),
        }
    }

    /// The time without the lag.
    fn host_ns(&self) -> u64 {
        let ns = self.start.elapsed().as_nanos() as u64;
        ns.saturating_sub(self.stood_ns.load(Ordering::Relaxed))
    }

    fn now_ns(&self) -> u64 {
        self.lag.now(|| self.host_ns())
    }
}

/// The date at guest time zero of a clock that is set by hand.
const SET_UNIX_NS: u64 = 1_700_000_000_000_000_000;

impl GuestClock {
    /// The host's clock; guest time zero is now. It waits for each of so many vCPUs that is kept from running by the host.
    pub(super) fn start(vcpus: usize) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { source: Source::Host(HostClock::start(vcpus)), unix_ns_at_start: unix }
    }

    /// Guest time stands still until `go_on`: nobody looks at it meanwhile.
    pub(super) fn stand_still(&self) {
        if let Source::Host(clock) = &self.source {
            let mut stands = clock.stands.lock().unwrap_or_else(PoisonError::into_inner);
            stands.get_or_insert_with(Instant::now);
        }
    }

    /// Guest time goes on, if it stood still.
    pub(super) fn go_on(&self) {
        if let Source::Host(clock) = &self.source {
            let since = clock.stands.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stood_ns = since.map_or(0, |since| since.elapsed().as_nanos() as u64);
            clock.stood_ns.fetch_add(stood_ns, Ordering::Relaxed);
        }
    }

    /// A vCPU runs. To be called often by its thread, until it sleeps.
    pub(super) fn runs(&self, vcpu: usize) {
        if let Source::Host(clock) = &self.source {
            clock.lag.runs(vcpu, || clock.host_ns());
        }
    }

    /// A vCPU does not need to run for `ns`, unless it is called.
    pub(super) fn sleeps(&self, vcpu: usize, ns: u64) {
        if let Source::Host(clock) = &self.source {
            clock.lag.sleeps(vcpu, ns, || clock.host_ns());
        }
    }

    /// A vCPU that may sleep is to run.
    pub(super) fn is_called(&self, vcpu: usize) {
        if let Source::Host(clock) = &self.source {
            clock.lag.is_called(vcpu, || clock.host_ns());
        }
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

    /// What the guest reads from its time stamp counter. No two looks find the same time on a clock that is set by hand,
    /// which a guest may divide by; somebody who counts instructions sets it later than that.
    pub(super) fn look_ns(&self) -> u64 {
        match &self.source {
            Source::Host(_) => self.now_ns(),
            Source::Set(ns) => ns.fetch_add(1, Ordering::Relaxed),
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
            Source::Host(clock) => clock.now_ns(),
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
