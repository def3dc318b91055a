//! Conversions between integers and floating point, and between the precisions (SDM vol. 1, 5.5.1.6, 5.6.1.6, 11.4.1.6).

use super::float::settle;
use super::lanes::{Lane, Vector};
use super::quick;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::IntSize;
use crate::op::{Op, reg};
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

/// CVTDQ2PS.
pub(crate) fn cvtdq2ps(_a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let b = i32::split(b);
    gather_f32(4, mxcsr, |i| quick::int_to_f32(i64::from(b[i]), mxcsr))
}

/// CVTPS2DQ, CVTTPS2DQ when `truncate`.
pub(crate) fn cvtps2dq(b: Vector, truncate: bool, mxcsr: u32) -> (Vector, u16) {
    let b = u32::split(b);
    gather_f32(4, mxcsr, |i| {
        let (value, flags) = quick::f32_to_int(b[i], IntSize::I32, truncate, mxcsr);
        (value as u32, flags)
    })
}

/// CVTPD2DQ, CVTTPD2DQ when `truncate`; the high half becomes zero.
pub(crate) fn cvtpd2dq(b: Vector, truncate: bool, mxcsr: u32) -> (Vector, u16) {
    let b = u64::split(b);
    gather_f32(2, mxcsr, |i| {
        let (value, flags) = quick::f64_to_int(b[i], IntSize::I32, truncate, mxcsr);
        (value as u32, flags)
    })
}

/// CVTPD2PS; the high half becomes zero.
pub(crate) fn cvtpd2ps(_a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let b = u64::split(b);
    gather_f32(2, mxcsr, |i| quick::f64_to_f32(b[i], mxcsr))
}

/// CVTPS2PD, from the low half.
pub(crate) fn cvtps2pd(b: u64, mxcsr: u32) -> (Vector, u16) {
    let (low, raised_low) = quick::f32_to_f64(b as u32, mxcsr);
    let (high, raised_high) = quick::f32_to_f64((b >> 32) as u32, mxcsr);
    (u64::join([low, high]), settle(raised_low | raised_high, mxcsr))
}

/// CVTDQ2PD and CVTPI2PD, from the low half. It is always exact.
pub(crate) fn cvtdq2pd(b: u64) -> Vector {
    u64::join([f64::from(b as i32).to_bits(), f64::from((b >> 32) as i32).to_bits()])
}

/// `count` doubleword lanes from `lane`; the rest are zero.
#[inline(always)]
fn gather_f32(count: usize, mxcsr: u32, lane: impl Fn(usize) -> (u32, u16)) -> (Vector, u16) {
    let mut flags = 0;
    let result = u32::build(|i| {
        if i >= count {
            return 0;
        }
        let (bits, raised) = lane(i);
        flags |= raised;
        bits
    });
    (result, settle(flags, mxcsr))
}

/// CVTPI2PS: into the low half. With a memory operand silicon does not use the x87's registers at all.
fn cvtpi2ps(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let uses_mmx = op.regs[1] != reg::NONE;
    if uses_mmx {
        cpu.mmx_check()?;
    }
    let source = cpu.mmx_source(op, 1)?;
    let (value, flags) = gather_f32(2, cpu.state.mxcsr, |i| {
        quick::int_to_f32(i64::from((source >> (32 * i)) as i32), cpu.state.mxcsr)
    });
    cpu.raise_simd(flags)?;
    if uses_mmx {
        cpu.mmx_enter();
    }
    cpu.set_low_quad(op.regs[0], value.low());
    Ok(())
}

/// CVTPI2PD: with a memory operand it does not use the x87's registers at all.
fn cvtpi2pd(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if op.regs[1] != reg::NONE {
        cpu.mmx_check()?;
    }
    let source = cpu.mmx_source(op, 1)?;
    if op.regs[1] != reg::NONE {
        cpu.mmx_enter();
    }
    cpu.set_vector(op.regs[0], cvtdq2pd(source));
    Ok(())
}

/// CVTPS2PI, CVTTPS2PI.
#[inline(always)]
fn cvtps2pi(cpu: &mut Cpu, op: &Op, truncate: bool) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let source = cpu.quad_source(op, 1)?;
    // The unused upper lanes are zeros, which convert without exceptions.
    let (value, flags) = cvtps2dq(Vector::from_low(source), truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value.low());
    Ok(())
}

/// CVTPD2PI, CVTTPD2PI.
#[inline(always)]
fn cvtpd2pi(cpu: &mut Cpu, op: &Op, truncate: bool) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let source = cpu.xmm_source(op, 1)?;
    let (value, flags) = cvtpd2dq(source, truncate, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.mmx_enter();
    cpu.set_mmx(op.regs[0], value.low());
    Ok(())
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Cvtpi2ps => cvtpi2ps,
        Cvtpi2pd => cvtpi2pd,
        Cvtps2pi => |cpu, op| cvtps2pi(cpu, op, false),
        Cvttps2pi => |cpu, op| cvtps2pi(cpu, op, true),
        Cvtpd2pi => |cpu, op| cvtpd2pi(cpu, op, false),
        Cvttpd2pi => |cpu, op| cvtpd2pi(cpu, op, true),
        _ => return None,
    })
}
