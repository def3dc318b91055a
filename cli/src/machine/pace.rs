//! How many instructions a vCPU executes between two looks at the clock and at what is due: so many that the looks cost little,
//! and timers are not late by much.

use std::time::Duration;

/// Bounds of the number.
const LEAST: u64 = 20_000;
const MOST: u64 = 640_000;

/// Twice this time between two looks is long, half of it is short.
const WANTED: Duration = Duration::from_micros(50);

/// The number, which follows the time that the instructions take.
#[derive(Debug)]
pub(super) struct Pace {
    instructions: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { instructions: LEAST }
    }

    pub(super) fn instructions(&self) -> u64 {
        self.instructions
    }

    /// All of them took this time.
    pub(super) fn took(&mut self, elapsed: Duration) {
        if elapsed < WANTED / 2 {
            self.instructions = (self.instructions * 2).min(MOST);
        } else if elapsed > WANTED * 2 {
            self.instructions = (self.instructions / 2).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_settles_where_the_time_is_as_wanted() {
        let mut pace = Pace::new();
        let mut run = |nanoseconds_each: f64| {
            for _ in 0..20 {
                pace.took(Duration::from_nanos((pace.instructions() as f64 * nanoseconds_each) as u64));
            }
            pace.instructions()
        };
        assert_eq!(run(0.5), 80_000);
        assert_eq!(run(0.01), MOST);
        assert_eq!(run(20.0), LEAST);
    }
}
