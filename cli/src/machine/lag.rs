//! How far guest time is behind the host's, because vCPUs were kept from running: it goes no further than a little beyond the
//! moment when each of them was last seen to run or to have a reason not to. Later it makes up for that little by little. A guest
//! that finds several ticks gone whenever it looks would never be done with its timers, and take its clock for broken.

use rx86_softmmu::Sequenced;
use std::sync::atomic::{AtomicU64, Ordering};

/// Guest time gains this fraction of the host's time.
const GAIN: u64 = 16;
/// So long after it last stood still it begins to.
const PATIENCE_NS: u64 = 200_000_000;

/// Guest time as a function of the host's. Nanoseconds throughout; the host's time is what callers pass.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    /// When guest time last went on after it had stood still.
    went_on: u64,
    /// Guest time then.
    stood_at: u64,
    /// How far it was behind.
    behind: u64,
    /// The host's time at which it stands still, unless that becomes later meanwhile.
    horizon: u64,
}

impl Lag {
    fn behind(&self, host: u64) -> u64 {
        self.behind.saturating_sub(host.saturating_sub(self.went_on + PATIENCE_NS) / GAIN)
    }

    /// Guest time.
    fn at(&self, host: u64) -> u64 {
        let host = host.min(self.horizon);
        // A processor may read the host's time a little before it finds that guest time goes on.
        host.saturating_sub(self.behind(host)).max(self.stood_at)
    }

    fn with_horizon(self, horizon: u64) -> Self {
        Self { horizon: self.horizon.max(horizon), ..self }
    }

    /// Guest time goes on, if it stands still.
    fn after_standing(self, host: u64) -> Self {
        let stood = host.saturating_sub(self.horizon);
        if stood == 0 {
            return self;
        }
        let (stood_at, behind) = (self.at(host), self.behind(self.horizon) + stood);
        Self { went_on: host, stood_at, behind, horizon: host }
    }
}

impl From<[u64; 4]> for Lag {
    fn from([went_on, stood_at, behind, horizon]: [u64; 4]) -> Self {
        Self { went_on, stood_at, behind, horizon }
    }
}

impl From<Lag> for [u64; 4] {
    fn from(lag: Lag) -> Self {
        [lag.went_on, lag.stood_at, lag.behind, lag.horizon]
    }
}

/// The host's time up to which all is well with a vCPU: when it was last seen to run, or until when it sleeps. In a cache line of
/// its own, as each vCPU writes its own one all the time.
#[derive(Debug)]
#[repr(align(64))]
struct Well(AtomicU64);

/// The lag that all vCPUs share: they look at it without waiting for each other, but while it changes.
#[derive(Debug)]
pub(super) struct SharedLag {
    lag: Sequenced<4>,
    /// By vCPU.
    well: Box<[Well]>,
    /// For how long a vCPU may not be seen before guest time stands still.
    slack: u64,
}

impl SharedLag {
    /// Of so many vCPUs, all of which sleep. Guest time waits for no other one.
    pub(super) fn new(vcpus: usize, slack: u64) -> Self {
        Self {
            lag: Sequenced::default(),
            well: (0..vcpus).map(|_| Well(AtomicU64::new(u64::MAX))).collect(),
            slack,
        }
    }

    /// Guest time; never before what anybody was told. `host_ns` is asked for the host's time.
    #[inline]
    pub(super) fn now(&self, host_ns: impl Fn() -> u64) -> u64 {
        let (now, is_beyond) = self.lag.look(|words| {
            let (lag, host) = (Lag::from(words), host_ns());
            (lag.at(host), host > lag.horizon)
        });
        if is_beyond { self.now_with_new_horizon(now, host_ns) } else { now }
    }

    /// Guest time, which is `now` unless the vCPUs have been seen since the horizon was last looked for.
    #[cold]
    fn now_with_new_horizon(&self, now: u64, host_ns: impl Fn() -> u64) -> u64 {
        let horizon = self.lag.look(|words| Lag::from(words).horizon);
        if self.horizon(host_ns()) <= horizon {
            return now;
        }
        self.lag.change(|words| Lag::from(words).with_horizon(self.horizon(host_ns())).into());
        self.lag.look(|words| Lag::from(words).at(host_ns()))
    }

    /// How far guest time may go at `host`, for all that is known then.
    fn horizon(&self, host: u64) -> u64 {
        let well = self.well.iter().map(|Well(ns)| ns.load(Ordering::Relaxed)).fold(host, u64::min);
        well + self.slack
    }

    /// A vCPU runs. To be called again and again by its thread.
    #[inline]
    pub(super) fn runs(&self, vcpu: usize, host_ns: impl Fn() -> u64) {
        let Some(Well(well)) = self.well.get(vcpu) else { return };
        let host = host_ns();
        if host > well.load(Ordering::Relaxed).saturating_add(self.slack) {
            self.runs_again(vcpu, host_ns);
        } else {
            well.store(host, Ordering::Relaxed);
        }
    }

    /// A vCPU runs that was not seen for long: guest time stood still for it, and goes on as far as the others allow.
    #[cold]
    fn runs_again(&self, vcpu: usize, host_ns: impl Fn() -> u64) {
        self.lag.change(|words| {
            let host = host_ns();
            let lag = Lag::from(words).with_horizon(self.horizon(host));
            self.well[vcpu].0.store(host, Ordering::Relaxed);
            lag.after_standing(host).with_horizon(self.horizon(host)).into()
        });
    }

    /// A vCPU that has been seen to run does not need to for `ns`, from `host` on.
    pub(super) fn sleeps(&self, vcpu: usize, host: u64, ns: u64) {
        if let Some(Well(well)) = self.well.get(vcpu) {
            well.store(host.saturating_add(ns), Ordering::Relaxed);
        }
    }

    /// A vCPU that may sleep is to run at `host`.
    pub(super) fn is_called(&self, vcpu: usize, host: u64) {
        if let Some(Well(well)) = self.well.get(vcpu) {
            well.fetch_min(host, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const MS: u64 = 1_000_000;
    const SLACK: u64 = 2 * MS;

    /// vCPUs on a host whose clock a test sets, in milliseconds.
    struct Host(SharedLag);

    impl Host {
        /// All of so many vCPUs run at zero.
        fn with(vcpus: usize) -> Self {
            let host = Self(SharedLag::new(vcpus, SLACK));
            (0..vcpus).for_each(|vcpu| host.runs(vcpu, 0));
            host
        }

        fn runs(&self, vcpu: usize, ms: u64) {
            self.0.runs(vcpu, || ms * MS);
        }

        fn now_at(&self, ms: u64) -> u64 {
            self.0.now(|| ms * MS) / MS
        }
    }

    #[test]
    fn time_is_the_hosts_while_all_run() {
        let host = Host::with(2);
        for ms in 0..100 {
            host.runs(0, ms);
            host.runs(1, ms);
            assert_eq!(host.now_at(ms), ms);
            assert_eq!(host.now_at(ms + 1), ms + 1);
        }
    }

    #[test]
    fn time_stands_still_while_one_is_kept_from_running() {
        let host = Host::with(2);
        for ms in 1..50 {
            host.runs(0, ms);
            assert_eq!(host.now_at(ms), ms.min(2));
        }
        host.runs(1, 50);
        assert_eq!(host.now_at(50), 2);
        host.runs(0, 51);
        assert_eq!(host.now_at(51), 3);
    }

    #[test]
    fn who_runs_again_finds_no_time_gone_even_if_nobody_has_looked() {
        let host = Host::with(3);
        host.runs(0, 301);
        host.runs(1, 301);
        assert_eq!(host.now_at(301), 2, "the third one has yet to run");
        host.runs(2, 302);
        assert_eq!(host.now_at(303), 3);
    }

    #[test]
    fn time_passes_while_vcpus_sleep_but_not_when_they_are_to_wake() {
        let host = Host::with(2);
        host.0.sleeps(0, 0, u64::MAX);
        host.0.sleeps(1, 0, 100 * MS);
        assert_eq!(host.now_at(90), 90);
        assert_eq!(host.now_at(150), 102, "it was to wake at 100");
        host.runs(1, 200);
        assert_eq!(host.now_at(200), 102);
        host.0.is_called(0, 201 * MS);
        host.runs(1, 250);
        assert_eq!(host.now_at(250), 104, "nobody was seen behind 202");
        host.runs(1, 259);
        assert_eq!(host.now_at(259), 104, "the other one was called at 201");
        host.runs(0, 260);
        assert_eq!(host.now_at(261), 105);
    }

    #[test]
    fn time_passes_where_all_sleep_for_good() {
        let host = Host::with(1);
        host.0.sleeps(0, 0, u64::MAX);
        assert_eq!(host.now_at(5000), 5000);
        host.runs(0, 9000);
        assert_eq!(host.now_at(9000), 9000);
    }

    #[test]
    fn time_is_made_up_for_but_never_goes_back_nor_beyond_the_hosts() {
        let host = Host::with(1);
        host.runs(0, 22);
        let mut last = host.now_at(22);
        assert_eq!(last, 2);
        for ms in 22..1000 {
            host.runs(0, ms);
            let now = host.now_at(ms);
            assert!(last <= now && now <= ms && now <= last + 2, "{last} {now} {ms}");
            last = now;
        }
        assert_eq!(last, 999);
        // It was 20 behind until 222.
        assert_eq!(host.now_at(221), 201);
    }

    #[test]
    fn no_thread_sees_time_go_back() {
        const LOOKS: u32 = 200_000;
        let (lag, latest, start) = (SharedLag::new(2, 2000), AtomicU64::new(0), Instant::now());
        let host_ns = || start.elapsed().as_nanos() as u64;
        std::thread::scope(|scope| {
            for vcpu in [0, 1] {
                let (lag, latest) = (&lag, &latest);
                scope.spawn(move || {
                    for look in 0..LOOKS {
                        let before = latest.load(Ordering::SeqCst);
                        let now = lag.now(host_ns);
                        assert!(now >= before, "{now} behind {before}");
                        latest.fetch_max(now, Ordering::SeqCst);
                        if look.is_multiple_of(8 << vcpu) {
                            lag.runs(vcpu, host_ns);
                        }
                    }
                    lag.sleeps(vcpu, host_ns(), u64::MAX);
                });
            }
        });
    }
}
