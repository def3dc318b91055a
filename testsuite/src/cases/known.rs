//! Differences that are allowed, each with its reason: what the manual leaves undefined, and approximations.

use super::compare::{Difference, Place, differences};
use super::{sequence, vendors};
use crate::oracle::state::FLAGS;
use crate::oracle::{BREAKPOINT, Outcome, PRIVATE, Program};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, RflagsBits};

/// Forms that are known to differ from the host until they are corrected, with what is wrong. A form that no longer
/// differs has to go from this list.
pub const PENDING: &[(Code, &str)] = &[];

/// What a comparison has shown.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Differences that are faults.
    pub failures: Vec<Difference>,
    /// Flags that differ and that the manual leaves undefined.
    pub undefined_flags: u64,
    /// The manual does not define the result at all.
    pub undefined: bool,
    /// Differences within a stated error of an approximation.
    pub approximate: bool,
}

fn decoder(program: &Program) -> Decoder<'_> {
    Decoder::with_ip(program.mode.bits(), &program.code, program.ip(), DecoderOptions::NONE)
}

/// All instructions of the program.
pub fn instructions_of(program: &Program) -> Vec<Instruction> {
    decoder(program).into_iter().collect()
}

/// Whether the program is more than one instruction; FWAIT with the instruction that waits counts as one.
pub fn is_sequence(instructions: &[Instruction]) -> bool {
    match instructions {
        [] | [_] => false,
        [first, _] => first.mnemonic() != Mnemonic::Wait,
        _ => true,
    }
}

/// The program's instruction; its second one where the first is the FWAIT of a waiting form.
pub fn instruction_of(program: &Program) -> Instruction {
    let mut decoder = decoder(program);
    let first = decoder.decode();
    if first.mnemonic() == Mnemonic::Wait && decoder.can_decode() { decoder.decode() } else { first }
}

/// Compares the outcomes of a program.
pub fn judge(program: &Program, left: &Outcome, right: &Outcome) -> Verdict {
    let mut verdict = Verdict::default();
    let found = differences(left, right);
    if found.is_empty() {
        return verdict;
    }
    let instructions = instructions_of(program);
    let sequence = is_sequence(&instructions);
    let ended = left.ending.vector == BREAKPOINT && right.ending.vector == BREAKPOINT;
    let instruction = match instructions.iter().find(|i| !ended && i.ip() == left.state.rip) {
        Some(faulting) if sequence => *faulting,
        _ => instruction_of(program),
    };
    if is_undefined(&instruction, program, left, right)
        || vendors::end_differently(&instructions, program, left, right)
        || found.iter().any(|difference| vendors::spreads(&instructions, difference))
    {
        verdict.undefined = true;
        return verdict;
    }
    // An instruction that faulted has changed no flags.
    let undefined = match (sequence, ended) {
        (true, _) => sequence::undefined_flags(&instructions, ended),
        (false, true) => undefined_flags(&instruction, program),
        (false, false) => 0,
    };
    let undefined = if ended { undefined } else { undefined | vendors::flags_at_fault(&instruction) };
    for difference in found {
        if difference.place == Place::ErrorCode && is_kernel_page(left, right, &difference) {
            continue;
        }
        if difference.place == Place::Flags {
            let bits = (difference.left ^ difference.right) as u64;
            verdict.undefined_flags = bits & undefined;
            if bits & !undefined != 0 {
                verdict.failures.push(difference);
            }
        } else if is_approximation(&instruction, &difference) {
            verdict.approximate = true;
        } else if !is_unspecified(&instruction, &difference, left.ending.vector)
            && !vendors::differ(&instructions, left, &difference)
        {
            verdict.failures.push(difference);
        }
    }
    verdict
}

/// The host's kernel may have a page where rx86 has none: error code bit 0 of an address above Linux's user space.
fn is_kernel_page(left: &Outcome, right: &Outcome, difference: &Difference) -> bool {
    difference.left ^ difference.right == 1
        && left.ending.address == right.ending.address
        && left.ending.address >= 0x7fff_ffff_f000
}

/// Status flags as bits of RFLAGS, given iced-x86's bits.
pub fn flag_bits(iced: u32) -> u64 {
    const BITS: [(u32, u64); 6] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::OF, 1 << 11),
    ];
    BITS.iter().filter(|(bit, _)| iced & bit != 0).fold(0, |all, (_, bit)| all | bit) & FLAGS
}

/// The status flags that the manual leaves undefined after `instruction`, as bits of RFLAGS.
pub fn undefined_flags(instruction: &Instruction, program: &Program) -> u64 {
    let mut undefined = instruction.rflags_undefined();
    if shift_count(instruction, program).is_some_and(|count| count != 1) {
        undefined |= RflagsBits::OF;
    }
    flag_bits(undefined)
}

/// The masked count of a shift or rotation.
fn shift_count(instruction: &Instruction, program: &Program) -> Option<u64> {
    use Mnemonic::*;
    let last = match instruction.mnemonic() {
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar => 1,
        Shld | Shrd => 2,
        _ => return None,
    };
    let count = match instruction.op_kind(last) {
        OpKind::Register => program.state.gpr[1],
        _ => instruction.immediate(last),
    };
    let wide = instruction.op0_register().is_gpr64() || instruction.memory_size().size() == 8;
    Some(count & if wide { 63 } else { 31 })
}

fn is_approximation(instruction: &Instruction, difference: &Difference) -> bool {
    use Mnemonic::*;
    match (instruction.mnemonic(), difference.place) {
        // SDM: a relative error below 1.5 * 2^-12; two such results may lie twice that apart.
        (
            Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss,
            Place::Xmm(_) | Place::YmmHigh(_),
        ) => (0..4).all(|lane| {
            let value = |all: u128| f64::from(f32::from_bits((all >> (32 * lane)) as u32));
            let (left, right) = (value(difference.left), value(difference.right));
            // Whether results near the smallest normal number become zero is up to the implementation.
            let tiny = left.abs().max(right.abs()) <= f64::from(f32::MIN_POSITIVE);
            left == right
                || (left.is_nan() && right.is_nan())
                || (tiny && left.is_sign_negative() == right.is_sign_negative())
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
fn is_unspecified(instruction: &Instruction, difference: &Difference, vector: u32) -> bool {
    use Mnemonic::*;
    let (ended, ended_in_xm) = (vector == BREAKPOINT, vector == 19);
    match (instruction.mnemonic(), difference.place) {
        // The environment's pointers: AMD keeps those of instructions with an exception only.
        (Fnstenv | Fstenv | Fnsave | Fsave, Place::Memory(_)) => true,
        // How many of the eight pushes or pops are done before the one that faults.
        (Pusha | Pushad, Place::Memory(_)) | (Popa | Popad, Place::Gpr(_)) => !ended,
        // Which of their many accesses is made first.
        (Fnstenv | Fstenv | Fnsave | Fsave | Fldenv | Frstor, Place::Address) => true,
        // Whether an exception of the conversion comes before the change to MMX state.
        (Cvtpi2ps | Cvtps2pi | Cvttps2pi | Cvtpd2pi | Cvttpd2pi, Place::Ftw | Place::Fsw | Place::St(_)) => {
            ended_in_xm
        }
        _ => false,
    }
}

/// Whether the outcome is a fault in the pages that an oracle keeps for itself.
fn is_private(outcome: &Outcome) -> bool {
    const BYTES: u64 = 1 << 18;
    outcome.faulted() && (PRIVATE..PRIVATE + BYTES).contains(&outcome.ending.address)
}

/// Inputs for which the manual defines neither result nor flags.
fn is_undefined(instruction: &Instruction, program: &Program, left: &Outcome, right: &Outcome) -> bool {
    use Mnemonic::*;
    let ended = left.ending.vector == BREAKPOINT && right.ending.vector == BREAKPOINT;
    let both_faulted = left.faulted() && right.faulted() && left.ending.vector != right.ending.vector;
    match instruction.mnemonic() {
        // Whether alignment is checked before the address is found not to be canonical or beyond the limit: #GP or #SS.
        _ if (left.ending.vector, right.ending.vector) == (13, 12) => {
            matches!(instruction.memory_size().size(), 16 | 32)
        }
        // What the host has where rx86's handlers are.
        _ if is_private(right) => true,
        // Which of two operands is looked at first, where one has an impossible address and the other a page fault.
        _ if instruction.is_string_instruction() && both_faulted => true,
        // A count above the operand size.
        Shld | Shrd if instruction.op1_register().size() == 2 => {
            ended && shift_count(instruction, program).is_some_and(|count| count > 16)
        }
        // Intel reads 16 bits, AMD 32.
        Movsxd => instruction.op0_register().size() == 2,
        Bswap => instruction.op0_register().size() == 2,
        // Whether an address is looked at whose bytes are all masked depends on the implementation.
        Maskmovq | Maskmovdqu | Vmaskmovdqu => !ended,
        // Intel wants memory operands aligned (exceptions of type 4), AMD does not.
        Sha1rnds4 | Sha1nexte | Sha1msg1 | Sha1msg2 | Sha256rnds2 | Sha256msg1 | Sha256msg2 => {
            right.ending.vector == 13
        }
        // Bit 17 is AMD's misaligned-exception mask; with Intel it is reserved.
        Ldmxcsr | Vldmxcsr => !ended,
        // Which of their many accesses is made first, and whether they are checked as one.
        Fnstenv | Fstenv | Fnsave | Fsave | Fldenv | Frstor | Fld | Fstp | Fbld | Fbstp | Vmaskmovps
        | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq => both_faulted,
        // Whether the target or the push is checked first.
        Call => !ended && left.ending.vector != right.ending.vector,
        _ => false,
    }
}
