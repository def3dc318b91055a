//! Faults planted on purpose, to show that the harness finds them: an oracle whose outcomes are altered as if the engine
//! behind it were wrong.

use super::{BREAKPOINT, DATA, DATA_BYTES, GS_BASE, Mode, Oracle, Outcome, Program};
use crate::cases::known::instructions_of;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ADC computes AF without the carry that it adds.
    AdcAf,
    /// CVTSD2SI truncates in place of rounding by MXCSR.
    Cvtsd2siRounding,
    /// A MOV to memory whose second page cannot be written stores its first bytes and goes on.
    SplitStore,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 3] = [Self::AdcAf, Self::Cvtsd2siRounding, Self::SplitStore];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdcAf => "adc-af",
            Self::Cvtsd2siRounding => "cvtsd2si-rounding",
            Self::SplitStore => "split-store",
        }
    }

    /// Makes the outcome of `instruction`, the last one of `program`, what the faulty engine would give.
    fn alter(self, instruction: &Instruction, program: &Program, outcome: &mut Outcome) {
        match self {
            Self::AdcAf => adc_af(instruction, program, outcome),
            Self::Cvtsd2siRounding => truncate(instruction, program, outcome),
            Self::SplitStore => split_store(instruction, program, outcome),
        }
    }
}

/// An oracle with a fault.
pub struct Planted<O> {
    /// The oracle.
    pub oracle: O,
    /// The fault.
    pub fault: Fault,
}

impl<O: Oracle> Planted<O> {
    /// The program with the registers and the memory that its last instruction finds. `None` if it does not get there.
    fn before_last(&mut self, program: &Program, last: &Instruction) -> Option<Program> {
        let length = last.ip().wrapping_sub(program.ip()) as usize;
        let prefix = Program { code: program.code[..length].to_vec(), ..program.clone() };
        let outcome = self.oracle.run(std::slice::from_ref(&prefix)).pop()??;
        let arrived = !outcome.faulted() && outcome.state.rip == last.ip() + 1;
        arrived.then(|| Program { state: outcome.state, memory: outcome.memory, ..program.clone() })
    }
}

impl<O: Oracle> Oracle for Planted<O> {
    fn name(&self) -> &'static str {
        self.fault.name()
    }

    fn run(&mut self, programs: &[Program]) -> Vec<Option<Outcome>> {
        let mut outcomes = self.oracle.run(programs);
        for (program, outcome) in programs.iter().zip(&mut outcomes) {
            let instructions = instructions_of(program);
            let (Some(outcome), [before @ .., last]) = (outcome, &instructions[..]) else { continue };
            if before.is_empty() {
                self.fault.alter(last, program, outcome);
            } else if let Some(start) = self.before_last(program, last) {
                self.fault.alter(last, &start, outcome);
            }
        }
        outcomes
    }
}

/// The lowest nibbles without the carry: AF is wrong if it was the carry that made them overflow.
fn adc_af(instruction: &Instruction, program: &Program, outcome: &mut Outcome) {
    const CF: u64 = 1;
    const AF: u64 = 1 << 4;
    let carried = program.state.rflags & CF != 0;
    if instruction.mnemonic() != Mnemonic::Adc || outcome.faulted() || !carried {
        return;
    }
    let (left, right) = (low_byte(instruction, 0, program), low_byte(instruction, 1, program));
    if let (Some(left), Some(right)) = (left, right) {
        let af = if (left & 15) + (right & 15) > 15 { AF } else { 0 };
        outcome.state.rflags = outcome.state.rflags & !AF | af;
    }
}

/// The lowest byte of an operand that is a low register or an immediate.
fn low_byte(instruction: &Instruction, operand: u32, program: &Program) -> Option<u8> {
    match instruction.op_kind(operand) {
        OpKind::Register => match instruction.op_register(operand) {
            Register::AH | Register::BH | Register::CH | Register::DH => None,
            register => Some(program.state.gpr[register.full_register().number()] as u8),
        },
        OpKind::Memory => None,
        _ => Some(instruction.immediate(operand) as u8),
    }
}

fn truncate(instruction: &Instruction, program: &Program, outcome: &mut Outcome) {
    let registers = instruction.op1_kind() == OpKind::Register;
    if instruction.mnemonic() != Mnemonic::Cvtsd2si || !registers || outcome.faulted() {
        return;
    }
    let value = f64::from_bits(program.state.xmm(instruction.op1_register().number()) as u64);
    let target = instruction.op0_register();
    if value.abs() < 2e9 {
        let wide = target.size() == 8;
        let whole = value.trunc() as i64;
        outcome.state.gpr[target.number()] = if wide { whole as u64 } else { u64::from(whole as u32) };
    }
}

/// The first page past the writable ones is there, but read-only.
fn split_store(instruction: &Instruction, program: &Program, outcome: &mut Outcome) {
    const PAGE_FAULT: u32 = 14;
    let store = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.op1_kind() == OpKind::Register;
    let border = DATA + DATA_BYTES as u64;
    let fault = outcome.ending;
    if !store || program.mode != Mode::Bits64 || (fault.vector, fault.address) != (PAGE_FAULT, border) {
        return;
    }
    let register = |register: Register, _, _| {
        let value = || program.state.gpr[register.full_register().number()];
        Some(match register {
            Register::GS => GS_BASE,
            other if other.is_segment_register() => 0,
            other if other.size() == 4 => value() & 0xffff_ffff,
            _ => value(),
        })
    };
    let Some(start) = instruction.virtual_address(0, 0, register) else { return };
    let first_bytes = border.wrapping_sub(start) as usize;
    if first_bytes == 0 || first_bytes >= instruction.memory_size().size() {
        // The whole of it lies behind the border.
        return;
    }
    let source = program.state.gpr[instruction.op1_register().full_register().number()].to_le_bytes();
    let at = DATA_BYTES - first_bytes;
    outcome.memory[at..].copy_from_slice(&source[..first_bytes]);
    outcome.state.rip = instruction.next_ip() + 1;
    outcome.ending = super::Ending { vector: BREAKPOINT, ..Default::default() };
}
