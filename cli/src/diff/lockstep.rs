//! Two of rx86's engines on the same guest, compared every so many instructions; the first difference is then narrowed to
//! one instruction by running both again.

use super::registers::Difference;
use super::report::{Finding, HISTORY, Verdict, describe};
use super::side::Rx86Side;
use super::state_compare::{bytes_that_differ, memory_differences, system_differences};
use anyhow::{Result, bail};
use std::collections::VecDeque;

/// Stretches between two comparisons of all memory, which take longer than a comparison of registers.
const STRETCHES_BETWEEN_MEMORY: u64 = 256;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Instructions between two comparisons; the guest's timers and interrupts act there too.
    pub every: u64,
    /// Instructions to compare; the comparison ends behind the stretch in which they are reached.
    pub limit: u64,
}

/// Makes both sides anew, left first.
pub type MakeSides<'a> = &'a dyn Fn() -> Result<(Rx86Side, Rx86Side)>;

/// Both sides at the same border.
struct Pair {
    left: Rx86Side,
    right: Rx86Side,
    every: u64,
}

impl Pair {
    fn new(make: MakeSides<'_>, every: u64) -> Result<Self> {
        let (mut left, mut right) = make()?;
        if !left.can_step() && !right.can_step() {
            bail!(
                "neither '{}' nor '{}' can stop behind a given instruction; compare one of them with 'interp'",
                left.name(),
                right.name()
            );
        }
        let mut pair = Self { left, right, every };
        pair.left.border();
        pair.right.border();
        Ok(pair)
    }

    /// Runs both for `budget` instructions: exactly, or as far as the side runs that cannot stop exactly.
    fn advance(&mut self, budget: u64) -> Result<()> {
        let (leader, follower) = match self.left.can_step() {
            true => (&mut self.right, &mut self.left),
            false => (&mut self.left, &mut self.right),
        };
        if leader.can_step() {
            let target = leader.retired() + budget;
            leader.run_to(target)?;
        } else {
            leader.run_about(budget);
        }
        let target = leader.retired();
        follower.run_to(target)?;
        // HLT may be the instruction behind the last one that the follower was asked for.
        if leader.is_halted() && !follower.is_halted() && follower.ended().is_none() {
            follower.step();
        }
        Ok(())
    }

    /// A stretch, without what happens behind it.
    fn stretch(&mut self) -> Result<()> {
        self.advance(self.every)
    }

    fn border(&mut self) {
        self.left.border();
        self.right.border();
    }

    /// What differs of registers, and of the bytes at `gpas`.
    fn differences(&mut self, gpas: &[u64]) -> Vec<Difference> {
        let mut found = self.left.registers().differences(&self.right.registers());
        found.extend(system_differences(&self.left.state(), &self.right.state()));
        if self.left.ended() != self.right.ended() {
            let name = format!("how it ended: {:?} and {:?}", self.left.ended(), self.right.ended());
            found.push(Difference { name, left: 0, right: 1 });
        }
        let retired = (self.left.retired(), self.right.retired());
        if retired.0 != retired.1 {
            let name = "instructions retired".into();
            found.push(Difference { name, left: retired.0.into(), right: retired.1.into() });
        }
        found.extend(bytes_that_differ(self.left.machine().memory(), self.right.machine().memory(), gpas));
        found
    }

    fn all_memory(&mut self) -> Vec<u64> {
        memory_differences(self.left.machine().memory(), self.right.machine().memory())
    }
}

/// Compares the sides that `make` makes. `progress` is told how many instructions are done.
pub fn compare(make: MakeSides<'_>, pace: Pace, progress: &mut dyn FnMut(u64)) -> Result<Verdict> {
    let mut pair = Pair::new(make, pace.every)?;
    let mut stretches = 0;
    loop {
        pair.stretch()?;
        stretches += 1;
        let ended = pair.left.ended().map(String::from);
        let last = ended.is_some() || pair.left.retired() >= pace.limit;
        let differs = !pair.differences(&[]).is_empty();
        let gpas = if !differs && (last || stretches % STRETCHES_BETWEEN_MEMORY == 0) {
            pair.all_memory()
        } else {
            Vec::new()
        };
        if differs || !gpas.is_empty() {
            return narrow(make, pace, stretches, &gpas);
        }
        let instructions = pair.left.retired();
        if last {
            let end = ended.unwrap_or_else(|| "the limit is reached".into());
            return Ok(Verdict::Same { instructions, end, known: Vec::new() });
        }
        progress(instructions);
        pair.border();
    }
}

/// Finds the first stretch in which registers or the bytes at `gpas` differ, of `stretches`, and the instruction in it.
fn narrow(make: MakeSides<'_>, pace: Pace, stretches: u64, gpas: &[u64]) -> Result<Verdict> {
    let mut first = stretches;
    if !gpas.is_empty() {
        let mut pair = Pair::new(make, pace.every)?;
        for stretch in 1..=stretches {
            pair.stretch()?;
            if !pair.differences(gpas).is_empty() {
                first = stretch;
                break;
            }
            pair.border();
        }
    }
    let mut pair = Pair::new(make, pace.every)?;
    let mut history = VecDeque::new();
    for stretch in 1..first {
        // The last instructions before are wanted for the report.
        let near = (first - stretch) * pace.every <= HISTORY as u64 + pace.every;
        if near && pair.left.can_step() && pair.right.can_step() {
            let end = pair.left.retired() + pace.every;
            while pair.left.retired() < end && pair.left.ended().is_none() && !pair.left.is_halted() {
                remember(&mut history, piece(&mut pair)?);
            }
        } else {
            pair.stretch()?;
        }
        pair.border();
    }
    // Both may halt within the stretch; then nothing is left to execute.
    for _ in 0..4 * pace.every {
        let before = pair.left.retired();
        let lines = piece(&mut pair)?;
        let differences = pair.differences(gpas);
        if !differences.is_empty() {
            return Ok(Verdict::Different(Box::new(Finding {
                before,
                instructions: lines,
                history: history.into(),
                left: (pair.left.name().into(), pair.left.registers()),
                right: (pair.right.name().into(), pair.right.registers()),
                differences,
            })));
        }
        remember(&mut history, lines);
    }
    bail!("a difference that was seen once did not come again; a side is not deterministic")
}

/// Keeps the last lines.
fn remember(history: &mut VecDeque<String>, lines: Vec<String>) {
    history.extend(lines);
    while history.len() > HISTORY {
        history.pop_front();
    }
}

/// Executes as few instructions as both sides can stop behind, and describes them.
fn piece(pair: &mut Pair) -> Result<Vec<String>> {
    if pair.left.can_step() && pair.right.can_step() {
        let (_, instruction, bytes) = pair.left.next_instruction();
        pair.left.step();
        pair.right.step();
        return Ok(vec![describe(&instruction, &bytes)]);
    }
    let (leader, follower) = match pair.left.can_step() {
        true => (&mut pair.right, &mut pair.left),
        false => (&mut pair.left, &mut pair.right),
    };
    leader.run_about(1);
    let mut lines = Vec::new();
    while follower.retired() < leader.retired() && follower.ended().is_none() && !follower.is_halted() {
        let (_, instruction, bytes) = follower.next_instruction();
        lines.push(describe(&instruction, &bytes));
        follower.step();
    }
    if lines.is_empty() {
        lines.push("the delivery of an event, between two instructions".into());
    }
    Ok(lines)
}
