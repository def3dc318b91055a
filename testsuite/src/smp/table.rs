//! The measured times as Markdown tables: throughput with one and two processors, and round trips.

use super::bench::{Kind, Work};
use crate::kernels::machine::Machine;
use crate::kernels::times::Times;
use std::fmt;

/// A machine's times with one and with two processors.
pub struct Column {
    /// The machine.
    pub machine: Machine,
    /// With one processor, and with two.
    pub times: [Times; 2],
}

impl Column {
    fn seconds(&self, work: &Work, cpus: usize) -> Option<f64> {
        self.times[cpus - 1].finished.get(work.name).map(|measured| measured.seconds)
    }

    /// Rounds in a second, of all threads together.
    fn rate(&self, work: &Work, cpus: usize) -> Option<f64> {
        Some(f64::from(work.rounds) * cpus as f64 / self.seconds(work, cpus)?)
    }

    /// Two processors' rate over one's.
    pub fn gain(&self, work: &Work) -> Option<f64> {
        Some(self.rate(work, 2)? / self.rate(work, 1)?)
    }

    /// Microseconds of a round with two processors.
    pub fn round_us(&self, work: &Work) -> Option<f64> {
        Some(self.seconds(work, 2)? / f64::from(work.rounds) * 1e6)
    }
}

/// Both tables.
pub struct Tables<'a> {
    /// The rows.
    pub work: &'a [Work],
    /// The machines.
    pub columns: &'a [Column],
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}

fn row(f: &mut fmt::Formatter<'_>, cells: &[String]) -> fmt::Result {
    writeln!(f, "| {} |", cells.join(" | "))
}

fn head(f: &mut fmt::Formatter<'_>, cells: &[String]) -> fmt::Result {
    row(f, cells)?;
    writeln!(f, "|{}", "---|".repeat(cells.len()))
}

impl Tables<'_> {
    fn throughput(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.columns.iter().map(|column| column.machine.name());
        let mut cells = vec!["work".to_string()];
        cells.extend(names.flat_map(|name| [format!("{name} 1 s"), format!("{name} 2 s"), "gain".into()]));
        cells.push("of each thread".into());
        head(f, &cells)?;
        for work in self.work.iter().filter(|work| work.kind != Kind::RoundTrip) {
            let mut cells = vec![work.name.to_string()];
            cells.extend(self.columns.iter().flat_map(|column| {
                let seconds = [1, 2].map(|cpus| number(column.seconds(work, cpus), 3));
                [seconds[0].clone(), seconds[1].clone(), number(column.gain(work), 2)]
            }));
            let shared = if work.kind == Kind::Contended { "contended: " } else { "" };
            cells.push(format!("{shared}{}", work.what));
            row(f, &cells)?;
        }
        Ok(())
    }

    fn round_trips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cells = vec!["round trip".to_string()];
        cells.extend(self.columns.iter().map(|column| format!("{} us", column.machine.name())));
        cells.push("what it is".into());
        head(f, &cells)?;
        for work in self.work.iter().filter(|work| work.kind == Kind::RoundTrip) {
            let mut cells = vec![work.name.to_string()];
            cells.extend(self.columns.iter().map(|column| number(column.round_us(work), 2)));
            cells.push(work.what.into());
            row(f, &cells)?;
        }
        Ok(())
    }
}

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.throughput(f)?;
        writeln!(f)?;
        self.round_trips(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn times(lines: &[(&str, u64)]) -> Times {
        let mut times = Times::default();
        for (name, ms) in lines {
            times.line(Duration::ZERO, &format!("start {name}"));
            times.line(Duration::from_millis(*ms), &format!("end {name} 0"));
        }
        times
    }

    #[test]
    fn gains_and_round_trips() {
        let work = |name, kind| Work { name, kind, rounds: 1000, what: "this" };
        let work = [work("alu", Kind::Independent), work("ipi", Kind::RoundTrip)];
        let times = [times(&[("alu", 500)]), times(&[("alu", 625), ("ipi", 20)])];
        let column = Column { machine: Machine::Native, times };
        assert_eq!(column.gain(&work[0]), Some(1.6));
        assert_eq!(column.gain(&work[1]), None);
        let text = Tables { work: &work, columns: &[column] }.to_string();
        assert!(text.contains("| alu | 0.500 | 0.625 | 1.60 | this |"), "{text}");
        assert!(text.contains("| ipi | 20.00 | this |"), "{text}");
    }
}
