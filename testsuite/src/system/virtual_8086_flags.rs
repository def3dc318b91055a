//! What the SDM says of the flags in virtual-8086 mode with VME (vol. 3, 20.3 and 20.4; vol. 2, CLI, STI, PUSHF, POPF, IRET): for
//! these there is no other emulator to ask.

use super::guest::SystemGuest;
use super::virtual_8086::{FLAGS, IMAGES};

const IF: u32 = 1 << 9;
const TF: u32 = 1 << 8;
const IOPL: u32 = 3 << 12;
const RF: u32 = 1 << 16;
const VIF: u32 = 1 << 19;
const VIP: u32 = 1 << 20;
/// What POPF and IRET change beside IF: the status flags, DF and NT.
const POPPED: u32 = 0x4cd5;

/// EFLAGS behind an instruction, or none if it is #GP(0).
type Outcome = Option<u32>;

fn iopl3(flags: u32) -> bool {
    flags & IOPL == IOPL
}

fn cli(flags: u32) -> Outcome {
    Some(flags & !if iopl3(flags) { IF } else { VIF })
}

fn sti(flags: u32) -> Outcome {
    if iopl3(flags) { Some(flags | IF) } else { (flags & VIP == 0).then_some(flags | VIF) }
}

/// What PUSHF writes.
fn pushed(flags: u32) -> u32 {
    let virtual_if = if flags & VIF != 0 { IF } else { 0 };
    0xffff & if iopl3(flags) { flags } else { flags & !IF | IOPL | virtual_if }
}

fn popf(flags: u32, image: u32) -> Outcome {
    let popped = flags & !POPPED | image & POPPED;
    if iopl3(flags) {
        return Some(popped & !(IF | TF) | image & (IF | TF));
    }
    let wants = image & IF != 0;
    if image & TF != 0 || wants && flags & VIP != 0 {
        return None;
    }
    Some(popped & !VIF | if wants { VIF } else { 0 })
}

/// Says what every case of these instructions must record.
pub fn expect(guest: &mut SystemGuest) {
    for (what, flags) in FLAGS {
        for (name, behind) in [("CLI", cli(flags)), ("STI", sti(flags)), ("PUSHF", Some(flags))] {
            outcome(guest, &format!("{name}, {what}"), flags, behind);
        }
        value(guest, &format!("PUSHF, {what}"), "eax", pushed(flags));
        value(guest, &format!("CLI and PUSHF, {what}"), "eax", cli(flags).map_or(0, pushed));
        value(guest, &format!("STI and PUSHF, {what}"), "eax", sti(flags).map_or(0, pushed));
        // What the program's own handler was given, and what it began with.
        value(guest, &format!("INT of the program, {what}"), "ecx", pushed(flags));
        let cleared = if iopl3(flags) { IF } else { VIF };
        outcome(guest, &format!("INT of the program, {what}"), flags, Some(flags & !cleared));
        for image in IMAGES {
            // A single step would be taken first.
            if iopl3(flags) && image & TF != 0 {
                continue;
            }
            for name in ["POPF", "IRET"] {
                let behind = popf(flags, image);
                outcome(guest, &format!("{name} of {image:#x}, {what}"), flags, behind);
            }
        }
    }
}

/// With IOPL 3 the case ends with INT 0x30, below with the #GP of that. A fault pushes RF.
fn outcome(guest: &mut SystemGuest, case: &str, flags: u32, behind: Outcome) {
    let (vector, field, pushed) = match behind {
        Some(behind) if iopl3(flags) => (0x30, "pushed[2]", behind),
        Some(behind) => (13, "pushed[3]", behind | RF),
        None => (13, "pushed[3]", flags | RF),
    };
    value(guest, case, "vector", vector);
    value(guest, case, field, pushed);
}

fn value(guest: &mut SystemGuest, case: &str, field: &'static str, value: u32) {
    let Some(number) = guest.cases.iter().position(|name| name == case) else { panic!("no case {case}") };
    guest.expected.push((number, field, value.into()));
}
