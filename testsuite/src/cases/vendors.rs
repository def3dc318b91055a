//! Where processors of Intel and AMD differ, and the manuals allow both or say nothing. The host may be of either.

use super::compare::{Difference, Place};
use crate::oracle::state::FLAGS;
use crate::oracle::{Mode, Outcome, Program};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Numbers of registers.
const RSI: usize = 6;
const RDI: usize = 7;

/// Whether the vendors differ in this after one of a program's instructions.
pub(super) fn differ(instructions: &[Instruction], outcome: &Outcome, difference: &Difference) -> bool {
    let faulted = |instruction: &Instruction| outcome.faulted() && instruction.ip() == outcome.state.rip;
    instructions.iter().any(|instruction| differ_in(instruction, difference, !faulted(instruction)))
}

fn differ_in(instruction: &Instruction, difference: &Difference, ended: bool) -> bool {
    use Mnemonic::*;
    let is_string = instruction.is_string_instruction();
    match (instruction.mnemonic(), difference.place) {
        // Intel gives the x87 to MMX before the store that then faults.
        (Movd | Movq | Movntq, Place::Ftw | Place::Fsw | Place::St(_)) => {
            !ended && instruction.op1_register().is_mm()
        }
        // Intel pushes the return address before it finds that the target is not canonical.
        (Call, Place::Memory(_)) => !ended,
        // Intel has stored what lies in the first page when the second one faults.
        (Fbstp | Fstp, Place::Memory(_)) => !ended,
        // Intel has set the flags of a conversion whose store faults.
        (Vcvtps2ph, Place::Mxcsr) => !ended,
        // Of two operands that fault, which is first.
        (Cmpsb | Cmpsw | Cmpsd | Cmpsq, Place::Address | Place::ErrorCode) if is_string => !ended,
        // Of several elements that fault, which is reported, and with its first byte or that of the page.
        (Vmaskmovps | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq, Place::Address | Place::ErrorCode) => !ended,
        // Intel clears the upper halves of 32-bit addresses even where nothing has been repeated.
        (Movsb | Movsw | Movsd | Movsq | Stosb | Stosw | Stosd | Stosq, Place::Gpr(RSI | RDI))
            if is_string =>
        {
            let is_repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
            let is_short = instruction.op0_kind() == OpKind::MemoryESEDI;
            is_repeated && is_short && difference.left as u32 == difference.right as u32
        }
        _ if is_other_nan(instruction, difference) => true,
        (
            Vpgatherdd | Vpgatherdq | Vpgatherqd | Vpgatherqq | Vgatherdps | Vgatherdpd | Vgatherqps
            | Vgatherqpd,
            Place::Xmm(register) | Place::YmmHigh(register),
        ) => !ended && is_left_by_gather(instruction, difference, register),
        _ => false,
    }
}

/// Whether a dot product, which has another one of several NaNs as its result, is an operand of what comes then, or may have been one.
pub(super) fn spreads(instructions: &[Instruction], difference: &Difference) -> bool {
    use Mnemonic::*;
    instructions.iter().enumerate().any(|(number, product)| {
        let behind = &instructions[number + 1..];
        matches!(product.mnemonic(), Dpps | Vdpps | Dppd | Vdppd)
            && !behind.is_empty()
            && (is_other_nan(product, difference)
                || behind.iter().any(|one| names(one, product.op0_register())))
    })
}

/// Whether an instruction has this vector register among its operands.
fn names(instruction: &Instruction, vector: Register) -> bool {
    let mut registers = (0..instruction.op_count()).map(|operand| instruction.op_register(operand));
    registers.any(|one| one.is_vector_register() && one.number() == vector.number())
}

fn is_other_nan(instruction: &Instruction, difference: &Difference) -> bool {
    use Mnemonic::*;
    let is_nan = |lane: u128| match instruction.mnemonic() {
        Dpps | Vdpps => f32::from_bits(lane as u32).is_nan(),
        _ => f64::from_bits(lane as u64).is_nan(),
    };
    let bits = match (instruction.mnemonic(), difference.place) {
        (Dpps | Vdpps, Place::Xmm(_) | Place::YmmHigh(_)) => 32,
        (Dppd | Vdppd, Place::Xmm(_)) => 64,
        _ => return false,
    };
    (0..128).step_by(bits).all(|at| {
        let [left, right] = [difference.left, difference.right].map(|all| all >> at & ((1 << bits) - 1));
        left == right || is_nan(left) && is_nan(right)
    })
}

/// At a fault of a gather the mask is all ones or zero for each element, and 128-bit forms have cleared what is above, on Intel;
/// on AMD all that is what it was.
fn is_left_by_gather(instruction: &Instruction, difference: &Difference, register: usize) -> bool {
    let is = |operand: Register| operand.number() == register;
    let is_mask = is(instruction.op2_register());
    let is_above = instruction.op0_register().is_xmm() && matches!(difference.place, Place::YmmHigh(_));
    if is_above {
        is_mask || is(instruction.op0_register())
    } else {
        is_mask && is_same_mask(instruction, difference)
    }
}

/// Whether a gather's mask chooses the same elements on both sides.
fn is_same_mask(instruction: &Instruction, difference: &Difference) -> bool {
    use Mnemonic::*;
    let by_quads = matches!(instruction.mnemonic(), Vpgatherqd | Vpgatherqq | Vgatherqps | Vgatherqpd);
    let of_quads = matches!(instruction.mnemonic(), Vpgatherdq | Vpgatherqq | Vgatherdpd | Vgatherqpd);
    let step = if of_quads { 64 } else { 32 };
    // Half of the mask of these is not looked at.
    let lanes = if by_quads && !of_quads && instruction.memory_index().is_xmm() { 2 } else { 128 / step };
    (1..=lanes).all(|lane| (difference.left ^ difference.right) >> (lane * step - 1) & 1 == 0)
}

/// The flags that an instruction that faulted may have changed: a repeated comparison needs not restore them (SDM vol. 2, REP).
pub(super) fn flags_at_fault(instruction: &Instruction) -> u64 {
    use Mnemonic::*;
    let compares =
        matches!(instruction.mnemonic(), Cmpsb | Cmpsw | Cmpsd | Cmpsq | Scasb | Scasw | Scasd | Scasq);
    if compares && instruction.is_string_instruction() { FLAGS } else { 0 }
}

/// Whether the vendors differ in how the program ends.
pub(super) fn end_differently(
    instructions: &[Instruction],
    program: &Program,
    left: &Outcome,
    right: &Outcome,
) -> bool {
    use Mnemonic::*;
    let vectors = (left.ending.vector, right.ending.vector);
    let faults_at = |outcome: &Outcome| {
        let at = |one: &&Instruction| outcome.faulted() && one.ip() == outcome.state.rip;
        instructions.iter().find(at).map(Instruction::mnemonic)
    };
    // Whether a store is tried that an exception which is not masked forbids.
    let is_forbidden_store = |one: &Outcome, other: &Outcome| {
        let is_store = matches!(faults_at(one), Some(Fist | Fistp | Fisttp | Fst | Fstp | Fbstp));
        is_store && other.state.fsw() & 0x80 != 0
    };
    if is_forbidden_store(left, right) || is_forbidden_store(right, left) {
        return true;
    }
    match faults_at(right) {
        // An access from the last bytes of 4 GiB to the first ones exceeds the segment's limit, or is made (SDM vol. 3, 5.3).
        Some(_) if program.mode != Mode::Bits64 && matches!(vectors, (14, 12 | 13)) => {
            left.ending.address >= 0xffff_fff0
        }
        // Whether the upper bound is read where the index is below the lower one.
        Some(Bound) => matches!(vectors, (5, 14)),
        // Whether the conversion's exception or the store's comes first.
        Some(Vcvtps2ph) => matches!(vectors, (19, 12..=14)),
        // Whether a denormal number that is not scaled raises an underflow that is not masked.
        _ if instructions.iter().any(|one| one.mnemonic() == Fscale) => {
            program.state.fcw() & 0x10 == 0 && left.state.fsw() & 2 != 0
        }
        _ => false,
    }
}
