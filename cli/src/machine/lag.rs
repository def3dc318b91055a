//! How far guest time is behind the host's, because vCPUs were kept from running: guest time then stands still for as long,
//! and makes up for it little by little. A guest that finds several ticks gone whenever it looks would never be done with
//! its timers, and take its clock for broken.

/// Guest time gains this fraction of the host's time.
const GAIN: u64 = 16;
/// So long after the last wait it begins to.
const PATIENCE_NS: u64 = 200_000_000;

/// Nanoseconds throughout; the host's time is what callers pass.
#[derive(Debug, Default)]
pub(super) struct Lag {
    behind: u64,
    /// The latest guest time that anybody was told.
    latest: u64,
    last_wait: u64,
    gained_until: u64,
}

impl Lag {
    /// A vCPU has waited for `waited`: guest time, which nobody has been told to be later than the host's, stands still for
    /// so long, but for no more than half of the time since it was last told to.
    pub(super) fn stand_still(&mut self, host: u64, waited: u64) {
        self.now(host);
        self.behind += waited.min(host.saturating_sub(self.last_wait) / 2);
        self.last_wait = host;
    }

    /// Guest time; never before what it was.
    pub(super) fn now(&mut self, host: u64) -> u64 {
        if host >= self.last_wait + PATIENCE_NS {
            // Looks may be a few nanoseconds apart: what is less than one of gain is left for the next.
            let gained = host.saturating_sub(self.gained_until) / GAIN;
            self.behind = self.behind.saturating_sub(gained);
            self.gained_until += gained * GAIN;
        } else {
            self.gained_until = self.gained_until.max(host);
        }
        self.latest = self.latest.max(host.saturating_sub(self.behind));
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn time_stands_still_for_as_long_as_a_vcpu_waited() {
        let mut lag = Lag::default();
        assert_eq!(lag.now(100 * MS), 100 * MS);
        lag.stand_still(110 * MS, 8 * MS);
        assert_eq!(lag.now(110 * MS), 110 * MS);
        assert_eq!(lag.now(117 * MS), 110 * MS);
        assert_eq!(lag.now(120 * MS), 112 * MS);
        // While it stands still another one has waited, too.
        lag.stand_still(121 * MS, 3 * MS);
        assert_eq!(lag.now(124 * MS), 113 * MS);
        assert_eq!(lag.now(130 * MS), 119 * MS);
    }

    #[test]
    fn time_passes_however_many_wait() {
        let mut lag = Lag::default();
        for host in (0..=1000).map(|ms| ms * MS) {
            (0..8).for_each(|_| lag.stand_still(host, 5 * MS));
        }
        assert_eq!(lag.now(1000 * MS) / MS, 500);
    }

    #[test]
    fn time_is_made_up_for_but_never_goes_back_nor_beyond_the_hosts() {
        let mut lag = Lag::default();
        lag.stand_still(50 * MS, 20 * MS);
        let mut last = 50 * MS;
        for host in (50..3000).map(|ms| ms * MS) {
            let now = lag.now(host);
            assert!(last <= now && now <= host.max(50 * MS), "{last} {now} {host}");
            assert!(now - last <= MS + MS / GAIN + 1);
            last = now;
        }
        assert_eq!(last, 2999 * MS);
        let mut hasty = Lag::default();
        hasty.stand_still(MS, MS / 100);
        (0..30_000).for_each(|step| _ = hasty.now(PATIENCE_NS + MS + 7 * step));
        assert_eq!(hasty.now(PATIENCE_NS + 2 * MS), PATIENCE_NS + 2 * MS);
        // A host thread that looked a little earlier, but asks later.
        assert_eq!(lag.now(2998 * MS), last);
    }
}
