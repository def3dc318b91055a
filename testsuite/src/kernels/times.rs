//! What a run of the kernels says: the time between each `start NAME` and `end NAME CHECKSUM` as the host saw the lines arrive.

use std::collections::BTreeMap;
use std::time::Duration;

/// One kernel's run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// From its first line to its last.
    pub seconds: f64,
    /// What it computed.
    pub checksum: String,
}

/// Collects the lines of a run.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The finished kernels by name.
    pub finished: BTreeMap<String, Measured>,
    /// Kernels that the machine's processor cannot run.
    pub skipped: Vec<String>,
    /// The kernel that has begun and not ended.
    pub running: Option<(String, Duration)>,
}

impl Times {
    /// Takes the next line, which arrived at `now`. If it ends a kernel, that kernel's name and measurement.
    pub fn line(&mut self, now: Duration, line: &str) -> Option<(&str, &Measured)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["skip", name] => self.skipped.push(name.into()),
            ["start", name] => self.running = Some((name.into(), now)),
            ["end", name, checksum] => {
                let (name, start) = self.running.take_if(|(running, _)| running == name)?;
                let seconds = now.saturating_sub(start).as_secs_f64();
                self.finished.insert(name, Measured { seconds, checksum: checksum.into() });
                return self
                    .finished
                    .get_key_value(words[1])
                    .map(|(name, measured)| (name.as_str(), measured));
            }
            _ => {}
        }
        None
    }

    /// Adds another run on the same machine: the shorter time counts.
    pub fn merge(&mut self, other: Self) {
        for (name, measured) in other.finished {
            let best = self.finished.entry(name).or_insert_with(|| measured.clone());
            if measured.seconds < best.seconds {
                *best = measured;
            }
        }
        self.skipped.extend(other.skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(lines: &[(u64, &str)]) -> Times {
        let mut times = Times::default();
        for &(ms, line) in lines {
            times.line(Duration::from_millis(ms), line);
        }
        times
    }

    #[test]
    fn lines_become_times() {
        let times = times(&[
            (5, "Linux says something"),
            (10, "start fib"),
            (510, "end fib 1f"),
            (520, "skip avx2"),
            (525, "end tlb 7"),
            (530, "start tlb"),
        ]);
        assert_eq!(times.finished["fib"], Measured { seconds: 0.5, checksum: "1f".into() });
        assert_eq!(times.finished.len(), 1);
        assert_eq!(times.skipped, ["avx2"]);
        assert_eq!(times.running, Some(("tlb".into(), Duration::from_millis(530))));
    }

    #[test]
    fn the_shorter_time_counts() {
        let mut best = times(&[(0, "start a"), (9, "end a 1")]);
        best.merge(times(&[(0, "start a"), (7, "end a 1"), (7, "start b"), (8, "end b 2")]));
        best.merge(times(&[(0, "start a"), (8, "end a 1")]));
        assert_eq!(best.finished["a"].seconds, 0.007);
        assert_eq!(best.finished["b"].seconds, 0.001);
    }
}
