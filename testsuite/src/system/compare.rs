//! Compares what a guest left on two sides, record by record.

use super::guest::SystemGuest;
use super::known::{KNOWN, Known};
use super::layout::*;
use super::run::Left;

/// One field of one record, a byte of memory or a register that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The case, or what else it is.
    pub case: String,
    /// The field's name.
    pub field: String,
    /// What the left side has.
    pub left: u128,
    /// What the right side has.
    pub right: u128,
}

/// Named parts of memory outside of the log.
const PARTS: [(u32, u32, &str); 6] = [
    (GDT, 0x1000, "GDT"),
    (IDT, 0x1000, "IDT"),
    (TSS, 0x800, "TSS"),
    (LDT, 0x800, "LDT"),
    (TABLES, 0x2_0000, "page tables"),
    (PAGES, 0x1_0000, "test pages"),
];

/// Everything that differs.
pub fn disagreements(guest: &SystemGuest, left: &Left, right: &Left) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let record_bytes = guest.record_bytes();
    let log = guest.log as usize;
    for (i, case) in guest.cases.iter().enumerate() {
        for (j, field) in guest.fields.iter().enumerate() {
            let at = log + i * record_bytes + j * guest.field_bytes;
            let value = |side: &Left| number(&side.memory[at..at + guest.field_bytes]);
            if value(left) != value(right) {
                found.push(Disagreement {
                    case: case.clone(),
                    field: field.clone(),
                    left: value(left),
                    right: value(right),
                });
            }
        }
    }
    let log_end = log + guest.cases.len() * record_bytes;
    for (at, (&l, &r)) in left.memory.iter().zip(&right.memory).enumerate() {
        // Records hold what is on the stacks.
        let is_stack = (STACK & !0xfff..HANDLERS - 0x1000).contains(&(at as u32));
        if l != r && !is_stack && !(log..log_end).contains(&at) {
            let part = PARTS.iter().find(|(from, bytes, _)| (*from..from + bytes).contains(&(at as u32)));
            let case = part.map_or("memory".to_string(), |(_, _, name)| format!("the {name}"));
            found.push(Disagreement { case, field: format!("{at:#x}"), left: l.into(), right: r.into() });
        }
    }
    for difference in left.registers.differences(&right.registers) {
        let (field, left, right) = (difference.name, difference.left, difference.right);
        found.push(Disagreement { case: "the end".into(), field, left, right });
    }
    found
}

/// Where `left` is not what the SDM says.
pub fn unmet(guest: &SystemGuest, left: &Left) -> Vec<String> {
    let halves =
        guest.expected_halves.iter().map(|&(case, field, value)| (case, field, u128::from(value), 2));
    let whole = guest.expected.iter().map(|&(case, field, value)| (case, field, value, guest.field_bytes));
    let mut lines = Vec::new();
    for (case, field, value, bytes) in whole.chain(halves) {
        let number_of = guest.fields.iter().position(|name| name == field);
        let Some(number_of) = number_of else { panic!("{}: no field {field}", guest.name) };
        let at = guest.log as usize + case * guest.record_bytes() + number_of * guest.field_bytes;
        let found = number(&left.memory[at..at + bytes]);
        if found != value {
            lines.push(format!(
                "{}: {}: {field} is {found:#x}, the SDM wants {value:#x}",
                guest.name, guest.cases[case]
            ));
        }
    }
    lines
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
}

/// What the list does not know, left before right, and what it knows but did not happen.
pub fn unexpected(guest: &SystemGuest, found: &[Disagreement]) -> Vec<String> {
    let entries = || KNOWN.iter().filter(|known| guest.name.contains(known.guest));
    let explains = |known: &Known, disagreement: &Disagreement| {
        disagreement.case.contains(known.case)
            && (known.fields.is_empty() || known.fields.contains(&disagreement.field.as_str()))
            && (disagreement.left ^ disagreement.right) & !known.bits == 0
    };
    let mut lines: Vec<String> = Vec::new();
    let mut case = "";
    for disagreement in found.iter().filter(|found| !entries().any(|known| explains(known, found))) {
        let Disagreement { field, left, right, .. } = disagreement;
        // One line a case.
        match lines.last_mut().filter(|_| case == disagreement.case) {
            Some(line) => *line += &format!(", {field} {left:#x}/{right:#x}"),
            None => {
                lines.push(format!("{}: {}: {field} {left:#x}/{right:#x}", guest.name, disagreement.case))
            }
        }
        case = &disagreement.case;
    }
    let own = entries().filter(|known| !known.guest.is_empty());
    for known in own.filter(|known| !found.iter().any(|disagreement| explains(known, disagreement))) {
        lines.push(format!("{}: '{}' no longer differs; remove it from the list", guest.name, known.case));
    }
    lines
}
