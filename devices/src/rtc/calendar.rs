//! The proleptic Gregorian calendar in days and seconds since 1970.

pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time as a clock's face shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DateTime {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    /// 1 is Sunday.
    pub(super) weekday: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
}

impl DateTime {
    pub(super) fn from_unix(seconds: i64) -> Self {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            // 1970 began on a Thursday.
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            hour: (second_of_day / 3600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
        }
    }

    /// Seconds since 1970; fields out of range carry over. The weekday is not looked at.
    pub(super) fn to_unix(self) -> i64 {
        let days = days_before(self.year, i64::from(self.month)) + i64::from(self.day) - 1;
        ((days * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second)
    }
}

/// Days from 1970-01-01 to the first of `month`. Years are counted from March, which puts the leap day last.
fn days_before(year: i64, month: i64) -> i64 {
    let months = year * 12 + month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From 0000-03-01 to 1970-01-01 are 719,468 days.
    year * 365 + leap_days + (month * 153 + 2) / 5 - 719_468
}

fn date_of(days: i64) -> (i64, u8, u8) {
    // 146,097 days are 400 years; the guess is never more than one year late.
    let mut year = (days * 400).div_euclid(146_097) + 1970;
    while days_before(year, 1) > days {
        year -= 1;
    }
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let mut month = 12;
    while days_before(year, month) > days {
        month -= 1;
    }
    (year, month as u8, (days - days_before(year, month) + 1) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_seconds_are_the_same_thing() {
        for (seconds, (year, month, day), (hour, minute, second), weekday) in [
            (0, (1970, 1, 1), (0, 0, 0), 5),
            (-1, (1969, 12, 31), (23, 59, 59), 4),
            (951_782_400, (2000, 2, 29), (0, 0, 0), 3),
            (951_868_800, (2000, 3, 1), (0, 0, 0), 4),
            (1_700_000_000, (2023, 11, 14), (22, 13, 20), 3),
            (4_107_542_400, (2100, 3, 1), (0, 0, 0), 2),
            (4_107_542_399, (2100, 2, 28), (23, 59, 59), 1),
        ] {
            let expected = DateTime { year, month, day, weekday, hour, minute, second };
            assert_eq!(DateTime::from_unix(seconds), expected, "{seconds}");
            assert_eq!(expected.to_unix(), seconds);
        }
        for day in -40_000..80_000 {
            let seconds = day * SECONDS_PER_DAY + 12_345;
            assert_eq!(DateTime::from_unix(seconds).to_unix(), seconds);
        }
    }
}
