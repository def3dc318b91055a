//! What a comparison has found, in words.

use super::known::Known;
use super::registers::{Difference, Registers};
use iced_x86::{Formatter, Instruction, IntelFormatter};
use std::fmt;

/// Instructions that are shown before the one that differs.
pub const HISTORY: usize = 16;

/// How a comparison ended.
#[derive(Debug)]
pub enum Verdict {
    /// Both sides did the same.
    Same {
        /// Instructions that both have executed.
        instructions: u64,
        /// Why the comparison ended.
        end: String,
        /// Known differences that were passed, and how often.
        known: Vec<(&'static Known, u64)>,
    },
    /// They did not.
    Different(Box<Finding>),
}

/// The first instruction that left different states behind.
#[derive(Debug)]
pub struct Finding {
    /// Instructions executed before it.
    pub before: u64,
    /// The instructions among which it is; one, unless a side cannot stop behind each.
    pub instructions: Vec<String>,
    /// The instructions before, the oldest first.
    pub history: Vec<String>,
    /// The left side's name, and its registers behind the instruction.
    pub left: (String, Registers),
    /// The same of the right side.
    pub right: (String, Registers),
    /// What differs.
    pub differences: Vec<Difference>,
}

/// An instruction with its address and bytes.
pub fn describe(instruction: &Instruction, bytes: &[u8]) -> String {
    let mut text = String::new();
    IntelFormatter::new().format(instruction, &mut text);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
    format!("{:#x}: {hex:<32} {text}", instruction.ip())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the sides differ after {} equal instructions", self.before)?;
        writeln!(f, "what led to it:")?;
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        match &self.instructions[..] {
            [only] => writeln!(f, "the first instruction that differs:\n  {only}")?,
            several => {
                writeln!(f, "one of these instructions is the first that differs:")?;
                for line in several {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        writeln!(f, "differences:")?;
        for difference in &self.differences {
            writeln!(f, "  {difference}")?;
        }
        for (side, (name, registers)) in [("left", &self.left), ("right", &self.right)] {
            write!(f, "{side} ({name}):\n{registers}")?;
        }
        Ok(())
    }
}
