//! The kernels' times side by side, as a Markdown table, and what is wrong with them.

use super::machine::Machine;
use super::program::Kernel;
use super::times::{Measured, Times};
use crate::guest::runner::Emulator;
use std::fmt;

/// One machine's column.
pub type Column = (Machine, Times);

/// A quotient of two columns.
type Ratio = (Machine, Machine);

const RX86: Machine = Machine::Guest(Emulator::Rx86);
const QEMU: Machine = Machine::Guest(Emulator::QemuTcg);
const INTERPRETER: Machine = Machine::Guest(Emulator::Rx86Interpreter);
/// The quotients that are shown where both machines ran.
const RATIOS: [Ratio; 4] =
    [(RX86, Machine::Native), (QEMU, Machine::Native), (QEMU, RX86), (INTERPRETER, RX86)];

/// All times.
pub struct Table<'a> {
    kernels: &'a [Kernel],
    columns: &'a [Column],
}

impl<'a> Table<'a> {
    /// A table with these rows and columns.
    pub fn new(kernels: &'a [Kernel], columns: &'a [Column]) -> Self {
        Self { kernels, columns }
    }

    fn measured(&self, machine: Machine, kernel: &Kernel) -> Option<&Measured> {
        let (_, times) = self.columns.iter().find(|(column, _)| *column == machine)?;
        times.finished.get(&kernel.name)
    }

    fn ratio(&self, (over, under): Ratio, kernel: &Kernel) -> Option<f64> {
        Some(self.measured(over, kernel)?.seconds / self.measured(under, kernel)?.seconds)
    }

    fn ratios(&self) -> impl Iterator<Item = Ratio> {
        let ran = |machine| self.columns.iter().any(|(column, _)| *column == machine);
        RATIOS.into_iter().filter(move |&(over, under)| ran(over) && ran(under))
    }

    /// The geometric mean over the kernels that both machines finished.
    fn mean(&self, ratio: Ratio) -> Option<f64> {
        let logarithms: Vec<f64> =
            self.kernels.iter().filter_map(|kernel| Some(self.ratio(ratio, kernel)?.ln())).collect();
        let count = logarithms.len() as f64;
        (count > 0.0).then(|| (logarithms.iter().sum::<f64>() / count).exp())
    }

    /// One line for every kernel that did not finish somewhere, or computed something else there than in the first column.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for kernel in self.kernels {
            let mut expected: Option<(&str, &Measured)> = None;
            for (machine, times) in self.columns {
                let (name, machine) = (&kernel.name, machine.name());
                match (times.finished.get(name), expected) {
                    (None, _) if times.skipped.contains(name) => {}
                    (None, _) => faults.push(format!("{name}: {machine} did not finish it")),
                    (Some(measured), None) => expected = Some((machine, measured)),
                    (Some(measured), Some((first, right))) if measured.checksum != right.checksum => {
                        let (got, right) = (&measured.checksum, &right.checksum);
                        faults.push(format!("{name}: {machine} computed {got}, {first} {right}"));
                    }
                    _ => {}
                }
            }
        }
        faults
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let mut head = vec!["kernel".to_string()];
        head.extend(self.columns.iter().map(|(machine, _)| format!("{} s", machine.name())));
        head.extend(self.ratios().map(|(over, under)| format!("{} / {}", over.name(), under.name())));
        head.push("what it measures".into());
        let mut rows = vec![head];
        for kernel in self.kernels {
            let mut row = vec![kernel.name.clone()];
            let times = self.columns.iter().map(|&(machine, _)| self.measured(machine, kernel));
            row.extend(times.map(|measured| number(measured.map(|m| m.seconds), 3)));
            row.extend(self.ratios().map(|ratio| number(self.ratio(ratio, kernel), 2)));
            row.push(kernel.what.clone());
            rows.push(row);
        }
        let mut last = vec!["geometric mean".to_string()];
        last.extend(self.columns.iter().map(|_| String::new()));
        last.extend(self.ratios().map(|ratio| number(self.mean(ratio), 2)));
        last.push(String::new());
        rows.push(last);
        rows
    }
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.cells();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        for (index, row) in rows.iter().enumerate() {
            let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(f, "| {} |", padded.collect::<Vec<_>>().join(" | "))?;
            if index == 0 {
                let lines: Vec<String> = widths.iter().map(|&width| "-".repeat(width + 2)).collect();
                writeln!(f, "|{}|", lines.join("|"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn column(machine: Machine, kernels: &[(&str, u64, &str)]) -> Column {
        let mut times = Times::default();
        for (name, ms, checksum) in kernels {
            times.line(Duration::ZERO, &format!("start {name}"));
            times.line(Duration::from_millis(*ms), &format!("end {name} {checksum}"));
        }
        (machine, times)
    }

    fn kernels() -> [Kernel; 2] {
        ["fib", "tlb"].map(|name| Kernel { name: name.into(), what: "work".into() })
    }

    #[test]
    fn ratios_and_their_means() {
        let columns = [
            column(Machine::Native, &[("fib", 100, "a"), ("tlb", 100, "b")]),
            column(QEMU, &[("fib", 800, "a"), ("tlb", 400, "b")]),
            column(RX86, &[("fib", 200, "a"), ("tlb", 400, "b")]),
        ];
        let kernels = kernels();
        let table = Table::new(&kernels, &columns);
        let text = table.to_string();
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()
        };
        let rows: Vec<Vec<String>> = text.lines().map(cells).collect();
        assert_eq!(rows[2], ["fib", "0.100", "0.800", "0.200", "2.00", "8.00", "4.00", "work"]);
        assert_eq!(rows[4], ["geometric mean", "", "", "", "2.83", "5.66", "2.00", ""]);
        assert!(table.faults().is_empty());
    }

    #[test]
    fn faults_are_told() {
        let mut columns = [
            column(Machine::Native, &[("fib", 1, "a")]),
            column(QEMU, &[("fib", 1, "b"), ("tlb", 1, "a")]),
            column(RX86, &[("fib", 1, "a")]),
        ];
        columns[0].1.skipped.push("tlb".into());
        let kernels = kernels();
        let faults = Table::new(&kernels, &columns).faults();
        assert_eq!(faults, ["fib: QEMU computed b, native a", "tlb: rx86 did not finish it"]);
    }
}
