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
    /// The guest time at which it stands still, unless that becomes later meanwhile.
    limit: u64,
}

impl Lag {
    /// Guest time if nothing held it.
    fn free(&self, host: u64) -> u64 {
        let behind = self.behind.saturating_sub(host.saturating_sub(self.went_on + PATIENCE_NS) / GAIN);
        // A processor may read the host's time a little before it finds that guest time goes on.
        host.saturating_sub(behind).max(self.stood_at)
    }

    fn is_held(&self, host: u64) -> bool {
        self.free(host) > self.limit
    }

    /// Guest time.
    fn at(&self, host: u64) -> u64 {
        self.free(host).min(self.limit)
    }

    fn with_limit(self, limit: u64) -> Self {
        Self { limit: self.limit.max(limit), ..self }
    }

    /// If guest time stands still, it goes on from there, as far as the limit allows.
    fn going_on(self, host: u64) -> Self {
        if !self.is_held(host) {
            return self;
        }
        Self { went_on: host, stood_at: self.limit, behind: host.saturating_sub(self.limit), ..self }
    }
}

impl From<[u64; 4]> for Lag {
    fn from([went_on, stood_at, behind, limit]: [u64; 4]) -> Self {
        Self { went_on, stood_at, behind, limit }
    }
}

impl From<Lag> for [u64; 4] {
    fn from(lag: Lag) -> Self {
        [lag.went_on, lag.stood_at, lag.behind, lag.limit]
    }
}

/// The guest time up to which all is well with a vCPU: when it was last seen to run, or until when it sleeps. In a cache line of
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
    /// How far guest time goes beyond that of each.
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

    /// Guest time, and whether it is held there.
    #[inline]
    fn look(&self, host_ns: impl Fn() -> u64) -> (u64, bool) {
        self.lag.look(|words| {
            let (lag, host) = (Lag::from(words), host_ns());
            (lag.at(host), lag.is_held(host))
        })
    }

    /// Guest time; never before what anybody was told. `host_ns` is asked for the host's time.
    #[inline]
    pub(super) fn now(&self, host_ns: impl Fn() -> u64) -> u64 {
        let (now, is_held) = self.look(&host_ns);
        if is_held { self.now_with_new_limit(now, host_ns) } else { now }
    }

    /// Guest time, which is `now` unless the vCPUs have been seen since the limit was last looked for.
    #[cold]
    fn now_with_new_limit(&self, now: u64, host_ns: impl Fn() -> u64) -> u64 {
        let stays = self.lag.look(|words| {
            let lag = Lag::from(words);
            self.limit(&lag, host_ns()) <= lag.limit
        });
        if stays {
            return now;
        }
        self.lag.change(|words| {
            let lag = Lag::from(words);
            lag.with_limit(self.limit(&lag, host_ns())).into()
        });
        self.look(host_ns).0
    }

    /// How far guest time may go at `host`, for all that is known then.
    fn limit(&self, lag: &Lag, host: u64) -> u64 {
        let seen = self.well.iter().map(|Well(ns)| ns.load(Ordering::Relaxed));
        seen.fold(lag.free(host), u64::min) + self.slack
    }

    /// A vCPU runs. To be called again and again by its thread.
    #[inline]
    pub(super) fn runs(&self, vcpu: usize, host_ns: impl Fn() -> u64) {
        let Some(Well(well)) = self.well.get(vcpu) else { return };
        match self.look(&host_ns) {
            (now, false) => well.store(now, Ordering::Relaxed),
            (_, true) => self.runs_at_limit(well, host_ns),
        }
    }

    /// A vCPU runs while guest time may stand still: it goes on from there, as far as the others allow.
    #[cold]
    fn runs_at_limit(&self, well: &AtomicU64, host_ns: impl Fn() -> u64) {
        self.lag.change(|words| {
            let (lag, host) = (Lag::from(words), host_ns());
            let lag = lag.with_limit(self.limit(&lag, host)).going_on(host);
            well.store(lag.at(host), Ordering::Relaxed);
            lag.with_limit(self.limit(&lag, host)).into()
        });
    }

    /// A vCPU that has been seen to run does not need to for `ns`.
    pub(super) fn sleeps(&self, vcpu: usize, ns: u64, host_ns: impl Fn() -> u64) {
        if let Some(Well(well)) = self.well.get(vcpu) {
            well.store(self.now(host_ns).saturating_add(ns), Ordering::Relaxed);
        }
    }

    /// A vCPU that may sleep is to run.
    pub(super) fn is_called(&self, vcpu: usize, host_ns: impl Fn() -> u64) {
        if let Some(Well(well)) = self.well.get(vcpu) {
            well.fetch_min(self.now(host_ns), Ordering::Relaxed);
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
    fn time_passes_while_vcpus_take_turns() {
        // Each waits for longer than the slack, and in all of the time one does.
        let host = Host::with(4);
        for ms in 0..1600 {
            host.runs(ms as usize / 4 % 4, ms);
        }
        let now = host.now_at(1600);
        assert!((180..400).contains(&now), "{now}: the slack at least in each round of 16 ms");
    }

    #[test]
    fn time_passes_while_vcpus_sleep_but_not_when_they_are_to_wake() {
        let host = Host::with(2);
        host.0.sleeps(0, u64::MAX, || 0);
        host.0.sleeps(1, 100 * MS, || 0);
        assert_eq!(host.now_at(90), 90);
        assert_eq!(host.now_at(150), 102, "it was to wake at 100");
        host.runs(1, 200);
        assert_eq!(host.now_at(200), 102);
        host.0.is_called(0, || 201 * MS);
        host.runs(1, 202);
        assert_eq!(host.now_at(250), 105, "the other one was called at 103");
        host.runs(1, 251);
        host.runs(0, 260);
        host.runs(1, 260);
        assert_eq!(host.now_at(261), 106);
    }

    #[test]
    fn time_passes_where_all_sleep_for_good() {
        let host = Host::with(1);
        host.0.sleeps(0, u64::MAX, || 0);
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
            assert!(ms > 221 || now == ms - 20, "{now} {ms}");
            last = now;
        }
        assert_eq!(last, 999);
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
                    lag.sleeps(vcpu, u64::MAX, host_ns);
                });
            }
        });
    }
}
