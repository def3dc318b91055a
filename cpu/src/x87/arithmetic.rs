//! Arithmetic of two operands in all its forms, and the functions of one or two stack registers.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::{BEFORE, C0, C2, C3, DE, IE, ZE};
use crate::float::{Class, F80, Outcome, x87};
use crate::op::Op;
use crate::ops::MicroOps;
use crate::width::{W16, W32, W64};

/// The six operations, named as the mnemonics: the reversed ones take the source as the left operand.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Add,
    Mul,
    Sub,
    Subr,
    Div,
    Divr,
}

fn compute(operation: Operation, control: u16, destination: F80, source: F80) -> Outcome<F80> {
    match operation {
        Operation::Add => x87::add(control, destination, source),
        Operation::Mul => x87::mul(control, destination, source),
        Operation::Sub => x87::sub(control, destination, source),
        Operation::Subr => x87::sub(control, source, destination),
        Operation::Div => x87::div(control, destination, source),
        Operation::Divr => x87::div(control, source, destination),
    }
}

/// Both operands in registers; `pop` follows.
pub(super) fn registers(cpu: &mut Cpu, op: &Op, operation: Operation, pop: bool) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let [destination, source, ..] = op.regs;
    let x87 = &cpu.state.x87;
    let delivered = if x87.is_empty(destination) || x87.is_empty(source) {
        let masked = cpu.x87_underflow(op);
        if masked {
            cpu.state.x87.set_st(destination, F80::INDEFINITE);
        }
        masked
    } else {
        let outcome = compute(operation, x87.control, x87.st(destination), x87.st(source));
        cpu.x87_deliver(op, destination, outcome)
    };
    if delivered && pop {
        cpu.state.x87.pop();
    }
    Ok(())
}

/// A memory operand's format.
#[derive(Clone, Copy)]
pub(super) enum Memory {
    F32,
    F64,
    I16,
    I32,
}

/// Reads a memory operand exactly; also whether it is a denormal, which F80 hides.
pub(super) fn load_operand(cpu: &mut Cpu, op: &Op, memory: Memory) -> Result<(F80, bool), Exception> {
    Ok(match memory {
        Memory::F32 => x87::widen_f32(cpu.load::<W32>(op)? as u32),
        Memory::F64 => x87::widen_f64(cpu.load::<W64>(op)?),
        Memory::I16 => (x87::load_int(i64::from(cpu.load::<W16>(op)? as i16)), false),
        Memory::I32 => (x87::load_int(i64::from(cpu.load::<W32>(op)? as i32)), false),
    })
}

/// The status of an operation on `other` and a memory operand that is denormal in its own format: the denormal
/// exception ranks below invalid operands, NaNs and division by zero, and when unmasked prevents all others.
pub(super) fn with_denormal(control: u16, status: u16, other: F80) -> u16 {
    let outranked =
        status & (IE | ZE) != 0 || matches!(other.unpack().class, Class::QuietNan | Class::SignalingNan);
    match outranked {
        true => status,
        false if control & DE == 0 => DE,
        false => status | DE,
    }
}

/// ST(0) and a memory operand.
pub(super) fn memory(cpu: &mut Cpu, op: &Op, operation: Operation, memory: Memory) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let (source, denormal) = load_operand(cpu, op, memory)?;
    cpu.x87_note(op);
    let x87 = &cpu.state.x87;
    if x87.is_empty(0) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let (control, destination) = (x87.control, x87.st(0));
    let mut outcome = compute(operation, control, destination, source);
    if denormal {
        outcome.status = with_denormal(control, outcome.status, destination);
    }
    cpu.x87_deliver(op, 0, outcome);
    Ok(())
}

/// ST(0) becomes a function of itself. C2 is the function's to set when `codes` names it.
pub(super) fn unary(
    cpu: &mut Cpu,
    op: &Op,
    function: fn(u16, F80) -> Outcome<F80>,
    codes: u16,
) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &mut cpu.state.x87;
    x87.set_codes(codes, 0);
    if x87.is_empty(0) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let outcome = function(x87.control, x87.st(0));
    if cpu.x87_settle(op, outcome.status, codes) {
        cpu.state.x87.set_st(0, outcome.value);
    }
    Ok(())
}

/// FCHS and FABS, which raise nothing for any value.
pub(super) fn sign(cpu: &mut Cpu, op: &Op, function: fn(F80) -> F80) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    if cpu.state.x87.is_empty(0) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let value = function(cpu.state.x87.st(0));
    cpu.x87_settle(op, 0, 0);
    cpu.state.x87.set_st(0, value);
    Ok(())
}

/// ST(0) becomes a function of ST(0) and ST(1): FSCALE, FPREM, FPREM1.
pub(super) fn binary(
    cpu: &mut Cpu,
    op: &Op,
    function: fn(u16, F80, F80) -> Outcome<F80>,
    is_remainder: bool,
) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &mut cpu.state.x87;
    if is_remainder {
        x87.set_codes(C2, 0);
    }
    if x87.is_empty(0) || x87.is_empty(1) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let outcome = function(x87.control, x87.st(0), x87.st(1));
    let aborted = outcome.status & !x87.control & BEFORE != 0;
    // Without a quotient a remainder leaves C3 and C0 as they were.
    let codes = match is_remainder {
        false => 0,
        true if aborted || outcome.value.unpack().is_nan() => 0,
        true => C0 | C2 | C3,
    };
    if cpu.x87_settle(op, outcome.status, codes) {
        cpu.state.x87.set_st(0, outcome.value);
    }
    Ok(())
}

/// ST(1) becomes a function of ST(1) and ST(0), which is popped: FYL2X, FYL2XP1, FPATAN.
pub(super) fn popping(
    cpu: &mut Cpu,
    op: &Op,
    function: fn(u16, F80, F80) -> Outcome<F80>,
) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &cpu.state.x87;
    let delivered = if x87.is_empty(0) || x87.is_empty(1) {
        let masked = cpu.x87_underflow(op);
        if masked {
            cpu.state.x87.set_st(1, F80::INDEFINITE);
        }
        masked
    } else {
        let outcome = function(x87.control, x87.st(1), x87.st(0));
        cpu.x87_deliver(op, 1, outcome)
    };
    if delivered {
        cpu.state.x87.pop();
    }
    Ok(())
}

/// ST(0) becomes the first value, then the second is pushed unless C2 says that the operand was too large: FSINCOS,
/// FPTAN, FXTRACT.
pub(super) fn pushing(
    cpu: &mut Cpu,
    op: &Op,
    function: fn(u16, F80) -> Outcome<(F80, F80)>,
    codes: u16,
) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let x87 = &mut cpu.state.x87;
    x87.set_codes(codes, 0);
    let fault = if x87.is_empty(0) {
        Some(cpu.x87_underflow(op))
    } else if !x87.is_empty(7) {
        Some(cpu.x87_overflow(op))
    } else {
        None
    };
    if let Some(masked) = fault {
        if masked {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
            cpu.state.x87.push(F80::INDEFINITE);
        }
        return Ok(());
    }
    let x87 = &cpu.state.x87;
    let Outcome { value, status } = function(x87.control, x87.st(0));
    if cpu.x87_settle(op, status, codes) && status & C2 == 0 {
        cpu.state.x87.set_st(0, value.0);
        cpu.state.x87.push(value.1);
    }
    Ok(())
}

/// FPTAN's two results: the tangent and 1, or a NaN twice.
pub(super) fn tangent_and_one(control: u16, a: F80) -> Outcome<(F80, F80)> {
    let Outcome { value, status } = x87::ptan(control, a);
    let second = if value.unpack().is_nan() { value } else { F80::ONE };
    Outcome { value: (value, second), status }
}
