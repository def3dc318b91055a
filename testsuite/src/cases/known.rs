//! Differences that are allowed, each with its reason: what the manual leaves undefined, and approximations.

use super::compare::{Difference, Place, differences};
use crate::oracle::state::FLAGS;
use crate::oracle::{BREAKPOINT, Outcome, Program};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, RflagsBits};

/// What a comparison has shown.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Differences that are faults.
    pub failures: Vec<Difference>,
    /// Flags that differ and that the manual leaves undefined.
    pub undefined_flags: u64,
    /// Differences within a stated error of an approximation.
    pub approximate: bool,
}

/// The program's first instruction.
pub fn instruction_of(program: &Program) -> Instruction {
    Decoder::with_ip(64, &program.code, program.entry(), DecoderOptions::NONE).decode()
}

/// Compares the outcomes of a program.
pub fn judge(program: &Program, left: &Outcome, right: &Outcome) -> Verdict {
    let mut verdict = Verdict::default();
    let found = differences(left, right);
    if found.is_empty() {
        return verdict;
    }
    let instruction = instruction_of(program);
    // An instruction that faulted has changed no flags.
    let ended = left.ending.vector == BREAKPOINT && right.ending.vector == BREAKPOINT;
    let undefined = if ended { undefined_flags(&instruction) } else { 0 };
    for difference in found {
        if difference.place == Place::Flags {
            let bits = (difference.left ^ difference.right) as u64;
            verdict.undefined_flags = bits & undefined;
            if bits & !undefined != 0 {
                verdict.failures.push(difference);
            }
        } else if is_approximation(&instruction, &difference) {
            verdict.approximate = true;
        } else if !is_unspecified(&instruction, &difference) {
            verdict.failures.push(difference);
        }
    }
    verdict
}

/// The status flags that the manual leaves undefined after `instruction`, as bits of RFLAGS.
pub fn undefined_flags(instruction: &Instruction) -> u64 {
    const BITS: [(u32, u64); 6] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::OF, 1 << 11),
    ];
    let undefined = instruction.rflags_undefined();
    BITS.iter().filter(|(iced, _)| undefined & iced != 0).fold(0, |all, (_, bit)| all | bit) & FLAGS
}

fn is_approximation(instruction: &Instruction, difference: &Difference) -> bool {
    use Mnemonic::*;
    match (instruction.mnemonic(), difference.place) {
        // SDM: a relative error below 1.5 * 2^-12; two such results may lie twice that apart.
        (Rcpps | Rcpss | Rsqrtps | Rsqrtss, Place::Xmm(_)) => (0..4).all(|lane| {
            let value = |all: u128| f64::from(f32::from_bits((all >> (32 * lane)) as u32));
            let (left, right) = (value(difference.left), value(difference.right));
            left == right
                || (left.is_nan() && right.is_nan())
                || ((left - right) / right).abs() < 3.0 / 4096.0
        }),
        // SDM vol. 1, 8.3.10: an error of less than one unit in the last place; C1 tells the direction of rounding.
        (F2xm1 | Fyl2x | Fyl2xp1 | Fptan | Fpatan | Fsin | Fcos | Fsincos, Place::St(_)) => {
            difference.left.abs_diff(difference.right) <= 1
        }
        (F2xm1 | Fyl2x | Fyl2xp1 | Fptan | Fpatan | Fsin | Fcos | Fsincos, Place::Fsw) => {
            difference.left ^ difference.right == 0x200
        }
        _ => false,
    }
}

/// What no manual promises.
fn is_unspecified(instruction: &Instruction, difference: &Difference) -> bool {
    use Mnemonic::*;
    match (instruction.mnemonic(), difference.place) {
        // The environment's pointers: AMD keeps those of instructions with an exception only.
        (Fnstenv | Fstenv | Fnsave | Fsave, Place::Memory(_)) => true,
        _ => false,
    }
}
