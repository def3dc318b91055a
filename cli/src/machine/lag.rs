//! How far guest time is behind the host's, because vCPUs were kept from running: guest time then stands still for as long,
//! and makes up for it little by little. A guest that finds several ticks gone whenever it looks would never be done with
//! its timers, and take its clock for broken.

use rx86_softmmu::Sequenced;

/// Guest time gains this fraction of the host's time.
const GAIN: u64 = 16;
/// So long after the last wait it begins to.
const PATIENCE_NS: u64 = 200_000_000;
/// A processor may look whether the lag has changed a little before it reads the host's time, though the program does so
/// behind that: by no more than this.
const EARLY_LOOK_NS: u64 = 10_000;

/// Guest time as a function of the host's, until a vCPU is kept from running again. Nanoseconds throughout; the host's time is
/// what callers pass.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    /// When a vCPU was last known to have waited.
    last_wait: u64,
    /// Guest time since then, until it goes on.
    stands_at: u64,
    /// How far it is behind when it does.
    behind: u64,
}

impl Lag {
    /// How far guest time is behind once it goes on.
    fn behind(&self, host: u64) -> u64 {
        let gains_from = self.goes_on().max(self.last_wait + PATIENCE_NS);
        self.behind.saturating_sub(host.saturating_sub(gains_from) / GAIN)
    }

    fn goes_on(&self) -> u64 {
        self.stands_at + self.behind
    }

    /// Guest time.
    fn at(&self, host: u64) -> u64 {
        host.saturating_sub(self.behind(host)).max(self.stands_at)
    }

    /// A vCPU has waited for `waited`: guest time stands still for so long, but for no more than half of the time since it was
    /// last told to. Before `host` it was never asked for later than `EARLY_LOOK_NS` behind.
    fn after_wait(&self, host: u64, waited: u64) -> Self {
        let waited = waited.min(host.saturating_sub(self.last_wait) / 2);
        Self { last_wait: host, stands_at: self.at(host + EARLY_LOOK_NS), behind: self.behind(host) + waited }
    }
}

impl From<[u64; 3]> for Lag {
    fn from([last_wait, stands_at, behind]: [u64; 3]) -> Self {
        Self { last_wait, stands_at, behind }
    }
}

impl From<Lag> for [u64; 3] {
    fn from(lag: Lag) -> Self {
        [lag.last_wait, lag.stands_at, lag.behind]
    }
}

/// The lag that all vCPUs share: they look at it without waiting for each other, but while it changes.
#[derive(Debug, Default)]
pub(super) struct SharedLag(Sequenced<3>);

impl SharedLag {
    /// Guest time; never before what anybody was told. `host_ns` is asked for the host's time.
    #[inline]
    pub(super) fn now(&self, host_ns: impl Fn() -> u64) -> u64 {
        self.0.look(|words| Lag::from(words).at(host_ns()))
    }

    /// A vCPU has waited for `waited` nanoseconds.
    pub(super) fn stand_still(&self, host_ns: impl Fn() -> u64, waited: u64) {
        if waited > 0 {
            self.0.change(|words| Lag::from(words).after_wait(host_ns(), waited).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    const MS: u64 = 1_000_000;

    #[test]
    fn time_stands_still_for_as_long_as_a_vcpu_waited() {
        let lag = Lag::default();
        assert_eq!(lag.at(100 * MS), 100 * MS);
        let lag = lag.after_wait(110 * MS, 8 * MS);
        assert_eq!(lag.at(110 * MS), 110 * MS + EARLY_LOOK_NS);
        assert_eq!(lag.at(118 * MS), 110 * MS + EARLY_LOOK_NS);
        assert_eq!(lag.at(120 * MS), 112 * MS);
        // While it stands still another one has waited, too.
        let lag = lag.after_wait(121 * MS, 3 * MS);
        assert_eq!(lag.at(124 * MS), 113 * MS + EARLY_LOOK_NS);
        assert_eq!(lag.at(130 * MS), 119 * MS);
    }

    #[test]
    fn time_passes_however_many_wait() {
        let mut lag = Lag::default();
        for host in (0..=1000).map(|ms| ms * MS) {
            (0..8).for_each(|_| lag = lag.after_wait(host, 5 * MS));
        }
        let half = 500 * MS;
        assert!((half..half + MS).contains(&lag.at(1000 * MS)), "{}", lag.at(1000 * MS));
    }

    #[test]
    fn time_is_made_up_for_but_never_goes_back_nor_beyond_the_hosts() {
        let lag = Lag::default().after_wait(50 * MS, 20 * MS);
        let mut last = lag.at(50 * MS);
        for host in (50..3000).map(|ms| ms * MS) {
            let now = lag.at(host);
            assert!(last <= now && now <= host.max(50 * MS + EARLY_LOOK_NS), "{last} {now} {host}");
            assert!(now - last <= MS + MS / GAIN + 1);
            last = now;
        }
        assert_eq!(last, 2999 * MS);
        assert_eq!(lag.at(250 * MS), 230 * MS);
        assert_eq!(lag.at(266 * MS), 247 * MS);
    }

    #[test]
    fn no_thread_sees_time_go_back() {
        const LOOKS: u32 = 200_000;
        let (lag, latest, start) = (SharedLag::default(), AtomicU64::new(0), Instant::now());
        let host_ns = || start.elapsed().as_nanos() as u64;
        std::thread::scope(|scope| {
            for waits in [false, true] {
                let (lag, latest) = (&lag, &latest);
                scope.spawn(move || {
                    for look in 0..LOOKS {
                        let before = latest.load(Ordering::SeqCst);
                        let now = lag.now(host_ns);
                        assert!(now >= before, "{now} behind {before}");
                        latest.fetch_max(now, Ordering::SeqCst);
                        if waits && look.is_multiple_of(8) {
                            lag.stand_still(host_ns, u64::from(look) * 8);
                        }
                    }
                });
            }
        });
    }
}
