//! Comparisons and FXAM (SDM vol. 1, 8.3.6).

use super::arithmetic::{Memory, load_operand, with_denormal};
use super::stack::CODES;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::{C0, C1, C2, C3};
use crate::float::{Class, F80, x87};
use crate::op::Op;
use crate::state::{ArithFlags, bits};

/// Unordered, as condition codes.
const UNORDERED: u16 = C3 | C2 | C0;

/// Where a comparison leaves its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// C3, C2, C0.
    Codes,
    /// ZF, PF, CF.
    Flags,
}

fn answer(cpu: &mut Cpu, into: Answer, codes: u16) {
    match into {
        Answer::Codes => cpu.state.x87.set_codes(CODES & !C1, codes),
        Answer::Flags => {
            let set = |code: u16, flag: u64| if codes & code != 0 { flag } else { 0 };
            let rflags = set(C3, bits::RFLAGS_ZF) | set(C2, bits::RFLAGS_PF) | set(C0, bits::RFLAGS_CF);
            cpu.state.flags.arith = ArithFlags::from_rflags(rflags);
        }
    }
}

/// Leaves the answer, which silicon does also for an unmasked exception, and pops, which it then does not.
fn finish(cpu: &mut Cpu, into: Answer, codes: u16, delivers: bool, pops: u8) {
    answer(cpu, into, codes);
    if delivers {
        for _ in 0..pops {
            cpu.state.x87.pop();
        }
    }
}

/// FCOM, FUCOM, FCOMI, FUCOMI and their popping forms: ST(0) with ST(i).
pub(super) fn registers(
    cpu: &mut Cpu,
    op: &Op,
    quiet: bool,
    into: Answer,
    pops: u8,
) -> Result<(), Exception> {
    // FCOMPP and FUCOMPP name no operands.
    let i = if pops == 2 { 1 } else { op.regs[1] };
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &cpu.state.x87;
    let (codes, delivers) = if x87.is_empty(0) || x87.is_empty(i) {
        (UNORDERED, cpu.x87_underflow(op))
    } else {
        let status = x87::compare(x87.control, x87.st(0), x87.st(i), quiet);
        // FCOMI and FUCOMI leave C1 as it was.
        let c1 = if into == Answer::Flags { cpu.state.x87.status & C1 } else { 0 };
        (status, cpu.x87_settle(op, status | c1, 0))
    };
    finish(cpu, into, codes, delivers, pops);
    Ok(())
}

/// FCOM and FICOM with memory.
pub(super) fn memory(cpu: &mut Cpu, op: &Op, memory: Memory, pops: u8) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let (source, denormal) = load_operand(cpu, op, memory)?;
    with(cpu, op, source, denormal, pops)
}

/// FTST.
pub(super) fn with_zero(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    with(cpu, op, F80::ZERO, false, 0)
}

fn with(cpu: &mut Cpu, op: &Op, source: F80, denormal: bool, pops: u8) -> Result<(), Exception> {
    cpu.x87_note(op);
    let x87 = &cpu.state.x87;
    let (codes, delivers) = if x87.is_empty(0) {
        (UNORDERED, cpu.x87_underflow(op))
    } else {
        let (control, value) = (x87.control, x87.st(0));
        let codes = x87::compare(control, value, source, false);
        let status = if denormal { with_denormal(control, codes, value) } else { codes };
        (codes, cpu.x87_settle(op, status, 0))
    };
    finish(cpu, Answer::Codes, codes, delivers, pops);
    Ok(())
}

/// FXAM.
pub(super) fn examine(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &mut cpu.state.x87;
    let value = x87.st(0).unpack();
    let class = match value.class {
        _ if x87.is_empty(0) => C3 | C0,
        Class::Unsupported => 0,
        Class::QuietNan | Class::SignalingNan => C0,
        Class::Finite if value.denormal => C3 | C2,
        Class::Finite => C2,
        Class::Infinity => C2 | C0,
        Class::Zero => C3,
    };
    let sign = if value.sign { C1 } else { 0 };
    x87.set_codes(CODES, class | sign);
    Ok(())
}
