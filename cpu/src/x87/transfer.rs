//! Loads, stores, exchanges, conditional moves and constants (SDM vol. 1, 8.3.3 and 8.3.4).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::status::{BEFORE, IE, OE, UE};
use crate::float::{F80, Outcome, Rounding, x87};
use crate::memory::stack_fault;
use crate::op::Op;
use crate::ops::MicroOps;
use crate::width::{W16, W32, W64};
use rx86_softmmu::Access;

/// FLD ST(i).
pub(super) fn load_register(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    cpu.x87_settle(op, 0, 0);
    if cpu.state.x87.is_empty(op.regs[0]) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.push(F80::INDEFINITE);
        }
        return Ok(());
    }
    let value = cpu.state.x87.st(op.regs[0]);
    cpu.x87_push(op, value);
    Ok(())
}

/// Pushes a value that was read from memory, with the exceptions that reading it raised.
fn push_outcome(cpu: &mut Cpu, op: &Op, outcome: Outcome<F80>) -> Result<(), Exception> {
    cpu.x87_note(op);
    if !cpu.state.x87.is_empty(7) {
        cpu.x87_push(op, outcome.value);
    } else if cpu.x87_settle(op, outcome.status, 0) || outcome.status & IE == 0 {
        // A denormal is loaded even if its exception is unmasked.
        cpu.state.x87.push(outcome.value);
    }
    Ok(())
}

/// FLD m32fp.
pub(super) fn load_f32(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let bits = cpu.load::<W32>(op)? as u32;
    let outcome = x87::load_f32(cpu.state.x87.control, bits);
    push_outcome(cpu, op, outcome)
}

/// FLD m64fp.
pub(super) fn load_f64(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let bits = cpu.load::<W64>(op)?;
    let outcome = x87::load_f64(cpu.state.x87.control, bits);
    push_outcome(cpu, op, outcome)
}

fn load_ten_bytes(cpu: &mut Cpu, op: &Op) -> Result<[u8; 10], Exception> {
    let linear = cpu.operand_linear(op, 10, Access::Read)?;
    cpu.read_operand(op, linear)
}

/// FLD m80fp, which raises nothing for any value.
pub(super) fn load_f80(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let bytes = load_ten_bytes(cpu, op)?;
    push_outcome(cpu, op, Outcome { value: F80::from_bytes(bytes), status: 0 })
}

/// FBLD.
pub(super) fn load_bcd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let bytes = load_ten_bytes(cpu, op)?;
    push_outcome(cpu, op, Outcome { value: x87::load_bcd(bytes), status: 0 })
}

/// FILD of the three sizes.
pub(super) fn load_int<const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let value = match BITS {
        16 => i64::from(cpu.load::<W16>(op)? as i16),
        32 => i64::from(cpu.load::<W32>(op)? as i32),
        _ => cpu.load::<W64>(op)? as i64,
    };
    push_outcome(cpu, op, Outcome { value: x87::load_int(value), status: 0 })
}

/// A constant: its value cut at 64 bits of significand, and what rounding adds to that.
pub(super) struct Constant {
    value: F80,
    nearest_rounds_up: bool,
    is_exact: bool,
}

const fn constant(exponent: u16, mantissa: u64, nearest_rounds_up: bool, is_exact: bool) -> Constant {
    Constant { value: F80 { mantissa, sign_exponent: exponent }, nearest_rounds_up, is_exact }
}

/// FLDZ.
pub(super) const ZERO: Constant = constant(0, 0, false, true);
/// FLD1.
pub(super) const ONE: Constant = constant(0x3fff, 1 << 63, false, true);
/// FLDL2T: log2 10.
pub(super) const LOG2_10: Constant = constant(0x4000, 0xd49a_784b_cd1b_8afe, false, false);
/// FLDL2E: log2 e.
pub(super) const LOG2_E: Constant = constant(0x3fff, 0xb8aa_3b29_5c17_f0bb, true, false);
/// FLDPI.
pub(super) const PI: Constant = constant(0x4000, 0xc90f_daa2_2168_c234, true, false);
/// FLDLG2: log10 2.
pub(super) const LOG10_2: Constant = constant(0x3ffd, 0x9a20_9a84_fbcf_f798, true, false);
/// FLDLN2.
pub(super) const LN_2: Constant = constant(0x3ffe, 0xb172_17f7_d1cf_79ab, true, false);

/// FLD1 and its like: the constant rounded as RC says, which raises nothing.
pub(super) fn load_constant(cpu: &mut Cpu, op: &Op, constant: &Constant) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let up = match Rounding::from_bits(u32::from(cpu.state.x87.control) >> 10) {
        Rounding::Nearest => constant.nearest_rounds_up,
        Rounding::Up => !constant.is_exact,
        Rounding::Down | Rounding::Zero => false,
    };
    let mantissa = constant.value.mantissa + u64::from(up);
    push_outcome(cpu, op, Outcome { value: F80 { mantissa, ..constant.value }, status: 0 })
}

/// Stores ST(0) converted by `function`: first everything that can fault, then memory, then the registers.
fn store<T: Copy>(
    cpu: &mut Cpu,
    op: &Op,
    pop: bool,
    indefinite: T,
    function: impl FnOnce(u16, F80) -> Outcome<T>,
    write: impl FnOnce(&mut Cpu, T) -> Result<(), Exception>,
) -> Result<(), Exception> {
    cpu.x87_wait()?;
    let x87 = &cpu.state.x87;
    let control = x87.control;
    let outcome = (!x87.is_empty(0)).then(|| function(control, x87.st(0)));
    let raised = outcome.map_or(IE, |outcome| outcome.status);
    let delivers = raised & !control & (BEFORE | OE | UE) == 0;
    if delivers {
        write(cpu, outcome.map_or(indefinite, |outcome| outcome.value))?;
    } else {
        // Nothing is written, but a destination that cannot be written faults before the exception is recorded.
        // No operand is longer than ten bytes, which F80 pads.
        let bytes = (size_of::<T>() as u64).min(10);
        let linear = cpu.operand_linear(op, bytes, Access::Write)?;
        cpu.probe_write(linear, bytes).map_err(|fault| stack_fault(op, fault))?;
    }
    cpu.x87_note(op);
    match outcome {
        Some(outcome) => {
            cpu.x87_settle(op, outcome.status, 0);
        }
        None => {
            cpu.x87_underflow(op);
        }
    }
    if delivers && pop {
        cpu.state.x87.pop();
    }
    Ok(())
}

/// FST m32fp and FSTP m32fp.
pub(super) fn store_f32<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    store(cpu, op, POP, 0xffc0_0000, x87::store_f32, |cpu, value| cpu.store::<W32>(op, u64::from(value)))
}

/// FST m64fp and FSTP m64fp.
pub(super) fn store_f64<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    store(cpu, op, POP, 0xfff8 << 48, x87::store_f64, |cpu, value| cpu.store::<W64>(op, value))
}

fn store_ten_bytes(cpu: &mut Cpu, op: &Op, bytes: [u8; 10]) -> Result<(), Exception> {
    let linear = cpu.operand_linear(op, 10, Access::Write)?;
    cpu.write_operand(op, linear, bytes)
}

/// FSTP m80fp.
pub(super) fn store_f80(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let as_is = |_, value| Outcome { value, status: 0 };
    store(cpu, op, true, F80::INDEFINITE, as_is, |cpu, value| store_ten_bytes(cpu, op, value.to_bytes()))
}

/// FBSTP.
pub(super) fn store_bcd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let indefinite = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
    store(cpu, op, true, indefinite, x87::store_bcd, |cpu, value| store_ten_bytes(cpu, op, value))
}

/// The control word that an integer store rounds by: FISTTP's always truncates.
fn rounding(control: u16, truncate: bool) -> u16 {
    if truncate { control | 3 << 10 } else { control }
}

/// FIST, FISTP and FISTTP m16int.
pub(super) fn store_i16<const POP: bool, const TRUNCATE: bool>(
    cpu: &mut Cpu,
    op: &Op,
) -> Result<(), Exception> {
    let function = |control, value| x87::store_i16(rounding(control, TRUNCATE), value);
    store(cpu, op, POP, i16::MIN, function, |cpu, value| cpu.store::<W16>(op, u64::from(value as u16)))
}

/// FIST, FISTP and FISTTP m32int.
pub(super) fn store_i32<const POP: bool, const TRUNCATE: bool>(
    cpu: &mut Cpu,
    op: &Op,
) -> Result<(), Exception> {
    let function = |control, value| x87::store_i32(rounding(control, TRUNCATE), value);
    store(cpu, op, POP, i32::MIN, function, |cpu, value| cpu.store::<W32>(op, u64::from(value as u32)))
}

/// FISTP and FISTTP m64int.
pub(super) fn store_i64<const TRUNCATE: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let function = |control, value| x87::store_i64(rounding(control, TRUNCATE), value);
    store(cpu, op, true, i64::MIN, function, |cpu, value| cpu.store::<W64>(op, value as u64))
}

/// FST ST(i) and FSTP ST(i).
pub(super) fn store_register<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let mut value = cpu.state.x87.st(0);
    if cpu.state.x87.is_empty(0) {
        if !cpu.x87_underflow(op) {
            return Ok(());
        }
        value = F80::INDEFINITE;
    } else {
        cpu.x87_settle(op, 0, 0);
    }
    cpu.state.x87.set_st(op.regs[0], value);
    if POP {
        cpu.state.x87.pop();
    }
    Ok(())
}

/// FSTPNCE, which knows no underflow: from an empty ST(0) it stores nothing.
pub(super) fn store_register_unchecked(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if !cpu.state.x87.is_empty(0) {
        return store_register::<true>(cpu, op);
    }
    cpu.x87_wait()?;
    cpu.x87_note(op);
    cpu.x87_settle(op, 0, 0);
    cpu.state.x87.pop();
    Ok(())
}

/// FXCH.
pub(super) fn exchange(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let i = op.regs[1];
    let empty = (cpu.state.x87.is_empty(0), cpu.state.x87.is_empty(i));
    if empty != (false, false) {
        if !cpu.x87_underflow(op) {
            return Ok(());
        }
    } else {
        cpu.x87_settle(op, 0, 0);
    }
    let x87 = &mut cpu.state.x87;
    let (a, b) = (x87.st(0), x87.st(i));
    x87.set_st(i, if empty.0 { F80::INDEFINITE } else { a });
    x87.set_st(0, if empty.1 { F80::INDEFINITE } else { b });
    Ok(())
}

/// FCMOVcc: moves when any of the RFLAGS bits in `flags` is set (when none is, if `negated`).
pub(super) fn conditional(cpu: &mut Cpu, op: &Op, flags: u64, negated: bool) -> Result<(), Exception> {
    cpu.x87_wait()?;
    cpu.x87_note(op);
    let i = op.regs[1];
    if cpu.state.x87.is_empty(0) || cpu.state.x87.is_empty(i) {
        if cpu.x87_underflow(op) {
            cpu.state.x87.set_st(0, F80::INDEFINITE);
        }
        return Ok(());
    }
    let any = cpu.state.flags.arith.to_rflags() & flags != 0;
    if any != negated {
        let value = cpu.state.x87.st(i);
        cpu.state.x87.set_st(0, value);
    }
    Ok(())
}
